package zabtest

import (
	"slices"
	"sort"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/watch"
	"github.com/paddockio/paddock/zab/wire"
)

// What clients must be told of (S29): each change of what they watch, once, in
// order, before any answer that shows it, and nothing else.

// clientWatch is a watch for one event as the client knows it.
type clientWatch struct {
	path string
	kind watchKind
	zxid zab.Zxid // of the reply that the registration came with
}

type watchKind uint8

const (
	watchData watchKind = iota
	watchExist
	watchChild
)

// lastingWatch is a persistent watch as the client knows it.
type lastingWatch struct {
	path      string
	recursive bool
	zxid      zab.Zxid
	resting   bool // since the connection was lost, until setWatches is answered
}

var lastingModes = map[int32]watch.Mode{wire.WatchPersistent: watch.Persistent, wire.WatchPersistentRecursive: watch.Recursive}

// refEvent is something that a committed transaction tells those who watch and may
// read.
type refEvent struct {
	zxid zab.Zxid
	typ  wire.EventType
	path string
	acl  []wire.ACL
}

// told is how far a client with persistent watches was told of the events: all
// before next, and of those with the zxid of next the ones in now.
type told struct {
	next int
	now  []int
}

func (w *lastingWatch) wants(e *refEvent) bool {
	switch {
	case w.resting || e.zxid <= w.zxid:
		return false
	case w.recursive:
		return e.typ != wire.EventNodeChildrenChanged && (e.path == w.path || w.path == "/" || strings.HasPrefix(e.path, w.path) && e.path[len(w.path)] == '/')
	}
	return e.path == w.path
}

func (c *client) wants(e *refEvent) bool {
	return slices.ContainsFunc(c.lasting, func(w lastingWatch) bool { return w.wants(e) }) && mayDo(e.acl, wire.PermRead, c.ids)
}

// toldUpTo checks that a client was told of all that its persistent watches are
// for, up to the events of z, and with them if all is set.
func (c *checker) toldUpTo(cl *client, z zab.Zxid, all bool) bool {
	events := c.ref.events
	if len(cl.lasting) == 0 {
		cl.told.now = cl.told.now[:0]
		cl.told.next = sort.Search(len(events), func(i int) bool { return events[i].zxid > z || !all && events[i].zxid == z })
		return true
	}
	for ; cl.told.next < len(events); cl.told.next++ {
		e := &events[cl.told.next]
		if e.zxid > z || !all && e.zxid == z {
			break
		}
		if cl.wants(e) && !slices.Contains(cl.told.now, cl.told.next) {
			c.s.fail("S29", "client %d has heard of %v, but was not told of event %v on %s at %v, for which it has a persistent watch", cl.idx, z, e.typ, e.path, e.zxid)
			return false
		}
	}
	cl.told.now = slices.DeleteFunc(cl.told.now, func(i int) bool { return i < cl.told.next })
	return true
}

// lastingEvent reports whether an event is one that a persistent watch is for.
func (c *checker) lastingEvent(cl *client, r *reply) bool {
	for i := cl.told.next; i < len(c.ref.events) && c.ref.events[i].zxid == r.zxid; i++ {
		e := &c.ref.events[i]
		if e.typ == r.typ && e.path == r.path && !slices.Contains(cl.told.now, i) && cl.wants(e) {
			cl.told.now = append(cl.told.now, i)
			return true
		}
	}
	return false
}

// watchEvent checks an event and takes the watches that it uses up.
func (c *checker) watchEvent(cl *client, r *reply) {
	c.s.stats.Events++
	c.s.checks.safe(29)
	uses := func(w *clientWatch) bool {
		if w.path != r.path {
			return false
		}
		switch r.typ {
		case wire.EventNodeCreated, wire.EventNodeDataChanged:
			return w.kind != watchChild
		case wire.EventNodeChildrenChanged:
			return w.kind == watchChild
		}
		return true
	}
	if !c.toldUpTo(cl, r.zxid, false) {
		return
	}
	lasting := c.lastingEvent(cl, r)
	if lasting {
		c.s.probe("event of a persistent watch")
	}
	if !lasting && !slices.ContainsFunc(cl.watches, func(w clientWatch) bool { return uses(&w) && r.zxid > w.zxid }) {
		c.s.fail("S29", "client %d: event %v on %s at %v without a watch; it has %v, and lasting %v", cl.idx, r.typ, r.path, r.zxid, cl.watches, cl.lasting)
		return
	}
	cl.watches = slices.DeleteFunc(cl.watches, func(w clientWatch) bool { return uses(&w) })
	cl.lastZxid = max(cl.lastZxid, r.zxid)
}

