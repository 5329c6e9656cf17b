//go:build interop

package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
)

// A Process is a program that runs until it is killed, at the latest when the
// test ends.
type Process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// Run starts cmd. Both of its streams are appended to the file log.
func Run(t testing.TB, cmd *exec.Cmd, log string) *Process {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	// It must not outlive a test binary that was killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Process{cmd: cmd, log: log, done: make(chan struct{})}
	go func() { cmd.Wait(); close(p.done) }()
	t.Cleanup(p.Kill)
	return p
}

// Kill ends the process as a crash would (kill -9) and waits for its end.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Term asks the process to end and waits until it has.
func (p *Process) Term(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(Patience):
		t.Fatalf("no end on SIGTERM\n%s", p.Tail())
	}
}

// Quit makes a Go program or a JVM write what each goroutine or thread is doing
// (SIGQUIT), and ends it, after grace if it goes on as a JVM does.
func (p *Process) Quit(grace time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGQUIT) // it may have ended
	select {
	case <-p.done:
	case <-time.After(grace):
		p.Kill()
	}
}

// Signal sends a signal.
func (p *Process) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output is all that the process and those before it wrote to the same log.
func (p *Process) Output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Tail is the end of Output.
func (p *Process) Tail() string {
	s := p.Output()
	return s[max(0, len(s)-4000):]
}

// The kinds of server.
const (
	KindPaddock = "paddock"
	KindApache  = "apache"     // the version that pom.xml names
	KindDebian  = "apache-3.8" // Debian's package
)

// Super is the password of the super user of every server here.
const Super = "super:test"

const superDigest = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="

// A Server is one server process on a data directory. Kill, Term and Signal are
// those of the present process.
type Server struct {
	*Process
	Kind    string
	Dir     string // holds zoo.cfg, data and server.log
	Host    string // address
	Port    int
	Admin   int           // port of the AdminServer
	Started time.Duration // what the last start took until the server served

	java      []string // more arguments of Apache's JVM
	archiving bool     // to make the archive of its classes
	netns     string   // network namespace that it runs in; "" is the test's
}

// Start runs a server of a kind over dir/data and waits until it serves. TTL
// znodes, all four-letter words and the super user are switched on, ticks are
// 500 ms, and looks at containers come twice a second. Settings are further
// lines of zoo.cfg; those that begin with "-" go to Apache's JVM.
func Start(t testing.TB, kind, dir string, settings ...string) *Server {
	t.Helper()
	s := &Server{Kind: kind, Dir: dir, Host: "127.0.0.1", Port: Port(t), Admin: Port(t)}
	s.configure(t, settings)
	s.Restart(t)
	return s
}

