package zabtest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/paddockio/paddock/zab"
)

// Options say what to play. The zero value is seed 0 with everything drawn by it.
type Options struct {
	Seed uint64

	// Servers is the number of voters, Observers that of servers without a vote,
	// Clients that of clients; 0: drawn by the seed (a negative number: none).
	Servers, Observers, Clients int

	// Faulty is how long faults are injected, in simulated time; 0: drawn.
	Faulty time.Duration

	// Faults is how much goes wrong.
	Faults Level

	// Plan, if not nil, is the list of faults to inject instead of one drawn by the
	// seed; Ops, if not 0, is how many operations each client asks for at most.
	// They are what Minimize cuts down.
	Plan []Fault
	Ops  int

	// Mutation is the name of a mistake that is put into the servers, to prove
	// that it is found (see Mutations); "": none.
	Mutation string

	// Trace, if not nil, is told everything, a line each.
	Trace io.Writer
}

// Level is how much goes wrong in a run.
type Level uint8

// The levels. Default is for many seeds; Heavy has several times as many faults.
const (
	Default Level = iota
	Heavy
	None
)

// A Violation is a rule that did not hold. Its name is that of the reliability
// reference, S1 to L10, or "panic".
type Violation struct {
	Rule string
	At   time.Duration
	Text string
}

func (v *Violation) Error() string { return fmt.Sprintf("%s at %v: %s", v.Rule, v.At, v.Text) }

// A Result is how a run ended.
type Result struct {
	Options   Options
	Violation *Violation // nil: all rules held
	Hash      uint64     // of all events, in order
	Events    int
	Simulated time.Duration
	Plan      []Fault // the faults that were injected
	Probes    map[string]int
	Checks    map[string]int // how often each rule was looked at
	Stats     Stats
}

// Stats count what happened.
type Stats struct {
	Writes, Reads, Syncs, Replies int // answered
	Watches, Events               int
	Clients, Ops                  int // clients, and operations of the one who asked for most
	SessionsLost                  int
	Committed                     int
	Reigns                        int // leaders that served
	Faults                        map[FaultKind]int
	Closed                        map[string]int // reasons with which links were closed
	// Elected and Served are the longest times until a leader was there, and
	// until a write was committed behind that, in the phases without faults.
	Elected, Served time.Duration
}

type phase uint8

const (
	phaseWarm phase = iota
	phaseFaulty
	phaseLive
	phaseQuiet
	phaseEnd
)

// Codes of what goes into the hash.
const (
	evRole = iota + 1
	evMessage
	evNotified
	evDisk
	evDurable
	evApply
	evClient
	evReply
	evFault
)

// sim is one run.
type sim struct {
	opt Options
	p   params

	now    usec
	seq    uint64
	events int
	queue  eventQueue
	phase  phase

	netRand, diskRand, faultRand, workRand *rand.Rand

	servers  []*server
	clients  []*client
	net      *network
	ensemble *zab.Ensemble
	check    *checker
	mutant   mutant

	hash      uint64
	trace     io.Writer
	probes    map[string]int
	plan      []Fault
	trap      *Fault             // a PrivateTail that waits for its moment
	aim       [len(aimed)]*Fault // each a BreakJob that does
	checks    checks
	stats     Stats
	violation *Violation
}

// Run plays one seed to its end, or to the first violation of a rule.
func Run(o Options) (res Result) {
	s := newSim(o)
	defer func() {
		if r := recover(); r != nil {
			s.fail("panic", "%v\n%s", r, debug.Stack())
		}
		s.closeAll()
		s.stats.Clients = len(s.clients)
		for _, c := range s.clients {
			s.stats.Ops = max(s.stats.Ops, c.ops)
		}
		s.stats.Committed = len(s.check.committed) - 1
		res = Result{
			Options: o, Violation: s.violation, Hash: s.hash, Events: s.events, Simulated: s.now.duration(),
			Plan: s.plan, Probes: s.probes, Checks: s.checks.byName(), Stats: s.stats,
		}
	}()
	s.play()
	return res
}

func (u usec) duration() time.Duration { return time.Duration(u) * time.Microsecond }

func stream(seed, n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }

func newSim(o Options) *sim {
	s := &sim{
		opt: o, trace: o.Trace, hash: 14695981039346656037, probes: map[string]int{},
		netRand: stream(o.Seed, 1), diskRand: stream(o.Seed, 2), faultRand: stream(o.Seed, 3), workRand: stream(o.Seed, 4),
		stats: Stats{Faults: map[FaultKind]int{}, Closed: map[string]int{}},
	}
	s.mutant = newMutant(o.Mutation)
	s.p = drawParams(&o, stream(o.Seed, 5))
	s.check = newChecker(s)
	s.ensemble = &zab.Ensemble{}
	for i := range s.p.voters + s.p.observers {
		id := zab.ServerID(i + 1)
		v := &server{s: s, id: id, idx: i, observer: i >= s.p.voters, rand: stream(o.Seed, uint64(100+i))}
		s.servers = append(s.servers, v)
		s.ensemble.Members = append(s.ensemble.Members, zab.Member{
			ID: id, Observer: v.observer, Addrs: []zab.MemberAddr{{Host: "s" + itoa(int64(id)), QuorumPort: 2888, ElectionPort: 3888}},
		})
	}
	s.drawGroups(stream(o.Seed, 7))
	s.check.list = s.ensemble
	for _, v := range s.servers {
		v.format()
		v.initialize()
		s.check.wiped(v)
	}
	for i := range s.p.clients {
		s.clients = append(s.clients, &client{
			s: s, idx: i, host: len(s.servers) + i, rand: stream(o.Seed, uint64(1000+i)), ids: users[i%len(users) : i%len(users)+1],
			timeout: int32(s.p.tick) * int32(2+s.workRand.IntN(8)),
		})
	}
	s.net = newNetwork(s, len(s.servers), len(s.clients))
	return s
}

// drawGroups divides the voters into groups with weights, if the seed says so. Each
// group has a server that counts.
func (s *sim) drawGroups(r *rand.Rand) {
	e := s.ensemble
	if s.p.groups == 0 {
		return
	}
	e.Groups, e.Weights = map[int][]zab.ServerID{}, map[zab.ServerID]int64{}
	for i, at := range r.Perm(s.p.voters) {
		id, g := zab.ServerID(at+1), i%s.p.groups
		e.Groups[g+1] = append(e.Groups[g+1], id)
		e.Weights[id] = int64(r.IntN(3))
		if i < s.p.groups {
			e.Weights[id] = int64(1 + r.IntN(3))
		}
	}
	s.probe("groups and weights")
}

// at plans something that happens to the world.
func (s *sim) at(t usec, do func()) {
	s.seq++
	s.queue.push(event{at: t, seq: s.seq, do: do})
}

// runTo plays until a moment, or until done says so (it may be nil).
func (s *sim) runTo(until usec, done func() bool) bool {
	for s.violation == nil && len(s.queue) > 0 && s.queue[0].at <= until {
		e := s.queue.pop()
		s.now = e.at
		s.events++
		e.do()
		if done != nil && s.violation == nil && done() {
			return true
		}
	}
	if s.violation == nil {
		s.now = until
	}
	return false
}

// fail notes the first violation; the run ends with it.
func (s *sim) fail(rule, format string, args ...any) {
	if s.violation == nil {
		s.violation = &Violation{Rule: rule, At: s.now.duration(), Text: fmt.Sprintf(format, args...)}
		s.log(nil, "VIOLATION", s.violation)
	}
}

// spotCheck compares the whole tree of some server with the transactions, now and
// then.
func (s *sim) spotCheck(r *rand.Rand) {
	if s.phase != phaseFaulty {
		return
	}
	v := s.servers[r.IntN(len(s.servers))]
	if v.up && v.tree.LastZxid() == v.view.applied.zxid && s.check.last().holds(v.view.applied) {
		s.probe("tree compared at a random moment")
		s.check.whole(v, v.tree)
	}
	s.at(s.now+usec(r.ExpFloat64()*float64(20*s.tick())), func() { s.spotCheck(r) })
}

// event puts something that happened into the hash.
func (s *sim) event(code uint64, v *server, a, b uint64) {
	h := s.hash
	id := uint64(0)
	if v != nil {
		id = uint64(v.id)
	}
	for _, x := range [...]uint64{uint64(s.now), code<<8 | id, a, b} {
		h ^= x
		h *= 0x9E3779B97F4A7C15
		h ^= h >> 29
	}
	s.hash = h
}

// probe counts that something rare has happened.
func (s *sim) probe(name string) { s.probes[name]++ }

