package bootstrap

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/paddockio/paddock/internal/testport"
	"github.com/paddockio/paddock/zab"
)

// pace makes gossip quick on loopback.
const pace = 40 * time.Millisecond

// patience is how long something may take on a busy machine.
const patience = 20 * time.Second

// A site is a few hosts on loopback with the ensemble that they may form.
type site struct {
	t     *testing.T
	ports []int
	dirs  []string
	reg   *registrar
	key   string
}

func newSite(t *testing.T, hosts int) *site {
	s := &site{t: t, ports: testport.Ports(t, hosts), reg: &registrar{}}
	for range hosts {
		s.dirs = append(s.dirs, t.TempDir())
	}
	return s
}

// config is that of host i, which knows all others and not itself.
func (s *site) config(i int, change func(*Config)) Config {
	cfg := Config{
		Cluster: "demo", Name: fmt.Sprintf("host-%d", i+1), Expect: 3, Listen: fmt.Sprintf("127.0.0.1:%d", s.ports[i]),
		QuorumPort: 20000 + i, ElectionPort: 21000 + i, ClientAddr: fmt.Sprintf("127.0.0.1:%d", 22000+i),
		DataDir: s.dirs[i], KeyFile: s.key, Registrar: s.reg, Pace: pace,
	}
	for j, p := range s.ports {
		if j != i && j < 3 {
			cfg.Join = append(cfg.Join, fmt.Sprintf("127.0.0.1:%d", p))
		}
	}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

// start runs host i until the test ends or stop is called.
func (s *site) start(i int, change func(*Config)) (b *Bootstrap, stop func()) {
	s.t.Helper()
	b, err := New(s.config(i, change))
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("host %d: %v", i+1, err)
		}
	})
	s.t.Cleanup(stop)
	return b, stop
}

func (s *site) wait(b *Bootstrap) Outcome {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o, err := b.Wait(ctx)
	if err != nil {
		s.t.Fatalf("%s: %v: %+v", b.cfg.Name, err, b.Status())
	}
	return o
}

// until waits for a condition that gossip brings about.
func (s *site) until(what string, ok func() bool) {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			s.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// A registrar is an ensemble that serves as soon as somebody has formed it.
type registrar struct {
	mu       sync.Mutex
	ensemble *zab.Ensemble
	asked    []string // the last time
}

func (r *registrar) serve(e *zab.Ensemble) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ensemble = e
}

func (r *registrar) Read(_ context.Context, addrs []string) (*zab.Ensemble, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = addrs
	if r.ensemble == nil {
		return nil, fmt.Errorf("nobody serves")
	}
	return r.ensemble, nil
}

func (r *registrar) Add(_ context.Context, _ []string, m zab.Member, version int64) (*zab.Ensemble, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ensemble.Version != version {
		return nil, ErrChanged
	}
	e := &zab.Ensemble{Members: append(slices.Clone(r.ensemble.Members), m), Version: version + 1}
	slices.SortFunc(e.Members, func(a, b zab.Member) int { return int(a.ID - b.ID) })
	if err := e.Check(); err != nil {
		return nil, err
	}
	r.ensemble = e
	return e, nil
}

