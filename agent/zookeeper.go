package agent

import (
	"cmp"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/server"
)

// serverConfig completes the settings of the server.
func serverConfig(cfg config.Config, log *slog.Logger) (server.Config, error) {
	z := cfg.Zab
	if cfg.Bootstrap.Cluster != "" {
		return server.Config{}, fmt.Errorf("%s: a server of an ensemble that gossip finds is not supported by this version: run a server alone, or role client with zab.connect", cfg.Where("bootstrap.cluster"))
	}
	sc := z.Server
	sc.Version, sc.InitialConfig = api.BuildVersion().ZooKeeperText(), cfg.Text
	sc.Storage.DataDir = cmp.Or(sc.Storage.DataDir, filepath.Join(cfg.DataDir, "zab"))
	sc.Logger = log
	if sc.Ensemble == nil {
		list, err := config.ParseEnsemble(z.Servers)
		if err != nil {
			return sc, fmt.Errorf("%s: %w", cfg.Where("zab.servers"), err)
		}
		if len(list.Members) > 1 || len(list.Members) == 1 && sc.StandaloneDisabled {
			sc.Ensemble = &list
		}
	}
	switch {
	case sc.Ensemble == nil && z.Role == config.RoleObserver:
		return sc, fmt.Errorf("%s: an observer needs the list of the servers that it observes", cfg.Where("zab.role"))
	case sc.Ensemble != nil && sc.ID == 0:
		file := filepath.Join(sc.Storage.DataDir, "myid")
		id, err := config.ReadMyID(file)
		if err != nil {
			return sc, fmt.Errorf("which of the servers in %s is this one: set zab.id, or write its number to %s: %w", cfg.Where("zab.servers"), file, err)
		}
		sc.ID = zab.ServerID(id)
	}
	sc.Storage.ServerID = sc.ID
	return sc, nil
}
