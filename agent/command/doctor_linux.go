package command

import "syscall"

// freeBytes is the room that is left on the disk of a directory.
func freeBytes(dir string) (n uint64, ok bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, false
	}
	return st.Bavail * uint64(st.Bsize), true
}

// clockSynced reports whether a time server sets the clock (adjtimex, STA_UNSYNC).
func clockSynced() (synced, ok bool) {
	const unsynced = 0x40
	var t syscall.Timex
	if _, err := syscall.Adjtimex(&t); err != nil {
		return false, false
	}
	return t.Status&unsynced == 0, true
}
