package znode

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func named(name string) *node {
	n := &node{}
	n.setVal(name, nil)
	return n
}

// checkDir compares a dir with what should be in it and looks into its leaves.
func checkDir(t *testing.T, d *dir, want map[string]*node) {
	t.Helper()
	if d.n != len(want) || len(d.gather(nil)) != len(want) {
		t.Fatalf("%d children, %d gathered, want %d", d.n, len(d.gather(nil)), len(want))
	}
	for name, n := range want {
		if d.get(name) != n {
			t.Fatalf("%q is not found among %d", name, d.n)
		}
	}
	var leaf func(d *dir, depth int)
	leaf = func(d *dir, depth int) {
		if d.sub != nil {
			if d.ents != nil || d.idx != nil {
				t.Fatal("a dir has children of its own and below sub")
			}
			n := 0
			for _, s := range d.sub {
				if s != nil {
					leaf(s, depth+1)
					n += s.n
				}
			}
			if n != d.n {
				t.Fatalf("a dir counts %d, its subs have %d", d.n, n)
			}
			return
		}
		if d.n != len(d.ents) || d.n > leafMax {
			t.Fatalf("leaf counts %d, has %d", d.n, len(d.ents))
		}
		if d.idx == nil {
			if d.n > leafScan {
				t.Fatalf("leaf of %d has no index", d.n)
			}
			return
		}
		used := 0
		for _, s := range d.idx {
			if s != 0 {
				used++
			}
		}
		if used != d.n || len(d.idx) < used*3/2 {
			t.Fatalf("index of %d slots, %d used, for %d children", len(d.idx), used, d.n)
		}
	}
	leaf(d, 0)
}

func TestDirAgainstAMap(t *testing.T) {
	for _, size := range []int{4, 8, 12, 60, 255, 300, 5000} {
		rng := rand.New(rand.NewPCG(uint64(size), 0))
		d, want := &dir{}, map[string]*node{}
		if d.get("x") != nil {
			t.Fatal("an empty dir has a child")
		}
		for step := range 8 * size {
			// It fills, then empties, then is about half full.
			grow := 50
			if step < 2*size {
				grow = 80
			} else if step < 5*size {
				grow = 20
			}
			name := fmt.Sprint("n", rng.IntN(2*size))
			n := want[name]
			if (n == nil) != (d.get(name) == nil) {
				t.Fatalf("get(%q) = %v", name, d.get(name))
			}
			if add := rng.IntN(100) < grow; add && n == nil {
				n = named(name)
				want[name] = n
				d.add(n)
			} else if !add && n != nil {
				delete(want, name)
				d.remove(n)
			}
			if step%(size/2) == 0 {
				checkDir(t, d, want)
			}
		}
		checkDir(t, d, want)
		for name, n := range want {
			d.remove(n)
			delete(want, name)
		}
		checkDir(t, d, want)
		if cap(d.ents) > 4*leafScan {
			t.Errorf("an empty dir keeps room for %d", cap(d.ents))
		}
	}
}

func TestPartMeetsAllThatStays(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		d := &dir{}
		stay, others := map[*node]bool{}, map[string]*node{}
		for i := range rng.IntN(2000) {
			n := named(fmt.Sprint("s", i))
			stay[n] = true
			d.add(n)
		}
		grow := rng.IntN(100)
		change := func() {
			for range rng.IntN(500) {
				name := fmt.Sprint("o", rng.IntN(5000))
				if n := others[name]; n != nil && rng.IntN(100) >= grow {
					d.remove(n)
					delete(others, name)
				} else if n == nil && rng.IntN(100) < grow {
					others[name] = named(name)
					d.add(others[name])
				}
			}
		}
		change()
		for from := uint64(0); ; {
			ents, next := d.part(from)
			for _, n := range ents {
				delete(stay, n)
			}
			if next == 0 {
				break
			}
			if next < from {
				t.Fatalf("seed %d: part goes back from %#x to %#x", seed, from, next)
			}
			from = next
			change()
		}
		if len(stay) != 0 {
			t.Fatalf("seed %d: %d children were not met", seed, len(stay))
		}
	}
}
