//go:build interop && linux

package gossip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/wire"
)

func TestMain(m *testing.M) { os.Exit(peer.Main(m)) }

// A host is a network namespace with an agent.
type host struct {
	*peer.Process
	t         testing.TB
	id        int
	dir       string
	namespace string
	addr      string
}

// hosts are on one bridge, which the test reaches too.
type hosts []*host

// newHosts makes n hosts, of which those in voters are named in every join list.
func newHosts(t testing.TB, n int, voters ...int) hosts {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil || os.Getuid() != 0 {
		peer.Missing(t, "network namespaces need root and iproute2")
	}
	// Two runs at a time must not meet: neither their names nor their addresses.
	pid := os.Getpid() % 65536
	bridge, subnet := fmt.Sprintf("pg%d", pid), fmt.Sprintf("10.214.%d", pid%256)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", bridge).Run() })
	ip(t, "link", "add", bridge, "type", "bridge")
	ip(t, "addr", "add", subnet+".254/24", "dev", bridge)
	ip(t, "link", "set", bridge, "up")
	var join []string
	for _, v := range voters {
		join = append(join, fmt.Sprintf("%s.%d", subnet, v))
	}
	dir := t.TempDir()
	auth := filepath.Join(dir, "auth")
	if err := os.WriteFile(auth, []byte("digest:"+peer.Super+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var hs hosts
	for i := 1; i <= n; i++ {
		h := &host{t: t, id: i, dir: filepath.Join(dir, fmt.Sprint(i)), namespace: fmt.Sprintf("pg%d-%d", pid, i), addr: fmt.Sprintf("%s.%d", subnet, i)}
		t.Cleanup(func() {
			// A namespace ends some time after its name; the link has to go now.
			_ = exec.Command("ip", "link", "del", h.namespace).Run()
			_ = exec.Command("ip", "netns", "del", h.namespace).Run()
		})
		ip(t, "netns", "add", h.namespace)
		ip(t, "link", "add", h.namespace, "type", "veth", "peer", "name", "eth0", "netns", h.namespace)
		ip(t, "link", "set", h.namespace, "master", bridge)
		ip(t, "link", "set", h.namespace, "up")
		h.ip("addr", "add", h.addr+"/24", "dev", "eth0")
		h.ip("link", "set", "eth0", "up")
		h.ip("link", "set", "lo", "up")
		text := fmt.Sprintf(`name: host-%d
data_dir: %s/data
zab: {tick_time: 500ms}
bootstrap: {cluster: demo, advertise: %s, join: [%s], expect: 3, auth_file: %s}
registry: {services_dir: %s/services.d}
dns: {listen: "%s:8600"}
admin: {listen: "0.0.0.0:8080"}
`, i, h.dir, h.addr, strings.Join(join, ", "), auth, h.dir, h.addr)
		err := errors.Join(os.MkdirAll(filepath.Join(h.dir, "services.d"), 0o755), os.WriteFile(filepath.Join(h.dir, "agent.yaml"), []byte(text), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		hs = append(hs, h)
	}
	return hs
}

func ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (h *host) ip(args ...string) { ip(h.t, append([]string{"-n", h.namespace}, args...)...) }

// cut loses every packet between two hosts, heal ends that.
func (h *host) cut(o *host) {
	h.ip("neigh", "replace", o.addr, "lladdr", "02:00:00:00:00:ff", "dev", "eth0", "nud", "permanent")
	o.ip("neigh", "replace", h.addr, "lladdr", "02:00:00:00:00:ff", "dev", "eth0", "nud", "permanent")
}

func (hs hosts) heal() {
	for _, h := range hs {
		h.ip("neigh", "flush", "dev", "eth0", "nud", "permanent")
	}
}

// start runs the agents of hosts.
func (hs hosts) start() {
	for _, h := range hs {
		cmd := exec.Command("ip", "netns", "exec", h.namespace, peer.Paddock(), "agent", "-config", filepath.Join(h.dir, "agent.yaml"))
		h.Process = peer.Run(h.t, cmd, filepath.Join(h.dir, "log"))
	}
}

// wipe loses the disk of a host that does not run.
func (h *host) wipe() {
	if err := os.RemoveAll(filepath.Join(h.dir, "data")); err != nil {
		h.t.Fatal(err)
	}
}

// status is empty while the agent does not answer.
func (h *host) status() (st api.Status) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+h.addr+":8080/v1/status", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return st
	}
	defer resp.Body.Close()
	_ = json.NewDecoder(resp.Body).Decode(&st) // an answer that is cut off is none
	return st
}

func (h *host) mode() string {
	if st := h.status(); st.Ready && st.Zab != nil {
		return st.Zab.State
	}
	return ""
}

// await waits until the agents are ready, each in one of the modes.
func (hs hosts) await(modes ...string) {
	hs[0].t.Helper()
	for _, h := range hs {
		h.within(fmt.Sprintf("host %d is %s", h.id, strings.Join(modes, " or ")), func() error {
			mode := h.mode()
			for _, m := range modes {
				if mode == m {
					return nil
				}
			}
			return fmt.Errorf("it is %q, not ready because of %q", mode, h.status().NotReady)
		})
	}
}

// within tries until it succeeds.
func (h *host) within(what string, try func() error) {
	h.t.Helper()
	for deadline := time.Now().Add(peer.Patience); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: %v\n%s", what, err, h.Tail())
		}
	}
}

// noneServes looks for a while whether a host serves that must not.
func (hs hosts) noneServes(d time.Duration) {
	hs[0].t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, h := range hs {
			if mode := h.mode(); mode != "" {
				h.t.Fatalf("host %d is %s\n%s", h.id, mode, h.Tail())
			}
		}
	}
}

