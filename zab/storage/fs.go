package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// FS is the part of a file system that a store needs. Names are paths as the
// store was given them, joined with the separator of the system. Errors satisfy
// errors.Is with those of package io/fs.
//
// What a crash leaves: the bytes of a file are safe after File.Sync or
// File.Datasync, its name after SyncDir of its directory, and nothing else is.
type FS interface {
	// Open opens an existing file for reading only.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing.
	OpenWrite(name string) (File, error)
	// Create makes a file, readable by its owner only, and empties an old one.
	Create(name string) (File, error)
	Rename(oldname, newname string) error
	Remove(name string) error
	// MkdirAll makes a directory, accessible by its owner only, and those above.
	MkdirAll(dir string) error
	// List returns the entries of a directory in order of their names.
	List(dir string) ([]FileInfo, error)
	// Stat describes a file or a directory.
	Stat(name string) (FileInfo, error)
	// SyncDir makes the names in a directory safe.
	SyncDir(dir string) error
	// Free returns the bytes that can still be written, or a negative number if
	// the system does not tell.
	Free(dir string) (int64, error)
	// Lock takes the lock file for this process until it is closed or the process
	// ends. If another one has it, the error is an *InUseError.
	Lock(name string) (Lock, error)
}

// A File is an open file. Reads and writes may happen at the same time.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Sync makes the bytes and the size safe.
	Sync() error
	// Datasync is Sync without what reading back does not need, such as times.
	Datasync() error
}

// FileInfo describes a file.
type FileInfo struct {
	Name string // within its directory
	Size int64
	Dir  bool
}

// A Lock is a lock file that this process holds.
type Lock interface {
	// Held fails if the file has been deleted or replaced, as when its file system
	// was unmounted.
	Held() error
	io.Closer
}

// InUseError says that another process uses a data directory.
type InUseError struct {
	Path string
	PID  int // 0 if unknown
}

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return e.Path + ": in use by another process: stop that, or set another dataDir"
	}
	return fmt.Sprintf("%s: in use by pid %d: stop that process, or set another dataDir", e.Path, e.PID)
}

// errVanished says that the directory under a running store is gone.
var errVanished = errors.New("the data directory was deleted, replaced or unmounted")

// isMissing reports whether err says that a file is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
