package storage

import (
	"encoding/binary"

	"github.com/paddockio/paddock/zab/wire"
)

// A TxnDecoder decodes one serialized transaction after the other into the same
// records, so that who applies them allocates nothing for most of them. Strings and data
// alias the bytes; a decoded transaction is good until the next call.
type TxnDecoder struct {
	txn     wire.Txn
	create  wire.CreateTxn
	del     wire.PathRecord
	setData wire.SetDataTxn
	setACL  wire.SetACLTxn
	number  wire.IntRecord

	// acls holds the lists met so far by their bytes: there are few different
	// ones. Their strings are copies, so a tree may keep them.
	acls map[string][]wire.ACL
}

// maxACLs bounds the lists that are remembered.
const maxACLs = 4096

// Decode decodes a transaction as the log, PROPOSAL and INFORM have it.
func (t *TxnDecoder) Decode(payload []byte) (*wire.Txn, error) {
	if len(payload) < txnMin {
		return nil, wire.ErrTruncated
	}
	x := &t.txn
	op := wire.Op(int32(binary.BigEndian.Uint32(payload[28:])))
	switch op {
	case wire.OpCloseSession:
		// Without its list of paths, but with a digest, which reads as a list.
		if len(payload) == txnMin+12 && binary.BigEndian.Uint32(payload[txnMin:]) == wire.DigestVersion {
			d := wire.NewAliasDecoder(payload)
			x.Header.Decode(&d)
			x.Body, x.Digest = nil, wire.Digest{Version: d.Int(), Tree: uint64(d.Long())}
			return x, d.Err()
		}
		fallthrough
	default:
		d := wire.NewAliasDecoder(payload)
		x.Decode(&d)
		return x, d.Err()
	case wire.OpCreate, wire.OpCreate2, wire.OpCreateContainer, wire.OpCreateTTL,
		wire.OpDelete, wire.OpDeleteContainer, wire.OpSetData, wire.OpReconfig, wire.OpSetACL,
		wire.OpCreateSession, wire.OpFailed:
	}
	d := wire.NewAliasDecoder(payload)
	x.Header.Decode(&d)
	x.Digest = wire.Digest{}
	switch op {
	case wire.OpCreate, wire.OpCreate2, wire.OpCreateContainer, wire.OpCreateTTL:
		c := &t.create
		*c = wire.CreateTxn{Type: op, Path: d.String(), Data: d.Buffer(), ACL: t.acl(&d)}
		if op == wire.OpCreate || op == wire.OpCreate2 {
			c.Ephemeral = d.Bool()
		}
		if op == wire.OpCreate && d.Len() == 0 && d.Err() == nil {
			c.ParentCversion = -1
		} else {
			c.ParentCversion = d.Int()
		}
		if op == wire.OpCreateTTL {
			c.TTLMs = d.Long()
		}
		x.Body = c
	case wire.OpDelete, wire.OpDeleteContainer:
		t.del.Decode(&d)
		x.Body = &t.del
	case wire.OpSetData, wire.OpReconfig:
		t.setData.Decode(&d)
		x.Body = &t.setData
	case wire.OpSetACL:
		t.setACL = wire.SetACLTxn{Path: d.String(), ACL: t.acl(&d), Version: d.Int()}
		x.Body = &t.setACL
	default:
		t.number.Decode(&d)
		x.Body = &t.number
	}
	if d.Err() == nil && d.Len() >= 12 {
		x.Digest = wire.Digest{Version: d.Int(), Tree: uint64(d.Long())}
	}
	return x, d.Err()
}

// acl reads an ACL list, the same slice for the same bytes.
func (t *TxnDecoder) acl(d *wire.Decoder) []wire.ACL {
	rest := d.Rest()
	n, ok := aclLen(rest)
	if !ok { // broken: let the decoder say how
		return wire.DecodeACL(d)
	}
	acl, known := t.acls[string(rest[:n])]
	if !known {
		c := wire.NewDecoder(rest[:n])
		acl = wire.DecodeACL(&c)
		if c.Err() != nil {
			return wire.DecodeACL(d)
		}
		if t.acls == nil || len(t.acls) >= maxACLs {
			t.acls = map[string][]wire.ACL{}
		}
		t.acls[string(rest[:n])] = acl
	}
	*d = wire.NewAliasDecoder(rest[n:])
	return acl
}

// aclLen returns the length of the encoded ACL list at the start of b.
func aclLen(b []byte) (int, bool) {
	if len(b) < 4 {
		return 0, false
	}
	at := 4
	for range int32(binary.BigEndian.Uint32(b)) {
		at += 4
		for range 2 {
			if at+4 > len(b) {
				return 0, false
			}
			l := int32(binary.BigEndian.Uint32(b[at:]))
			if l < -1 || int(l) > len(b)-at-4 {
				return 0, false
			}
			at += 4 + max(0, int(l))
		}
	}
	return at, true
}
