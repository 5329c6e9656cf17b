package nameserver

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// model answers what find should, from the whole list.
func model(list []string, name string) (string, found) {
	name = strings.ToLower(name)
	var same, last []string
	below := false
	for _, s := range list {
		l := strings.ToLower(s)
		switch {
		case l == name:
			same = append(same, s)
		case strings.HasSuffix(l, "."+name):
			below = true
			if !strings.Contains(name, ".") {
				last = append(last, s)
			}
		}
	}
	switch {
	case len(same) == 1:
		return same[0], exact
	case len(same) == 0 && len(last) == 1:
		return last[0], exact
	case len(same) > 0 || below:
		return "", ancestor
	}
	return "", missing
}

// TestIndexFollowsChanges compares the index, after many small changes, with
// what the list alone says.
func TestIndexFollowsChanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	segments := []string{"a", "b", "B", "c"}
	var universe []string
	for _, x := range segments {
		universe = append(universe, x)
		for _, y := range segments {
			universe = append(universe, x+"."+y)
			for _, z := range segments {
				universe = append(universe, x+"."+y+"."+z)
			}
		}
	}
	x := newIndex(slog.New(slog.DiscardHandler))
	have := make(map[string]bool)
	for gen := range uint64(300) {
		for range rng.IntN(6) {
			s := universe[rng.IntN(len(universe))]
			have[s] = !have[s]
		}
		if gen%50 == 49 {
			clear(have)
		}
		var list []string
		for s, ok := range have {
			if ok {
				list = append(list, s)
			}
		}
		slices.Sort(list)
		x.sync(gen, func() []string { return list })
		for _, name := range universe {
			labels, err := appendName(nil, name)
			if err != nil {
				t.Fatal(err)
			}
			got, kind := x.find(labels)
			want, wantKind := model(list, name)
			if got != want || kind != wantKind {
				t.Fatalf("generation %d, %q in %q: %q %v, want %q %v", gen, name, list, got, kind, want, wantKind)
			}
		}
		if len(list) == 0 && len(x.nodes) != 0 {
			t.Fatalf("generation %d: %d nodes left of an empty list", gen, len(x.nodes))
		}
	}
}

func TestIndexTakesUnsortedListsToo(t *testing.T) {
	x := newIndex(slog.New(slog.DiscardHandler))
	x.sync(1, func() []string { return []string{"b", "a", "b"} })
	x.sync(2, func() []string { return []string{"a"} })
	if len(x.nodes) != 1 {
		t.Errorf("%d nodes, want 1", len(x.nodes))
	}
}

func TestContestedNamesAreLogged(t *testing.T) {
	var b bytes.Buffer
	x := newIndex(slog.New(slog.NewTextHandler(&b, nil)))
	x.sync(1, func() []string { return []string{"a..b", "com.a.Twin", "com.b.Twin", "x.Case", "x.case"} })
	for _, want := range []string{
		`level=WARN msg="names differ in letter case only, dns answers for neither" names="[x.Case x.case]"`,
		`level=INFO msg="several names end in one segment, it is no dns alias any more" names="[com.a.Twin com.b.Twin]"`,
		`level=WARN msg="name cannot be reached by dns" name=a..b err="empty segment"`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("log\n%s\nlacks %s", b.String(), want)
		}
	}
}
