package storage

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// streamEnd stands behind a snapshot on the quorum port (class LearnerHandler).
const streamEnd = "BenWasHere"

// EncodeStream writes the state of f to w as a leader sends it behind SNAP: what
// a file holds, without header, seals and digest, in pieces of up to some 10 KiB.
// It ends the freeze. lock is as for znode.Frozen.Walk.
func EncodeStream(w io.Writer, f *znode.Frozen, lock sync.Locker) error {
	s := &snapWriter{w: w}
	if err := s.state(f, lock); err != nil {
		return err
	}
	return s.write(wire.AppendString(nil, streamEnd))
}

// ReadStream reads the snapshot behind a SNAP packet of zxid into a tree. It may
// have read on: rest is what came behind the stream.
func ReadStream(src io.Reader, cfg znode.Config, zxid zab.Zxid) (tree *znode.Tree, rest []byte, err error) {
	s := newSnapReader(src)
	b := znode.NewBuilder(cfg)
	var info SnapshotInfo
	if err := s.state(&info, b); err != nil {
		return nil, nil, fmt.Errorf("snapshot from the leader, at byte %d: %w", s.offset(), err)
	}
	end := wire.AppendString(nil, streamEnd)
	if err := s.need(len(end)); err != nil {
		return nil, nil, fmt.Errorf("end of the snapshot from the leader: %w", err)
	}
	if got := s.buf[s.r : s.r+len(end)]; string(got) != string(end) {
		return nil, nil, fmt.Errorf("snapshot from the leader ends with %q", got)
	}
	s.r += len(end)
	if tree, err = b.Finish(zxid); err != nil {
		return nil, nil, fmt.Errorf("snapshot from the leader: %w", err)
	}
	return tree, s.buf[s.r:s.w], nil
}

// Locate returns the greatest zxid in the logs that is not above z, or that they
// begin behind. The error is ErrNoHistory if they do not reach back so far. That
// nothing is missing between it and the end is for Entries to prove.
func (s *Store) Locate(z zab.Zxid) (zab.Zxid, error) {
	fl, err := s.listFiles()
	if err != nil {
		return 0, err
	}
	end := s.LastSynced()
	if z >= end {
		return end, nil
	}
	first := -1
	for i, l := range fl.logs {
		if l.zxid <= z {
			first = i
		}
	}
	if first < 0 {
		if len(fl.logs) > 0 && fl.logs[0].zxid == z+1 && z.Counter() > 0 {
			return z, nil
		}
		return 0, fmt.Errorf("%v: %w", z, ErrNoHistory)
	}
	l := fl.logs[first]
	path := filepath.Join(s.logDir, l.name)
	f, err := s.fs.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	at := zab.Zxid(0)
	scanLog(f, l.size, path, 0, func(e Entry, e1 error) bool {
		if err = e1; err == nil && e.Zxid <= z {
			at = e.Zxid
			return true
		}
		return false
	})
	if err == nil && at == 0 {
		err = errors.New("the log begins later than its name says")
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %w", path, ErrNoHistory, err)
	}
	return at, nil
}
