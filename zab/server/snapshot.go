package server

import (
	"time"

	"github.com/paddockio/paddock/zab/znode"
)

// A thaw is the end of the use of a frozen tree. One is frozen at a time: who
// wants it meanwhile waits in Server.toFreeze.
type thaw struct {
	file bool // it was for a snapshot file
	err  error
	then func() // called when another one may be frozen; may be nil
}

// freeze takes the tree as it is after the last applied transaction, for use to
// write from a goroutine of its own. It runs in the driver, when no other is
// frozen.
func (s *Server) freeze(use func(*znode.Frozen) thaw) {
	s.freezing = true
	s.treeMu.Lock()
	frozen := s.tree.Freeze()
	s.treeMu.Unlock()
	s.background.Go(func() {
		t := use(frozen)
		s.frozen <- t
		if t.then != nil {
			t.then()
		}
	})
}

// thawed takes the end of a freeze.
func (s *Server) thawed(t thaw) {
	s.freezing = false
	switch {
	case !t.file:
	case t.err != nil:
		// Not fatal: the log has everything.
		s.stats.SnapshotErrors.Add(1)
		s.log.Error("snapshot not written: recovery will take longer, old logs are kept", "err", t.err)
	default:
		s.stats.Snapshots.Add(1)
	}
	if len(s.toFreeze) > 0 {
		next := s.toFreeze[0]
		s.toFreeze = s.toFreeze[1:]
		next()
	}
}

// beginSnapshot writes a snapshot file, then calls then, if not nil.
func (s *Server) beginSnapshot(then func(file string, err error)) {
	s.roll = true
	s.freeze(func(frozen *znode.Frozen) thaw {
		began := time.Now()
		path, size, err := s.store.WriteSnapshot(frozen, s.treeMu.RLocker())
		if err == nil {
			s.lastSnapshot.Store(&SnapshotTime{frozen.Zxid, began})
			s.stats.SnapshotNanos.Add(int64(time.Since(began)))
			s.log.Info("snapshot written", "file", path, "bytes", size, "zxid", frozen.Zxid, "took", time.Since(began))
			if s.cfg.PurgeInterval == 0 {
				s.purge()
			}
		}
		return thaw{true, err, func() {
			if then != nil {
				then(path, err)
			}
		}}
	})
}

func (s *Server) purge() {
	gone, err := s.store.Purge(s.cfg.SnapRetain)
	if err != nil {
		s.log.Warn("purge", "err", err)
	} else if len(gone) > 0 {
		s.log.Info("old files removed", "count", len(gone))
	}
}
