package transport

import (
	"net"
	"syscall"
	"testing"
	"time"
)

func TestUserTimeoutIsSetOnBothSides(t *testing.T) {
	n := TCP{UserTimeout: 7 * time.Second}
	ln, err := n.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := n.Dial(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, conn := range []net.Conn{a, b} {
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var timeout, keep, noDelay int
		raw.Control(func(fd uintptr) {
			timeout, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout)
			keep, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
			noDelay, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
		})
		if timeout != 7000 || keep != 1 || noDelay != 1 {
			t.Errorf("timeout %d ms, keep-alive %d, no delay %d", timeout, keep, noDelay)
		}
	}
}
