// Mixed makes one ensemble of two Apache ZooKeeper servers and one paddock agent.
// The agent votes, follows and leads like the others, and brings along what
// agents do: the service that it registers is seen on the Apache servers, and
// stays while the agent is away for a moment.
//
// It needs Java, and Debian's package libzookeeper-java or another class path:
//
//	go run ./examples/mixed -apache /usr/share/java/zookeeper.jar
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/paddockio/paddock/examples/local"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

func main() {
	apache := flag.String("apache", local.DebianClasspath, "class path of Apache's server")
	flag.Parse()
	local.Main("mixed", func(ctx context.Context, dir string) error {
		binary, err := local.Build(ctx, dir)
		if err != nil {
			return err
		}
		return run(ctx, dir, local.Apache(*apache), binary, os.Stdout)
	})
}

// agentYAML is all that an agent needs to be a member of an ensemble that has a
// zoo.cfg.
const agentYAML = `name: host-3
data_dir: %[1]s/agent
zab: {zoo_cfg: %[1]s/zoo.cfg, session_timeout: 10s}
registry: {services_dir: %[1]s/services.d, advertise: 127.0.0.1}
dns: {listen: ""}
admin: {listen: ""}
`

const shopYAML = "service: {name: shop, protocol: http, port: 9000}\n"

func run(ctx context.Context, dir string, apache local.Program, binary string, out io.Writer) error {
	servers, err := local.Ensemble(dir, 3)
	if err != nil {
		return err
	}
	first, second, third := servers[0], servers[1], servers[2]
	for _, s := range servers {
		defer s.Kill()
	}
	agent := filepath.Join(third.Dir, "agent.yaml")
	err = errors.Join(os.Mkdir(filepath.Join(third.Dir, "services.d"), 0o755),
		os.WriteFile(filepath.Join(third.Dir, "services.d", "shop.yaml"), []byte(shopYAML), 0o644),
		os.WriteFile(agent, fmt.Appendf(nil, agentYAML, third.Dir), 0o644))
	if err != nil {
		return err
	}
	startAgent := func() error {
		return third.Run(filepath.Join(third.Dir, "agent.log"), binary, "agent", "-config", agent)
	}
	show := func(what string) error {
		leader, err := local.Leader(ctx, servers)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: server %d leads\n", what, leader.ID)
		return nil
	}

	// Of two that agree the one with the higher id leads.
	if err := errors.Join(first.Start(apache), startAgent()); err != nil {
		return err
	}
	if err := show("Apache and the agent"); err != nil {
		return err
	}
	if err := second.Start(apache); err != nil {
		return err
	}
	if err := show("two of Apache and the agent"); err != nil {
		return err
	}
	provider, err := awaitProvider(ctx, first)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the agent's service on server 1: %s\n", provider)

	if err := third.Stop(); err != nil {
		return err
	}
	if err := show("without the agent"); err != nil {
		return err
	}
	if provider, err = awaitProvider(ctx, second); err != nil {
		return err
	}
	fmt.Fprintf(out, "its service on server 2, as its session lives: %s\n", provider)

	if err := startAgent(); err != nil {
		return err
	}
	if err := show("the agent is back"); err != nil {
		return err
	}
	second.Kill()
	return show("server 2 is killed")
}

// awaitProvider waits until a server has the service, and returns its address.
func awaitProvider(ctx context.Context, s *local.Server) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := client.New(client.Config{Servers: s.Addr})
	if err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for {
		names, _, err := c.Children(ctx, "/dubbo/shop/providers")
		switch {
		case err == nil && len(names) == 1:
			text, err := url.QueryUnescape(names[0])
			if err != nil {
				return "", err
			}
			u, err := url.Parse(text)
			if err != nil {
				return "", err
			}
			return u.Scheme + "://" + u.Host, c.CloseSession(ctx)
		case err != nil && !errors.Is(err, wire.ErrNoNode):
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("no provider on server %d: %w", s.ID, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
