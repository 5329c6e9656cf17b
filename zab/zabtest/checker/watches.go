package checker

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/watch"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// Watches are checked per connection, because servers forget them with it. The
// replay notes the changes of everything that anybody watches; then each
// connection's entries are read once, in order, with a heap of the events that are
// due next. An event must be the one due, and no reply may show a change whose
// event is due (rules W-a to W-h).

// feedKey is something that can be watched: a path in one mode.
type feedKey struct {
	path string
	mode watch.Mode
}

// change is an event of the tree.
type change struct {
	zxid zab.Zxid
	seq  int32 // order of all events of the tree that are noted
	typ  wire.EventType
	path string
	acl  []wire.ACL
}

// rearmed is what a setWatches must do.
type rearmed struct {
	missed []missed  // events that it must cause
	armed  []feedKey // watches that it must set
}

type missed struct {
	typ  wire.EventType
	path string
}

// concerns reports whether a watch of a mode on its own path is told of an event.
func concerns(mode watch.Mode, typ wire.EventType) bool {
	switch typ {
	case wire.EventNodeCreated, wire.EventNodeDataChanged:
		return mode != watch.Child
	case wire.EventNodeDeleted:
		return true
	case wire.EventNodeChildrenChanged:
		return mode == watch.Child || mode == watch.Persistent
	}
	return false
}

func oneShot(mode watch.Mode) bool { return mode == watch.Data || mode == watch.Child }

// registered calls add for each watch that an answered request may set.
func registered(e *Entry, add func(path string, mode watch.Mode)) {
	if e.Kind != Request || !e.Known() {
		return
	}
	switch e.Op {
	case wire.OpGetData, wire.OpExists:
		if e.Watch && (e.Err == wire.OK || e.Op == wire.OpExists && e.Err == wire.ErrNoNode) {
			add(e.Path, watch.Data)
		}
	case wire.OpGetChildren, wire.OpGetChildren2:
		if e.Watch && e.Err == wire.OK {
			add(e.Path, watch.Child)
		}
	case wire.OpAddWatch:
		if e.Err != wire.OK {
			return
		}
		if e.What == wire.WatchPersistentRecursive {
			add(e.Path, watch.Recursive)
		} else {
			add(e.Path, watch.Persistent)
		}
	}
}

// rearmLists are the lists of a setWatches.
func rearmLists(s *wire.SetWatches) [5]rearmList {
	return [5]rearmList{
		{s.Data, watch.Data, znode.CatchUpData}, {s.Exist, watch.Data, znode.CatchUpExist}, {s.Child, watch.Child, znode.CatchUpChild},
		{s.Persistent, watch.Persistent, noCatchUp}, {s.PersistentRecursive, watch.Recursive, noCatchUp},
	}
}

type rearmList struct {
	paths []string
	mode  watch.Mode
	kind  znode.CatchUpKind
}

const noCatchUp znode.CatchUpKind = 0xff

// collectFeeds finds what is watched in the whole history, so that the replay
// notes the changes of nothing else.
func (r *run) collectFeeds() {
	r.feeds = map[feedKey]*[]change{}
	r.rearmed = map[int]rearmed{}
	watched := func(path string, mode watch.Mode) {
		if key := (feedKey{path, mode}); r.feeds[key] == nil {
			r.feeds[key] = &[]change{}
			r.recursive = r.recursive || mode == watch.Recursive
		}
	}
	for _, e := range r.h.Entries {
		registered(e, watched)
		if e.Rearm != nil {
			for _, l := range rearmLists(e.Rearm) {
				for _, path := range l.paths {
					watched(path, l.mode)
				}
			}
		}
	}
}

// collect notes the events of a transaction.
func (r *run) collect(z zab.Zxid, events []znode.Event) {
	if len(r.feeds) == 0 {
		return
	}
	for i := range events {
		ev := &events[i]
		r.changes++
		c := change{z, r.changes, ev.Type, ev.Path, ev.ACL}
		for _, mode := range []watch.Mode{watch.Data, watch.Child, watch.Persistent} {
			if feed := r.feeds[feedKey{ev.Path, mode}]; feed != nil && concerns(mode, ev.Type) {
				*feed = append(*feed, c)
			}
		}
		if !r.recursive || ev.Type == wire.EventNodeChildrenChanged {
			continue
		}
		for path := ev.Path; ; {
			if feed := r.feeds[feedKey{path, watch.Recursive}]; feed != nil {
				*feed = append(*feed, c)
			}
			if path == "/" {
				break
			}
			path = path[:max(strings.LastIndexByte(path, '/'), 1)]
		}
	}
}

