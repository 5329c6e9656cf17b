// Ensemble runs three agents on this machine, as if they were three hosts. Each
// knows nothing but where the others gossip. They find each other, agree on one
// ensemble, once, and elect a leader.
//
//	go run ./examples/ensemble
//
// It prints where each of them answers, and stops them on ^C.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/paddockio/paddock/examples/local"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

func main() {
	local.Main("ensemble", func(ctx context.Context, dir string) error {
		binary, err := local.Build(ctx, dir)
		if err != nil {
			return err
		}
		return run(ctx, dir, binary, os.Stdout)
	})
}

// An agent is one of the three.
type agent struct {
	local.Process
	name      string
	zookeeper string
	admin     string
}

const agentYAML = `name: %[1]s
data_dir: %[2]s
zab: {client_listen: "%[3]s", tick_time: 500ms}
bootstrap: {cluster: demo, listen: "%[4]s", join: ["%[5]s"], expect: 3, quorum_port: %[6]d, election_port: %[7]d}
registry: {services_dir: ""}
dns: {listen: ""}
admin: {listen: "%[8]s"}
`

// run starts the agents and waits until ctx ends.
func run(ctx context.Context, dir, binary string, out io.Writer) error {
	const n = 3
	ports, err := local.Ports(5 * n)
	if err != nil {
		return err
	}
	at := func(i, k int) string { return fmt.Sprintf("127.0.0.1:%d", ports[5*i+k]) }
	gossip := strings.Join([]string{at(0, 0), at(1, 0), at(2, 0)}, `", "`)
	var agents []*agent
	for i := range n {
		a := &agent{name: fmt.Sprintf("host-%d", i+1), zookeeper: at(i, 1), admin: at(i, 2)}
		home := filepath.Join(dir, a.name)
		if err := os.MkdirAll(home, 0o755); err != nil {
			return err
		}
		file := filepath.Join(home, "agent.yaml")
		text := fmt.Sprintf(agentYAML, a.name, filepath.Join(home, "data"), a.zookeeper, at(i, 0), gossip, ports[5*i+3], ports[5*i+4], a.admin)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		if err := a.Run(filepath.Join(home, "agent.log"), binary, "agent", "-config", file); err != nil {
			return err
		}
		defer a.Kill()
		agents = append(agents, a)
	}
	for _, a := range agents {
		mode, err := serving(ctx, a)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s is %s: ZooKeeper on %s, HTTP on http://%s\n", a.name, mode, a.zookeeper, a.admin)
	}
	text, err := hello(ctx, agents[0], agents[2])
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "written through %s, read through %s: %s\n", agents[0].name, agents[2].name, text)
	fmt.Fprintf(out, "try: go run . members -server %s\nstop with ^C\n", agents[0].zookeeper)
	<-ctx.Done()
	for _, a := range agents {
		if err := a.Stop(); err != nil {
			return err
		}
	}
	return nil
}

// serving waits until an agent is a leader or a follower.
func serving(ctx context.Context, a *agent) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if _, err := a.Running(); err != nil {
			return "", err
		}
		if mode := local.Mode(a.zookeeper); mode != "" {
			return mode, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%s does not serve: %w", a.name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// hello writes through one agent and reads through another. Without sync the
// other one may answer from a moment ago.
func hello(ctx context.Context, from, to *agent) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	writer, err := client.New(client.Config{Servers: from.zookeeper})
	if err != nil {
		return "", err
	}
	reader, err := client.New(client.Config{Servers: to.zookeeper})
	if err != nil {
		return "", err
	}
	done := make(chan error, 2)
	go func() { done <- writer.Run(ctx) }()
	go func() { done <- reader.Run(ctx) }()
	defer func() { cancel(); <-done; <-done }()
	path, _, err := writer.Create(ctx, "/hello-", []byte("hello from "+from.name), nil, wire.PersistentSequential)
	if err != nil {
		return "", err
	}
	if err := reader.Sync(ctx, path); err != nil {
		return "", err
	}
	data, _, err := reader.Get(ctx, path)
	return string(data), err
}
