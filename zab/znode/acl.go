package znode

import (
	"cmp"
	"slices"

	"github.com/paddockio/paddock/zab/wire"
)

// aclEntry is one ACL list, shared by all znodes that have it. list and enc
// never change.
type aclEntry struct {
	key  int64
	list []wire.ACL
	enc  string
	refs int
}

// Keys of lists in snapshots (class ReferenceCountedACLCache).
const (
	aclKeyOpen    = -1 // znodes that servers make: everybody may do everything
	aclKeyUnknown = -2 // only in here: a snapshot named a key that it does not hold
)

// aclCache holds every list once.
type aclCache struct {
	byEnc   map[string]*aclEntry
	lastKey int64
	open    aclEntry
	unknown aclEntry
	scratch []byte
}

func newACLCache() *aclCache {
	return &aclCache{
		byEnc: map[string]*aclEntry{},
		open:  aclEntry{key: aclKeyOpen, list: wire.OpenACL()},
		// Denies everything: an empty list would allow everything.
		unknown: aclEntry{key: aclKeyUnknown, list: []wire.ACL{{ID: wire.ID{Scheme: "world", ID: "anyone"}}}},
	}
}

// intern returns the entry of a list and counts one use more. The list is
// copied if it is new.
func (c *aclCache) intern(acl []wire.ACL) *aclEntry {
	if len(acl) == 0 {
		return &c.open // an empty list lets everybody do everything, too
	}
	c.scratch = wire.AppendACL(c.scratch[:0], acl)
	e := c.byEnc[string(c.scratch)]
	if e == nil {
		c.lastKey++
		e = newACLEntry(c.lastKey, c.scratch)
		c.byEnc[e.enc] = e
	}
	e.refs++
	return e
}

func newACLEntry(key int64, enc []byte) *aclEntry {
	e := &aclEntry{key: key, enc: string(enc)}
	d := wire.NewAliasDecoder(stringBytes(e.enc))
	e.list = wire.DecodeACL(&d)
	return e
}

func (c *aclCache) release(e *aclEntry) {
	if e.key < 0 {
		return
	}
	if e.refs--; e.refs == 0 {
		delete(c.byEnc, e.enc)
	}
}

// lookup returns the shared copy of a list, or nil. It needs shared access
// only; scratch is the caller's.
func (c *aclCache) lookup(acl []wire.ACL, scratch []byte) ([]wire.ACL, []byte) {
	scratch = wire.AppendACL(scratch[:0], acl)
	if e := c.byEnc[string(scratch)]; e != nil {
		return e.list, scratch
	}
	return nil, scratch
}

// entries lists the cache in the order of the keys.
func (c *aclCache) entries() []ACLEntry {
	list := make([]ACLEntry, 0, len(c.byEnc)+1)
	if c.unknown.refs > 0 {
		list = append(list, ACLEntry{c.unknown.key, c.unknown.list})
	}
	for _, e := range c.byEnc {
		list = append(list, ACLEntry{e.key, e.list})
	}
	slices.SortFunc(list, func(a, b ACLEntry) int { return cmp.Compare(a.Key, b.Key) })
	return list
}

// Allowed reports whether one of ids has one of the permissions perm by acl
// (ZooKeeperServer.checkACL). An empty list allows everything, and so does the
// identity super.
func Allowed(acl []wire.ACL, perm wire.Perms, ids []wire.ID) bool {
	if len(acl) == 0 {
		return true
	}
	for i := range acl {
		if a := &acl[i]; a.Perms&perm != 0 && a.ID.Scheme == "world" && a.ID.ID == "anyone" {
			return true
		}
	}
	for i := range ids {
		if ids[i].Scheme == "super" {
			return true
		}
		for j := range acl {
			if acl[j].Perms&perm != 0 && matches(&ids[i], &acl[j].ID) {
				return true
			}
		}
	}
	return false
}

// fixACL makes the list that is stored from the one a client sent: duplicates
// go, "auth" becomes the identities of the connection
// (PrepRequestProcessor.fixupACL). acl is not changed and may be returned.
func (c *Config) fixACL(acl []wire.ACL, ids []wire.ID) ([]wire.ACL, wire.Code) {
	if len(acl) == 0 {
		return nil, wire.ErrInvalidACL
	}
	plain := true
	for i := range acl {
		a := &acl[i]
		if a.ID.Scheme == "auth" || slices.Contains(acl[:i], *a) {
			plain = false
		} else if !c.validACLID(a.ID) {
			return nil, wire.ErrInvalidACL
		}
	}
	if plain {
		return acl, wire.OK
	}
	var fixed []wire.ACL
	for i := range acl {
		a := &acl[i]
		if slices.Contains(acl[:i], *a) {
			continue
		}
		if a.ID.Scheme != "auth" {
			fixed = append(fixed, *a)
			continue
		}
		found := false
		for _, id := range ids {
			if isAuthenticated(id.Scheme) {
				found = true
				fixed = append(fixed, wire.ACL{Perms: a.Perms, ID: id})
			}
		}
		if !found {
			return nil, wire.ErrInvalidACL
		}
	}
	return fixed, wire.OK
}
