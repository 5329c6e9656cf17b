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
	if z.Role == config.RoleObserver || len(z.Servers) > 1 {
		return server.Config{}, fmt.Errorf("zab: an ensemble of several servers (%d listed, role %s) is not supported by this version: leave zab.servers empty, or use role client with zab.connect", len(z.Servers), z.Role)
	}
	sc := z.Server
	sc.Version, sc.InitialConfig = api.BuildVersion().ZooKeeperText(), cfg.Text
	sc.Storage.ServerID = sc.ID
	sc.Storage.DataDir = cmp.Or(sc.Storage.DataDir, filepath.Join(cfg.DataDir, "zab"))
	sc.Logger = log
	return sc, nil
}
