package zabtest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/storage/storagetest"
	"github.com/paddockio/paddock/zab/znode"
)

// clock is the monotonic clock of one process and the wall clock of its host.
type clock struct {
	base   zab.Millis
	since  usec
	rate   int64 // ms of this clock in 1000 ms
	wallMs int64 // what the wall clock is ahead of the simulation
}

func (c *clock) millis(now usec) zab.Millis {
	return c.base + zab.Millis(int64(now-c.since)*c.rate/1e6)
}

// when is the first moment at which the clock shows m.
func (c *clock) when(m zab.Millis) usec {
	return c.since + usec((int64(m-c.base)*1e6+c.rate-1)/c.rate)
}

// A server is a host with a disk and, while it is up, a process: the node and the
// driver around it.
type server struct {
	s        *sim
	id       zab.ServerID
	idx      int
	observer bool
	disk     *storagetest.Disk
	rand     *rand.Rand // what the process draws

	host     bool // the power is on
	up       bool // the process runs
	boot     int  // counts processes
	paused   bool
	deferred []func() // what came while paused
	downTill usec     // the process is not started again before
	restarts int      // counts plans of a start: an older one does not hold
	slowDisk usec     // what each job takes longer
	fullDisk bool
	wiped    bool // lost its disk, and has not been synced since
	damaged  bool // something on its disk is not as it was written

	config, next *zab.Ensemble // the files of the list in force and of the one that was proposed

	clock clock
	view  view // of the checker

	// Of the process.
	store   *storage.Store
	tree    *znode.Tree
	node    *zab.Node
	lost    bool
	inbox   fifo[zab.Message]
	running bool
	timer   usec
	timers  int
	spin    int // ticks at one moment
	spinAt  zab.Millis
	shown   shown
	dial    dialing
	conns   []*peerConn
	lanes   [3]lane
	toLog   []zab.Proposal
	roll    bool
	frozen  bool // a snapshot is being written
	arrived arrivedSnapshot
	result  znode.Result
	serving serving
}

// shown is what Ready said last.
type shown struct {
	role   zab.Role
	phase  zab.Phase
	leader zab.ServerID
	epoch  zab.Epoch
}

func (h *shown) serves() bool { return h.role != zab.Looking && h.phase == zab.Broadcast }
func (h *shown) leads() bool  { return h.role == zab.Leading && h.phase == zab.Broadcast }

type dialing struct {
	to  zab.ServerID
	try int // counts dials: an older one is given up
}

// peerConn is a connection of the quorum port as the driver sees it.
type peerConn struct {
	link       *link
	side       int
	peer       *server
	lastCommit zab.Zxid // of the commits that came over it
	acked      bool     // NEWLEADER was acknowledged on it
	received   zab.Zxid // last transaction that came over it
	sync       zab.Zxid // of these, the last one in front of NEWLEADER
}

type arrivedSnapshot struct {
	link zab.LinkID
	tree *znode.Tree
}

// noLock is the lock of a tree that one goroutine has.
var noLock sync.Locker = unlocked{}

type unlocked struct{}

func (unlocked) Lock()   {}
func (unlocked) Unlock() {}

// take runs do in the process that was there when it was sent, or when that goes
// on after a pause.
func (v *server) take(boot int, do func()) {
	switch {
	case !v.up || v.boot != boot:
	case v.paused:
		v.deferred = append(v.deferred, do)
	default:
		do()
	}
}

// after runs do in this process.
func (v *server) after(d usec, do func()) {
	boot := v.boot
	v.s.at(v.s.now+d, func() { v.take(boot, do) })
}

const dataDir = "/data"

func (v *server) storeConfig() storage.Config {
	return storage.Config{
		DataDir: dataDir, ServerID: v.id, NoAutoCreate: true, FS: v.s.mutant.fs(v),
		PreallocBytes: v.s.p.prealloc, SnapCount: v.s.p.snapCount, Foreground: true,
		Now:   func() time.Time { return time.UnixMicro(int64(v.s.now)) },
		Znode: treeConfig, Rand: v.rand.Int64N,
	}
}

