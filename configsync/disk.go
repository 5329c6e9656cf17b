package configsync

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// A disk is the part of a file system that the mirror writes to. Tests put one
// in its place that fails, or forgets what was not synced.
type disk interface {
	// open returns a directory, which it makes (with its parents) if make is set.
	open(path string, perm fs.FileMode, make bool) (directory, error)
}

// A directory gives access to what is beneath one directory, by names relative
// to it, and to nothing else (see [os.Root]).
type directory interface {
	lstat(name string) (fs.FileInfo, error)
	// read reads a regular file of at most max bytes without following a link.
	read(name string, max int64) ([]byte, fs.FileInfo, error)
	mkdir(name string, perm fs.FileMode) error
	// create makes a file that must not exist, readable by its owner alone.
	create(name string) (file, error)
	// truncate opens an existing file for writing in place.
	truncate(name string) (file, error)
	// attributes opens an existing file for changing its mode and owner.
	attributes(name string) (file, error)
	chtimes(name string, mtime time.Time) error
	rename(from, to string) error
	remove(name string) error
	removeAll(name string) error
	syncDir(name string) error
	io.Closer
}

type file interface {
	io.WriteCloser
	Chmod(mode fs.FileMode) error
	Chown(uid, gid int) error
	Sync() error
}

type osDisk struct{}

func (osDisk) open(path string, perm fs.FileMode, mk bool) (directory, error) {
	root, err := os.OpenRoot(path)
	if mk && errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(path, perm); err != nil {
			return nil, err
		}
		root, err = os.OpenRoot(path)
	}
	if err != nil {
		return nil, err
	}
	return osDirectory{root}, nil
}

type osDirectory struct{ *os.Root }

var errNotRegular = errors.New("is not a regular file")

func (d osDirectory) lstat(name string) (fs.FileInfo, error) { return d.Lstat(name) }

// openSame opens the regular file that name is, not one that a link leads to.
func (d osDirectory) openSame(name string, flag int) (*os.File, fs.FileInfo, error) {
	before, err := d.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, nil, &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	f, err := d.OpenFile(name, flag|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(before, info) {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("was replaced meanwhile")}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

func (d osDirectory) read(name string, max int64) ([]byte, fs.FileInfo, error) {
	f, info, err := d.openSame(name, os.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(data)) > max {
		err = &fs.PathError{Op: "read", Path: name, Err: syscall.EFBIG}
	}
	return data, info, err
}

func (d osDirectory) mkdir(name string, perm fs.FileMode) error {
	if err := d.Mkdir(name, perm); err != nil {
		return err
	}
	return d.Chmod(name, perm) // the umask is for people, not for what a configuration says
}

func (d osDirectory) create(name string) (file, error) {
	f, err := d.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d osDirectory) truncate(name string) (file, error) {
	f, _, err := d.openSame(name, os.O_WRONLY)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d osDirectory) attributes(name string) (file, error) {
	f, _, err := d.openSame(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d osDirectory) chtimes(name string, mtime time.Time) error {
	return d.Chtimes(name, mtime, mtime)
}
func (d osDirectory) rename(from, to string) error { return d.Rename(from, to) }
func (d osDirectory) remove(name string) error     { return d.Remove(name) }
func (d osDirectory) removeAll(name string) error  { return d.RemoveAll(name) }

func (d osDirectory) syncDir(name string) error {
	f, err := d.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// owner returns the numeric owner and group of a file.
func owner(info fs.FileInfo) (uid, gid int) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), int(st.Gid)
	}
	return -1, -1
}
