package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/internal/testport"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// fleet is the settings of hosts that know each other's gossip addresses.
func fleet(t *testing.T, n int) (worlds []world, configs []config.Config) {
	ports := testport.Ports(t, 4*n)
	var join []string
	for i := range n {
		join = append(join, fmt.Sprintf("127.0.0.1:%d", ports[4*i]))
	}
	for i := range n {
		w := newWorld(t)
		c := w.config()
		c.Name, c.Zab.Role = fmt.Sprintf("host-%d", i+1), config.RoleAuto
		c.Zab.Server.Listen = fmt.Sprintf("127.0.0.1:%d", ports[4*i+1])
		c.Zab.Server.TickTime, c.Zab.Server.MaxSessionTimeout = 200*time.Millisecond, 30*time.Second
		c.Zab.Server.Storage.NoForceSync = true
		b := &c.Bootstrap.Config
		b.Cluster, b.Expect, b.Listen, b.Join, b.Pace = "demo", n, join[i], join, 100*time.Millisecond
		b.QuorumPort, b.ElectionPort = ports[4*i+2], ports[4*i+3]
		worlds, configs = append(worlds, w), append(configs, c)
	}
	return worlds, configs
}

func ready(a *Agent) func() error {
	return func() error {
		if why := a.NotReady(); len(why) > 0 {
			return errors.New(strings.Join(why, "; "))
		}
		return nil
	}
}

// providersSeen asks the name server of an agent.
func providersSeen(a *Agent, want int) func() error {
	return func() error {
		r, err := dns.Exchange(new(dns.Msg).SetQuestion("org.demo.shop.service.paddock.", dns.TypeSRV), a.names.Addr().String())
		if err == nil && len(r.Answer) != want {
			err = fmt.Errorf("%d answers, want %d", len(r.Answer), want)
		}
		return err
	}
}

