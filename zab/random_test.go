package zab

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
)

var randomSeeds = flag.Int("zab.seeds", 60, "how many random histories TestRandomHistories plays")

// TestRandomHistories lets things go wrong at random between steps that are not
// atomic, and checks after each that the invariants hold; in the end the servers
// that are left must agree.
func TestRandomHistories(t *testing.T) {
	for seed := range *randomSeeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomHistory(t, uint64(seed)) })
	}
}

func randomHistory(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t)
	voters := []ServerID{1, 2, 3, 4, 5}[:3+2*rnd.IntN(2)]
	list := listOf(0, voters, []ServerID{9})
	for _, m := range list.Members {
		h := w.add(m.ID, list, []int{1, 3, 100}[rnd.IntN(3)])
		h.cfg.Rand = rnd.Int64N
		w.start(h, false)
	}
	someone := func() *host { return w.hosts[rnd.IntN(len(w.hosts))] }
	for range 400 {
		h, o := someone(), someone()
		pair := [2]ServerID{h.id, o.id}
		switch rnd.IntN(17) {
		case 0:
			if h.node != nil && rnd.IntN(3) == 0 {
				w.crash(h)
			}
		case 1, 2:
			if h.node == nil {
				w.start(h, false)
			}
		case 3, 4, 5:
			if h.node != nil && h.node.Phase() == Broadcast && h.node.Role() == Leading {
				if err := w.propose(h, 1+rnd.IntN(3), nil); err != nil {
					t.Fatal(err)
				}
			}
		case 6:
			h.slow = !h.slow
		case 7, 8:
			for range rnd.IntN(4) {
				if h.node != nil && len(h.work) > 0 {
					w.sync(h)
				}
			}
		case 9:
			if w.held[pair] = !w.held[pair]; !w.held[pair] {
				delete(w.held, pair)
			}
		case 10:
			for _, x := range w.wires {
				for i := range x.ends {
					if x.ends[i] == h {
						w.deliverNow(x, i)
					}
				}
			}
		case 11:
			if len(w.wires) > 0 && rnd.IntN(3) == 0 {
				w.sever(w.wires[rnd.IntN(len(w.wires))])
			}
		case 12:
			if h != o && rnd.IntN(3) == 0 {
				w.cut[[2]ServerID{min(h.id, o.id), max(h.id, o.id)}] = "all"
			} else {
				clear(w.cut)
			}
		case 13:
			h.logs = h.last() // purged: only the snapshot is left
		case 14:
			w.pass(Millis(rnd.IntN(3000)))
		case 15:
			w.pass(Millis(rnd.IntN(300)))
		case 16:
			for _, h := range w.hosts {
				n := h.node
				if n == nil || n.Role() != Leading || n.Phase() != Broadcast || n.lastSeen != n.ensemble {
					continue
				}
				perm := rnd.Perm(len(w.hosts))
				var ids []ServerID
				for _, i := range perm {
					ids = append(ids, w.hosts[i].id)
				}
				cut := 2 + rnd.IntN(len(ids)-2)
				if e := listOf(0, ids[:cut], ids[cut:]); n.QuorumSynced(e) && rnd.IntN(4) == 0 {
					if err := w.propose(h, 1, e); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for range rnd.IntN(5) {
			w.pumpOnce()
		}
	}
	clear(w.cut)
	clear(w.held)
	for _, h := range w.hosts {
		h.slow = false
		if h.node == nil {
			w.start(h, false)
		}
	}
	w.pass(40_000)
	var leader *host
	for _, h := range w.hosts {
		if h.node.Phase() != Broadcast {
			for _, o := range w.hosts {
				w.logf("%d in force %v seen %v", o.id, o.node.ensemble.Lines(), o.node.lastSeen.Lines())
			}
			t.Fatalf("server %d: %+v\n%s", h.id, h.node.Status(), w.log.String())
		}
		if h.node.Role() == Leading {
			leader = h
		}
	}
	if err := w.propose(leader, 1, nil); err != nil {
		t.Fatal(err)
	}
	w.pass(1000)
	for _, h := range w.hosts {
		if len(h.tree) != len(leader.tree) || h.last() != leader.last() {
			t.Fatalf("server %d has %d transactions to %v, the leader %d to %v\n%s", h.id, len(h.tree), h.last(), len(leader.tree), leader.last(), w.log.String())
		}
		w.compare(h)
		if !h.node.ensemble.Equal(leader.node.ensemble) || h.node.lastSeen != h.node.ensemble {
			t.Fatalf("server %d has list %v, seen %v, the leader %v\n%s", h.id, h.node.ensemble, h.node.lastSeen, leader.node.ensemble, w.log.String())
		}
	}
}
