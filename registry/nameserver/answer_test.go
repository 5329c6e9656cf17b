package nameserver

import (
	"testing"
)

const (
	demo = "org.apache.dubbo.demo.DemoService"
	soa5 = "authority: paddock. 5 IN SOA ns.paddock. hostmaster.paddock. 1 3600 600 86400 5"
)

// sample is the directory of most tests.
func sample(t testing.TB) *fakeDirectory {
	d := newFake()
	for _, u := range []string{
		"dubbo://10.0.0.1:20880/" + demo + "?application=demo-app&version=1.0.0&group=blue",
		"dubbo://10.0.0.2:20880/" + demo + "?application=demo-app&version=2.0.0&weight=50",
		"tri://10.0.0.2:50051/" + demo + "?application=demo-app&version=2.0.0",
		"dubbo://10.0.0.3:20880/" + demo + "?application=demo-app&version=1.0.0&weight=0",
		"dubbo://10.0.0.4:20880/" + demo + "?application=demo-app&version=3.0.0&disabled=true",
		"http://10.0.0.9:8080/web?application=shop",
		"http://[2001:db8::9]:8080/web?application=shop",
		"http://pod-0.web.example:80/outside",
		"http://pod-1.web.example:80/outside",
		"dubbo://10.0.1.1:1/com.a.Twin",
		"dubbo://10.0.1.2:1/com.b.Twin",
		"dubbo://10.0.2.1:1/com.a.Case",
		"dubbo://10.0.2.2:1/com.a.case",
	} {
		d.add(t, u)
	}
	d.known("org.empty.Nobody")
	d.mu.Lock()
	d.gen = 1
	d.mu.Unlock()
	return d
}

