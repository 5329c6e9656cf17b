//go:build interop

package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/wire"
)

// An agent is a `paddock agent -config` of a host with two services.
type agent struct {
	*peer.Process
	dir, config string
	addr        string // of the ZooKeeper server that it uses
	admin       string
	services    string // directory of service files
	files       string // directory that mirrors /config/app
}

// newAgent writes the files of an agent; zab is its section of settings.
func newAgent(t *testing.T, addr, zab string) *agent {
	t.Helper()
	dir := t.TempDir()
	a := &agent{
		dir: dir, config: filepath.Join(dir, "agent.yaml"), addr: addr, admin: fmt.Sprintf("127.0.0.1:%d", peer.Port(t)),
		services: filepath.Join(dir, "services.d"), files: filepath.Join(dir, "app"),
	}
	if err := os.Mkdir(a.services, 0o755); err != nil {
		t.Fatal(err)
	}
	a.service(t, "greeter", "service: {name: org.demo.Greeter, protocol: dubbo, port: 20880, version: 1.0.0, params: {methods: hello}}\n")
	a.service(t, "web", "service: {name: web, protocol: http, port: 8000}\n")
	text := fmt.Sprintf(`name: host-1
data_dir: %s
zab: {%s, session_timeout: 8s}
registry: {services_dir: %s, advertise: 127.0.0.1}
dns: {listen: "127.0.0.1:%d"}
configsync: [{name: app, from: /config/app, to: %s/}]
admin: {listen: "%s"}
`, filepath.Join(dir, "data"), zab, a.services, peer.Port(t), a.files, a.admin)
	if err := os.WriteFile(a.config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return a
}

// service writes a service file as a careful program does, by a rename.
func (a *agent) service(t *testing.T, name, text string) {
	t.Helper()
	tmp := filepath.Join(a.dir, "new.yaml")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(a.services, name+".yaml")); err != nil {
		t.Fatal(err)
	}
}

// start runs the agent and waits until it says that it is ready and has all its
// services registered.
func (a *agent) start(t *testing.T) (took time.Duration, resumed bool) {
	t.Helper()
	began := time.Now()
	a.launch(t)
	for {
		status, err := a.status()
		if err == nil && status.Ready && status.Registry.Registrations == 2 && status.Registry.Passing == 2 {
			return time.Since(began), status.Session.Resumed
		}
		select {
		case <-a.Done():
			t.Fatalf("the agent has ended\n%s", a.Tail())
		case <-time.After(2 * time.Millisecond):
		}
		if time.Since(began) > peer.Patience {
			t.Fatalf("the agent is not ready: %+v, %v\n%s", status, err, a.Tail())
		}
	}
}

func (a *agent) launch(t *testing.T) {
	t.Helper()
	cmd := exec.Command(peer.Paddock(), "agent", "-config", a.config)
	cmd.Dir = a.dir
	a.Process = peer.Run(t, cmd, filepath.Join(a.dir, "agent.log"))
}

type status struct {
	Ready    bool
	NotReady []string `json:"not_ready"`
	Session  struct{ Resumed bool }
	Registry struct{ Registrations, Passing int }
}

func (a *agent) status() (s status, err error) {
	resp, err := http.Get("http://" + a.admin + "/v1/status")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, errors.New(resp.Status)
	}
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// entry is what a watcher sees of a znode.
type entry struct {
	data string
	stat wire.Stat
}

// subtree reads everything from a path on.
func subtree(ctx context.Context, t *testing.T, c *client.Client, path string) map[string]entry {
	t.Helper()
	data, stat, err := c.Get(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	names, _, err := c.Children(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]entry{path: {string(data), stat}}
	for _, name := range names {
		maps.Copy(all, subtree(ctx, t, c, path+"/"+name))
	}
	return all
}

func difference(got, want map[string]entry) string {
	var b strings.Builder
	for path, w := range want {
		if g, ok := got[path]; !ok {
			fmt.Fprintf(&b, "%s is gone\n", path)
		} else if g != w {
			fmt.Fprintf(&b, "%s is %+v, was %+v\n", path, g, w)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			fmt.Fprintf(&b, "%s is new\n", path)
		}
	}
	return b.String()
}

// TestAgentKilled kills an agent and starts it again before its session ends.
// Nobody who watches /dubbo notices: neither where the tree is in another server,
// nor where it is in the agent itself and every watcher loses its connection.
func TestAgentKilled(t *testing.T) {
	t.Run("role client", func(t *testing.T) {
		s := peer.Start(t, peer.KindPaddock, t.TempDir())
		killAgent(t, newAgent(t, s.Addr(), fmt.Sprintf("role: client, connect: %q", s.Addr())), false)
	})
	t.Run("role voter", func(t *testing.T) {
		addr := fmt.Sprintf("127.0.0.1:%d", peer.Port(t))
		killAgent(t, newAgent(t, addr, fmt.Sprintf("role: voter, client_listen: %q, tick_time: 500ms", addr)), true)
	})
}

func killAgent(t *testing.T, a *agent, reconnects bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*peer.Patience)
	defer cancel()
	first, _ := a.start(t)
	watcher, _ := peer.Connect(t, client.Config{Servers: a.addr, SessionTimeout: 10 * time.Second, MaxBackoff: 50 * time.Millisecond})
	watch, err := watcher.AddWatch(ctx, "/dubbo", wire.WatchPersistentRecursive)
	if err != nil {
		t.Fatal(err)
	}
	before := subtree(ctx, t, watcher, "/dubbo")
	providers := 0
	for path, e := range before {
		if strings.Contains(path, "/providers/") {
			providers++
			if e.stat.EphemeralOwner == 0 {
				t.Errorf("%s is not ephemeral", path)
			}
		}
	}
	if providers != 2 {
		t.Fatalf("%d providers: %v", providers, slices.Sorted(maps.Keys(before)))
	}
	n := max(3, rounds(t)/20)
	var took []time.Duration
	events := 0
	for i := range n {
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		a.Kill()
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond) // of 8 s
		for rand.IntN(2) == 0 {                                       // and once more in the middle of its start
			a.launch(t)
			time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
			a.Kill()
		}
		d, resumed := a.start(t)
		took = append(took, d)
		if !resumed {
			t.Errorf("round %d: the session was not taken up\n%s", i, a.Tail())
		}
		// What the agent does after it was ready must not show either.
		time.Sleep(300 * time.Millisecond)
		if err := watcher.Sync(ctx, "/dubbo"); err != nil {
			t.Fatal(err)
		}
		if diff := difference(subtree(ctx, t, watcher, "/dubbo"), before); diff != "" {
			t.Fatalf("round %d:\n%s%s", i, diff, a.Tail())
		}
		for more := true; more; {
			select {
			case e := <-watch.Events():
				events++
				if e.Type != wire.EventNone || !reconnects || e.State == wire.StateExpired {
					t.Errorf("round %d: event %+v", i, e)
				}
			default:
				more = false
			}
		}
	}
	a.Term(t)
	slices.Sort(took)
	t.Logf("%d kills, %d znodes unchanged, %d events about the connection; first start to ready %v, later median %v, worst %v",
		n, len(before), events, first.Round(time.Millisecond), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
}