// TestThreeFormAnEnsembleAndAFourthObserves is the life of an ensemble: formed by
// three that know each other's gossip addresses only, joined by more, left and
// taken up again, with a lost disk.
func TestThreeFormAnEnsembleAndAFourthObserves(t *testing.T) {
	s := newSite(t, 5)
	key := make([]byte, 32)
	rand.Read(key)
	s.key = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(s.key, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var hosts []*Bootstrap
	var stops []func()
	for i := range 3 {
		b, stop := s.start(i, nil)
		hosts, stops = append(hosts, b), append(stops, stop)
		if i == 0 {
			s.until("the first says for whom it waits", func() bool {
				return strings.HasPrefix(b.Status().Reason, "1 of 3 expected hosts seen: waiting for 127.0.0.1:")
			})
		}
	}
	var first Outcome
	for i, b := range hosts {
		o := s.wait(b)
		if o.Role != RoleVoter || o.ID != zab.ServerID(i+1) || o.Lost {
			t.Errorf("host %d: %+v", i+1, o)
		}
		if i == 0 {
			first = o
		}
		if o.Cluster != first.Cluster || o.Ensemble.String() != first.Ensemble.String() || len(o.Ensemble.Members) != 3 {
			t.Errorf("host %d is in %v:\n%v\nand the first in %v:\n%v", i+1, o.Cluster, o.Ensemble, first.Cluster, first.Ensemble)
		}
	}

	// Two more come at the same moment: both get a place, and an id of their own.
	s.reg.serve(first.Ensemble)
	d, _ := s.start(3, func(c *Config) { c.Role = RoleVoter })
	e, _ := s.start(4, func(c *Config) { c.Role = RoleObserver })
	fourth, fifth := s.wait(d), s.wait(e)
	if fourth.Role != RoleObserver || fifth.Role != RoleObserver || fourth.ID == fifth.ID || fourth.ID+fifth.ID != 9 || fourth.Cluster != first.Cluster {
		t.Errorf("observers: %+v and %+v", fourth, fifth)
	}
	all := append(slices.Clone(hosts), d, e)
	for _, b := range all {
		if err := b.Update(s.reg.ensemble); err != nil {
			t.Error(err)
		}
	}
	s.until("all see five with a place", func() bool {
		return !slices.ContainsFunc(all, func(b *Bootstrap) bool {
			ms := b.Members()
			return len(ms) != 5 || slices.ContainsFunc(ms, func(m MemberInfo) bool { return !m.Alive || m.Place == 0 || m.State != Member })
		})
	})

	// A restart needs nobody.
	for _, stop := range stops {
		stop()
	}
	b, stop := s.start(0, nil)
	if o := s.wait(b); o.ID != 1 || o.Ensemble.Version != s.reg.ensemble.Version || len(o.Ensemble.Members) != 5 {
		t.Errorf("restarted: %+v", o)
	}
	stop()

	// A wiped one finds its place, and that it must not vote.
	s.dirs[1] = t.TempDir()
	b, _ = s.start(1, nil)
	if o := s.wait(b); o.ID != 2 || o.Role != RoleVoter || !o.Lost || o.Cluster != first.Cluster {
		t.Errorf("wiped: %+v", o)
	}
}

// TestStrangersChangeNothing lets hosts with another name or key, and one that
// says whatever it likes, gossip with an ensemble.
func TestStrangersChangeNothing(t *testing.T) {
	s := newSite(t, 5)
	var hosts []*Bootstrap
	for i := range 3 {
		b, _ := s.start(i, nil)
		hosts = append(hosts, b)
	}
	var before []Outcome
	for _, b := range hosts {
		before = append(before, s.wait(b))
	}
	files := func() (all []string) {
		for _, b := range hosts {
			data, err := os.ReadFile(filepath.Join(b.cfg.DataDir, FileName))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(data))
		}
		return all
	}
	stored := files()

	// Another name, under the same addresses.
	other, _ := s.start(3, func(c *Config) { c.Cluster = "other" })

	// A host that is one of us to the library, and lies. Each of its lives says
	// something else; the last is well-formed and claims server 1, another
	// ensemble and another list.
	liar := func(name string, meta []byte) *memberlist.Memberlist {
		mc := memberlist.DefaultLocalConfig()
		mc.Name, mc.Label, mc.BindAddr, mc.BindPort, mc.AdvertisePort = name, "demo", "127.0.0.1", 0, 0
		mc.Delegate, mc.Logger, mc.TCPTimeout = &gossip{meta: meta}, log.New(io.Discard, "", 0), time.Second
		m, err := memberlist.Create(mc)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Shutdown() })
		return m
	}
	truth := before[0].Ensemble
	node := NodeID{0xbd}
	claim := Host{
		Node: node, Name: "host-1", Role: RoleVoter, State: Member, Expect: 3, ID: 1, Cluster: ClusterID{1}, Hash: Hash{1}, Version: 1 << 60,
		Addr: truth.Members[0].Addrs[0], ClientAddr: "127.0.0.1:1",
	}
	// enter may fail: the host that is lied to closes the connection as it likes.
	enter := func(m *memberlist.Memberlist) { _, _ = m.Join([]string{fmt.Sprintf("127.0.0.1:%d", s.ports[0])}) }
	refused := func() int { _, n := hosts[0].gossip.trouble(); return n }
	for _, lie := range []struct {
		name string
		meta []byte
	}{
		{"garbage", []byte("garbage")},
		{"nothing", nil},
		{"largest", make([]byte, memberlist.MetaMaxSize)},
		{"of-another", appendMeta(nil, claim)},
	} {
		n := refused()
		m := liar(lie.name, lie.meta)
		s.until(lie.name+" is refused", func() bool { enter(m); return refused() > n })
		if err := m.Shutdown(); err != nil {
			t.Error(err)
		}
	}
	for range 3 { // flapping
		m := liar(node.String(), appendMeta(nil, claim))
		s.until("the liar is seen", func() bool {
			enter(m)
			return strings.Contains(strings.Join(hosts[0].Status().Problems, "\n"), "belongs to another ensemble")
		})
		if err := m.Leave(time.Second); err != nil {
			t.Error(err)
		}
		if err := m.Shutdown(); err != nil {
			t.Error(err)
		}
		s.until("the liar is gone", func() bool {
			return !slices.ContainsFunc(hosts[0].Members(), func(m MemberInfo) bool { return m.Node == node && m.Alive })
		})
	}

	for i, b := range hosts {
		if got := s.wait(b); got.ID != before[i].ID || got.Role != before[i].Role || got.Ensemble.String() != before[i].Ensemble.String() {
			t.Errorf("host %d was %+v and is %+v", i+1, before[i], got)
		}
		for _, m := range b.Members() {
			if m.Place != 0 && m.Node == node || m.Node == other.self.Node {
				t.Errorf("host %d lists %+v", i+1, m)
			}
		}
	}
	if !slices.Equal(files(), stored) {
		t.Error("what is stored has changed")
	}
	if r := other.Status().Reason; !strings.HasPrefix(r, "1 of 3 expected hosts seen") {
		t.Errorf("the host with another name: %q", r)
	}
}

