package server

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// A client that does not read at first gets every byte once and in order,
// although the driver wrote pieces of it and left the rest to others.
func TestTryFlushLeavesTheRestInOrder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := newConn(&Server{start: time.Now()}, nc)
	defer c.kill()

	const count = 4 << 20 // numbers of 4 bytes: more than sockets hold
	for n := uint32(0); n < count; {
		c.mu.Lock()
		if c.out == nil {
			c.out = getOut()
		}
		for range 3000 {
			if n < count {
				c.out = binary.BigEndian.AppendUint32(c.out, n)
				n++
			}
		}
		c.mu.Unlock()
		c.tryFlush()
	}
	got := make([]byte, 4*count)
	client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(client, got); err != nil {
		t.Fatal(err)
	}
	for n := range uint32(count) {
		if v := binary.BigEndian.Uint32(got[4*n:]); v != n {
			t.Fatalf("number %d is %d", n, v)
		}
	}
}
