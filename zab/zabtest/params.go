package zabtest

import (
	"math/rand/v2"

	"github.com/paddockio/paddock/zab"
)

// params are the ranges of one run. Each seed has its own, so that runs differ in
// kind and not only in chance.
type params struct {
	voters, observers, clients int

	tick                 zab.Millis
	initLimit, syncLimit int
	historyCount         int
	snapCount            int64
	prealloc             int64
	parallelEpochs       bool
	drift                bool
	reconfig             bool
	groups               int  // 0: heads are counted
	storm                bool // servers are restarted one by one in the end

	delayMin, delayMean, delayTailMax usec
	delayTail                         int // in 1000
	diskMin, diskMean                 usec
	transfer                          usec // of 1000 bytes of a snapshot

	faulty     usec
	faultEvery usec
	kinds      []FaultKind

	think usec
	grace usec // that clients wait while their server does not serve
	depth int
	batch usec
	dirs  int
	names int
}

func drawParams(o *Options, r *rand.Rand) params {
	pick := func(n, drawn int) int {
		switch {
		case n < 0:
			return 0
		case n > 0:
			return n
		}
		return drawn
	}
	p := params{
		voters:    pick(o.Servers, []int{3, 3, 3, 3, 3, 5, 5, 4, 1, 2}[r.IntN(10)]),
		observers: pick(o.Observers, []int{0, 0, 0, 1, 2}[r.IntN(5)]),
		clients:   pick(o.Clients, 1+r.IntN(5)),
		tick:      []zab.Millis{200, 500, 1000, 2000}[r.IntN(4)],
		initLimit: 5 + r.IntN(10), syncLimit: 2 + r.IntN(5),
		historyCount:   []int{1, 4, 20, 500}[r.IntN(4)],
		snapCount:      []int64{12, 40, 200, 1000}[r.IntN(4)],
		prealloc:       []int64{-1, 8 << 10}[r.IntN(2)],
		parallelEpochs: r.IntN(2) == 0,
		drift:          r.IntN(2) == 0,
		depth:          1 + r.IntN(4),
		dirs:           1 + r.IntN(2), names: 2 + r.IntN(6),
	}
	tick := usec(p.tick) * millisecond
	p.delayMin = usec(r.Int64N(int64(2 * millisecond)))
	p.delayMean = 100 + usec(r.Int64N(int64(tick/50)))
	if r.IntN(2) == 0 {
		p.delayTail, p.delayTailMax = 1+r.IntN(20), tick
	}
	p.diskMin = 50 + usec(r.Int64N(500))
	p.diskMean = 100 + usec(r.Int64N(int64(10*millisecond)))
	p.transfer = 1 + usec(r.Int64N(int64(5*millisecond)))
	p.think = tick/8 + usec(r.Int64N(int64(tick)))
	if r.IntN(2) == 0 {
		p.batch = usec(1 + r.Int64N(int64(5*millisecond)))
	}
	p.faulty = tick * usec(20+r.IntN(80)) // many short runs find more than few long ones
	if r.IntN(10) == 0 {
		p.faulty *= 4
	}
	if o.Faulty > 0 {
		p.faulty = usec(o.Faulty.Microseconds())
	}
	p.faultEvery = tick * usec(2+r.IntN(15))
	if o.Faults == Heavy {
		p.faultEvery = tick/2 + usec(r.Int64N(int64(2*tick)))
		p.think /= 4
	}
	for k := range faultKinds {
		if r.IntN(2) == 0 {
			p.kinds = append(p.kinds, k)
		}
	}
	if p.reconfig = r.IntN(3) == 0; p.reconfig {
		p.kinds = append(p.kinds, Reconfig, Reconfig)
	}
	if p.voters >= 3 && !p.reconfig && r.IntN(5) == 0 {
		p.groups = 1 + r.IntN(min(3, p.voters))
	}
	p.storm = r.IntN(2) == 0
	p.grace = max(tick/2, second/2) * usec(1+r.IntN(4))
	if len(p.kinds) == 0 {
		p.kinds = []FaultKind{Crash}
	}
	return p
}

// The bounds of the liveness rules, generous by the time that recovery and
// restart take here.
func (p *params) ticks(n int) usec { return usec(n) * usec(p.tick) * millisecond }

func (p *params) l1() usec { return p.ticks(p.initLimit+p.syncLimit+5) + 5*second }
func (p *params) l4() usec { return p.ticks(p.initLimit+p.syncLimit+5) + 5*second }
func (p *params) l2() usec { return p.ticks(3) + second }
func (p *params) l3() usec { return p.ticks(2*(p.initLimit+p.syncLimit)) + 5*second }
