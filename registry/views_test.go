package registry

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

func provider(host string, port int, service, query string) string {
	return "/dubbo/" + escape(service) + "/providers/" + escape(fmt.Sprintf("dubbo://%s:%d/%s?interface=%s%s", host, port, service, service, query))
}

func configurator(service, url string) string {
	return "/dubbo/" + escape(service) + "/configurators/" + escape(url)
}

func hosts(v View) string {
	var b []string
	for _, in := range v.Instances {
		s := in.Host
		if !in.Enabled {
			s += "(off)"
		}
		if in.Weight != DefaultWeight {
			s += "*" + strconv.Itoa(in.Weight)
		}
		b = append(b, s)
	}
	slices.Sort(b)
	return strings.Join(b, " ")
}

func lookup(r *Registry, service string) string {
	v, ok := r.Lookup(service)
	if !ok {
		return "unknown"
	}
	return hosts(v)
}

func TestViewsFollowTheTree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		tree.put(provider("10.0.0.1", 1, "a.A", "&application=app"), 1)
		tree.put("/dubbo/config/dubbo/dubbo.properties", 0)
		tree.put("/dubbo/metadata/providers", 0) // left by an admin tool
		r, stop := start(t, tree.connect(), Config{})
		defer stop()
		pass(settled)
		if got := fmt.Sprint(r.Services(), r.Apps()); got != "[a.A] [app]" {
			t.Errorf("services and apps %s", got)
		}
		tree.put(provider("10.0.0.2", 1, "a.A", "&application=app"), 1)
		tree.put(provider("10.0.0.3", 1, "a.Outer$Inner", "&application=app"), 1)
		tree.put("/dubbo/a.A/providers/not-a-url", 0)
		pass(settled)
		if got := lookup(r, "a.A"); got != "10.0.0.1 10.0.0.2" {
			t.Errorf("a.A: %s", got)
		}
		if got := lookup(r, "a.Outer$Inner"); got != "10.0.0.3" {
			t.Errorf("inner class: %s", got)
		}
		if v, _ := r.LookupApp("app"); hosts(v) != "10.0.0.1 10.0.0.2 10.0.0.3" {
			t.Errorf("app: %s", hosts(v))
		}
		gen := r.Generation()
		tree.put("/dubbo/a.A/consumers/x", 1)
		pass(settled)
		if r.Generation() != gen {
			t.Error("a consumer changed the generation")
		}
		tree.remove(provider("10.0.0.1", 1, "a.A", "&application=app"))
		tree.remove(provider("10.0.0.2", 1, "a.A", "&application=app"))
		pass(settled)
		if got := lookup(r, "a.A"); got != "" {
			t.Errorf("a.A without providers: %s", got)
		}
		tree.remove("/dubbo/a.A/providers/not-a-url")
		tree.remove("/dubbo/a.A/providers")
		pass(settled)
		if got := lookup(r, "a.A"); got != "unknown" {
			t.Errorf("a.A removed: %s", got)
		}
		if got := fmt.Sprint(r.Services(), r.Apps()); got != "[a.Outer$Inner] [app]" {
			t.Errorf("services and apps %s", got)
		}
	})
}

