package watch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/paddockio/paddock/zab/wire"
)

const (
	created  = wire.EventNodeCreated
	deleted  = wire.EventNodeDeleted
	changed  = wire.EventNodeDataChanged
	children = wire.EventNodeChildrenChanged
)

func TestEachModeIsToldOfItsEvents(t *testing.T) {
	type told struct{ self, below map[wire.EventType]bool }
	set := func(types ...wire.EventType) map[wire.EventType]bool {
		m := map[wire.EventType]bool{}
		for _, typ := range types {
			m[typ] = true
		}
		return m
	}
	for mode, want := range map[Mode]told{
		Data:       {self: set(created, deleted, changed)},
		Child:      {self: set(deleted, children)},
		Persistent: {self: set(created, deleted, changed, children)},
		Recursive:  {self: set(created, deleted, changed), below: set(created, deleted, changed)},
	} {
		for _, typ := range []wire.EventType{created, deleted, changed, children} {
			for _, path := range []string{"/a", "/a/b", "/a/b/c", "/", "/ab", "/b"} {
				m := New[int]()
				m.Add(1, "/a", mode)
				wanted := path == "/a" && want.self[typ] || strings.HasPrefix(path, "/a/") && want.below[typ]
				if got := m.Fire(typ, path, nil); (len(got) == 1) != wanted {
					t.Errorf("mode %d on /a: %v %s tells %v, want %v", mode, typ, path, got, wanted)
				}
				once := wanted && mode&(Data|Child) != 0
				if got := m.Contains(1, "/a", mode); got == once {
					t.Errorf("mode %d on /a after %v %s: still there: %v", mode, typ, path, got)
				}
			}
		}
	}
}

func TestRecursiveWatchOnTheRootSeesAll(t *testing.T) {
	m := New[int]()
	m.Add(1, "/", Recursive)
	for _, path := range []string{"/", "/a", "/a/b"} {
		if got := m.Fire(created, path, nil); len(got) != 1 {
			t.Errorf("%s: told %v", path, got)
		}
	}
}

func TestNodeDeletedComesOncePerConnection(t *testing.T) {
	m := New[int]()
	m.Add(1, "/a", Data)
	m.Add(1, "/a", Child)
	m.Add(1, "/a", Persistent|Recursive)
	m.Add(1, "/", Recursive)
	m.Add(2, "/a", Child)
	if got := m.Fire(deleted, "/a", nil); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("told %v, want each once", got)
	}
	if m.Contains(1, "/a", Data|Child) || !m.Contains(1, "/a", Persistent) || !m.Contains(1, "/a", Recursive) || m.Contains(2, "/a", allMode) {
		t.Error("the standard modes end, the others stay")
	}
}

func TestRemoveTakesTheNamedModesOnly(t *testing.T) {
	m := New[int]()
	m.Add(1, "/a", Data|Child|Persistent|Recursive)
	for _, tc := range []struct {
		typ   int32
		modes Mode
	}{
		{wire.WatcherData, Data}, {wire.WatcherChildren, Child},
		{wire.WatcherPersistent, Persistent}, {wire.WatcherPersistentRecursive, Recursive},
	} {
		modes, ok := ModeOf(tc.typ)
		if !ok || modes != tc.modes {
			t.Errorf("ModeOf(%d) = %d, %v", tc.typ, modes, ok)
		}
		if !m.Remove(1, "/a", modes) || m.Remove(1, "/a", modes) || m.Contains(1, "/a", modes) {
			t.Errorf("mode %d: removed not exactly once", modes)
		}
	}
	if m.Len() != 0 || m.recursive != 0 || m.Paths() != 0 || m.Conns() != 0 {
		t.Errorf("%d watches, %d recursive, %d paths, %d connections left", m.Len(), m.recursive, m.Paths(), m.Conns())
	}
	if modes, ok := ModeOf(wire.WatcherAny); !ok || modes != allMode {
		t.Errorf("ModeOf(any) = %d, %v", modes, ok)
	}
	if _, ok := ModeOf(0); ok {
		t.Error("there is no type 0")
	}
}

// naive is a manager that is too simple to be wrong.
type naive map[pair]Mode

type pair struct {
	conn int
	path string
}

func (n naive) fire(typ wire.EventType, path string) map[int]bool {
	told := map[int]bool{}
	for key, modes := range n {
		conn, on := key.conn, key.path
		here := on == path
		below := strings.HasPrefix(path, strings.TrimSuffix(on, "/")+"/")
		tell, once := false, Mode(0)
		if typ != children {
			tell = here && modes&(Data|Persistent) != 0 || (here || below) && modes&Recursive != 0
			once = Data
		}
		if here && (typ == children || typ == deleted) && modes&(Child|Persistent) != 0 {
			tell = true
		}
		if typ == children {
			once = Child
		}
		if typ == deleted {
			once |= Child
		}
		if tell {
			told[conn] = true
		}
		if here {
			if modes &^= once; modes == 0 {
				delete(n, key)
			} else {
				n[key] = modes
			}
		}
	}
	return told
}

