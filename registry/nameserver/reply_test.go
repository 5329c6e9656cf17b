package nameserver

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/paddockio/paddock/registry"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden compares whole replies, as dig would print them, with testdata.
func TestGolden(t *testing.T) {
	s := newTest(t, sample(t))
	w := s.newWorker()
	w.rng = rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for _, q := range []struct {
		name, qtype string
		change      []func(*dns.Msg)
	}{
		{"Org.Apache.Dubbo.Demo.DemoService.Service.Paddock.", "A", nil},
		{"demoservice.service.paddock.", "A", []func(*dns.Msg){edns(4096)}},
		{"demoservice.service.paddock.", "AAAA", []func(*dns.Msg){edns(1232)}},
		{"_dubbo._tcp.demoservice.service.paddock.", "SRV", []func(*dns.Msg){edns(1232)}},
		{"outside.service.paddock.", "A", nil},
		{"demo-app.app.paddock.", "TXT", nil},
		{"missing.service.paddock.", "A", nil},
		{"paddock.", "NS", nil},
		{"1.0.0.10.in-addr.arpa.", "PTR", nil},
		{"example.com.", "A", []func(*dns.Msg){edns(1232)}},
	} {
		out := w.reply(nil, packQuery(t, q.name, dns.StringToType[q.qtype], q.change...), testClient, overUDP)
		m := new(dns.Msg)
		if err := m.Unpack(out); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "; <<>> %s %s, %d bytes\n%s\n", q.name, q.qtype, len(out), m)
	}
	const file = "testdata/replies.golden"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestQuestionKeepsItsLetterCase(t *testing.T) {
	s := newTest(t, sample(t))
	for _, name := range []string{"DemoSERVICE.service.PADDock.", "demoservice.service.paddock.", "NO.such.Thing.service.paddock.", "EXAMPLE.com."} {
		m := ask(t, s, name, "A")
		if got := m.Question[0].Name; got != name {
			t.Errorf("question %q, want %q", got, name)
		}
		for _, rr := range m.Answer {
			if rr.Header().Name != name {
				t.Errorf("owner %q, want %q", rr.Header().Name, name)
			}
		}
	}
}

func TestEDNS(t *testing.T) {
	s := newTest(t, sample(t))
	const name = "demoservice.service.paddock."
	if opt := ask(t, s, name, "A").IsEdns0(); opt != nil {
		t.Errorf("reply to a query without OPT has %v", opt)
	}
	m := ask(t, s, name, "A", func(m *dns.Msg) { m.SetEdns0(4096, true) })
	if opt := m.IsEdns0(); opt == nil || opt.UDPSize() != 1232 || !opt.Do() || opt.Version() != 0 || len(opt.Option) != 0 {
		t.Errorf("OPT %v, want size 1232, DO, version 0, no options", opt)
	}
	m = ask(t, s, name, "A", func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		opt := m.IsEdns0()
		opt.Option = append(opt.Option,
			&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"},
			&dns.EDNS0_LOCAL{Code: 65001, Data: []byte("what")})
	})
	if len(m.Answer) != 2 || len(m.IsEdns0().Option) != 0 {
		t.Errorf("unknown options: %v", m)
	}
	m = ask(t, s, name, "A", func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		m.IsEdns0().SetVersion(1)
	})
	if m.Rcode != dns.RcodeBadVers || len(m.Answer) != 0 || m.IsEdns0().Version() != 0 || len(m.Question) != 1 {
		t.Errorf("version 1: %v", m)
	}
}

// many returns a directory with one service of n instances, named "many".
func many(t testing.TB, n int) *fakeDirectory {
	d := newFake()
	for i := range n {
		d.addInstance(&registry.Instance{
			Service: "many", Protocol: "dubbo", Host: fmt.Sprintf("10.1.%d.%d", i/256, i%256), Port: 20880,
			Weight: 100, Enabled: true, Raw: fmt.Sprintf("%05d", i),
		})
	}
	return d
}

