package wire

import (
	"fmt"

	"github.com/paddockio/paddock/zab"
)

// A TxnHeader begins every transaction in the log and on the quorum port: 32
// bytes. TimeMs is the leader's wall clock, the source of ctime and mtime on
// every server.
type TxnHeader struct {
	Session zab.SessionID
	Cxid    int32 // the request's xid; 0 for requests made by the server
	Zxid    zab.Zxid
	TimeMs  int64
	Type    Op
}

// Append implements Record.
func (h *TxnHeader) Append(b []byte) []byte {
	b = AppendLong(b, int64(h.Session))
	b = AppendInt(b, h.Cxid)
	b = AppendLong(b, int64(h.Zxid))
	b = AppendLong(b, h.TimeMs)
	return AppendInt(b, int32(h.Type))
}

// Decode implements Record.
func (h *TxnHeader) Decode(d *Decoder) {
	h.Session = zab.SessionID(d.Long())
	h.Cxid = d.Int()
	h.Zxid = zab.Zxid(d.Long())
	h.TimeMs = d.Long()
	h.Type = Op(d.Int())
}

// DigestVersion is the version of the tree digest that ZooKeeper 3.9 writes.
const DigestVersion = 2

// A Digest is the digest of the tree after a transaction (classes TxnDigest,
// DigestCalculator). Version 0 means that there is none.
type Digest struct {
	Version int32
	Tree    uint64
}

// A Txn is a transaction: the result of a request, not the request, so that it
// can be applied on every server without a decision. By Header.Type, Body is
//
//	createSession                          *IntRecord (timeout in ms)
//	closeSession                           *PathsRecord, or nil in old logs
//	create, create2, createContainer,
//	createTTL                              *CreateTxn
//	delete, deleteContainer                *PathRecord
//	setData, reconfig                      *SetDataTxn
//	setACL                                 *SetACLTxn
//	check (inside multi)                   *PathVersion
//	multi                                  *MultiTxn
//	error                                  *IntRecord (a Code)
type Txn struct {
	Header TxnHeader
	Body   Record
	Digest Digest
}

// Append implements Record: the bytes of a log entry and of a PROPOSAL.
func (t *Txn) Append(b []byte) []byte {
	b = t.Header.Append(b)
	if t.Body != nil {
		b = t.Body.Append(b)
	}
	if t.Digest.Version != 0 {
		b = AppendInt(b, t.Digest.Version)
		b = AppendLong(b, int64(t.Digest.Tree))
	}
	return b
}

// Decode implements Record. It accepts what releases since 3.4 wrote: create
// without parentCVersion, closeSession without a body, no digest.
func (t *Txn) Decode(d *Decoder) {
	t.Header.Decode(d)
	t.Body, t.Digest = nil, Digest{}
	if t.Header.Type == OpCloseSession && d.Len() == 0 {
		return
	}
	if t.Body = newTxnBody(t.Header.Type); t.Body == nil {
		d.Fail(fmt.Errorf("transaction %v: unknown type %d", t.Header.Zxid, int32(t.Header.Type)))
		return
	}
	t.Body.Decode(d)
	if d.Err() == nil && d.Len() >= 12 {
		if t.Digest = (Digest{Version: d.Int(), Tree: uint64(d.Long())}); t.Digest.Version == 0 {
			t.Digest = Digest{}
		}
	}
}

func newTxnBody(op Op) Record {
	switch op {
	case OpCreateSession, OpFailed:
		return &IntRecord{}
	case OpCloseSession:
		return &PathsRecord{}
	case OpCreate, OpCreate2, OpCreateContainer, OpCreateTTL:
		return &CreateTxn{Type: op}
	case OpDelete, OpDeleteContainer:
		return &PathRecord{}
	case OpSetData, OpReconfig:
		return &SetDataTxn{}
	case OpSetACL:
		return &SetACLTxn{}
	case OpCheck:
		return &PathVersion{}
	case OpMulti:
		return &MultiTxn{}
	}
	return nil
}

// CreateTxn makes a znode. Type decides which of the fields are encoded: the
// records CreateTxn, CreateContainerTxn and CreateTTLTxn of Apache in one.
type CreateTxn struct {
	Type           Op // OpCreate, OpCreate2, OpCreateContainer or OpCreateTTL
	Path           string
	Data           []byte
	ACL            []ACL
	Ephemeral      bool  // create, create2: owned by Header.Session
	ParentCversion int32 // the parent's new stored cversion; -1: add one (logs before 3.4)
	TTLMs          int64 // createTTL
}

