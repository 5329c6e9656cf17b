package zabtest

import (
	"errors"
	"sync"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/storage/storagetest"
	"github.com/paddockio/paddock/zab/znode"
)

// noLock is the lock of a tree that one goroutine has.
var noLock sync.Locker = unlocked{}

type unlocked struct{}

func (unlocked) Lock()   {}
func (unlocked) Unlock() {}

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
		v.s.strike(v, j.name)
		err = j.do()
	}
	if v.s.violation != nil {
		return
	}
	if err != nil {
		v.s.log(v, j.name, err)
		power := errors.Is(err, storagetest.ErrCrashed)
		if power {
			v.s.probe("crash inside " + j.name)
		} else {
			v.s.probe("disk error: " + j.name)
		}
		v.crash(power) // a failed write is final (rule R2)
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
			if tree.LastZxid() != v.tree.LastZxid() && !v.s.mutant.cutKeeps {
				v.s.probe("trunc of what clients wait for")
				v.dropClients(true) // nobody knows what is in it
				v.serving.waiting.clear()
			}
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
	v.dropClients(true) // nobody knows what they were to be told
	v.serving.waiting.clear()
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
	v.noteTail(ps)
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
			v.s.probe("disk error: snapshot")
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
