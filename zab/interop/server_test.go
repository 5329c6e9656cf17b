//go:build interop

package interop

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/interop/peer"
)

// patience bounds every wait for a server: to listen, to end, to answer.
const patience = peer.Patience

// wordLimit is how long a server may take to answer a four-letter word.
const wordLimit = 5 * time.Second

// A server is one running server process, paddock or Apache, started from a
// zoo.cfg in dir; or what looks like one, see launch_test.go.
type server struct {
	*peer.Process
	kind string
	dir  string // holds zoo.cfg, data/ and server.log
	port int
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
	return startServer(t, *tested, t.TempDir(), settings...)
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
	return s
}

func (s *server) data() string    { return filepath.Join(s.dir, "data") }
func (s *server) zooCfg() string  { return filepath.Join(s.dir, "zoo.cfg") }
func (s *server) logFile() string { return filepath.Join(s.dir, "server.log") }
func (s *server) addr() string    { return fmt.Sprintf("127.0.0.1:%d", s.port) }
func (s *server) host() string    { return fmt.Sprintf("localhost:%d", s.port) }

// start runs the process and waits until it serves.
func (s *server) start(t *testing.T) {
	t.Helper()
	command := serverCommand(t, s.kind)
	cmd := exec.Command(command[0], append(command[1:], s.zooCfg())...)
	cmd.Dir = s.dir
	s.Process = peer.Run(t, cmd, s.logFile())
	s.awaitServing(t)
}

// awaitServing waits until "srvr" tells a mode.
func (s *server) awaitServing(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		select {
		case <-s.Done():
			t.Fatalf("%s ended at its start\n%s", s.kind, s.Tail())
		default:
		}
		if answer, err := peer.Word(s.addr(), "srvr", wordLimit); err == nil && strings.Contains(answer, "Mode: ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not serve on %s\n%s", s.kind, s.addr(), s.stacks())
}
