package checker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// Lock is the recipe of a lock: an ephemeral znode with a number; who has the
// smallest holds it and writes to a Guard.
func Lock(r *Recorder) Workload {
	g := NewGuard(r, "/lock")
	return Workload{
		Name:   "lock",
		Setup:  []Args{mkdir("/lock")},
		Worker: func(i int) Worker { return &locker{dir: "/lock", guard: g, hold: 3} },
	}
}

// Election is the recipe of an election: a lock that is held for long, whose
// holder says so in a znode.
func Election() Workload {
	return Workload{
		Name:  "election",
		Setup: []Args{mkdir("/election"), mkdir("/elected")},
		Worker: func(i int) Worker {
			return &locker{base: base{client: i}, dir: "/election", elected: "/elected", hold: 10}
		},
	}
}

// locker queues for a lock.
type locker struct {
	base
	dir     string
	guard   *Guard // nil: none
	elected string // znode that the holder writes to
	hold    int    // how often the holder does something at most

	mine    string // the own znode
	token   zab.Zxid
	lost    bool   // a create has an unknown outcome: look for the znode
	before  string // the znode to wait for
	waiting bool
	left    int // how often to do something yet
}

func (w *locker) Session(id zab.SessionID) {
	w.session = id
	w.mine, w.lost, w.waiting, w.left = "", false, false, 0
}

func (w *locker) Next(rng *rand.Rand) (Args, bool) {
	switch {
	case w.waiting && rng.IntN(20) > 0: // an event may be lost with a connection
		return Args{}, false
	case w.lost:
		return Args{Op: wire.OpGetEphemerals, Path: w.dir}, true
	case w.mine == "":
		return create(w.dir+"/n-", nil, wire.EphemeralSequential), true
	case w.left > 1:
		w.left--
		if w.guard != nil {
			w.guard.Write(w.session, w.token)
		}
		if w.elected != "" {
			return set(w.elected, w.value(), -1), true
		}
		return Args{Op: wire.OpExists, Path: w.mine}, true
	case w.left == 1:
		return remove(w.mine, -1), true
	case w.before != "" && !w.waiting:
		return Args{Op: wire.OpExists, Path: w.before, Watch: true}, true
	}
	w.waiting = false
	return list(w.dir, false), true
}

func (w *locker) Done(a *Args, r *Result) {
	switch a.Op {
	case wire.OpCreate2:
		if w.lost = r == nil; r != nil && r.Err == wire.OK {
			w.mine, w.token = r.Created, r.Stat.Czxid
		}
	case wire.OpGetEphemerals:
		if r == nil || r.Err != wire.OK {
			return
		}
		// The czxid of a znode that was made without an answer is not known: it is
		// deleted, and another one made.
		if w.lost = false; len(r.Children) > 0 {
			w.mine, w.left = r.Children[0], 1
		}
	case wire.OpDelete:
		if r != nil && (r.Err == wire.OK || r.Err == wire.ErrNoNode) {
			w.mine, w.left, w.before = "", 0, ""
		}
	case wire.OpGetChildren2:
		if r != nil && r.Err == wire.OK {
			w.look(r.Children)
		}
	case wire.OpExists:
		switch {
		case r == nil:
		case a.Path == w.mine && r.Err == wire.ErrNoNode:
			w.mine, w.left = "", 0 // the session has ended, and will learn of it
		case a.Path == w.before:
			if w.waiting = r.Err == wire.OK; !w.waiting {
				w.before = ""
			}
		}
	}
}

// look finds the place in the queue.
func (w *locker) look(names []string) {
	me := w.mine[len(w.dir)+1:]
	before := ""
	for _, name := range names {
		if name < me && name > before {
			before = name
		}
	}
	switch {
	case !slices.Contains(names, me):
		w.mine = ""
	case before == "":
		w.before, w.left = "", w.hold
	default:
		w.before = w.dir + "/" + before
	}
}

func (w *locker) Event(typ wire.EventType, path string) {
	if typ == wire.EventNone || path == w.before {
		w.before, w.waiting = "", false
	}
}

