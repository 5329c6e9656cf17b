package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/wire"
)

func TestParseServers(t *testing.T) {
	for _, tc := range []struct {
		in, addrs, chroot, err string
	}{
		{in: "a:2181", addrs: "[a:2181]"},
		{in: "a", addrs: "[a:2181]"},
		{in: " a:1 , b:2 ", addrs: "[a:1 b:2]"},
		{in: "a:1,b:2/app/x", addrs: "[a:1 b:2]", chroot: "/app/x"},
		{in: "a:1/", addrs: "[a:1]"},
		{in: "[::1]:2182,[fe80::1%eth0]/c", addrs: "[[::1]:2182 [fe80::1%eth0]:2181]", chroot: "/c"},
		{in: "10.0.0.1:65535", addrs: "[10.0.0.1:65535]"},
		{in: "", err: "no servers"},
		{in: "/app", err: "no servers"},
		{in: "a:1,,b:2", err: "empty"},
		{in: "a:0", err: "bad port"},
		{in: "a:65536", err: "bad port"},
		{in: "a:http", err: "bad port"},
		{in: ":2181", err: "no host"},
		{in: "[]:1", err: "no host"},
		{in: "::1:2181", err: "needs brackets"},
		{in: "[::1", err: "not host:port"},
		{in: "[host]:1", err: "no IP address"},
		{in: "a[", err: "bad host"},
		{in: "a b:1", err: "bad host"},
		{in: "a:1//x", err: "component"},
		{in: "a:1/x/", err: "ends in a slash"},
		{in: "a:1/../x", err: "component"},
	} {
		addrs, chroot, err := parseServers(tc.in, false)
		switch {
		case tc.err != "":
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q: error %v, want %q", tc.in, err, tc.err)
			}
		case err != nil || fmt.Sprint(addrs) != tc.addrs || chroot != tc.chroot:
			t.Errorf("%q: got %v %q %v, want %s %q", tc.in, addrs, chroot, err, tc.addrs, tc.chroot)
		}
	}
	if addrs, chroot, err := parseServers("/app", true); err != nil || len(addrs) != 1 || chroot != "/app" {
		t.Errorf("in process: %q %q %v", addrs, chroot, err)
	}
}

func FuzzParseServers(f *testing.F) {
	f.Add("a:1,[::1]:2/c")
	f.Fuzz(func(t *testing.T, s string) {
		addrs, chroot, err := parseServers(s, false)
		if err != nil {
			return
		}
		again, chroot2, err := parseServers(strings.Join(addrs, ",")+chroot, false)
		if err != nil || fmt.Sprint(again) != fmt.Sprint(addrs) || chroot2 != chroot {
			t.Errorf("%q: %v %q, then %v %q %v", s, addrs, chroot, again, chroot2, err)
		}
	})
}

func TestValidateReportsEverything(t *testing.T) {
	cfg := Config{Servers: "", SessionTimeout: -1, MaxPending: -1, Auth: []Auth{{}}}
	err := cfg.Validate()
	for _, want := range []string{"no servers", "SessionTimeout", "MaxPending", "scheme"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not tell of %s", err, want)
		}
	}
	if _, err := New(cfg); err == nil {
		t.Error("New takes a bad config")
	}
	if err := (Config{Servers: "a", SessionTimeout: 30 * 24 * time.Hour}).Validate(); err == nil {
		t.Error("a timeout of 30 days does not fit but is taken")
	}
}

func TestPaths(t *testing.T) {
	for _, tc := range []struct {
		path       string
		sequential bool
		ok         bool
	}{
		{"/", false, true}, {"/a", false, true}, {"/a/b.c", false, true}, {"/a/...", false, true}, {"/", true, true},
		{"/a/", true, true}, {"", false, false}, {"a", false, false}, {"/a/", false, false}, {"//", false, false},
		{"//a", false, false}, {"/a//b", false, false}, {"/a/./b", false, false}, {"/..", false, false},
		{"/a//", true, false}, {"//", true, false}, {"/a\x00", false, false},
	} {
		err := checkPath(tc.path, tc.sequential)
		if (err == nil) != tc.ok || err != nil && !errors.Is(err, wire.ErrBadArguments) {
			t.Errorf("checkPath(%q, %v) = %v, want ok %v", tc.path, tc.sequential, err, tc.ok)
		}
	}
	c := &Client{chroot: "/app"}
	for path, full := range map[string]string{"/": "/app", "/a": "/app/a"} {
		if got := c.full(path); got != full {
			t.Errorf("full(%q) = %q", path, got)
		}
		if got, ok := c.strip(full); got != path || !ok {
			t.Errorf("strip(%q) = %q, %v", full, got, ok)
		}
	}
	if _, ok := c.strip("/apple"); ok {
		t.Error("/apple is not below /app")
	}
}