func TestTruncation(t *testing.T) {
	for _, tc := range []struct {
		why           string
		n             int
		qtype         uint16
		size          uint16 // of EDNS, 0 for none
		tr            transport
		partial       bool
		tc            bool
		answers       int
		maxAdditional int
		limit         int
	}{
		{"fits in 512", 29, dns.TypeA, 0, overUDP, false, false, 29, 0, 512},
		{"one too many for 512", 30, dns.TypeA, 0, overUDP, false, true, 0, 0, 512},
		{"a size below 512 means 512", 29, dns.TypeA, 100, overUDP, false, true, 0, 0, 512},
		{"fits with EDNS", 73, dns.TypeA, 1232, overUDP, false, false, 73, 0, 1232},
		{"a client's larger size does not help", 100, dns.TypeA, 4096, overUDP, false, true, 0, 0, 1232},
		{"client's smaller size", 50, dns.TypeA, 600, overUDP, false, true, 0, 0, 600},
		{"part of them if asked", 100, dns.TypeA, 0, overUDP, true, true, 29, 0, 512},
		{"all over TCP", 1000, dns.TypeA, 0, overTCP, false, false, 1000, 0, maxTCP},
		{"glue is left out without TC", 10, dns.TypeSRV, 0, overUDP, false, false, 10, 4, 512},
		{"SRV that do not fit", 30, dns.TypeSRV, 0, overUDP, false, true, 0, 0, 512},
		{"glue of a long list over TCP", 1000, dns.TypeSRV, 0, overTCP, false, false, 1000, 1000, maxTCP},
		{"more than TCP can carry", 5000, dns.TypeA, 0, overTCP, false, true, 4093, 0, maxTCP},
	} {
		t.Run(tc.why, func(t *testing.T) {
			s := newTest(t, many(t, tc.n), func(c *Config) { c.KeepPartial = tc.partial })
			var change []func(*dns.Msg)
			if tc.size > 0 {
				change = append(change, edns(tc.size))
			}
			m, size := exchange(t, s, packQuery(t, "many.service.paddock.", tc.qtype, change...), tc.tr)
			extra := len(m.Extra) - b2i(tc.size > 0)
			if m.Truncated != tc.tc || len(m.Answer) != tc.answers || extra > tc.maxAdditional || size > tc.limit {
				t.Errorf("tc %v, %d answers, %d additional, %d bytes, want tc %v, %d answers, at most %d additional, at most %d bytes",
					m.Truncated, len(m.Answer), extra, size, tc.tc, tc.answers, tc.maxAdditional, tc.limit)
			}
			if tc.qtype == dns.TypeSRV && tc.answers > 0 && extra == 0 {
				t.Error("no glue at all")
			}
			seen := make(map[string]bool)
			for _, rr := range m.Answer {
				if seen[rr.String()] {
					t.Fatalf("twice: %v", rr)
				}
				seen[rr.String()] = true
			}
		})
	}
}