// answers waits until the name server of a host knows the service.
func (h *host) answers() {
	h.t.Helper()
	h.within(fmt.Sprintf("DNS of host %d", h.id), func() error {
		r, err := dns.Exchange(new(dns.Msg).SetQuestion("org.demo.shop.service.paddock.", dns.TypeSRV), h.addr+":8600")
		if err == nil && len(r.Answer) != 1 {
			err = fmt.Errorf("%d answers", len(r.Answer))
		}
		return err
	})
}

// client connects to the server of a host.
func (h *host) client() *client.Client {
	c, _ := peer.Connect(h.t, client.Config{Servers: h.addr + ":2181"})
	return c
}

// members runs a command that changes the list.
func (h *host) members(args ...string) {
	h.t.Helper()
	args = append(append([]string{"members"}, args...), "-server", h.addr+":2181", "-http", h.addr+":8080", "-auth-file", filepath.Join(h.dir, "..", "auth"))
	h.within(strings.Join(args, " "), func() error {
		out, err := exec.Command(peer.Paddock(), args...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
}

// TestThreeAgentsAndAFourth forms an ensemble, lets a host join it, loses a disk,
// replaces a voter, and at last loses a majority of the disks.
func TestThreeAgentsAndAFourth(t *testing.T) {
	hs := newHosts(t, 4, 1, 2, 3)
	if err := os.WriteFile(filepath.Join(hs[0].dir, "services.d", "shop.yaml"), []byte("service: {name: org.demo.Shop, protocol: dubbo, port: 20880}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	hs[:2].start()
	hs[0].within("it says what it waits for", func() error {
		if why := strings.Join(hs[0].status().NotReady, "; "); !strings.Contains(why, "2 of 3 expected hosts seen") {
			return errors.New(why)
		}
		return nil
	})
	hs[:2].noneServes(2 * time.Second)
	hs[2:3].start()
	hs[:3].await("leader", "follower")

	ctx, cancel := context.WithTimeout(t.Context(), 3*peer.Patience)
	defer cancel()
	if _, _, err := hs[0].client().Create(ctx, "/kept", []byte("x"), nil, wire.Persistent); err != nil {
		t.Fatal(err)
	}
	hs[3:].start()
	hs[3:].await("observer")
	for _, h := range hs {
		h.answers()
	}

	// A wiped disk is filled again, and the service of its host stays.
	session := hs[0].session()
	hs[1].Kill()
	hs[1].wipe()
	hs[1:2].start()
	hs[1:2].await("leader", "follower")
	hs[1].answers()

	// One command replaces a voter that is gone for good.
	hs[2].Kill()
	hs[0].members("replace", "3", "4")
	voting := hosts{hs[0], hs[1], hs[3]}
	voting.await("leader", "follower")
	hs[3].answers()
	for _, h := range voting {
		c := h.client()
		if err := c.Sync(ctx, "/"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Get(ctx, "/kept"); err != nil {
			t.Errorf("host %d: %v", h.id, err)
		}
	}
	if now := hs[0].session(); now != session {
		t.Errorf("the agent of host 1 has the session %s, had %s", now, session)
	}

	// Without the disks of a majority nobody knows what was acknowledged: no
	// ensemble, above all not an empty one.
	for _, h := range voting {
		h.Kill()
	}
	hs[0].wipe()
	hs[1].wipe()
	hs[:2].start()
	hs[:2].noneServes(5 * time.Second)
	hs[3:].start()
	voting.noneServes(8 * time.Second)
	if t.Failed() {
		for _, h := range hs {
			t.Log(h.Tail())
		}
	}
}

// session is that of the agent; the API shows it to its own host only.
func (h *host) session() string {
	out, err := exec.Command("ip", "netns", "exec", h.namespace, peer.Paddock(), "status", "-http", "127.0.0.1:8080", "-o", "json").Output()
	var st api.Status
	if err := errors.Join(err, json.Unmarshal(out, &st)); err != nil {
		h.t.Fatalf("status: %v\n%s", err, out)
	}
	if st.Session == nil || st.Session.ID == "" {
		h.t.Fatalf("no session: %s", out)
	}
	return st.Session.ID
}

// TestTwoPartitionsNeverFormTwo cuts six hosts into two halves, each with as many
// as are expected. Only when they meet one ensemble is formed, by those that the
// join list names.
func TestTwoPartitionsNeverFormTwo(t *testing.T) {
	hs := newHosts(t, 6, 1, 2, 4)
	for _, a := range hs[:3] {
		for _, b := range hs[3:] {
			a.cut(b)
		}
	}
	hs.start()
	for _, h := range (hosts{hs[0], hs[3]}) {
		h.within(fmt.Sprintf("host %d sees its half", h.id), func() error {
			if why := strings.Join(h.status().NotReady, "; "); !strings.Contains(why, "3 of 3 expected hosts seen: waiting for") {
				return errors.New(why)
			}
			return nil
		})
	}
	hs.noneServes(6 * time.Second)
	hs.heal()
	hosts{hs[0], hs[1], hs[3]}.await("leader", "follower")
	hosts{hs[2], hs[4], hs[5]}.await("observer")
	id := hs[0].status().Bootstrap.ID
	for _, h := range hs {
		if b := h.status().Bootstrap; b == nil || b.ID != id || b.State != "member" {
			t.Errorf("host %d: %+v, the first is in %s", h.id, b, id)
		}
	}
}
