package zabtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/paddockio/paddock/zab"
)

// FaultKind is what goes wrong.
type FaultKind uint8

// The kinds of faults. What happens to a server happens to the one that leads if
// Fault.Server is 0.
const (
	// Crash cuts the power of a server: what was not synced may be gone.
	Crash FaultKind = iota
	// Kill ends the process, kill -9: nothing is lost but memory.
	Kill
	// CrashInside cuts the power at the Nth operation of the disk from now.
	CrashInside
	// BreakJob cuts the power of the server that next has its disk do a job of the Nth
	// kind, in the middle of it, or lets its disk fail there.
	BreakJob
	// CrashAll cuts the power of all servers at once.
	CrashAll
	// Storm kills servers again and again for a while.
	Storm
	// Pause stops a process for a while.
	Pause
	// Isolate cuts one server off from all others.
	Isolate
	// Split cuts the servers into two parts.
	Split
	// OneWay lets nothing get from one server to another.
	OneWay
	// QuorumPortOnly cuts a server off on the quorum port only.
	QuorumPortOnly
	// ElectionPortOnly cuts a server off on the election port only.
	ElectionPortOnly
	// Swizzle cuts servers off one after another and mends them in another order.
	Swizzle
	// Reset breaks the connections of a server.
	Reset
	// SlowNet delays everything from and to a server.
	SlowNet
	// SlowDisk delays all work of a disk.
	SlowDisk
	// DiskError makes the Nth operation of a disk from now fail.
	DiskError
	// DiskFull leaves no room on a disk for a while.
	DiskFull
	// Wipe takes the disk away with the server and puts in an empty one.
	Wipe
	// Damage changes a byte of a file of a server that is down.
	Damage
	// Reconfig proposes another list of servers.
	Reconfig
	// PrivateTail lets the next proposals of a leader reach nobody, then cuts its
	// power: its log has an end that nobody knows.
	PrivateTail
	// WallJump sets a wall clock to another time.
	WallJump
	// CutClient cuts a client off from a server, or the server of a client from
	// everybody, for about as long as its clients wait for it.
	CutClient
	// MoveClients breaks all connections of clients at a server.
	MoveClients

	faultKinds
)

var faultNames = [...]string{
	"crash", "kill", "crash inside", "break job", "crash all", "storm", "pause", "isolate", "split", "one way", "quorum port", "election port",
	"swizzle", "reset", "slow net", "slow disk", "disk error", "disk full", "wipe", "damage", "reconfig", "private tail", "wall jump", "cut client", "move clients",
}

// String names the kind.
func (k FaultKind) String() string { return faultNames[k] }

// A Fault is one thing that goes wrong at one moment.
type Fault struct {
	At     time.Duration // after the beginning of the phase with faults
	Kind   FaultKind
	Server int // 1 for the first; 0: who leads then
	Peer   int
	For    time.Duration
	N      int
}

// String prints the fault as a line of a trace.
func (f *Fault) String() string {
	return fmt.Sprintf("%v: %v server %d peer %d for %v n %d", f.At, f.Kind, f.Server, f.Peer, f.For, f.N)
}

// drawPlan makes the list of faults of a seed.
func (s *sim) drawPlan(r *rand.Rand) []Fault {
	plan := []Fault{}
	for at := usec(0); ; {
		at += usec(r.ExpFloat64() * float64(s.p.faultEvery))
		if at >= s.p.faulty {
			return plan
		}
		f := Fault{
			At: at.duration(), Kind: s.p.kinds[r.IntN(len(s.p.kinds))],
			Server: r.IntN(len(s.servers) + 1), Peer: 1 + r.IntN(len(s.servers)+len(s.clients)),
			For: usec(r.ExpFloat64() * float64(4*s.tick())).duration(), N: 1 + r.IntN(20),
		}
		if r.IntN(8) == 0 {
			f.For *= 5
		}
		plan = append(plan, f)
	}
}