var treeConfig = znode.Config{Digest: true}

// format makes the disk of a server that has never run.
func (v *server) format() {
	v.disk = storagetest.NewDisk(v.s.diskRand.Uint64())
	v.disk.MkdirAll(dataDir)
	v.disk.SyncDir("/")
	v.config, v.next = v.s.ensemble, v.s.ensemble
}

// initialize lets a server start on an empty disk.
func (v *server) initialize() { v.disk.WriteFile(dataDir+"/initialize", nil) }

// start begins a process: recovery first.
func (v *server) start() {
	if v.up {
		return
	}
	v.boot++
	v.host, v.up, v.paused = true, true, false
	v.clock = clock{base: zab.Millis(v.rand.Int64N(1 << 40)), since: v.s.now, rate: v.s.drawRate(), wallMs: v.clock.wallMs}
	v.shown = shown{leader: zab.NoServer}
	v.dial = dialing{to: zab.NoServer}
	if err := v.recover(); err != nil {
		v.s.log(v, "start failed", err)
		if errors.Is(err, storagetest.ErrCrashed) {
			v.s.probe("crash in recovery")
			v.crash(true)
			return
		}
		v.s.check.startFailed(v, err)
		v.crash(false)
		return
	}
	v.s.log(v, "started", v.tree.LastZxid())
	v.s.log(v, "recovery", fmt.Sprintf("%+v", v.store.Recovery()))
	v.s.check.started(v)
	for b := range v.s.servers {
		if b != v.idx {
			v.s.net.dialElection(v.idx, b, 0)
		}
	}
	v.tickDriver()
	v.run()
}

func (v *server) recover() error {
	st, err := storage.Open(v.storeConfig())
	if err != nil {
		return err
	}
	v.store = st
	v.tree, err = st.Recover()
	var dmg *storage.DamageError
	if errors.As(err, &dmg) && v.damaged {
		// What the disk has kept is set aside, and comes from the others (rule R13).
		v.s.probe("damage found")
		v.wiped = true
		if v.tree, err = st.Forget(); err == nil {
			v.damaged = false
			v.s.check.forgotten(v)
		}
	}
	if err != nil {
		return err
	}
	accepted, aerr := st.AcceptedEpoch()
	current, _ := st.CurrentEpoch()
	if v.lost = st.Recovery().Lost; !v.lost && aerr != nil {
		// Promises are lost (rule R14). A lost current epoch is not, since it is at
		// least that of the last transaction.
		v.s.probe("promise lost")
		v.lost, v.wiped = true, true
		if v.tree, err = st.Forget(); err != nil {
			return err
		}
		v.damaged = false
		accepted, _ = st.AcceptedEpoch()
		current = 0
	}
	cfg := zab.Config{
		ID: v.id, Ensemble: v.config, LastSeen: v.next, ReconfigEnabled: v.s.p.reconfig, Observer: v.observer,
		Hard: zab.HardState{Accepted: accepted, Current: current}, LastZxid: v.tree.LastZxid(), Lost: v.lost,
		TickTime: v.s.p.tick, InitLimit: v.s.p.initLimit, SyncLimit: v.s.p.syncLimit,
		HistoryCount: v.s.p.historyCount, HistoryBytes: 1 << 20, Rand: v.rand.Int64N,
	}
	v.node, err = zab.NewNode(cfg)
	return err
}

