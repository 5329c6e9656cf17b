package server

import (
	"slices"

	"github.com/paddockio/paddock/zab/wire"
)

// A connection may have this many identities, made from credentials of this many
// bytes each: every check of an ACL goes through them, and ACLs may copy them.
const (
	maxIdentities = 100
	maxCredential = 4 << 10
)

// auth adds an identity. It takes effect for every later request of the
// connection; the reply keeps its place in the order.
func (c *conn) auth(xid int32, body []byte, now int64) error {
	var p wire.AuthPacket
	d := wire.NewDecoder(body)
	p.Decode(&d)
	code := wire.ErrAuthFailed
	switch {
	case d.Err() != nil:
		code = wire.ErrMarshalling
	case len(p.Auth) <= maxCredential:
		var ids []wire.ID
		if ids, code = c.srv.authenticate(p.Scheme, p.Auth, c.remote.Addr()); code == wire.OK && !c.addIDs(ids) {
			code = wire.ErrAuthFailed
		}
	}
	if code != wire.OK {
		c.srv.stats.AuthFailed.Add(1)
		c.srv.authFailed.warn(c.srv, code.Error(), "authentication failed", "peer", c.remote.String(), "session", c.sessionID(), "scheme", p.Scheme[:min(len(p.Scheme), 32)])
	}
	if code == wire.ErrBadArguments {
		return errDone // the wrong ensemble: an answer would make the client give up
	}
	if err := c.lockForRead(); err != nil {
		return err
	}
	defer c.unlockForRead()
	if c.queue.len() > 0 {
		r := newRequest(c, xid, wire.OpAuth, nil, now)
		r.code = code
		c.pushLocked(r)
	} else {
		c.replyLocked(xid, 0, code, nil)
	}
	if code != wire.OK {
		return errDone
	}
	return nil
}

// addIDs adds the identities that are new, unless they are too many.
func (c *conn) addIDs(ids []wire.ID) bool {
	next := slices.Clone(*c.ids.Load())
	for _, id := range ids {
		if !slices.Contains(next, id) {
			next = append(next, id)
		}
	}
	c.ids.Store(&next)
	return len(next) <= maxIdentities
}
