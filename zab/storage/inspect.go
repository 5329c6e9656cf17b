package storage

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// An Entry is one transaction in a log.
type Entry struct {
	Zxid    zab.Zxid
	Payload []byte // serialized transaction; good until the next entry
	File    string
	Offset  int64
}

// Txn decodes the payload, which it copies.
func (e *Entry) Txn() (*wire.Txn, error) {
	var d TxnDecoder
	return d.Decode(slices.Clone(e.Payload))
}

// LogEntries reads a transaction log of this package or of Apache. The last pair
// may hold an error: a *DamageError if what follows is no entry. Whether that is
// an unfinished write is for recovery to say, which knows the other files.
func LogEntries(path string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		f, err := OSFS{}.Open(path)
		if err != nil {
			yield(Entry{File: path}, err)
			return
		}
		defer f.Close()
		size, err := f.Size()
		if err != nil {
			yield(Entry{File: path}, err)
			return
		}
		scanLog(f, size, path, 0, yield)
	}
}

// scanLog yields the entries of a log, and at the end an error if there is one.
// It reports whether to go on.
func scanLog(f io.ReaderAt, size int64, path string, last zab.Zxid, yield func(Entry, error) bool) bool {
	var bad *badEntry
	rd, err := newLogReader(f, size)
	off := int64(0)
	for err == nil {
		var payload []byte
		payload, off, err = rd.next()
		if err == nil {
			last = payloadZxid(payload)
			if !yield(Entry{Zxid: last, Payload: payload, File: path, Offset: off}, nil) {
				return false
			}
		}
	}
	switch {
	case err == io.EOF:
		t, terr := examineTail(f, size, off, last, nil)
		if terr == nil && (t.end == t.off || off == 0) {
			return true
		}
		if err = terr; err == nil {
			err = &DamageError{File: path, Offset: off, Last: last, Reason: t.reason}
		}
	case errors.As(err, &bad):
		err = &DamageError{File: path, Offset: bad.off, Last: last, Reason: bad.reason}
	}
	return yield(Entry{File: path, Offset: off}, err)
}

// Entries reads the safe transactions behind a zxid that is in the logs, or that
// they begin behind. If they do not reach back so far the first pair holds
// ErrNoHistory. Logs that Purge deletes meanwhile end it with an error.
func (s *Store) Entries(after zab.Zxid) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		end := s.LastSynced()
		if after == end {
			return
		}
		fl, err := s.listFiles()
		if err != nil {
			yield(Entry{}, err)
			return
		}
		first := 0
		for i, l := range fl.logs {
			if l.zxid <= after+1 {
				first = i
			}
		}
		last, found := after, false
		for _, l := range fl.logs[min(first, len(fl.logs)):] {
			if last == end {
				return
			}
			path := filepath.Join(s.logDir, l.name)
			f, err := s.fs.Open(path)
			if err != nil {
				yield(Entry{File: path}, err)
				return
			}
			more := scanLog(f, l.size, path, last, func(e Entry, err error) bool {
				if err == nil && e.Zxid <= after {
					found = found || e.Zxid == after
					return true
				}
				if err == nil && !e.Zxid.Follows(last) {
					err = fmt.Errorf("%s: %v does not follow %v", e.File, e.Zxid, last)
				}
				if z, ok := fl.between(last, e.Zxid); ok && err == nil {
					err = fmt.Errorf("%w: %v, of which there is a snapshot, came between %v and %v", ErrNoHistory, z, last, e.Zxid)
				}
				if err == nil && last == after && !found && e.Zxid != after+1 {
					err = ErrNoHistory // a later epoch: others may lie between
				}
				if err != nil {
					if last == after && !errors.Is(err, ErrNoHistory) {
						err = fmt.Errorf("%w: %w", ErrNoHistory, err)
					}
					yield(e, err)
					return false
				}
				last = e.Zxid
				return yield(e, nil) && last != end
			})
			f.Close()
			if !more {
				return
			}
		}
		if last != end {
			yield(Entry{}, fmt.Errorf("%w: the logs end at %v", ErrNoHistory, last))
		}
	}
}

// ReadSnapshot reads a snapshot file of any form and checks all of it. h may be
// nil.
func ReadSnapshot(path string, h SnapshotHandler) (SnapshotInfo, error) {
	return loadSnapshot(OSFS{}, path, h)
}

// A FileReport is what Verify found in one file.
type FileReport struct {
	Name        string
	Bytes       int64
	First, Last zab.Zxid // of a snapshot: its zxid
	Entries     int      // of a log
	Snapshot    SnapshotInfo
	Err         error // why the file cannot be used wholly
}

// A Report is what Verify found in a directory.
type Report struct {
	Files                       []FileReport // snapshots, then logs, each in order
	AcceptedEpoch, CurrentEpoch string       // as in the files; "" if missing
	LastZxid                    zab.Zxid     // what recovery would end at
	Znodes                      int
	DroppedBytes                int64 // an unfinished write that recovery would cut off the newest log
	// Err is why a server would refuse to start, or nil.
	Err error
}

