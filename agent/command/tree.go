package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// configRoot is where relative paths of the config commands begin.
const configRoot = "/config"

func configCommand() *cobra.Command {
	return group("config", "Read and change configuration in the tree",
		`config works on znodes: what is put there is what configsync of the agents
writes into files. A PATH without a slash in front is below `+configRoot+`.`,
		configGetCommand(), configPutCommand(), configListCommand(), configRemoveCommand(), configStatusCommand())
}

func znodePath(p string) (string, error) {
	if !strings.HasPrefix(p, "/") {
		p = configRoot + "/" + p
	}
	if clean := path.Clean(p); clean != p {
		return "", usagef("%q is no znode path", p)
	}
	return p, nil
}

// addServerFlag adds -server to a command that speaks ZooKeeper's protocol.
func addServerFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().String("server", defaultServer("127.0.0.1:2181"), "connect string `HOST:PORT` (PADDOCK_SERVER)")
	return cmd
}

// withClient runs f with a connected client. It gives up as soon as every server
// of the list was tried once.
func withClient(cmd *cobra.Command, f func(ctx context.Context, c *client.Client) error) error {
	servers, err := cmd.Flags().GetString("server")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), 30*time.Second, errors.New("no answer within 30s"))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	hosts, _, _ := strings.Cut(servers, "/")
	left := 1 + strings.Count(hosts, ",")
	c, err := client.New(client.Config{
		Servers: servers,
		Dial: func(ctx context.Context, addr string) (net.Conn, error) { // one call at a time
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err == nil {
				left = -1
			} else if left--; left == 0 {
				giveUp(err)
			}
			return conn, err
		},
	})
	if err != nil {
		return &usageError{err}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.Run(ctx); err != nil {
			giveUp(err)
		}
	}()
	err = f(ctx, c)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, client.ErrClosed) {
		err = fmt.Errorf("%s: %w", servers, context.Cause(ctx))
	} else if cerr := c.CloseSession(ctx); cerr != nil && err == nil && !errors.Is(cerr, client.ErrClosed) {
		err = cerr
	}
	giveUp(nil)
	<-ended
	return err
}

func configGetCommand() *cobra.Command {
	return addServerFlag(&cobra.Command{
		Use:   "get PATH",
		Short: "Print the data of a znode",
		Long: `get prints the data of a znode, byte for byte. With -o json the stat comes too,
and data that is not UTF-8 is in data_base64.`,
		Example: `    paddock config get app > app.conf`,
		Args:    nArgs(1, 1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := znodePath(args[0])
			if err != nil {
				return err
			}
			return withClient(cmd, func(ctx context.Context, c *client.Client) error {
				data, st, err := c.Get(ctx, p)
				if err != nil {
					return err
				}
				v := znodeJSON(p, st)
				if v["data"] = string(data); !utf8.Valid(data) {
					v["data"] = nil
					v["data_base64"] = data // which encoding/json encodes
				}
				return show(cmd, v, func(w io.Writer) { _, _ = w.Write(data) }) // a reader that went away is no failure
			})
		},
	})
}

func znodeJSON(p string, st wire.Stat) map[string]any {
	return map[string]any{
		"path": p, "version": st.Version, "zxid": st.Mzxid.String(), "mtime": time.UnixMilli(st.Mtime).UTC(),
		"bytes": st.DataLength, "children": st.NumChildren,
	}
}

func configPutCommand() *cobra.Command {
	var value string
	var version int32
	cmd := addServerFlag(&cobra.Command{
		Use:   "put PATH [FILE | -value TEXT]",
		Short: "Write the data of a znode",
		Long: `put replaces the data of a znode by FILE, by standard input if there is no
FILE or it is -, or by TEXT. A missing znode is created, with those above it.
With -version the znode must have that version: nobody's change is overwritten
unseen. -version 0 with a missing znode does not create it.`,
		Example: `    paddock config put app app.conf
    paddock config put app/level -value debug`,
		Args: nArgs(1, 2, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := znodePath(args[0])
			if err != nil {
				return err
			}
			data := []byte(value)
			switch {
			case cmd.Flags().Changed("value") && len(args) > 1:
				return usagef("FILE and -value exclude each other")
			case !cmd.Flags().Changed("value"):
				file := "-"
				if len(args) > 1 {
					file = args[1]
				}
				if data, err = readInput(cmd, file); err != nil {
					return err
				}
			}
			return withClient(cmd, func(ctx context.Context, c *client.Client) error {
				st, err := put(ctx, c, p, data, version)
				if err != nil {
					return err
				}
				return show(cmd, znodeJSON(p, st), func(w io.Writer) {
					fmt.Fprintf(w, "%s version %d zxid %v\n", p, st.Version, st.Mzxid)
				})
			})
		},
	})
	cmd.Flags().StringVar(&value, "value", "", "the data")
	cmd.Flags().Int32Var(&version, "version", -1, "the version that the znode must have")
	return cmd
}