// TestThreeAgentsAreOneEnsemble starts agents that know nothing but where the
// others gossip, and then restarts each in turn.
func TestThreeAgentsAreOneEnsemble(t *testing.T) {
	worlds, configs := fleet(t, 3)
	agents, stops := make([]*Agent, 3), make([]func(), 3)
	worlds[0].writeService(t, "shop.yaml", "service: {name: org.demo.Shop, protocol: dubbo, port: 20880}\n")
	for i := range 2 {
		agents[i], stops[i] = run(t, configs[i])
	}
	// What does not need an ensemble works meanwhile, and says what it waits for.
	await(t, "the first waits for the third", func() error {
		if why := strings.Join(agents[0].NotReady(), "; "); !strings.Contains(why, "2 of 3 expected hosts seen") {
			return errors.New(why)
		}
		return nil
	})
	if b := agents[0].Status().Bootstrap; b == nil || b.Cluster != "demo" || b.Waiting == "" || b.State != "seeking" {
		t.Errorf("status of gossip: %+v", b)
	}
	await(t, "DNS without an ensemble", providersSeen(agents[0], 0))

	agents[2], stops[2] = run(t, configs[2])
	leaders := 0
	for i, a := range agents {
		await(t, configs[i].Name, ready(a))
		await(t, "DNS of "+configs[i].Name, providersSeen(a, 1))
		if a.zookeeper.Load().State().Mode == "leader" {
			leaders++
		}
	}
	if leaders != 1 {
		t.Errorf("%d leaders", leaders)
	}
	await(t, "all hosts have a place", func() error {
		l := agents[0].Members()
		if len(l.Members) != 3 {
			return fmt.Errorf("members %+v", l)
		}
		for i, m := range l.Members {
			if m.ID != int64(i+1) || m.Name != configs[i].Name || m.Role != "participant" || !m.Alive || m.State != "member" || m.Self != (i == 0) {
				return fmt.Errorf("member %+v", m)
			}
		}
		return nil
	})

	// A restart changes nothing that others can see.
	w := watchAll(t, agents, "/dubbo")
	for i := range agents {
		session := agents[i].Status().Session.ID
		stops[i]()
		agents[i], stops[i] = run(t, configs[i])
		await(t, configs[i].Name+" again", ready(agents[i]))
		if s := agents[i].Status().Session; s.ID != session || !s.Resumed {
			t.Errorf("%s has the session %+v, had %s", configs[i].Name, s, session)
		}
		await(t, "DNS of "+configs[i].Name, providersSeen(agents[i], 1))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.c.Sync(ctx, "/dubbo"); err != nil { // events come before the answer
		t.Error(err)
	}
	for _, e := range w.events() {
		t.Errorf("the restarts were seen: %+v", e)
	}
	for _, stop := range stops {
		stop()
	}

	// The list of servers is known to a host that starts alone.
	a, _ := run(t, configs[1])
	await(t, "the server of a host alone", func() error {
		if a.zookeeper.Load() == nil {
			return errors.New("not there")
		}
		return nil
	})
	if l := a.Members(); len(l.Members) != 3 || l.Members[1].Name != "host-2" || l.Members[0].Role != "participant" {
		t.Errorf("members %+v", l)
	}
	if why := a.NotReady(); len(why) == 0 {
		t.Error("ready without a majority")
	}
	await(t, "DNS without a majority", providersSeen(a, 1)) // the last good answer
}

// TestAHostWithoutAServerThatServesUsesAnother takes a server off the list: its
// agent goes on with the others.
func TestAHostWithoutAServerThatServesUsesAnother(t *testing.T) {
	worlds, configs := fleet(t, 3)
	worlds[1].writeService(t, "shop.yaml", "service: {name: org.demo.Shop, protocol: dubbo, port: 20880}\n")
	auth := []client.Auth{{Scheme: "digest", Data: []byte("super:test")}}
	agents, stops := make([]*Agent, 3), make([]func(), 3)
	for i := range configs {
		configs[i].Zab.Server.Znode.SuperDigest = superDigest(auth)
		agents[i], stops[i] = run(t, configs[i])
	}
	for i, a := range agents {
		await(t, configs[i].Name, ready(a))
		await(t, "DNS of "+configs[i].Name, providersSeen(a, 1))
	}
	session := agents[1].Status().Session
	if session.Server != inProcess {
		t.Errorf("the session is at %q", session.Server)
	}

	c := connect(t, agents[0])
	if err := c.AddAuth(t.Context(), auth[0].Scheme, auth[0].Data); err != nil {
		t.Fatal(err)
	}
	// Not while the change is under way that a new ensemble begins with.
	await(t, "server 2 is taken off", func() error {
		_, _, err := c.Reconfig(t.Context(), "", "2", "", -1)
		return err
	})
	// It may follow the leader until it is restarted; then nobody talks to it.
	stops[1]()
	agents[1], _ = run(t, configs[1])
	await(t, "another server is used", func() error {
		now := agents[1].Status().Session
		if now.State != "connected" || now.Server == inProcess || now.ID != session.ID {
			return fmt.Errorf("session %+v, was %+v", now, session)
		}
		return nil
	})
	await(t, "it says why", func() error {
		if why := strings.Join(agents[1].NotReady(), "; "); why != "the ZooKeeper server has been taken off the list of servers" {
			return errors.New(why)
		}
		return nil
	})
	for i, a := range agents {
		await(t, "DNS of "+configs[i].Name, providersSeen(a, 1))
	}
	await(t, "the host without a place is shown", func() error {
		if l := agents[0].Members(); len(l.Members) != 3 || l.Members[1].Name != "host-2" || l.Members[1].Role != "" || !l.Members[1].Alive {
			return fmt.Errorf("members %+v", l)
		}
		return nil
	})
}

// A watcher sees everything below a znode.
type watcher struct {
	c *client.Client
	w *client.Watch
}

func watchAll(t *testing.T, agents []*Agent, path string) *watcher {
	t.Helper()
	var addrs []string
	for _, a := range agents {
		addrs = append(addrs, a.zookeeper.Load().Addr().String())
	}
	c, err := client.New(client.Config{Servers: strings.Join(addrs, ",")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	w, err := c.AddWatch(t.Context(), path, wire.WatchPersistentRecursive)
	if err != nil {
		t.Fatal(err)
	}
	return &watcher{c, w}
}

// events are those about znodes that have come.
func (w *watcher) events() (list []client.Event) {
	for {
		select {
		case e := <-w.w.Events():
			if e.Type != wire.EventNone {
				list = append(list, e)
			}
		default:
			return list
		}
	}
}

// TestAConfiguredListIsAnEnsemble runs three agents with zab.servers and myid.
func TestAConfiguredListIsAnEnsemble(t *testing.T) {
	_, configs := fleet(t, 3)
	var servers []string
	for i, c := range configs {
		servers = append(servers, fmt.Sprintf("server.%d=127.0.0.1:%d:%d;%s", i+1, c.Bootstrap.QuorumPort, c.Bootstrap.ElectionPort, c.Zab.Server.Listen))
	}
	var agents []*Agent
	for i, c := range configs {
		c.Zab.Servers, c.Zab.Server.ID = servers, zab.ServerID(i+1)
		if i != 1 {
			c.Bootstrap.Config.Cluster = "" // gossip is for show here
		}
		a, _ := run(t, c)
		agents = append(agents, a)
	}
	for i, a := range agents {
		await(t, configs[i].Name, ready(a))
		if l := a.Members(); len(l.Members) != 3 || l.Members[i].Name != configs[i].Name || !l.Members[i].Self {
			t.Errorf("members of %s: %+v", configs[i].Name, l)
		}
	}
}

func TestOtherServersInTheirOrder(t *testing.T) {
	list, err := zab.ParseEnsemble(`server.1=10.0.0.1:2888:3888:participant;0.0.0.0:2181
server.2=10.0.0.2:2888:3888:participant;10.9.0.2:2182
server.3=10.0.0.3:2888:3888:participant
server.4=h4:2888:3888:observer;[::]:2181
version=1`)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[zab.ServerID][]string{
		1: {"10.9.0.2:2182", "h4:2181"}, 2: {"h4:2181", "10.0.0.1:2181"}, 4: {"10.0.0.1:2181", "10.9.0.2:2182"},
		9: {"10.0.0.1:2181", "10.9.0.2:2182", "h4:2181"},
	} {
		if got := others(list, id); !slices.Equal(got, want) {
			t.Errorf("server %d: %q, want %q", id, got, want)
		}
	}
	if got := others(nil, 1); got != nil {
		t.Errorf("alone: %q", got)
	}
}

// TestAVisitEndsWhenTheOwnServerServes for a while, and not before.
func TestAVisitEndsWhenTheOwnServerServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		began := time.Now()
		nc := comeHome(near, func() bool {
			since := time.Since(began)
			return since < time.Second || since > 10*time.Second
		})
		if _, err := nc.Read(make([]byte, 1)); err == nil {
			t.Error("something was read")
		}
		if d := time.Since(began); d < 10*time.Second+homeAfter-homeAfter/10 || d > 10*time.Second+2*homeAfter {
			t.Errorf("it ended after %v", d)
		}

		near, other := net.Pipe()
		defer other.Close()
		nc = comeHome(near, func() bool { return false })
		if err := nc.Close(); err != nil { // the test fails if its watch does not end
			t.Error(err)
		}
	})
}