// watchOrder checks that no answer shows a change before its event.
func (c *checker) watchOrder(cl *client, z zab.Zxid) {
	c.s.checks.safe(29)
	if !c.toldUpTo(cl, z, true) {
		return
	}
	cl.watches = slices.DeleteFunc(cl.watches, func(w clientWatch) bool {
		e := c.missed(&w, z)
		if e == nil {
			return false
		}
		if mayDo(e.acl, wire.PermRead, cl.ids) {
			c.s.fail("S29", "client %d is answered at %v, but was not told of event %v on %s at %v (watch of %v)", cl.idx, z, e.typ, e.path, e.zxid, w.zxid)
		}
		return true // used up by what the client may not know
	})
}

// withheld takes the watches that were used up by what the client may not know. An
// answer does so as well, but the last that the client has heard may be an event.
func (c *checker) withheld(cl *client) {
	cl.watches = slices.DeleteFunc(cl.watches, func(w clientWatch) bool {
		e := c.missed(&w, cl.lastZxid)
		return e != nil && !mayDo(e.acl, wire.PermRead, cl.ids)
	})
}

// missed returns the first event after a watch's registration that it is for, up to
// z; nil if there was none.
func (c *checker) missed(w *clientWatch, z zab.Zxid) *refEvent {
	n := c.ref.nodes[w.path]
	if n == nil {
		return nil
	}
	i := sort.Search(len(n.events), func(i int) bool { return c.ref.events[n.events[i]].zxid > w.zxid })
	for ; i < len(n.events); i++ {
		e := &c.ref.events[n.events[i]]
		switch {
		case e.zxid > z:
			return nil
		case e.typ == wire.EventNodeDeleted, (e.typ == wire.EventNodeChildrenChanged) == (w.kind == watchChild):
			return e
		}
	}
	return nil
}

// watched takes over what an answer says of the client's watches.
func (c *checker) watched(cl *client, o *operation, r *reply) {
	switch b := o.req.body.(type) {
	case *wire.SetWatches:
		// A znode that was made and deleted meanwhile is not told of.
		for i := range cl.watches {
			if w := &cl.watches[i]; w.kind == watchExist {
				w.zxid = r.zxid
			}
		}
		for i := range cl.lasting {
			if w := &cl.lasting[i]; w.resting {
				w.resting, w.zxid = false, r.zxid
			}
		}
	case *wire.PathMode:
		if r.op == wire.OpAddWatch {
			w := lastingWatch{path: b.Path, recursive: b.Mode == wire.WatchPersistentRecursive, zxid: r.zxid}
			if !slices.ContainsFunc(cl.lasting, func(v lastingWatch) bool { return v.path == w.path && v.recursive == w.recursive }) {
				cl.lasting = append(cl.lasting, w)
			}
			return
		}
		gone := func(modes ...int32) bool { return slices.Contains(modes, b.Mode) }
		cl.watches = slices.DeleteFunc(cl.watches, func(w clientWatch) bool {
			return w.path == b.Path && (gone(wire.WatcherAny) || gone(wire.WatcherChildren) && w.kind == watchChild || gone(wire.WatcherData) && w.kind != watchChild)
		})
		cl.lasting = slices.DeleteFunc(cl.lasting, func(w lastingWatch) bool {
			return w.path == b.Path && (gone(wire.WatcherAny) || gone(wire.WatcherPersistent) && !w.recursive || gone(wire.WatcherPersistentRecursive) && w.recursive)
		})
		c.s.probe("watch given back")
	}
}