// target is the server that a fault happens to.
func (s *sim) target(f *Fault) *server {
	if f.Server > 0 && f.Server <= len(s.servers) {
		return s.servers[f.Server-1]
	}
	for _, v := range s.servers {
		if v.up && v.shown.role == zab.Leading {
			return v
		}
	}
	return s.servers[0]
}

// inject lets a fault happen.
func (s *sim) inject(f *Fault) {
	if s.phase != phaseFaulty {
		return
	}
	v := s.target(f)
	span := usec(f.For.Microseconds())
	s.stats.Faults[f.Kind]++
	s.event(evFault, v, uint64(f.Kind), uint64(f.N))
	s.log(v, "FAULT", f)
	undo := func(do func()) { s.heal(s.now+span, do) }
	switch f.Kind {
	case Crash, Kill:
		v.downTill = s.now + span
		v.crash(f.Kind == Crash)
	case CrashInside:
		v.disk.CrashAt(f.N)
	case BreakJob:
		s.aim[f.N%len(aimed)] = f
	case CrashAll:
		for _, v := range s.servers {
			v.downTill = s.now + span/4
			v.crash(true)
		}
	case Storm:
		s.storm(s.now+span, f)
	case Pause:
		v.pause()
		undo(v.resume)
	case Isolate:
		s.cutOff(v, quorumPort, undo)
		s.cutOff(v, electionPort, undo)
		if f.N%2 == 0 {
			s.cutOff(v, clientPort, undo)
		}
	case QuorumPortOnly:
		s.cutOff(v, quorumPort, undo)
	case ElectionPortOnly:
		s.cutOff(v, electionPort, undo)
	case Split:
		for a := range s.servers {
			for b := range s.servers {
				if (f.N>>(a%5)^f.N>>(b%5))&1 != 0 {
					s.sever(a, b, undo)
				}
			}
		}
	case OneWay:
		if b := f.Peer - 1; b < len(s.servers) && b != v.idx {
			s.sever(v.idx, b, undo)
		}
	case Swizzle:
		s.swizzle(span, f)
	case Reset:
		for _, c := range append([]*peerConn(nil), v.conns...) {
			c.link.reset(c.side)
			c.link.reset(1 - c.side)
		}
		for b := range s.servers {
			if b != v.idx {
				s.net.hangUp(v.idx, b)
			}
		}
	case SlowNet:
		slow := usec(f.N) * s.tick() / 20
		s.net.slow[v.idx] += slow
		undo(func() { s.net.slow[v.idx] -= slow })
	case SlowDisk:
		slow := usec(f.N) * s.tick() / 5
		v.slowDisk += slow
		undo(func() { v.slowDisk = max(0, v.slowDisk-slow) })
	case DiskError:
		v.disk.FailAt(f.N, syscall.EIO)
	case DiskFull:
		v.fullDisk = true
		v.disk.SetCapacity(1)
		undo(func() { v.fullDisk = false; v.disk.SetCapacity(0) })
	case Wipe:
		s.wipe(v, span)
	case Damage:
		s.damage(v, span, f)
	case PrivateTail:
		s.trap = f
	case Reconfig:
		s.reconfigure(f)
	case WallJump:
		v.clock.wallMs += (int64(f.N) - 10) * 3_600_000
	case CutClient:
		if c := f.Peer - 1; c >= len(s.servers) {
			if k := s.clients[c-len(s.servers)].conn; k != nil && f.N%2 == 0 {
				s.strand(k, f)
				return
			}
			for _, d := range [2][2]int{{v.idx, c}, {c, v.idx}} {
				s.net.sever(clientPort, d[0], d[1])
				undo(func() { s.net.mend(clientPort, d[0], d[1]) })
			}
		}
	case MoveClients:
		v.dropClients(true)
	}
}

// heal undoes a fault at a time, unless its phase has ended and healed all.
func (s *sim) heal(at usec, do func()) {
	s.at(at, func() {
		if s.phase == phaseFaulty {
			do()
		}
	})
}

func (s *sim) sever(a, b int, undo func(func())) {
	for _, p := range [...]port{quorumPort, electionPort} {
		s.net.sever(p, a, b)
		undo(func() { s.net.mend(p, a, b) })
	}
}

