//go:build interop

package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/wire"
)

// An agentProcess is a running "paddock agent".
type agentProcess struct {
	server                 // its client port, unless it is a client of another
	admin, dns      string // addresses
	services, files string // service files; the mirrored directory
}

// startAgent starts an agent with its own server, or as a client of the server
// at connect.
func startAgent(t *testing.T, connect string) *agentProcess {
	t.Helper()
	if *tested != peer.KindPaddock {
		t.Skip("a control run has no agent")
	}
	dir := t.TempDir()
	a := &agentProcess{
		server:   server{kind: peer.KindPaddock, dir: dir, port: freePort(t)},
		admin:    fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		dns:      fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		services: filepath.Join(dir, "services.d"),
		files:    filepath.Join(dir, "files"),
	}
	zab := fmt.Sprintf(`{client_listen: %q, four_letter_words: ["*"]}`, a.addr())
	if connect != "" {
		zab = fmt.Sprintf("{role: client, connect: %q}", connect)
	}
	for _, d := range []string{a.services, a.files} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf(`name: host-1
data_dir: %s
zab: %s
registry: {services_dir: %s, advertise: 127.0.0.1}
dns: {listen: %q}
admin: {listen: %q}
configsync:
  - {name: app, from: /config/app, to: %s/app.properties}
`, filepath.Join(dir, "data"), zab, a.services, a.dns, a.admin, a.files)
	if err := os.WriteFile(filepath.Join(dir, "agent.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	a.start(t)
	return a
}

// start runs the agent and waits until it is ready.
func (a *agentProcess) start(t *testing.T) {
	t.Helper()
	a.Process = peer.Run(t, exec.Command(peer.Paddock(), "agent", "-config", filepath.Join(a.dir, "agent.yaml")), a.logFile())
	within(t, patience, "the agent is ready", func() error {
		resp, err := http.Get("http://" + a.admin + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s\n%s", resp.Status, a.Tail())
		}
		return nil
	})
}

// agentStatus is what these tests read of /v1/status.
type agentStatus struct {
	Session struct {
		ID      string `json:"id"`
		Resumed bool   `json:"resumed"`
		State   string `json:"state"`
	} `json:"session"`
	Registry struct {
		Registrations int  `json:"registrations"`
		Instances     int  `json:"instances"`
		Live          bool `json:"live"`
	} `json:"registry"`
}

func (a *agentProcess) status(t *testing.T) agentStatus {
	t.Helper()
	resp, err := http.Get("http://" + a.admin + "/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var s agentStatus
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// drop puts a service file into the agent's folder, as a whole.
func (a *agentProcess) drop(t *testing.T, file, text string) {
	t.Helper()
	tmp := filepath.Join(a.dir, file)
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(a.services, file)); err != nil {
		t.Fatal(err)
	}
}

// within polls until ok returns nil, and returns how long that took.
func within(t *testing.T, limit time.Duration, what string, ok func() error) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		err := ok()
		if took := time.Since(start); err == nil {
			return took
		} else if took > limit {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

const agentName = "paddock agent"

// TestAgentRestartIsNotNoticed kills the agent with kill -9 and starts it again
// within its session timeout: nobody who watches /dubbo sees an event, and no
// znode below it is another. Against a server of its own, where watchers
// reconnect, and as the client of a server that goes on, Apache's too.
func TestAgentRestartIsNotNoticed(t *testing.T) {
	for _, where := range []string{"own server", "of " + peer.KindPaddock, "of " + peer.KindApache} {
		run(t, agentName, "kill -9", where, func(t *testing.T) {
			var a *agentProcess
			var tree *server
			if kind, ok := strings.CutPrefix(where, "of "); ok {
				tree = startServer(t, kind, t.TempDir())
				a = startAgent(t, tree.addr())
			} else {
				a = startAgent(t, "")
				tree = &a.server
			}
			for i := range 3 {
				a.drop(t, fmt.Sprintf("s%d.yaml", i), fmt.Sprintf(
					"service: {name: org.demo.S%d, protocol: dubbo, port: %d, version: 1.0.0}\n", i, 20880+i))
			}
			within(t, patience, "three services are registered", func() error {
				if s := a.status(t); s.Registry.Registrations != 3 || s.Registry.Instances != 3 {
					return fmt.Errorf("%+v", s)
				}
				return nil
			})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			watcher, _ := peer.Connect(t, client.Config{Servers: tree.addr()})
			watch, err := watcher.AddWatch(ctx, "/dubbo", wire.WatchPersistentRecursive)
			if err != nil {
				t.Fatal(err)
			}
			providers := func() map[string]peer.Znode {
				t.Helper()
				all, err := peer.ReadTree(ctx, watcher)
				if err != nil {
					t.Fatal(err)
				}
				return subtree(all, "/dubbo")
			}
			before := providers()
			if len(before) < 7 {
				t.Fatalf("only %v below /dubbo", slices.Sorted(maps.Keys(before)))
			}
			oneShot := watchAll(t, dialGo(t, tree), before)
			session := a.status(t).Session.ID

			for range 3 {
				a.Kill()
				a.start(t)
				within(t, patience, "the session is taken up", func() error {
					s := a.status(t)
					if s.Session.State != "connected" || s.Registry.Registrations != 3 || !s.Registry.Live || s.Registry.Instances != 3 {
						return fmt.Errorf("%+v", s)
					}
					if s.Session.ID != session || !s.Session.Resumed {
						t.Fatalf("the session was %s, now %+v", session, s.Session)
					}
					return nil
				})
			}
			peer.CompareTrees(t, "after the agent was killed", providers(), before)

			// Events that were under way come before that of this mark.
			if _, _, err := watcher.Create(ctx, "/dubbo/mark", nil, nil, wire.Persistent); err != nil {
				t.Fatal(err)
			}
			for mark := false; !mark; {
				select {
				case e := <-watch.Events():
					mark = e.Path == "/dubbo/mark"
					if !mark && e.Type != wire.EventNone {
						t.Errorf("a persistent watch saw %+v", e)
					}
				case <-ctx.Done():
					t.Fatal("the watch is dead")
				}
			}
			for path, events := range oneShot {
				select {
				case e := <-events:
					// Only the mark may have been noticed.
					if path != "/dubbo" || e.Type != zk.EventNodeChildrenChanged {
						t.Errorf("a one-shot watch on %s saw %+v", path, e)
					}
				default:
				}
			}
		})
	}
}

func subtree(tree map[string]peer.Znode, root string) map[string]peer.Znode {
	maps.DeleteFunc(tree, func(path string, _ peer.Znode) bool {
		return path != root && !strings.HasPrefix(path, root+"/")
	})
	return tree
}

// watchAll sets a data watch and a child watch on every znode.
func watchAll(t *testing.T, conn *zk.Conn, tree map[string]peer.Znode) map[string]<-chan zk.Event {
	t.Helper()
	events := map[string]<-chan zk.Event{}
	for path := range tree {
		_, _, data, err := conn.GetW(path)
		_, _, children, cerr := conn.ChildrenW(path)
		if err := errors.Join(err, cerr); err != nil {
			t.Fatal(err)
		}
		both := make(chan zk.Event, 2)
		for _, c := range []<-chan zk.Event{data, children} {
			go func() {
				for e := range c {
					both <- e
				}
			}()
		}
		events[path] = both
	}
	return events
}

// TestAgentServesOneHost walks the product's main path: a service file becomes a
// znode and a DNS answer, and goes again; a config znode becomes a file.
func TestAgentServesOneHost(t *testing.T) {
	a := startAgent(t, "")
	conn := dialGo(t, &a.server)
	open := zk.WorldACL(zk.PermAll)
	const limit = 200 * time.Millisecond

	run(t, agentName, "one host", "service file to znode and back within 200 ms", func(t *testing.T) {
		const text = "service: {name: org.demo.Greeter, protocol: dubbo, port: 20880}\n"
		const providers = "/dubbo/org.demo.Greeter/providers"
		for range 3 {
			a.drop(t, "greeter.yaml", text)
			took := within(t, patience, "registered", func() error {
				names, _, err := conn.Children(providers)
				if err == nil && len(names) == 1 {
					return nil
				}
				return fmt.Errorf("%v, %v", names, err)
			})
			if err := os.Remove(filepath.Join(a.services, "greeter.yaml")); err != nil {
				t.Fatal(err)
			}
			gone := within(t, patience, "deregistered", func() error {
				names, _, err := conn.Children(providers)
				if err == nil && len(names) == 0 || errors.Is(err, zk.ErrNoNode) {
					return nil
				}
				return fmt.Errorf("%v, %v", names, err)
			})
			t.Logf("registered in %v, gone in %v", took, gone)
			if took > limit || gone > limit {
				t.Errorf("registered in %v, gone in %v, want at most %v", took, gone, limit)
			}
		}
	})
	run(t, agentName, "one host", "DNS", func(t *testing.T) {
		a.drop(t, "greeter.yaml", "service: {name: org.demo.Greeter, protocol: dubbo, port: 20881}\n")
		within(t, patience, "SRV", func() error { return srvIs(t.Context(), a.dns, 20881) })
	})
	run(t, agentName, "one host", "config znode to file within 200 ms", func(t *testing.T) {
		must[string](t)(conn.Create("/config", nil, 0, open))
		must[string](t)(conn.Create("/config/app", []byte("v0"), 0, open))
		file := filepath.Join(a.files, "app.properties")
		for i := range 4 {
			want := fmt.Sprintf("v%d", i)
			if i > 0 {
				must[*zk.Stat](t)(conn.Set("/config/app", []byte(want), -1))
			}
			took := within(t, patience, "mirrored", func() error {
				if b, err := os.ReadFile(file); err != nil || string(b) != want {
					return fmt.Errorf("%q, %v", b, err)
				}
				return nil
			})
			t.Logf("mirrored in %v", took)
			if took > limit {
				t.Errorf("mirrored in %v, want at most %v", took, limit)
			}
		}
	})
	run(t, agentName, "one host", "Apache's shell changes the file", func(t *testing.T) {
		cmd := java(t, "apache", "org.apache.zookeeper.ZooKeeperMain", "-server", a.host(), "set", "/config/app", "by-hand")
		output(t, cmd, &a.server)
		within(t, limit, "mirrored", func() error {
			if b, err := os.ReadFile(filepath.Join(a.files, "app.properties")); err != nil || string(b) != "by-hand" {
				return fmt.Errorf("%q, %v", b, err)
			}
			return nil
		})
	})
}
