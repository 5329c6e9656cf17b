// Package watch keeps the watches of the connections of one server and says who
// is to be told of a change.
//
// A [Manager] is pure: no lock, no goroutine, nothing is sent. Its owner must
// register a watch in one step with the read that it belongs to, and put the
// events into the queues of the connections before any reply that shows the
// change.
package watch

import (
	"cmp"
	"slices"
	"strings"

	"github.com/paddockio/paddock/zab/wire"
)

// Mode is how a connection watches a path; modes add up (class WatcherMode).
type Mode uint8

// The modes. Data and Child end with the first event; Data is set by exists and
// getData, Child by getChildren. Persistent is told of all events of its znode
// but those of children's data, Recursive of all below it too, but never of
// NodeChildrenChanged.
const (
	Data       Mode = 1 << iota // standard mode in the data table
	Child                       // standard mode in the child table
	Persistent                  // in both tables
	Recursive                   // in the data table

	inData  = Data | Persistent | Recursive
	inChild = Child | Persistent
	allMode = Data | Child | Persistent | Recursive
)

// ModeOf returns the modes that a WatcherType of checkWatches and removeWatches
// names, false if there is no such type.
func ModeOf(watcherType int32) (Mode, bool) {
	switch watcherType {
	case wire.WatcherChildren:
		return Child, true
	case wire.WatcherData:
		return Data, true
	case wire.WatcherAny:
		return allMode, true
	case wire.WatcherPersistent:
		return Persistent, true
	case wire.WatcherPersistentRecursive:
		return Recursive, true
	}
	return 0, false
}

// Manager holds the watches of connections of type C (classes WatchManager and,
// for both tables at once, DataTree). The zero value is not ready: use New.
type Manager[C comparable] struct {
	paths map[string]*watchers[C]
	conns map[C]map[string]Mode // an empty one stays until RemoveConn

	count     int // pairs of connection and path
	recursive int // of these with Recursive
	free      []*watchers[C]
}

// watchers is who watches one path, in the order of registration. Most paths
// have few: a slice is searched; index takes over for many.
type watchers[C comparable] struct {
	path  string // all keys share these bytes
	list  []watcher[C]
	index map[C]int // nil below indexFrom
	modes Mode      // of all in list together; may say too much after a removal
}

type watcher[C comparable] struct {
	conn  C
	modes Mode
}

const indexFrom = 16

// New returns a manager without watches.
func New[C comparable]() *Manager[C] {
	return &Manager[C]{paths: map[string]*watchers[C]{}, conns: map[C]map[string]Mode{}}
}

// Add lets conn watch path in the given modes, besides those it has. path is
// copied if it is kept.
func (m *Manager[C]) Add(conn C, path string, modes Mode) {
	byPath := m.conns[conn]
	if byPath == nil {
		byPath = map[string]Mode{}
		m.conns[conn] = byPath
	}
	old := byPath[path]
	if old|modes == old {
		return
	}
	if old == 0 {
		m.count++
	}
	if modes&^old&Recursive != 0 {
		m.recursive++
	}
	w := m.paths[path]
	if w == nil {
		w = m.newWatchers()
		w.path = strings.Clone(path)
		m.paths[w.path] = w
	}
	byPath[w.path] = old | modes
	w.modes |= modes
	if at := w.find(conn); at >= 0 {
		w.list[at].modes |= modes
	} else {
		w.add(conn, modes)
	}
}

func (m *Manager[C]) newWatchers() *watchers[C] {
	if k := len(m.free); k > 0 {
		w := m.free[k-1]
		m.free = m.free[:k-1]
		return w
	}
	return &watchers[C]{}
}

func (w *watchers[C]) find(conn C) int {
	if w.index != nil {
		if at, ok := w.index[conn]; ok {
			return at
		}
		return -1
	}
	for i := range w.list {
		if w.list[i].conn == conn {
			return i
		}
	}
	return -1
}

func (w *watchers[C]) add(conn C, modes Mode) {
	w.list = append(w.list, watcher[C]{conn, modes})
	if w.index != nil {
		w.index[conn] = len(w.list) - 1
	} else if len(w.list) >= indexFrom {
		w.reindex()
	}
}

func (w *watchers[C]) reindex() {
	w.index = make(map[C]int, 2*len(w.list))
	for i := range w.list {
		w.index[w.list[i].conn] = i
	}
}

// Fire appends to the connections that are to be told of the event on path, and
// ends the watches that it uses up. Each connection comes once, in the order in
// which the watches were made, those on path before those on its parents.
//
// The events of a change are fired one by one: for a create NodeCreated of the
// znode, then NodeChildrenChanged of its parent; for a delete NodeDeleted, which
// covers data and child watches, then NodeChildrenChanged of the parent; for
// setData NodeDataChanged.
func (m *Manager[C]) Fire(typ wire.EventType, path string, to []C) []C {
	if m.count == 0 {
		return to
	}
	var modes Mode // that the event concerns
	switch typ {
	case wire.EventNodeCreated, wire.EventNodeDataChanged:
		modes = inData
	case wire.EventNodeDeleted:
		modes = inData | inChild
	case wire.EventNodeChildrenChanged:
		modes = inChild
	default:
		return to
	}
	first := len(to)
	if w := m.paths[path]; w != nil && w.modes&modes != 0 {
		to = m.fireAt(w, modes, to)
	}
	if m.recursive == 0 || modes&Recursive == 0 {
		return to
	}
	for parent := path; parent != "/"; {
		parent = parentOf(parent)
		w := m.paths[parent]
		if w == nil || w.modes&Recursive == 0 {
			continue
		}
		told := to[first:] // one event per connection, however many watches match
		var seen map[C]struct{}
		if len(told) > indexFrom {
			seen = make(map[C]struct{}, len(told))
			for _, c := range told {
				seen[c] = struct{}{}
			}
		}
		for i := range w.list {
			c := &w.list[i]
			if c.modes&Recursive == 0 {
				continue
			}
			if seen != nil {
				if _, ok := seen[c.conn]; ok {
					continue
				}
			} else if slices.Contains(told, c.conn) {
				continue
			}
			to = append(to, c.conn)
		}
	}
	return to
}

