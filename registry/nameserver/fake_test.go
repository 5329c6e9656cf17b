package nameserver

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/paddockio/paddock/registry"
)

// fakeDirectory is a registry in memory. A change makes new views.
type fakeDirectory struct {
	mu       sync.Mutex
	gen      uint64
	services map[string]registry.View
	apps     map[string]registry.View
	onLookup func() // called without the lock, before a Lookup returns
}

func newFake() *fakeDirectory {
	return &fakeDirectory{gen: 1, services: map[string]registry.View{}, apps: map[string]registry.View{}}
}

func (d *fakeDirectory) Lookup(name string) (registry.View, bool) {
	d.mu.Lock()
	v, ok := d.services[name]
	hook := d.onLookup
	d.mu.Unlock()
	if hook != nil {
		hook()
	}
	return v, ok
}

func (d *fakeDirectory) LookupApp(name string) (registry.View, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, ok := d.apps[name]
	return v, ok
}

func (d *fakeDirectory) Services() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return sortedKeys(d.services)
}

func (d *fakeDirectory) Apps() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return sortedKeys(d.apps)
}

func (d *fakeDirectory) Generation() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gen
}

func sortedKeys(m map[string]registry.View) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// add registers a provider URL, read in a rough way: this is not the parser.
func (d *fakeDirectory) add(t testing.TB, raw string) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	p := u.Query()
	in := &registry.Instance{
		Service: strings.TrimPrefix(u.Path, "/"), App: p.Get("application"), Protocol: u.Scheme,
		Group: p.Get("group"), Version: p.Get("version"), Host: u.Hostname(), Weight: 100,
		Enabled: p.Get("disabled") != "true", Params: p, Raw: url.QueryEscape(raw),
	}
	fmt.Sscan(u.Port(), &in.Port)
	if w := p.Get("weight"); w != "" {
		fmt.Sscan(w, &in.Weight)
	}
	d.addInstance(in)
}

func (d *fakeDirectory) addInstance(in *registry.Instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gen++
	put := func(m map[string]registry.View, name string) {
		v := m[name]
		list := append(slices.Clone(v.Instances), in)
		slices.SortFunc(list, func(a, b *registry.Instance) int { return strings.Compare(a.Raw, b.Raw) })
		m[name] = registry.View{Service: name, Instances: list, Live: true, AsOf: time.Unix(1700000000, 0)}
	}
	put(d.services, in.Service)
	if in.App != "" {
		put(d.apps, in.App)
	}
}

// known makes a service known without instances.
func (d *fakeDirectory) known(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gen++
	if _, ok := d.services[name]; !ok {
		d.services[name] = registry.View{Service: name, Live: true}
	}
}

func (d *fakeDirectory) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gen++
	delete(d.services, name)
}

// live sets all views live or stale.
func (d *fakeDirectory) live(live bool, asOf time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gen++
	for _, m := range []map[string]registry.View{d.services, d.apps} {
		for k, v := range m {
			v.Live, v.AsOf = live, asOf
			m[k] = v
		}
	}
}

var testClient = netip.MustParseAddrPort("127.0.0.1:40000")

func newTest(t testing.TB, d registry.Directory, change ...func(*Config)) *Server {
	t.Helper()
	cfg := Config{Directory: d, Advertise: []netip.Addr{netip.MustParseAddr("192.0.2.53")}}
	for _, c := range change {
		c(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// query returns a packed query.
func packQuery(t testing.TB, name string, qtype uint16, change ...func(*dns.Msg)) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	m.Id = 4711
	for _, c := range change {
		c(m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatalf("pack %s: %v", name, err)
	}
	return b
}

func edns(size uint16) func(*dns.Msg) {
	return func(m *dns.Msg) { m.SetEdns0(size, false) }
}

// exchange returns the reply to msg, read by miekg/dns, and its size.
func exchange(t testing.TB, s *Server, msg []byte, tr transport) (*dns.Msg, int) {
	t.Helper()
	out := s.newWorker().reply(nil, msg, testClient, tr)
	m := new(dns.Msg)
	if err := m.Unpack(out); err != nil {
		t.Fatalf("reply %x: %v", out, err)
	}
	return m, len(out)
}

func ask(t testing.TB, s *Server, name, qtype string, change ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	typ, ok := dns.StringToType[qtype]
	if !ok {
		t.Fatalf("no type %q", qtype)
	}
	m, _ := exchange(t, s, packQuery(t, name, typ, change...), overUDP)
	return m
}

// short renders what matters of a reply, sorted within its sections.
func short(m *dns.Msg) string {
	rcode := dns.RcodeToString[m.Rcode]
	if opt := m.IsEdns0(); opt != nil && m.Rcode == dns.RcodeBadVers {
		rcode = "BADVERS"
	}
	parts := []string{rcode}
	for _, flag := range []struct {
		on   bool
		name string
	}{{m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionAvailable, "ra"}} {
		if flag.on {
			parts[0] += " " + flag.name
		}
	}
	for i, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		var list []string
		for _, rr := range section {
			if _, ok := rr.(*dns.OPT); ok {
				continue
			}
			list = append(list, strings.Join(strings.Fields(rr.String()), " "))
		}
		slices.Sort(list)
		for _, l := range list {
			parts = append(parts, []string{"", "authority: ", "additional: "}[i]+l)
		}
	}
	return strings.Join(parts, "\n")
}