// Verify reads every file of a data directory, with all checksums, and tries a
// recovery, without changing anything. If the directory is in use, the newest
// log may change while it is read.
func Verify(cfg Config) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	s := &Store{cfg: cfg, fs: cfg.FS, logger: cfg.Logger,
		snapDir: filepath.Join(cfg.DataDir, versionDir), logDir: filepath.Join(cfg.LogDir, versionDir)}
	fl, err := s.listFiles()
	if err != nil {
		return nil, err
	}
	rep := &Report{}
	for _, sn := range fl.snaps {
		info, err := s.checkSnapshot(sn.name)
		rep.Files = append(rep.Files, FileReport{Name: sn.name, Bytes: sn.size, First: sn.zxid, Last: sn.zxid, Snapshot: info, Err: err})
	}
	for _, l := range fl.logs {
		rep.Files = append(rep.Files, s.verifyLog(l))
	}
	for name, to := range map[string]*string{acceptedName: &rep.AcceptedEpoch, currentName: &rep.CurrentEpoch} {
		b, err := readSmall(s.fs, filepath.Join(s.snapDir, name))
		if err != nil && !isMissing(err) {
			return nil, err
		}
		*to = strings.TrimSpace(string(b))
	}
	m, _, err := readMark(s.fs, filepath.Join(s.logDir, markName))
	if err != nil {
		return nil, err
	}
	s.mark = &markFile{cur: m}
	if len(fl.logs) == 0 && len(fl.snaps) == 0 {
		rep.Err = errors.New("the directory is empty")
		return rep, nil
	}
	r := &restorer{s: s}
	rep.Err = r.read()
	rep.LastZxid, rep.DroppedBytes = r.last, r.rec.DroppedBytes
	for i := range rep.Files {
		if rep.Files[i].Name == r.rec.DroppedFrom {
			rep.Files[i].Err = nil // an unfinished write is no damage
		}
	}
	if r.tree != nil {
		rep.Znodes = r.tree.NodeCount()
	}
	return rep, nil
}

func (s *Store) verifyLog(l logFile) FileReport {
	rep := FileReport{Name: l.name, Bytes: l.size}
	path := filepath.Join(s.logDir, l.name)
	f, err := s.fs.Open(path)
	if err != nil {
		rep.Err = err
		return rep
	}
	defer f.Close()
	var dec TxnDecoder
	scanLog(f, l.size, path, 0, func(e Entry, err error) bool {
		if err != nil {
			rep.Err = err
			return false
		}
		switch {
		case rep.Entries == 0 && e.Zxid != l.zxid:
			rep.Err = fmt.Errorf("the first entry is %v, which is not the name", e.Zxid)
		case rep.Entries > 0 && !e.Zxid.Follows(rep.Last) && rep.Err == nil:
			rep.Err = &DamageError{File: path, Offset: e.Offset, Last: rep.Last, Reason: fmt.Sprintf("entry %v does not follow %v", e.Zxid, rep.Last)}
		}
		if _, derr := dec.Decode(e.Payload); derr != nil && rep.Err == nil {
			rep.Err = &DamageError{File: path, Offset: e.Offset, Last: rep.Last, Reason: "entry " + e.Zxid.String(), Err: derr}
		}
		if rep.Entries == 0 {
			rep.First = e.Zxid
		}
		rep.Entries++
		rep.Last = e.Zxid
		return true
	})
	return rep
}

// Cut gives up everything behind the last good transaction of a damaged
// directory, so that a server starts on what is before it. Nothing is deleted:
// the files that are cut or left out are kept under names that no server reads,
// which it returns. It refuses a directory that is in use. An operator decides
// this, never a server: acknowledged transactions may be lost.
func Cut(cfg Config) (last zab.Zxid, kept []string, err error) {
	cfg.NoMark, cfg.NoForceSync = false, false // the mark must not accuse what is cut
	s, err := Open(cfg)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	fl, err := s.listFiles()
	if err != nil {
		return 0, nil, err
	}
	r := &restorer{s: s}
	if err := r.read(); err == nil {
		return r.last, nil, errors.New("the directory is not damaged")
	} else if r.tree == nil {
		return 0, nil, fmt.Errorf("cannot be cut: %w", err)
	}
	if err := s.setMark(0, 0, 0); err != nil {
		return 0, nil, err
	}
	last = r.last
	for _, sn := range slices.Backward(fl.snaps) {
		if sn.zxid <= last && !slices.Contains(r.rec.Skipped, sn.name) {
			break
		}
		if err := s.setAside(s.snapDir, sn.name); err != nil {
			return last, kept, err
		}
		kept = append(kept, asideName+sn.name)
	}
	for _, l := range slices.Backward(fl.logs) {
		if l.zxid > last {
			if err := s.setAside(s.logDir, l.name); err != nil {
				return last, kept, err
			}
			kept = append(kept, asideName+l.name)
			continue
		}
		if err := s.copyAside(l); err != nil {
			return last, kept, err
		}
		kept = append(kept, asideName+l.name)
		return last, kept, s.cutLog(l, last)
	}
	return last, kept, nil
}

// asideName begins the names of files that Cut keeps.
const asideName = "paddock.aside."

func (s *Store) setAside(dir, name string) error {
	if err := s.fs.Rename(filepath.Join(dir, name), filepath.Join(dir, asideName+name)); err != nil {
		return err
	}
	return s.fs.SyncDir(dir)
}

func (s *Store) copyAside(l logFile) (err error) {
	src, err := s.fs.Open(filepath.Join(s.logDir, l.name))
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := s.createFile(filepath.Join(s.logDir, asideName+l.name))
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, io.NewSectionReader(src, 0, l.size))
	if _, err = dst.finish(err); err != nil {
		return err
	}
	return s.fs.SyncDir(s.logDir)
}

// NewTree reads a snapshot stream into a tree as of zxid.
func NewTree(src io.Reader, cfg znode.Config, zxid zab.Zxid) (*znode.Tree, SnapshotInfo, error) {
	b := znode.NewBuilder(cfg)
	info, err := readSnapshot(src, b)
	if err != nil {
		return nil, info, err
	}
	t, err := b.Finish(zxid)
	return t, info, err
}
