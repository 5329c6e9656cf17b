//go:build interop

package configsync

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/client/apachetest"
	"github.com/paddockio/paddock/zab/wire"
)

const interopPort = 23601

// TestAgainstApache mirrors from a real server, through its restart.
func TestAgainstApache(t *testing.T) {
	zk := apachetest.Start(t, interopPort)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := startClient(t, zk.Addr+"/team")
	root := startClient(t, zk.Addr)
	create := func(path, data string) {
		t.Helper()
		if _, _, err := root.Create(ctx, path, []byte(data), nil, wire.Persistent); err != nil {
			t.Fatal(err)
		}
	}
	create("/team", "")
	create("/team/app", "")
	create("/team/app/a.conf", "1")
	create("/team/single", "s1")

	dir := t.TempDir()
	targets := []Target{
		{Name: "app", From: "/app", To: dir + "/app/", Delete: DeleteRemove, Check: ShellCommand("test -s {file}/a.conf"), Reload: ShellCommand("echo >> " + dir + "/reloads")},
		{Name: "single", From: "/single", To: dir + "/single.yaml", Mode: 0o600},
	}
	start := func() (*Mirror, func()) {
		m, err := New(Config{Client: FromClient(c), StateDir: dir + "/state", Targets: targets})
		must(t, err)
		ctx, stop := context.WithCancel(ctx)
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		return m, func() {
			stop()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	}
	m, stop := start()
	waitFor := func(path, want string) {
		t.Helper()
		for {
			b, err := os.ReadFile(dir + "/" + path)
			if err == nil && string(b) == want || err != nil && want == "" {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s has %q, want %q; %+v", path, b, want, m.Status())
			case <-time.After(time.Millisecond):
			}
		}
	}
	waitFor("app/a.conf", "1")
	waitFor("single.yaml", "s1")
	create("/team/app/d", "")
	create("/team/app/d/b", "2")
	waitFor("app/d/b", "2")

	var took []time.Duration
	for i := range 20 {
		begin := time.Now()
		want := fmt.Sprint("v", i)
		if _, err := root.Set(ctx, "/team/app/d/b", []byte(want), -1); err != nil {
			t.Fatal(err)
		}
		waitFor("app/d/b", want)
		took = append(took, time.Since(begin))
		select {
		case <-ctx.Done():
		case <-time.After(paceWindow / paceBurst):
		}
	}
	slices.Sort(took)
	t.Logf("from set to file: median %v, slowest %v", took[10], took[19])

	must(t, root.Delete(ctx, "/team/app/d/b", -1))
	waitFor("app/d/b", "")
	for range 20 { // everything at once
		if _, err := root.Multi(ctx, client.SetOp("/team/app/a.conf", []byte("m"), -1), client.SetOp("/team/single", []byte("m"), -1)); err != nil {
			t.Fatal(err)
		}
	}
	waitFor("app/a.conf", "m")
	waitFor("single.yaml", "m")

	zk.Stop()
	must(t, os.WriteFile(dir+"/single.yaml", []byte("edited while the server is away"), 0o600))
	waitFor("single.yaml", "m")
	zk.Restart()
	if _, err := root.Set(ctx, "/team/single", []byte("after"), -1); err != nil {
		t.Fatal(err)
	}
	waitFor("single.yaml", "after")

	stop()
	before, err := os.Stat(dir + "/single.yaml")
	must(t, err)
	if _, err := root.Set(ctx, "/team/app/a.conf", []byte("while away"), -1); err != nil {
		t.Fatal(err)
	}
	m, stop = start()
	waitFor("app/a.conf", "while away")
	stop()
	after, err := os.Stat(dir + "/single.yaml")
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("the unchanged file was rewritten by the restart")
	}
	if err := root.Delete(ctx, "/team/single", -1); err != nil {
		t.Fatal(err)
	}
}

func startClient(t *testing.T, servers string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Servers: servers, SessionTimeout: 10 * time.Second})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("client: %v", err)
		}
	})
	return c
}