// log writes a line of the trace.
func (s *sim) log(v *server, what string, arg any) {
	if s.trace == nil {
		return
	}
	who := "-"
	if v != nil {
		who = itoa(int64(v.id))
	}
	fmt.Fprintf(s.trace, "%12v %s %s %s\n", s.now, who, what, show(arg))
}

// show prints what stands in a trace.
func show(arg any) string {
	switch a := arg.(type) {
	case *zab.Message:
		return showMessage(a)
	case *shown:
		return fmt.Sprintf("%v %v leader %d epoch %d", a.role, a.phase, a.leader, a.epoch)
	case *reply:
		return fmt.Sprintf("-> %v %v", a.zxid, a.err)
	case zab.Closing:
		return fmt.Sprintf("link %d to %d: %v", a.Link, a.Peer, a.Reason)
	}
	return fmt.Sprint(arg)
}

var messageNames = map[zab.MessageType]string{
	zab.MsgProposal: "PROPOSAL", zab.MsgAck: "ACK", zab.MsgCommit: "COMMIT", zab.MsgPing: "PING", zab.MsgInform: "INFORM",
	zab.MsgCommitAndActivate: "COMMITANDACTIVATE", zab.MsgNewLeader: "NEWLEADER", zab.MsgFollowerInfo: "FOLLOWERINFO",
	zab.MsgUpToDate: "UPTODATE", zab.MsgDiff: "DIFF", zab.MsgTrunc: "TRUNC", zab.MsgSnap: "SNAP", zab.MsgObserverInfo: "OBSERVERINFO",
	zab.MsgLeaderInfo: "LEADERINFO", zab.MsgAckEpoch: "ACKEPOCH", zab.MsgInformAndActivate: "INFORMANDACTIVATE",
}

func showMessage(m *zab.Message) string {
	z := m.Zxid
	if m.Type == zab.MsgProposal || m.Type == zab.MsgInform {
		z = m.Proposal.Zxid
	}
	text := fmt.Sprintf("%s %v link %d", messageNames[m.Type], z, m.Link)
	if m.Type == zab.MsgAckEpoch {
		text += fmt.Sprintf(" epoch %d %v", m.Epoch, m.HasEpoch)
	}
	return text
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func (s *sim) byID(id zab.ServerID) *server {
	if id < 1 || int(id) > len(s.servers) {
		return nil
	}
	return s.servers[id-1]
}

func (s *sim) tick() usec { return usec(s.p.tick) * millisecond }

func (s *sim) diskTime() usec {
	return s.p.diskMin + usec(s.diskRand.ExpFloat64()*float64(s.p.diskMean))
}

func (s *sim) transferTime(n int) usec { return usec(n) * s.p.transfer / 1000 }

func (s *sim) drawRate() int64 {
	if !s.p.drift {
		return 1000
	}
	return 900 + s.faultRand.Int64N(201)
}

// closeAll ends the stores of the servers.
func (s *sim) closeAll() {
	for _, v := range s.servers {
		if v.store != nil {
			v.disk.Kill()
			v.store.Close()
		}
	}
}

// play goes through the phases.
func (s *sim) play() {
	s.plan = s.opt.Plan
	if s.plan == nil && s.opt.Faults != None {
		s.plan = s.drawPlan(stream(s.opt.Seed, 6))
	}
	s.phase = phaseWarm
	for _, v := range s.servers {
		v.host = true
		s.at(usec(s.workRand.Int64N(int64(s.tick()))), v.start)
	}
	for _, c := range s.clients {
		s.at(usec(s.workRand.Int64N(int64(s.tick()))), c.begin)
	}
	all := slices.Clone(s.servers)
	if !s.elects(all, "warm-up") {
		return
	}
	s.runTo(s.now+2*s.tick(), nil)

	s.phase = phaseFaulty
	begin := s.now
	for i := range s.plan {
		f := &s.plan[i]
		s.at(begin+usec(f.At.Microseconds()), func() { s.inject(f) })
	}
	s.spotCheck(stream(s.opt.Seed, 8))
	s.runTo(begin+s.p.faulty, nil)
	if s.opt.Faults == None && s.opt.Plan == nil {
		s.checks.live(5)
		if s.stats.Reigns > 1 {
			s.fail("L5", "%d leaders in a run without a fault", s.stats.Reigns)
		}
	}
	s.live()
	s.quiet()
	s.phase = phaseEnd
}