// Barrier lets clients wait for each other, twice in each round: until all have
// come, and until all have gone.
func Barrier(clients int) Workload {
	return Workload{
		Name:   "barrier",
		Setup:  []Args{mkdir("/barrier")},
		Worker: func(i int) Worker { return &barrier{base: base{client: i}, clients: clients} },
	}
}

type barrier struct {
	base
	clients int
	step    int // 0 enter, 1 wait for all, 2 leave, 3 wait for none
	waiting bool
	patient int // how often to look yet: a client may have stopped for good
}

func (w *barrier) path() string { return fmt.Sprintf("/barrier/%d", w.client) }

func (w *barrier) Session(zab.SessionID) { w.step, w.waiting = 0, false }

func (w *barrier) Next(rng *rand.Rand) (Args, bool) {
	switch {
	case w.waiting && rng.IntN(20) > 0:
		return Args{}, false
	case w.step == 0:
		return create(w.path(), nil, wire.Ephemeral), true
	case w.step == 2:
		return remove(w.path(), -1), true
	}
	return list("/barrier", true), true
}

func (w *barrier) Done(a *Args, r *Result) {
	w.waiting = false
	if r == nil {
		return
	}
	switch {
	case a.Op == wire.OpCreate2 && (r.Err == wire.OK || r.Err == wire.ErrNodeExists):
		w.step, w.patient = 1, 10
	case a.Op == wire.OpDelete && (r.Err == wire.OK || r.Err == wire.ErrNoNode):
		w.step, w.patient = 3, 10
	case a.Op == wire.OpGetChildren2 && r.Err == wire.OK:
		w.patient--
		switch {
		case w.step == 1 && (len(r.Children) >= w.clients || w.patient == 0):
			w.step = 2
		case w.step == 3 && (len(r.Children) == 0 || w.patient == 0):
			w.step = 0
		default:
			w.waiting = true
		}
	}
}

func (w *barrier) Event(typ wire.EventType, path string) {
	if typ == wire.EventNone || path == "/barrier" {
		w.waiting = false
	}
}

// Queue lets clients put items into a queue and take them, each once.
func Queue() Workload {
	return Workload{
		Name:   "queue",
		Setup:  []Args{mkdir("/queue")},
		Worker: func(i int) Worker { return &queuer{base: base{client: i}} },
	}
}

type queuer struct {
	base
	items []string // as they were listed
	read  string   // delete it next
}

func (w *queuer) Next(rng *rand.Rand) (Args, bool) {
	switch {
	case w.read != "":
		return remove(w.read, 0), true
	case len(w.items) > 0:
		return read("/queue/" + w.items[0]), true
	case rng.IntN(2) == 0:
		return create("/queue/item-", w.value(), wire.PersistentSequential), true
	}
	return list("/queue", false), true
}

func (w *queuer) Done(a *Args, r *Result) {
	switch a.Op {
	case wire.OpGetChildren2:
		if r != nil && r.Err == wire.OK {
			w.items = slices.Sorted(slices.Values(r.Children))
			w.items = w.items[:min(len(w.items), 3)]
		}
	case wire.OpGetData:
		w.items = w.items[1:]
		if r != nil && r.Err == wire.OK {
			w.read = a.Path
		}
	case wire.OpDelete:
		w.read = ""
	}
}

// Membership keeps a service's members: ephemeral znodes that come and go, also
// with their sessions, and clients that watch the list of them.
func Membership() Workload {
	return Workload{
		Name:   "membership",
		Setup:  []Args{mkdir("/members"), mkdir("/members/service")},
		Worker: func(i int) Worker { return &member{base: base{client: i}} },
	}
}

type member struct {
	base
	there   []string
	changed bool
}

func (w *member) Session(id zab.SessionID) { w.session, w.there, w.changed = id, nil, true }

