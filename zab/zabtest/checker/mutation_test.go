package checker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// A mutant is a good run that something was done to.
type mutant struct {
	rng *rand.Rand
	h   *History
	log []*wire.Txn
	opt Options
}

// newMutant copies a run deep enough for what the mutations change.
func newMutant(w *world, seed uint64) *mutant {
	m := &mutant{rng: rand.New(rand.NewPCG(seed, 2)), h: w.rec.History(), opt: w.options()}
	for _, txn := range w.log {
		c := &wire.Txn{}
		if err := wire.Unmarshal(txn.Append(nil), c); err != nil {
			panic(err)
		}
		m.log = append(m.log, c)
	}
	for _, e := range m.h.Entries {
		e.Sub, e.Results = slices.Clone(e.Sub), slices.Clone(e.Results)
		e.Children = slices.Clone(e.Children)
	}
	return m
}

// any returns an entry that fits, by chance.
func (m *mutant) any(fits func(e *Entry) bool) *Entry {
	es := m.h.Entries
	at := m.rng.IntN(len(es))
	for i := range es {
		if e := es[(at+i)%len(es)]; fits(e) {
			return e
		}
	}
	return nil
}

func (m *mutant) index(e *Entry) int { return slices.Index(m.h.Entries, e) }

func (m *mutant) txn(z zab.Zxid) *wire.Txn {
	i := int(z) - epoch - 1
	if i < 0 || i >= len(m.log) {
		return nil
	}
	return m.log[i]
}

func (m *mutant) delete(e *Entry) {
	m.h.Entries = slices.DeleteFunc(m.h.Entries, func(o *Entry) bool { return o == e })
}

// insert puts a copy of an entry behind another, under a number of its own.
func (m *mutant) insert(e Entry, at int) *Entry {
	e.Seq = 1000000 + len(m.h.Entries)
	m.h.Entries = slices.Insert(m.h.Entries, at, &e)
	return &e
}

// commit appends a transaction.
func (m *mutant) commit(h wire.TxnHeader, body wire.Record) zab.Zxid {
	h.Zxid = zab.Zxid(epoch + len(m.log) + 1)
	m.log = append(m.log, &wire.Txn{Header: h, Body: body})
	return h.Zxid
}

func answered(e *Entry) bool { return e.Kind == Request && e.Known() && e.Zxid > 0 }

func done(e *Entry, op wire.Op) bool { return answered(e) && e.Op == op && e.Err == wire.OK }

// treeAt is the state at a zxid.
func (m *mutant) treeAt(z zab.Zxid) *znode.Tree {
	t := znode.New(znode.Config{})
	var r znode.Result
	for _, txn := range m.log {
		if txn.Header.Zxid > z {
			break
		}
		t.Apply(txn, &r)
	}
	return t
}

