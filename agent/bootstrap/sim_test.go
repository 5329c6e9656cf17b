package bootstrap

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/paddockio/paddock/zab"
)

// A world is hosts that gossip and decide, under a seed.
type world struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	expect int
	hosts  []*host
	trace  []string

	groups   map[*host]int         // who can reach whom
	calm     int                   // so many steps the groups stay as they are
	news     map[NodeID]record     // the newest that each node ever said
	acks     map[NodeID]Hash       // what each node ever acknowledged
	formed   map[ClusterID]*List   // all lists that were ever formed
	survivor map[ClusterID][]*host // of a formed list: whose disks are as they were
	nodes    uint64                // made so far
}

// A host is a disk and perhaps a process.
type host struct {
	name string
	role Role
	join []string

	disk Stored
	up   bool
	// seen is the memory of the process.
	seen map[NodeID]record
}

// A record is what a node said, and when.
type record struct {
	Seen
	at int
}

func newWorld(t *testing.T, seed uint64, expect int, hosts ...*host) *world {
	w := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), expect: expect, hosts: hosts,
		groups: map[*host]int{}, news: map[NodeID]record{}, acks: map[NodeID]Hash{}, formed: map[ClusterID]*List{},
		survivor: map[ClusterID][]*host{},
	}
	w.calm = w.rng.IntN(2) * 30 * len(hosts)
	for i, h := range hosts {
		w.wipe(h)
		w.groups[h] = 2 * i / len(hosts)
	}
	return w
}

func (w *world) logf(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	for _, l := range w.trace {
		w.t.Log(l)
	}
	w.t.Fatalf("seed %d: "+format, append([]any{w.seed}, args...)...)
}

// wipe gives a host a new disk.
func (w *world) wipe(h *host) {
	w.nodes++
	h.disk = Stored{Cluster: "sim"}
	h.disk.Node = NodeID{byte(w.nodes >> 8), byte(w.nodes)}
	h.up, h.seen = false, nil
	for c, list := range w.survivor {
		w.survivor[c] = slices.DeleteFunc(list, func(s *host) bool { return s == h })
	}
}

func (w *world) view(h *host) View {
	self := Host{Node: h.disk.Node, Name: h.name, Role: h.role, State: Seeking, Addr: zab.MemberAddr{Host: h.name, QuorumPort: 2888, ElectionPort: 3888}}
	if h.role == RoleAuto {
		self.Expect = w.expect
	}
	v := View{Self: self, Stored: h.disk}
	for _, n := range slices.SortedFunc(maps.Keys(h.seen), func(a, b NodeID) int { return slices.Compare(a[:], b[:]) }) {
		v.Others = append(v.Others, h.seen[n].Seen)
	}
	for _, entry := range h.join {
		j := JoinHost{Entry: entry}
		if entry == h.name {
			j.Nodes = append(j.Nodes, h.disk.Node)
		}
		for _, o := range v.Others {
			if o.Alive && o.Addr.Host == entry {
				j.Nodes = append(j.Nodes, o.Node)
			}
		}
		j.Reached = len(j.Nodes) > 0
		v.Join = append(v.Join, j)
	}
	return v
}

// act lets a host decide once and do what it decided, up to a crash.
func (w *world) act(h *host, crash bool) {
	v := w.view(h)
	d := Decide(v)
	switch d.Kind {
	case Acknowledge:
		if crash && w.rng.IntN(2) == 0 {
			w.logf("%s crashes before it stores %v", h.name, d.List)
			h.up, h.seen = false, nil
			return
		}
		if old, ok := w.acks[h.disk.Node]; ok && old != d.List.Hash() {
			w.fail("%s acknowledges %v after another list", h.name, d.List)
		}
		if h.disk.Membership != nil {
			w.fail("%s acknowledges %v as a member", h.name, d.List)
		}
		w.acks[h.disk.Node] = d.List.Hash()
		h.disk.List = d.List
		w.logf("%s acknowledges %v", h.name, d.List)
	case Form:
		seat, ok := h.disk.List.seat(h.disk.Node)
		if !ok {
			w.fail("%s forms %v without a place on it", h.name, d.List)
		}
		w.checkForm(h, d.List)
		h.disk.Membership = &Membership{d.Cluster, seat.ID, d.List.Ensemble()}
		w.logf("%s forms %v", h.name, d.List)
	case Join:
		if h.disk.Seen == (ClusterID{}) {
			h.disk.Seen = d.Cluster
		}
		if w.formed[d.Cluster] == nil {
			w.fail("%s joins an ensemble that was never formed", h.name)
		}
		if w.served(h, d.Cluster) {
			h.disk.Membership = &Membership{d.Cluster, 100, w.formed[d.Cluster].Ensemble()}
			w.logf("%s joins", h.name)
		}
	}
	if crash {
		w.logf("%s crashes", h.name)
		h.up, h.seen = false, nil
		return
	}
	v.Stored = h.disk
	w.news[h.disk.Node] = record{Seen{v.Announce(d), true}, w.news[h.disk.Node].at + 1}
}