// rearm notes what a setWatches must do, by the tree as it is at the zxid of its
// answer.
func (p *player) rearm(i int, e *Entry) {
	if e.Err != wire.OK || e.Rearm == nil {
		return
	}
	var res rearmed
	for _, l := range rearmLists(e.Rearm) {
		for _, path := range l.paths {
			typ := wire.EventNone
			if l.kind != noCatchUp {
				typ = p.t.CatchUp(e.Rearm.RelativeZxid, path, l.kind)
			}
			if typ != wire.EventNone {
				res.missed = append(res.missed, missed{typ, path})
			} else {
				res.armed = append(res.armed, feedKey{path, l.mode})
			}
		}
	}
	p.rearmed[i] = res
}

// watcher is a watch of a connection.
type watcher struct {
	key  feedKey
	by   *Entry   // who set it
	feed []change // what it is to be told of yet
	at   int      // place in the heap, -1 if the feed is empty
}

// due is the change that the watch must be told of next.
func (w *watcher) due() *change { return &w.feed[0] }

// dueHeap holds the watches with something due, the earliest first.
type dueHeap []*watcher

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due().seq < h[j].due().seq }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	w := x.(*watcher)
	w.at = len(*h)
	*h = append(*h, w)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	w := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	w.at = -1
	return w
}

// watchView is a connection as its watches see it.
type watchView struct {
	r       *run
	byKey   map[feedKey]*watcher
	heap    dueHeap
	shown   floor    // the largest zxid of replies and events
	rearms  []*Entry // its setWatches that were not answered so far
	pending []*Entry // events that only the first of these can explain
}

// watches reads the connections.
func (r *run) watches() {
	if r.full() {
		return
	}
	end := r.opt.End
	views := map[int]*watchView{}
	view := func(conn int) *watchView {
		v := views[conn]
		if v == nil {
			v = &watchView{r: r, byKey: map[feedKey]*watcher{}}
			views[conn] = v
		}
		return v
	}
	for _, e := range r.h.Entries {
		if e.Rearm != nil {
			v := view(e.Conn)
			v.rearms = append(v.rearms, e)
		}
		if r.opt.End == 0 {
			end = max(end, e.Call)
		}
		if r.opt.End == 0 && e.Known() {
			end = max(end, e.Return)
		}
	}
	clock := r.knowledge()
	for i, e := range r.h.Entries {
		if r.full() {
			return
		}
		switch {
		case e.Kind == Event:
			r.report.Events++
			view(e.Conn).event(e, clock)
		case e.Kind == Request && e.Known():
			view(e.Conn).reply(i, e)
		case e.Kind == Disconnect:
			view(e.Conn).end(clock, e.Call)
			delete(views, e.Conn)
		}
	}
	for _, conn := range slices.Sorted(maps.Keys(views)) {
		views[conn].end(clock, end)
	}
}

// knowledge lists when the zxids became known that were the largest then.
func (r *run) knowledge() []sighting {
	if r.opt.WatchBound == 0 {
		return nil
	}
	var all, list []sighting
	for _, e := range r.h.Entries {
		if e.Known() && e.Zxid > 0 {
			all = append(all, sighting{e.Return, floor{e.Zxid, e}})
		}
	}
	slices.SortStableFunc(all, func(a, b sighting) int { return cmp.Compare(a.at, b.at) })
	for _, s := range all {
		if len(list) == 0 || s.zxid > list[len(list)-1].zxid {
			list = append(list, s)
		}
	}
	return list
}

// overdue reports whether a watch had to be told of its change before a time
// (rule W-d), and who knew of the change first.
func (v *watchView) overdue(w *watcher, clock []sighting, at Time) (*Entry, bool) {
	i, _ := slices.BinarySearchFunc(clock, w.due().zxid, func(s sighting, z zab.Zxid) int { return cmp.Compare(s.zxid, z) })
	if i == len(clock) {
		return nil, false
	}
	return clock[i].by, max(clock[i].at, w.by.Return)+v.r.opt.WatchBound < at
}

