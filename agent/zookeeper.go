package agent

import (
	"cmp"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/zab/server"
)

// serverConfig completes the settings of the server.
func serverConfig(cfg config.Config, log *slog.Logger) (server.Config, error) {
	z := cfg.Zab
	if n := len(z.Servers); n > 1 {
		return server.Config{}, fmt.Errorf("%s: an ensemble of several servers (%d lines) is not supported by this version: run a server alone, or role client with zab.connect", cfg.Where("zab.servers"), n)
	}
	if z.Role == config.RoleObserver {
		return server.Config{}, fmt.Errorf("%s: an observer of an ensemble is not supported by this version: run a server alone, or role client with zab.connect", cfg.Where("zab.role"))
	}
	if cfg.Bootstrap.Cluster != "" {
		return server.Config{}, fmt.Errorf("%s: a server of an ensemble that gossip finds is not supported by this version: run a server alone, or role client with zab.connect", cfg.Where("bootstrap.cluster"))
	}
	sc := z.Server
	sc.Version, sc.InitialConfig = api.BuildVersion().ZooKeeperText(), cfg.Text
	sc.Storage.ServerID = sc.ID
	sc.Storage.DataDir = cmp.Or(sc.Storage.DataDir, filepath.Join(cfg.DataDir, "zab"))
	sc.Logger = log
	return sc, nil
}