// configure writes zoo.cfg and makes the data directory.
func (s *Server) configure(t testing.TB, settings []string) {
	t.Helper()
	cfg := map[string]string{
		"dataDir": s.Data(), "clientPort": fmt.Sprint(s.Port), "clientPortAddress": s.Host,
		"tickTime": "500", "maxClientCnxns": "0", "maxSessionTimeout": "120000",
		"admin.serverPort": fmt.Sprint(s.Admin), "admin.serverAddress": s.Host,
		"4lw.commands.whitelist": "*", "extendedTypesEnabled": "true",
		"znode.container.checkIntervalMs":          "500",
		"DigestAuthenticationProvider.superDigest": superDigest,
		"preAllocSize": "256",
	}
	if s.Kind != KindPaddock {
		// Apache 3.9 pads its log by where the last sync was (ZOOKEEPER-4714), so that
		// a batch which is longer than this has a zero written into it.
		cfg["preAllocSize"] = "8192"
	}
	s.java = nil
	for _, line := range settings {
		if strings.HasPrefix(line, "-") {
			s.java = append(s.java, line)
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		cfg[key] = value
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(cfg)) {
		fmt.Fprintf(&text, "%s=%s\n", key, cfg[key])
	}
	if err := os.MkdirAll(s.Data(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.ZooCfg(), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Data is the data directory.
func (s *Server) Data() string { return filepath.Join(s.Dir, "data") }

// ZooCfg is the configuration file.
func (s *Server) ZooCfg() string { return filepath.Join(s.Dir, "zoo.cfg") }

// Addr is the client address.
func (s *Server) Addr() string { return fmt.Sprintf("%s:%d", s.Host, s.Port) }

// Restart runs the server again, after its end, and waits until it serves.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	began := time.Now()
	s.launch(t)
	for deadline := time.Now().Add(Patience); ; time.Sleep(2 * time.Millisecond) {
		// Apache's server never closes the connection of a word that comes a moment
		// too early.
		if answer, err := s.word("srvr", 500*time.Millisecond); err == nil && strings.Contains(answer, "Mode: ") {
			s.Started = time.Since(began)
			return
		}
		select {
		case <-s.done:
			t.Fatalf("%s ended at its start: %v\n%s", s.Kind, s.cmd.ProcessState, s.Tail())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not serve on %s\n%s", s.Kind, s.Addr(), s.Tail())
		}
	}
}

// RestartFor runs the server again, after its end, and kills it after a while,
// whether it serves or not.
func (s *Server) RestartFor(t testing.TB, d time.Duration) {
	t.Helper()
	s.launch(t)
	select {
	case <-s.done:
		t.Errorf("%s ended at its start: %v\n%s", s.Kind, s.cmd.ProcessState, s.Tail())
	case <-time.After(d):
	}
	s.Kill()
}

func (s *Server) launch(t testing.TB) {
	t.Helper()
	// Of the settings, these are read before or without zoo.cfg.
	args := append([]string{"-Dznode.container.checkIntervalMs=500"}, s.java...)
	var cmd *exec.Cmd
	if s.Kind == KindPaddock {
		cmd = exec.Command(Paddock(), "server", "start-foreground", s.ZooCfg())
	} else {
		classpath := Debian
		if s.Kind == KindApache {
			classpath = Apache
		}
		if !s.archiving {
			args = append(archived(t, s.Kind, classpath(t)), args...)
		}
		args = append(args, "org.apache.zookeeper.server.quorum.QuorumPeerMain", s.ZooCfg())
		cmd = javaWith(t, classpath(t), args...)
	}
	if s.netns != "" {
		// ip netns exec would also give it copies of all mounts, which keep file
		// systems in use.
		cmd = exec.Command("nsenter", append([]string{"--net=/run/netns/" + s.netns, cmd.Path}, cmd.Args[1:]...)...)
	}
	cmd.Dir = s.Dir
	s.Process = Run(t, cmd, filepath.Join(s.Dir, "server.log"))
}

// Word asks a four-letter word.
func (s *Server) Word(word string) (string, error) { return s.word(word, 10*time.Second) }

func (s *Server) word(word string, limit time.Duration) (string, error) {
	return Word(s.Addr(), word, limit)
}

// Word asks the server at an address a four-letter word, and wants an answer
// within limit.
func Word(addr, word string, limit time.Duration) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	b, err := io.ReadAll(conn)
	if err == nil && len(b) == 0 {
		err = errors.New("empty answer")
	}
	return string(b), err
}

func (s *Server) ask(t testing.TB, word string) string {
	t.Helper()
	answer, err := s.Word(word)
	if err != nil {
		t.Fatalf("%s of %s: %v\n%s", word, s.Kind, err, s.Tail())
	}
	return answer
}

// Zxid returns the last zxid, from "srvr".
func (s *Server) Zxid(t testing.TB) zab.Zxid {
	t.Helper()
	for line := range strings.Lines(s.ask(t, "srvr")) {
		if text, ok := strings.CutPrefix(line, "Zxid: "); ok {
			z, err := strconv.ParseInt(strings.TrimSpace(text), 0, 64)
			if err != nil {
				t.Fatal(err)
			}
			return zab.Zxid(z)
		}
	}
	t.Fatal("srvr tells no zxid")
	return 0
}

// Metric returns a number of "mntr"; the name is without "zk_".
func (s *Server) Metric(t testing.TB, name string) float64 {
	t.Helper()
	for line := range strings.Lines(s.ask(t, "mntr")) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "zk_"+name {
			v, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("mntr of %s tells no %s", s.Kind, name)
	return 0
}

var sessionLine = regexp.MustCompile(`(?m)^\t0x([0-9a-f]+)$`)

// Sessions returns the ids of the sessions that the server keeps alive, from the
// first part of "dump".
func (s *Server) Sessions(t testing.TB) []zab.SessionID {
	t.Helper()
	tracker, _, _ := strings.Cut(s.ask(t, "dump"), "ephemeral nodes dump")
	var ids []zab.SessionID
	for _, m := range sessionLine.FindAllStringSubmatch(tracker, -1) {
		id, err := strconv.ParseUint(m[1], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, zab.SessionID(id))
	}
	slices.Sort(ids)
	return ids
}

// Connect runs a client until the test ends or stop is called, which leaves its
// session alive.
func Connect(t testing.TB, cfg client.Config) (c *client.Client, stop func()) {
	t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			t.Errorf("client: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return c, stop
}