func TestTakenPortIsToldApart(t *testing.T) {
	s := newSite(t, 1)
	s.start(0, nil)
	s.dirs[0] = t.TempDir()
	if b, err := New(s.config(0, nil)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second one on the port: %v, %v", b, err)
	}
}

// TestWithoutAKeyOnlyTheJoinListIsAsked is about whom a host that joins gives its
// password: without a key, what gossip says is anybody's word.
func TestWithoutAKeyOnlyTheJoinListIsAsked(t *testing.T) {
	cluster := ClusterID{1}
	member := func(id zab.ServerID, host string) *gossiped {
		h := voter(host)
		h.ID, h.State, h.Cluster = id, Member, cluster
		h.Addr, h.ClientAddr = zab.MemberAddr{Host: host, QuorumPort: 2888, ElectionPort: 3888}, "0.0.0.0:2181"
		return &gossiped{Seen: Seen{h, true}}
	}
	for _, tc := range []struct {
		name  string
		keyed bool
		hosts []string // that gossip calls members
		want  []string // that are asked
		err   string
	}{
		{"a forged one is not asked", false, []string{"10.0.0.1", "10.6.6.6", "zk-2"}, []string{"10.0.0.1:2181", "zk-2:2181"}, ""},
		{"a resolved one is", false, []string{"10.0.0.2"}, []string{"10.0.0.2:2181"}, ""},
		{"nobody else is there", false, []string{"evil.example"}, nil,
			"gossip names evil.example:2181 as a server, which anybody could do without bootstrap.key_file: set it, or put a member's host into bootstrap.join"},
		{"with a key all are", true, []string{"10.0.0.1", "10.0.0.9"}, []string{"10.0.0.1:2181", "10.0.0.9:2181"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg := &registrar{}
			b := &Bootstrap{
				cfg: Config{Registrar: reg, Pace: pace}, self: voter("joiner"), keyed: tc.keyed, gossip: &gossip{hosts: map[NodeID]*gossiped{}},
				join: []*joinEntry{
					{host: "10.0.0.1", addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7946")}},
					{host: "zk-2", addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:7946")}},
				},
			}
			for i, h := range tc.hosts {
				m := member(zab.ServerID(i+1), h)
				b.gossip.hosts[NodeID{byte(i + 1)}] = m
			}
			_, err := b.trySeat(t.Context(), cluster)
			slices.Sort(reg.asked)
			if !slices.Equal(reg.asked, tc.want) {
				t.Errorf("asked %q, want %q", reg.asked, tc.want)
			}
			if tc.err != "" && (err == nil || err.Error() != tc.err) {
				t.Errorf("error %v, want %s", err, tc.err)
			}
		})
	}
}

// TestPlaces is about the id of a host that comes later: a free one, and never
// that of another host.
func TestPlaces(t *testing.T) {
	e := &zab.Ensemble{}
	for id := zab.ServerID(1); id <= 254; id++ {
		e.Members = append(e.Members, zab.Member{ID: id, Addrs: []zab.MemberAddr{{Host: "h", QuorumPort: int(id), ElectionPort: 1000 + int(id)}}})
	}
	b := &Bootstrap{self: voter("a")}
	if id, err := b.freeID(e, nil); err == nil {
		t.Errorf("got id %d of a full list", id)
	}
	e.Members = slices.Delete(e.Members, 6, 7)
	if id, err := b.freeID(e, nil); id != 7 || err != nil {
		t.Errorf("got id %d, %v, want 7", id, err)
	}
	if id, _ := b.freeID(e, []gossiped{{Seen: Seen{Host{ID: 7}, true}}}); id == 7 {
		t.Error("got an id that a host says it has")
	}
	b.self.ID = 9
	b.self.Addr = zab.MemberAddr{Host: "elsewhere", QuorumPort: 1, ElectionPort: 2}
	if id, err := b.ownLine(e); err == nil {
		t.Errorf("took the place of server %d from its host", id)
	}
	b.self.Addr = e.Members[0].Addrs[0]
	if id, err := b.ownLine(e); err == nil {
		t.Errorf("took the place of server %d with another id", id)
	}
}
