package zab

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// historyOf returns a history behind base with these entries, of which those up to
// committed are agreed upon.
func historyOf(base, committed Zxid, entries ...Zxid) *history {
	h := &history{keepCount: 100, keepBytes: 1 << 20}
	h.reset(base)
	for _, z := range entries {
		if err := h.append(Proposal{Zxid: z}); err != nil {
			panic(err)
		}
	}
	h.durable = h.last
	h.commit(committed)
	h.deliver(nil)
	return h
}

// TestSyncDecision goes through the cases of LearnerHandler.syncFollower and of rule
// R7, which differs where ZooKeeper has lost transactions.
func TestSyncDecision(t *testing.T) {
	// In memory: 0x300000004 (base), 5, 6 | 0x500000001, 2, 3 | 0x500000004, 5 pending.
	h := historyOf(0x300000004, 0x500000003, 0x300000005, 0x300000006, 0x500000001, 0x500000002, 0x500000003, 0x500000004, 0x500000005)
	fresh := historyOf(0, 0x100000002, 0x100000001, 0x100000002)
	none := historyOf(0, 0)
	fromApache := historyOf(0x500000000, 0x500000002, 0x500000001, 0x500000002)
	for _, tc := range []struct {
		name string
		h    *history
		p    Zxid
		want syncPlan
	}{
		{"it has all that is committed", h, 0x500000003, syncPlan{syncDiff, 0x500000003}},
		{"an element of the history", h, 0x300000005, syncPlan{syncDiff, 0x300000005}},
		{"the transaction before the first in memory", h, 0x300000004, syncPlan{syncDiff, 0x300000004}},
		{"older than what is in memory", h, 0x300000003, syncPlan{syncLocate, 0x300000003}},
		{"of an earlier epoch", h, 0x100000009, syncPlan{syncLocate, 0x100000009}},
		{"ahead, with what is not committed here either", h, 0x500000005, syncPlan{syncTrunc, 0x500000003}},
		{"ahead in our epoch", h, 0x500000009, syncPlan{syncTrunc, 0x500000003}},
		{"a tail of an epoch that went on without it", h, 0x300000007, syncPlan{syncTrunc, 0x300000006}},
		{"an epoch that is unknown here, between ours", h, 0x400000001, syncPlan{syncSnap, 0}},
		{"an epoch that is unknown here, above ours", h, 0x600000001, syncPlan{syncSnap, 0}},
		{"the mark of an epoch, none of it yet", h, 0x500000000, syncPlan{syncDiff, 0x300000006}},
		{"the mark of an epoch without transactions", h, 0x400000000, syncPlan{syncDiff, 0x300000006}},
		{"the mark of a later epoch", h, 0x600000000, syncPlan{syncDiff, 0x500000003}},
		{"the mark of an epoch older than memory", h, 0x300000000, syncPlan{syncLocate, 0x300000000}},
		{"nothing", h, 0, syncPlan{syncSnap, 0}},
		{"nothing, and we know everything", fresh, 0, syncPlan{syncDiff, 0}},
		{"something else than everything", fresh, 0x200000001, syncPlan{syncSnap, 0}},
		{"a tail behind everything", fresh, 0x100000003, syncPlan{syncTrunc, 0x100000002}},
		{"nothing on both sides", none, 0, syncPlan{syncDiff, 0}},
		{"something, and we have nothing", none, 0x100000001, syncPlan{syncSnap, 0}},
		{"the mark, and ours is a snapshot labelled so", fromApache, 0x500000000, syncPlan{syncDiff, 0x500000000}},
		{"what was before such a snapshot", fromApache, 0x300000006, syncPlan{syncLocate, 0x300000006}},
	} {
		if got := tc.h.plan(tc.p); got != tc.want {
			t.Errorf("%s: plan(%v) = %v from %v, want %v from %v", tc.name, tc.p, got.kind, got.from, tc.want.kind, tc.want.from)
		}
	}
	for _, tc := range []struct {
		name string
		p, q Zxid
		want syncPlan
	}{
		{"found", 0x300000003, 0x300000003, syncPlan{syncDiff, 0x300000003}},
		{"a tail", 0x300000003, 0x300000001, syncPlan{syncTrunc, 0x300000001}},
		{"another epoch", 0x400000003, 0x300000001, syncPlan{syncSnap, 0}},
		{"a mark", 0x400000000, 0x300000001, syncPlan{syncDiff, 0x300000001}},
		{"nothing before it, in epoch 0", 0x3, 0, syncPlan{syncSnap, 0}},
	} {
		if got := planAt(tc.p, tc.q); got != tc.want {
			t.Errorf("%s: planAt(%v, %v) = %v from %v, want %v from %v", tc.name, tc.p, tc.q, got.kind, got.from, tc.want.kind, tc.want.from)
		}
	}
}

func TestHistoryRefusesGaps(t *testing.T) {
	h := historyOf(0x100000004, 0)
	for _, z := range []Zxid{0x100000004, 0x100000006, 0x200000002, 0x200000000, 0x3} {
		if err := h.append(Proposal{Zxid: z}); !errors.Is(err, ErrZxidOrder) {
			t.Errorf("append %v behind %v: %v", z, h.last, err)
		}
	}
}

// TestHistoryKeepsItsInvariants does what nodes do with a history, in any order.
func TestHistoryKeepsItsInvariants(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		h := &history{keepCount: rnd.IntN(5), keepBytes: 100}
		h.reset(Zxid(rnd.IntN(3)))
		var delivered []Proposal
		for range 2000 {
			switch rnd.IntN(7) {
			case 0, 1:
				z := h.last + 1
				if rnd.IntN(9) == 0 {
					z = NewZxid(h.last.Epoch()+1, 1)
				}
				if err := h.append(Proposal{Zxid: z, Data: make([]byte, rnd.IntN(60))}); err != nil {
					t.Fatal(err)
				}
			case 2, 3:
				if list := h.after(h.durable); len(list) > 0 {
					h.durable = list[rnd.IntN(len(list))].Zxid
				}
			case 4, 5:
				if p := h.next(); p != nil {
					h.commit(p.Zxid)
				}
				delivered = h.deliver(delivered)
			case 6:
				if rnd.IntN(20) != 0 {
					continue
				}
				h.durable = h.last // a node only cuts a log that rests
				if q := h.floor(h.committed); q != 0 {
					tree := slices.Clone(h.after(0))
					h.truncate(q)
					for len(delivered) > 0 && delivered[len(delivered)-1].Zxid > q {
						delivered = delivered[:len(delivered)-1]
					}
					for _, p := range tree {
						if n := len(delivered); (n == 0 || delivered[n-1].Zxid < p.Zxid) && p.Zxid <= q {
							delivered = append(delivered, p) // the tree was read again
						}
					}
				}
			}
			if err := h.valid(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		for i := 1; i < len(delivered); i++ {
			if !delivered[i].Zxid.Follows(delivered[i-1].Zxid) {
				t.Fatalf("seed %d: %v delivered behind %v", seed, delivered[i].Zxid, delivered[i-1].Zxid)
			}
		}
	}
}
