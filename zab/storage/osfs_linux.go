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

// WriteBack implements an optional method of File, see writeBack.
func (f osFile) WriteBack(off, n int64) error {
	err := syscall.SyncFileRange(int(f.Fd()), off, n, rangeWriteAndWait)
	if err == syscall.ENOSYS || err == syscall.ESPIPE || err == syscall.EINVAL {
		return f.Datasync() // this file system cannot
	}
	return os.NewSyscallError("sync_file_range", err)
}
