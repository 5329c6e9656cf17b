package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paddockio/paddock/agent"
	"github.com/paddockio/paddock/agent/config"
)

func TestTheExampleRegistersAndFindsItself(t *testing.T) {
	cfg := config.Default()
	cfg.Name, cfg.DataDir = "host-1", filepath.Join(t.TempDir(), "data")
	cfg.Zab.Server.Listen, cfg.DNS.Listen, cfg.Admin.Listen = "", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Registry.Services.Dir, cfg.Registry.Advertise = "", "127.0.0.1"
	a, err := agent.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	st := a.Status()
	var out strings.Builder
	if err := run(ctx, "http://"+st.Admin.Listen, st.DNS.Listen, &out); err != nil {
		t.Fatal(err)
	}
	want := "registered ticker-1\nfound ticker at 127.0.0.1 port 9001, weight 50\nderegistered ticker-1\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
