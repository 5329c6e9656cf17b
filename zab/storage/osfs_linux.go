package storage

import (
	"os"
	"syscall"
)

// datasync skips the write of the inode when only times have changed, which
// is the case for writes into the pre-allocated part of a log.
func datasync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err == syscall.EINTR {
			continue // nothing was tried yet
		}
		return os.NewSyscallError("fdatasync", err)
	}
}

// The flags of sync_file_range: wait for writes under way, start, wait.
const rangeWriteAndWait = 1 | 2 | 4

// WriteBack implements an optional method of File, see fileWriter.
func (f osFile) WriteBack(off, n int64) error {
	err := syscall.SyncFileRange(int(f.Fd()), off, n, rangeWriteAndWait)
	if err == syscall.ENOSYS || err == syscall.ESPIPE || err == syscall.EINVAL {
		return f.Datasync() // this file system cannot
	}
	return os.NewSyscallError("sync_file_range", err)
}

// OpenDirect implements an optional method of FS: the file is opened past the
// page cache. What is written to it is safe when WriteAt returns if safe says so.
// Offset, length and memory must be multiples of what the file system asks for.
func (OSFS) OpenDirect(name string, safe bool) (File, error) {
	flag := os.O_RDWR | syscall.O_DIRECT
	if safe {
		flag |= syscall.O_DSYNC
	}
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	return directFile{osFile{f}, safe}, nil
}

type directFile struct {
	osFile
	safe bool // what is written
}

// Datasync implements File.
func (f directFile) Datasync() error {
	if f.safe {
		return nil
	}
	return f.osFile.Datasync()
}
