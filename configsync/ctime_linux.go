package configsync

import (
	"io/fs"
	"syscall"
	"time"
)

// ctime returns the time of the last change of a file or of its attributes,
// which nobody can set back.
func ctime(info fs.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
	}
	return info.ModTime()
}
