package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/configsync/dirwatch"
	"github.com/paddockio/paddock/registry"
)

const sample = `# services.d/greeter.yaml
service:
  name: org.apache.demo.Greeter   # interface or plain name
  protocol: dubbo                 # dubbo | tri | http | …
  port: 20880
  group: blue
  version: 1.0
  params: {methods: "sayHello", weight: 100}
  checks: [{tcp: "127.0.0.1:20880", interval: 2s}]
`

func TestSampleOfTheDesign(t *testing.T) {
	regs, err := Parse("greeter.yaml", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%+v", regs)
	want := `[{ID: Name:org.apache.demo.Greeter Category: Protocol:dubbo Address: Port:20880 Path: App: Group:blue Version:1.0 ` +
		`Params:map[methods:sayHello weight:100] Checks:[{TCP:127.0.0.1:20880 HTTP: Method: Header:map[] SkipVerify:false Interval:2s Timeout:0s Rise:0 Fall:0}] ` +
		`Passing:false Origin:greeter.yaml}]`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestListAndJSON(t *testing.T) {
	for _, text := range []string{
		"services:\n- {name: a, port: 1}\n- {name: b, port: 2, category: providers, passing: true}\n",
		`{"services":[{"name":"a","port":1},{"name":"b","port":2}]}`,
		"services:\n- name: a\n  port: 1\n- name: b\n  category: consumers\n",
	} {
		regs, err := Parse("x", []byte(text))
		if err != nil || len(regs) != 2 || regs[0].Name != "a" || regs[1].Name != "b" {
			t.Errorf("%s: %+v, %v", text, regs, err)
		}
	}
	if regs, err := Parse("x", []byte("services: []")); err != nil || len(regs) != 0 {
		t.Errorf("no services: %+v, %v", regs, err)
	}
}

func TestEveryFaultIsNamedWithFileLineAndKey(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "f.yaml: is empty; to deregister its services remove the file"},
		{"comment", "# later\n", "f.yaml: is empty; to deregister its services remove the file"},
		{"null", "~\n", "f.yaml:1: must be a mapping, is empty"},
		{"no key", "{}", "f.yaml:1: has neither service nor services; to deregister its services remove the file"},
		{"syntax", "service:\n  name: [a\n", "f.yaml:2: did not find expected ',' or ']'"},
		{"not a mapping", "- a\n", "f.yaml:1: must be a mapping, is a list"},
		{"both", "service: {name: a, port: 1}\nservices: []\n", "f.yaml:1: services: and service exclude each other"},
		{"two documents", "service: {name: a, port: 1}\n---\nservice: {name: b, port: 1}\n", "f.yaml:2: holds more than one document"},
		{"missing port", "service:\n  name: a\n", "f.yaml:2: service.port: is missing"},
		{"unknown key", "service:\n  name: a\n  port: 1\n  ports: 2\n", "f.yaml:4: service.ports: is no known key; port?"},
		{"unknown top key", "server: {}\n", "f.yaml:1: server: is no known key"},
		{"wrong type", "service:\n  name: a\n  port: http\n", `f.yaml:3: service.port: must be a whole number, is "http"`},
		{"quoted number", "service:\n  name: a\n  port: \"80\"\n", `f.yaml:3: service.port: must be a whole number, is "80"`},
		{"fraction", "service: {name: a, port: 1.5}\n", `f.yaml:1: service.port: must be a whole number, is the number 1.5`},
		{"huge number", "service: {name: a, port: 99999999999999999999}\n", `f.yaml:1: service.port: must be a whole number, is the number 99999999999999999999`},
		{"name is a number", "service: {name: 5, port: 1}\n", "f.yaml:1: service.name: must be a string, is the number 5"},
		{"repeated key", "service:\n  name: a\n  name: b\n  port: 1\n", "f.yaml:3: service.name: stands on line 2 too"},
		{"empty value", "service:\n  name: a\n  port: 1\n  group:\n", "f.yaml:4: service.group: must be a string, is empty"},
		{"empty parameter", "service:\n  name: a\n  port: 1\n  params:\n    x: \"\"\n", "f.yaml:5: service.params.x: is an empty string; leave the key out"},
		{"bad parameter", "service:\n  name: a\n  port: 1\n  params:\n    y: ok\n    x: a&b\n",
			`f.yaml:6: service.params.x: "a&b" has an ampersand, which no reader of the URL can tell from the next parameter`},
		{"bad duration", "service:\n  name: a\n  port: 1\n  checks:\n  - tcp: h:1\n    interval: 2\n",
			"f.yaml:6: service.checks[0].interval: must be a duration like 500ms or 2s, is the number 2"},
		{"interval too short", "service:\n  name: a\n  port: 1\n  checks:\n  - tcp: h:1\n    interval: 1ms\n",
			"f.yaml:6: service.checks[0].interval: 1ms is less than 100ms"},
		{"check of nothing", "service:\n  name: a\n  port: 1\n  checks:\n  - rise: 1\n", "f.yaml:5: service.checks[0].tcp: or http is missing: what shall be checked?"},
		{"second of a list", "services:\n- {name: a, port: 1}\n- {name: b, port: 70000}\n", "f.yaml:3: services[1].port: 70000 is not from 1 to 65535"},
		{"same id", "services:\n- {name: a, port: 1}\n- {name: a, port: 1}\n", `f.yaml:3: id: "a:1" is that of line 2 too; give one of them another id`},
		{"alias", "services:\n- &a {name: a, port: 1}\n- *a\n", "f.yaml:3: services[1]: must be a mapping, is an alias, which service files cannot have"},
		{"two faults", "service:\n  port: x\n  nam: a\n", "f.yaml:2: service.port: must be a whole number, is \"x\"\nf.yaml:3: service.nam: is no known key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			regs, err := Parse("f.yaml", []byte(tc.text))
			if err == nil || err.Error() != tc.want || regs != nil {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("%T is no *Error", err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("services:\n- &a {name: a, port: 1}\n- *a\n"))
	f.Add([]byte(`{"services":[{"name":"a","port":1,"checks":[{"http":"http://h/"}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		regs, err := Parse("f", data)
		if err != nil && regs != nil {
			t.Fatalf("both %v and %v", regs, err)
		}
		for _, reg := range regs {
			if err := reg.Validate(); err != nil {
				t.Fatalf("accepted %+v: %v", reg, err)
			}
		}
	})
}

// fakeRegistry records what it was told.
type fakeRegistry struct {
	mu      sync.Mutex
	ids     []string
	calls   int
	fail    error
	changed chan struct{}
}

func (f *fakeRegistry) Replace(source string, regs []registry.Registration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ids = nil
	for _, r := range regs {
		f.ids = append(f.ids, r.DefaultID())
	}
	slices.Sort(f.ids)
	f.calls++
	if f.changed != nil {
		f.changed <- struct{}{}
	}
	return f.fail
}

func (f *fakeRegistry) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.ids, " ")
}

// listing makes a listing of name, content pairs; the content "!" is a read error.
func listing(pairs ...string) (files []dirwatch.File) {
	for i := 0; i < len(pairs); i += 2 {
		f := dirwatch.File{Name: pairs[i], Data: []byte(pairs[i+1])}
		if pairs[i+1] == "!" {
			f.Data, f.Err = nil, os.ErrPermission
		}
		files = append(files, f)
	}
	return files
}

func TestBadFileNeverRemovesWhatWasGood(t *testing.T) {
	const a, b = "service: {name: a, port: 1}", "services: [{name: b, port: 2}, {name: c, port: 3}]"
	reg := &fakeRegistry{}
	l := New(reg, Config{})
	for _, tc := range []struct {
		name  string
		files []dirwatch.File
		want  string
		errs  string
	}{
		{"nothing", nil, "", ""},
		{"two files", listing("a.yaml", a, "b.yml", b, "README", "x"), "a:1 b:2 c:3", ""},
		{"a turns bad", listing("a.yaml", "service: {name: a}", "b.yml", b), "a:1 b:2 c:3", "a.yaml:1: service.port: is missing"},
		{"a turns empty", listing("a.yaml", "", "b.yml", b), "a:1 b:2 c:3", "a.yaml: is empty; to deregister its services remove the file"},
		{"a cannot be read", listing("a.yaml", "!", "b.yml", b), "a:1 b:2 c:3", "a.yaml: permission denied"},
		{"a is good again and another", listing("a.yaml", "service: {name: a, port: 9}", "b.yml", b), "a:9 b:2 c:3", ""},
		{"an earlier name takes nothing from b", listing("a.yaml", "service: {name: b, port: 2}", "b.yml", b), "b:2 c:3", `a.yaml: id: "b:2" is used in b.yml`},
		{"b goes, a has the id", listing("a.yaml", "service: {name: b, port: 2}"), "b:2", ""},
		{"no services", listing("a.yaml", "services: []"), "", ""},
		{"bad from the start", listing("a.yaml", "services: []", "z.json", "{"), "", "z.json:1: did not find expected node content"},
		{"all removed", nil, "", ""},
	} {
		l.apply(tc.files)
		if got := reg.String(); got != tc.want {
			t.Errorf("%s: registered %q, want %q", tc.name, got, tc.want)
		}
		got := ""
		if err := errors.Join(l.Errors()...); err != nil {
			got = err.Error()
		}
		if got != tc.errs {
			t.Errorf("%s: errors %q, want %q", tc.name, got, tc.errs)
		}
	}
}

func TestFileThatIsBadAtTheStartKeepsWhatTheFormerProcessHad(t *testing.T) {
	dir := t.TempDir()
	New(&fakeRegistry{}, Config{StateDir: dir}).apply(listing("a.yaml", "service: {name: a, port: 1}", "b.yaml", "service: {name: b, port: 1}"))
	reg := &fakeRegistry{}
	l := New(reg, Config{StateDir: dir})
	l.apply(listing("a.yaml", "service: {name: a, port: x}")) // and b.yaml is gone
	if got := reg.String(); got != "a:1" || len(l.Errors()) != 1 {
		t.Errorf("registered %q, errors %v", got, l.Errors())
	}
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	New(reg, Config{StateDir: dir}).apply(listing("a.yaml", "service: {name: a, port: 2}"))
	if got := reg.String(); got != "a:2" {
		t.Errorf("with a damaged state file: %q", got)
	}
}

func TestRefusalOfTheRegistryNamesTheFile(t *testing.T) {
	reg := &fakeRegistry{fail: errors.Join(&registry.RegistrationError{ID: "a:1", Err: registry.ErrDuplicate})}
	l := New(reg, Config{})
	l.apply(listing("a.yaml", "service: {name: a, port: 1}"))
	if got, want := fmt.Sprint(l.Errors()), "[a.yaml: a:1: same URL as another registration]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDroppedFileReachesTheRegistry(t *testing.T) {
	dir := t.TempDir()
	reg := &fakeRegistry{changed: make(chan struct{}, 16)}
	l := New(reg, Config{Dir: dir, Poll: 100 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	until := func(want string) {
		t.Helper()
		for reg.String() != want {
			select {
			case <-reg.changed:
			case <-time.After(10 * time.Second):
				t.Fatalf("registered %q, want %q", reg, want)
			}
		}
	}
	until("")
	name := filepath.Join(dir, "a.yaml")
	if err := os.WriteFile(name, []byte("service: {name: a, port: 1}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	until("a:1")
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	until("")
}
