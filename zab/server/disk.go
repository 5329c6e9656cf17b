package server

import (
	"errors"
	"fmt"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/znode"
)

// A diskJob is one step of what the driver has the disk do. The disk does one at
// a time, in their order.
type diskJob struct {
	kind    diskKind
	entries []zab.Proposal // to be appended; one sync makes them durable
	roll    bool           // begin a new file first: a snapshot covers the old one
	zxid    zab.Zxid
	epoch   zab.Epoch
	tree    *znode.Tree // that came with the snapshot
}

type diskKind uint8

const (
	diskAppend diskKind = iota
	diskAccepted
	diskCurrent
	diskTruncate
	diskInstall
)

// diskDone is the end of a job.
type diskDone struct {
	kind     diskKind
	zxid     zab.Zxid
	epoch    zab.Epoch
	tree     *znode.Tree // what the disk holds, if it is something else than before
	failed   bool        // it cannot be done, nothing was changed
	snapshot bool        // enough was logged since the last snapshot
	err      error
}

// writeDisk is the only goroutine that changes log and epochs.
func (s *Server) writeDisk() {
	for j := range s.diskIn {
		done := diskDone{kind: j.kind, zxid: j.zxid, epoch: j.epoch}
		switch j.kind {
		case diskAppend:
			s.writeLog(&j, &done)
		case diskAccepted:
			done.err = s.store.SetAcceptedEpoch(j.epoch)
		case diskCurrent:
			done.err = s.store.SetCurrentEpoch(j.epoch)
		case diskTruncate:
			done.tree, done.err = s.store.Truncate(j.zxid)
			if errors.Is(done.err, storage.ErrNoHistory) {
				done.failed, done.err = true, nil
			}
		case diskInstall:
			done.tree, done.err = s.install(&j)
		}
		s.diskOut <- done
	}
}

func (s *Server) writeLog(j *diskJob, done *diskDone) {
	began := time.Now()
	done.zxid = j.entries[len(j.entries)-1].Zxid
	done.err = s.append(j)
	took := time.Since(began)
	s.stats.Syncs.Add(1)
	s.stats.SyncNanos.Add(int64(took))
	s.stats.Batched.Add(int64(len(j.entries)))
	if took > fsyncWarning {
		s.stats.SlowSyncs.Add(1)
		s.log.Warn("slow sync of the transaction log", "took", took, "entries", len(j.entries))
	}
	done.snapshot = s.store.ShouldSnapshot()
}

func (s *Server) append(j *diskJob) error {
	if j.roll {
		if err := s.store.Roll(); err != nil {
			return err
		}
	}
	for _, p := range j.entries {
		if err := s.store.Append(p.Data, p.Zxid); err != nil {
			return err
		}
	}
	return s.store.Sync()
}

// install makes a received snapshot, and what came behind it, the only state.
// Nobody else has the tree yet.
func (s *Server) install(j *diskJob) (*znode.Tree, error) {
	var dec storage.TxnDecoder
	var res znode.Result
	for _, p := range j.entries {
		txn, err := dec.Decode(p.Data)
		if err != nil {
			return nil, fmt.Errorf("transaction %v behind the leader's snapshot: %w", p.Zxid, err)
		}
		j.tree.Apply(txn, &res)
	}
	if z := j.tree.LastZxid(); z != j.zxid {
		return nil, fmt.Errorf("the leader's snapshot ends at %v, not at %v", z, j.zxid)
	}
	return j.tree, s.store.Install(j.tree.Freeze(), unlocked{}, j.epoch)
}

// unlocked is the lock of a tree that one goroutine has.
type unlocked struct{}

func (unlocked) Lock()   {}
func (unlocked) Unlock() {}

// enqueue adds what the node wants done, in its order.
func (s *Server) enqueue(rd *zab.Ready) {
	if e := rd.StoreAccepted; e != 0 {
		s.addJob(diskJob{kind: diskAccepted, epoch: e})
	}
	if e := rd.StoreCurrent; e != 0 {
		s.addJob(diskJob{kind: diskCurrent, epoch: e})
	}
	if z := rd.Truncate; z != 0 {
		s.addJob(diskJob{kind: diskTruncate, zxid: z})
	}
	if in := rd.Install; in != nil {
		s.addJob(diskJob{kind: diskInstall, entries: in.Committed, zxid: in.Zxid, epoch: in.Epoch, tree: s.member.takeSnapshot(in.Link)})
	}
	s.toLog = append(s.toLog, rd.Append...)
}

// addJob queues a job behind what is collected for the log.
func (s *Server) addJob(j diskJob) {
	if len(s.toLog) > 0 {
		s.jobs = append(s.jobs, diskJob{entries: s.toLog})
		s.toLog = nil
	}
	s.jobs = append(s.jobs, j)
}

// maxIdleBatch bounds the buffer that is kept after an unusually large batch.
const maxIdleBatch = 4 << 20

// startDisk gives the disk its next job if it is idle.
func (s *Server) startDisk() {
	if s.diskBusy || len(s.jobs)+len(s.toLog) == 0 {
		return
	}
	s.diskBusy = true
	var j diskJob
	switch {
	case len(s.jobs) > 0:
		j = s.jobs[0]
		s.jobs[0] = diskJob{}
		if s.jobs = s.jobs[1:]; len(s.jobs) == 0 {
			s.jobs = nil
		}
	default:
		// The two slices change places: the disk reads the one while the next batch
		// is collected in the other.
		j.entries = s.toLog
		s.toLog, s.toLogOld = s.toLogOld[:0], s.toLog
	}
	if j.kind == diskAppend {
		j.roll, s.roll = s.roll, false
	}
	s.diskIn <- j
	if s.member != nil {
		return // the node keeps what it proposed, for learners
	}
	s.encode, s.encodeOld = s.encodeOld[:0], s.encode
	if cap(s.encode) > maxIdleBatch {
		s.encode = nil
	}
}

// reports are what the node is told when a job is done.
var reports = [...]zab.MessageType{
	diskAppend: zab.MsgAppended, diskAccepted: zab.MsgAcceptedStored, diskCurrent: zab.MsgCurrentStored,
	diskTruncate: zab.MsgTruncated, diskInstall: zab.MsgInstalled,
}

// written takes the end of a job.
func (s *Server) written(d diskDone) error {
	s.diskBusy = false
	if d.err != nil {
		return fmt.Errorf("data directory: %w", d.err)
	}
	if d.kind == diskAppend && d.snapshot && !s.freezing && !s.draining && s.serves {
		s.beginSnapshot(nil)
	}
	if d.tree != nil {
		s.member.replaceTree(d.tree, d.kind)
	}
	if s.member != nil {
		s.node.Tick(s.millis())
	}
	if err := s.node.Step(zab.Message{Type: reports[d.kind], Zxid: d.zxid, Epoch: d.epoch, Failed: d.failed}); err != nil {
		return err
	}
	// Start the next sync before the replies of this one are made.
	s.startDisk()
	return s.perform()
}