func TestBrokenPackets(t *testing.T) {
	s := newTest(t, sample(t))
	good := packQuery(t, "demoservice.service.paddock.", dns.TypeA)
	edit := func(change func(b []byte) []byte) []byte { return change(slices.Clone(good)) }
	set := func(off int, v byte) []byte {
		return edit(func(b []byte) []byte { b[off] = v; return b })
	}
	opt := []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0}
	withOPT := func(opts ...[]byte) []byte {
		return edit(func(b []byte) []byte {
			b[11] = byte(len(opts))
			return append(b, slices.Concat(opts...)...)
		})
	}
	for _, tc := range []struct {
		why   string
		msg   []byte
		rcode int // -1: no reply
		echo  bool
	}{
		{"good", good, dns.RcodeSuccess, true},
		{"empty", nil, -1, false},
		{"less than a header", good[:11], -1, false},
		{"a reply", set(2, 0x80), -1, false},
		{"header only", edit(func(b []byte) []byte { b[5] = 0; return b[:12] }), dns.RcodeFormatError, false},
		{"header that promises a question", good[:12], dns.RcodeFormatError, false},
		{"two questions", set(5, 2), dns.RcodeFormatError, false},
		{"cut question", good[:len(good)-1], dns.RcodeFormatError, false},
		{"pointer in the question", set(12, 0xc0), dns.RcodeFormatError, false},
		{"label of 64", set(12, 64), dns.RcodeFormatError, false},
		{"name of 256", slices.Concat(good[:12], longName(), good[len(good)-4:]), dns.RcodeFormatError, false},
		{"bytes behind the end", append(slices.Clone(good), 0), dns.RcodeFormatError, true},
		{"an answer in the query", set(7, 1), dns.RcodeFormatError, true},
		{"authority in the query", set(9, 1), dns.RcodeFormatError, true},
		{"missing additional", set(11, 1), dns.RcodeFormatError, true},
		{"OPT", withOPT(opt), dns.RcodeSuccess, true},
		{"two OPT", withOPT(opt, opt), dns.RcodeFormatError, true},
		{"OPT below a name", withOPT(append([]byte{1, 'a'}, opt...)), dns.RcodeFormatError, true},
		{"cut OPT", withOPT(opt[:8]), dns.RcodeFormatError, true},
		{"option longer than OPT", withOPT(slices.Concat(opt[:10], []byte{4, 0, 10, 0, 1})), dns.RcodeFormatError, true},
		{"rdata longer than the message", withOPT(slices.Concat(opt[:9], []byte{1, 0})), dns.RcodeFormatError, true},
		{"NOTIFY", set(2, 4<<3), dns.RcodeNotImplemented, false},
		{"UPDATE", set(2, 5<<3), dns.RcodeNotImplemented, false},
		{"class CH", set(len(good)-1, 3), dns.RcodeRefused, true},
		{"type 0", edit(func(b []byte) []byte { b[len(b)-3] = 0; return b }), dns.RcodeRefused, true},
		{"type OPT", edit(func(b []byte) []byte { b[len(b)-3] = 41; return b }), dns.RcodeRefused, true},
		{"type IXFR", edit(func(b []byte) []byte { b[len(b)-3] = 251; return b }), dns.RcodeRefused, true},
	} {
		t.Run(tc.why, func(t *testing.T) {
			out := s.newWorker().reply(nil, tc.msg, testClient, overUDP)
			if tc.rcode < 0 {
				if len(out) != 0 {
					t.Errorf("reply %x, want none", out)
				}
				return
			}
			m := new(dns.Msg)
			if err := m.Unpack(out); err != nil {
				t.Fatalf("%x: %v", out, err)
			}
			if m.Id != 4711 || !m.Response || m.Rcode != tc.rcode || (len(m.Question) == 1) != tc.echo {
				t.Errorf("%v\nwant id 4711, rcode %d, question %v", m, tc.rcode, tc.echo)
			}
		})
	}
}

// longName is a name of 256 octets.
func longName() []byte {
	var b []byte
	for range 51 {
		b = append(b, 4, 'a', 'b', 'c', 'd')
	}
	return append(b, 0)
}

// TestOrderIsRandom draws often enough that a wrong order fails for certain.
func TestOrderIsRandom(t *testing.T) {
	s := newTest(t, many(t, 4))
	msg := packQuery(t, "many.service.paddock.", dns.TypeA)
	w := s.newWorker()
	w.rng = rand.New(rand.NewPCG(1, 2))
	seen := make(map[string]int)
	const rounds = 2400
	for range rounds {
		m := new(dns.Msg)
		if err := m.Unpack(w.reply(nil, msg, testClient, overUDP)); err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, rr := range m.Answer {
			order = append(order, rr.(*dns.A).A.String())
		}
		seen[strings.Join(order, " ")]++
	}
	if len(seen) != 24 {
		t.Errorf("%d orders of 4 addresses, want 24", len(seen))
	}
	for order, n := range seen {
		if n < 50 || n > 150 {
			t.Errorf("%s came %d times in %d, want about 100", order, n, rounds)
		}
	}
}