// put sets or creates a znode.
func put(ctx context.Context, c *client.Client, p string, data []byte, version int32) (wire.Stat, error) {
	for {
		st, err := c.Set(ctx, p, data, version)
		if !errors.Is(err, wire.ErrNoNode) || version >= 0 {
			return st, err
		}
		for i := 1; i < len(p); i++ {
			if p[i] != '/' {
				continue
			}
			if _, _, err := c.Create(ctx, p[:i], nil, nil, wire.Persistent); err != nil && !errors.Is(err, wire.ErrNodeExists) {
				return wire.Stat{}, err
			}
		}
		_, st, err = c.Create(ctx, p, data, nil, wire.Persistent)
		if !errors.Is(err, wire.ErrNodeExists) {
			return st, err
		}
		// Somebody else made it meanwhile: replace theirs, as put would have.
	}
}

func configListCommand() *cobra.Command {
	var recursive bool
	cmd := addServerFlag(&cobra.Command{
		Use:   "ls [PATH]",
		Short: "List znodes",
		Long:  `ls lists the znodes below PATH, by default ` + configRoot + `, with -R at all depths.`,
		Args:  nArgs(0, 1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := configRoot
			if len(args) > 0 {
				var err error
				if p, err = znodePath(args[0]); err != nil {
					return err
				}
			}
			return withClient(cmd, func(ctx context.Context, c *client.Client) error {
				list := []map[string]any{}
				if err := walkBelow(ctx, c, p, recursive, func(child string, st wire.Stat) { list = append(list, znodeJSON(child, st)) }); err != nil {
					return err
				}
				return show(cmd, list, func(out io.Writer) {
					w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
					for _, z := range list {
						fmt.Fprintf(w, "%s\t%d bytes\tversion %d\n", z["path"], z["bytes"], z["version"])
					}
					w.Flush()
				})
			})
		},
	})
	cmd.Flags().BoolVarP(&recursive, "recursive", "R", false, "at all depths")
	return cmd
}

// walkBelow calls f for the znodes below p, parents first, names sorted.
func walkBelow(ctx context.Context, c *client.Client, p string, deep bool, f func(string, wire.Stat)) error {
	names, _, err := c.Children(ctx, p)
	if err != nil {
		return err
	}
	for _, n := range names {
		child := path.Join(p, n)
		st, found, err := c.Exists(ctx, child)
		if err != nil {
			return err
		}
		if !found {
			continue // gone since it was listed
		}
		f(child, st)
		if deep && st.NumChildren > 0 {
			if err := walkBelow(ctx, c, child, deep, f); err != nil && !errors.Is(err, wire.ErrNoNode) {
				return err
			}
		}
	}
	return nil
}

func configRemoveCommand() *cobra.Command {
	var recursive bool
	cmd := addServerFlag(&cobra.Command{
		Use:   "rm PATH",
		Short: "Remove a znode",
		Long: `rm removes a znode, with -r and all below it. Files on hosts stay unless their
targets say delete.`,
		Args: nArgs(1, 1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := znodePath(args[0])
			if err != nil {
				return err
			}
			return withClient(cmd, func(ctx context.Context, c *client.Client) error {
				gone := []string{p}
				if recursive {
					if err := walkBelow(ctx, c, p, true, func(child string, _ wire.Stat) { gone = append(gone, child) }); err != nil {
						return err
					}
				}
				slices.Reverse(gone) // leaves first
				for _, g := range gone {
					if err := c.Delete(ctx, g, -1); err != nil {
						return err
					}
				}
				return show(cmd, map[string]any{"removed": gone}, func(w io.Writer) {
					for _, g := range gone {
						fmt.Fprintln(w, g)
					}
				})
			})
		},
	})
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "and all below it")
	return cmd
}

func configStatusCommand() *cobra.Command {
	return addHTTPFlag(&cobra.Command{
		Use:   "status",
		Short: "Say how far the files of this host are",
		Long: `status prints one line for each configsync target of the agent of this host.
The exit status is 1 if one is not current.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st api.ConfigStatus
			if err := ask(cmd, "GET", "/v1/config/status", nil, &st); err != nil {
				return err
			}
			err := show(cmd, st, func(out io.Writer) {
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "TARGET\tFROM\tTO\tSTATE\tZXID\tFILES\tWRITTEN\tREMARK")
				for _, t := range st.Targets {
					written := "-"
					if !t.WrittenAt.IsZero() {
						written = t.WrittenAt.Local().Format(time.DateTime)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", t.Name, t.From, t.To, t.State, orDash(t.Zxid), t.Files, written, t.Error)
				}
				w.Flush()
			})
			for _, t := range st.Targets {
				if err == nil && t.State != "current" {
					err = errFailed
				}
			}
			return err
		},
	})
}
