//go:build !linux

package transport

import (
	"syscall"
	"time"
)

// controlTimeout does nothing: keep-alive and write deadlines alone find dead peers
// here.
func controlTimeout(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