func TestHeavyInstancesComeFirst(t *testing.T) {
	d := newFake()
	for i, weight := range []int{100, 300, 600} {
		d.addInstance(&registry.Instance{Service: "w", Protocol: "dubbo", Host: fmt.Sprintf("10.0.0.%d", i+1), Port: 1, Weight: weight, Enabled: true, Raw: fmt.Sprint(i)})
		d.addInstance(&registry.Instance{Service: "n", Protocol: "dubbo", Host: fmt.Sprintf("h%d.example", i+1), Port: 1, Weight: weight, Enabled: true, Raw: fmt.Sprint(i)})
	}
	s := newTest(t, d)
	w := s.newWorker()
	w.rng = rand.New(rand.NewPCG(3, 4))
	for _, name := range []string{"w", "n"} {
		first := make(map[string]int)
		const rounds = 5000
		for range rounds {
			m := new(dns.Msg)
			if err := m.Unpack(w.reply(nil, packQuery(t, name+".service.paddock.", dns.TypeA), testClient, overUDP)); err != nil {
				t.Fatal(err)
			}
			switch rr := m.Answer[0].(type) {
			case *dns.A:
				if len(m.Answer) != 3 {
					t.Fatalf("%d addresses, want 3", len(m.Answer))
				}
				first[rr.A.String()[len("10.0.0."):]]++
			case *dns.CNAME:
				if len(m.Answer) != 1 {
					t.Fatalf("%d canonical names, want 1", len(m.Answer))
				}
				first[rr.Target[1:2]]++
			}
		}
		for host, want := range map[string]int{"1": 500, "2": 1500, "3": 3000} {
			if got := first[host]; got < want*8/10 || got > want*12/10 {
				t.Errorf("%s: host %s was first %d times of %d, want about %d", name, host, got, rounds, want)
			}
		}
	}
}

func ede(m *dns.Msg) int {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				return int(e.InfoCode)
			}
		}
	}
	return noEDE
}

func TestStaleAnswers(t *testing.T) {
	d := sample(t)
	s := newTest(t, d, func(c *Config) { c.MaxStale = time.Hour })
	const name = "demoservice.service.paddock."
	d.live(false, time.Now().Add(-time.Minute))
	m := ask(t, s, name, "A", edns(1232))
	if len(m.Answer) != 2 || m.Answer[0].Header().Ttl != 1 || ede(m) != int(dns.ExtendedErrorCodeStaleAnswer) {
		t.Errorf("a minute old: %v\nwant two addresses with TTL 1, extended error 3", m)
	}
	if m := ask(t, s, name, "A"); len(m.Answer) != 2 || m.IsEdns0() != nil {
		t.Errorf("without EDNS: %v", m)
	}
	if m := ask(t, s, name, "TXT"); !strings.Contains(m.Answer[0].String(), "stale-since=") {
		t.Errorf("text does not tell: %v", m)
	}
	d.live(false, time.Now().Add(-2*time.Hour))
	m = ask(t, s, name, "A", edns(1232))
	if m.Rcode != dns.RcodeServerFailure || len(m.Answer) != 0 || m.Authoritative || ede(m) != int(dns.ExtendedErrorCodeNoReachableAuthority) {
		t.Errorf("two hours old: %v\nwant SERVFAIL, extended error 22", m)
	}
	d.live(true, time.Now())
	if m := ask(t, s, name, "A", edns(1232)); len(m.Answer) != 2 || m.Answer[0].Header().Ttl != 5 || ede(m) != noEDE {
		t.Errorf("live again: %v", m)
	}
	if got := s.Stats().Stale; got != 4 {
		t.Errorf("%d stale answers counted, want 4", got)
	}
}

func TestMissingNamesFailUntilReady(t *testing.T) {
	ready := false
	s := newTest(t, sample(t), func(c *Config) { c.Ready = func() bool { return ready } })
	m := ask(t, s, "missing.service.paddock.", "A", edns(1232))
	if m.Rcode != dns.RcodeServerFailure || ede(m) != int(dns.ExtendedErrorCodeNotReady) {
		t.Errorf("not ready: %v", m)
	}
	if m := ask(t, s, "demoservice.service.paddock.", "A"); len(m.Answer) != 2 {
		t.Errorf("a known name, not ready: %v", m)
	}
	ready = true
	if m := ask(t, s, "missing.service.paddock.", "A"); m.Rcode != dns.RcodeNameError {
		t.Errorf("ready: %v", m)
	}
}

