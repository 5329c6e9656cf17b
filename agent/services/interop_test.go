package services

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/registry"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// Against a real server, Apache's or ours:
//
//	PADDOCK_ZOOKEEPER=127.0.0.1:2181 go test -v -run Real ./agent/services
func TestRealDroppedFileIsRegisteredWithin200ms(t *testing.T) {
	addr := os.Getenv("PADDOCK_ZOOKEEPER")
	if addr == "" {
		t.Skip("PADDOCK_ZOOKEEPER does not name a server")
	}
	root := fmt.Sprintf("/services-test-%d", time.Now().UnixNano())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	dial := func() *client.Client {
		c, err := client.New(client.Config{Servers: addr})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = c.Run(ctx) })
		return c
	}
	agent, admin := dial(), dial()
	state := t.TempDir()
	r, err := registry.New(registry.Over(agent), registry.Config{Root: root, Dir: state, Advertise: "127.0.0.1", Sources: []string{Source}})
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { _ = r.Run(ctx) })
	dir := t.TempDir()
	l := New(r, Config{Dir: dir, StateDir: state})
	wg.Go(func() { _ = l.Run(ctx) })

	w, err := admin.AddWatch(ctx, root, wire.WatchPersistentRecursive)
	if err != nil {
		t.Fatal(err)
	}
	wait := func(typ wire.EventType) time.Duration {
		start := time.Now()
		deadline := time.After(30 * time.Second)
		for {
			select {
			case ev := <-w.Events():
				if ev.Type == typ && filepath.Base(filepath.Dir(ev.Path)) == "providers" {
					return time.Since(start)
				}
			case <-deadline:
				t.Fatal("no event")
			}
		}
	}
	var up, down []time.Duration
	for i := range 20 {
		name := filepath.Join(dir, "a.yaml")
		if err := os.WriteFile(name, fmt.Appendf(nil, "service: {name: org.demo.S%d, port: 1}\n", i), 0o644); err != nil {
			t.Fatal(err)
		}
		up = append(up, wait(wire.EventNodeCreated))
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		down = append(down, wait(wire.EventNodeDeleted))
	}
	slices.Sort(up)
	slices.Sort(down)
	t.Logf("file to znode: median %v, worst %v; removal: median %v, worst %v", up[10], up[19], down[10], down[19])
	if up[10] > 200*time.Millisecond {
		t.Errorf("median %v", up[10])
	}
}