func TestTheSuperUserOfTheAuthFile(t *testing.T) {
	for data, want := range map[string]string{
		"super:test":  "super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
		"nobody:test": "", "super": "",
	} {
		if got := superDigest([]client.Auth{{Scheme: "digest", Data: []byte(data)}}); got != want {
			t.Errorf("%s: %q, want %q", data, got, want)
		}
	}
	if got := superDigest([]client.Auth{{Scheme: "x509", Data: []byte("super:test")}}); got != "" {
		t.Errorf("another scheme: %q", got)
	}
}

// TestServersOfGossip checks what is asked of a server whose list comes later.
func TestServersOfGossip(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Bootstrap.Cluster, cfg.Zab.Role = "demo", config.RoleObserver
	sc, err := serverConfig(cfg, nil)
	if err != nil || !sc.ReconfigEnabled || !sc.Storage.NoAutoCreate || sc.ID != 0 || sc.Ensemble != nil {
		t.Errorf("got %+v, %v", sc, err)
	}
	myid := filepath.Join(cfg.DataDir, "zab", "myid")
	if err := errors.Join(os.MkdirAll(filepath.Dir(myid), 0o755), os.WriteFile(myid, []byte("7\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if sc, err = serverConfig(cfg, nil); err != nil || sc.ID != 7 {
		t.Errorf("with myid: %d, %v", sc.ID, err)
	}
	if err := os.WriteFile(myid, []byte("seven\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err = serverConfig(cfg, nil); err == nil {
		t.Error("myid has no number, and nobody says so")
	}
	cfg.Bootstrap.Cluster = ""
	if _, err = serverConfig(cfg, nil); err == nil || !strings.Contains(err.Error(), "observer needs the list") {
		t.Errorf("an observer of nobody: %v", err)
	}
}
