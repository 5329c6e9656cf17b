//go:build interop && linux

package nemesis

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/zabtest/checker"
	"github.com/paddockio/paddock/zab/zabtest/checker/record"
	"github.com/paddockio/paddock/zab/znode"
)

// treeConfig is that of the servers that package peer runs.
var treeConfig = znode.Config{Digest: true, ExtendedTypes: true}

// A verdict is all that a run is judged by.
type verdict struct {
	history *checker.History
	log     []*wire.Txn // what was committed
	finals  []checker.Final
	banks   []checker.Bank
	stale   bool // a sync does not ask a quorum
}

// read takes logs and trees from the disks of members that have ended.
func (v *verdict) read(e *peer.Ensemble) error {
	var logs [][]*wire.Txn
	for _, m := range e.Voters() {
		log, err := record.Log(filepath.Join(m.Data(), "version-2"))
		if err != nil {
			return fmt.Errorf("log of %v: %w", m, err)
		}
		logs = append(logs, log)
	}
	var err error
	if v.log, err = checker.Committed(e.Quorum(), logs...); err != nil {
		return err
	}
	for _, m := range e.Members {
		tree, err := recoverTree(m)
		if err != nil {
			return fmt.Errorf("disk of %v: %w", m, err)
		}
		v.finals = append(v.finals, checker.Final{Server: m.String(), Tree: tree})
	}
	return nil
}

// recoverTree reads what a server would begin with.
func recoverTree(m *peer.Member) (*znode.Tree, error) {
	st, err := storage.Open(storage.Config{DataDir: m.Data(), Znode: treeConfig, MustExist: true})
	if err != nil {
		return nil, err
	}
	tree, err := st.Recover()
	if err == nil && st.Recovery().DigestMismatch != 0 {
		err = fmt.Errorf("the digest differs from %v on", st.Recovery().DigestMismatch)
	}
	return tree, errors.Join(err, st.Close())
}

// check compares everything.
func (v *verdict) check() (*checker.Report, error) {
	// Those who read the trees at the end were not recorded: their sessions may begin
	// and end, and that is all.
	known := map[zab.SessionID]bool{}
	for _, e := range v.history.Entries {
		known[e.Session] = true
	}
	return checker.Check(v.history, slices.Values(v.log), checker.Options{
		Config: treeConfig, Banks: v.banks, StaleSync: v.stale, Finals: v.finals,
		Foreign: func(h *wire.TxnHeader) bool {
			return !known[h.Session] && (h.Type == wire.OpCreateSession || h.Type == wire.OpCloseSession)
		},
	})
}

// linearizable looks at no zxid.
func (v *verdict) linearizable() (checker.LinearReport, error) {
	h, err := checker.Resolve(v.history, slices.Values(v.log))
	if err != nil {
		return checker.LinearReport{}, err
	}
	return checker.Linearizable(h, checker.LinearOptions{NoReads: v.stale, Limit: time.Minute})
}

// compareTree reports in what a server's tree, as clients see it, is not the
// reference.
func compareTree(t testing.TB, want *znode.Tree, got *peer.State) {
	t.Helper()
	ids := []wire.ID{{Scheme: "super"}}
	seen := 0
	var visit func(path string)
	visit = func(path string) {
		seen++
		data, stat, _ := want.Get(path, ids)
		acl, _, _ := want.GetACL(path, ids)
		z, ok := got.Znodes[path]
		if own := path == "/zookeeper/config"; !own && (!ok || !bytes.Equal(z.Data, data) || z.Stat != stat || !slices.Equal(z.ACL, acl)) {
			t.Errorf("%s is %v, must be %q %+v %v", path, z, data, stat, acl)
		}
		names, _, _ := want.Children(path, ids)
		for _, name := range names {
			visit(childPath(path, name))
		}
	}
	visit("/")
	if seen != len(got.Znodes) {
		t.Errorf("%d znodes, must be %d: %v", len(got.Znodes), seen, slices.Sorted(maps.Keys(got.Znodes)))
	}
}

func childPath(parent, name string) string {
	if parent == "/" {
		return "/" + name
	}
	return parent + "/" + name
}

// lost is a verdict about a run that had lost its last transactions, from the last
// acknowledged one on.
func (v *verdict) lost() *verdict {
	for i := len(v.history.Entries) - 1; i >= 0; i-- {
		e := v.history.Entries[i]
		if e.Kind != checker.Request || !e.Known() || e.Op != wire.OpSetData || e.Err != wire.OK {
			continue
		}
		at := slices.IndexFunc(v.log, func(txn *wire.Txn) bool { return txn.Header.Zxid == e.Zxid })
		if at < 0 {
			return nil
		}
		worse := *v
		// The run would have ended so: nobody saw anything later.
		worse.history = &checker.History{Entries: slices.DeleteFunc(slices.Clone(v.history.Entries), func(o *checker.Entry) bool {
			return o.Zxid > e.Zxid
		})}
		worse.log, worse.finals = v.log[:at], nil
		return &worse
	}
	return nil
}

// staled is a verdict about a run in which one read behind a sync shows, sync and
// all, what was there before a write that had been acknowledged; nil if no read
// came so that nothing else would be wrong with that.
func (v *verdict) staled() *verdict {
	writes := map[string][2]*checker.Entry{} // by path: the last two acknowledged
	last := map[int]int{}                    // by connection: the last reply
	seen := map[int]zab.Zxid{}               // by connection: before the last reply
	for i, e := range v.history.Entries {
		if e.Kind != checker.Request || !e.Known() {
			continue
		}
		before, ok := last[e.Conn]
		s := v.history.Entries[before]
		w := writes[e.Path]
		switch {
		case e.Err != wire.OK:
		case e.Op == wire.OpSetData:
			writes[e.Path] = [2]*checker.Entry{w[1], e}
		case e.Op == wire.OpGetData && ok && s.Op == wire.OpSync && s.Err == wire.OK && w[0] != nil &&
			w[1].Stat.Version == w[0].Stat.Version+1 && w[1].Return < s.Call && w[1].Zxid.Counter() > 1 && seen[e.Conn] < w[1].Zxid:
			sync, read := *s, *e
			sync.Zxid, read.Zxid = w[1].Zxid-1, w[1].Zxid-1
			read.Value, read.Stat = w[0].Data, w[0].Stat
			entries := slices.Clone(v.history.Entries)
			entries[before], entries[i] = &sync, &read
			worse := *v
			worse.history = &checker.History{Entries: entries}
			return &worse
		}
		if ok {
			seen[e.Conn] = max(seen[e.Conn], s.Zxid)
		}
		last[e.Conn] = i
	}
	return nil
}

// breaks reports whether a check found a rule broken.
func breaks(err error, rule string) bool {
	var found checker.Violations
	return errors.As(err, &found) && slices.ContainsFunc(found, func(v *checker.Violation) bool { return v.Rule == rule })
}
