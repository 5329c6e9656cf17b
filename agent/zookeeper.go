package agent

import (
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/agent/bootstrap"
	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/server"
)

// openServer opens gossip, if that is switched on, and the server of this host,
// if it is known where it belongs; else that waits until Run knows.
func (a *Agent) openServer() error {
	if a.cfg.Zab.Role == config.RoleClient {
		return a.openBootstrap(server.Config{})
	}
	sc, err := serverConfig(a.cfg, a.log.With("part", "zookeeper"))
	if err != nil {
		return err
	}
	store := sc.OnEnsemble
	sc.OnEnsemble = func(e *zab.Ensemble) error {
		if store != nil {
			if err := store(e); err != nil {
				a.log.Error("list of servers not stored: the next start will begin with an older one", "err", err)
			}
		}
		return a.newList(e)
	}
	a.dialer = &dialer{local: a.zookeeper.Load, why: a.waiting, list: a.list.Load, log: a.log.With("part", "client")}
	if err := a.openBootstrap(sc); err != nil {
		return err
	}
	if a.bootstrap != nil && sc.Ensemble == nil {
		a.parts = append(a.parts, part{"zookeeper", func(ctx context.Context) error { return a.runMember(ctx, sc) }})
		return nil
	}
	if err := a.openZooKeeper(sc); err != nil {
		return err
	}
	a.parts = append(a.parts, part{"zookeeper", a.zookeeper.Load().Run})
	return nil
}

// openZooKeeper opens the server.
func (a *Agent) openZooKeeper(sc server.Config) error {
	zk, err := server.Open(sc)
	if err != nil {
		return a.portTaken(err, "zab.client_listen")
	}
	a.list.Store(sc.Ensemble)
	a.zookeeper.Store(zk)
	if a.admin != nil {
		a.admin.SetZooKeeper(zk)
	}
	return nil
}

// runMember waits until the place of this host is known, however long that takes,
// and runs its server.
func (a *Agent) runMember(ctx context.Context, sc server.Config) error {
	o, err := a.awaitPlace(ctx)
	if err != nil {
		return nil // ctx has ended
	}
	sc.ID, sc.Storage.ServerID, sc.Ensemble = o.ID, o.ID, o.Ensemble
	if err := a.openZooKeeper(sc); err != nil {
		return err
	}
	return a.zookeeper.Load().Run(ctx)
}

// sayEvery is how often a waiting agent looks for another reason to tell.
const sayEvery = 200 * time.Millisecond

// awaitPlace tells the user what is waited for.
func (a *Agent) awaitPlace(ctx context.Context) (bootstrap.Outcome, error) {
	said := ""
	for {
		soon, cancel := context.WithTimeout(ctx, sayEvery)
		o, err := a.bootstrap.Wait(soon)
		cancel()
		switch {
		case ctx.Err() != nil:
			return o, context.Cause(ctx)
		case err == nil:
			a.say("server %d of ensemble %s, %s; voters are %s", o.ID, a.cfg.Bootstrap.Cluster, o.Role, ids(o.Ensemble.Voters()))
			return o, nil
		}
		if why := a.bootstrap.Status().Reason; why != "" && why != said {
			a.say("waiting for ensemble %s: %s", a.cfg.Bootstrap.Cluster, why)
			said = why
		}
	}
}

// say tells the user at the terminal, if there is one.
func (a *Agent) say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.out, a.cfg.Name+": "+format+"\n", args...) // the log has it too
}

func ids(list []zab.ServerID) string {
	var text []string
	for _, id := range slices.Sorted(slices.Values(list)) {
		text = append(text, fmt.Sprint(id))
	}
	return strings.Join(text, ", ")
}

// newList takes over a list of servers that has come into force.
func (a *Agent) newList(e *zab.Ensemble) error {
	a.list.Store(e)
	if a.bootstrap != nil {
		return a.bootstrap.Update(e)
	}
	return nil
}

// serverConfig completes the settings of the server. Without a list of servers,
// and with gossip, its place comes later; ID is then the one that it shall have,
// 0 for any.
func serverConfig(cfg config.Config, log *slog.Logger) (server.Config, error) {
	z := cfg.Zab
	gossips := cfg.Bootstrap.Cluster != ""
	sc := z.Server
	sc.Version, sc.InitialConfig = api.BuildVersion().ZooKeeperText(), cfg.Text
	sc.Storage.DataDir = cmp.Or(sc.Storage.DataDir, filepath.Join(cfg.DataDir, "zab"))
	sc.Logger = log
	if sc.Ensemble == nil {
		list, err := config.ParseEnsemble(z.Servers)
		if err != nil {
			return sc, fmt.Errorf("%s: %w", cfg.Where("zab.servers"), err)
		}
		if len(list.Members) > 1 || len(list.Members) == 1 && (sc.StandaloneDisabled || gossips) {
			sc.Ensemble = &list
		}
	}
	if sc.Ensemble == nil && z.Role == config.RoleObserver && !gossips {
		return sc, fmt.Errorf("%s: an observer needs the list of the servers that it observes", cfg.Where("zab.role"))
	}
	if sc.ID == 0 && (sc.Ensemble != nil || gossips) {
		file := filepath.Join(sc.Storage.DataDir, "myid")
		id, err := config.ReadMyID(file)
		switch {
		case err == nil:
			sc.ID = zab.ServerID(id)
		case sc.Ensemble != nil:
			return sc, fmt.Errorf("which of the servers in %s is this one: set zab.id, or write its number to %s: %w", cfg.Where("zab.servers"), file, err)
		case !errors.Is(err, fs.ErrNotExist):
			return sc, err
		}
	}
	sc.Storage.ServerID = sc.ID
	if !gossips {
		return sc, nil
	}
	if sc.Ensemble == nil {
		// Hosts that come later put themselves on the list; and an empty directory is
		// a lost one, but for the first ensemble.
		sc.ReconfigEnabled, sc.Storage.NoAutoCreate = true, true
	}
	auth, err := config.ReadAuth(cfg.Bootstrap.AuthFile)
	if err != nil {
		return sc, fmt.Errorf("%s: %w", cfg.Where("bootstrap.auth_file"), err)
	}
	sc.Znode.SuperDigest = cmp.Or(sc.Znode.SuperDigest, superDigest(auth))
	return sc, nil
}

// superDigest makes the super user's digest out of its password, "" if the
// identities are of others.
func superDigest(auth []client.Auth) string {
	for _, a := range auth {
		if user, _, ok := strings.Cut(string(a.Data), ":"); ok && a.Scheme == "digest" && user == "super" {
			sum := sha1.Sum(a.Data)
			return user + ":" + base64.StdEncoding.EncodeToString(sum[:])
		}
	}
	return ""
}