// cutOff keeps a server from all other hosts on one port.
func (s *sim) cutOff(v *server, p port, undo func(func())) {
	for b := range s.net.hosts {
		if b == v.idx {
			continue
		}
		s.net.sever(p, v.idx, b)
		s.net.sever(p, b, v.idx)
		undo(func() {
			s.net.mend(p, v.idx, b)
			s.net.mend(p, b, v.idx)
		})
	}
}

// strand cuts a server off from the others. Soon a client leaves it, of which it
// hears nothing, and goes on elsewhere; then it returns with what the client had
// asked for still open.
func (s *sim) strand(k *clientConn, f *Fault) {
	s.probe("stranded server")
	end := s.p.ticks(s.p.syncLimit) + s.p.grace*usec(f.N)/20
	undo := func(do func()) { s.heal(s.now+end, do) }
	s.cutOff(k.v, quorumPort, undo)
	s.cutOff(k.v, electionPort, undo)
	k.v.after(s.p.ticks(1), func() {
		if s.phase != phaseFaulty || k.c.conn != k {
			return
		}
		s.net.sever(clientPort, k.c.host, k.v.idx)
		undo(func() { s.net.mend(clientPort, k.c.host, k.v.idx) })
		k.c.disconnect()
		k.c.connect()
	})
}

// swizzle cuts servers off one by one and mends them in another order.
func (s *sim) swizzle(span usec, f *Fault) {
	r := stream(uint64(f.N), uint64(f.At))
	n := len(s.servers)
	out, in := r.Perm(n)[:1+r.IntN(n)], r.Perm(n)
	step := max(span/usec(2*n), 1)
	for i, a := range out {
		v := s.servers[a]
		cutAt := s.now + step*usec(i+1)
		mendAt := s.now + span + step
		for j, b := range in {
			if a == b {
				mendAt += step * usec(j)
			}
		}
		s.at(cutAt, func() {
			if s.phase != phaseFaulty {
				return
			}
			undo := func(do func()) { s.heal(mendAt, do) }
			s.cutOff(v, quorumPort, undo)
			s.cutOff(v, electionPort, undo)
		})
	}
}

// storm kills one server after another.
func (s *sim) storm(until usec, f *Fault) {
	if s.now > until || s.phase != phaseFaulty {
		return
	}
	v := s.servers[s.faultRand.IntN(len(s.servers))]
	v.crash(s.faultRand.IntN(2) == 0)
	s.at(s.now+1+usec(s.faultRand.Int64N(int64(2*s.tick()))), func() { s.storm(until, f) })
}

// spares reports whether a server may lose what is on its disk: those who have
// lost theirs have no vote before they are synced, and what is committed must be
// on the others.
func (s *sim) spares(v *server) bool {
	return s.everyQuorum(func(u *server) bool { return u != v && !u.wiped && !u.lost && !u.damaged })
}

// wipe replaces a disk by an empty one.
func (s *sim) wipe(v *server, down usec) {
	if !s.spares(v) {
		return
	}
	s.probe("wiped disk")
	v.downTill = s.now + down
	v.crash(true)
	v.wiped, v.damaged = true, false
	v.format()
	s.check.wiped(v)
	v.planRestart()
}

// damage changes a byte of a log, a snapshot or an epoch file.
func (s *sim) damage(v *server, down usec, f *Fault) {
	if !s.spares(v) {
		return
	}
	r := stream(uint64(f.N), uint64(f.At))
	v.downTill = s.now + down
	// The mark that proves loss at the end of the newest log may be old after a power
	// cut: a byte that changes there as well cannot be told from an unfinished write.
	power, newest := r.IntN(2) == 0, ""
	v.crash(power)
	list, err := v.disk.List(dataDir + "/version-2")
	if err != nil {
		return
	}
	names := []string{}
	for _, fi := range list {
		if strings.HasPrefix(fi.Name, "log.") && (len(fi.Name) > len(newest) || len(fi.Name) == len(newest) && fi.Name > newest) {
			newest = fi.Name
		}
	}
	for _, fi := range list {
		if power && fi.Name == newest {
			continue
		}
		if fi.Size > 0 && (strings.HasPrefix(fi.Name, "log.") || strings.HasPrefix(fi.Name, "snapshot.") || strings.HasSuffix(fi.Name, "Epoch")) {
			names = append(names, dataDir+"/version-2/"+fi.Name)
		}
	}
	if len(names) == 0 {
		return
	}
	name := names[r.IntN(len(names))]
	b, err := v.disk.ReadFile(name)
	if err != nil || len(b) == 0 {
		return
	}
	at := r.IntN(len(b))
	b[at] ^= byte(1 + r.IntN(255))
	s.log(v, "damaged", name)
	if err := v.disk.WriteFile(name, b); err != nil {
		s.fail("panic", "damage %s: %v", name, err)
	}
	v.damaged = true
}