// Append implements Record.
func (t *CreateTxn) Append(b []byte) []byte {
	b = AppendString(b, t.Path)
	b = AppendBuffer(b, t.Data)
	b = AppendACL(b, t.ACL)
	if t.Type == OpCreate || t.Type == OpCreate2 {
		b = AppendBool(b, t.Ephemeral)
	}
	b = AppendInt(b, t.ParentCversion)
	if t.Type == OpCreateTTL {
		b = AppendLong(b, t.TTLMs)
	}
	return b
}

// Decode implements Record; the caller has set Type.
func (t *CreateTxn) Decode(d *Decoder) {
	t.Path = d.String()
	t.Data = d.Buffer()
	t.ACL = DecodeACL(d)
	if t.Type == OpCreate || t.Type == OpCreate2 {
		t.Ephemeral = d.Bool()
	}
	if t.Type == OpCreate && d.Len() == 0 {
		t.ParentCversion = -1
		return
	}
	t.ParentCversion = d.Int()
	if t.Type == OpCreateTTL {
		t.TTLMs = d.Long()
	}
}

// SetDataTxn carries the new version, -1 for /zookeeper/config.
type SetDataTxn struct {
	Path    string
	Data    []byte
	Version int32
}

// Append implements Record.
func (t *SetDataTxn) Append(b []byte) []byte {
	return AppendInt(AppendBuffer(AppendString(b, t.Path), t.Data), t.Version)
}

// Decode implements Record.
func (t *SetDataTxn) Decode(d *Decoder) { t.Path, t.Data, t.Version = d.String(), d.Buffer(), d.Int() }

// SetACLTxn carries the new aversion.
type SetACLTxn struct {
	Path    string
	ACL     []ACL
	Version int32
}

// Append implements Record.
func (t *SetACLTxn) Append(b []byte) []byte {
	return AppendInt(AppendACL(AppendString(b, t.Path), t.ACL), t.Version)
}

// Decode implements Record.
func (t *SetACLTxn) Decode(d *Decoder) { t.Path, t.ACL, t.Version = d.String(), DecodeACL(d), d.Int() }

// SubTxn is one operation of a multi: a type and the body that Txn lists for it.
type SubTxn struct {
	Type Op
	Body Record
}

// MultiTxn is the body of a multi. If one of the types is OpFailed, none of the
// others takes effect.
type MultiTxn struct{ Txns []SubTxn }

// Failed returns the code of the first failed operation and its place, or OK.
func (t *MultiTxn) Failed() (Code, int) {
	for i, s := range t.Txns {
		if s.Type == OpFailed {
			if c := Code(s.Body.(*IntRecord).Value); c != OK && c != ErrRuntimeInconsistency {
				return c, i
			}
		}
	}
	for i, s := range t.Txns {
		if s.Type == OpFailed {
			return Code(s.Body.(*IntRecord).Value), i
		}
	}
	return OK, -1
}

// Append implements Record.
func (t *MultiTxn) Append(b []byte) []byte {
	b = AppendInt(b, int32(len(t.Txns)))
	for _, s := range t.Txns {
		b = AppendInt(b, int32(s.Type))
		at := len(b)
		b = s.Body.Append(AppendInt(b, 0))
		AppendInt(b[at:at], int32(len(b)-at-4))
	}
	return b
}

// Decode implements Record.
func (t *MultiTxn) Decode(d *Decoder) {
	n, _ := d.Count(8)
	t.Txns = nil
	for range n {
		typ := Op(d.Int())
		sub := Decoder{buf: d.Buffer(), unsafe: d.unsafe}
		if d.Err() != nil {
			return
		}
		body := newTxnBody(typ)
		if body == nil || typ == OpMulti {
			d.Fail(fmt.Errorf("multi transaction holds type %d", int32(typ)))
			return
		}
		if body.Decode(&sub); sub.Err() != nil {
			d.Fail(fmt.Errorf("%v in a multi transaction: %w", typ, sub.Err()))
			return
		}
		t.Txns = append(t.Txns, SubTxn{typ, body})
	}
}