// crash ends the process, with its host if power is set: then what was not synced
// is decided by the disk, and nobody is told.
func (v *server) crash(power bool) {
	if !v.up {
		return
	}
	v.s.log(v, "crash", power)
	for i := range v.lanes {
		v.lanes[i].interrupt(v, power)
	}
	if power {
		v.host = false
		v.disk.Crash()
	} else {
		v.disk.Kill()
	}
	if v.store != nil {
		v.store.Close() // of the dead process; its files are dead too
	}
	for _, c := range v.conns {
		if power {
			c.link.abandon(c.side)
		} else {
			c.link.close(c.side)
		}
	}
	v.up = false
	v.s.net.hangUpAll(v.idx)
	v.dropClients(!power)
	v.store, v.tree, v.node, v.conns = nil, nil, nil, nil
	v.lanes, v.toLog, v.roll, v.frozen, v.arrived = [3]lane{}, nil, false, false, arrivedSnapshot{}
	v.inbox.clear()
	v.running, v.timer, v.deferred = false, 0, nil
	v.serving = serving{}
	v.s.check.stopped(v)
	v.planRestart()
}

// forever is a moment behind the end of all runs.
const forever usec = 1 << 60

// planRestart starts the process again after a while, unless it is to stay down.
func (v *server) planRestart() {
	v.restarts++
	if v.downTill == forever {
		return
	}
	n := v.restarts
	wait := max(v.downTill-v.s.now, 0) + millisecond + usec(v.s.faultRand.Int64N(int64(2*v.s.tick())))
	v.s.at(v.s.now+wait, func() {
		switch {
		case v.up || v.restarts != n:
		case v.downTill > v.s.now:
			v.planRestart()
		default:
			v.start()
		}
	})
}

func (v *server) pause() {
	if v.up {
		v.paused = true
	}
}

// resume lets a paused process go on: with what has arrived first, then with its
// timers.
func (v *server) resume() {
	if !v.up || !v.paused {
		return
	}
	v.paused = false
	boot := v.boot
	for len(v.deferred) > 0 && v.up && v.boot == boot {
		do := v.deferred[0]
		v.deferred = v.deferred[1:]
		do()
	}
}

// step gives the node a message.
func (v *server) step(m zab.Message) {
	v.inbox.push(m)
	v.run()
}

func (v *server) now() zab.Millis { return v.clock.millis(v.s.now) }

// run lets the node work until it has nothing more to do.
func (v *server) run() {
	if v.running {
		return
	}
	v.running = true
	boot := v.boot
	v.node.Tick(v.now())
	for v.up && v.boot == boot && v.s.violation == nil {
		stepped := v.inbox.len() > 0
		if stepped {
			m := v.inbox.pop()
			err := v.node.Step(m)
			if errors.Is(err, zab.ErrNotLeading) && (m.Type == zab.MsgPropose || m.Type == zab.MsgConfirm) {
				v.s.check.refused(v, &m)
				err = nil
			}
			if err != nil {
				v.s.fail("S19", "server %d: the node refused message %d of its driver: %v", v.id, m.Type, err)
				return
			}
		}
		if rd := v.node.Ready(); v.perform(rd) {
			v.node.Advance()
			v.settle()
		} else if !stepped {
			break
		}
	}
	if v.up && v.boot == boot {
		v.running = false
		v.arm()
	}
}

// arm plans the next tick of the node.
func (v *server) arm() {
	at := max(v.clock.when(v.node.Deadline()), v.s.now)
	if v.timer != 0 && v.timer == at {
		return
	}
	v.timer = at
	v.timers++
	n, boot := v.timers, v.boot
	v.s.at(at, func() { v.take(boot, func() { v.ring(n) }) })
}

func (v *server) ring(n int) {
	if n != v.timers {
		return
	}
	v.timer = 0
	now := v.now()
	if v.spinAt != now {
		v.spinAt, v.spin = now, 0
	}
	if v.spin++; v.spin > 100 {
		v.s.fail("L2", "server %d: the node's deadline does not move from %d", v.id, now)
		return
	}
	v.run()
}

func (v *server) notified(n zab.Notification) {
	v.s.event(evNotified, v, uint64(n.From), uint64(n.Round)<<8|uint64(n.State))
	v.node.Tick(v.now())
	v.node.Notified(n)
	v.run()
}

