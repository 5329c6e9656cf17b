package nemesis

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// A span is what a duration is drawn from.
type span struct{ min, max time.Duration }

func (s span) draw(rng *rand.Rand) time.Duration {
	return s.min + time.Duration(rng.Int64N(int64(s.max-s.min)+1))
}

// A step is one fault of a plan.
type step struct {
	kind int           // which fault
	hold time.Duration // how long it lasts
	seed uint64        // for all else that it chooses
}

// A plan is an endless sequence of steps. Kinds come in shuffled decks: each kind
// once before any comes again.
type plan struct {
	rng   *rand.Rand
	holds []span // by kind
	deck  []int
}

func newPlan(seed uint64, holds []span) *plan {
	return &plan{rng: rand.New(rand.NewPCG(seed, 0x6e656d)), holds: holds}
}

func (p *plan) next() step {
	if len(p.deck) == 0 {
		p.deck = p.rng.Perm(len(p.holds))
	}
	kind := p.deck[0]
	p.deck = p.deck[1:]
	return step{kind: kind, hold: p.holds[kind].draw(p.rng), seed: p.rng.Uint64()}
}

// TestASeedGivesAPlan that holds each kind as often as the others.
func TestASeedGivesAPlan(t *testing.T) {
	holds := []span{{0, 0}, {1, 5}, {time.Second, time.Minute}}
	a, b, c := newPlan(7, holds), newPlan(7, holds), newPlan(8, holds)
	var plans [3]strings.Builder
	counts := map[int]int{}
	for range 30 {
		s := a.next()
		counts[s.kind]++
		if h := holds[s.kind]; s.hold < h.min || s.hold > h.max {
			t.Errorf("%v is not from %v", s.hold, h)
		}
		fmt.Fprintln(&plans[0], s)
		fmt.Fprintln(&plans[1], b.next())
		fmt.Fprintln(&plans[2], c.next())
	}
	if counts[0] != 10 || counts[1] != 10 || counts[2] != 10 {
		t.Errorf("kinds came unevenly: %v", counts)
	}
	if plans[0].String() != plans[1].String() || plans[0].String() == plans[2].String() {
		t.Error("the plan does not follow from the seed")
	}
}
