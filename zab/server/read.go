package server

import (
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/watch"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// isRead reports whether answerLocked knows the operation. Everything else that
// is not a write ends the connection.
func isRead(op wire.Op) bool {
	switch op {
	case wire.OpExists, wire.OpGetData, wire.OpGetACL, wire.OpGetChildren, wire.OpGetChildren2, wire.OpSync, wire.OpPing,
		wire.OpCheckWatches, wire.OpRemoveWatches, wire.OpMultiRead, wire.OpSetWatches, wire.OpSetWatches2, wire.OpAddWatch,
		wire.OpGetEphemerals, wire.OpGetAllChildrenNumber, wire.OpWhoAmI, wire.OpSASL:
		return true
	}
	return false
}

// replySize guesses the bytes of the reply to a read that has to wait, from what
// the tree holds now. Replies that are always short count as nothing.
func (s *Server) replySize(op wire.Op, body []byte, ids []wire.ID) int {
	switch op {
	case wire.OpGetData, wire.OpGetChildren, wire.OpGetChildren2:
		var r wire.PathWatch
		d := wire.NewAliasDecoder(body)
		r.Decode(&d)
		s.treeMu.RLock()
		stat, _ := s.tree.Exists(r.Path, ids)
		s.treeMu.RUnlock()
		if op == wire.OpGetData {
			return int(stat.DataLength)
		}
		const name = 32 // bytes, or a little more
		return int(stat.NumChildren) * name
	case wire.OpMultiRead, wire.OpGetEphemerals:
		return s.cfg.MaxReplyBytes
	}
	return 0
}

// answerLocked appends the reply to a request that needs no transaction. The
// caller holds Server.treeMu (shared is enough) and c.mu; so a watch is set at
// the state that the reply shows, and no event of a later change can come
// before the reply.
func (c *conn) answerLocked(xid int32, op wire.Op, body []byte, ids []wire.ID) {
	tree := c.srv.tree
	zxid := tree.LastZxid()
	if !isRead(op) {
		c.replyLocked(xid, -1, wire.ErrUnimplemented, nil)
		return
	}
	if op == wire.OpPing {
		c.replyLocked(wire.XidPing, zxid, wire.OK, nil)
		return
	}
	c.beginLocked()
	h := wire.ReplyHeader{Xid: xid, Zxid: zxid}
	at := len(c.out)
	c.out = h.Append(c.out)
	c.decoder = wire.NewAliasDecoder(body)
	h.Err = c.answerBodyLocked(op, &c.decoder, ids)
	if c.tooLongLocked() {
		h.Err = wire.ErrMarshalling
	}
	if h.Err != wire.OK {
		c.out = h.Append(c.out[:at])
	}
	c.decoder = wire.Decoder{} // it would keep the buffer alive
	c.endLocked()
}

// tooLongLocked reports whether the reply that is being built is not to be sent:
// no client could take it, and this one would ask again and again.
func (c *conn) tooLongLocked() bool { return len(c.out)-c.frameAt-4 > c.srv.cfg.MaxReplyBytes }

// tooManyChildren reports the same of a list of children before it is built. It
// knows only their number, so it lets many pass that tooLongLocked refuses.
func (c *conn) tooManyChildren(path string, ids []wire.ID) bool {
	const shortest = 4 + 1 // bytes of a name
	stat, _ := c.srv.tree.Exists(path, ids)
	return int(stat.NumChildren) > c.srv.cfg.MaxReplyBytes/shortest
}

// answerBodyLocked appends the record of a reply, or returns why there is none;
// then what it appended is dropped.
func (c *conn) answerBodyLocked(op wire.Op, d *wire.Decoder, ids []wire.ID) wire.Code {
	tree := c.srv.tree
	switch op {
	case wire.OpGetData:
		var r wire.PathWatch
		if r.Decode(d); d.Err() != nil {
			return wire.ErrMarshalling
		}
		data, stat, code := tree.Get(r.Path, ids)
		if code != wire.OK {
			return code
		}
		c.out = stat.Append(wire.AppendBuffer(c.out, data))
		if r.Watch {
			return c.watchLocked(r.Path, watch.Data)
		}
	case wire.OpExists:
		var r wire.PathWatch
		if r.Decode(d); d.Err() != nil {
			return wire.ErrMarshalling
		}
		stat, code := tree.Exists(r.Path, ids)
		if r.Watch && (code == wire.OK || code == wire.ErrNoNode) {
			if full := c.watchLocked(r.Path, watch.Data); full != wire.OK {
				return full
			}
		}
		if code != wire.OK {
			return code
		}
		c.out = stat.Append(c.out)
	case wire.OpGetChildren, wire.OpGetChildren2:
		var r wire.PathWatch
		if r.Decode(d); d.Err() != nil {
			return wire.ErrMarshalling
		}
		if c.tooManyChildren(r.Path, ids) {
			return wire.ErrMarshalling
		}
		out, stat, code := tree.AppendChildren(c.out, r.Path, ids)
		if code != wire.OK {
			return code
		}
		c.out = out
		if op == wire.OpGetChildren2 {
			c.out = stat.Append(c.out)
		}
		if r.Watch {
			return c.watchLocked(r.Path, watch.Child)
		}
	case wire.OpGetACL:
		var r wire.PathRecord
		if r.Decode(d); d.Err() != nil || r.Path == "" {
			return wire.ErrMarshalling
		}
		acl, stat, code := tree.GetACL(r.Path, ids)
		if code != wire.OK {
			return code
		}
		c.out = stat.Append(wire.AppendACL(c.out, acl))
	case wire.OpSync:
		// The reply echoes even a null path; alone, a server's own order is all
		// that sync asks for.
		path := d.Buffer()
		if d.Err() != nil {
			return wire.ErrMarshalling
		}
		c.out = wire.AppendBuffer(c.out, path)
	case wire.OpMultiRead:
		return c.multiReadLocked(d, ids)
	case wire.OpSetWatches, wire.OpSetWatches2:
		return c.setWatchesLocked(op, d)
	case wire.OpAddWatch:
		var r wire.PathMode
		if r.Decode(d); d.Err() != nil {
			return wire.ErrMarshalling
		}
		code := wire.ErrMarshalling
		switch r.Mode {
		case wire.WatchPersistent:
			code = c.watchLocked(r.Path, watch.Persistent)
		case wire.WatchPersistentRecursive:
			code = c.watchLocked(r.Path, watch.Recursive)
		}
		if code != wire.OK {
			return code
		}
		c.out = wire.AppendInt(c.out, 0)
	case wire.OpCheckWatches, wire.OpRemoveWatches:
		var r wire.PathMode
		r.Decode(d)
		modes, ok := watch.ModeOf(r.Mode)
		if d.Err() != nil || !ok {
			return wire.ErrMarshalling
		}
		c.srv.watchMu.Lock()
		defer c.srv.watchMu.Unlock()
		found := false
		if op == wire.OpCheckWatches {
			found = c.srv.watches.Contains(c, r.Path, modes)
		} else {
			found = c.srv.watches.Remove(c, r.Path, modes)
		}
		if !found {
			return wire.ErrNoWatcher
		}
	case wire.OpGetEphemerals:
		var r wire.PathRecord
		if r.Decode(d); d.Err() != nil {
			return wire.ErrMarshalling
		}
		c.out = wire.AppendStrings(c.out, tree.Ephemerals(c.sess.id, r.Path))
	case wire.OpGetAllChildrenNumber:
		var r wire.PathRecord
		if r.Decode(d); d.Err() != nil || r.Path == "" {
			return wire.ErrMarshalling
		}
		n, code := tree.AllChildrenNumber(r.Path, ids)
		if code != wire.OK {
			return code
		}
		c.out = wire.AppendInt(c.out, n)
	case wire.OpWhoAmI:
		r := wire.WhoAmIResponse{Users: znode.WhoAmI(ids)}
		c.out = r.Append(c.out)
	case wire.OpSASL:
		// No SASL mechanism is configured: a null token, as Apache answers then.
		c.out = wire.AppendBuffer(c.out, nil)
	}
	return wire.OK
}

func (c *conn) multiReadLocked(d *wire.Decoder, ids []wire.ID) wire.Code {
	var m wire.MultiRequest
	if m.Decode(d); d.Err() != nil || len(m.Ops) > 0 && !m.IsRead() {
		return wire.ErrMarshalling
	}
	tree := c.srv.tree
	for _, op := range m.Ops {
		path := op.Record.(*wire.PathWatch).Path
		if c.tooLongLocked() || op.Op == wire.OpGetChildren && c.tooManyChildren(path, ids) {
			return wire.ErrMarshalling
		}
		var code wire.Code
		res := wire.MultiResult{Op: op.Op}
		if op.Op == wire.OpGetData {
			var r wire.GetDataResponse
			r.Data, r.Stat, code = tree.Get(path, ids)
			res.Record = &r
		} else {
			var names []byte
			names, _, code = tree.AppendChildren(nil, path, ids)
			res.Record = rawRecord(names)
		}
		if code != wire.OK {
			res = wire.MultiResult{Op: wire.OpFailed, Err: code}
		}
		c.out = wire.AppendMultiResult(c.out, res)
	}
	c.out = wire.AppendMultiEnd(c.out)
	return wire.OK
}

// rawRecord is a record that is encoded already.
type rawRecord []byte

func (r rawRecord) Append(b []byte) []byte { return append(b, r...) }
func (r rawRecord) Decode(*wire.Decoder)   {}

// watchLocked sets a watch of this connection. The path may alias a buffer.
func (c *conn) watchLocked(path string, mode watch.Mode) wire.Code {
	c.srv.watchMu.Lock()
	defer c.srv.watchMu.Unlock()
	watches := c.srv.watches
	if c.watchCount >= c.srv.cfg.MaxWatches {
		c.watchCount = watches.ConnLen(c) // many may have fired since
		const any = watch.Data | watch.Child | watch.Persistent | watch.Recursive
		if c.watchCount >= c.srv.cfg.MaxWatches && !watches.Contains(c, path, any) {
			return wire.ErrThrottledOp
		}
	}
	watches.Add(c, path, mode)
	c.watchCount++
	return wire.OK
}

// setWatchesLocked arms watches again after a reconnect and queues events for
// what changed meanwhile, in front of the reply that is being built.
func (c *conn) setWatchesLocked(op wire.Op, d *wire.Decoder) wire.Code {
	r := wire.SetWatches{HasPersistent: op == wire.OpSetWatches2}
	if r.Decode(d); d.Err() != nil {
		return wire.ErrMarshalling
	}
	var events []wire.WatcherEvent
	for _, list := range []struct {
		paths  []string
		kind   znode.CatchUpKind
		mode   watch.Mode
		change wire.EventType
	}{
		{r.Data, znode.CatchUpData, watch.Data, wire.EventNodeDataChanged},
		{r.Exist, znode.CatchUpExist, watch.Data, wire.EventNodeCreated},
		{r.Child, znode.CatchUpChild, watch.Child, wire.EventNodeChildrenChanged},
	} {
		for _, path := range list.paths {
			missed := c.srv.tree.CatchUp(r.RelativeZxid, path, list.kind)
			if missed == wire.EventNone && c.watchLocked(path, list.mode) != wire.OK {
				// Clients do not look at the code of the reply. One that is told of a
				// change asks for the watch again and learns that it cannot have it.
				missed = list.change
			}
			if missed != wire.EventNone {
				events = append(events, wire.WatcherEvent{Type: missed, State: wire.StateSyncConnected, Path: path})
			}
		}
	}
	for _, path := range r.Persistent {
		if code := c.watchLocked(path, watch.Persistent); code != wire.OK {
			return code
		}
	}
	for _, path := range r.PersistentRecursive {
		if code := c.watchLocked(path, watch.Recursive); code != wire.OK {
			return code
		}
	}
	if len(events) > 0 {
		// The reply's frame is begun already: take it off, put the events first.
		reply := append([]byte(nil), c.out[c.frameAt:]...)
		c.out = c.out[:c.frameAt]
		for i := range events {
			c.eventLocked(&events[i], -1)
		}
		c.frameAt = len(c.out)
		c.out = append(c.out, reply...)
	}
	return wire.OK
}

// eventLocked appends a notification; zxid is that of the change, -1 for what
// setWatches catches up with.
func (c *conn) eventLocked(e *wire.WatcherEvent, zxid zab.Zxid) {
	c.beginLocked()
	h := wire.ReplyHeader{Xid: wire.XidNotification, Zxid: zxid}
	c.out = e.Append(h.Append(c.out))
	c.endLocked()
	c.srv.stats.WatchEvents.Add(1)
}
