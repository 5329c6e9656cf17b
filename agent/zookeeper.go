package agent

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/znode"
)

// serverConfig turns the settings into those of a server.
func serverConfig(cfg config.Config, log *slog.Logger) (server.Config, error) {
	z := cfg.Zab
	if z.Role == config.RoleObserver || len(z.Servers) > 1 {
		return server.Config{}, fmt.Errorf("zab: an ensemble of several servers (%d listed, role %s) is not supported by this version: leave zab.servers empty, or use role client with zab.connect", len(z.Servers), z.Role)
	}
	dataDir := z.DataDir
	if dataDir == "" {
		dataDir = filepath.Join(cfg.DataDir, "zab")
	}
	sc := server.Config{
		ID: zab.ServerID(z.ID), Listen: z.ClientListen,
		TickTime: z.TickTime, MinSessionTimeout: z.MinSessionTimeout, MaxSessionTimeout: z.MaxSessionTimeout,
		MaxClientCnxns: z.MaxClientConnections, MaxCnxns: z.MaxConnections, MaxBuffer: int(z.JuteMaxBuffer),
		FourLetterWords: z.FourLetterWords, SnapRetain: z.AutopurgeRetain, PurgeInterval: z.AutopurgeInterval,
		ContainerInterval: z.ContainerCheckInterval, Logger: log,
		Version: api.BuildVersion().ZooKeeperText(),
		Znode: znode.Config{
			SkipACL: z.SkipACL, ExtendedTypes: z.ExtendedTypes, EnforceQuota: z.EnforceQuota,
			SuperDigest: z.SuperDigest, Digest: z.DigestEnabled,
		},
		Storage: storage.Config{
			DataDir: dataDir, LogDir: z.LogDir, ServerID: zab.ServerID(z.ID),
			NoAutoCreate: !z.AutoCreateDB, PreallocBytes: int64(z.PreAllocSize),
			SnapCount: int64(z.SnapCount), SnapSizeBytes: int64(z.SnapSizeLimit), NoForceSync: !z.ForceSync,
			SlowSync: z.FsyncWarning, Logger: log,
		},
	}
	if sc.MaxClientCnxns == 0 {
		sc.MaxClientCnxns = -1 // no limit
	}
	if sc.PurgeInterval == 0 {
		sc.PurgeInterval = -1 // never
	}
	return sc, nil
}