// served reports whether a majority of the first voters can be reached with
// their disks as they were: only then somebody can be put on the list.
func (w *world) served(h *host, c ClusterID) bool {
	n := 0
	for _, s := range w.survivor[c] {
		if s.up && w.groups[s] == w.groups[h] && s.disk.Membership != nil {
			n++
		}
	}
	return n > len(w.formed[c].Seats)/2
}

func (w *world) checkForm(h *host, l *List) {
	id := l.ClusterID()
	if w.formed[id] != nil {
		return
	}
	if len(l.Seats) != w.expect {
		w.fail("%s forms %v of %d hosts, want %d", h.name, l, len(l.Seats), w.expect)
	}
	for _, s := range l.Seats {
		if w.acks[s.Node] != l.Hash() {
			w.fail("%s forms %v without %s", h.name, l, s.Name)
		}
	}
	for other, list := range w.survivor {
		if len(list) > 0 {
			w.fail("%s forms %v beside %v, of which %s survives", h.name, l, w.formed[other], list[0].name)
		}
	}
	w.formed[id] = l
	for _, s := range l.Seats {
		for _, o := range w.hosts {
			if o.disk.Node == s.Node {
				w.survivor[id] = append(w.survivor[id], o)
			}
		}
	}
}

// hear gives to what from knows, as gossip does: news of any age, and the belief
// that others are alive.
func (w *world) hear(to, from *host, all bool) {
	take := func(r record) {
		if r.Node == to.disk.Node || r.Node == (NodeID{}) {
			return
		}
		if old, ok := to.seen[r.Node]; !ok || r.at > old.at {
			to.seen[r.Node] = r
		}
	}
	r := w.news[from.disk.Node]
	take(r)
	if have, ok := to.seen[from.disk.Node]; ok {
		have.Alive = true
		to.seen[from.disk.Node] = have
	}
	if all {
		for _, r := range from.seen {
			take(r)
		}
	}
}

// step makes one random thing happen.
func (w *world) step(wipe func(*host) bool) {
	h := w.hosts[w.rng.IntN(len(w.hosts))]
	o := w.hosts[w.rng.IntN(len(w.hosts))]
	w.calm--
	switch n := w.rng.IntN(100); {
	case !h.up:
		if n < 40 {
			h.up, h.seen = true, map[NodeID]record{}
		} else if n < 45 && wipe(h) {
			w.wipe(h)
			w.logf("%s is wiped", h.name)
		}
	case n < 3:
		h.up, h.seen = false, nil
		w.logf("%s stops", h.name)
	case n < 5 && w.calm > 0:
	case n < 4:
		for _, h := range w.hosts {
			w.groups[h] = w.rng.IntN(2)
		}
	case n < 5:
		clear(w.groups)
	case n < 7: // flapping
		for id, r := range h.seen {
			r.Alive = w.rng.IntN(2) == 0
			h.seen[id] = r
		}
	case n < 55:
		if o != h && o.up && w.groups[o] == w.groups[h] {
			w.hear(h, o, w.rng.IntN(2) == 0)
		}
	case n < 62: // what nobody can reach any more is found to be dead
		for id, r := range h.seen {
			gone := !slices.ContainsFunc(w.hosts, func(o *host) bool { return o.up && o.disk.Node == id && w.groups[o] == w.groups[h] })
			r.Alive = r.Alive && !gone
			h.seen[id] = r
		}
	default:
		w.act(h, w.rng.IntN(12) == 0)
	}
}

