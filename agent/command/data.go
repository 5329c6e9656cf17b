package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
)

func dataCommand() *cobra.Command {
	return group("data", "Look into a data directory",
		`data reads the files of a ZooKeeper server, Apache's or ours: transaction logs
and snapshots in the directory version-2. Nothing but verify -cut changes them, and
all else may be used while a server runs.`,
		dataLogCommand(), dataSnapshotCommand(), dataVerifyCommand())
}

func dataLogCommand() *cobra.Command {
	var withData bool
	cmd := &cobra.Command{
		Use:   "log FILE...",
		Short: "Print the transactions of logs",
		Long: `log prints one line for each transaction: zxid, time, session, request number,
what was done. With -o json it is one JSON object a line. The exit status is 1
if a log does not end as it should; an unfinished write at the end of the newest
one is what a crash leaves, and a server drops it.`,
		Args: nArgs(1, 100_000, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			output, err := outputOf(cmd)
			if err != nil {
				return err
			}
			var errs []error
			for _, file := range args {
				errs = append(errs, printLog(cmd.OutOrStdout(), file, output == "json", withData))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&withData, "data", false, "print the data of znodes too")
	return cmd
}

// txnLine is one transaction in JSON.
type txnLine struct {
	Zxid    string    `json:"zxid"`
	Time    time.Time `json:"time"`
	Session string    `json:"session"`
	Cxid    int32     `json:"cxid"`
	Type    string    `json:"type"`
	Text    string    `json:"text"`
	Data    *string   `json:"data,omitempty"`
	File    string    `json:"file"`
	Offset  int64     `json:"offset"`
}

func printLog(w io.Writer, file string, asJSON, withData bool) error {
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory: name its log files", file)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for e, err := range storage.LogEntries(file) {
		if err != nil {
			return err
		}
		txn, err := e.Txn()
		if err != nil {
			return fmt.Errorf("%s at byte %d: %w", file, e.Offset, err)
		}
		h := txn.Header
		line := txnLine{
			Zxid: h.Zxid.String(), Time: time.UnixMilli(h.TimeMs).UTC(), Session: h.Session.String(), Cxid: h.Cxid,
			Type: h.Type.String(), Text: txnText(h.Type, txn.Body), File: file, Offset: e.Offset,
		}
		if data, ok := txnData(txn.Body); ok && withData {
			text := printable(data)
			line.Data = &text
		}
		if asJSON {
			if err := enc.Encode(line); err != nil {
				return err
			}
			continue
		}
		_, err = fmt.Fprintf(w, "%s %s session %s cxid %d %s", line.Zxid, line.Time.Format("2006-01-02T15:04:05.000Z"), line.Session, line.Cxid, line.Type)
		if err == nil && line.Text != "" {
			_, err = fmt.Fprintf(w, " %s", line.Text)
		}
		if err == nil && line.Data != nil {
			_, err = fmt.Fprintf(w, " %q", *line.Data)
		}
		if err == nil {
			_, err = fmt.Fprintln(w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func txnData(body wire.Record) ([]byte, bool) {
	switch b := body.(type) {
	case *wire.CreateTxn:
		return b.Data, true
	case *wire.SetDataTxn:
		return b.Data, true
	}
	return nil, false
}

// txnText says what a transaction does.
func txnText(op wire.Op, body wire.Record) string {
	switch b := body.(type) {
	case *wire.CreateTxn:
		text := fmt.Sprintf("%s %d bytes, parent version %d", b.Path, len(b.Data), b.ParentCversion)
		if b.Ephemeral {
			text += ", ephemeral"
		}
		if op == wire.OpCreateTTL {
			text += fmt.Sprintf(", ttl %v", time.Duration(b.TTLMs)*time.Millisecond)
		}
		return text
	case *wire.SetDataTxn:
		return fmt.Sprintf("%s %d bytes, version %d", b.Path, len(b.Data), b.Version)
	case *wire.SetACLTxn:
		return fmt.Sprintf("%s %d entries, version %d", b.Path, len(b.ACL), b.Version)
	case *wire.PathRecord:
		return b.Path
	case *wire.PathVersion:
		return fmt.Sprintf("%s version %d", b.Path, b.Version)
	case *wire.PathsRecord:
		return "ephemerals [" + strings.Join(b.Paths, " ") + "]"
	case *wire.IntRecord:
		if op == wire.OpFailed {
			return wire.Code(b.Value).Error()
		}
		return fmt.Sprintf("timeout %v", time.Duration(b.Value)*time.Millisecond)
	case *wire.MultiTxn:
		parts := make([]string, len(b.Txns))
		for i, t := range b.Txns {
			parts[i] = t.Type.String() + " " + txnText(t.Type, t.Body)
		}
		return "[" + strings.Join(parts, "; ") + "]"
	}
	return ""
}

func printable(data []byte) string {
	if utf8.Valid(data) {
		return string(data)
	}
	return strings.ToValidUTF8(string(data), "\uFFFD")
}

func dataSnapshotCommand() *cobra.Command {
	var list, withData bool
	cmd := &cobra.Command{
		Use:   "snapshot FILE",
		Short: "Print what is in a snapshot",
		Long: `snapshot checks a snapshot, plain, .gz or .snappy, and prints what it holds:
counts, and with -l every znode. A snapshot of Apache's server is fuzzy: it may
have a part of the transactions behind its zxid.`,
		Args: nArgs(1, 1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			output, err := outputOf(cmd)
			if err != nil {
				return err
			}
			var h storage.SnapshotHandler
			if list {
				h = &snapshotLister{w: cmd.OutOrStdout(), json: output == "json", withData: withData}
			}
			info, err := storage.ReadSnapshot(args[0], h)
			if err != nil {
				return err
			}
			if list && output == "json" {
				return nil // one object a line, and nothing else
			}
			v := map[string]any{
				"file": args[0], "zxid": info.Zxid.String(), "sessions": info.Sessions, "acls": info.ACLs, "nodes": info.Nodes,
				"bytes": info.Bytes, "compression": string(info.Compression),
			}
			if info.HasDigest {
				v["digest"] = fmt.Sprintf("%x", info.Digest.Tree)
				v["digest_zxid"] = info.DigestZxid.String()
			}
			return show(cmd, v, func(out io.Writer) {
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				fmt.Fprintf(w, "zxid\t%v\nznodes\t%d\nsessions\t%d\nacl lists\t%d\nbytes\t%d\n", info.Zxid, info.Nodes, info.Sessions, info.ACLs, info.Bytes)
				if info.HasDigest {
					fmt.Fprintf(w, "digest\t%x at %v\n", info.Digest.Tree, info.DigestZxid)
				}
				w.Flush()
			})
		},
	}
	cmd.Flags().BoolVarP(&list, "list", "l", false, "print every znode")
	cmd.Flags().BoolVar(&withData, "data", false, "with -l, print the data of znodes too")
	return cmd
}

// snapshotLister prints the znodes of a snapshot as they come.
type snapshotLister struct {
	w              io.Writer
	json, withData bool
}

func (l *snapshotLister) AddSession(zab.SessionID, int32) {}
func (l *snapshotLister) AddACL(int64, []wire.ACL)        {}

func (l *snapshotLister) AddNode(path string, data []byte, acl int64, st *wire.StatPersisted) error {
	if path == "" {
		path = "/"
	}
	if l.json {
		v := map[string]any{
			"path": path, "bytes": len(data), "acl": acl, "czxid": st.Czxid.String(), "mzxid": st.Mzxid.String(), "pzxid": st.Pzxid.String(),
			"ctime": time.UnixMilli(st.Ctime).UTC(), "mtime": time.UnixMilli(st.Mtime).UTC(), "version": st.Version,
			"cversion": st.Cversion, "aversion": st.Aversion, "ephemeralOwner": fmt.Sprintf("%#x", uint64(st.EphemeralOwner)),
		}
		if l.withData {
			v["data"] = printable(data)
		}
		return json.NewEncoder(l.w).Encode(v)
	}
	_, err := fmt.Fprintf(l.w, "%s %d bytes, version %d, mzxid %v, owner %#x", path, len(data), st.Version, st.Mzxid, uint64(st.EphemeralOwner))
	if err == nil && l.withData {
		_, err = fmt.Fprintf(l.w, " %q", printable(data))
	}
	if err == nil {
		_, err = fmt.Fprintln(l.w)
	}
	return err
}

// storageConfig finds the directory of a server: DIR, or DIR/zab of an agent.
func storageConfig(dir, logDir string) storage.Config {
	if filepath.Base(dir) == "version-2" {
		dir = filepath.Dir(dir)
	} else if _, err := os.Stat(filepath.Join(dir, "version-2")); err != nil {
		if _, err := os.Stat(filepath.Join(dir, "zab", "version-2")); err == nil {
			dir = filepath.Join(dir, "zab")
		}
	}
	return storage.Config{DataDir: dir, LogDir: logDir}
}

func dataVerifyCommand() *cobra.Command {
	var logDir string
	var cut bool
	cmd := &cobra.Command{
		Use:   "verify DIR [-cut]",
		Short: "Check every file of a data directory",
		Long: `verify reads all snapshots and logs of a data directory with their checksums
and tries a recovery, without changing anything. DIR holds version-2, or is the
data directory of an agent. The exit status is 1 if a server would refuse to
start, or if a file is damaged.

With -cut everything behind the last good transaction of a damaged directory is
given up, so that a server starts on it. ACKNOWLEDGED WRITES MAY BE LOST: if the
other servers of an ensemble are sound, remove the directory instead and let
this server copy theirs. Files that are cut or left out are kept, under names
that no server reads.`,
		Args: nArgs(1, 1, "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cut {
				return cutData(cmd, storageConfig(args[0], logDir))
			}
			rep, err := storage.Verify(storageConfig(args[0], logDir))
			if err != nil {
				return err
			}
			bad := rep.Err != nil
			files := []map[string]any{}
			for _, f := range rep.Files {
				bad = bad || f.Err != nil
				files = append(files, map[string]any{
					"name": f.Name, "bytes": f.Bytes, "first": f.First.String(), "last": f.Last.String(),
					"entries": f.Entries, "nodes": f.Snapshot.Nodes, "error": errText(f.Err),
				})
			}
			v := map[string]any{
				"files": files, "accepted_epoch": rep.AcceptedEpoch, "current_epoch": rep.CurrentEpoch, "last_zxid": rep.LastZxid.String(),
				"znodes": rep.Znodes, "dropped_bytes": rep.DroppedBytes, "error": errText(rep.Err),
			}
			if err := show(cmd, v, func(out io.Writer) { printReport(out, rep) }); err != nil {
				return err
			}
			if bad {
				return errFailed
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&logDir, "log-dir", "", "the `DIR` of the transaction logs, if it is another one")
	cmd.Flags().BoolVar(&cut, "cut", false, "give up what is behind the damage")
	return cmd
}

func cutData(cmd *cobra.Command, cfg storage.Config) error {
	last, kept, err := storage.Cut(cfg)
	if err != nil {
		return err
	}
	v := map[string]any{"last_zxid": last.String(), "kept": append([]string{}, kept...)}
	return show(cmd, v, func(w io.Writer) {
		fmt.Fprintf(w, "the history ends at %v\n", last)
		for _, k := range kept {
			fmt.Fprintf(w, "kept %s\n", k)
		}
	})
}

func errText(err error) any {
	if err == nil {
		return nil
	}
	return err.Error()
}

func printReport(out io.Writer, rep *storage.Report) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range rep.Files {
		what := fmt.Sprintf("%d transactions, %v to %v", f.Entries, f.First, f.Last)
		if strings.HasPrefix(f.Name, "snapshot") {
			what = fmt.Sprintf("%d znodes", f.Snapshot.Nodes)
		}
		state := "ok"
		if f.Err != nil {
			state = f.Err.Error()
		}
		fmt.Fprintf(w, "%s\t%d bytes\t%s\t%s\n", f.Name, f.Bytes, what, state)
	}
	w.Flush()
	fmt.Fprintf(out, "epochs: accepted %s, current %s\n", orDash(rep.AcceptedEpoch), orDash(rep.CurrentEpoch))
	if rep.DroppedBytes > 0 {
		fmt.Fprintf(out, "%d bytes at the end are an unfinished write, which a server drops\n", rep.DroppedBytes)
	}
	if rep.Err != nil {
		fmt.Fprintf(out, "a server would not start: %v\n", rep.Err)
		return
	}
	fmt.Fprintf(out, "a server starts with %d znodes at %v\n", rep.Znodes, rep.LastZxid)
}
