package wire

import "github.com/paddockio/paddock/zab"

// Perms is a set of permissions of an ACL entry (ZooDefs.Perms). It is stored as
// sent: unknown bits and 0 are legal.
type Perms int32

// The permissions. Create and Delete are about the children of the znode.
const (
	PermRead   Perms = 1
	PermWrite  Perms = 2
	PermCreate Perms = 4
	PermDelete Perms = 8
	PermAdmin  Perms = 16
	PermAll    Perms = 31
)

// An ID is an identity: a scheme ("world", "digest", …) and a name in it.
type ID struct{ Scheme, ID string }

// An ACL gives permissions to one identity.
type ACL struct {
	Perms Perms
	ID    ID
}

// OpenACL returns the list that lets everybody do everything
// (ZooDefs.Ids.OPEN_ACL_UNSAFE).
func OpenACL() []ACL { return []ACL{{PermAll, ID{"world", "anyone"}}} }

// AppendACL appends a vector of ACL entries.
func AppendACL(b []byte, acl []ACL) []byte {
	b = AppendInt(b, int32(len(acl)))
	for _, a := range acl {
		b = AppendInt(b, int32(a.Perms))
		b = AppendString(b, a.ID.Scheme)
		b = AppendString(b, a.ID.ID)
	}
	return b
}

// DecodeACL reads a vector of ACL entries. Null lists, schemes and ids read as
// empty, which ACL fix-up refuses with ErrInvalidACL.
func DecodeACL(d *Decoder) []ACL {
	n, _ := d.Count(12)
	if n == 0 {
		return nil
	}
	acl := make([]ACL, n)
	for i := range acl {
		acl[i] = ACL{Perms(d.Int()), ID{d.NullString(), d.NullString()}}
	}
	return acl
}

// Stat is what clients see of a znode besides its data: 68 bytes on the wire.
// Times are ms since 1970 by the leader's clock.
type Stat struct {
	Czxid, Mzxid                zab.Zxid
	Ctime, Mtime                int64
	Version, Cversion, Aversion int32
	EphemeralOwner              zab.SessionID
	DataLength, NumChildren     int32
	Pzxid                       zab.Zxid
}

// Append implements Record.
func (s *Stat) Append(b []byte) []byte {
	b = AppendLong(b, int64(s.Czxid))
	b = AppendLong(b, int64(s.Mzxid))
	b = AppendLong(b, s.Ctime)
	b = AppendLong(b, s.Mtime)
	b = AppendInt(b, s.Version)
	b = AppendInt(b, s.Cversion)
	b = AppendInt(b, s.Aversion)
	b = AppendLong(b, int64(s.EphemeralOwner))
	b = AppendInt(b, s.DataLength)
	b = AppendInt(b, s.NumChildren)
	return AppendLong(b, int64(s.Pzxid))
}

// Decode implements Record.
func (s *Stat) Decode(d *Decoder) {
	s.Czxid, s.Mzxid = zab.Zxid(d.Long()), zab.Zxid(d.Long())
	s.Ctime, s.Mtime = d.Long(), d.Long()
	s.Version, s.Cversion, s.Aversion = d.Int(), d.Int(), d.Int()
	s.EphemeralOwner = zab.SessionID(d.Long())
	s.DataLength, s.NumChildren = d.Int(), d.Int()
	s.Pzxid = zab.Zxid(d.Long())
}

// StatPersisted is a znode's stat as snapshots carry it and the digest covers
// it: 60 bytes. Cversion counts creates only, and EphemeralOwner holds the
// container and TTL markers too (class EphemeralType).
type StatPersisted struct {
	Czxid, Mzxid                zab.Zxid
	Ctime, Mtime                int64
	Version, Cversion, Aversion int32
	EphemeralOwner              int64
	Pzxid                       zab.Zxid
}

// Append implements Record.
func (s *StatPersisted) Append(b []byte) []byte {
	b = AppendLong(b, int64(s.Czxid))
	b = AppendLong(b, int64(s.Mzxid))
	b = AppendLong(b, s.Ctime)
	b = AppendLong(b, s.Mtime)
	b = AppendInt(b, s.Version)
	b = AppendInt(b, s.Cversion)
	b = AppendInt(b, s.Aversion)
	b = AppendLong(b, s.EphemeralOwner)
	return AppendLong(b, int64(s.Pzxid))
}

// Decode implements Record.
func (s *StatPersisted) Decode(d *Decoder) {
	s.Czxid, s.Mzxid = zab.Zxid(d.Long()), zab.Zxid(d.Long())
	s.Ctime, s.Mtime = d.Long(), d.Long()
	s.Version, s.Cversion, s.Aversion = d.Int(), d.Int(), d.Int()
	s.EphemeralOwner = d.Long()
	s.Pzxid = zab.Zxid(d.Long())
}
