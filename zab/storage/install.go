package storage

import (
	"fmt"
	"path/filepath"
	"sync"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/znode"
)

// Install makes what f has frozen the only state: the answer to a leader's SNAP.
// The snapshot becomes safe first; then everything later than it goes and
// currentEpoch becomes epoch, which must have been accepted. A note says what is
// being done, so that the next Recover can finish it: a crash leaves the old
// state or the new one, never old entries behind a new snapshot (reliability
// 4.5). It ends the freeze in any case; an error is final.
func (s *Store) Install(f *znode.Frozen, lock sync.Locker, epoch zab.Epoch) error {
	if err := s.failed(); err != nil {
		f.Discard(lock)
		return err
	}
	s.filesMu.Lock()
	defer s.filesMu.Unlock()
	if err := s.closeLog(); err != nil {
		f.Discard(lock)
		return err
	}
	zxid, digest, name := f.Zxid, f.Digest, snapName(f.Zxid, s.cfg.Compression)
	_, err := s.writeTemp(name, f, lock, false)
	if err == nil {
		err = s.readBack(filepath.Join(s.snapDir, tempName+name), name, digest, false)
	}
	if err == nil {
		err = writeWhole(s.fs, s.snapDir, noteName, fmt.Appendf(nil, "%s %x %d\n", name, uint64(zxid), epoch))
	}
	if err == nil {
		err = s.fs.Rename(filepath.Join(s.snapDir, tempName+name), filepath.Join(s.snapDir, name))
	}
	if err == nil {
		err = s.fs.SyncDir(s.snapDir)
	}
	if err == nil {
		err = s.finish(zxid, epoch)
	}
	if err != nil {
		return s.fail(fmt.Errorf("install snapshot %v: %w", zxid, err))
	}
	s.lastAppended = zxid
	s.synced.Store(int64(zxid))
	return nil
}

// finish does what remains once the snapshot has its name, then drops the note.
func (s *Store) finish(zxid zab.Zxid, epoch zab.Epoch) error {
	fl, err := s.listFiles()
	if err != nil {
		return err
	}
	if err := s.forget(fl, zxid); err != nil {
		return err
	}
	if err := s.SetCurrentEpoch(epoch); err != nil {
		return err
	}
	return s.remove(s.snapDir, noteName)
}

// finishInstall carries an Install to its end that a crash interrupted, or
// forgets it if its snapshot never got its name.
func (s *Store) finishInstall() error {
	b, err := readSmall(s.fs, filepath.Join(s.snapDir, noteName))
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var name string
	var zxid uint64
	var epoch zab.Epoch
	if _, err := fmt.Sscanf(string(b), "%s %x %d\n", &name, &zxid, &epoch); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(s.snapDir, noteName), err)
	}
	if _, err := s.fs.Stat(filepath.Join(s.snapDir, name)); isMissing(err) {
		return s.remove(s.snapDir, noteName)
	} else if err != nil {
		return err
	}
	if _, err := s.checkSnapshot(name); err != nil {
		return fmt.Errorf("finish the installation of %s: %w", name, err)
	}
	s.logger.Info("interrupted installation of a snapshot is finished", "file", name)
	// The epochs are read for SetCurrentEpoch: the snapshot was taken from a leader
	// whose epoch had been accepted.
	if err := (&restorer{s: s}).readEpochs(); err != nil {
		return err
	}
	return s.finish(zab.Zxid(zxid), epoch)
}
