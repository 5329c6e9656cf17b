package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paddockio/paddock/agent/bootstrap"
	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/storage"
)

func TestBootstrapTakesTheSettingsOfTheServer(t *testing.T) {
	dir := t.TempDir()
	auth := filepath.Join(dir, "auth")
	if err := os.WriteFile(auth, []byte("digest:super:secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Name, cfg.DataDir, cfg.Zab.Role = "host-1", dir, config.RoleVoter
	cfg.Bootstrap.Cluster, cfg.Bootstrap.Expect, cfg.Bootstrap.AuthFile = "demo", 3, auth
	sc := server.Config{ID: 7, Listen: ":2181", Storage: storage.Config{DataDir: "/data", LogDir: "/log", MustExist: true}}
	bc, err := bootstrapConfig(cfg, sc, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if bc.Name != "host-1" || bc.Role != bootstrap.RoleVoter || bc.ID != 7 || bc.ClientAddr != "0.0.0.0:2181" ||
		bc.DataDir != "/data" || bc.LogDir != "/log" || !bc.MustExist || bc.Ensemble != nil || bc.Expect != 3 {
		t.Errorf("got %+v", bc)
	}
	if r := bc.Registrar.(*registrar); len(r.auth) != 1 || string(r.auth[0].Data) != "super:secret" {
		t.Errorf("the registrar is %+v", r.auth)
	}
	if err := bc.Validate(); err != nil {
		t.Error(err)
	}
	if sc.Ensemble, err = zab.ParseEnsemble("server.7=h:2888:3888;2181\n"); err != nil {
		t.Fatal(err)
	}
	if bc, err = bootstrapConfig(cfg, sc, slog.New(slog.DiscardHandler)); err != nil || bc.Ensemble == nil || !bc.Ensemble.IsVoter(7) {
		t.Errorf("with a list: %v, %v", bc.Ensemble, err)
	}
	cfg.Zab.Role = config.RoleClient
	if bc, err = bootstrapConfig(cfg, server.Config{}, slog.New(slog.DiscardHandler)); err != nil || bc.Role != bootstrap.RoleClient || bc.ClientAddr != "" {
		t.Errorf("of a client: %+v, %v", bc, err)
	}
	if err := bc.Validate(); err != nil {
		t.Error(err)
	}
	cfg.Bootstrap.AuthFile = filepath.Join(dir, "nowhere")
	if _, err = bootstrapConfig(cfg, sc, nil); err == nil || !strings.Contains(err.Error(), "bootstrap.auth_file") {
		t.Errorf("without the file: %v", err)
	}
}

func TestGossipOfAClientIsAPart(t *testing.T) {
	cfg := config.Default()
	cfg.Name, cfg.DataDir, cfg.Zab.Role, cfg.Zab.Client.Servers = "host-1", t.TempDir(), config.RoleClient, "127.0.0.1:1"
	cfg.Registry.Services.Dir, cfg.DNS.Listen, cfg.Admin.Listen = "", "", ""
	cfg.Bootstrap.Cluster, cfg.Bootstrap.Listen = "demo", "127.0.0.1:0"
	a, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	if o, err := a.bootstrap.Wait(ctx); err != nil || o.Role != bootstrap.RoleClient {
		t.Errorf("got %+v, %v", o, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRegistrarOfAServerAlone asks a server that has no list of servers.
func TestRegistrarOfAServerAlone(t *testing.T) {
	s, err := server.Open(server.Config{Listen: "127.0.0.1:0", Storage: storage.Config{DataDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	ask, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r := &registrar{}
	addrs := []string{"127.0.0.1:1", s.Addr().String()} // nobody is at the first
	if e, err := r.Read(ask, addrs); err == nil || !strings.Contains(err.Error(), "is alone") {
		t.Errorf("read %v, %v", e, err)
	}
	m := zab.Member{ID: 4, Addrs: []zab.MemberAddr{{Host: "h", QuorumPort: 2888, ElectionPort: 3888}}, Observer: true}
	if e, err := r.Add(ask, addrs, m, 0); err == nil || !strings.Contains(err.Error(), "disabled") {
		t.Errorf("added %v, %v", e, err)
	}
}