func (v *server) peerUp(id zab.ServerID) {
	v.node.Tick(v.now())
	v.node.PeerUp(id)
	v.run()
}

// perform carries out the effects of the node, in the order of Ready. It returns
// false if there are none.
func (v *server) perform(rd *zab.Ready) bool {
	work := v.show(rd)
	if e := rd.StoreAccepted; e != 0 {
		work = true
		v.storeEpoch(e, true)
	}
	if e := rd.StoreCurrent; e != 0 {
		work = true
		v.storeEpoch(e, false)
	}
	if z := rd.Truncate; z != 0 {
		work = true
		v.truncate(z)
	}
	if rd.Install != nil {
		work = true
		v.install(*rd.Install)
	}
	if len(rd.Append) > 0 {
		work = true
		v.append(rd.Append)
	}
	for _, p := range rd.Committed {
		work = true
		v.apply(p)
	}
	if rd.Confirmed != 0 {
		work = true
		v.confirmed(rd.Confirmed)
	}
	if rd.Dial != zab.NoServer {
		work = true
		v.startDial(rd.Dial)
	}
	for i := range rd.Messages {
		work = true
		v.sendMessage(&rd.Messages[i])
	}
	for _, n := range rd.Notifications {
		work = true
		v.s.check.voting(v, &n)
		if to := v.s.byID(n.To); to != nil && to != v {
			v.s.net.post(v.idx, to.idx, n)
		}
	}
	for _, q := range rd.Locate {
		work = true
		v.locate(q)
	}
	for _, st := range rd.Stream {
		work = true
		v.stream(st)
	}
	for _, c := range rd.Close {
		work = true
		v.closeLink(c)
	}
	return work
}

// show takes over what Ready says of the role.
func (v *server) show(rd *zab.Ready) bool {
	v.config, v.next = rd.Ensemble, rd.LastSeen
	h := shown{rd.Role, rd.Phase, rd.Leader, rd.Epoch}
	if h == v.shown {
		return false
	}
	old := v.shown
	v.shown = h
	v.s.event(evRole, v, uint64(h.role)<<8|uint64(h.phase), uint64(h.epoch))
	v.s.log(v, "is", &v.shown)
	if h.role == zab.Looking {
		v.dial = dialing{to: zab.NoServer, try: v.dial.try + 1}
	}
	if old.serves() && !h.serves() || old.epoch != h.epoch && old.serves() {
		v.stopServing()
	}
	return true
}

// settle does what follows from a Ready once it is taken over.
func (v *server) settle() {
	if !v.up {
		return
	}
	v.s.check.settled(v)
	if v.shown.serves() && !v.serving.on {
		v.startServing()
	}
}

// Disk.

// A job is work of the disk. do runs at one moment, done a little later in the
// process if do has not failed.
type job struct {
	name string
	do   func() error
	done func()
}

// lane works on one job at a time.
type lane struct {
	jobs fifo[job]
	busy bool
	did  bool
	err  error // of what was done early
}

const (
	logLane = iota
	epochLane
	snapLane
)

func (v *server) queue(l int, j job) {
	if l == epochLane && !v.s.p.parallelEpochs {
		l = logLane
	}
	v.lanes[l].jobs.push(j)
	v.work(l)
}

func (v *server) work(i int) {
	l := &v.lanes[i]
	if l.busy || l.jobs.len() == 0 {
		return
	}
	l.busy, l.did = true, false
	v.after(v.s.diskTime()+v.slowDisk, func() { v.execute(i) })
}

func (v *server) execute(i int) {
	l := &v.lanes[i]
	j, err := *l.jobs.first(), l.err
	if l.err = nil; !l.did {
		l.did = true
		err = j.do()
	}
	if v.s.violation != nil {
		return
	}
	if err != nil {
		v.s.log(v, j.name, err)
		v.s.probe("disk error: " + j.name)
		// A failed write is final (rule R2).
		v.crash(errors.Is(err, storagetest.ErrCrashed))
		return
	}
	v.after(usec(v.rand.Int64N(int64(millisecond))), func() {
		l.busy = false
		l.jobs.pop()
		v.s.event(evDisk, v, uint64(i), 0)
		j.done()
		v.work(i)
	})
}

