package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/paddockio/paddock/agent/admin"
	"github.com/paddockio/paddock/agent/bootstrap"
	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/agent/services"
	"github.com/paddockio/paddock/configsync"
	"github.com/paddockio/paddock/registry"
	"github.com/paddockio/paddock/registry/nameserver"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/storage"
)

// Agent is the parts of one process. Fields are set by New and only read after.
type Agent struct {
	cfg     config.Config
	log     *slog.Logger
	started time.Time
	out     io.Writer // for the user at the terminal

	bootstrap *bootstrap.Bootstrap          // nil: no gossip
	zookeeper atomic.Pointer[server.Server] // nil: role client, or it is not known yet where this host belongs
	list      atomic.Pointer[zab.Ensemble]  // the list of servers in force; nil: alone, or not known yet
	dialer    *dialer                       // nil: role client
	client    *client.Client                // nil: a ZooKeeper server and nothing else
	lock      storage.Lock                  // on the data directory; nil without a client
	session   *sessionFile
	registry  *registry.Registry
	services  *services.Loader
	mirror    *configsync.Mirror
	names     *nameserver.Server
	admin     *admin.Server

	parts []part
}

// A part runs until its context ends.
type part struct {
	name string
	run  func(context.Context) error
}

// Run builds an agent and runs it until ctx ends or a part fails. What a user
// should know at the start goes to out, the log to standard error.
func Run(ctx context.Context, cfg config.Config, out io.Writer) error {
	log := newLogger(cfg.Log, os.Stderr)
	if cfg.Dev {
		dir, err := os.MkdirTemp("", "paddock-dev-")
		if err != nil {
			return fmt.Errorf("temporary data directory: %w", err)
		}
		defer os.RemoveAll(dir)
		if cfg, err = prepareDev(cfg, dir); err != nil {
			return err
		}
	}
	a, err := New(cfg, log)
	if err != nil {
		return err
	}
	a.out = out
	if cfg.Dev {
		a.parts = append(a.parts, part{"samples", func(ctx context.Context) error { return a.serveDev(ctx, out) }})
	}
	return a.Run(ctx)
}

func newLogger(cfg config.Log, to io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.Level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(to, opts))
	}
	return slog.New(slog.NewTextHandler(to, opts))
}

