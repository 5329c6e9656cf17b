package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"github.com/paddockio/paddock/zab"
)

// The epoch files (class QuorumPeer): acceptedEpoch is the promise to no earlier
// leader, currentEpoch names the history that this server has adopted.
const (
	acceptedName = "acceptedEpoch"
	currentName  = "currentEpoch"
)

// epochState is what is known of one epoch file.
type epochState struct {
	epoch zab.Epoch
	known bool
	found bool // a file was there, good or not
	loose bool // the temporary file has it, and nobody knows whether that is safe
	temp  bool // there is a temporary file

	damaged bool // the file is no number; a temporary one may know all the same
}

// readEpoch reads an epoch file and the temporary file of an interrupted write.
// The larger counts: a promise may have left this server after its write.
func readEpoch(fsys FS, dir, name string) (epochState, error) {
	var st epochState
	for _, n := range []string{name, name + ".tmp"} {
		b, err := readSmall(fsys, filepath.Join(dir, n))
		if isMissing(err) {
			continue
		}
		if err != nil {
			return st, err
		}
		st.found = st.found || n == name
		st.temp = n != name
		v, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 32)
		if err != nil {
			st.damaged = st.damaged || n == name
			continue
		}
		if e := zab.Epoch(v); !st.known || e > st.epoch {
			st.epoch, st.known, st.loose = e, true, n != name
		}
	}
	return st, nil
}

// settleEpochFiles writes the epochs again that were found in the temporary files
// of interrupted writes: before anybody is told of them, they must be safe. A
// temporary file that does not count now must not come back and count later.
func (s *Store) settleEpochFiles() error {
	for i, st := range []*epochState{&s.accepted, &s.current} {
		name := []string{acceptedName, currentName}[i]
		s.mu.Lock()
		was := *st
		s.mu.Unlock()
		var err error
		switch {
		case was.loose:
			err = writeWhole(s.fs, s.snapDir, name, strconv.AppendUint(nil, uint64(was.epoch), 10))
		case was.temp:
			err = s.remove(s.snapDir, name+".tmp")
		}
		if err != nil {
			return s.fail(fmt.Errorf("settle %s: %w", name, err))
		}
		s.mu.Lock()
		st.found = st.found || st.loose
		st.loose, st.temp = false, false
		s.mu.Unlock()
	}
	return nil
}

// writeWhole replaces a small file so that a crash leaves the old or the new one.
func writeWhole(fsys FS, dir, name string, b []byte) error {
	tmp := filepath.Join(dir, name+".tmp")
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	_, werr := f.WriteAt(b, 0)
	if werr == nil {
		werr = f.Sync()
	}
	if err := errors.Join(werr, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", tmp, err)
	}
	if err := fsys.Rename(tmp, filepath.Join(dir, name)); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

// readSmall reads a file of which only a few bytes matter.
func readSmall(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 4096)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b[:n], nil
}

// AcceptedEpoch returns the latest epoch that this server has promised to: no
// leader of an earlier one may be followed. The error is ErrEpochUnknown, perhaps as
// ErrEpochDamaged, if the promise is lost; such a server must not count in a quorum until it is synced.
// Call it after Recover.
func (s *Store) AcceptedEpoch() (zab.Epoch, error) { return s.epochOf(&s.accepted, acceptedName) }

// CurrentEpoch returns the epoch whose history this server has adopted, at least
// that of the last transaction. Call it after Recover.
func (s *Store) CurrentEpoch() (zab.Epoch, error) { return s.epochOf(&s.current, currentName) }

func (s *Store) epochOf(st *epochState, name string) (zab.Epoch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.known {
		return st.epoch, nil
	}
	err := ErrEpochUnknown
	if st.damaged {
		err = ErrEpochDamaged
	}
	return st.epoch, fmt.Errorf("%s: %w", filepath.Join(s.snapDir, name), err)
}

// SetAcceptedEpoch makes a promise. When it returns nil the promise survives a
// crash; an error is final. Going back is refused.
func (s *Store) SetAcceptedEpoch(e zab.Epoch) error { return s.setEpoch(&s.accepted, acceptedName, e) }

// SetCurrentEpoch says that the history of epoch e has been adopted and is safe.
// It must not be above the accepted epoch.
func (s *Store) SetCurrentEpoch(e zab.Epoch) error {
	s.mu.Lock()
	accepted := s.accepted
	s.mu.Unlock()
	if !accepted.known || e > accepted.epoch {
		return fmt.Errorf("set %s %d: the accepted epoch is %d", currentName, e, accepted.epoch)
	}
	if err := s.setEpoch(&s.current, currentName, e); err != nil {
		return err
	}
	return s.found()
}

func (s *Store) setEpoch(st *epochState, name string, e zab.Epoch) error {
	if err := s.failed(); err != nil {
		return err
	}
	s.mu.Lock()
	cur := *st
	s.mu.Unlock()
	if cur.known && e == cur.epoch && cur.found {
		return nil
	}
	if cur.known && e < cur.epoch {
		return fmt.Errorf("set %s %d: it is %d already", name, e, cur.epoch)
	}
	if err := writeWhole(s.fs, s.snapDir, name, strconv.AppendUint(nil, uint64(e), 10)); err != nil {
		return s.fail(fmt.Errorf("write %s: %w", name, err))
	}
	s.mu.Lock()
	*st = epochState{epoch: e, known: true, found: true}
	if st == &s.current {
		s.markEpoch = e
	}
	s.mu.Unlock()
	if st == &s.current {
		// A mark of the epoch before does not count any more.
		return s.syncMark()
	}
	return nil
}