// No operation sends a path that no znode can have.
func TestEveryOperationChecksItsPath(t *testing.T) {
	c, err := New(Config{Servers: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	const bad = "/a/"
	for name, op := range map[string]func() error{
		"Get":               func() error { _, _, err := c.Get(ctx, bad); return err },
		"GetW":              func() error { _, _, _, err := c.GetW(ctx, bad); return err },
		"Exists":            func() error { _, _, err := c.Exists(ctx, bad); return err },
		"ExistsW":           func() error { _, _, _, err := c.ExistsW(ctx, bad); return err },
		"Children":          func() error { _, _, err := c.Children(ctx, bad); return err },
		"ChildrenW":         func() error { _, _, _, err := c.ChildrenW(ctx, bad); return err },
		"Create":            func() error { _, _, err := c.Create(ctx, bad, nil, nil, wire.Ephemeral); return err },
		"Create mode":       func() error { _, _, err := c.Create(ctx, "/a", nil, nil, 7); return err },
		"Create TTL":        func() error { _, _, err := c.Create(ctx, "/a", nil, nil, wire.PersistentTTL); return err },
		"CreateTTL":         func() error { _, _, err := c.CreateTTL(ctx, "/a", nil, nil, wire.Persistent, time.Hour); return err },
		"CreateTTL 0":       func() error { _, _, err := c.CreateTTL(ctx, "/a", nil, nil, wire.PersistentTTL, 0); return err },
		"Set":               func() error { _, err := c.Set(ctx, bad, nil, -1); return err },
		"Delete":            func() error { return c.Delete(ctx, bad, -1) },
		"GetACL":            func() error { _, _, err := c.GetACL(ctx, bad); return err },
		"SetACL":            func() error { _, err := c.SetACL(ctx, bad, nil, -1); return err },
		"Sync":              func() error { return c.Sync(ctx, bad) },
		"AllChildrenNumber": func() error { _, err := c.AllChildrenNumber(ctx, bad); return err },
		"AddWatch":          func() error { _, err := c.AddWatch(ctx, bad, 0); return err },
		"AddWatch mode":     func() error { _, err := c.AddWatch(ctx, "/a", 2); return err },
		"RemoveWatches":     func() error { return c.RemoveWatches(ctx, bad, 3) },
		"CheckWatches":      func() error { _, err := c.CheckWatches(ctx, bad, 3); return err },
		"Multi":             func() error { _, err := c.Multi(ctx, DeleteOp(bad, -1)); return err },
		"Multi reads":       func() error { _, err := c.Multi(ctx, GetOp("/a")); return err },
		"Multi TTL":         func() error { _, err := c.Multi(ctx, CreateOp("/a", nil, nil, wire.PersistentTTL)); return err },
		"Multi nil":         func() error { _, err := c.Multi(ctx, wire.MultiOp{Op: wire.OpDelete}); return err },
		"MultiRead":         func() error { _, err := c.MultiRead(ctx, ChildrenOp(bad)); return err },
		"MultiRead writes":  func() error { _, err := c.MultiRead(ctx, SetOp("/a", nil, 0)); return err },
	} {
		var opErr *wire.OpError
		if err := op(); !errors.Is(err, wire.ErrBadArguments) || !errors.As(err, &opErr) {
			t.Errorf("%s: %v, want bad arguments", name, err)
		}
	}
}

func TestSessionAsText(t *testing.T) {
	s := Session{0x100000e2ae70000, [16]byte{1, 2, 0xff}, 10 * time.Second, 0x200000005}
	b, err := json.Marshal(s)
	want := `"0x100000e2ae70000 0102ff00000000000000000000000000 10000 0x200000005"`
	if err != nil || string(b) != want {
		t.Errorf("got %s, %v, want %s", b, err, want)
	}
	var again Session
	if err := json.Unmarshal(b, &again); err != nil || again != s {
		t.Errorf("again %#v, %v", again, err)
	}
	if text := fmt.Sprintf("%v %s", s, s.LogValue()); strings.Contains(text, "0102ff") {
		t.Errorf("the password is printed: %s", text)
	}
	for _, bad := range []string{"", "0x1 00 1 0x0", "1 " + strings.Repeat("0", 32) + " 1 0x0",
		"0x1 " + strings.Repeat("0", 34) + " 1 0x0", "0x1 " + strings.Repeat("g", 32) + " 1 0x0",
		"0x1 " + strings.Repeat("0", 32) + " -1 0x0", "0x1 " + strings.Repeat("0", 32) + " 1 5"} {
		if err := again.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzSessionText(f *testing.F) {
	f.Add("0x100000e2ae70000 0102ff00000000000000000000000000 10000 0x200000005")
	f.Fuzz(func(t *testing.T, text string) {
		var s, again Session
		if s.UnmarshalText([]byte(text)) != nil {
			return
		}
		b, _ := s.MarshalText()
		if err := again.UnmarshalText(b); err != nil || again != s {
			t.Errorf("%q: %#v, then %#v, %v", text, s, again, err)
		}
	})
}

// Names are looked up at each attempt, and all their addresses are tried.
func TestDialTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, addr := range []string{l.Addr().String(), "localhost:" + port} {
		nc, err := dialTCP(ctx, addr)
		if err != nil {
			t.Errorf("dial %s: %v", addr, err)
			continue
		}
		nc.Close()
	}
	l.Close()
	if nc, err := dialTCP(ctx, l.Addr().String()); err == nil {
		nc.Close()
		t.Error("connected to nobody")
	}
	if _, err := dialTCP(ctx, "no port"); err == nil {
		t.Error("an address without port is taken")
	}
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Skipf("go list: %v", err)
	}
	allowed := map[string]bool{"github.com/paddockio/paddock/zab": true, "github.com/paddockio/paddock/zab/wire": true}
	for imp := range strings.Lines(string(out)) {
		imp = strings.TrimSpace(imp)
		if strings.Contains(imp, ".") && !allowed[imp] {
			t.Errorf("package client imports %q: it must work against any server, with no part of ours", imp)
		}
	}
}
