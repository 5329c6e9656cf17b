//go:build interop

package ensemble

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/interop/peer"
)

// A host is one machine with several servers, each with a zoo.cfg of its own, as
// the classic articles about ensembles have it: zoo1.cfg, zoo2.cfg, … Every word is
// one call of `paddock server`, or of Debian's zkServer.sh in a control run.
type host struct {
	t     *testing.T
	dir   string
	shift int // added to the articles' ports
	n     int
}

func newHost(t *testing.T, n int) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir(), n: n}
	for !h.free() {
		if h.shift += 10; h.shift > 90 {
			t.Fatal("the ports of the articles are taken, and those up to 90 above")
		}
	}
	if h.shift > 0 {
		t.Logf("ports of the articles are taken: all are %d higher", h.shift)
	}
	for i := 1; i <= n; i++ {
		var cfg strings.Builder
		fmt.Fprintf(&cfg, "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=%s\nclientPort=%d\nadmin.serverPort=%d\n",
			h.data(i), h.port(2180, i), h.port(8080, i))
		for j := 1; j <= n; j++ {
			fmt.Fprintf(&cfg, "server.%d=localhost:%d:%d\n", j, h.port(2880, j), h.port(3880, j))
		}
		if err := os.Mkdir(h.data(i), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{h.cfg(i): cfg.String(), filepath.Join(h.data(i), "myid"): fmt.Sprintln(i)} {
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(h.end)
	return h
}

func (h *host) port(base, i int) int { return base + h.shift + i }
func (h *host) data(i int) string    { return filepath.Join(h.dir, fmt.Sprintf("data%d", i)) }
func (h *host) cfg(i int) string     { return filepath.Join(h.dir, fmt.Sprintf("zoo%d.cfg", i)) }
func (h *host) addr(i int) string    { return fmt.Sprintf("localhost:%d", h.port(2180, i)) }
func (h *host) apache() bool         { return ours(h.t) != peer.KindPaddock }

// free reports whether nobody listens on the ports.
func (h *host) free() bool {
	for i := 1; i <= h.n; i++ {
		for _, base := range []int{2180, 2880, 3880, 8080} {
			l, err := net.Listen("tcp", fmt.Sprintf(":%d", h.port(base, i)))
			if err != nil {
				return false
			}
			l.Close()
		}
	}
	return true
}

// server runs a word for a server and returns what it printed.
func (h *host) server(word string, i int) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), peer.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, peer.Paddock(), "server", word, h.cfg(i))
	if h.apache() {
		peer.Debian(h.t)
		cmd = exec.CommandContext(ctx, "/usr/share/zookeeper/bin/zkServer.sh", word, h.cfg(i))
	}
	logs := filepath.Join(h.dir, fmt.Sprintf("log%d", i))
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return "", err
	}
	cmd.Env = append(os.Environ(), "ZOO_LOG_DIR="+logs)
	cmd.Dir = h.dir
	var out bytes.Buffer
	cmd.Stdout = &out
	err := cmd.Run()
	return out.String(), err
}

// must runs a word and wants it to say something.
func (h *host) must(word string, i int, says string) {
	h.t.Helper()
	out, err := h.server(word, i)
	if err != nil || !strings.Contains(out, says) {
		h.t.Fatalf("%s zoo%d.cfg: %v, want %q in\n%s\n%s", word, i, err, says, out, h.logs())
	}
}

// mode is what status prints behind "Mode: ", "" if it fails.
func (h *host) mode(i int) string {
	h.t.Helper()
	out, err := h.server("status", i)
	_, mode, ok := strings.Cut(out, "Mode: ")
	if (err == nil) != ok {
		h.t.Fatalf("status zoo%d.cfg: %v, prints\n%s", i, err, out)
	}
	return strings.TrimSpace(mode)
}

// await waits until status prints a mode for each server; "" is none.
func (h *host) await(want ...string) {
	h.t.Helper()
	for deadline := time.Now().Add(peer.Patience); ; time.Sleep(100 * time.Millisecond) {
		var got []string
		for i := range want {
			got = append(got, h.mode(i+1))
		}
		if fmt.Sprintf("%q", got) == fmt.Sprintf("%q", want) {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("status prints %q, want %q\n%s", got, want, h.logs())
		}
	}
}

// cli runs one command of the shell and returns what it printed.
func (h *host) cli(i int, args ...string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), peer.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, peer.Paddock(), append([]string{"cli", "-server", h.addr(i)}, args...)...)
	if h.apache() {
		java := peer.Java(h.t, append([]string{"org.apache.zookeeper.ZooKeeperMain", "-server", h.addr(i)}, args...)...)
		cmd = exec.CommandContext(ctx, java.Path, java.Args[1:]...)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("cli %v: %v\n%s\n%s", args, err, out.String(), errs.String())
	}
	return out.String()
}

// logs are the ends of what the servers wrote.
func (h *host) logs() string {
	var all strings.Builder
	names, _ := filepath.Glob(filepath.Join(h.dir, "log*", "*.out"))
	for _, name := range names {
		b, err := os.ReadFile(name)
		fmt.Fprintf(&all, "---- %s %v\n%s\n", name, err, b[max(0, len(b)-3000):])
	}
	return all.String()
}

