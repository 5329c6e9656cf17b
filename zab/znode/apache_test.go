package znode

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// apacheTxns reads the transactions of a log that Apache ZooKeeper 3.8.0 wrote
// while a Python client and its own shell did a bit of everything: all kinds of
// znodes, expiry of a container and of a TTL, failed requests and multis, ACLs,
// a quota, names beyond ASCII. Almost all carry the digest of the tree.
func apacheTxns(t *testing.T) []*wire.Txn {
	t.Helper()
	b, err := os.ReadFile("testdata/apache-3.8.0-txns.hex")
	if err != nil {
		t.Fatal(err)
	}
	var txns []*wire.Txn
	for line := range strings.FieldsSeq(string(b)) {
		payload, err := hex.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		txn := &wire.Txn{}
		if err := wire.Unmarshal(payload, txn); err != nil {
			t.Fatal(err)
		}
		txns = append(txns, txn)
	}
	return txns
}

func TestTreeIsThatOfApacheAfterEachTransaction(t *testing.T) {
	tr := New(Config{Digest: true, ExtendedTypes: true})
	types := map[wire.Op]int{}
	digests := 0
	var r Result
	for _, txn := range apacheTxns(t) {
		tr.Apply(txn, &r)
		types[txn.Header.Type]++
		if txn.Digest.Version != 0 {
			digests++
		}
		if r.DigestMismatch {
			t.Fatalf("%v %+v: digest %#x, Apache has %#x", txn.Header.Type, txn.Body, tr.Digest(), txn.Digest.Tree)
		}
	}
	for _, op := range []wire.Op{
		wire.OpCreateSession, wire.OpCloseSession, wire.OpCreate, wire.OpCreateContainer, wire.OpCreateTTL,
		wire.OpDelete, wire.OpDeleteContainer, wire.OpSetData, wire.OpSetACL, wire.OpMulti, wire.OpFailed,
	} {
		if types[op] == 0 {
			t.Errorf("the log has no %v", op)
		}
	}
	if digests < 40 {
		t.Errorf("the log has %d digests only", digests)
	}
	// What the Python client read from that server.
	if data, st, _ := tr.Get("/zookeeper/quota/m/zookeeper_stats", nil); string(data) != "count=3,bytes=1" || st.Version != 0 {
		t.Errorf("quota statistics %q, %+v", data, st)
	}
	dump(t, tr)
}

// What Prep makes of the requests must be what Apache made of them: the
// requests are read back from Apache's transactions.
func TestPrepIsThatOfApache(t *testing.T) {
	tr := New(Config{Digest: true, ExtendedTypes: true})
	p := NewPrep(tr)
	var r Result
	ids := []wire.ID{{Scheme: "super"}}
	seq := func(path string) (string, bool) {
		i := len(path) - 10
		if i < 0 || strings.Trim(path[i:], "0123456789") != "" {
			return path, false
		}
		return path[:i], true
	}
	request := func(op wire.Op, body wire.Record) wire.Record {
		switch b := body.(type) {
		case *wire.CreateTxn:
			req := &wire.CreateRequest{Path: b.Path, Data: b.Data, ACL: b.ACL, TTLMs: -1}
			path, sequential := seq(b.Path)
			req.Path = path
			switch {
			case op == wire.OpCreateContainer:
				req.Mode = wire.Container
			case op == wire.OpCreateTTL && sequential:
				req.Mode, req.TTLMs = wire.PersistentSequentialTTL, b.TTLMs
			case op == wire.OpCreateTTL:
				req.Mode, req.TTLMs = wire.PersistentTTL, b.TTLMs
			default:
				if b.Ephemeral {
					req.Mode |= wire.Ephemeral
				}
				if sequential {
					req.Mode |= wire.PersistentSequential
				}
			}
			return req
		case *wire.PathRecord:
			if op == wire.OpDelete {
				return &wire.PathVersion{Path: b.Path, Version: -1}
			}
			return b
		case *wire.SetDataTxn:
			return &wire.SetDataRequest{Path: b.Path, Data: b.Data, Version: b.Version - 1}
		case *wire.SetACLTxn:
			return &wire.SetACLRequest{Path: b.Path, ACL: b.ACL, Version: b.Version - 1}
		case *wire.PathVersion:
			return &wire.PathVersion{Path: b.Path, Version: b.Version - 1}
		}
		return body
	}
	for _, want := range apacheTxns(t) {
		h := want.Header
		req := &Request{Session: h.Session, Cxid: h.Cxid, Op: h.Type, IDs: ids}
		switch b := want.Body.(type) {
		case *wire.MultiTxn:
			if code, _ := b.Failed(); code != wire.OK {
				tr.Apply(want, &r)
				continue
			}
			multi := &wire.MultiRequest{}
			for _, sub := range b.Txns {
				multi.Ops = append(multi.Ops, wire.MultiOp{Op: sub.Type, Record: request(sub.Type, sub.Body)})
			}
			req.Body = multi
		case *wire.IntRecord:
			if h.Type == wire.OpFailed {
				tr.Apply(want, &r)
				continue
			}
			req.Body = b
		default:
			req.Body = request(h.Type, b)
		}
		var got wire.Txn
		p.Prepare(req, h.Zxid, h.TimeMs, &got)
		g, w := got.Append(nil), want.Append(nil)
		if h.Type == wire.OpCloseSession {
			// The paths have no order; the digest shows that they are the same.
			g, w = g[:32], w[:32]
		}
		if string(g) != string(w) || got.Digest != want.Digest {
			t.Fatalf("%v: %+v, digest %#x\nApache: %+v, digest %#x", h, got.Body, got.Digest.Tree, want.Body, want.Digest.Tree)
		}
		tr.Apply(&got, &r)
		if r.Err != wire.OK || r.DigestMismatch {
			t.Fatalf("%v: applied: %v, digest mismatch %v", h, r.Err, r.DigestMismatch)
		}
		p.Applied(h.Zxid)
	}
	if tr.LastZxid() < zab.Zxid(51) {
		t.Errorf("last zxid %v", tr.LastZxid())
	}
}
