package storage

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// OSFS is the FS of the operating system.
type OSFS struct{}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (f osFile) Datasync() error { return datasync(f.File) }

func open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Open implements FS.
func (OSFS) Open(name string) (File, error) { return open(name, os.O_RDONLY) }

// OpenWrite implements FS.
func (OSFS) OpenWrite(name string) (File, error) { return open(name, os.O_RDWR) }

// Create implements FS.
func (OSFS) Create(name string) (File, error) {
	return open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

// Rename implements FS.
func (OSFS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }

// Remove implements FS.
func (OSFS) Remove(name string) error { return os.Remove(name) }

// MkdirAll implements FS.
func (OSFS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

// List implements FS.
func (OSFS) List(dir string) ([]FileInfo, error) {
	ents, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []FileInfo
	for _, e := range ents {
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, FileInfo{e.Name(), fi.Size(), e.IsDir()})
	}
	slices.SortFunc(list, func(a, b FileInfo) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Stat implements FS.
func (OSFS) Stat(name string) (FileInfo, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return FileInfo{}, err
	}
	return FileInfo{fi.Name(), fi.Size(), fi.IsDir()}, nil
}

// SyncDir implements FS.
func (OSFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Free implements FS.
func (OSFS) Free(dir string) (int64, error) { return freeBytes(dir) }

// Lock implements FS.
func (OSFS) Lock(name string) (Lock, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		b := make([]byte, 32)
		n, _ := f.ReadAt(b, 0)
		f.Close()
		if !errors.Is(err, errLocked) {
			return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
		return nil, &InUseError{Path: name, PID: pid}
	}
	// The number is for people and for the message above: the lock itself is in
	// the kernel, so that the file of a killed process stops nobody.
	terr := f.Truncate(0)
	_, werr := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	if err := errors.Join(terr, werr); err != nil {
		f.Close()
		return nil, err
	}
	return &osLock{f}, nil
}

type osLock struct{ f *os.File }

func (l *osLock) Held() error {
	mine, err := l.f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(l.f.Name())
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(mine, now) {
		return errVanished
	}
	return err
}

func (l *osLock) Close() error { return l.f.Close() }
