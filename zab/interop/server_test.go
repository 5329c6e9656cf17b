//go:build interop

package interop

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a server: to listen, to end, to answer.
const patience = 30 * time.Second

// A server is one running server process, paddock or Apache, started from a
// zoo.cfg in dir.
type server struct {
	kind string
	dir  string // holds zoo.cfg, data/ and server.log
	port int
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

var lastPort atomic.Int32

// Two runs at a time begin at different ports: while one restarts a server the
// other must not take its port.
func init() { lastPort.Store(int32(os.Getpid() % 300)) }

// freePort picks a port of 24700–24999; the ranges below belong to the JUnit
// runs, whose ports Apache's PortAssignment chooses.
func freePort(t *testing.T) int {
	t.Helper()
	for range 300 {
		port := 24700 + int(lastPort.Add(1)-1)%300
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port in 24700–24999")
	return 0
}

// startPeer starts the server under test in a fresh directory.
func startPeer(t *testing.T, settings ...string) *server {
	t.Helper()
	return startServer(t, *peer, t.TempDir(), settings...)
}

// startServer starts a server on dir/data and waits until it serves. Settings
// are further lines of its zoo.cfg. It is stopped when the test ends.
func startServer(t *testing.T, kind, dir string, settings ...string) *server {
	t.Helper()
	s := &server{kind: kind, dir: dir, port: freePort(t)}
	cfg := map[string]string{
		"dataDir":                s.data(),
		"clientPort":             fmt.Sprint(s.port),
		"clientPortAddress":      "127.0.0.1",
		"tickTime":               "2000",
		"maxClientCnxns":         "0",
		"admin.enableServer":     "false",
		"4lw.commands.whitelist": "*",
		"extendedTypesEnabled":   "true",
	}
	for _, line := range settings {
		key, value, _ := strings.Cut(line, "=")
		cfg[key] = value
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(cfg)) {
		fmt.Fprintf(&text, "%s=%s\n", key, cfg[key])
	}
	if err := os.MkdirAll(s.data(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.zooCfg(), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	t.Cleanup(func() { s.kill() })
	return s
}

func (s *server) data() string   { return filepath.Join(s.dir, "data") }
func (s *server) zooCfg() string { return filepath.Join(s.dir, "zoo.cfg") }
func (s *server) addr() string   { return fmt.Sprintf("127.0.0.1:%d", s.port) }
func (s *server) host() string   { return fmt.Sprintf("localhost:%d", s.port) }

// start runs the process and waits until it serves.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.launch(t)
	s.awaitServing(t)
}

// launch runs the process.
func (s *server) launch(t *testing.T) {
	t.Helper()
	command := serverCommand(t, s.kind)
	s.cmd = exec.Command(command[0], append(command[1:], s.zooCfg())...)
	log, err := os.OpenFile(filepath.Join(s.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.Dir = log, log, s.dir
	// A server must not outlive a test binary that was killed.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	s.done = done
	go func(cmd *exec.Cmd) { cmd.Wait(); close(done) }(s.cmd)
}

// awaitServing waits until "srvr" tells a mode.
func (s *server) awaitServing(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		select {
		case <-s.done:
			t.Fatalf("%s ended at its start: %v\n%s", s.kind, s.cmd.ProcessState, s.log())
		default:
		}
		if answer, err := fourLetterWord(s.addr(), "srvr"); err == nil && strings.Contains(answer, "Mode: ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not serve on %s\n%s", s.kind, s.addr(), s.stacks())
}

// kill ends the process as a crash would (kill -9) and waits for its end.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.done
}

// log is the end of what the server wrote.
func (s *server) log() []byte { return s.logTail(4000) }

func (s *server) logTail(n int) []byte {
	b, err := os.ReadFile(filepath.Join(s.dir, "server.log"))
	if err != nil {
		return []byte(err.Error())
	}
	return tail(b, n)
}

// fourLetterWord sends a word and returns the answer.
func fourLetterWord(addr, word string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	b, err := io.ReadAll(conn)
	return string(b), err
}