// mutations are the ways in which an ensemble could betray its clients. Each
// changes the run and returns the entries of which a complaint must name one, or
// text that it must have; ok is false if the run has no place for it.
var mutations = []struct {
	name string
	do   func(m *mutant) (names []*Entry, text string, ok bool)
}{
	{"two results are swapped", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpGetData) })
		b := m.any(func(e *Entry) bool {
			return done(e, wire.OpGetData) && e.Path == a.Path && e.Stat.Mzxid != a.Stat.Mzxid
		})
		if b == nil {
			return nil, "", false
		}
		za, zb := a.Zxid, b.Zxid
		a.Result, b.Result = b.Result, a.Result
		a.Zxid, b.Zxid = za, zb
		return []*Entry{a, b}, "", true
	}},
	{"the answers of two updates are swapped", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpSetData) })
		b := m.any(func(e *Entry) bool { return done(e, wire.OpSetData) && e.Path == a.Path && e != a })
		if b == nil {
			return nil, "", false
		}
		a.Result, b.Result = b.Result, a.Result
		return []*Entry{a, b}, "", true
	}},
	{"an acknowledged write is lost", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpSetData) })
		t := m.txn(a.Zxid)
		t.Header = wire.TxnHeader{Zxid: t.Header.Zxid, Type: wire.OpFailed}
		t.Body, t.Digest = &wire.IntRecord{Value: int32(wire.ErrNoNode)}, wire.Digest{}
		return []*Entry{a}, "", true
	}},
	{"the last acknowledged write is lost", func(m *mutant) ([]*Entry, string, bool) {
		last := m.log[len(m.log)-1].Header.Zxid
		a := m.any(func(e *Entry) bool { return e.isUpdate() && e.Known() && e.Zxid == last })
		m.log = m.log[:len(m.log)-1]
		m.opt.Finals = nil
		return []*Entry{a}, "", a != nil
	}},
	{"an old value is read", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpGetData) })
		b := m.any(func(e *Entry) bool {
			return done(e, wire.OpGetData) && e.Path == a.Path && e.Stat.Mzxid > a.Stat.Mzxid
		})
		if b == nil {
			return nil, "", false
		}
		b.Value, b.Stat = a.Value, a.Stat
		return []*Entry{b}, "", true
	}},
	{"a session sees an older state than before", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpGetData) })
		i := m.index(a)
		for _, e := range slices.Backward(m.h.Entries[:i]) {
			if answered(e) && e.Session == a.Session && e.Zxid > epoch+20 {
				t := m.treeAt(e.Zxid - 10)
				var code wire.Code
				a.Value, a.Stat, code = t.Get(a.Path, super)
				a.Zxid, a.Err = e.Zxid-10, code
				return []*Entry{a}, "", true
			}
		}
		return nil, "", false
	}},
	{"a session does not read its own write", func(m *mutant) ([]*Entry, string, bool) {
		for i, a := range m.h.Entries {
			if !done(a, wire.OpSetData) {
				continue
			}
			for _, b := range m.h.Entries[i+1:] {
				if answered(b) && b.Session == a.Session {
					if !done(b, wire.OpGetData) || b.Path == "" {
						break
					}
					t := m.treeAt(a.Zxid - 1)
					b.Value, b.Stat, b.Err = t.Get(b.Path, super)
					b.Zxid = a.Zxid - 1
					return []*Entry{b}, "", true
				}
			}
		}
		return nil, "", false
	}},
	{"a read behind a sync is stale", func(m *mutant) ([]*Entry, string, bool) {
		return m.staleSync(true)
	}},
	{"a sync is stale", func(m *mutant) ([]*Entry, string, bool) {
		return m.staleSync(false)
	}},
	{"a read shows what was never committed", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpGetData) })
		a.Value = []byte("phantom")
		return []*Entry{a}, "", true
	}},
	{"a read is of the future", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpGetData) })
		a.Zxid = zab.Zxid(epoch + len(m.log) + 1)
		return []*Entry{a}, "", true
	}},
	{"a child is missing in a list", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpGetChildren2) && len(e.Children) > 0 })
		a.Children = a.Children[1:]
		return []*Entry{a}, "", true
	}},
	{"a child that is gone is in a list", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpGetChildren2) && len(e.Children) > 0 })
		a.Children[0] = "ghost"
		return []*Entry{a}, "", true
	}},
	{"a znode that exists is not found", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpExists) })
		a.Err, a.Stat = wire.ErrNoNode, wire.Stat{}
		return []*Entry{a}, "", true
	}},
	{"a field of a stat is wrong", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool {
			return done(e, wire.OpCreate2) || done(e, wire.OpSetData) || done(e, wire.OpExists)
		})
		a.Stat.Cversion++
		return []*Entry{a}, "cversion", true
	}},
	{"an acl is wrong", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpGetACL) })
		if a == nil {
			return nil, "", false
		}
		a.List = []wire.ACL{{Perms: 1, ID: wire.ID{Scheme: "world", ID: "anyone"}}}
		return []*Entry{a}, "", true
	}},
	{"a count is wrong", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpGetAllChildrenNumber) })
		a.Count++
		return []*Entry{a}, "", true
	}},
	{"a list of ephemerals is wrong", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpGetEphemerals) && len(e.Children) > 0 })
		if a == nil {
			return nil, "", false
		}
		a.Children = a.Children[1:]
		return []*Entry{a}, "", true
	}},
	{"a refused update is said to be done", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return answered(e) && e.isUpdate() && e.Op != wire.OpMulti && e.Err != wire.OK })
		a.Err = wire.OK
		return []*Entry{a}, "", true
	}},
	{"an update is said to be refused", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpSetData) })
		a.Err, a.Stat = wire.ErrBadVersion, wire.Stat{}
		return []*Entry{a}, "", true
	}},
	{"an update is refused for the wrong reason", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return answered(e) && e.Op == wire.OpSetData && e.Err == wire.ErrNoNode })
		a.Err = wire.ErrBadVersion
		m.txn(a.Zxid).Body = &wire.IntRecord{Value: int32(a.Err)}
		return []*Entry{a}, "", true
	}},
	{"a condition is not looked at", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return answered(e) && e.Op == wire.OpSetData && e.Err == wire.ErrBadVersion })
		_, st, _ := m.treeAt(a.Zxid-1).Get(a.Path, super)
		t := m.txn(a.Zxid)
		t.Header.Type, t.Body = wire.OpSetData, &wire.SetDataTxn{Path: a.Path, Data: a.Data, Version: st.Version + 1}
		st.Version, st.Mzxid, st.Mtime, st.DataLength = st.Version+1, a.Zxid, t.Header.TimeMs, int32(len(a.Data))
		a.Err, a.Stat = wire.OK, st
		return []*Entry{a}, "", true
	}},
	{"a version is left out", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpSetData) })
		t := m.txn(a.Zxid)
		t.Body.(*wire.SetDataTxn).Version++
		t.Digest = wire.Digest{}
		a.Stat.Version++
		return []*Entry{a}, "S24", true
	}},
	{"other data are written", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpSetData) && len(e.Data) > 0 })
		t := m.txn(a.Zxid)
		t.Body.(*wire.SetDataTxn).Data = make([]byte, len(a.Data))
		t.Digest = wire.Digest{}
		return []*Entry{a}, "", true
	}},
	{"a write is carried out twice", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpSetData) && e.Version == -1 })
		if a == nil {
			return nil, "", false
		}
		_, st, code := m.treeAt(1<<62).Get(a.Path, super)
		if code != wire.OK {
			return nil, "", false
		}
		m.commit(wire.TxnHeader{Session: a.Session, Cxid: a.Cxid, Type: wire.OpSetData}, &wire.SetDataTxn{Path: a.Path, Data: a.Data, Version: st.Version + 1})
		return []*Entry{a}, "", true
	}},
	{"a write was never requested", func(m *mutant) ([]*Entry, string, bool) {
		z := m.commit(wire.TxnHeader{Session: 0x101, Cxid: 999999, Type: wire.OpCreate}, &wire.CreateTxn{Type: wire.OpCreate, Path: "/phantom", ParentCversion: -1})
		return nil, z.String(), true
	}},
	{"an update takes effect before it is asked for", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpSetData) && m.index(e) < len(m.h.Entries)/2 })
		if a == nil {
			return nil, "", false
		}
		end := m.h.Entries[len(m.h.Entries)-1].Return
		m.delete(a)
		a.Call, a.Return = end+10, end+20
		m.h.Entries = append(m.h.Entries, a)
		return []*Entry{a}, "", true
	}},
	{"two updates of a session change places", func(m *mutant) ([]*Entry, string, bool) {
		// In the log, with all that depends on it right: only the session's order is wrong.
		var last *Entry
		for _, e := range m.h.Entries {
			if !done(e, wire.OpSetData) {
				continue
			}
			if last != nil && last.Session == e.Session && last.Conn == e.Conn {
				// As if both had been asked for at once, the second first.
				last.Call, e.Call = e.Call, last.Call
				return []*Entry{last, e}, "", true
			}
			last = e
		}
		return nil, "", false
	}},
	{"an ephemeral is made twice", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool {
			return answered(e) && e.Op == wire.OpCreate2 && e.Err == wire.ErrNodeExists && e.Mode == wire.Ephemeral
		})
		if a == nil {
			return nil, "", false
		}
		t := m.txn(a.Zxid)
		t.Header.Type, t.Body = wire.OpCreate2, &wire.CreateTxn{Type: wire.OpCreate2, Path: a.Path, Data: a.Data, ACL: openACL, Ephemeral: true, ParentCversion: -1}
		a.Err, a.Created = wire.OK, a.Path
		a.Stat = wire.Stat{Czxid: a.Zxid, Mzxid: a.Zxid, Pzxid: a.Zxid, EphemeralOwner: a.Session, DataLength: int32(len(a.Data))}
		return []*Entry{a}, "", true
	}},
	{"a number is given again", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpCreate2) && e.Mode.IsSequential() })
		b := m.any(func(e *Entry) bool {
			return done(e, wire.OpCreate2) && e.Mode.IsSequential() && e.Path == a.Path && e.Zxid > a.Zxid
		})
		if b == nil {
			return nil, "", false
		}
		t := m.txn(b.Zxid)
		t.Body.(*wire.CreateTxn).Path = a.Created
		t.Digest = wire.Digest{}
		b.Created = a.Created
		return []*Entry{b}, "S24", true
	}},
	{"a number is smaller than one before", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpCreate2) && e.Mode.IsSequential() })
		b := m.any(func(e *Entry) bool {
			return done(e, wire.OpCreate2) && e.Mode.IsSequential() && e.Path == a.Path && e.Zxid > a.Zxid
		})
		if b == nil {
			return nil, "", false
		}
		t := m.txn(b.Zxid)
		b.Created = fmt.Sprintf("%s%010d", b.Path, 0)
		t.Body.(*wire.CreateTxn).Path = b.Created
		t.Digest = wire.Digest{}
		return []*Entry{b}, "S24", true
	}},
	{"an ephemeral belongs to nobody", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpCreate2) && e.Mode == wire.Ephemeral })
		m.txn(a.Zxid).Body.(*wire.CreateTxn).Ephemeral = false
		a.Stat.EphemeralOwner = 0
		return []*Entry{a}, "", true
	}},
	{"an ephemeral outlives its session", func(m *mutant) ([]*Entry, string, bool) {
		for _, txn := range m.log {
			if c, ok := txn.Body.(*wire.PathsRecord); ok && len(c.Paths) > 0 {
				t := znode.New(znode.Config{})
				var r znode.Result
				for _, x := range m.log {
					if x != txn {
						t.Apply(x, &r)
					}
				}
				m.opt.Finals = []Final{{"s9", t}}
				return nil, "server s9", true
			}
		}
		return nil, "", false
	}},
	{"a close leaves an ephemeral", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool {
			if !done(e, wire.OpCloseSession) {
				return false
			}
			c, ok := m.txn(e.Zxid).Body.(*wire.PathsRecord)
			return ok && len(c.Paths) > 0
		})
		if a == nil {
			return nil, "", false
		}
		c := m.txn(a.Zxid).Body.(*wire.PathsRecord)
		c.Paths = c.Paths[1:]
		return []*Entry{a}, "", true
	}},
	{"a session writes after its close", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpCloseSession) })
		if a == nil {
			return nil, "", false
		}
		z := m.commit(wire.TxnHeader{Session: a.Session, Cxid: a.Cxid + 1, Type: wire.OpCreate},
			&wire.CreateTxn{Type: wire.OpCreate, Path: "/late", ACL: openACL, ParentCversion: -1})
		b := *a
		b.Op, b.Path, b.Cxid = wire.OpCreate, "/late", a.Cxid+1
		b.Call, b.Return, b.Result = b.Return+1, Never, Result{}
		_ = z
		return []*Entry{m.insert(b, len(m.h.Entries))}, "S21", true
	}},
	{"a session is opened twice", func(m *mutant) ([]*Entry, string, bool) {
		z := m.commit(wire.TxnHeader{Session: 0x102, Type: wire.OpCreateSession}, &wire.IntRecord{Value: 4000})
		return nil, z.String(), true
	}},
	{"a session is given that nobody opened", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return e.Kind == Connect && e.Session != 0 && e.Want == 0 })
		a.Session = 0x99999
		return []*Entry{a}, "S21", true
	}},
	{"a session is said to have expired", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return e.Kind == Connect && e.Session != 0 && e.Want != 0 && m.open(e.Session) })
		if a == nil {
			return nil, "", false
		}
		a.Session, a.Err = 0, wire.ErrSessionExpired
		return []*Entry{a}, "S21", true
	}},
	{"half of a multi is carried out", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool {
			if !done(e, wire.OpMulti) || len(e.Sub) < 2 {
				return false
			}
			_, failed := m.txn(e.Zxid).Body.(*wire.MultiTxn).Failed()
			return failed < 0
		})
		if a == nil {
			return nil, "", false
		}
		t := m.txn(a.Zxid)
		b := t.Body.(*wire.MultiTxn)
		b.Txns = b.Txns[:len(b.Txns)-1]
		t.Digest = wire.Digest{}
		return []*Entry{a}, "", true
	}},
	{"a multi that was refused is carried out", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool {
			if !done(e, wire.OpMulti) || len(e.Sub) < 2 {
				return false
			}
			_, failed := m.txn(e.Zxid).Body.(*wire.MultiTxn).Failed()
			return failed > 0
		})
		if a == nil {
			return nil, "", false
		}
		b := m.txn(a.Zxid).Body.(*wire.MultiTxn)
		_, at := b.Failed()
		b.Txns = b.Txns[:at]
		a.Results = a.Results[:at]
		for i := range a.Results {
			a.Results[i].Err = wire.OK
		}
		return []*Entry{a}, "", true
	}},
	{"an operation of a multi is answered wrongly", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpMulti) && len(e.Results) > 0 })
		a.Results[0].Err = wire.ErrNotEmpty
		return []*Entry{a}, "", true
	}},
	{"a multi of reads is of two states", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool {
			return done(e, wire.OpMultiRead) && len(e.Results) > 1 && e.Results[0].Err == wire.OK && e.Results[0].Stat.Version > 0
		})
		if a == nil {
			return nil, "", false
		}
		t := m.treeAt(a.Results[0].Stat.Mzxid - 1)
		a.Results[0].Value, a.Results[0].Stat, _ = t.Get(a.Sub[0].Path, super)
		return []*Entry{a}, "", true
	}},
	{"money is made", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool {
			if !done(e, wire.OpMulti) || !strings.HasPrefix(e.Sub[0].Path, "/bank") {
				return false
			}
			_, failed := m.txn(e.Zxid).Body.(*wire.MultiTxn).Failed()
			return failed < 0
		})
		if a == nil {
			return nil, "", false
		}
		t := m.txn(a.Zxid)
		a.Sub[0].Data = []byte("777")
		t.Body.(*wire.MultiTxn).Txns[0].Body.(*wire.SetDataTxn).Data = a.Sub[0].Data
		t.Digest = wire.Digest{}
		return []*Entry{a}, "S25", true
	}},
	{"a guard takes an old token", func(m *mutant) ([]*Entry, string, bool) {
		var last *Entry
		for i, e := range m.h.Entries {
			if e.Kind != Guarded || e.Err != wire.OK {
				continue
			}
			if last != nil && last.Token < e.Token {
				return []*Entry{m.insert(*last, i+1)}, "fencing", true
			}
			last = e
		}
		return nil, "", false
	}},
	{"a guard takes a token that nobody has", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return e.Kind == Guarded })
		if a == nil {
			return nil, "", false
		}
		a.Token++
		return []*Entry{a}, "fencing", true
	}},
	{"an event is lost", func(m *mutant) ([]*Entry, string, bool) {
		a, b := m.eventBeforeReply()
		m.delete(a)
		return []*Entry{b}, "W-b", true
	}},
	{"an event comes behind the data", func(m *mutant) ([]*Entry, string, bool) {
		a, b := m.eventBeforeReply()
		m.delete(a)
		m.h.Entries = slices.Insert(m.h.Entries, m.index(b)+1, a)
		return []*Entry{b}, "W-b", true
	}},
	{"an event comes twice", func(m *mutant) ([]*Entry, string, bool) {
		a, _ := m.eventBeforeReply()
		return []*Entry{m.insert(*a, m.index(a)+1)}, "W-", true
	}},
	{"two events change places", func(m *mutant) ([]*Entry, string, bool) {
		var last *Entry
		for i, e := range m.h.Entries {
			if e.Kind == Event && last != nil && last.Conn == e.Conn && last.Zxid > 0 && last.Zxid < e.Zxid {
				j := m.index(last)
				m.h.Entries[i], m.h.Entries[j] = last, e
				return []*Entry{last, e}, "W-", true
			}
			switch {
			case e.Kind == Event:
				last = e
			case last != nil && e.Conn == last.Conn:
				last = nil
			}
		}
		return nil, "", false
	}},
	{"an event has the wrong type", func(m *mutant) ([]*Entry, string, bool) {
		a, _ := m.eventBeforeReply()
		if a.EventType() == wire.EventNodeDataChanged {
			a.What = int32(wire.EventNodeDeleted)
		} else {
			a.What = int32(wire.EventNodeDataChanged)
		}
		return []*Entry{a}, "W-", true
	}},
	{"an event is of another path", func(m *mutant) ([]*Entry, string, bool) {
		a, _ := m.eventBeforeReply()
		a.Path = "/elsewhere"
		return []*Entry{a}, "W-", true
	}},
	{"an event says another zxid", func(m *mutant) ([]*Entry, string, bool) {
		a, _ := m.eventBeforeReply()
		a.Zxid--
		return []*Entry{a}, "W-", true
	}},
	{"an event comes without a watch", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpSetData) })
		return []*Entry{m.insert(Entry{
			Kind: Event, Conn: a.Conn, Session: a.Session, Call: a.Return, Return: a.Return,
			Args: Args{Op: wire.OpNotification, Path: "/nobody", What: int32(wire.EventNodeDataChanged)}, Result: Result{Zxid: a.Zxid},
		}, m.index(a))}, "W-c", true
	}},
	{"an event of the past comes to a new watch", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool {
			return done(e, wire.OpGetData) && e.Watch && e.Stat.Version > 0
		})
		if a == nil {
			return nil, "", false
		}
		return []*Entry{a, m.insert(Entry{
			Kind: Event, Conn: a.Conn, Session: a.Session, Call: a.Return, Return: a.Return,
			Args: Args{Op: wire.OpNotification, Path: a.Path, What: int32(wire.EventNodeDataChanged)}, Result: Result{Zxid: a.Stat.Mzxid},
		}, m.index(a)+1)}, "W-", true
	}},
	{"setWatches does not tell what was missed", func(m *mutant) ([]*Entry, string, bool) {
		for i, e := range m.h.Entries {
			if e.Rearm == nil || i == 0 {
				continue
			}
			if a := m.h.Entries[i-1]; a.Kind == Event && a.Conn == e.Conn && a.Zxid == 0 {
				m.delete(a)
				return []*Entry{e}, "W-e", true
			}
		}
		return nil, "", false
	}},
	{"setWatches tells what did not happen", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return e.Rearm != nil && e.Known() })
		if a == nil {
			return nil, "", false
		}
		return []*Entry{m.insert(Entry{
			Kind: Event, Conn: a.Conn, Session: a.Session, Call: a.Return, Return: a.Return,
			Args: Args{Op: wire.OpNotification, Path: "/register", What: int32(wire.EventNodeDeleted)},
		}, m.index(a))}, "W-", true
	}},
	{"a watch that is there is not found", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpRemoveWatches) })
		if a == nil {
			return nil, "", false
		}
		a.Err = wire.ErrNoWatcher
		return []*Entry{a}, "W-g", true
	}},
	{"a watch that is not there is removed", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return answered(e) && e.Op == wire.OpRemoveWatches && e.Err == wire.ErrNoWatcher })
		if a == nil {
			return nil, "", false
		}
		a.Err = wire.OK
		return []*Entry{a}, "W-g", true
	}},
	{"an update without an answer is forgotten by the history", func(m *mutant) ([]*Entry, string, bool) {
		for _, txn := range m.log {
			h := txn.Header
			a := m.any(func(e *Entry) bool {
				return e.isUpdate() && !e.Known() && e.Session == h.Session && e.Cxid == h.Cxid
			})
			if a != nil {
				m.delete(a)
				return nil, h.Zxid.String(), true
			}
		}
		return nil, "", false
	}},
	{"a server's tree has another value", func(m *mutant) ([]*Entry, string, bool) {
		t := m.treeAt(1 << 62)
		var r znode.Result
		t.Apply(&wire.Txn{
			Header: wire.TxnHeader{Zxid: t.LastZxid(), Type: wire.OpSetData},
			Body:   &wire.SetDataTxn{Path: "/register", Data: []byte("x"), Version: 1},
		}, &r)
		m.opt.Finals = []Final{{"s9", t}}
		return nil, "server s9", true
	}},
	{"the transactions carry a digest that the tree has not", func(m *mutant) ([]*Entry, string, bool) {
		a := m.any(func(e *Entry) bool { return done(e, wire.OpSetData) })
		m.txn(a.Zxid).Digest.Tree++
		return []*Entry{a}, "S16", true
	}},
}