// interrupt leaves the job under way undone, done or, if the power fails, done in
// part.
func (l *lane) interrupt(v *server, power bool) {
	if !l.busy || l.did || v.s.faultRand.IntN(2) == 0 {
		return
	}
	if power {
		v.disk.CrashAt(1 + v.s.faultRand.IntN(6))
	}
	if err := l.jobs.first().do(); errors.Is(err, storagetest.ErrCrashed) {
		v.s.probe("crash inside " + l.jobs.first().name)
	}
}

func (v *server) storeEpoch(e zab.Epoch, accepted bool) {
	name, typ, set := "current epoch", zab.MsgCurrentStored, v.store.SetCurrentEpoch
	if accepted {
		name, typ, set = "accepted epoch", zab.MsgAcceptedStored, v.store.SetAcceptedEpoch
	}
	v.s.check.storing(v, e, accepted)
	v.queue(epochLane, job{name, func() error {
		if v.s.mutant.skipEpoch {
			return nil
		}
		if err := set(e); err != nil {
			return err
		}
		v.s.check.stored(v, e, accepted)
		return nil
	}, func() { v.step(zab.Message{Type: typ, Epoch: e}) }})
}

// finishSnapshot lets nothing be written beside what changes the whole directory.
func (v *server) finishSnapshot() {
	if l := &v.lanes[snapLane]; l.busy && !l.did {
		l.did = true
		l.err = l.jobs.first().do()
	}
}

func (v *server) truncate(z zab.Zxid) {
	v.s.probe("trunc")
	v.s.check.truncating(v, z)
	var tree *znode.Tree
	var failed bool
	v.queue(logLane, job{"truncate", func() (err error) {
		v.finishSnapshot()
		tree, err = v.store.Truncate(z)
		if failed = errors.Is(err, storage.ErrNoHistory); failed {
			return nil
		}
		if err == nil {
			v.s.check.truncated(v, z, tree)
		}
		return err
	}, func() {
		if failed {
			v.s.probe("trunc not possible")
		} else {
			v.tree = tree
		}
		v.step(zab.Message{Type: zab.MsgTruncated, Zxid: z, Failed: failed})
	}})
}

func (v *server) install(in zab.Installation) {
	v.s.probe("snapshot installed")
	a := v.arrived
	v.arrived = arrivedSnapshot{}
	if a.link != in.Link {
		v.s.fail("S19", "server %d installs the snapshot of link %d, which has none", v.id, in.Link)
		return
	}
	for _, p := range in.Committed {
		v.s.probe("commits behind a snapshot")
		v.s.check.applyTo(v, a.tree, p)
	}
	if a.tree.LastZxid() != in.Zxid {
		v.s.fail("S19", "server %d installs %v, the snapshot with what follows is %v", v.id, in.Zxid, a.tree.LastZxid())
		return
	}
	v.s.check.installing(v, in.Zxid, in.Epoch, a.tree)
	v.queue(logLane, job{"install", func() error {
		v.finishSnapshot()
		if err := v.store.Install(a.tree.Freeze(), noLock, in.Epoch); err != nil {
			return err
		}
		v.s.check.installed(v, in.Zxid, in.Epoch)
		return nil
	}, func() {
		v.tree, v.lost, v.wiped = a.tree, false, false
		v.step(zab.Message{Type: zab.MsgInstalled, Zxid: in.Zxid, Epoch: in.Epoch})
	}})
}

