package client

import (
	"context"
	"maps"
	"slices"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// An Event is a change of a znode or, with Type EventNone, of the session's
// state. Path is below the chroot. Zxid is that of the change, 0 if the server
// does not tell: before release 3.9, and for changes found after a reconnect.
type Event struct {
	Type  wire.EventType
	State wire.KeeperState
	Path  string
	Zxid  zab.Zxid
}

// The tables of one-shot watches. A watch of exists on a missing znode has its
// own, since arming it again asks another question of the server.
type tableKind uint8

const (
	dataWatches tableKind = iota
	existWatches
	childWatches
	tableKinds
)

// removedEvents are the events of RemoveWatches.
var removedEvents = [tableKinds]wire.EventType{
	wire.EventDataWatchRemoved, wire.EventDataWatchRemoved, wire.EventChildWatchRemoved,
}

// A oneShot is a watch that is still to be registered by its reply.
type oneShot struct {
	table tableKind
	path  string     // with the chroot
	ch    chan Event // gets one event and is closed
}

// A watchKey names a registration at the server.
type watchKey struct {
	path string // with the chroot
	mode int32
}

// watchTable knows what must be armed again after a reconnect, and who waits.
// Guarded by Client.mu; everything it sends is sent without blocking.
type watchTable struct {
	oneShots [tableKinds]map[string][]chan Event
	// handles has every Watch that AddWatch asked for; only those that are ready
	// are armed and get events.
	handles   map[watchKey][]*Watch
	recursive int  // keys with that mode
	isArmed   bool // false between a loss and the end of setWatches
}

func (t *watchTable) init() {
	for i := range t.oneShots {
		t.oneShots[i] = make(map[string][]chan Event)
	}
	t.handles = make(map[watchKey][]*Watch)
}

func (t *watchTable) addOneShot(w *oneShot) {
	t.oneShots[w.table][w.path] = append(t.oneShots[w.table][w.path], w.ch)
}

// fire sends e to the one-shot watches of the path in one table.
func (t *watchTable) fire(kind tableKind, path string, e Event) {
	chans := t.oneShots[kind][path]
	delete(t.oneShots[kind], path)
	for _, ch := range chans {
		ch <- e
		close(ch)
	}
}

// end ends all one-shot watches.
func (t *watchTable) end(e Event) {
	for kind, byPath := range t.oneShots {
		for path := range byPath {
			t.fire(tableKind(kind), path, e)
		}
	}
}

func (t *watchTable) addHandle(w *Watch) {
	if w.key.mode == wire.WatchPersistentRecursive && t.handles[w.key] == nil {
		t.recursive++
	}
	t.handles[w.key] = append(t.handles[w.key], w)
}

// dropHandle forgets w and reports whether it was the last one of its key.
func (t *watchTable) dropHandle(w *Watch) bool {
	hs := t.handles[w.key]
	i := slices.Index(hs, w)
	if i < 0 {
		return false
	}
	if hs = slices.Delete(hs, i, i+1); len(hs) > 0 {
		t.handles[w.key] = hs
		return false
	}
	delete(t.handles, w.key)
	if w.key.mode == wire.WatchPersistentRecursive {
		t.recursive--
	}
	return true
}

// publish sends a session event to every Watch.
func (t *watchTable) publish(e Event) {
	t.isArmed = t.isArmed && e.State == wire.StateSyncConnected
	for _, hs := range t.handles {
		for _, w := range hs {
			w.send(e)
		}
	}
}

// armed tells every Watch that from now on it gets all events again.
func (t *watchTable) armed() {
	t.isArmed = true
	t.publish(Event{Type: wire.EventNone, State: wire.StateSyncConnected})
}

func (t *watchTable) closeAll() {
	for key, hs := range t.handles {
		for _, w := range hs {
			w.closeEvents()
		}
		delete(t.handles, key)
	}
	t.recursive = 0
}

// remove ends the watches that a successful removeWatches names.
func (t *watchTable) remove(path string, kind int32, strip func(string) (string, bool)) {
	name, _ := strip(path)
	e := Event{State: wire.StateSyncConnected, Path: name}
	for table := range tableKinds {
		isChild := table == childWatches
		if kind == wire.WatcherAny || kind == wire.WatcherChildren && isChild || kind == wire.WatcherData && !isChild {
			e.Type = removedEvents[table]
			t.fire(table, path, e)
		}
	}
	e.Type = wire.EventPersistentWatchRemoved
	for _, m := range []struct{ mode, kind int32 }{
		{wire.WatchPersistent, wire.WatcherPersistent},
		{wire.WatchPersistentRecursive, wire.WatcherPersistentRecursive},
	} {
		if kind != wire.WatcherAny && kind != m.kind {
			continue
		}
		for _, w := range slices.Clone(t.handles[watchKey{path, m.mode}]) {
			if w.ready { // others are still being added, behind this removal
				t.dropHandle(w)
				w.send(e)
				w.closeEvents()
			}
		}
	}
}

// appendRearm appends the setWatches requests that arm everything again, each
// at most limit bytes unless a single path is longer, and returns how many. A
// larger one would end the connection, again and again.
func (t *watchTable) appendRearm(b []byte, since zab.Zxid, limit int) ([]byte, int) {
	t.isArmed = false
	const empty = 8 + 8 + 5*4 // header, zxid, five counts
	var (
		sw    wire.SetWatches
		size  = empty
		count int
	)
	flush := func() {
		if size == empty {
			return
		}
		sw.RelativeZxid = since
		sw.HasPersistent = len(sw.Persistent)+len(sw.PersistentRecursive) > 0
		op := wire.OpSetWatches
		if sw.HasPersistent { // servers before 3.6 do not know the other
			op = wire.OpSetWatches2
		}
		b = appendFrame(b, wire.XidSetWatches, op, &sw)
		sw, size = wire.SetWatches{}, empty
		count++
	}
	add := func(list *[]string, path string) {
		if size+4+len(path) > limit {
			flush()
		}
		*list = append(*list, path)
		size += 4 + len(path)
	}
	for i, list := range []*[]string{&sw.Data, &sw.Exist, &sw.Child} {
		for _, path := range slices.Sorted(maps.Keys(t.oneShots[i])) {
			add(list, path)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(t.handles), compareKeys) {
		if !slices.ContainsFunc(t.handles[key], func(w *Watch) bool { return w.ready }) {
			continue // its addWatch comes
		}
		if key.mode == wire.WatchPersistent {
			add(&sw.Persistent, key.path)
		} else {
			add(&sw.PersistentRecursive, key.path)
		}
	}
	flush()
	return b, count
}

func compareKeys(a, b watchKey) int {
	if a.mode != b.mode {
		return int(a.mode - b.mode)
	}
	if a.path < b.path {
		return -1
	}
	return 1
}

// fireLocked hands an event of the server to those who wait for it.
func (c *Client) fireLocked(we wire.WatcherEvent, zxid zab.Zxid) {
	t := &c.watches
	e := Event{Type: we.Type, State: we.State, Zxid: zxid}
	e.Path, _ = c.strip(we.Path)
	switch we.Type {
	case wire.EventNodeCreated, wire.EventNodeDataChanged:
		t.fire(dataWatches, we.Path, e)
		t.fire(existWatches, we.Path, e)
	case wire.EventNodeChildrenChanged:
		t.fire(childWatches, we.Path, e)
	case wire.EventNodeDeleted:
		for kind := range tableKinds {
			t.fire(kind, we.Path, e)
		}
	default:
		return
	}
	if !t.isArmed {
		return // the reader of a Watch reads everything again, once it is armed
	}
	t.send(watchKey{we.Path, wire.WatchPersistent}, e)
	if t.recursive == 0 || we.Type == wire.EventNodeChildrenChanged {
		return // the latter belongs to another watch of ours on the same path
	}
	for path := we.Path; path != ""; path = parent(path) {
		t.send(watchKey{path, wire.WatchPersistentRecursive}, e)
	}
}

func (t *watchTable) send(key watchKey, e Event) {
	for _, w := range t.handles[key] {
		w.send(e)
	}
}

// sendRemoveLocked tells the server that nobody watches any more. Nobody waits
// for the answer; if the connection breaks first there is nothing to do.
func (c *Client) sendRemoveLocked(w *Watch) {
	if c.state != wire.StateSyncConnected && c.state != wire.StateConnectedReadOnly {
		return
	}
	kind := wire.WatcherPersistent
	if w.key.mode == wire.WatchPersistentRecursive {
		kind = wire.WatcherPersistentRecursive
	}
	k := c.newCall(wire.OpRemoveWatches, w.key.path, &wire.PathMode{Path: w.key.path, Mode: kind}, nil)
	k.abandoned, k.full, k.kind = true, w.key.path, kind
	c.queue.push(k)
	c.wakeWriter()
}

// A Watch is a persistent watch: it stays until it is closed.
type Watch struct {
	c      *Client
	key    watchKey
	events chan Event // sent to and closed under Client.mu
	ready  bool       // the server knows it; guarded by Client.mu
	closed bool       // guarded by Client.mu
}

// AddWatch watches a path, which need not exist. Mode wire.WatchPersistent
// brings the four events of the znode and its list of children;
// wire.WatchPersistentRecursive the creations, deletions and data changes of the
// znode and all below it. Several watches on one path are independent here, but
// servers before 3.9 mix up different modes and one-shot watches on one path.
//
// From the return of AddWatch on no event is missed, except where the stream
// says so: see [Watch.Events].
func (c *Client) AddWatch(ctx context.Context, path string, mode int32) (*Watch, error) {
	if err := checkPath(path, false); err != nil {
		return nil, &wire.OpError{Op: wire.OpAddWatch, Path: path, Err: err}
	}
	if mode != wire.WatchPersistent && mode != wire.WatchPersistentRecursive {
		return nil, &wire.OpError{Op: wire.OpAddWatch, Path: path, Err: wire.ErrBadArguments}
	}
	full := c.full(path)
	w := &Watch{c: c, key: watchKey{full, mode}, events: make(chan Event, c.cfg.WatchQueue)}
	k := c.newCall(wire.OpAddWatch, path, &wire.PathMode{Path: full, Mode: mode}, nil)
	k.retry, k.pers = true, w
	if _, err := c.do(ctx, k); err != nil {
		return nil, err
	}
	return w, nil
}

// Events returns the events in the order of the changes. Servers have no memory
// of what a persistent watch missed, so the stream tells when something may be
// missing, by events of type EventNone: StateDisconnected and StateExpired say
// that it has stopped, StateSyncConnected that it is complete from here on, and
// the reader must read again all it wants to know. A reader that lets the
// queue run full finds a StateSyncConnected in place of what was in it.
//
// The channel is closed by Close, by RemoveWatches after an
// EventPersistentWatchRemoved, and when Run returns, after a StateClosed.
func (w *Watch) Events() <-chan Event { return w.events }

// Close ends the watch. It does not wait for the server, and always returns
// nil.
func (w *Watch) Close() error {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if w.c.watches.dropHandle(w) {
		w.c.sendRemoveLocked(w)
	}
	w.closeEvents()
	return nil
}

func (w *Watch) closeEvents() {
	if !w.closed {
		w.closed = true
		close(w.events)
	}
}

// send puts e into the queue. A full queue is emptied: the reader has to read
// everything again, so the old events are of no use.
func (w *Watch) send(e Event) {
	if w.closed || !w.ready {
		return
	}
	select {
	case w.events <- e:
		return
	default:
	}
	for {
		select {
		case <-w.events:
			continue
		default:
		}
		break
	}
	if e.Type != wire.EventNone && e.Type != wire.EventPersistentWatchRemoved {
		e = Event{Type: wire.EventNone, State: wire.StateSyncConnected}
	}
	w.events <- e // only senders fill it, and they hold the lock
}