func (w *member) Next(rng *rand.Rand) (Args, bool) {
	if w.client%3 == 0 { // a consumer
		if !w.changed && rng.IntN(20) > 0 {
			return Args{}, false
		}
		w.changed = false
		return list("/members/service", true), true
	}
	switch n := rng.IntN(20); {
	case n == 0:
		return Args{Op: wire.OpCloseSession}, true
	case n < 12 && len(w.there) < 4 || len(w.there) == 0:
		return create(fmt.Sprintf("/members/service/%s", w.value()), []byte("host:20880"), wire.Ephemeral), true
	case n < 14:
		return Args{Op: wire.OpGetEphemerals, Path: "/members"}, true
	}
	path := w.there[0]
	w.there = w.there[1:]
	return remove(path, -1), true
}

func (w *member) Done(a *Args, r *Result) {
	switch {
	case a.Op == wire.OpCreate2 && (r == nil || r.Err == wire.OK):
		w.there = append(w.there, a.Path)
	case a.Op == wire.OpGetChildren2 && (r == nil || r.Err != wire.OK):
		w.changed = true
	}
}

func (w *member) Event(typ wire.EventType, path string) { w.changed = true }

// Follow keeps a small subtree changing, while some clients mirror it with
// one-shot watches.
func Follow() Workload {
	return Workload{
		Name:  "follow",
		Setup: []Args{mkdir("/follow")},
		Worker: func(i int) Worker {
			if i%2 == 0 {
				return &Follower{dir: "/follow", Mirror: map[string]Mirrored{}, todo: map[string]bool{"/follow": true}}
			}
			return &changer{base: base{client: i}}
		},
	}
}

type changer struct{ base }

func (w *changer) Next(rng *rand.Rand) (Args, bool) {
	path := fmt.Sprintf("/follow/%d", rng.IntN(5))
	switch rng.IntN(4) {
	case 0:
		return create(path, w.value(), wire.Persistent), true
	case 1:
		return remove(path, -1), true
	}
	return set(path, w.value(), -1), true
}

func (w *changer) Done(*Args, *Result) {}

// A Follower mirrors the children of a znode. Its mirror never goes back, and when
// nothing has changed for a while it is what the tree holds.
type Follower struct {
	dir    string
	Mirror map[string]Mirrored // by path
	Fault  string              // says how the mirror went back; "" if it never did
	todo   map[string]bool     // paths to read
}

// Mirrored is the state of a znode as a Follower knows it.
type Mirrored struct {
	Mzxid zab.Zxid
	Value string
}

// Session implements Worker: the watches of the session before are gone.
func (w *Follower) Session(zab.SessionID) { w.Event(wire.EventNone, "") }

// Next implements Worker.
func (w *Follower) Next(rng *rand.Rand) (Args, bool) {
	paths := make([]string, 0, len(w.todo))
	for path := range w.todo {
		paths = append(paths, path)
	}
	if len(paths) == 0 {
		return Args{}, false
	}
	slices.Sort(paths)
	path := paths[rng.IntN(len(paths))]
	if path == w.dir {
		return list(path, true), true
	}
	return Args{Op: wire.OpGetData, Path: path, Watch: true}, true
}

// Done implements Worker.
func (w *Follower) Done(a *Args, r *Result) {
	if r == nil || r.Err != wire.OK && r.Err != wire.ErrNoNode {
		return
	}
	delete(w.todo, a.Path)
	switch {
	case r.Err == wire.ErrNoNode:
		delete(w.Mirror, a.Path)
	case a.Path == w.dir:
		for _, name := range r.Children {
			if path := w.dir + "/" + name; w.Mirror[path] == (Mirrored{}) {
				w.todo[path] = true
			}
		}
	default:
		if was := w.Mirror[a.Path]; r.Stat.Mzxid < was.Mzxid {
			w.Fault = fmt.Sprintf("%s went from %v back to %v", a.Path, was.Mzxid, r.Stat.Mzxid)
		}
		w.Mirror[a.Path] = Mirrored{r.Stat.Mzxid, string(r.Value)}
	}
}

// Event implements Worker.
func (w *Follower) Event(typ wire.EventType, path string) {
	if typ == wire.EventNone {
		w.todo[w.dir] = true
		for path := range w.Mirror {
			w.todo[path] = true
		}
		return
	}
	if path == w.dir || strings.HasPrefix(path, w.dir+"/") {
		w.todo[path] = true
	}
}

