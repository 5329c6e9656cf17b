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
	"github.com/paddockio/paddock/zab/wire"
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
	trap      *Fault // a PrivateTail that waits for its moment
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
	s.runTo(begin+s.p.faulty, nil)
	if s.opt.Faults == None && s.opt.Plan == nil && s.stats.Reigns > 1 {
		s.fail("L5", "%d leaders in a run without a fault", s.stats.Reigns)
	}
	s.live()
	s.quiet()
	s.phase = phaseEnd
}

// established reports whether a server leads and a quorum of its voters, in the
// given set, serves with it.
func (s *sim) established(in []*server) *server {
	for _, v := range in {
		if !v.up || v.paused || !v.shown.leads() {
			continue
		}
		if s.check.list.IsQuorum(func(id zab.ServerID) bool {
			u := s.byID(id)
			return u == v || slices.Contains(in, u) && u.up && u.shown.serves() && u.shown.leader == v.id && v.linked(u)
		}) {
			return v
		}
	}
	return nil
}

// elects waits for a leader among servers that nothing is wrong with (L1), and for
// a write after that (L2).
func (s *sim) elects(in []*server, where string) bool {
	begin := s.now
	limit := s.p.l1()
	if !s.runTo(begin+limit, func() bool { return s.established(in) != nil }) {
		if s.violation == nil {
			s.fail("L1", "%s: no leader after %v: %s", where, limit.duration(), s.describe(in))
		}
		return false
	}
	s.stats.Elected = max(s.stats.Elected, (s.now - begin).duration())
	begin = s.now
	want := zab.Zxid(0)
	lead := s.established(in)
	lead.submit(&request{op: wire.OpSetData, body: &wire.SetDataRequest{Path: "/", Version: -1}})
	want = s.check.last().zxid
	limit = s.p.l2()
	if !s.runTo(begin+limit, func() bool { return s.check.last().zxid > want }) {
		if s.violation == nil {
			s.fail("L2", "%s: no write was committed in %v: %s", where, limit.duration(), s.describe(in))
		}
		return false
	}
	s.stats.Served = max(s.stats.Served, (s.now - begin).duration())
	return true
}

// converges waits until servers are at one state (L3).
func (s *sim) converges(in []*server, where string) bool {
	limit := s.p.l3()
	same := func() bool {
		for _, v := range in {
			if !v.up || v.paused || !v.shown.serves() || v.view.applied != s.check.last() {
				return false
			}
		}
		return true
	}
	if same() || s.runTo(s.now+limit, same) {
		return true
	}
	if s.violation == nil {
		s.fail("L3", "%s: not at one state after %v, committed is %v: %s", where, limit.duration(), s.check.last().zxid, s.describe(in))
	}
	return false
}

// describe says what a report of a failed liveness rule needs.
func (s *sim) describe(in []*server) string {
	text := ""
	for _, v := range s.servers {
		text += fmt.Sprintf("\n  server %d: ", v.id)
		switch {
		case !slices.Contains(in, v):
			text += "not in the core; "
		case v.config == v.next:
			text += fmt.Sprintf("voters %v; ", v.config.Voters())
		default:
			text += fmt.Sprintf("voters %v, then %v; ", v.config.Voters(), v.next.Voters())
		}
		switch {
		case !s.check.list.IsVoter(v.id):
			text += "observer; "
		}
		switch {
		case !v.up:
			text += "down"
			continue
		case v.paused:
			text += "paused; "
		}
		text += fmt.Sprintf("%v, log up to %v, safe %v, applied %v, accepted %d, current %d, lost %v, %d links, disk jobs %d",
			show(&v.shown), v.view.appended.zxid, v.view.durable.zxid, v.view.applied.zxid, v.view.accepted, v.view.current, v.lost, len(v.conns), v.lanes[logLane].jobs.len())
	}
	return text
}

// live is the phase in which a core of servers must work, whatever is wrong with
// the others.
func (s *sim) live() {
	if s.violation != nil {
		return
	}
	s.phase = phaseLive
	core := s.drawCore()
	s.log(nil, "the core is", ids(core))
	s.net.mendAll()
	for _, v := range s.servers {
		if slices.Contains(core, v) {
			v.heal()
			continue
		}
		// Frozen in whatever state it is, cut off for good or not.
		v.downTill = forever
		if s.faultRand.IntN(2) == 0 {
			v.crash(true)
		} else {
			for b := range s.net.hosts {
				for p := range ports {
					s.net.sever(p, v.idx, b)
					s.net.sever(p, b, v.idx)
				}
			}
		}
	}
	// What a slow disk had begun takes its time.
	s.runTo(s.now+5*s.tick(), nil)
	if !s.elects(core, "liveness") {
		return
	}
	s.runTo(s.now+5*s.tick(), nil)
	for _, c := range s.clients {
		c.quiet = true
	}
	s.converges(core, "liveness")
}

func ids(in []*server) []zab.ServerID {
	var list []zab.ServerID
	for _, v := range in {
		list = append(list, v.id)
	}
	return list
}

// drawCore chooses a quorum of servers that have a vote, and perhaps more.
func (s *sim) drawCore() []*server {
	var core []*server
	order := s.faultRand.Perm(len(s.servers))
	isQuorum := func() bool {
		return s.everyQuorum(func(v *server) bool { return slices.Contains(core, v) && !v.lost && !v.wiped && !v.damaged })
	}
	for _, i := range order {
		v := s.servers[i]
		if v.lost || v.wiped || v.damaged {
			continue
		}
		if isQuorum() && s.faultRand.IntN(2) == 0 {
			break
		}
		core = append(core, v)
	}
	for _, i := range order {
		if v := s.servers[i]; !slices.Contains(core, v) && s.faultRand.IntN(3) == 0 {
			core = append(core, v)
		}
	}
	return core
}

// heal ends all that is wrong with a server.
func (v *server) heal() {
	v.downTill, v.slowDisk = 0, 0
	v.disk.SetCapacity(0)
	v.fullDisk = false
	v.disk.FailAt(0, nil)
	v.disk.CrashAt(0)
	v.s.net.slow[v.idx] = 0
	v.resume()
	if !v.up {
		v.host = true
		v.planRestart()
	}
}

// quiet brings everybody back, then compares all states, then all disks.
func (s *sim) quiet() {
	if s.violation != nil {
		return
	}
	s.phase = phaseQuiet
	s.net.mendAll()
	for _, v := range s.servers {
		v.heal()
	}
	for _, c := range s.clients {
		c.quiet = true
	}
	if !s.elects(s.servers, "quiescence") || !s.converges(s.servers, "quiescence") {
		return
	}
	s.compare()
	// Everything from the disks once more.
	for _, v := range s.servers {
		v.crash(s.faultRand.IntN(2) == 0)
	}
	if s.violation != nil || !s.elects(s.servers, "restart of all") || !s.converges(s.servers, "restart of all") {
		return
	}
	s.compare()
}

// compare checks that all servers hold the same, and that it is what the
// transactions make.
func (s *sim) compare() {
	for _, v := range s.servers {
		if v.tree != nil {
			s.check.whole(v, v.tree)
			s.check.digest(v, v.tree, s.check.last(), "S16")
		}
	}
}
