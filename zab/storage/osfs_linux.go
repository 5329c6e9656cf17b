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
