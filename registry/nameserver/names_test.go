package nameserver

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/paddockio/paddock/registry"
)

func ExampleNames() {
	n, err := Names("paddock.", registry.View{
		Service: "org.apache.dubbo.demo.DemoService",
		Instances: []*registry.Instance{
			{Protocol: "dubbo", Version: "1.0.0", Group: "blue"},
			{Protocol: "tri", Version: "1.0.0"},
		},
	})
	fmt.Println(n.Name, err)
	fmt.Println(n.Alias)
	fmt.Println(n.SRV[1])
	fmt.Println(n.Versions[0])
	// Output:
	// org.apache.dubbo.demo.demoservice.service.paddock. <nil>
	// demoservice.service.paddock.
	// _tri._tcp.org.apache.dubbo.demo.demoservice.service.paddock.
	// _v-1-0-0.org.apache.dubbo.demo.demoservice.service.paddock.
}

func TestNames(t *testing.T) {
	for _, tc := range []struct {
		why, domain, service string
		instances            []*registry.Instance
		want                 ServiceNames
		err                  string
	}{
		{why: "plain", domain: "Corp.Example", service: "web", want: ServiceNames{Name: "web.service.corp.example."}},
		{why: "inner class", domain: "paddock", service: "org.x.Outer$Inner_1", want: ServiceNames{Name: "org.x.outer$inner_1.service.paddock.", Alias: "outer$inner_1.service.paddock."}},
		{why: "odd octets are escaped", domain: "paddock", service: "a b", want: ServiceNames{Name: `a\ b.service.paddock.`}},
		{why: "a group that fits in no label", domain: "paddock", service: "web",
			instances: []*registry.Instance{{Group: strings.Repeat("g", 61)}, {Group: "1.b"}},
			want:      ServiceNames{Name: "web.service.paddock.", Groups: []string{"_g-1-b.web.service.paddock."}}},
		{why: "empty segment", domain: "paddock", service: "org..x", err: `dns name of service "org..x": empty segment`},
		{why: "empty", domain: "paddock", service: "", err: `dns name of service "": empty segment`},
		{why: "dot at the end", domain: "paddock", service: "x.", err: `dns name of service "x.": empty segment`},
		{why: "long segment", domain: "paddock", service: strings.Repeat("x", 64), err: "segment longer than 63 octets"},
		{why: "long name", domain: "paddock", service: strings.Repeat("abc.", 60) + "x", err: "name longer than 255 octets"},
		{why: "bad domain", domain: "a..b", service: "web", err: `domain "a..b": not a domain name`},
	} {
		t.Run(tc.why, func(t *testing.T) {
			got, err := Names(tc.domain, registry.View{Service: tc.service, Instances: tc.instances})
			if tc.err != "" {
				if err == nil || !strings.HasSuffix(err.Error(), tc.err) {
					t.Errorf("error %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tc.want)
			}
		})
	}
}

// FuzzNames: whatever is registered, its names are answered, and lead to that
// service and to no other.
func FuzzNames(f *testing.F) {
	f.Add("org.apache.dubbo.demo.DemoService", "1.0.0", "blue", "dubbo")
	f.Add("_tcp.x", "_v-1", "", "tcp")
	f.Add("_v-1.x", "1", "a.b", "x")
	f.Add("a\\.b", "\x00", "\xff", "é")
	f.Fuzz(func(t *testing.T, service, version, group, protocol string) {
		d := newFake()
		in := &registry.Instance{Service: service, Protocol: protocol, Version: version, Group: group, Host: "10.0.0.1", Port: 1, Weight: 1, Enabled: true}
		d.addInstance(in)
		d.addInstance(&registry.Instance{Service: "some.Other", Protocol: "x", Host: "10.0.0.2", Port: 1, Weight: 1, Enabled: true})
		n, err := Names("paddock", d.services[service])
		if err != nil || strings.EqualFold(service, "some.Other") || strings.EqualFold(service, "other") {
			return
		}
		s := newTest(t, d)
		try := func(name string, qtype uint16) {
			if name == "" {
				return
			}
			// Names of ours go through the text form: no information may get lost.
			m, _ := exchange(t, s, packQuery(t, name, qtype), overUDP)
			if len(m.Answer) != 1 || !strings.Contains(m.Answer[0].String()+fmt.Sprint(m.Extra), "10.0.0.1") {
				t.Errorf("service %q: %s %s: %v", service, name, dns.Type(qtype), m)
			}
		}
		try(n.Name, dns.TypeA)
		for _, name := range n.SRV {
			try(name, dns.TypeSRV)
		}
		for _, name := range append(n.Versions, n.Groups...) {
			try(name, dns.TypeA)
		}
		if !strings.EqualFold(n.Alias, "other.service.paddock.") {
			try(n.Alias, dns.TypeA)
		}
	})
}
