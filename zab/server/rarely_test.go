package server

import (
	"log/slog"
	"testing"
)

// TestEveryKindOfBadConnectionIsLogged: many of one kind do not hide the first of
// another.
func TestEveryKindOfBadConnectionIsLogged(t *testing.T) {
	log := &heardLog{}
	s, _ := start(t, t.TempDir(), func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	for range 2 {
		for _, b := range []string{"GET / HTTP/1.1\r\n", "\x16\x03\x01\x02", "\x00\x00\x00\x04abcd"} {
			c := dialRaw(t, s)
			if _, err := c.Write([]byte(b)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.tryRecv(); err == nil {
				t.Errorf("%q is answered", b)
			}
		}
	}
	for _, why := range []string{"HTTP request", "frame of 369295618 bytes", "connect request"} {
		eventually(t, "a line in the log that says "+why, func() bool { return log.lines(why) > 0 })
	}
	if n := log.lines("closing connection"); n > 5 { // a second may pass
		t.Errorf("%d lines:\n%s", n, log.text())
	}
}