// fireAt appends the watchers of path in one of the modes and takes away the
// standard modes among them.
func (m *Manager[C]) fireAt(w *watchers[C], modes Mode, to []C) []C {
	path := w.path // not the event's, whose bytes the caller may use again
	kept, left := 0, Mode(0)
	once := modes & (Data | Child)
	for i := range w.list {
		c := w.list[i]
		if c.modes&modes != 0 {
			to = append(to, c.conn)
			if c.modes&once != 0 {
				c.modes &^= once
				m.setConn(c.conn, path, c.modes)
				if c.modes == 0 {
					if w.index != nil {
						delete(w.index, c.conn)
					}
					continue
				}
			}
		}
		w.list[kept] = c
		if w.index != nil && kept != i {
			w.index[c.conn] = kept
		}
		left |= c.modes
		kept++
	}
	clear(w.list[kept:])
	w.list, w.modes = w.list[:kept], left
	if kept == 0 {
		m.dropPath(path, w)
	}
	return to
}

// setConn changes the modes of conn on path, which are other ones now, in the
// table of the connections. Recursive changes are the caller's to count.
func (m *Manager[C]) setConn(conn C, path string, modes Mode) {
	byPath := m.conns[conn]
	if modes != 0 {
		byPath[path] = modes // takes the key too: path must be the table's own
		return
	}
	delete(byPath, path)
	m.count--
}

func (m *Manager[C]) dropPath(path string, w *watchers[C]) {
	delete(m.paths, path)
	// Tables of a path that everybody watched are too large to keep.
	if cap(w.list) <= indexFrom && len(m.free) < 1024 {
		*w = watchers[C]{list: w.list[:0]}
		m.free = append(m.free, w)
	}
}

func parentOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		return path[:i]
	}
	return "/"
}

// Remove ends the given modes of conn on path; it returns false if conn watches
// path in none of them.
func (m *Manager[C]) Remove(conn C, path string, modes Mode) bool {
	old := m.conns[conn][path]
	if old&modes == 0 {
		return false
	}
	path = m.paths[path].path // its bytes stay
	m.drop(conn, path, old, modes)
	m.setConn(conn, path, old&^modes)
	return true
}

// drop takes modes away in the table of the paths.
func (m *Manager[C]) drop(conn C, path string, old, modes Mode) {
	if old&modes&Recursive != 0 {
		m.recursive--
	}
	w := m.paths[path]
	at := w.find(conn)
	if w.list[at].modes &^= modes; w.list[at].modes != 0 {
		return
	}
	// The order of the others stays, unless they are so many that it costs.
	last := len(w.list) - 1
	if w.index == nil {
		w.list = slices.Delete(w.list, at, at+1)
	} else {
		w.list[at] = w.list[last]
		w.index[w.list[at].conn] = at
		delete(w.index, conn)
		w.list[last] = watcher[C]{}
		w.list = w.list[:last]
	}
	if len(w.list) == 0 {
		m.dropPath(path, w)
	}
}

// RemoveConn ends all watches of a connection. It must be called for each
// connection that is gone.
func (m *Manager[C]) RemoveConn(conn C) {
	byPath := m.conns[conn]
	for path, modes := range byPath {
		m.drop(conn, path, modes, allMode)
	}
	m.count -= len(byPath)
	delete(m.conns, conn)
}

// Contains reports whether conn watches path in one of the modes.
func (m *Manager[C]) Contains(conn C, path string, modes Mode) bool {
	return m.conns[conn][path]&modes != 0
}

// Len returns the number of pairs of a connection and a path that it watches.
func (m *Manager[C]) Len() int { return m.count }

// Paths returns the number of paths that are watched.
func (m *Manager[C]) Paths() int { return len(m.paths) }

// Conns returns the number of connections that watch something.
func (m *Manager[C]) Conns() int {
	n := 0
	for _, byPath := range m.conns {
		if len(byPath) > 0 {
			n++
		}
	}
	return n
}

// ConnLen returns the number of paths that conn watches.
func (m *Manager[C]) ConnLen(conn C) int { return len(m.conns[conn]) }

// Watch is one line of the table of watches.
type Watch[C comparable] struct {
	Path  string
	Conn  C
	Modes Mode
}

// All lists the watches in the order of their paths, then of registration.
func (m *Manager[C]) All() []Watch[C] {
	all := make([]Watch[C], 0, m.count)
	for path, w := range m.paths {
		for _, c := range w.list {
			all = append(all, Watch[C]{path, c.conn, c.modes})
		}
	}
	slices.SortStableFunc(all, func(a, b Watch[C]) int { return cmp.Compare(a.Path, b.Path) })
	return all
}
