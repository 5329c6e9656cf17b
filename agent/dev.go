package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/configsync"
	"github.com/paddockio/paddock/examples/quickstart"
	"github.com/paddockio/paddock/registry/nameserver"
	"github.com/paddockio/paddock/zab/wire"
)

// devConfigRoot is where the sample configuration stands in the tree.
const devConfigRoot = "/config/app"

// prepareDev puts the samples of -dev into dir and points the settings at them.
func prepareDev(cfg config.Config, dir string) (config.Config, error) {
	cfg.DataDir = filepath.Join(dir, "data")
	if cfg.Registry.Services.Dir == "" {
		cfg.Registry.Services.Dir = filepath.Join(dir, "services.d")
		samples, err := fs.Sub(quickstart.Files, "services.d")
		if err == nil {
			err = os.CopyFS(cfg.Registry.Services.Dir, samples)
		}
		if err != nil {
			return cfg, fmt.Errorf("sample services: %w", err)
		}
	}
	if len(cfg.ConfigSync) == 0 {
		cfg.ConfigSync = []configsync.Target{{Name: "app", From: devConfigRoot, To: filepath.Join(dir, "app") + "/", Tree: true}}
	}
	return cfg, nil
}

// serveDev makes the sample znodes and says what to try.
func (a *Agent) serveDev(ctx context.Context, out io.Writer) error {
	names, err := a.seed(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if len(names) > 0 {
		a.waitForSample(ctx, filepath.Join(a.cfg.ConfigSync[0].To, names[0]))
	}
	a.banner(out, names)
	return nil
}

// seed creates the znodes of the sample configuration and returns their names.
func (a *Agent) seed(ctx context.Context) (names []string, err error) {
	create := func(path string, data []byte) error {
		_, _, err := a.client.Create(ctx, path, data, nil, wire.Persistent)
		if errors.Is(err, wire.ErrNodeExists) {
			return nil
		}
		return err
	}
	at := ""
	for _, elem := range strings.Split(devConfigRoot[1:], "/") {
		at += "/" + elem
		if err := create(at, nil); err != nil {
			return nil, err
		}
	}
	err = fs.WalkDir(quickstart.Files, "config", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := quickstart.Files.ReadFile(name)
		if err != nil {
			return err
		}
		names = append(names, path.Base(name))
		return create(devConfigRoot+"/"+path.Base(name), data)
	})
	return names, err
}

// waitForSample lets the banner come when what it names is there; it gives up
// after a moment.
func (a *Agent) waitForSample(ctx context.Context, file string) {
	deadline := time.After(3 * time.Second)
	for {
		_, err := os.Stat(file)
		if err == nil && len(a.registry.Services()) > 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-deadline:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (a *Agent) banner(out io.Writer, names []string) {
	zk := fmt.Sprintf("127.0.0.1:%d", a.zookeeper.Port())
	fmt.Fprintf(out, "\npaddock is up: one voter, everything in %s, removed at the end.\n\n", filepath.Dir(a.cfg.DataDir))
	row := func(what, where, try string) { fmt.Fprintf(out, "  %-10s %-32s %s\n", what, where, try) }
	row("ZooKeeper", zk, "zkCli.sh -server "+zk+" ls -R /dubbo")
	if a.names != nil {
		host := a.names.Addr()
		for _, service := range a.registry.Services() {
			if view, ok := a.registry.Lookup(service); ok {
				if n, err := nameserver.Names(a.cfg.DNS.Domain, view); err == nil {
					row("DNS", host.String(), fmt.Sprintf("dig @%s -p %d SRV %s +short", host.Addr(), host.Port(), n.Name))
					break
				}
			}
		}
	}
	if a.admin != nil {
		row("HTTP", a.admin.Addr().String(), "curl http://"+a.admin.Addr().String()+"/v1/services")
	}
	row("services", "one file each", "ls "+a.cfg.Registry.Services.Dir)
	if len(names) > 0 {
		file := filepath.Join(a.cfg.ConfigSync[0].To, names[0])
		row("config", devConfigRoot+"/"+names[0], "cat "+file)
		fmt.Fprintf(out, "\nChange the file everywhere by its znode:\n  go run . cli -server %s set %s/%s greeting=hi && cat %s\n", zk, devConfigRoot, names[0], file)
	}
	fmt.Fprintf(out, "Add a service by a file:\n  printf 'service: {name: shop, protocol: http, port: 9000}' > %s/shop.yaml\n\nStop with Ctrl-C.\n", a.cfg.Registry.Services.Dir)
}