func TestChangesShowAtOnce(t *testing.T) {
	d := sample(t)
	s := newTest(t, d)
	count := func(name, qtype string) int { return len(ask(t, s, name, qtype).Answer) }
	if got := count("demoservice.service.paddock.", "A"); got != 2 {
		t.Fatalf("%d addresses, want 2", got)
	}
	d.add(t, "dubbo://10.0.0.77:20880/"+demo)
	if got := count("demoservice.service.paddock.", "A"); got != 3 {
		t.Errorf("after one more: %d addresses, want 3", got)
	}
	// A second service with the same last segment takes the alias away, and
	// gives it back when it goes.
	d.known("com.other.DemoService")
	if got := count("demoservice.service.paddock.", "A"); got != 0 {
		t.Errorf("ambiguous alias: %d addresses, want 0", got)
	}
	if got := count(demo+".service.paddock.", "A"); got != 3 {
		t.Errorf("full name: %d addresses, want 3", got)
	}
	d.forget("com.other.DemoService")
	if got := count("demoservice.service.paddock.", "A"); got != 3 {
		t.Errorf("alias again: %d addresses, want 3", got)
	}
	if m := ask(t, s, "com.other.demoservice.service.paddock.", "A"); m.Rcode != dns.RcodeNameError {
		t.Errorf("forgotten service: %v", m)
	}
	d.forget(demo)
	if m := ask(t, s, "demoservice.service.paddock.", "A"); m.Rcode != dns.RcodeNameError {
		t.Errorf("forgotten alias: %v", m)
	}
}

// TestUnrelatedChangeKeepsAnswer: a new generation that did not touch a service
// does not make its answers anew.
func TestUnrelatedChangeKeepsAnswer(t *testing.T) {
	d := sample(t)
	s := newTest(t, d)
	for range 3 {
		ask(t, s, "demoservice.service.paddock.", "A")
		d.add(t, "http://10.0.0.10:8080/web")
	}
	if got := s.Stats().Built; got != 1 {
		t.Errorf("built %d answers, want 1", got)
	}
}

// TestNoMixOfGenerations changes the directory while an answer is being built.
func TestNoMixOfGenerations(t *testing.T) {
	d := sample(t)
	s := newTest(t, d)
	const name = "demoservice.service.paddock."
	// While the alias is looked up, another service takes it away: the old
	// decision must not go out with the new view, nor the other way round.
	d.onLookup = func() {
		d.onLookup = nil
		d.known("com.other.DemoService")
	}
	if m := ask(t, s, name, "A"); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 {
		t.Errorf("got %v\nwant no data", m)
	}

	// A directory that never holds still: no answer is better than a mix.
	d = sample(t)
	s = newTest(t, d)
	restless := func() { d.mu.Lock(); d.gen++; d.mu.Unlock() }
	d.onLookup = restless
	if m := ask(t, s, name, "A"); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %v\nwant SERVFAIL", m)
	}
	// With an older answer at hand that one serves.
	d.onLookup = nil
	ask(t, s, name, "A")
	d.onLookup = restless
	d.add(t, "dubbo://10.0.0.77:20880/"+demo)
	if m := ask(t, s, name, "A"); len(m.Answer) != 2 {
		t.Errorf("got %v\nwant the two addresses of before", m)
	}
}

// TestReverseOfARestlessDirectory: reverse answers come from the last moment at
// which the whole directory could be read, and reading it does not go on and on.
func TestReverseOfARestlessDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time stands still between lookups
		d := sample(t)
		s := newTest(t, d)
		lookups := 0
		d.onLookup = func() {
			lookups++
			time.Sleep(time.Millisecond)
			d.mu.Lock()
			d.gen++
			d.mu.Unlock()
		}
		const name = "1.0.0.10.in-addr.arpa."
		for range 5 {
			if m := ask(t, s, name, "PTR"); m.Rcode != dns.RcodeRefused {
				t.Errorf("nothing known yet: %v", m)
			}
		}
		if most := maxTries * len(d.Services()); lookups > most {
			t.Errorf("%d lookups for 5 queries at one time, want at most %d", lookups, most)
		}
		d.onLookup = nil
		time.Sleep(time.Minute)
		if m := ask(t, s, name, "PTR"); len(m.Answer) != 2 {
			t.Errorf("directory at rest: %v", m)
		}
	})
}