// Mixed does anything with few znodes, so that clients meet: refused operations,
// multis, ACLs, containers, and watches of all kinds.
func Mixed() Workload {
	return Workload{
		Name:   "mixed",
		Setup:  []Args{mkdir("/mixed")},
		Worker: func(i int) Worker { return &mixer{base: base{client: i}} },
	}
}

type mixer struct {
	base
	watch Args // the removal of the last watch that was set
}

func (w *mixer) Done(a *Args, r *Result) {
	switch {
	case r == nil || r.Err != wire.OK:
	case a.Op == wire.OpAddWatch:
		w.watch = Args{Op: wire.OpRemoveWatches, Path: a.Path, What: wire.WatcherPersistent + a.What}
	case !a.Watch:
	case a.Op == wire.OpGetChildren || a.Op == wire.OpGetChildren2:
		w.watch = Args{Op: wire.OpRemoveWatches, Path: a.Path, What: wire.WatcherChildren}
	default:
		w.watch = Args{Op: wire.OpRemoveWatches, Path: a.Path, What: wire.WatcherData}
	}
}

func (w *mixer) Next(rng *rand.Rand) (Args, bool) {
	dir := fmt.Sprintf("/mixed/%d", rng.IntN(2))
	path := fmt.Sprintf("%s/%d", dir, rng.IntN(4))
	version := int32(-1)
	if rng.IntN(2) == 0 {
		version = rng.Int32N(4)
	}
	watched := rng.IntN(2) == 0
	switch n := rng.IntN(40); {
	case n < 3:
		return create(dir, nil, wire.Persistent), true
	case n < 4:
		return create(dir, nil, wire.Container), true
	case n < 5:
		return remove(dir, -1), true
	case n < 9:
		return create(path, w.value(), wire.Persistent), true
	case n < 11:
		return create(path, w.value(), wire.Ephemeral), true
	case n < 13:
		return create(dir+"/s", nil, wire.EphemeralSequential), true
	case n < 18:
		return set(path, w.value(), version), true
	case n < 22:
		return remove(path, version), true
	case n < 24:
		a := Args{Op: wire.OpSetACL, Path: path, Version: version}
		if rng.IntN(3) == 0 {
			a.ACL = []wire.ACL{{Perms: wire.PermAll &^ wire.PermRead, ID: wire.ID{Scheme: "world", ID: "anyone"}}}
		}
		return a, true
	case n < 27:
		sub := []Args{
			create(path, w.value(), wire.Persistent), set(fmt.Sprintf("%s/%d", dir, rng.IntN(4)), w.value(), version),
			{Op: wire.OpCheck, Path: dir, Version: -1}, remove(path, version), create(dir+"/m", nil, wire.EphemeralSequential),
		}
		rng.Shuffle(len(sub), func(i, j int) { sub[i], sub[j] = sub[j], sub[i] })
		return Args{Op: wire.OpMulti, Sub: sub[:1+rng.IntN(len(sub))]}, true
	case n < 29:
		return Args{Op: wire.OpGetData, Path: path, Watch: watched}, true
	case n < 32:
		return Args{Op: wire.OpExists, Path: path, Watch: watched}, true
	case n < 34:
		return list(dir, watched), true
	case n < 35:
		return Args{Op: wire.OpGetChildren, Path: path, Watch: watched}, true
	case n < 36:
		return Args{Op: wire.OpGetACL, Path: path}, true
	case n < 37:
		return Args{Op: wire.OpAddWatch, Path: dir, What: rng.Int32N(2)}, true
	case n < 38:
		if w.watch.Path != "" && rng.IntN(4) > 0 {
			a := w.watch
			w.watch = Args{}
			return a, true
		}
		return Args{Op: wire.OpRemoveWatches, Path: []string{dir, path}[rng.IntN(2)], What: 1 + rng.Int32N(5)}, true
	case n < 39:
		return Args{Op: wire.OpMultiRead, Sub: []Args{read(path), {Op: wire.OpGetChildren, Path: dir}}}, true
	default:
		return Args{Op: wire.OpSync, Path: path}, true
	}
}