// append collects transactions; a job takes all that wait when it begins.
func (v *server) append(ps []zab.Proposal) {
	waiting := len(v.toLog) > 0
	for _, p := range ps {
		v.s.check.appending(v, p)
	}
	v.toLog = append(v.toLog, ps...)
	if waiting {
		return
	}
	var last zab.Zxid
	v.queue(logLane, job{"append", func() error {
		batch := v.toLog
		v.toLog = nil
		last = batch[len(batch)-1].Zxid
		if v.s.mutant.ackFirst {
			v.step(zab.Message{Type: zab.MsgAppended, Zxid: last})
		}
		if v.roll {
			v.roll = false
			if err := v.store.Roll(); err != nil {
				return err
			}
		}
		for _, p := range batch {
			if err := v.store.Append(p.Data, p.Zxid); err != nil {
				return err
			}
		}
		if err := v.store.Sync(); err != nil {
			return err
		}
		v.s.check.durable(v, last)
		return nil
	}, func() {
		v.snapshotIfDue()
		if !v.s.mutant.ackFirst {
			v.step(zab.Message{Type: zab.MsgAppended, Zxid: last})
		}
	}})
}

// snapshotIfDue writes a snapshot of what is applied, which is committed while the
// server serves (rule R11 would not find the others otherwise).
func (v *server) snapshotIfDue() {
	if v.frozen || !v.shown.serves() || !v.store.ShouldSnapshot() {
		return
	}
	v.frozen, v.roll = true, true
	f := v.tree.Freeze()
	zxid := f.Zxid
	v.queue(snapLane, job{"snapshot", func() error {
		_, _, err := v.store.WriteSnapshot(f, noLock)
		if errors.Is(err, storagetest.ErrCrashed) {
			return err
		}
		if err != nil {
			v.s.probe("snapshot not written")
			return nil
		}
		v.s.probe("snapshot")
		v.s.check.snapshot(v, zxid)
		gone, err := v.store.Purge(2)
		if len(gone) > 0 {
			v.s.probe("purge")
		}
		if errors.Is(err, storagetest.ErrCrashed) {
			return err
		}
		return nil
	}, func() { v.frozen = false }})
}

// Links.

func (v *server) connOf(id zab.LinkID) *peerConn {
	for _, c := range v.conns {
		if c.link.id == id {
			return c
		}
	}
	return nil
}

// linked reports whether a connection to another server is open at both ends.
func (v *server) linked(u *server) bool {
	for _, c := range v.conns {
		if c.peer == u && c.link.end[0].open && c.link.end[1].open && u.connOf(c.link.id) != nil {
			return true
		}
	}
	return false
}

func (v *server) dropConn(c *peerConn) {
	for i := range v.conns {
		if v.conns[i] == c {
			v.conns = append(v.conns[:i], v.conns[i+1:]...)
			return
		}
	}
}

// startDial connects to a leader, with retries until the node turns elsewhere.
func (v *server) startDial(to zab.ServerID) {
	v.dial = dialing{to, v.dial.try + 1}
	peer := v.s.byID(to)
	if peer == nil {
		v.step(zab.Message{Type: zab.MsgDialFailed, From: to})
		return
	}
	v.tryDial(peer, v.dial.try, v.now()+zab.Millis(v.s.p.initLimit)*v.s.p.tick)
}

func (v *server) tryDial(peer *server, try int, until zab.Millis) {
	there := v.s.net.delay(v.idx, peer.idx)
	back := v.s.net.delay(v.idx, peer.idx)
	again := func() {
		v.after(50*millisecond+usec(v.rand.Int64N(int64(50*millisecond))), func() {
			if v.dial.try != try {
				return
			}
			if v.now() > until {
				v.step(zab.Message{Type: zab.MsgDialFailed, From: peer.id})
				return
			}
			v.tryDial(peer, try, until)
		})
	}
	v.after(there, func() {
		if v.dial.try != try {
			return
		}
		n := v.s.net
		if !peer.up || peer.shown.role != zab.Leading || !n.reaches(quorumPort, v.idx, peer.idx) || !n.reaches(quorumPort, peer.idx, v.idx) {
			again()
			return
		}
		l := n.connect(v, peer)
		l.end[1].open = true
		peer.take(peer.boot, func() { peer.linkUp(l, 1) })
		v.after(back, func() {
			l.end[0].open = true
			if v.dial.try != try {
				l.close(0) // another leader was found meanwhile
				return
			}
			v.linkUp(l, 0)
		})
	})
}

