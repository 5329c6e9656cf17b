package storage

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/znode"
)

// ErrNoHistory says that the files do not hold the transactions asked for, so
// that another way (a snapshot) must be taken. Nothing has been changed.
var ErrNoHistory = errors.New("the files do not reach back to it")

// Truncate makes zxid the last transaction: the answer to a leader's TRUNC. It
// deletes the snapshots that are newer (they hold what is to be forgotten), then
// the logs, newest first, and cuts the last; then it reads everything back and
// returns the tree. If there is no snapshot from which the logs lead to zxid, the
// error is ErrNoHistory; every other error is final (rule R11).
func (s *Store) Truncate(zxid zab.Zxid) (*znode.Tree, error) {
	if err := s.failed(); err != nil {
		return nil, err
	}
	s.filesMu.Lock()
	defer s.filesMu.Unlock()
	if err := s.closeLog(); err != nil {
		return nil, err
	}
	// A dry run first: what it finds is what must be left.
	r := &restorer{s: s, limit: zxid}
	if err := r.readTo(); err != nil || r.last != zxid {
		return nil, fmt.Errorf("truncate to %v: %w", zxid, errors.Join(ErrNoHistory, err))
	}
	if err := s.forget(r.files, zxid); err != nil {
		return nil, s.fail(fmt.Errorf("truncate to %v: %w", zxid, err))
	}
	tree, err := s.recover()
	if err == nil && tree.LastZxid() != zxid {
		err = fmt.Errorf("the files end at %v", tree.LastZxid())
	}
	if err != nil {
		return nil, s.fail(fmt.Errorf("truncate to %v: %w", zxid, err))
	}
	return tree, nil
}

// readTo is read for a history that ends at r.limit. The end of the log may be
// damaged: it goes anyway.
func (r *restorer) readTo() (err error) {
	if r.limit == 0 {
		return errors.New("zxid 0")
	}
	if r.files, err = r.s.listFiles(); err != nil {
		return err
	}
	if err := r.dropEmptyLogs(); err != nil {
		return err
	}
	if err := r.loadSnapshot(); err != nil {
		return err
	}
	if err := r.replay(); err != nil && r.last != r.limit {
		return err
	}
	return nil
}

// forget removes every snapshot and log entry behind zxid. A crash at any moment
// leaves a history that is whole and ends at zxid or later.
func (s *Store) forget(fl files, zxid zab.Zxid) error {
	// The mark would prove that entries are missing.
	if err := s.setMark(0, 0, 0); err != nil {
		return err
	}
	for _, sn := range slices.Backward(fl.snaps) {
		if sn.zxid > zxid {
			if err := s.remove(s.snapDir, sn.name); err != nil {
				return err
			}
		}
	}
	for _, l := range slices.Backward(fl.logs) {
		if l.zxid > zxid {
			if err := s.remove(s.logDir, l.name); err != nil {
				return err
			}
			continue
		}
		return s.cutLog(l, zxid)
	}
	return nil
}

func (s *Store) remove(dir, name string) error {
	if err := s.fs.Remove(filepath.Join(dir, name)); err != nil {
		return err
	}
	return s.fs.SyncDir(dir)
}

// cutLog cuts a log behind its last entry that is not later than zxid.
func (s *Store) cutLog(l logFile, zxid zab.Zxid) (err error) {
	path := filepath.Join(s.logDir, l.name)
	f, err := s.fs.OpenWrite(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	rd, err := newLogReader(f, l.size)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for {
		payload, off, err := rd.next()
		var bad *badEntry
		switch {
		case err == nil && payloadZxid(payload) <= zxid:
			continue
		case err != nil && err != io.EOF && !errors.As(err, &bad):
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := f.Truncate(off); err != nil {
			return err
		}
		return f.Sync()
	}
}

// setMark writes a mark that is safe at once.
func (s *Store) setMark(log zab.Zxid, offset int64, zxid zab.Zxid) error {
	s.markMu.Lock()
	defer s.markMu.Unlock()
	if s.mark == nil {
		return nil
	}
	s.mu.Lock()
	epoch := s.markEpoch
	s.mu.Unlock()
	if err := s.mark.set(log, offset, zxid, epoch); err != nil {
		return err
	}
	return s.mark.f.Datasync()
}

func sortFiles(fl *files) {
	// By number: the names are hexadecimal of any length.
	slices.SortFunc(fl.logs, func(a, b logFile) int { return cmp.Compare(uint64(a.zxid), uint64(b.zxid)) })
	slices.SortStableFunc(fl.snaps, func(a, b snapFile) int { return cmp.Compare(uint64(a.zxid), uint64(b.zxid)) })
}
