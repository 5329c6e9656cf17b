package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Program is the command line of a server; the path of a zoo.cfg is added.
type Program []string

// Paddock runs the binary as a plain server.
func Paddock(binary string) Program { return Program{binary, "server", "start-foreground"} }

// DebianClasspath is where Debian's package libzookeeper-java has Apache's server.
const DebianClasspath = "/usr/share/java/zookeeper.jar"

// Apache runs Apache's server from a class path.
func Apache(classpath string) Program {
	return Program{"java", "-cp", classpath, "org.apache.zookeeper.server.quorum.QuorumPeerMain"}
}

// Name is what people call the program.
func (p Program) Name() string {
	if p[0] == "java" {
		return "Apache ZooKeeper"
	}
	return filepath.Base(p[0])
}

// A Server is one member of an ensemble.
type Server struct {
	Process
	ID       int
	Addr     string // for clients
	Election string // for the election
	Dir      string
	Cfg      string // its zoo.cfg
}

// Ensemble makes the directories of n servers below dir: dir/1/zoo.cfg, dir/1/data
// and so on. Nothing runs yet. More are lines that go into every zoo.cfg.
func Ensemble(dir string, n int, more ...string) ([]*Server, error) {
	var members strings.Builder
	servers := make([]*Server, n)
	ports, err := Ports(3 * n)
	if err != nil {
		return nil, err
	}
	for i := range servers {
		client, quorum, election := ports[3*i], ports[3*i+1], ports[3*i+2]
		fmt.Fprintf(&members, "server.%d=127.0.0.1:%d:%d\n", i+1, quorum, election)
		servers[i] = &Server{
			ID: i + 1, Addr: fmt.Sprintf("127.0.0.1:%d", client), Election: fmt.Sprintf("127.0.0.1:%d", election),
			Dir: filepath.Join(dir, fmt.Sprint(i+1)), Cfg: filepath.Join(dir, fmt.Sprint(i+1), "zoo.cfg"),
		}
	}
	for i, s := range servers {
		data := filepath.Join(s.Dir, "data")
		text := fmt.Sprintf("tickTime=500\ninitLimit=20\nsyncLimit=4\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n%s%s\n",
			data, ports[3*i], members.String(), strings.Join(more, "\n"))
		err := errors.Join(os.MkdirAll(data, 0o755),
			os.WriteFile(filepath.Join(data, "myid"), fmt.Appendln(nil, s.ID), 0o644),
			os.WriteFile(s.Cfg, []byte(text), 0o644))
		if err != nil {
			return nil, err
		}
	}
	return servers, nil
}

// Start runs a server.
func (s *Server) Start(p Program) error {
	return s.Run(filepath.Join(s.Dir, "server.log"), append(p[:len(p):len(p)], s.Cfg)...)
}

// Mode is leader, follower, or "" while the server does not serve.
func (s *Server) Mode() string { return Mode(s.Addr) }

// Leader waits until all servers that run serve, and returns the one that leads.
func Leader(ctx context.Context, servers []*Server) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		var leader *Server
		serving := true
		for _, s := range servers {
			running, err := s.Running()
			if err != nil {
				return nil, err
			}
			if !running {
				continue
			}
			mode := s.Mode()
			serving = serving && mode != ""
			if mode == "leader" {
				leader = s
			}
		}
		if leader != nil && serving {
			return leader, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no leader: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