// everyQuorum reports whether the servers for which has is true are a quorum, by
// the list that is committed and by all that any server has seen.
func (s *sim) everyQuorum(has func(*server) bool) bool {
	by := func(id zab.ServerID) bool {
		u := s.byID(id)
		return u != nil && has(u)
	}
	for _, v := range s.servers {
		if !v.config.IsQuorum(by) || !v.next.IsQuorum(by) {
			return false
		}
	}
	return s.check.list.IsQuorum(by)
}

// spring cuts a leader off that is about to propose, if a fault waits for that: for
// the first proposal of an epoch, or for any.
func (s *sim) spring(v *server, next zab.Zxid) {
	f := s.trap
	if f == nil || s.phase != phaseFaulty || f.N%2 == 0 && next.Counter() != 1 {
		return
	}
	s.trap = nil
	s.probe("private tail")
	span := usec(f.For.Microseconds())
	end := func(do func()) { s.heal(s.now+span, do) }
	s.cutOff(v, quorumPort, end)
	v.after(20*s.p.diskMean, func() {
		if s.phase == phaseFaulty {
			v.downTill = s.now + span
			v.crash(f.N%3 != 0)
		}
	})
}

// aimed are the jobs of the disk that BreakJob aims at. Appends happen all the time.
var aimed = [...]string{"truncate", "install", "snapshot", "accepted epoch", "current epoch"}

// strike plans a power cut or an error inside a job that is about to be done, if a
// fault waits for it.
func (s *sim) strike(v *server, job string) {
	i := slices.Index(aimed[:], job)
	if i < 0 || s.aim[i] == nil || s.phase != phaseFaulty {
		return
	}
	f := s.aim[i]
	s.aim[i] = nil
	v.downTill = s.now + usec(f.For.Microseconds())
	if s.faultRand.IntN(2) == 0 {
		v.disk.FailAt(1+s.faultRand.IntN(4), syscall.EIO)
	} else {
		v.disk.CrashAt(1 + s.faultRand.IntN(8))
	}
}

// reconfigure lets the leader propose that a server leaves, joins, or gets or loses
// its vote.
func (s *sim) reconfigure(f *Fault) {
	var lead *server
	for _, v := range s.servers {
		if v.up && !v.paused && v.shown.leads() && v.serving.prep != nil {
			lead = v
		}
	}
	if lead == nil || !s.p.reconfig || lead.config != lead.next {
		return
	}
	v := s.target(f)
	now, ok := lead.config.Member(v.id)
	line := "server." + itoa(int64(v.id)) + "=s" + itoa(int64(v.id)) + ":2888:3888:"
	joining, leaving := "", ""
	switch {
	case ok && f.N%3 == 0:
		leaving = itoa(int64(v.id))
	case ok && now.Observer || !ok && f.N%2 == 0:
		joining = line + "participant"
	default:
		joining = line + "observer"
	}
	list, err := lead.config.Apply(joining, leaving, "", true)
	whole := func(id zab.ServerID) bool { u := s.byID(id); return !u.wiped && !u.lost && !u.damaged }
	if err != nil || !lead.node.QuorumSynced(list) || !list.IsQuorum(whole) {
		s.probe("reconfiguration not possible")
		return
	}
	lead.proposeList(list)
}