func TestAltDomains(t *testing.T) {
	s := newTest(t, sample(t), func(c *Config) {
		c.Domain = "svc.Corp.example"
		c.AltDomains = []string{"paddock."}
	})
	for _, tc := range []struct{ name, qtype, want string }{
		{"demoservice.service.svc.corp.example.", "A", "NOERROR aa\ndemoservice.service.svc.corp.example. 5 IN A 10.0.0.1\ndemoservice.service.svc.corp.example. 5 IN A 10.0.0.2"},
		{"_tri._tcp.demoservice.service.paddock.", "SRV", "NOERROR aa\n_tri._tcp.demoservice.service.paddock. 5 IN SRV 0 100 50051 0a000002.addr.paddock.\nadditional: 0a000002.addr.paddock. 5 IN A 10.0.0.2"},
		{"x.svc.corp.example.", "A", "NXDOMAIN aa\nauthority: svc.corp.example. 5 IN SOA ns.svc.corp.example. hostmaster.svc.corp.example. 1 3600 600 86400 5"},
		{"corp.example.", "SOA", "REFUSED"},
	} {
		if got := short(ask(t, s, tc.name, tc.qtype)); got != tc.want {
			t.Errorf("%s %s\n got %s\nwant %s", tc.name, tc.qtype, got, tc.want)
		}
	}
}

func TestReverseZones(t *testing.T) {
	s := newTest(t, sample(t), func(c *Config) {
		c.Reverse = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	})
	soa4 := "\nauthority: 10.in-addr.arpa. 5 IN SOA ns.paddock. hostmaster.paddock. 1 3600 600 86400 5"
	soa6 := "\nauthority: 8.b.d.0.1.0.0.2.ip6.arpa. 5 IN SOA ns.paddock. hostmaster.paddock. 1 3600 600 86400 5"
	for _, tc := range []struct{ why, name, qtype, want string }{
		{"instance", "1.0.0.10.in-addr.arpa.", "PTR", "NOERROR aa\n1.0.0.10.in-addr.arpa. 5 IN PTR 0a000001.addr.paddock.\n1.0.0.10.in-addr.arpa. 5 IN PTR demo-app.app.paddock."},
		{"nobody", "99.0.0.10.in-addr.arpa.", "PTR", "NXDOMAIN aa" + soa4},
		{"ancestor of instances", "0.0.10.in-addr.arpa.", "PTR", "NOERROR aa" + soa4},
		{"ancestor of none", "7.10.in-addr.arpa.", "PTR", "NXDOMAIN aa" + soa4},
		{"apex", "10.in-addr.arpa.", "PTR", "NOERROR aa" + soa4},
		{"apex SOA", "10.in-addr.arpa.", "SOA", "NOERROR aa\n10.in-addr.arpa. 5 IN SOA ns.paddock. hostmaster.paddock. 1 3600 600 86400 5"},
		{"apex NS", "10.in-addr.arpa.", "NS", "NOERROR aa\n10.in-addr.arpa. 5 IN NS ns.paddock.\nadditional: ns.paddock. 5 IN A 192.0.2.53"},
		{"leading zero", "01.0.0.10.in-addr.arpa.", "PTR", "NXDOMAIN aa" + soa4},
		{"too long", "1.1.0.0.10.in-addr.arpa.", "PTR", "NXDOMAIN aa" + soa4},
		{"not a number", "x.0.0.10.in-addr.arpa.", "PTR", "NXDOMAIN aa" + soa4},
		{"too large", "256.0.0.10.in-addr.arpa.", "PTR", "NXDOMAIN aa" + soa4},
		{"other network", "1.0.0.11.in-addr.arpa.", "PTR", "REFUSED"},
		{"IPv6 ancestor", "0.0.8.b.d.0.1.0.0.2.ip6.arpa.", "PTR", "NOERROR aa" + soa6},
		{"IPv6 nobody", "1.0.8.b.d.0.1.0.0.2.ip6.arpa.", "PTR", "NXDOMAIN aa" + soa6},
	} {
		if got := short(ask(t, s, tc.name, tc.qtype)); got != tc.want {
			t.Errorf("%s: %s %s\n got %s\nwant %s", tc.why, tc.name, tc.qtype, got, tc.want)
		}
	}
}