// TestAgentReacts measures how long it takes from a change of a znode to the
// file, and from a service file to the znode and back.
func TestAgentReacts(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", peer.Port(t))
	a := newAgent(t, addr, fmt.Sprintf("role: voter, client_listen: %q", addr))
	a.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*peer.Patience)
	defer cancel()
	c, _ := peer.Connect(t, client.Config{Servers: addr})
	for _, path := range []string{"/config", "/config/app", "/config/app/app.properties"} {
		if _, _, err := c.Create(ctx, path, nil, nil, wire.Persistent); err != nil && !errors.Is(err, wire.ErrNodeExists) {
			t.Fatal(err)
		}
	}
	file := filepath.Join(a.files, "app.properties")
	const times = 21

	t.Run("set by our client", func(t *testing.T) {
		var took []time.Duration
		for i := range times {
			text := fmt.Sprintf("greeting=hello %d\n", i)
			began := time.Now()
			if _, err := c.Set(ctx, "/config/app/app.properties", []byte(text), -1); err != nil {
				t.Fatal(err)
			}
			took = append(took, awaitFile(t, file, text, began))
		}
		tell(t, "set to file", took)
	})
	t.Run("set by zkCli", func(t *testing.T) {
		shell := peer.Java(t, "org.apache.zookeeper.ZooKeeperMain", "-server", addr)
		in, err := shell.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := shell.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := shell.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { in.Close(); shell.Wait() }()
		go io.Copy(io.Discard, bufio.NewReader(out))
		var took []time.Duration
		for i := range times + 1 {
			text := fmt.Sprintf("greeting=zkCli-%d", i)
			began := time.Now()
			if _, err := fmt.Fprintf(in, "set /config/app/app.properties %s\n", text); err != nil {
				t.Fatal(err)
			}
			if d := awaitFile(t, file, text, began); i > 0 { // the first: the shell was still starting
				took = append(took, d)
			}
		}
		tell(t, "zkCli's set to file", took)
	})
	t.Run("service file", func(t *testing.T) {
		watch, err := c.AddWatch(ctx, "/dubbo", wire.WatchPersistentRecursive)
		if err != nil {
			t.Fatal(err)
		}
		defer watch.Close()
		await := func(kind wire.EventType, began time.Time) time.Duration {
			t.Helper()
			for {
				select {
				case e := <-watch.Events():
					if e.Type == kind && strings.HasPrefix(e.Path, "/dubbo/org.demo.Shop") && strings.Contains(e.Path, "/providers/") {
						return time.Since(began)
					}
				case <-time.After(patience):
					t.Fatalf("no %v\n%s", kind, a.Tail())
				}
			}
		}
		var up, down []time.Duration
		for i := range times {
			began := time.Now()
			a.service(t, "shop", fmt.Sprintf("service: {name: org.demo.Shop%d, protocol: dubbo, port: 20881}\n", i))
			up = append(up, await(wire.EventNodeCreated, began))
			began = time.Now()
			if err := os.Remove(filepath.Join(a.services, "shop.yaml")); err != nil {
				t.Fatal(err)
			}
			down = append(down, await(wire.EventNodeDeleted, began))
		}
		tell(t, "service file to znode", up)
		tell(t, "removed file to no znode", down)
	})
}

// patience is what any reaction may take; what it takes is logged.
const patience = 5 * time.Second

func awaitFile(t *testing.T, name, want string, began time.Time) time.Duration {
	t.Helper()
	for {
		b, err := os.ReadFile(name)
		if err == nil && string(b) == want {
			return time.Since(began)
		}
		// A shell that is still starting has more.
		if time.Since(began) > patience+peer.Patience {
			t.Fatalf("%s is %q, %v; want %q", name, b, err, want)
		}
		time.Sleep(500 * time.Microsecond)
	}
}

// tell logs the times and fails if one is too long.
func tell(t *testing.T, what string, took []time.Duration) {
	t.Helper()
	slices.Sort(took)
	worst := took[len(took)-1]
	t.Logf("%s: median %v, worst %v of %d", what, took[len(took)/2].Round(100*time.Microsecond), worst.Round(100*time.Microsecond), len(took))
	if worst > patience {
		t.Errorf("%s: %v is too long", what, worst)
	}
}