func TestManagerAgainstAModel(t *testing.T) {
	paths := []string{"/", "/a", "/b", "/a/b", "/a/c", "/a/b/c", "/a/b/d"}
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m, model := New[int](), naive{}
		conns := 3 + rng.IntN(40)
		for step := range 2000 {
			conn, path := rng.IntN(conns), paths[rng.IntN(len(paths))]
			key := pair{conn, path}
			modes := Mode(1 + rng.IntN(15))
			switch op := rng.IntN(100); {
			case op < 50:
				m.Add(conn, path, modes)
				model[key] |= modes
			case op < 65:
				want := model[key]&modes != 0
				if got := m.Remove(conn, path, modes); got != want {
					t.Fatalf("seed %d step %d: Remove(%d, %s, %d) = %v", seed, step, conn, path, modes, got)
				}
				if model[key] &^= modes; model[key] == 0 {
					delete(model, key)
				}
			case op < 67:
				m.RemoveConn(conn)
				for _, path := range paths {
					delete(model, pair{conn, path})
				}
			default:
				typ := wire.EventType(1 + rng.IntN(4))
				want := model.fire(typ, path)
				got := m.Fire(typ, path, nil)
				for _, c := range got {
					if !want[c] {
						t.Fatalf("seed %d step %d: %v %s tells %d, or twice", seed, step, typ, path, c)
					}
					delete(want, c)
				}
				if len(want) > 0 {
					t.Fatalf("seed %d step %d: %v %s does not tell %v", seed, step, typ, path, want)
				}
			}
			if m.Len() != len(model) {
				t.Fatalf("seed %d step %d: %d watches, want %d", seed, step, m.Len(), len(model))
			}
		}
		recursive := 0
		for _, w := range m.All() {
			if model[pair{w.Conn, w.Path}] != w.Modes || m.conns[w.Conn][w.Path] != w.Modes {
				t.Fatalf("seed %d: %+v, want mode %d", seed, w, model[pair{w.Conn, w.Path}])
			}
			if w.Modes&Recursive != 0 {
				recursive++
			}
		}
		if m.recursive != recursive {
			t.Fatalf("seed %d: counts %d recursive watches of %d", seed, m.recursive, recursive)
		}
		for c := range conns {
			m.RemoveConn(c)
		}
		if m.Len() != 0 || m.recursive != 0 || m.Paths() != 0 || m.Conns() != 0 {
			t.Fatalf("seed %d: something is left", seed)
		}
	}
}

func TestFireWithoutAMatchAllocatesNothing(t *testing.T) {
	m := New[int]()
	m.Add(1, "/x", Data)
	m.Add(1, "/y", Recursive)
	var to []int
	if n := testing.AllocsPerRun(100, func() {
		to = m.Fire(changed, "/a/b/c/d", to[:0])
		to = m.Fire(children, "/a/b/c", to[:0])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFire(b *testing.B) {
	const path = "/dubbo/org.demo.Greeter/providers/node"
	run := func(name string, m *Manager[int], again func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var to []int
			for b.Loop() {
				to = m.Fire(changed, path, to[:0])
				if again != nil {
					again()
				}
			}
		})
	}
	run("no watches", New[int](), nil)
	others := New[int]()
	for i := range 100_000 {
		others.Add(i%1000, fmt.Sprint("/other/", i), Data)
	}
	run("100000 watches elsewhere", others, nil)
	recursive := New[int]()
	recursive.Add(1, "/dubbo", Recursive)
	run("one recursive above", recursive, nil)
	one := New[int]()
	run("one, set again", one, func() { one.Add(1, path, Data) })
	many := New[int]()
	again := func() {
		for i := range 50_000 {
			many.Add(i, path, Data)
		}
	}
	again()
	run("50000 on one path, set again", many, again)
	persistent := New[int]()
	for i := range 50_000 {
		persistent.Add(i, path, Persistent)
	}
	run("50000 persistent on one path", persistent, nil)
}

// TestPathsOfCallersMayChange fires and removes by paths whose bytes are used
// again afterwards, as those in a pooled request are.
func TestPathsOfCallersMayChange(t *testing.T) {
	for name, do := range map[string]func(m *Manager[int], path string){
		"fire":   func(m *Manager[int], path string) { m.Fire(wire.EventNodeDataChanged, path, nil) },
		"remove": func(m *Manager[int], path string) { m.Remove(1, path, Data) },
	} {
		m := New[int]()
		m.Add(1, "/a", Data)
		m.Add(1, "/a", Persistent)
		b := []byte("/a")
		do(m, unsafe.String(&b[0], len(b)))
		copy(b, "/z")
		if !m.Contains(1, "/a", Persistent) {
			t.Errorf("%s: the persistent watch is gone", name)
		}
		m.RemoveConn(1)
		if m.Len() != 0 || m.Paths() != 0 || m.Conns() != 0 {
			t.Errorf("%s: %d watches, %d paths and %d connections are left", name, m.Len(), m.Paths(), m.Conns())
		}
	}
}
