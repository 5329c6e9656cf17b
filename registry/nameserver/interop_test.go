//go:build interop

package nameserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func tool(t *testing.T, name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed: %v", name, err)
	}
	return path
}

func TestDig(t *testing.T) {
	dig := tool(t, "dig")
	d := sample(t)
	for i := range 100 {
		d.add(t, fmt.Sprintf("dubbo://10.9.0.%d:20880/org.x.Many", i+1))
	}
	d.mu.Lock()
	d.gen = 1
	d.mu.Unlock()
	s := newTest(t, d, func(c *Config) { c.Listen = "127.0.0.1:23500" })
	addr := serve(t, s)
	for _, tc := range []struct {
		why  string
		args string
		want []string // in the output, in this order
	}{
		{"plain", "demoservice.service.paddock A",
			[]string{"status: NOERROR", "flags: qr aa;", "ANSWER: 2", "EDNS: version: 0, flags:; udp: 1232"}},
		{"letter case comes back", "+noall +question DemoService.SERVICE.Paddock A", []string{"DemoService.SERVICE.Paddock."}},
		{"SRV with glue", "+noall +answer +additional _tri._tcp.demoservice.service.paddock SRV",
			[]string{"0 100 50051 0a000002.addr.paddock.", "0a000002.addr.paddock.", "10.0.0.2"}},
		{"negative with SOA", "no.service.paddock A", []string{"status: NXDOMAIN", "AUTHORITY: 1", "SOA\tns.paddock. hostmaster.paddock. 1 3600 600 86400 5"}},
		{"truncated, then over TCP", "many.service.paddock A", []string{"Truncated, retrying in TCP mode", "ANSWER: 100", "(TCP)"}},
		{"truncated, no TCP", "+ignore many.service.paddock A", []string{"flags: qr aa tc", "ANSWER: 0"}},
		{"over TCP", "+tcp demoservice.service.paddock A", []string{"ANSWER: 2", "(TCP)"}},
		{"several queries on one connection", "+tcp +keepopen +short demoservice.service.paddock A 0a000007.addr.paddock A", []string{"10.0.0.7"}},
		{"higher EDNS version", "+edns=1 +noednsnegotiation demoservice.service.paddock", []string{"status: BADVERS", "EDNS: version: 0"}},
		{"unknown option", "+ednsopt=65001:abcd demoservice.service.paddock", []string{"status: NOERROR", "ANSWER: 2"}},
		{"cookie and subnet are ignored", "+cookie +subnet=10.0.0.0/8 demoservice.service.paddock", []string{"status: NOERROR", "ANSWER: 2"}},
		{"padding", "+padding=128 demoservice.service.paddock", []string{"ANSWER: 2"}},
		{"no EDNS", "+noedns demoservice.service.paddock", []string{"ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 0"}},
		{"other opcode", "+opcode=notify +noedns paddock SOA", []string{"status: NOTIMP"}},
		{"other class", "CH TXT version.bind", []string{"status: REFUSED"}},
		{"transfer", "+tcp AXFR paddock", []string{"Transfer failed."}},
		{"reverse", "+short -x 10.0.0.1", []string{"0a000001.addr.paddock.", "demo-app.app.paddock."}},
		{"any", "+notcp ANY demoservice.service.paddock", []string{`HINFO	"RFC8482" ""`}},
	} {
		t.Run(tc.why, func(t *testing.T) {
			args := append([]string{"@127.0.0.1", "-p", fmt.Sprint(addr.Port()), "+tries=1", "+time=3", "+norecurse"}, strings.Fields(tc.args)...)
			out, err := exec.Command(dig, args...).CombinedOutput()
			if err != nil {
				t.Fatalf("dig: %v\n%s", err, out)
			}
			rest := string(out)
			for _, w := range tc.want {
				_, after, ok := strings.Cut(rest, w)
				if !ok {
					t.Fatalf("dig %s: no %q in order in\n%s", tc.args, w, out)
				}
				rest = after
			}
			for _, bad := range []string{"WARNING", "mismatch", "malformed", "extra bytes"} {
				if strings.Contains(string(out), ";; "+bad) {
					t.Errorf("dig %s says %q:\n%s", tc.args, bad, out)
				}
			}
		})
	}
}

var qps = regexp.MustCompile(`Queries per second:\s+([\d.]+)`)

// TestDnsperf prints how many queries per second a real listener answers. The
// load generator shares the processors, so the number is a lower bound.
func TestDnsperf(t *testing.T) {
	perf := tool(t, "dnsperf")
	d := newFake()
	var a, srv, mixed strings.Builder
	for i := range 100 {
		for j := range 3 {
			d.add(t, fmt.Sprintf("dubbo://10.7.%d.%d:20880/org.x.Service%d", i, j+1, i))
		}
		fmt.Fprintf(&a, "org.x.service%d.service.paddock A\n", i)
		fmt.Fprintf(&srv, "_dubbo._tcp.org.x.service%d.service.paddock SRV\n", i)
		fmt.Fprintf(&mixed, "org.x.service%d.service.paddock A\norg.x.service%d.service.paddock AAAA\n_dubbo._tcp.service%d.service.paddock SRV\nno%d.service.paddock A\n", i, i, i, i)
	}
	s := newTest(t, d, func(c *Config) { c.Listen = "127.0.0.1:23501" })
	addr := serve(t, s)
	for _, tc := range []struct {
		name, queries string
		flags         []string
	}{
		{"A", a.String(), nil},
		{"SRV", srv.String(), nil},
		{"mixed", mixed.String(), nil},
		{"A-tcp", a.String(), []string{"-m", "tcp"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "queries")
			if err := os.WriteFile(file, []byte(tc.queries), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			args := append([]string{"-s", "127.0.0.1", "-p", fmt.Sprint(addr.Port()), "-d", file, "-l", "3", "-c", "8", "-T", "1"}, tc.flags...)
			out, err := exec.CommandContext(ctx, perf, args...).CombinedOutput()
			m := qps.FindSubmatch(out)
			if err != nil || m == nil {
				t.Fatalf("dnsperf: %v\n%s", err, out)
			}
			t.Logf("%s queries per second", m[1])
			for _, line := range strings.Split(string(out), "\n") {
				if strings.Contains(line, "lost") || strings.Contains(line, "Response codes") || strings.Contains(line, "Average Latency") {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
	t.Logf("%+v", s.Stats())
}