// end kills what the test has left.
func (h *host) end() {
	for i := 1; i <= h.n; i++ {
		if b, err := os.ReadFile(filepath.Join(h.data(i), "zookeeper_server.pid")); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

var (
	statLine  = regexp.MustCompile(`(?m)^(cZxid|ctime|mZxid|mtime|pZxid|cversion|dataVersion|aclVersion|ephemeralOwner|dataLength|numChildren) = .*$`)
	cZxidLine = regexp.MustCompile(`(?m)^cZxid = 0x([0-9a-f]+)$`)
)

// sameEverywhere reads a znode with its stat on every server.
func (h *host) sameEverywhere(path, data string) {
	h.t.Helper()
	var first []string
	for i := 1; i <= h.n; i++ {
		out := h.cli(i, "get", "-s", path)
		stat := statLine.FindAllString(out, -1)
		if !strings.Contains(out, data+"\n") || len(stat) != 11 {
			h.t.Fatalf("get -s %s on server %d prints\n%s", path, i, out)
		}
		if first == nil {
			first = stat
		} else if fmt.Sprint(stat) != fmt.Sprint(first) {
			h.t.Errorf("stat of %s on server %d:\n%s\non the first:\n%s", path, i, strings.Join(stat, "\n"), strings.Join(first, "\n"))
		}
		z, err := strconv.ParseInt(cZxidLine.FindStringSubmatch(out)[1], 16, 64)
		if err != nil || zab.Zxid(z).Epoch() == 0 || z&0xffffffff == 0 {
			h.t.Errorf("cZxid of %s is %#x, %v: want the epoch in its high half, a counter in the low", path, z, err)
		}
	}
}

// TestArticleThreeServers follows the article about three servers on one host.
func TestArticleThreeServers(t *testing.T) {
	h := newHost(t, 3)
	h.must("start", 1, "Starting zookeeper ... STARTED")
	if mode := h.mode(1); mode != "" {
		t.Errorf("the first of three servers is %s alone", mode)
	}
	h.must("start", 2, "Starting zookeeper ... STARTED")
	h.await("follower", "leader") // people are slower than an election
	h.must("start", 3, "Starting zookeeper ... STARTED")
	h.await("follower", "leader", "follower")

	h.cli(1, "create", "/c1project", "first")
	h.sameEverywhere("/c1project", "first")

	t.Run("the leader with the newer history", func(t *testing.T) {
		// Servers 1 and 3 write while 2 is away: now 1 wins against 2.
		h := *h
		h.t = t
		h.must("stop", 2, "Stopping zookeeper ... STOPPED")
		h.await("follower", "", "leader")
		h.cli(1, "set", "/c1project", "second")
		h.must("stop", 3, "Stopping zookeeper ... STOPPED")
		h.must("stop", 1, "Stopping zookeeper ... STOPPED")
		h.must("start", 1, "Starting zookeeper ... STARTED")
		h.must("start", 2, "Starting zookeeper ... STARTED")
		h.await("leader", "follower")
		h.must("start", 3, "Starting zookeeper ... STARTED")
		h.await("leader", "follower", "follower")
		h.sameEverywhere("/c1project", "second")
	})
	h.must("stop", 1, "Stopping zookeeper ... STOPPED")
	h.await("", "follower", "leader")
	h.cli(2, "create", "/c1project/while-the-first-was-away", "x")
	h.must("start", 1, "Starting zookeeper ... STARTED")
	h.await("follower", "follower", "leader")
	h.sameEverywhere("/c1project", "second")
	h.sameEverywhere("/c1project/while-the-first-was-away", "x")
	for i := 1; i <= 3; i++ {
		h.must("stop", i, "Stopping zookeeper ... STOPPED")
	}
}

// TestArticleFiveServers follows the article about who leads when five servers
// are started one after the other.
func TestArticleFiveServers(t *testing.T) {
	h := newHost(t, 5)
	h.must("start", 1, "STARTED")
	h.must("start", 2, "STARTED")
	h.await("", "") // two of five are no quorum
	h.must("start", 3, "STARTED")
	h.await("follower", "follower", "leader")
	h.must("start", 4, "STARTED")
	h.await("follower", "follower", "leader", "follower") // its higher id comes too late
	h.must("start", 5, "STARTED")
	h.await("follower", "follower", "leader", "follower", "follower")
	h.cli(5, "create", "/five", "5")
	h.sameEverywhere("/five", "5")
	h.must("stop", 3, "STOPPED")
	h.await("follower", "follower", "", "follower", "leader")
	h.must("stop", 1, "STOPPED")
	h.await("", "follower", "", "follower", "leader")
	h.must("stop", 2, "STOPPED")
	h.await("", "", "", "", "") // two of five again
	h.must("start", 3, "STARTED")
	h.await("", "", "follower", "follower", "leader")
	for i := 3; i <= 5; i++ {
		h.must("stop", i, "STOPPED")
	}
}