func (v *server) linkUp(l *link, side int) {
	if !l.end[side].open {
		return
	}
	if side == 1 && v.shown.role != zab.Leading {
		l.close(side) // stopped listening while the connection was on its way
		return
	}
	c := &peerConn{link: l, side: side, peer: l.end[1-side].srv}
	v.conns = append(v.conns, c)
	m := zab.Message{Type: zab.MsgLinkUp, Link: l.id, From: zab.NoServer}
	if side == 0 {
		m.From = c.peer.id
	}
	v.step(m)
}

func (v *server) closeLink(c zab.Closing) {
	v.s.log(v, "closes", c)
	v.s.check.closed(v, c)
	p := v.connOf(c.Link)
	if p == nil {
		return
	}
	p.link.close(p.side)
	v.linkGone(p)
}

// linkGone forgets a connection and tells the node.
func (v *server) linkGone(c *peerConn) {
	v.dropConn(c)
	v.forgetLink(c)
	v.step(zab.Message{Type: zab.MsgLinkDown, Link: c.link.id})
}

// receive takes a packet from a link.
func (v *server) receive(l *link, side int, p *packet) {
	c := v.connOf(l.id)
	if p.kind == packetFin {
		l.end[side].open = false
		l.end[1-side].open = false
		l.n.sweep(l)
		if c != nil {
			v.linkGone(c)
		}
		return
	}
	if c == nil {
		return
	}
	switch p.kind {
	case packetNode:
		v.receiveMessage(c, p)
	case packetProgress:
		v.step(zab.Message{Type: zab.MsgProgress, Link: l.id})
	default:
		v.receiveDriver(c, p)
	}
}

func (v *server) receiveMessage(c *peerConn, p *packet) {
	m := p.msg
	m.Link = c.link.id
	m.From = c.peer.id
	v.s.event(evMessage, v, uint64(m.Type), uint64(m.Zxid))
	if v.s.trace != nil {
		v.s.log(v, "receives", &m)
	}
	switch m.Type {
	case zab.MsgSnap:
		tree, _, err := storage.ReadStream(bytes.NewReader(p.snap), treeConfig, m.Zxid)
		if err != nil {
			v.s.fail("S17", "server %d cannot read the snapshot %v of server %d: %v", v.id, m.Zxid, c.peer.id, err)
			return
		}
		v.s.check.loaded(v, tree)
		v.arrived = arrivedSnapshot{c.link.id, tree}
	case zab.MsgProposal:
		c.received = m.Proposal.Zxid
	case zab.MsgNewLeader:
		c.sync = c.received
	case zab.MsgCommit, zab.MsgCommitAndActivate:
		c.lastCommit = m.Zxid
	case zab.MsgInform, zab.MsgInformAndActivate:
		c.lastCommit, c.received = m.Proposal.Zxid, m.Proposal.Zxid
	case zab.MsgPing:
		if c.side == 1 {
			v.touchAll(c, m.Data)
		}
	}
	v.step(m)
}

// sendMessage gives a message of the node to its link.
func (v *server) sendMessage(m *zab.Message) {
	c := v.connOf(m.Link)
	v.s.check.sending(v, c, m)
	if c == nil {
		return
	}
	if v.s.trace != nil {
		v.s.log(v, "sends to "+itoa(int64(c.peer.id)), m)
	}
	switch m.Type {
	case zab.MsgCommit, zab.MsgCommitAndActivate:
		v.serving.sentCommit = max(v.serving.sentCommit, m.Zxid)
	case zab.MsgInform, zab.MsgInformAndActivate:
		v.serving.sentCommit = max(v.serving.sentCommit, m.Proposal.Zxid)
	}
	p := packet{kind: packetNode, msg: *m}
	if m.Type == zab.MsgPing && c.side == 0 {
		p.msg.Data = v.touches()
	}
	c.link.send(c.side, p, 0)
}