func TestOverridesDecideWhoIsCalled(t *testing.T) {
	for _, tc := range []struct {
		name      string
		overrides []string
		want      string
	}{
		{"none", nil, "10.0.0.1 10.0.0.2*50"},
		{"one provider by address and port", []string{"override://10.0.0.1:1/a.A?category=configurators&dynamic=false&disabled=true"}, "10.0.0.1(off) 10.0.0.2*50"},
		{"another port", []string{"override://10.0.0.1:2/a.A?disabled=true"}, "10.0.0.1 10.0.0.2*50"},
		{"all", []string{"override://0.0.0.0/a.A?weight=7"}, "10.0.0.1*7 10.0.0.2*7"},
		{"the address wins over all", []string{"override://10.0.0.2/a.A?weight=8", "override://0.0.0.0/a.A?weight=7"}, "10.0.0.1*7 10.0.0.2*8"},
		{"the higher priority wins", []string{"override://0.0.0.0/a.A?weight=8&priority=2", "override://0.0.0.0/a.A?weight=7&priority=10"}, "10.0.0.1*7 10.0.0.2*7"},
		{"switched off", []string{"override://0.0.0.0/a.A?weight=7&enabled=false"}, "10.0.0.1 10.0.0.2*50"},
		{"absent gives way to the provider's own", []string{"absent://0.0.0.0/a.A?weight=7"}, "10.0.0.1*7 10.0.0.2*50"},
		{"of another group", []string{"override://0.0.0.0/a.A?weight=7&group=g"}, "10.0.0.1 10.0.0.2*50"},
		{"of another application", []string{"override://0.0.0.0/a.A?weight=7&application=other"}, "10.0.0.1 10.0.0.2*50"},
		{"of this application", []string{"override://0.0.0.0/a.A?weight=7&application=app&side=provider"}, "10.0.0.1*7 10.0.0.2*7"},
		{"for one consumer", []string{"override://10.0.0.1/a.A?weight=7&side=consumer"}, "10.0.0.1 10.0.0.2*50"},
		{"with a condition", []string{"override://0.0.0.0/a.A?disabled=true&~weight=50"}, "10.0.0.1 10.0.0.2(off)*50"},
		{"about something else", []string{"override://0.0.0.0/a.A?timeout=5"}, "10.0.0.1 10.0.0.2*50"},
		{"unreadable ones are skipped", []string{"x", "override://0.0.0.0/a.A?weight=7"}, "10.0.0.1*7 10.0.0.2*7"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var names []string
			for _, o := range tc.overrides {
				names = append(names, escape(o))
			}
			s := &service{name: "a.A", rules: parseOverrides(names, func(string, error) {})}
			s.parse([]string{
				filepath.Base(provider("10.0.0.1", 1, "a.A", "&application=app")),
				filepath.Base(provider("10.0.0.2", 1, "a.A", "&application=app&weight=50")),
			}, func(n string, err error) { t.Error(err) })
			s.build()
			if got := hosts(s.out.view); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestOverridesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		tree.put(provider("10.0.0.1", 1, "a.A", ""), 1)
		r, stop := start(t, tree.connect(), Config{})
		defer stop()
		pass(settled)
		o := configurator("a.A", "override://10.0.0.1:1/a.A?disabled=true")
		tree.put(o, 0)
		pass(settled)
		if got := lookup(r, "a.A"); got != "10.0.0.1(off)" {
			t.Errorf("disabled: %s", got)
		}
		tree.remove(o)
		pass(settled)
		if got := lookup(r, "a.A"); got != "10.0.0.1" {
			t.Errorf("enabled again: %s", got)
		}
	})
}

func TestLastGoodAnswerStaysWithoutAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		tree.put(provider("10.0.0.1", 1, "a.A", "&application=app"), 1)
		tree.put(configurator("a.A", "override://0.0.0.0/a.A?weight=7"), 0)
		cfg := Config{Dir: t.TempDir()}
		conn := tree.connect()
		r, stop := start(t, conn, cfg)
		pass(settled)
		gen := r.Generation()
		conn.disconnect()
		pass(0)
		lost := time.Now()
		tree.put(provider("10.0.0.2", 1, "a.A", ""), 1) // nobody tells us
		pass(time.Hour)
		v, _ := r.Lookup("a.A")
		if v.Live || !v.AsOf.Equal(lost) || hosts(v) != "10.0.0.1*7" || r.Generation() == gen {
			t.Errorf("disconnected: %+v %s", v, hosts(v))
		}
		conn.reconnect(false)
		pass(settled)
		if v, _ := r.Lookup("a.A"); !v.Live || hosts(v) != "10.0.0.1*7 10.0.0.2*7" {
			t.Errorf("after the gap: %+v %s", v, hosts(v))
		}
		gen = r.Generation()
		stop()

		// A new process and no ensemble.
		conn = tree.connect()
		conn.disconnect()
		r, stop = start(t, conn, cfg)
		defer stop()
		pass(time.Minute)
		v, ok := r.Lookup("a.A")
		if !ok || v.Live || v.AsOf.IsZero() || hosts(v) != "10.0.0.1*7 10.0.0.2*7" {
			t.Errorf("from the file: %+v %s", v, hosts(v))
		}
		if a, ok := r.LookupApp("app"); !ok || hosts(a) != "10.0.0.1*7" {
			t.Errorf("app from the file: %s", hosts(a))
		}
		if r.Generation() <= gen {
			t.Errorf("generation went back from %d to %d", gen, r.Generation())
		}
	})
}

