package config

import (
	"strings"
	"testing"
	"time"
)

func TestServiceFiles(t *testing.T) {
	list, err := ParseServices("greeter.yaml", []byte(`service:
  name: org.apache.demo.Greeter
  protocol: dubbo
  port: 20880
  group: blue
  version: 1.0.0
  params: {methods: "sayHello", weight: 100}
  checks: [{tcp: "127.0.0.1:20880", interval: 2s, rise: 2}]
`))
	if err != nil {
		t.Fatal(err)
	}
	r := list[0]
	if len(list) != 1 || r.Name != "org.apache.demo.Greeter" || r.Port != 20880 || r.Version != "1.0.0" ||
		r.Params["weight"] != "100" || len(r.Checks) != 1 || time.Duration(r.Checks[0].Interval) != 2*time.Second || r.Checks[0].Rise != 2 {
		t.Errorf("%+v", list)
	}
	list, err = ParseServices("a.json", []byte(`{"services": [{"name": "a", "port": 1}, {"name": "b", "port": 2, "protocol": "http"}]}`))
	if err != nil || len(list) != 2 || list[1].Protocol != "http" {
		t.Errorf("JSON: %+v, %v", list, err)
	}
}

func TestFaultsOfAServiceFileNameTheLine(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", "f: has no service"},
		{"services: []", "f:1: has no service"},
		{"service: {name: a, port: 1}\nservices: [{name: b, port: 1}]", "f:2: services: cannot stand beside service"},
		{"service:\n  name: a\n  port: 70000\n  checks:\n    - interval: 2s\n", "f:3: service.port: 70000 is not from 1 to 65535\nf:5: service.checks[0].tcp: or http is missing: what shall be checked?"},
		{"service:\n  nmae: a\n  port: x\n", "f:2: service.nmae: unknown key; did you mean name?\nf:3: service.port: wants a whole number, got \"x\""},
		{"service: {port: 1}\n", "f:1: service.name: is missing"},
		{"services:\n- {name: a, port: 1, id: x}\n- {name: b, port: 2, id: x}\n", "f:3: services[1].id: \"x\" is the id of services[0] too"},
		{"service: {name: a, port: 1, checks: [{tcp: 'a:1', interval: 2}]}\n", "f:1: service.checks[0].interval: wants a duration such as 2s, got the number 2"},
		{"service: {name: a, port: 1, version: 1.0}\n", "f:1: service.version: wants text, got the number 1.0; write \"1.0\""},
	} {
		_, err := ParseServices("f", []byte(tc.text))
		if err == nil || err.Error() != tc.want {
			t.Errorf("%q: got %q, want %q", tc.text, err, tc.want)
		}
	}
}

func FuzzServiceFile(f *testing.F) {
	f.Add("service: {name: a, port: 1, params: {a: b}, checks: [{tcp: 'a:1'}]}")
	f.Add(`{"services": [{"name": "a", "port": 1, "passing": true}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseServices("f", []byte(text))
		if (err == nil) != (len(list) > 0) {
			t.Fatalf("%d services, error %v", len(list), err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "f:") {
			t.Fatalf("%q does not name the file", err)
		}
	})
}