// reply checks that all events of what an answer may show have come, and follows
// the watches that it sets or removes.
func (v *watchView) reply(i int, e *Entry) {
	r := v.r
	if e.Zxid > 0 {
		if v.shown.by != nil && v.shown.by.Kind == Event && e.Zxid < v.shown.zxid {
			r.fail("W-a", e.Zxid, entries(v.shown.by, e), "the answer is of %v, which is before the event of %v that came first", e.Zxid, v.shown.zxid)
		}
		v.shown.raise(e.Zxid, e)
	}
	for len(v.heap) > 0 && v.heap[0].due().zxid <= e.Zxid {
		w := v.heap[0]
		c := w.due()
		if v.allowed(c, e) {
			r.fail("W-b", c.zxid, entries(w.by, e), "the answer is of %v, but no event %v on %s of %v came, which the first watches", e.Zxid, c.typ, c.path, c.zxid)
		}
		v.consume(c.seq)
	}
	if e.Rearm != nil {
		v.rearm(i, e)
		return
	}
	if len(v.pending) > 0 {
		v.refuse(v.pending[0])
		v.pending = nil
	}
	registered(e, func(path string, mode watch.Mode) { v.add(feedKey{path, mode}, e) })
	if e.Op == wire.OpRemoveWatches || e.Op == wire.OpCheckWatches {
		v.remove(e)
	}
}

// allowed reports whether the connection may be told of a change.
func (v *watchView) allowed(c *change, at *Entry) bool {
	return v.r.opt.Config.SkipACL || znode.Allowed(c.acl, wire.PermRead, v.r.idsAt(at))
}

// add sets a watch from the state on that the answer shows.
func (v *watchView) add(key feedKey, e *Entry) {
	v.r.report.Watches++
	if v.byKey[key] != nil {
		return
	}
	w := &watcher{key: key, by: e, at: -1}
	feed := *v.r.feeds[key]
	from, _ := slices.BinarySearchFunc(feed, e.Zxid+1, func(c change, z zab.Zxid) int { return cmp.Compare(c.zxid, z) })
	w.feed = feed[from:]
	v.byKey[key] = w
	if len(w.feed) > 0 {
		heap.Push(&v.heap, w)
	}
}

// remove follows removeWatches, and compares the answer of it and of checkWatches
// with what the connection watches (rule W-g).
func (v *watchView) remove(e *Entry) {
	modes, ok := watch.ModeOf(e.What)
	if !ok || e.Err != wire.OK && e.Err != wire.ErrNoWatcher {
		return
	}
	found := false
	for _, mode := range []watch.Mode{watch.Data, watch.Child, watch.Persistent, watch.Recursive} {
		key := feedKey{e.Path, mode}
		w := v.byKey[key]
		if w == nil || mode&modes == 0 {
			continue
		}
		found = true
		if e.Err != wire.OK {
			v.r.fail("W-g", e.Zxid, entries(w.by, e), "the answer is %v, but there is the watch of the first", e.Err)
			return
		}
		if e.Op == wire.OpRemoveWatches {
			delete(v.byKey, key)
			if w.at >= 0 {
				heap.Remove(&v.heap, w.at)
			}
		}
	}
	if !found && e.Err == wire.OK {
		v.r.fail("W-g", e.Zxid, entries(e), "the connection has no such watch")
	}
}

// consume takes changes up to one from all watches that they are due at: an event
// is for all of them.
func (v *watchView) consume(seq int32) {
	for len(v.heap) > 0 && v.heap[0].due().seq <= seq {
		v.advance(v.heap[0])
	}
}

// advance takes what is due at a watch.
func (v *watchView) advance(w *watcher) {
	if oneShot(w.key.mode) {
		heap.Remove(&v.heap, w.at)
		delete(v.byKey, w.key)
		return
	}
	if len(w.feed) == 1 {
		heap.Remove(&v.heap, w.at)
		w.feed = nil
		return
	}
	w.feed = w.feed[1:]
	heap.Fix(&v.heap, w.at)
}

// event checks that an event is the one that is due.
func (v *watchView) event(e *Entry, clock []sighting) {
	r := v.r
	// Changes that the connection may not be told of use up their watches.
	for len(v.heap) > 0 && !v.allowed(v.heap[0].due(), e) {
		w := v.heap[0]
		c := w.due()
		if e.Zxid > 0 && c.zxid > e.Zxid {
			break
		}
		v.consume(c.seq)
		if c.typ == e.EventType() && c.path == e.Path && (e.Zxid == 0 || e.Zxid == c.zxid) {
			r.fail("W-h", c.zxid, entries(w.by, e), "the event is of a znode that the connection may not read")
			return
		}
	}
	if w := v.find(e); w != nil {
		c := *w.due()
		if by, late := v.overdue(w, clock, e.Call); late {
			r.fail("W-d", c.zxid, entries(w.by, by, e), "the event of %v came %v ns after the second had shown the change", c.zxid, e.Call-by.Return)
		}
		v.shown.raise(c.zxid, e)
		v.consumeOne(c.seq)
		return
	}
	if len(v.rearms) > 0 && v.rearms[0].Call <= e.Call {
		v.pending = append(v.pending, e) // setWatches tells of the past
		return
	}
	v.refuse(e)
}

