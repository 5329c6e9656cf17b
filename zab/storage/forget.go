package storage

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab/znode"
)

// lostName is the file, in version-2 of the data directory, that says that this
// server has forgotten what it acknowledged. It is there from the beginning of
// Forget until an epoch is adopted: a crash in between leaves a server that is
// lost and empty, never one with half a history.
const lostName = "paddock.lost"

// maxAside is of how many times the files that were set aside are kept.
const maxAside = 3

// Forget sets all files aside, under names that no server reads, and returns an
// empty tree: there is no other way to the leader's history. The accepted epoch
// stays, for a promise is a promise. The server counts as lost
// (Recovery.Lost, also after a restart) until SetCurrentEpoch or Install says that
// it has a history again. An error is final.
func (s *Store) Forget() (*znode.Tree, error) {
	if err := s.failed(); err != nil {
		return nil, err
	}
	s.filesMu.Lock()
	defer s.filesMu.Unlock()
	if err := s.closeLog(); err != nil {
		return nil, err
	}
	err := s.markLost()
	var tree *znode.Tree
	if err == nil {
		s.logger.Warn("history set aside: it cannot be brought to the leader's", "zxid", s.LastSynced())
		tree, err = s.recoverLost()
	}
	if err != nil {
		return nil, s.fail(fmt.Errorf("set the history aside: %w", err))
	}
	return tree, nil
}

// markLost writes the file that says so.
func (s *Store) markLost() error {
	if err := writeWhole(s.fs, s.snapDir, lostName, nil); err != nil {
		return fmt.Errorf("write %s: %w", lostName, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = true
	return nil
}

// isLost reports whether Forget has begun and no epoch was adopted since. The
// file initialize, by which an operator lets a server start empty, ends it.
func (s *Store) isLost() (bool, error) {
	if _, err := s.fs.Stat(filepath.Join(s.snapDir, lostName)); isMissing(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if _, err := s.fs.Stat(filepath.Join(s.cfg.LogDir, "initialize")); err == nil {
		return false, s.remove(s.snapDir, lostName) // Recover removes the other one
	}
	return true, nil
}

// recoverLost is recover for a server that is lost: what is left in the
// directories goes aside too.
func (s *Store) recoverLost() (*znode.Tree, error) {
	if err := s.setMark(0, 0, 0); err != nil {
		return nil, err
	}
	for _, dir := range slices.Compact([]string{s.snapDir, s.logDir}) {
		if err := s.setAllAside(dir); err != nil {
			return nil, err
		}
	}
	s.snapBytes.Store(0)
	r := &restorer{s: s}
	if err := r.readEpochs(); err != nil {
		return nil, err
	}
	r.tree = znode.New(s.cfg.Znode)
	r.rec.Lost = true
	s.lastAppended = 0
	s.synced.Store(0)
	s.mu.Lock()
	s.lost, s.current, s.markEpoch, s.recovery = true, epochState{}, 0, r.rec
	s.mu.Unlock()
	return r.tree, nil
}

// setAllAside gives logs, snapshots and the current epoch names that no server
// reads. It keeps those of the last times it did so.
func (s *Store) setAllAside(dir string) error {
	list, err := s.fs.List(dir)
	if err != nil {
		return err
	}
	var move []string
	var times []int
	for _, fi := range list {
		_, isLog := parseLogName(fi.Name)
		_, _, isSnap := parseSnapName(fi.Name)
		if isLog || isSnap || strings.HasPrefix(fi.Name, currentName) || fi.Name == noteName {
			move = append(move, fi.Name)
		}
		if n := asideTime(fi.Name); n > 0 {
			times = append(times, n)
		}
	}
	if len(move) == 0 {
		return nil
	}
	next := 1 + slices.Max(append(times, 0))
	for _, fi := range list {
		if n := asideTime(fi.Name); n > 0 && n <= next-maxAside {
			if err := s.fs.Remove(filepath.Join(dir, fi.Name)); err != nil {
				return err
			}
		}
	}
	for _, name := range move {
		aside := fmt.Sprintf("%s%d.%s", asideName, next, name)
		if err := s.fs.Rename(filepath.Join(dir, name), filepath.Join(dir, aside)); err != nil {
			return err
		}
	}
	return s.fs.SyncDir(dir)
}

// asideTime returns the number in the name of a file that was set aside as
// useless, 0 for every other file.
func asideTime(name string) int {
	rest, ok := strings.CutPrefix(name, asideName)
	if !ok {
		return 0
	}
	number, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return n
}

// found ends the state of being lost: an epoch with its history was adopted. A
// history that came by the log alone began with nothing.
func (s *Store) found() error {
	s.mu.Lock()
	lost := s.lost
	s.lost = false
	s.mu.Unlock()
	if !lost {
		return nil
	}
	fl, err := s.listFiles()
	if err == nil && len(fl.snaps) == 0 {
		err = s.writeEmptySnapshot(znode.New(s.cfg.Znode))
	}
	if err == nil {
		err = s.remove(s.snapDir, lostName)
	}
	if err != nil {
		return s.fail(fmt.Errorf("end the state of being lost: %w", err))
	}
	return nil
}