// open reports whether a session was not closed.
func (m *mutant) open(id zab.SessionID) bool {
	_, ok := m.treeAt(1 << 62).SessionTimeout(id)
	return ok
}

// eventBeforeReply returns an event and the first reply behind it that shows its
// change.
func (m *mutant) eventBeforeReply() (event, reply *Entry) {
	event = m.any(func(a *Entry) bool {
		if a.Kind != Event || a.Zxid <= 0 {
			return false
		}
		i := m.index(a)
		if e := m.h.Entries[i+1:]; len(e) > 0 {
			for _, b := range e {
				if b.Conn == a.Conn && b.Kind == Disconnect {
					return false
				}
				if b.Conn == a.Conn && answered(b) && b.Zxid >= a.Zxid {
					reply = b
					return true
				}
			}
		}
		return false
	})
	return event, reply
}

// staleSync lets a sync, or the read behind it, show what the session saw last.
func (m *mutant) staleSync(behind bool) ([]*Entry, string, bool) {
	shown := map[int]zab.Zxid{}
	known := zab.Zxid(0)
	last := map[int]*Entry{}
	for _, e := range m.h.Entries {
		if !answered(e) {
			continue
		}
		l := last[e.Conn]
		switch {
		case behind && e.Op == wire.OpGetData && l != nil && l.Op == wire.OpSync && shown[-e.Conn] > 0 && shown[-e.Conn] < shown[0]:
			z := shown[-e.Conn]
			t := m.treeAt(z)
			e.Value, e.Stat, e.Err = t.Get(e.Path, super)
			e.Zxid, l.Zxid = z, z
			return []*Entry{e}, "Z4", true
		case !behind && done(e, wire.OpSync) && shown[e.Conn] > 0:
			for _, o := range m.h.Entries {
				if answered(o) && o.Return < e.Call && o.Zxid > known {
					known = o.Zxid
				}
			}
			if shown[e.Conn] < known {
				e.Zxid = shown[e.Conn]
				return []*Entry{e}, "Z4", true
			}
		}
		if behind && done(e, wire.OpSync) {
			shown[-e.Conn], shown[0] = shown[e.Conn], 0
			for _, o := range m.h.Entries {
				if answered(o) && o.Return < e.Call {
					shown[0] = max(shown[0], o.Zxid)
				}
			}
		}
		shown[e.Conn] = e.Zxid
		last[e.Conn] = e
	}
	return nil, "", false
}