// settle connects everybody and lets the world come to rest.
func (w *world) settle() {
	clear(w.groups)
	for _, h := range w.hosts {
		if !h.up {
			h.up, h.seen = true, map[NodeID]record{}
		}
	}
	for range 12 {
		for _, h := range w.hosts {
			w.act(h, false)
		}
		for _, h := range w.hosts {
			for id, r := range h.seen {
				r.Alive = slices.ContainsFunc(w.hosts, func(o *host) bool { return o.disk.Node == id })
				h.seen[id] = r
			}
			for _, o := range w.hosts {
				if o != h {
					w.hear(h, o, true)
				}
			}
		}
	}
}

func never(*host) bool  { return false }
func always(*host) bool { return true }

func named(role Role, join []string, names ...string) []*host {
	var list []*host
	for _, n := range names {
		list = append(list, &host{name: n, role: role, join: join})
	}
	return list
}

// TestTwoEnsemblesAreNeverFormed drives hosts through lost and old news,
// partitions, crashes between every two steps and lost disks.
func TestTwoEnsemblesAreNeverFormed(t *testing.T) {
	runs := 150 // 20,000 were run once
	abc := []string{"a", "b", "c"}
	for _, tc := range []struct {
		name   string
		expect int
		hosts  func() []*host
		wipe   func(*host) bool
		live   bool // comes to an end whatever was before
	}{
		{"three that know each other", 3, func() []*host {
			return []*host{{name: "a", role: RoleAuto, join: []string{"b", "c"}}, {name: "b", role: RoleAuto, join: []string{"a", "c"}}, {name: "c", role: RoleAuto, join: []string{"a", "b"}}}
		}, never, true},
		{"three, their disks get lost", 3, func() []*host { return named(RoleAuto, abc, abc...) }, always, false},
		{"three voters are named, three more want to vote", 3, func() []*host { return named(RoleAuto, abc, "a", "b", "c", "d", "e", "f") }, never, true},
		{"three voters are named, three more want to vote, disks get lost", 3, func() []*host { return named(RoleAuto, abc, "a", "b", "c", "d", "e", "f") }, always, false},
		{"one seed, six that would be enough for two ensembles", 3, func() []*host { return named(RoleAuto, abc[:1], "a", "b", "c", "d", "e", "f") }, never, false},
		{"a seed on each side", 2, func() []*host { return named(RoleAuto, []string{"a", "c"}, "a", "b", "c", "d") }, never, true},
		{"one seed, three and observers, other disks get lost", 3, func() []*host {
			return append(named(RoleAuto, abc[:1], abc...), named(RoleObserver, abc[:1], "x", "y")...)
		}, func(h *host) bool { return h.name != "a" }, false},
		{"one seed, three and observers", 3, func() []*host {
			return append(named(RoleAuto, abc[:1], abc...), named(RoleObserver, abc[:1], "x", "y")...)
		}, never, true},
		{"a seed that is an observer too", 2, func() []*host {
			return append(named(RoleAuto, []string{"a", "x"}, "a", "b"), named(RoleObserver, []string{"a", "x"}, "x")...)
		}, never, true},
		{"one alone", 1, func() []*host { return named(RoleAuto, nil, "a") }, never, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			formed := 0
			for seed := range uint64(runs) {
				w := newWorld(t, seed, tc.expect, tc.hosts()...)
				for range (20 + w.rng.IntN(80)) * len(w.hosts) {
					w.step(tc.wipe)
				}
				w.settle()
				formed += len(w.formed)
				if !tc.live {
					continue
				}
				for _, h := range w.hosts {
					if h.disk.Membership == nil {
						w.fail("%s is not a member at the end: %s", h.name, Decide(w.view(h)).Reason)
					}
				}
			}
			if formed < runs/100 {
				t.Errorf("only %d ensembles in %d runs: the test shows nothing", formed, runs)
			}
		})
	}
}
