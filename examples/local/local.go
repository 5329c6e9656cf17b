// Package local runs the servers of the examples beside it, all of them on this
// machine, and each as a process of its own: what they show is what an operator
// sees.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A Program is the command line of a server; the path of a zoo.cfg is added.
type Program []string

// Build makes the paddock binary in dir.
func Build(ctx context.Context, dir string) (Program, error) {
	binary := filepath.Join(dir, "paddock")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/paddockio/paddock").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return Program{binary, "server", "start-foreground"}, nil
}

// Name is what people call the program.
func (p Program) Name() string {
	if p[0] == "java" {
		return "Apache ZooKeeper"
	}
	return filepath.Base(p[0])
}

// DebianClasspath is where Debian's package libzookeeper-java has Apache's server.
const DebianClasspath = "/usr/share/java/zookeeper.jar"

// Apache runs Apache's server from a class path.
func Apache(classpath string) Program {
	return Program{"java", "-cp", classpath, "org.apache.zookeeper.server.quorum.QuorumPeerMain"}
}

// A Server is one member of an ensemble.
type Server struct {
	ID       int
	Addr     string // for clients
	Election string // for the election

	dir, cfg string
	cmd      *exec.Cmd
	ended    chan error
}

// Ensemble makes the directories of n servers below dir: dir/1/zoo.cfg, dir/1/data
// and so on. Nothing runs yet. More are lines that go into every zoo.cfg.
func Ensemble(dir string, n int, more ...string) ([]*Server, error) {
	var members strings.Builder
	servers := make([]*Server, n)
	ports, err := freePorts(3 * n)
	if err != nil {
		return nil, err
	}
	for i := range servers {
		client, quorum, election := ports[3*i], ports[3*i+1], ports[3*i+2]
		fmt.Fprintf(&members, "server.%d=127.0.0.1:%d:%d\n", i+1, quorum, election)
		servers[i] = &Server{
			ID: i + 1, Addr: fmt.Sprintf("127.0.0.1:%d", client), Election: fmt.Sprintf("127.0.0.1:%d", election),
			dir: filepath.Join(dir, fmt.Sprint(i+1)),
		}
	}
	for i, s := range servers {
		data := filepath.Join(s.dir, "data")
		s.cfg = filepath.Join(s.dir, "zoo.cfg")
		text := fmt.Sprintf("tickTime=500\ninitLimit=20\nsyncLimit=4\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n%s%s\n",
			data, ports[3*i], members.String(), strings.Join(more, "\n"))
		err := errors.Join(os.MkdirAll(data, 0o755),
			os.WriteFile(filepath.Join(data, "myid"), fmt.Appendln(nil, s.ID), 0o644),
			os.WriteFile(s.cfg, []byte(text), 0o644))
		if err != nil {
			return nil, err
		}
	}
	return servers, nil
}

// freePorts finds ports that nobody has, below those that the kernel gives to
// outgoing connections.
func freePorts(n int) ([]int, error) {
	var ports []int
	for port := 20000 + os.Getpid()%100*100; port < 32768 && len(ports) < n; port++ {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			ports = append(ports, port)
		}
	}
	if len(ports) < n {
		return nil, errors.New("no free ports")
	}
	return ports, nil
}

// Start runs a server. What it writes goes to server.log in its directory.
func (s *Server) Start(p Program) error {
	log, err := os.OpenFile(filepath.Join(s.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(p[0], append(p[1:len(p):len(p)], s.cfg)...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	s.ended = ended
	go func(cmd *exec.Cmd) { ended <- cmd.Wait() }(s.cmd)
	return nil
}

// Stop asks a server to end, and waits. Without a process it does nothing.
func (s *Server) Stop() error {
	if s.cmd == nil {
		return nil
	}
	_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case <-s.ended:
	case <-time.After(20 * time.Second):
		return fmt.Errorf("server %d does not end", s.ID)
	}
	s.cmd = nil
	return nil
}

// Kill ends a server as a crash does.
func (s *Server) Kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		<-s.ended
		s.cmd = nil
	}
}

// Mode is leader, follower, or "" while the server does not serve.
func (s *Server) Mode() string {
	conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second)) // a connection has deadlines
	_, _ = io.WriteString(conn, "srvr")               // then there is no answer
	answer, _ := io.ReadAll(conn)
	_, mode, _ := strings.Cut(string(answer), "Mode: ")
	mode, _, _ = strings.Cut(mode, "\n")
	return mode
}

// Leader waits until all servers that run serve, and returns the one that leads.
func Leader(ctx context.Context, servers []*Server) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		var leader *Server
		serving := true
		for _, s := range servers {
			if s.cmd == nil {
				continue
			}
			mode := s.Mode()
			serving = serving && mode != ""
			if mode == "leader" {
				leader = s
			}
			select {
			case err := <-s.ended:
				s.cmd = nil
				return nil, fmt.Errorf("server %d has ended: %v, see %s", s.ID, err, filepath.Join(s.dir, "server.log"))
			case <-ctx.Done():
				return nil, fmt.Errorf("no leader: %w", ctx.Err())
			case <-time.After(20 * time.Millisecond):
			}
		}
		if leader != nil && serving {
			return leader, nil
		}
	}
}