// find returns a watch that an event is due at: of the earliest zxid that is due,
// in any order within it.
func (v *watchView) find(e *Entry) *watcher {
	if len(v.heap) == 0 {
		return nil
	}
	z := v.heap[0].due().zxid
	if e.Zxid > 0 && e.Zxid != z {
		return nil
	}
	var best *watcher
	for _, w := range v.heap {
		c := w.due()
		if c.zxid == z && c.typ == e.EventType() && c.path == e.Path && (best == nil || c.seq < best.due().seq) {
			if best = w; w == v.heap[0] {
				break
			}
		}
	}
	return best
}

// consumeOne takes one change from all watches that it is due at.
func (v *watchView) consumeOne(seq int32) {
	for len(v.heap) > 0 && v.heap[0].due().seq == seq {
		v.advance(v.heap[0])
	}
	if len(v.heap) == 0 || v.heap[0].due().seq > seq {
		return
	}
	// An earlier change of the same zxid is still due.
	for _, w := range slices.Clone(v.heap) {
		if w.due().seq == seq {
			v.advance(w)
		}
	}
}

// refuse says why an event must not have come.
func (v *watchView) refuse(e *Entry) {
	r := v.r
	for _, w := range v.heap {
		if c := w.due(); c.typ == e.EventType() && c.path == e.Path {
			first := v.heap[0]
			d := first.due()
			if c.zxid == d.zxid {
				r.fail("W-f", e.Zxid, entries(w.by, e), "the event says %v, the change is of %v", e.Zxid, c.zxid)
			} else {
				r.fail("W-a", e.Zxid, entries(first.by, e), "the event came before %v on %s of %v, which the first watches", d.typ, d.path, d.zxid)
			}
			return
		}
	}
	var near *watcher
	for _, w := range v.byKey {
		if (w.key.path == e.Path || w.key.mode == watch.Recursive && isBelow(e.Path, w.key.path)) && (near == nil || w.by.Seq < near.by.Seq) {
			near = w
		}
	}
	switch {
	case near != nil && near.at >= 0:
		d := near.due()
		r.fail("W-f", e.Zxid, entries(near.by, e), "the first watches, but what it must be told of is %v on %s of %v", d.typ, d.path, d.zxid)
	case near != nil:
		r.fail("W-c", e.Zxid, entries(near.by, e), "nothing changed after the first had set its watch")
	default:
		r.fail("W-c", e.Zxid, entries(e), "the connection has no watch for the event")
	}
}

func isBelow(path, top string) bool {
	return path == top || top == "/" || strings.HasPrefix(path, top) && path[len(top)] == '/'
}

// rearm compares the events before the answer to a setWatches with what it had to
// tell (rule W-e), and sets the watches of which there was nothing to tell.
func (v *watchView) rearm(i int, e *Entry) {
	r := v.r
	got := v.pending
	v.pending = nil
	if len(v.rearms) > 0 {
		v.rearms = v.rearms[1:]
	}
	res := r.rearmed[i]
	for _, m := range res.missed {
		at := slices.IndexFunc(got, func(g *Entry) bool { return g.EventType() == m.typ && g.Path == m.path })
		if at < 0 {
			r.fail("W-e", e.Zxid, entries(e), "no event %v on %s came, which had changed after %v", m.typ, m.path, e.Rearm.RelativeZxid)
			continue
		}
		got = slices.Delete(got, at, at+1)
		r.report.CatchUps++
	}
	for _, g := range got {
		r.fail("W-e", e.Zxid, entries(g, e), "the event is nothing that was missed")
	}
	for _, key := range res.armed {
		v.add(key, e)
	}
}

// end looks at what is left when a connection ends.
func (v *watchView) end(clock []sighting, at Time) {
	for _, g := range v.pending {
		s := v.rearms[0].Rearm
		if !slices.Contains(s.Data, g.Path) && !slices.Contains(s.Exist, g.Path) && !slices.Contains(s.Child, g.Path) {
			v.refuse(g)
		}
	}
	for len(v.heap) > 0 {
		w := v.heap[0]
		c := *w.due()
		by, late := v.overdue(w, clock, at)
		if !late {
			return
		}
		if v.allowed(&c, w.by) {
			v.r.fail("W-d", c.zxid, entries(w.by, by), "no event %v on %s of %v came to the first, although the second had shown the change %v ns before the end", c.typ, c.path, c.zxid, at-by.Return)
			return
		}
		v.consume(c.seq)
	}
}
