package transport

import (
	"os"
	"syscall"
	"time"
)

// tcpUserTimeout is the socket option TCP_USER_TIMEOUT, which package syscall does
// not name.
const tcpUserTimeout = 0x12

// controlTimeout bounds how long the kernel sends again what nobody acknowledges:
// about 15 minutes otherwise. Accepted connections take it over from the listener.
func controlTimeout(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var serr error
		err := c.Control(func(fd uintptr) {
			serr = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds()))
		})
		if err == nil {
			err = os.NewSyscallError("setsockopt TCP_USER_TIMEOUT", serr)
		}
		return err
	}
}