func TestAnswers(t *testing.T) {
	s := newTest(t, sample(t))
	const name = "org.apache.dubbo.demo.demoservice.service.paddock."
	nodata := "NOERROR aa\n" + soa5
	nx := "NXDOMAIN aa\n" + soa5
	for _, tc := range []struct {
		why, name, qtype, want string
	}{
		{"all usable instances, each address once", name, "A", "NOERROR aa\n" + name + " 5 IN A 10.0.0.1\n" + name + " 5 IN A 10.0.0.2"},
		{"version", "_v-1-0-0." + name, "A", "NOERROR aa\n_v-1-0-0." + name + " 5 IN A 10.0.0.1"},
		{"group and version, either order", "_v-1-0-0._g-blue." + name, "A", "NOERROR aa\n_v-1-0-0._g-blue." + name + " 5 IN A 10.0.0.1"},
		{"version and group, either order", "_g-blue._v-1-0-0." + name, "A", "NOERROR aa\n_g-blue._v-1-0-0." + name + " 5 IN A 10.0.0.1"},
		{"no group", "_g-." + name, "A", "NOERROR aa\n_g-." + name + " 5 IN A 10.0.0.2"},
		{"a version that is disabled everywhere exists", "_v-3-0-0." + name, "A", nodata},
		{"a version that nobody has", "_v-9." + name, "A", nx},
		{"an option twice", "_v-1-0-0._v-1-0-0." + name, "A", nx},
		{"a combination that nobody has", "_v-2-0-0._g-blue." + name, "A", nx},
		{"alias", "demoservice.service.paddock.", "A", "NOERROR aa\ndemoservice.service.paddock. 5 IN A 10.0.0.1\ndemoservice.service.paddock. 5 IN A 10.0.0.2"},
		{"alias with option", "_v-1-0-0.demoservice.service.paddock.", "A", "NOERROR aa\n_v-1-0-0.demoservice.service.paddock. 5 IN A 10.0.0.1"},
		{"ambiguous alias is an ancestor only", "twin.service.paddock.", "A", nodata},
		{"names that differ in case", "com.a.case.service.paddock.", "A", nodata},
		{"ancestor", "demo.demoservice.service.paddock.", "A", nodata},
		{"ancestor, longest", "apache.dubbo.demo.demoservice.service.paddock.", "SRV", nodata},
		{"not an ancestor", "x.demoservice.service.paddock.", "A", nx},
		{"option before an ancestor", "_v-1-0-0.demo.demoservice.service.paddock.", "A", nx},
		{"no such service", "nobody.there.service.paddock.", "A", nx},
		{"known service without instances", "org.empty.nobody.service.paddock.", "A", nodata},
		{"no IPv6 address", name, "AAAA", nodata},
		{"other type", name, "MX", nodata},
		{"IPv4 of two families", "web.service.paddock.", "A", "NOERROR aa\nweb.service.paddock. 5 IN A 10.0.0.9"},
		{"IPv6", "web.service.paddock.", "AAAA", "NOERROR aa\nweb.service.paddock. 5 IN AAAA 2001:db8::9"},

		{"SRV of one protocol", "_tri._tcp." + name, "SRV", "NOERROR aa\n_tri._tcp." + name + " 5 IN SRV 0 100 50051 0a000002.addr.paddock.\nadditional: 0a000002.addr.paddock. 5 IN A 10.0.0.2"},
		{"SRV of all, glue once", name, "SRV", "NOERROR aa\n" +
			name + " 5 IN SRV 0 100 20880 0a000001.addr.paddock.\n" +
			name + " 5 IN SRV 0 100 50051 0a000002.addr.paddock.\n" +
			name + " 5 IN SRV 0 50 20880 0a000002.addr.paddock.\n" +
			"additional: 0a000001.addr.paddock. 5 IN A 10.0.0.1\nadditional: 0a000002.addr.paddock. 5 IN A 10.0.0.2"},
		{"SRV with option", "_dubbo._tcp._v-2-0-0." + name, "SRV", "NOERROR aa\n_dubbo._tcp._v-2-0-0." + name + " 5 IN SRV 0 50 20880 0a000002.addr.paddock.\nadditional: 0a000002.addr.paddock. 5 IN A 10.0.0.2"},
		{"SRV at the alias", "_tri._tcp.demoservice.service.paddock.", "SRV", "NOERROR aa\n_tri._tcp.demoservice.service.paddock. 5 IN SRV 0 100 50051 0a000002.addr.paddock.\nadditional: 0a000002.addr.paddock. 5 IN A 10.0.0.2"},
		{"SRV with IPv6 target", "_http._tcp.web.service.paddock.", "SRV", "NOERROR aa\n" +
			"_http._tcp.web.service.paddock. 5 IN SRV 0 100 8080 0a000009.addr.paddock.\n" +
			"_http._tcp.web.service.paddock. 5 IN SRV 0 100 8080 20010db8000000000000000000000009.addr.paddock.\n" +
			"additional: 0a000009.addr.paddock. 5 IN A 10.0.0.9\n" +
			"additional: 20010db8000000000000000000000009.addr.paddock. 5 IN AAAA 2001:db8::9"},
		{"A at a protocol", "_tri._tcp." + name, "A", nodata},
		{"ancestor of the protocols", "_tcp." + name, "SRV", nodata},
		{"no such protocol", "_rest._tcp." + name, "SRV", nx},
		{"udp is not known", "_tri._udp." + name, "SRV", nx},
		{"_tcp of nobody", "_tcp.org.empty.nobody.service.paddock.", "SRV", nx},
		{"SRV to host names", "outside.service.paddock.", "SRV", "NOERROR aa\noutside.service.paddock. 5 IN SRV 0 100 80 pod-0.web.example.\noutside.service.paddock. 5 IN SRV 0 100 80 pod-1.web.example."},
		{"app", "demo-app.app.paddock.", "A", "NOERROR aa\ndemo-app.app.paddock. 5 IN A 10.0.0.1\ndemo-app.app.paddock. 5 IN A 10.0.0.2"},
		{"no such app", "other.app.paddock.", "A", nx},

		{"text", name, "TXT", "NOERROR aa\n" + name + ` 5 IN TXT "name=org.apache.dubbo.demo.DemoService" "instances=3" "protocol=dubbo,tri" "version=1.0.0,2.0.0" "group=blue"`},
		{"ANY is minimal", name, "ANY", "NOERROR aa\n" + name + ` 5 IN HINFO "RFC8482" ""`},
		{"ANY at an ancestor", "demo.demoservice.service.paddock.", "ANY", nodata},

		{"target", "0a000001.addr.paddock.", "A", "NOERROR aa\n0a000001.addr.paddock. 5 IN A 10.0.0.1"},
		{"target, other family", "0a000001.addr.paddock.", "AAAA", nodata},
		{"target, IPv6", "20010db8000000000000000000000009.addr.paddock.", "AAAA", "NOERROR aa\n20010db8000000000000000000000009.addr.paddock. 5 IN AAAA 2001:db8::9"},
		{"not digits", "0a00000g.addr.paddock.", "A", nx},
		{"too few digits", "0a0000.addr.paddock.", "A", nx},
		{"below a target", "x.0a000001.addr.paddock.", "A", nx},

		{"apex SOA", "paddock.", "SOA", "NOERROR aa\npaddock. 5 IN SOA ns.paddock. hostmaster.paddock. 1 3600 600 86400 5"},
		{"apex NS", "paddock.", "NS", "NOERROR aa\npaddock. 5 IN NS ns.paddock.\nadditional: ns.paddock. 5 IN A 192.0.2.53"},
		{"apex A", "paddock.", "A", nodata},
		{"SOA elsewhere", name, "SOA", nodata},
		{"NS elsewhere", name, "NS", nodata},
		{"ns", "ns.paddock.", "A", "NOERROR aa\nns.paddock. 5 IN A 192.0.2.53"},
		{"ns, other family", "ns.paddock.", "AAAA", nodata},
		{"below ns", "x.ns.paddock.", "A", nx},
		{"word service", "service.paddock.", "A", nodata},
		{"word app", "app.paddock.", "A", nodata},
		{"word addr", "addr.paddock.", "A", nodata},
		{"other word", "what.paddock.", "A", nx},

		{"outside", "example.com.", "A", "REFUSED"},
		{"root", ".", "NS", "REFUSED"},
		{"looks alike", "xpaddock.", "A", "REFUSED"},
		{"transfer", "paddock.", "AXFR", "REFUSED"},

		{"reverse of an instance", "2.0.0.10.in-addr.arpa.", "PTR", "NOERROR aa\n2.0.0.10.in-addr.arpa. 5 IN PTR 0a000002.addr.paddock.\n2.0.0.10.in-addr.arpa. 5 IN PTR demo-app.app.paddock."},
		{"reverse of a stranger", "2.0.0.11.in-addr.arpa.", "PTR", "REFUSED"},
		{"reverse IPv6", "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", "PTR", "NOERROR aa\n" +
			"9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 5 IN PTR 20010db8000000000000000000000009.addr.paddock.\n" +
			"9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 5 IN PTR shop.app.paddock."},
		{"reverse, other type", "2.0.0.10.in-addr.arpa.", "A", "NOERROR aa\nauthority: 2.0.0.10.in-addr.arpa. 5 IN SOA ns.paddock. hostmaster.paddock. 1 3600 600 86400 5"},
	} {
		t.Run(tc.why, func(t *testing.T) {
			if got := short(ask(t, s, tc.name, tc.qtype)); got != tc.want {
				t.Errorf("%s %s\n got %s\nwant %s", tc.name, tc.qtype, got, tc.want)
			}
			// Once more from the cache, in upper case.
			m := ask(t, s, tc.name, tc.qtype)
			if got := short(m); got != tc.want {
				t.Errorf("second %s %s\n got %s\nwant %s", tc.name, tc.qtype, got, tc.want)
			}
		})
	}
}
