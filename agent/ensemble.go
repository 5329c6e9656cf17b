package agent

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"

	"github.com/paddockio/paddock/agent/bootstrap"
	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/zab/server"
)

// openBootstrap begins to gossip, if that is switched on. sc is the server of
// this agent, as far as it is known.
func (a *Agent) openBootstrap(sc server.Config) error {
	if a.cfg.Bootstrap.Cluster == "" {
		return nil
	}
	bc, err := bootstrapConfig(a.cfg, sc, a.log.With("part", "bootstrap"))
	if err != nil {
		return err
	}
	if a.bootstrap, err = bootstrap.New(bc); err != nil {
		return a.portTaken(err, "bootstrap.listen")
	}
	a.parts = append(a.parts, part{"bootstrap", a.bootstrap.Run})
	return nil
}

// bootstrapConfig completes the settings of gossip by those of the server.
func bootstrapConfig(cfg config.Config, sc server.Config, log *slog.Logger) (bootstrap.Config, error) {
	bc := cfg.Bootstrap.Config
	auth, err := config.ReadAuth(cfg.Bootstrap.AuthFile)
	if err != nil {
		return bc, fmt.Errorf("%s: %w", cfg.Where("bootstrap.auth_file"), err)
	}
	bc.Name, bc.Logger, bc.Registrar = cfg.Name, log, &registrar{auth}
	bc.Role = map[config.Role]bootstrap.Role{
		config.RoleAuto: bootstrap.RoleAuto, config.RoleVoter: bootstrap.RoleVoter,
		config.RoleObserver: bootstrap.RoleObserver, config.RoleClient: bootstrap.RoleClient,
	}[cfg.Zab.Role]
	if bc.Role == bootstrap.RoleClient {
		bc.DataDir = filepath.Join(cfg.DataDir, "bootstrap")
		return bc, nil
	}
	bc.ID, bc.DataDir, bc.LogDir, bc.MustExist = sc.ID, sc.Storage.DataDir, sc.Storage.LogDir, sc.Storage.MustExist
	if host, port, err := net.SplitHostPort(sc.Listen); err == nil {
		if host == "" {
			host = "0.0.0.0"
		}
		bc.ClientAddr = net.JoinHostPort(host, port)
	}
	bc.Ensemble = sc.Ensemble
	return bc, nil
}