// New opens what the configuration asks for: data directory, ports, files. The
// parts begin to work in Run.
func New(cfg config.Config, log *slog.Logger) (_ *Agent, err error) {
	a := &Agent{cfg: cfg, log: log, started: time.Now(), out: io.Discard}
	for _, w := range cfg.Warnings {
		log.Warn(w)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	if err := a.openServer(); err != nil {
		return nil, err
	}
	if a.wantsClient() {
		if err := a.openApps(); err != nil {
			return nil, err
		}
	}
	a.openAdmin()
	return a, nil
}

// close gives up what New took, for an agent that never ran.
func (a *Agent) close() error {
	var errs []error
	if a.bootstrap != nil {
		errs = append(errs, a.bootstrap.Close())
	}
	if zk := a.zookeeper.Load(); zk != nil {
		errs = append(errs, zk.Close())
	}
	return errors.Join(append(errs, a.unlock())...)
}

func (a *Agent) unlock() error {
	if a.lock == nil {
		return nil
	}
	return a.lock.Close()
}

// wantsClient reports whether anything beside the ZooKeeper server is switched on.
func (a *Agent) wantsClient() bool {
	return a.cfg.Registry.Root != "" || len(a.cfg.ConfigSync) > 0 || a.cfg.Dev
}

// openApps builds what lives on a ZooKeeper session: registry, name server and
// config mirror.
func (a *Agent) openApps() error {
	dir := a.cfg.DataDir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	// Two agents with one session would take it from each other without end.
	var err error
	if a.lock, err = (storage.OSFS{}).Lock(filepath.Join(dir, "agent.lock")); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	a.session = &sessionFile{path: filepath.Join(dir, "session")}
	stored, err := a.session.load()
	if err != nil {
		a.log.Warn("stored session not usable: the services of this host are registered anew", "err", err)
	}
	cc := a.cfg.Zab.Client
	cc.MaxRequest, cc.Session, cc.Logger = a.cfg.Zab.Server.MaxBuffer, stored, a.log.With("part", "client")
	if a.dialer != nil {
		// A server that swallows packets must not cost the session.
		cc.Dial, cc.ConnectTimeout = a.dialer.dial, max(cc.SessionTimeout/5, time.Second)
	}
	if a.client, err = client.New(cc); err != nil {
		return err
	}
	a.parts = append(a.parts, part{"client", a.runClient})
	if a.cfg.Registry.Root != "" {
		if err := a.openRegistry(dir); err != nil {
			return err
		}
	}
	if len(a.cfg.ConfigSync) > 0 {
		if err := a.openMirror(dir); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) openRegistry(dir string) error {
	rc, sc := a.cfg.Registry.Config, a.cfg.Registry.Services
	rc.Dir, rc.Agent, rc.Logger = filepath.Join(dir, "registry"), a.cfg.Name, a.log.With("part", "registry")
	if sc.Dir != "" {
		rc.Sources = []string{services.Source}
	}
	var err error
	if a.registry, err = registry.New(registry.Over(a.client), rc); err != nil {
		return err
	}
	a.parts = append(a.parts, part{"registry", a.registry.Run})
	if sc.Dir != "" {
		sc.StateDir, sc.Logger = filepath.Join(dir, "services"), a.log.With("part", "services")
		a.services = services.New(a.registry, sc)
		a.parts = append(a.parts, part{"services", a.services.Run})
	}
	if a.cfg.DNS.Listen == "" {
		return nil
	}
	nc := a.cfg.DNS
	nc.Directory, nc.Ready, nc.Logger = a.registry, a.registryReady, a.log.With("part", "dns")
	a.names, err = nameserver.New(nc)
	if err != nil {
		return err
	}
	if err := a.names.Listen(); err != nil {
		return a.portTaken(err, "dns.listen")
	}
	a.parts = append(a.parts, part{"dns", a.names.Run})
	return nil
}

func (a *Agent) openMirror(dir string) error {
	var err error
	a.mirror, err = configsync.New(configsync.Config{
		Targets: a.cfg.ConfigSync, Client: configsync.FromClient(a.client),
		StateDir: filepath.Join(dir, "configsync"), Logger: a.log.With("part", "configsync"),
	})
	if err != nil {
		return err
	}
	a.parts = append(a.parts, part{"configsync", a.mirror.Run})
	return nil
}

// openAdmin opens the HTTP port. A taken one costs the page and the metrics, not
// the agent: Apache's server on the same host has 8080 by default.
func (a *Agent) openAdmin() {
	if a.cfg.Admin.Listen == "" {
		return
	}
	ac := a.cfg.Admin
	ac.Source, ac.ZooKeeper, ac.Logger = a, a.zookeeper.Load(), a.log.With("part", "http")
	s, err := admin.Listen(ac)
	if err != nil {
		a.log.Warn("running without HTTP", "err", a.portTaken(err, "admin.listen"))
		return
	}
	a.admin = s
	a.parts = append(a.parts, part{"http", s.Run})
}

// portTaken says which setting helps against a port that somebody else has.
func (a *Agent) portTaken(err error, key string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w by another process: change %s", err, a.cfg.Where(key))
	}
	return err
}

// Run starts every part and waits for all of them. The first failure stops the
// rest and is returned; a canceled ctx is a clean stop and returns nil.
//
// The session of the agent is not closed: the agent that starts next takes it
// up, and until its timeout has passed nobody sees that this one is gone.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, p := range a.parts {
		wg.Go(func() {
			pprof.Do(ctx, pprof.Labels("part", p.name), func(ctx context.Context) {
				if err := p.run(ctx); err != nil {
					cancel(fmt.Errorf("%s: %w", p.name, err))
				}
			})
		})
	}
	wg.Wait()
	err := context.Cause(ctx)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, a.unlock())
}

// runClient keeps the connection, and the stored session up to date.
func (a *Agent) runClient(ctx context.Context) error {
	events, stop := a.client.SessionEvents()
	var wg sync.WaitGroup
	wg.Go(func() {
		for range events {
			if err := a.session.save(a.client.Session()); err != nil {
				a.log.Warn("session not stored: a restart will register the services of this host anew", "err", err)
			}
		}
	})
	err := a.client.Run(ctx)
	stop()
	wg.Wait()
	return err
}
