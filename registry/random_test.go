package registry

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab"
)

var seeds = flag.Uint64("seeds", 8, "how many random histories to run")

// Whatever happens, some time after it stops: our session owns exactly the
// znodes of what is wanted, healthy and online, one each, and the view is the
// tree (reliability.md S31).
func TestRandomTroubleEndsInWhatIsWanted(t *testing.T) {
	for seed := range *seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomTrouble(t, seed) })
		})
	}
}

func randomTrouble(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	tree := newFakeTree()
	conn := tree.connect()
	var mu sync.Mutex
	sick := map[string]bool{} // by check target
	cfg := Config{Dir: t.TempDir(), SaveEvery: time.Hour, Sources: []string{"files"}, Probe: func(_ context.Context, c Check) error {
		mu.Lock()
		defer mu.Unlock()
		if sick[c.TCP] {
			return errors.New("down")
		}
		return nil
	}}
	r, stop := start(t, conn, cfg)
	up := true

	reg := func(i int) Registration {
		g := Registration{ID: "r" + strconv.Itoa(i), Name: "pkg.S" + strconv.Itoa(i%3), Port: 1000 + i}
		if i%2 == 0 {
			g.Checks = []Check{{TCP: "127.0.0.1:" + strconv.Itoa(1000+i), Interval: Duration(time.Second), Fall: 1}}
		}
		if rng.IntN(2) == 0 {
			g.Params = map[string]string{"weight": "7"}
		}
		return g
	}
	api := map[string]Registration{}
	files := []Registration{}
	offline := map[string]bool{}

	var trace []string
	for range 40 {
		i := rng.IntN(6)
		switch what := rng.IntN(13); what {
		case 0, 1:
			g := reg(i)
			if _, err := r.Register(g); err != nil {
				t.Fatalf("%v: %v", trace, err)
			}
			api[g.ID] = g
			trace = append(trace, "register "+g.ID)
		case 2:
			id := "r" + strconv.Itoa(i)
			_ = r.Deregister(id)
			if _, ok := api[id]; ok {
				delete(api, id)
				delete(offline, id)
			}
			trace = append(trace, "deregister "+id)
		case 3:
			files = nil
			for j := 10; j < 14; j++ {
				if rng.IntN(2) == 0 {
					files = append(files, reg(j))
				}
			}
			if err := r.Replace("files", files); err != nil {
				t.Fatalf("%v: %v", trace, err)
			}
			trace = append(trace, "files "+strconv.Itoa(len(files)))
		case 4:
			id := "r" + strconv.Itoa(i)
			if r.SetOffline(id, !offline[id]) == nil {
				offline[id] = !offline[id]
			}
			trace = append(trace, "offline "+id)
		case 5:
			mu.Lock()
			target := "127.0.0.1:" + strconv.Itoa(1000+i)
			sick[target] = !sick[target]
			mu.Unlock()
			trace = append(trace, "sick "+target)
		case 6:
			if up {
				conn.disconnect()
			} else {
				conn.reconnect(rng.IntN(3) == 0) // the old session may still have its znodes
			}
			up = !up
			trace = append(trace, "connection")
		case 7:
			tree.expire(zab.SessionID(0x100 + rng.IntN(4)))
			if up && conn.SessionID() <= 0x103 {
				conn.disconnect()
				conn.reconnect(true)
			}
			trace = append(trace, "expire")
		case 8:
			dir := "/dubbo/pkg.S" + strconv.Itoa(i%3) + "/providers"
			if names := tree.children(dir); len(names) > 0 {
				tree.remove(join(dir, names[rng.IntN(len(names))]))
			}
			trace = append(trace, "foreign deletion")
		case 9:
			stop()
			if up && rng.IntN(2) == 0 {
				conn = tree.resume(conn.id)
			} else {
				conn = tree.connect() // the session file was lost
			}
			up = true
			r, stop = start(t, conn, cfg)
			if rng.IntN(2) == 0 {
				pass(time.Duration(rng.IntN(2000)) * time.Millisecond)
			}
			if err := r.Replace("files", files); err != nil {
				t.Fatalf("%v: %v", trace, err)
			}
			trace = append(trace, "restart")
		case 10:
			// Another provider, as other hosts have them.
			tree.put(provider("10.9.9."+strconv.Itoa(rng.IntN(250)), 1, "pkg.S"+strconv.Itoa(i%3), ""), 0x99)
			trace = append(trace, "other host")
		default:
			d := time.Duration(rng.IntN(3000)) * time.Millisecond
			pass(d)
			trace = append(trace, d.String())
		}
	}
	defer func() { stop() }()
	if !up {
		conn.reconnect(false)
	}
	if err := r.Replace("files", files); err != nil {
		t.Fatal(err)
	}
	pass(3 * time.Minute)

	want := map[string]int{}
	all := slices.Collect(maps.Values(api))
	for _, g := range append(all, files...) {
		if offline[g.ID] || len(g.Checks) > 0 && sick[g.Checks[0].TCP] {
			continue
		}
		g = g.withID()
		want[g.Name+" "+strconv.Itoa(g.Port)+" "+g.Params["weight"]]++
	}
	got := map[string]int{}
	session := conn.SessionID()
	tree.mu.Lock()
	for p, n := range tree.nodes {
		if n.owner != session {
			continue
		}
		q, err := ParseProvider(path.Base(p))
		if err != nil {
			t.Fatal(err)
		}
		got[q.Interface()+" "+strconv.Itoa(q.Port)+" "+q.Params.Get("weight")]++
	}
	tree.mu.Unlock()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("after %s:\nown znodes %v\nwant       %v\n%s", strings.Join(trace, ", "), got, want, states(r.List()))
	}
	for s := range 3 {
		name := "pkg.S" + strconv.Itoa(s)
		var raw []string
		v, _ := r.Lookup(name)
		for _, in := range v.Instances {
			raw = append(raw, in.Raw)
		}
		if names := tree.children("/dubbo/" + name + "/providers"); !v.Live || !slices.Equal(raw, names) {
			t.Errorf("after %s:\nview of %s (live %v) %v\ntree %v", strings.Join(trace, ", "), name, v.Live, raw, names)
		}
	}
}
