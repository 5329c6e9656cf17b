package storage

import (
	"errors"
	"fmt"
	"slices"
)

// minRetain is the least number of snapshots that Purge keeps: the last two that
// can be read, so that one may go bad.
const minRetain = 2

// Purge deletes all but the newest retain snapshots (at least two) and the logs
// that none of those needs, oldest first, and returns the names. A snapshot
// counts only if it can be read back with all its checksums; what is newer and
// cannot is left alone (rule R12). zoo.cfg: autopurge.snapRetainCount.
func (s *Store) Purge(retain int) (removed []string, err error) {
	s.filesMu.Lock()
	defer s.filesMu.Unlock()
	if err := errors.Join(s.failed(), s.lock.held()); err != nil {
		return nil, err
	}
	fl, err := s.listFiles()
	if err != nil {
		return nil, err
	}
	good, oldest := 0, -1
	for i := len(fl.snaps) - 1; i >= 0 && good < max(retain, minRetain); i-- {
		if _, err := s.checkSnapshot(fl.snaps[i].name); err != nil {
			s.logger.Warn("snapshot cannot be read; the purge keeps an older one instead", "file", fl.snaps[i].name, "err", err)
			continue
		}
		good, oldest = good+1, i
	}
	if good < max(retain, minRetain) {
		return nil, nil // nothing is too many
	}
	keep := fl.snaps[oldest]
	for _, sn := range fl.snaps[:oldest] {
		if sn.zxid == keep.zxid {
			continue // the same in another form
		}
		if err := s.remove(s.snapDir, sn.name); err != nil {
			return removed, fmt.Errorf("purge: %w", err)
		}
		removed = append(removed, sn.name)
	}
	// The log that begins at or before the snapshot may hold entries behind it, as
	// it does when the snapshot was taken without a roll.
	first := 0
	for i, l := range fl.logs {
		if l.zxid <= keep.zxid+1 {
			first = i
		}
	}
	for _, l := range fl.logs[:first] {
		if err := s.remove(s.logDir, l.name); err != nil {
			return removed, fmt.Errorf("purge: %w", err)
		}
		removed = append(removed, l.name)
	}
	return slices.Clip(removed), nil
}

// Sizes returns the bytes of all files in the snapshot and the log directory.
func (s *Store) Sizes() (snapshots, logs int64, err error) {
	if snapshots, err = s.sizeOf(s.snapDir); err != nil {
		return 0, 0, err
	}
	logs, err = s.sizeOf(s.logDir)
	return snapshots, logs, err
}

func (s *Store) sizeOf(dir string) (sum int64, err error) {
	list, err := s.fs.List(dir)
	if err != nil {
		return 0, err
	}
	for _, fi := range list {
		if !fi.Dir {
			sum += fi.Size
		}
	}
	return sum, nil
}

// LogSize returns the bytes in the log that is being written; 0 if there is
// none. (mntr: the log the next snapshot will be due for.)
func (s *Store) LogSize() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		return 0
	}
	return s.logEnd.Load()
}