// locate looks where a zxid stands in the log.
func (v *server) locate(q zab.Lookup) {
	v.after(v.s.diskTime(), func() {
		m := zab.Message{Type: zab.MsgLocated, Link: q.Link}
		if z, ok := v.s.mutant.locate(v, q.Zxid); ok {
			m.Zxid = z
			v.s.probe("located")
		} else {
			m.Failed = true
			v.s.probe("not located")
		}
		v.step(m)
	})
}

// find returns the last transaction of this server's history that is not behind z,
// if the log proves it: nothing is missing between it and the end.
func (v *server) find(z zab.Zxid) (zab.Zxid, bool) {
	at, err := v.store.Locate(z)
	if err != nil {
		return 0, false
	}
	for _, err := range v.store.Entries(at) {
		if err != nil {
			return 0, false
		}
	}
	return at, true
}

// stream writes history to a link.
func (v *server) stream(st zab.Stream) {
	c := v.connOf(st.Link)
	if c == nil {
		return
	}
	done := zab.Message{Type: zab.MsgStreamed, Link: st.Link}
	boot := v.boot
	report := func() {
		v.take(boot, func() { v.step(done) })
	}
	if st.Snapshot {
		v.streamSnapshot(c, &done, report)
		return
	}
	var ps []zab.Proposal
	for e, err := range v.store.Entries(st.After) {
		if err != nil {
			v.s.probe("stream failed")
			done.Failed = true
			v.after(v.s.diskTime(), report)
			return
		}
		if e.Zxid > st.Until {
			break
		}
		r := v.s.check.logged(v, e.Zxid, e.Payload)
		ps = append(ps, zab.Proposal{Zxid: e.Zxid, Data: r.data, Ensemble: r.list})
	}
	v.s.probe("stream of the log")
	done.Zxid = st.After
	for i, p := range ps {
		done.Zxid = p.Zxid
		c.link.send(c.side, packet{kind: packetNode, msg: zab.Message{Type: zab.MsgProposal, Proposal: p, Zxid: p.Zxid}}, 0)
		commit := packet{kind: packetNode, msg: zab.Message{Type: zab.MsgCommit, Zxid: p.Zxid}}
		if i == len(ps)-1 {
			commit.bell = report
		}
		c.link.send(c.side, commit, 0)
	}
	if len(ps) == 0 {
		v.after(v.s.diskTime(), report)
	}
}

func (v *server) streamSnapshot(c *peerConn, done *zab.Message, report func()) {
	v.s.probe("stream of a snapshot")
	var b bytes.Buffer
	done.Zxid = v.tree.LastZxid()
	if v.frozen {
		// The tree can be frozen once; the snapshot waits for the other one.
		v.finishSnapshot()
	}
	if err := storage.EncodeStream(&b, v.tree.Freeze(), noLock); err != nil {
		v.s.fail("S17", "server %d: encode a snapshot: %v", v.id, err)
		return
	}
	parts := 1 + v.s.netRand.IntN(4)
	took := v.s.transferTime(b.Len())
	link := c.link.id
	boot := v.boot
	for range parts {
		c.link.send(c.side, packet{kind: packetProgress, bell: func() {
			v.take(boot, func() {
				if v.connOf(link) != nil {
					v.step(zab.Message{Type: zab.MsgProgress, Link: link})
				}
			})
		}}, took/usec(parts))
	}
	c.link.send(c.side, packet{kind: packetNode, snap: b.Bytes(), bell: report,
		msg: zab.Message{Type: zab.MsgSnap, Zxid: done.Zxid}}, 0)
}

// tickDriver is the driver's own ticker.
func (v *server) tickDriver() {
	v.after(v.s.tick()/2, func() {
		v.expire()
		if v.up {
			v.tickDriver()
		}
	})
}
