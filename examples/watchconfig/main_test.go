package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/agent"
	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/configsync"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

func TestTheExampleFollowsTheZnode(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "app.properties")
	cfg := config.Default()
	cfg.Name, cfg.DataDir = "host-1", filepath.Join(dir, "data")
	cfg.Zab.Server.Listen, cfg.DNS.Listen, cfg.Admin.Listen, cfg.Registry.Root = "127.0.0.1:0", "", "", ""
	cfg.ConfigSync = []configsync.Target{{Name: "app", From: "/app", To: file}}
	a, err := agent.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Servers: a.Status().Zab.ClientAddr})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() { _ = c.Run(ctx) }) // ends with ctx
	r, w := io.Pipe()
	defer r.Close()
	wg.Go(func() {
		follow(ctx, file, 5*time.Millisecond, w)
		w.Close()
	})
	time.AfterFunc(20*time.Second, cancel) // then there are no more lines

	if _, _, err := c.Create(ctx, "/app", []byte("greeting=hello\n"), nil, wire.Persistent); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(r)
	expect := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("line %q, want %q", lines.Text(), want)
		}
	}
	expect("greeting is hello")
	if _, err := c.Set(ctx, "/app", []byte("greeting=hi\n"), -1); err != nil {
		t.Fatal(err)
	}
	expect("greeting is hi")
	if _, err := c.Set(ctx, "/app", []byte("colour=red\n"), -1); err != nil {
		t.Fatal(err)
	}
	expect("keeping what I have: " + file + ": no greeting")
}
