package zabtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
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

var treeConfig = znode.Config{Digest: true, EnforceQuota: true}

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
	if h.role == zab.Looking && !old.serves() {
		v.misled()
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

// tickDriver is the driver's own ticker.
func (v *server) tickDriver() {
	v.after(v.s.tick()/2, func() {
		v.expire()
		if v.up {
			v.tickDriver()
		}
	})
}
