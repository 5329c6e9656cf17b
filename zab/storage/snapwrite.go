package storage

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/adler32"
	"io"
	"path/filepath"
	"sync"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// snapWriter writes the parts of a snapshot with the checksum over them.
type snapWriter struct {
	w   io.Writer
	sum hash.Hash32 // nil: nobody needs it
}

func (s *snapWriter) write(b []byte) error {
	if s.sum != nil {
		s.sum.Write(b)
	}
	_, err := s.w.Write(b)
	return err
}

// seal writes the checksum of everything before it, and the mark.
func (s *snapWriter) seal() error {
	b := binary.BigEndian.AppendUint64(nil, uint64(s.sum.Sum32()))
	return s.write(wire.AppendString(b, "/"))
}

// state writes sessions, ACL lists and znodes. It ends the freeze.
func (s *snapWriter) state(f *znode.Frozen, lock sync.Locker) error {
	b := wire.AppendInt(nil, int32(len(f.Sessions)))
	for _, x := range f.Sessions {
		b = wire.AppendInt(wire.AppendLong(b, int64(x.ID)), x.TimeoutMs)
	}
	b = wire.AppendInt(b, int32(len(f.ACLs)))
	for _, x := range f.ACLs {
		b = wire.AppendACL(wire.AppendLong(b, x.Key), x.ACL)
	}
	if err := s.write(b); err != nil {
		f.Discard(lock)
		return err
	}
	if err := f.Walk(lock, s.write); err != nil {
		return err
	}
	return s.write(wire.AppendString(nil, "/"))
}

// EncodeSnapshot writes the snapshot of f to w, in the form that goes into
// files, in pieces of up to some 10 KiB. It ends the freeze. lock is as for
// znode.Frozen.Walk.
func EncodeSnapshot(w io.Writer, f *znode.Frozen, lock sync.Locker) error {
	s := &snapWriter{w: w, sum: adler32.New()}
	if err := s.write(appendHeader(nil, snapMagic, -1)); err != nil {
		f.Discard(lock)
		return err
	}
	if err := s.state(f, lock); err != nil {
		return err
	}
	if err := s.seal(); err != nil {
		return err
	}
	// A reader with digests expects this section; digest 0 of zxid 0 says that
	// there is none.
	var b []byte
	if f.Digest.Version == wire.DigestVersion {
		b = wire.AppendLong(b, int64(f.Zxid))
		b = wire.AppendInt(b, f.Digest.Version)
		b = wire.AppendLong(b, int64(f.Digest.Tree))
	} else {
		b = wire.AppendLong(b, 0)
		b = wire.AppendInt(b, wire.DigestVersion)
		b = wire.AppendLong(b, 0)
	}
	if err := s.write(b); err != nil {
		return err
	}
	if err := s.seal(); err != nil {
		return err
	}
	if err := s.write(wire.AppendLong(nil, int64(f.Zxid))); err != nil {
		return err
	}
	return s.seal()
}

// WriteSnapshot writes what f has frozen to snapshot.<zxid>, reads it back, and
// only then gives it its name: a crash at any moment leaves a whole snapshot of
// that name or none.
// It returns the file and its size. It ends the freeze in any case, and may run
// while the log is written; only one runs at a time.
//
// An error is not final (rule R2): the logs still hold everything, and the next
// attempt may succeed.
func (s *Store) WriteSnapshot(f *znode.Frozen, lock sync.Locker) (path string, size int64, err error) {
	s.filesMu.Lock()
	defer s.filesMu.Unlock()
	if err := errors.Join(s.failed(), s.lock.held()); err != nil {
		f.Discard(lock)
		return "", 0, err
	}
	name := snapName(f.Zxid, s.cfg.Compression)
	path = filepath.Join(s.snapDir, name)
	digest := f.Digest
	size, err = s.writeTemp(name, f, lock, true)
	if err != nil {
		return "", 0, fmt.Errorf("write %s: %w", path, err)
	}
	if err := s.publish(name, digest); err != nil {
		return "", 0, fmt.Errorf("write %s: %w", path, err)
	}
	s.snapBytes.Store(size)
	return path, size, nil
}

// writeTemp writes a snapshot under a temporary name and makes it safe. It ends
// the freeze.
func (s *Store) writeTemp(name string, f *znode.Frozen, lock sync.Locker, polite bool) (size int64, err error) {
	tmp := filepath.Join(s.snapDir, tempName+name)
	out, err := s.createFile(tmp)
	if err != nil {
		f.Discard(lock)
		return 0, err
	}
	out.polite = polite
	if _, c, _ := parseSnapName(name); c == Gzip {
		z, _ := gzip.NewWriterLevel(out, gzip.BestSpeed)
		err = errors.Join(EncodeSnapshot(z, f, lock), z.Close())
	} else {
		err = EncodeSnapshot(out, f, lock)
	}
	return out.finish(err)
}

// publish gives a temporary file its name, after it has been read back: the name
// may be that of a good file, and must never be that of a bad one.
func (s *Store) publish(name string, digest wire.Digest) error {
	tmp := filepath.Join(s.snapDir, tempName+name)
	if err := s.readBack(tmp, name, digest, true); err != nil {
		return errors.Join(err, s.fs.Remove(tmp))
	}
	if err := s.fs.Rename(tmp, filepath.Join(s.snapDir, name)); err != nil {
		s.fs.Remove(tmp)
		return err
	}
	return s.fs.SyncDir(s.snapDir)
}

// readBack reads a file that will have the given name, with all checksums: what the
// disk has of it, not what the page cache has, if the file system can tell them apart.
func (s *Store) readBack(path, name string, digest wire.Digest, polite bool) error {
	f, err := s.openFile(path)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	defer f.Close()
	f.polite = polite
	info, err := loadSnapshotFrom(f, f.size, name, nil)
	if err == nil && digest.Version != 0 && info.Digest != digest {
		err = fmt.Errorf("digest %x, need %x", info.Digest.Tree, digest.Tree)
	}
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	return nil
}

// checkSnapshot reads a snapshot with all its checksums.
func (s *Store) checkSnapshot(name string) (SnapshotInfo, error) {
	return loadSnapshot(s.fs, filepath.Join(s.snapDir, name), nil)
}

// loadSnapshot reads a snapshot file; h may be nil.
func loadSnapshot(fsys FS, path string, h SnapshotHandler) (SnapshotInfo, error) {
	return loadSnapshotAs(fsys, path, filepath.Base(path), h)
}

// loadSnapshotAs reads a snapshot that has, or will have, the given name.
func loadSnapshotAs(fsys FS, path, name string, h SnapshotHandler) (SnapshotInfo, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return SnapshotInfo{}, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return SnapshotInfo{}, err
	}
	return loadSnapshotFrom(io.NewSectionReader(f, 0, size), size, name, h)
}

// loadSnapshotFrom reads a snapshot from the bytes of a file.
func loadSnapshotFrom(file io.Reader, size int64, name string, h SnapshotHandler) (SnapshotInfo, error) {
	z, c, ok := parseSnapName(name)
	if !ok {
		return SnapshotInfo{}, fmt.Errorf("%s: not the name of a snapshot", name)
	}
	if size == 0 {
		return SnapshotInfo{}, errors.New("the file is empty")
	}
	src, err := unpack(file, c)
	if err != nil {
		return SnapshotInfo{}, err
	}
	info, err := readSnapshot(src, h)
	info.Zxid, info.Compression = zab.Zxid(z), c
	return info, err
}