func TestUnusableHostsAreLeftOut(t *testing.T) {
	d := newFake()
	for i, host := range []string{"0.0.0.0", "::", "fe80::1%eth0", "a..b", "", strings.Repeat("x", 64), "::ffff:10.0.0.7"} {
		d.addInstance(&registry.Instance{Service: "odd", Protocol: "dubbo", Host: host, Port: 1, Weight: 100, Enabled: true, Raw: fmt.Sprint(i)})
	}
	d.addInstance(&registry.Instance{Service: "odd", Protocol: "dubbo", Host: "10.0.0.8", Port: 0, Weight: 100, Enabled: true, Raw: "x"})
	d.addInstance(&registry.Instance{Service: "odd", Protocol: "dubbo", Host: "10.0.0.9", Port: 9, Weight: 1 << 20, Enabled: true, Raw: "y"})
	s := newTest(t, d)
	got := short(ask(t, s, "odd.service.paddock.", "A"))
	if want := "NOERROR aa\nodd.service.paddock. 5 IN A 10.0.0.7\nodd.service.paddock. 5 IN A 10.0.0.8\nodd.service.paddock. 5 IN A 10.0.0.9"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	m := ask(t, s, "odd.service.paddock.", "SRV")
	got = short(m)
	if !strings.Contains(got, "0 100 1 0a000007.addr.paddock.") || !strings.Contains(got, "0 65535 9 0a000009.addr.paddock.") || len(m.Answer) != 2 {
		t.Errorf("SRV %s", got)
	}
}

func TestReplyDoesNotAllocate(t *testing.T) {
	s := newTest(t, many(t, 20))
	w := s.newWorker()
	for _, tc := range []struct {
		name  string
		qtype uint16
	}{
		{"many.service.paddock.", dns.TypeA},
		{"_dubbo._tcp.many.service.paddock.", dns.TypeSRV},
		{"many.service.paddock.", dns.TypeAAAA},
		{"none.service.paddock.", dns.TypeA},
	} {
		msg := packQuery(t, tc.name, tc.qtype, edns(1232))
		buf := w.reply(nil, msg, testClient, overUDP)
		if n := testing.AllocsPerRun(100, func() { buf = w.reply(buf[:0], msg, testClient, overUDP) }); n > 0 {
			t.Errorf("%s %s: %v allocations per reply, want 0", tc.name, dns.Type(tc.qtype), n)
		}
	}
}

func TestOnlyCommonAnswersAreKept(t *testing.T) {
	s := newTest(t, sample(t))
	w := s.newWorker()
	for qtype := range uint16(2000) {
		w.reply(nil, packQuery(t, "demoservice.service.paddock.", qtype), testClient, overUDP)
		w.reply(nil, packQuery(t, fmt.Sprintf("n%d.service.paddock.", qtype), dns.TypeA), testClient, overUDP)
		w.reply(nil, packQuery(t, fmt.Sprintf("%08x.addr.paddock.", qtype), dns.TypeA), testClient, overUDP)
	}
	n := 0
	for i := range s.cache.shards {
		n += len(s.cache.shards[i].m)
	}
	if n > 7 {
		t.Errorf("%d answers kept, want at most 7", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache()
	a := newAnswer()
	a.recs = make([]byte, 10000)
	for i := range 10000 {
		c.put(binary.BigEndian.AppendUint32(nil, uint32(i)), a)
	}
	total := 0
	for i := range c.shards {
		total += len(c.shards[i].m) * a.size()
	}
	if limit := shardBytes * len(c.shards); total > limit || total == 0 {
		t.Errorf("cache holds %d bytes, want 1 to %d", total, limit)
	}
}

func TestStatsCountTypesAndCodes(t *testing.T) {
	s := newTest(t, sample(t))
	for _, q := range []string{"A demoservice.service.paddock.", "A demoservice.service.paddock.", "AAAA demoservice.service.paddock.", "SRV none.service.paddock.", "MX example.com.", "SOA paddock."} {
		qtype, name, _ := strings.Cut(q, " ")
		ask(t, s, name, qtype)
	}
	s.newWorker().reply(nil, make([]byte, 12), testClient, overTCP)
	s.newWorker().reply(nil, nil, testClient, overUDP)
	got := s.Stats()
	want := []QueryCount{{"A", "NOERROR", 2}, {"AAAA", "NODATA", 1}, {"SRV", "NXDOMAIN", 1}, {"SOA", "NOERROR", 1}, {"other", "REFUSED", 1}, {"other", "FORMERR", 1}}
	if !slices.Equal(got.Queries, want) || got.UDP != 7 || got.TCP != 1 || got.Ignored != 1 {
		t.Errorf("got %+v\nwant %v, 7 UDP, 1 TCP, 1 ignored", got, want)
	}
}