func TestDamagedViewFileIsIgnored(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"", "{", `{"format":1,"root":"/dubbo","services":{"a":{"providers":["%%%"]}}}`, `[]`, `{"format":2}`} {
		if err := os.WriteFile(filepath.Join(dir, viewFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(newFakeTree().connect(), Config{Dir: dir}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestServiceThatMayNotBeReadKeepsItsLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		tree.put(provider("10.0.0.1", 1, "a.A", ""), 1)
		conn := tree.connect()
		r, stop := start(t, conn, Config{})
		defer stop()
		pass(settled)
		tree.mu.Lock()
		tree.deny["/dubbo/a.A/providers"] = wire.ErrNoAuth
		tree.mu.Unlock()
		conn.disconnect()
		conn.reconnect(false)
		tree.put(provider("10.0.0.2", 1, "b.B", ""), 1)
		pass(settled)
		if got := lookup(r, "a.A") + "," + lookup(r, "b.B"); got != "10.0.0.1,10.0.0.2" {
			t.Errorf("got %s", got)
		}
	})
}

func TestFailedReadIsRepeatedAndChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		tree.put(provider("10.0.0.1", 1, "a.A", ""), 1)
		conn := tree.connect()
		r, stop := start(t, conn, Config{})
		defer stop()
		pass(settled)
		set := func(code wire.Code) {
			tree.mu.Lock()
			tree.deny["/dubbo/a.A/providers"] = code
			tree.mu.Unlock()
		}
		set(wire.ErrConnectionLoss)
		tree.put(provider("10.0.0.2", 1, "a.A", ""), 1)
		pass(10 * time.Second)
		if got := lookup(r, "a.A"); got != "10.0.0.1" {
			t.Errorf("while it fails: %s", got)
		}
		set(wire.OK)
		pass(maxPause)
		if got := lookup(r, "a.A"); got != "10.0.0.1 10.0.0.2" {
			t.Errorf("afterwards: %s", got)
		}
	})
}

func TestWatchThatEndsIsSetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		conn := tree.connect()
		r, stop := start(t, conn, Config{})
		defer stop()
		pass(settled)
		tree.mu.Lock()
		w := conn.watches[0]
		tree.mu.Unlock()
		w.end()
		tree.put(provider("10.0.0.1", 1, "a.A", ""), 1)
		pass(time.Second)
		if v, _ := r.Lookup("a.A"); !v.Live || hosts(v) != "10.0.0.1" {
			t.Errorf("%+v", v)
		}
	})
}

func TestRootOfTheEnsembleAsRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		tree.put("/zookeeper/quota", 0)
		r, stop := start(t, tree.connect(), Config{Root: "/"})
		defer stop()
		mustRegister(t, r, greeter())
		pass(settled)
		if got := fmt.Sprint(r.Services(), len(tree.children("/org.demo.Greeter/providers"))); got != "[org.demo.Greeter] 1" {
			t.Errorf("got %s", got)
		}
	})
}

// 10,000 providers: a burst costs a few reads, not one per event.
func TestTenThousandProviders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		for i := range 100 {
			tree.put(provider("10.0.0.1", 1, "pkg.S"+strconv.Itoa(i), "&application=app"), 1)
		}
		conn := tree.connect()
		r, stop := start(t, conn, Config{})
		defer stop()
		pass(settled)
		reads := conn.ops
		dir := "/dubbo/pkg.S0/providers/"
		name := func(i int) string {
			return dir + escape(fmt.Sprintf("dubbo://10.1.%d.%d:20880/pkg.S0?application=app&interface=pkg.S0&methods=a,b,c,d&side=provider", i/250, i%250))
		}
		for i := range 10000 {
			tree.put(name(i), zab.SessionID(i))
			if i%1000 == 0 {
				pass(time.Millisecond)
			}
		}
		pass(settled)
		if v, _ := r.Lookup("pkg.S0"); len(v.Instances) != 10001 {
			t.Errorf("%d instances", len(v.Instances))
		}
		if v, _ := r.LookupApp("app"); len(v.Instances) != 10100 {
			t.Errorf("%d instances of app", len(v.Instances))
		}
		if n := conn.ops - reads; n > 20 {
			t.Errorf("%d reads for one burst", n)
		}
	})
}

func BenchmarkRebuildOfTenThousand(b *testing.B) {
	names := make([]string, 10000)
	for i := range names {
		names[i] = escape(fmt.Sprintf("dubbo://10.1.%d.%d:20880/pkg.S0?application=app&dubbo=2.0.2&dynamic=true&interface=pkg.S0&methods=a,b,c,d&release=3.3.1&side=provider&timestamp=1729781170000", i/250, i%250))
	}
	bad := func(string, error) {}
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s := &service{name: "pkg.S0"}
			s.parse(slices.Clone(names), bad)
			s.build()
		}
	})
	b.Run("again", func(b *testing.B) {
		s := &service{name: "pkg.S0"}
		s.parse(slices.Clone(names), bad)
		b.ReportAllocs()
		for b.Loop() {
			s.parse(slices.Clone(names), bad)
			s.build()
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	r, err := New(newFakeTree().connect(), Config{})
	if err != nil {
		b.Fatal(err)
	}
	s := &service{name: "a.A"}
	s.parse([]string{filepath.Base(provider("10.0.0.1", 1, "a.A", ""))}, func(string, error) {})
	s.build()
	r.views.services["a.A"] = s
	r.views.store(map[string]bool{"a.A": true}, 0)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := r.Lookup("a.A"); !ok {
			b.Fatal("unknown")
		}
	}
}
