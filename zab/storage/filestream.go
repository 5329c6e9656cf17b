package storage

import (
	"errors"
	"io"
	"time"
)

// flushEvery is how much of a large file is sent to the disk at once: a sync of the
// log may have to wait for the disk to take that much. A multiple of block.
const flushEvery = 256 << 10

// maxPause keeps a slow disk from making a snapshot take for ever.
const maxPause = 50 * time.Millisecond

// fileWriter is a new file as a stream that reaches the disk steadily, instead of
// all at once when it is synced; past the page cache if it can, since nobody will
// soon read what was copied there.
type fileWriter struct {
	fs     FS
	name   string
	f      File
	direct File   // the same file past the page cache, or nil
	off    int64  // what was sent to the disk
	buf    []byte // behind off
	// polite leaves the disk to others for as long as it has been used.
	polite bool
}

func (s *Store) createFile(name string) (*fileWriter, error) {
	f, err := s.fs.Create(name)
	if err != nil {
		return nil, err
	}
	return &fileWriter{fs: s.fs, name: name, f: f, direct: s.openDirect(name, false)}, nil
}

// Write implements io.Writer.
func (w *fileWriter) Write(b []byte) (n int, err error) {
	if w.buf == nil {
		w.buf = alignedBytes(flushEvery)
	}
	for len(b) > 0 && err == nil {
		m := min(len(b), flushEvery-len(w.buf))
		w.buf = append(w.buf, b[:m]...)
		b = b[m:]
		n += m
		if len(w.buf) == flushEvery {
			err = w.send()
		}
	}
	return n, err
}

// send sends what has been collected to the disk, without the promise that it is
// safe there; that is cheaper than Datasync, which has the file system commit its
// own state for all files.
func (w *fileWriter) send() (err error) {
	start := time.Now()
	if w.direct != nil {
		if _, err = w.direct.WriteAt(w.buf, w.off); err != nil && w.off == 0 {
			// The file system has other ideas of what a block is.
			err = w.direct.Close()
			w.direct = nil
		}
	}
	if err == nil && w.direct == nil {
		err = w.sendCached()
	}
	if err != nil {
		return err
	}
	w.off += int64(len(w.buf))
	w.buf = w.buf[:0]
	if w.polite {
		time.Sleep(min(time.Since(start), maxPause))
	}
	return nil
}

func (w *fileWriter) sendCached() error {
	if _, err := w.f.WriteAt(w.buf, w.off); err != nil {
		return err
	}
	if f, ok := w.f.(interface{ WriteBack(off, n int64) error }); ok {
		return f.WriteBack(w.off, int64(len(w.buf)))
	}
	return w.f.Datasync()
}

// finish makes the file safe, though not its name, and returns its size. After an
// error, or if failed is one, the file is removed.
func (w *fileWriter) finish(failed error) (size int64, err error) {
	err = failed
	if err == nil {
		_, err = w.f.WriteAt(w.buf, w.off) // not whole blocks
	}
	if err == nil {
		err = w.f.Sync()
	}
	if w.direct != nil {
		err = errors.Join(err, w.direct.Close())
	}
	if err = errors.Join(err, w.f.Close()); err != nil {
		w.fs.Remove(w.name)
		return 0, err
	}
	return w.off + int64(len(w.buf)), nil
}

// fileReader is a file as a stream that comes from the disk itself if the file
// system can do that, whatever the page cache has, and leaves nothing there.
type fileReader struct {
	f, direct File // as in fileWriter
	size, off int64
	mem       []byte // one step of flushEvery bytes, aligned
	buf       []byte // of mem, what was read and not taken yet; off is behind it
	polite    bool   // as in fileWriter
}

func (s *Store) openFile(name string) (*fileReader, error) {
	f, err := s.fs.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &fileReader{f: f, direct: s.openDirect(name, false), size: size, mem: alignedBytes(flushEvery)[:flushEvery]}, nil
}

// Read implements io.Reader.
func (r *fileReader) Read(b []byte) (int, error) {
	if len(r.buf) == 0 {
		if r.off == r.size {
			return 0, io.EOF
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

func (r *fileReader) fill() error {
	start := time.Now()
	r.buf = r.mem[:min(flushEvery, r.size-r.off)]
	if whole := len(r.buf) &^ (block - 1); r.direct != nil && whole > 0 {
		r.buf = r.buf[:whole]
		if _, err := r.direct.ReadAt(r.buf, r.off); err != nil {
			// A file system that does not do this, or a bad disk: the next read tells.
			r.direct.Close()
			r.direct = nil
		}
	}
	if r.direct == nil || len(r.buf) < block {
		if n, err := r.f.ReadAt(r.buf, r.off); n < len(r.buf) {
			r.buf = nil
			return err
		}
	}
	r.off += int64(len(r.buf))
	if r.polite {
		time.Sleep(min(time.Since(start), maxPause))
	}
	return nil
}

func (r *fileReader) Close() error {
	if r.direct != nil {
		r.direct.Close()
	}
	return r.f.Close()
}

// openDirect opens a file so that what is written does not pass the page cache, and
// so that it is safe when WriteAt returns if safe says so; the latter only pays
// where blocks are written that have been written before. It returns nil if that is
// not wanted, or if the file system cannot.
func (s *Store) openDirect(name string, safe bool) File {
	fsys, ok := s.fs.(interface {
		OpenDirect(name string, safe bool) (File, error)
	})
	if !ok || s.cfg.NoForceSync {
		return nil
	}
	f, err := fsys.OpenDirect(name, safe)
	if err != nil {
		return nil
	}
	if _, err := f.ReadAt(alignedBytes(block)[:block], 0); err != nil && err != io.EOF {
		f.Close()
		return nil
	}
	return f
}