// namesOne reports whether an error names one of the entries.
func namesOne(err error, names []*Entry) bool {
	text := err.Error()
	return slices.ContainsFunc(names, func(e *Entry) bool {
		return strings.Contains(text, fmt.Sprintf("\t#%d ", e.Seq))
	})
}

// TestWhatIsWrongIsRejected proves the checks: each mutation of good runs must be
// found, and the complaint must name what was changed.
func TestWhatIsWrongIsRejected(t *testing.T) {
	var worlds []*world
	for seed := range uint64(6) {
		w := newWorld(100+seed, 6, allWorkloads(6))
		w.run(800)
		worlds = append(worlds, w)
	}
	for _, mut := range mutations {
		t.Run(mut.name, func(t *testing.T) {
			tried := 0
			for seed, w := range worlds {
				if tried == 2 {
					break
				}
				m := newMutant(w, uint64(seed))
				names, text, ok := mut.do(m)
				if !ok {
					continue
				}
				tried++
				_, err := Check(m.h, slices.Values(m.log), m.opt)
				switch {
				case err == nil:
					t.Errorf("seed %d: accepted; changed was %v %s", seed, names, text)
				case names != nil && !namesOne(err, names):
					t.Errorf("seed %d: %v\ndoes not name any of %v", seed, err, names)
				case !strings.Contains(err.Error(), text):
					t.Errorf("seed %d: %v\ndoes not say %q", seed, err, text)
				}
			}
			if tried == 0 {
				t.Error("no run has a place for it")
			}
		})
	}
}
