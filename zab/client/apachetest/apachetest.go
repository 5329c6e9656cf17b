//go:build interop

// Package apachetest runs Apache ZooKeeper for tests against the real thing.
// It needs java, and mvn unless APACHE_ZOOKEEPER_CP is set to a class path.
package apachetest

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Version is the release that is run unless APACHE_ZOOKEEPER_CP is set.
const Version = "3.9.5"

const pom = `<project><modelVersion>4.0.0</modelVersion><groupId>t</groupId><artifactId>t</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.zookeeper</groupId><artifactId>zookeeper</artifactId><version>` + Version + `</version></dependency>
<dependency><groupId>io.dropwizard.metrics</groupId><artifactId>metrics-core</artifactId><version>4.1.12.1</version></dependency>
<dependency><groupId>org.xerial.snappy</groupId><artifactId>snappy-java</artifactId><version>1.1.10.5</version></dependency>
</dependencies></project>`

var classPath = sync.OnceValues(func() (string, error) {
	if cp := os.Getenv("APACHE_ZOOKEEPER_CP"); cp != "" {
		return cp, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "paddock-apache-"+Version)
	lib := filepath.Join(dir, "lib")
	if _, err := os.Stat(filepath.Join(dir, "done")); err == nil {
		return filepath.Join(lib, "*"), nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "pom.xml"), []byte(pom), 0o644); err != nil {
		return "", err
	}
	cmd := exec.Command("mvn", "-q", "-B", "-f", dir, "dependency:copy-dependencies", "-DoutputDirectory="+lib)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mvn: %w\n%s", err, out)
	}
	return filepath.Join(lib, "*"), os.WriteFile(filepath.Join(dir, "done"), nil, 0o644)
})

// A Server is a server with tickTime 500 ms, so that sessions last 1 to 10 s, and
// with TTL znodes.
type Server struct {
	Addr string
	dir  string
	t    testing.TB
	cmd  *exec.Cmd
}

// Start runs a standalone server on the port until the test ends.
func Start(t testing.TB, port int) *Server {
	t.Helper()
	s := configure(t, port, "")
	s.Restart()
	return s
}

// StartEnsemble runs n servers until the test ends. Server i (from 1) takes the
// ports port+i, port+10+i and port+20+i.
func StartEnsemble(t testing.TB, port, n int) []*Server {
	t.Helper()
	members := "initLimit=20\nsyncLimit=10\n"
	for i := 1; i <= n; i++ {
		members += fmt.Sprintf("server.%d=127.0.0.1:%d:%d\n", i, port+10+i, port+20+i)
	}
	var all []*Server
	for i := 1; i <= n; i++ {
		s := configure(t, port+i, members)
		if err := os.WriteFile(filepath.Join(s.dir, "data", "myid"), fmt.Append(nil, i), 0o644); err != nil {
			t.Fatal(err)
		}
		s.run()
		all = append(all, s)
	}
	for _, s := range all {
		s.wait()
	}
	return all
}

func configure(t testing.TB, port int, members string) *Server {
	t.Helper()
	s := &Server{Addr: fmt.Sprintf("127.0.0.1:%d", port), dir: t.TempDir(), t: t}
	data := filepath.Join(s.dir, "data")
	cfg := fmt.Sprintf("tickTime=500\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n"+
		"admin.enableServer=false\n4lw.commands.whitelist=*\nextendedTypesEnabled=true\n%s", data, port, members)
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "zoo.cfg"), []byte(cfg), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// Restart runs the server, again, over the same data and waits until it serves.
func (s *Server) Restart() {
	s.t.Helper()
	s.run()
	s.wait()
}

func (s *Server) run() {
	s.t.Helper()
	cp, err := classPath()
	if err != nil {
		s.t.Skipf("no Apache ZooKeeper: %v", err)
	}
	out, err := os.Create(s.logFile())
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	s.cmd = exec.Command("java", "-Xmx256m", "-Dzookeeper.extendedTypesEnabled=true", "-cp", cp,
		"org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(s.dir, "zoo.cfg"))
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		s.t.Skipf("no Apache ZooKeeper: %v", err)
	}
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "out.log") }

func (s *Server) wait() {
	s.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !strings.Contains(s.Ask("srvr"), "Mode:"); {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(s.logFile())
			s.t.Fatalf("Apache ZooKeeper does not serve:\n%s", log)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Stop kills the server.
func (s *Server) Stop() {
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
}

// Ask sends a four-letter word.
func (s *Server) Ask(word string) string {
	nc, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return ""
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(2 * time.Second))
	fmt.Fprint(nc, word)
	answer, _ := io.ReadAll(nc)
	return string(answer)
}
