package agent

import (
	"cmp"
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
	sample, err := a.seed(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	a.waitForSamples(ctx, sample)
	if ctx.Err() == nil {
		a.banner(out, sample)
	}
	return nil
}

// sampleTo is the directory of the sample configuration, "" if the user has
// targets of his own.
func (a *Agent) sampleTo() string {
	if t := a.cfg.ConfigSync[0]; t.From == devConfigRoot && t.Tree {
		return t.To
	}
	return ""
}

// seed creates the znodes of the sample configuration and returns the name of one.
func (a *Agent) seed(ctx context.Context) (sample string, err error) {
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
			return "", err
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
		sample = path.Base(name)
		return create(devConfigRoot+"/"+sample, data)
	})
	return sample, err
}

// waitForSamples lets the banner come when what it names is there; it gives up
// after a moment.
func (a *Agent) waitForSamples(ctx context.Context, sample string) {
	there := func() bool {
		if to := a.sampleTo(); to != "" {
			if _, err := os.Stat(filepath.Join(to, sample)); err != nil {
				return false
			}
		}
		return a.registry == nil || len(a.registry.Services()) > 0
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for !there() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// banner prints commands that can be pasted as they are.
func (a *Agent) banner(out io.Writer, sample string) {
	self := selfCommand(os.Args[0])
	cli := self + " cli"
	if port := a.zookeeper.Load().Port(); port != 2181 {
		cli = fmt.Sprintf("%s -server 127.0.0.1:%d", cli, port)
	}
	fmt.Fprintf(out, "\npaddock is up: one voter, everything in %s, removed at the end.\n\n", filepath.Dir(a.cfg.DataDir))
	row := func(what, where, try string) { fmt.Fprintf(out, "  %-10s %-16s %s\n", what, where, try) }
	row("ZooKeeper", fmt.Sprintf("127.0.0.1:%d", a.zookeeper.Load().Port()), cli+" ls -R "+cmp.Or(a.cfg.Registry.Root, "/"))
	if name := a.sampleName(); name != "" {
		at := a.names.Addr()
		row("DNS", at.String(), fmt.Sprintf("dig @%s -p %d SRV %s +short", at.Addr(), at.Port(), name))
	}
	if a.admin != nil {
		row("HTTP", a.admin.Addr().String(), "curl http://"+a.admin.Addr().String()+"/v1/services")
	}
	if dir := a.cfg.Registry.Services.Dir; dir != "" {
		row("services", "a file each", "cat "+dir+"/*")
		fmt.Fprintf(out, "\nAdd a service by a file:\n  echo 'service: {name: shop, protocol: http, port: 9000}' > %s/shop.yaml\n", dir)
	}
	if to := a.sampleTo(); to != "" {
		fmt.Fprintf(out, "\nChange a file by its znode:\n  %s set %s/%s greeting=hi && sleep 1 && cat %s\n",
			cli, devConfigRoot, sample, filepath.Join(to, sample))
	}
	fmt.Fprint(out, "\nStop with Ctrl-C.\n")
}

// sampleName is a name that the name server answers, "" if there is none.
func (a *Agent) sampleName() string {
	if a.names == nil {
		return ""
	}
	for _, service := range a.registry.Services() {
		if view, ok := a.registry.Lookup(service); ok {
			if n, err := nameserver.Names(a.cfg.DNS.Domain, view); err == nil {
				return strings.TrimSuffix(n.Name, ".")
			}
		}
	}
	return ""
}

// selfCommand is how a user calls this program, whose name in the process table
// is arg0. `go run` builds it in a directory of its own.
func selfCommand(arg0 string) string {
	for dir := range strings.SplitSeq(filepath.ToSlash(arg0), "/") {
		if strings.HasPrefix(dir, "go-build") {
			return "go run ."
		}
	}
	return arg0
}
