//go:build interop

package interop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/paddockio/paddock/zab/interop/peer"
)

const (
	dubboVersion   = "3.3.5"
	dubboGoVersion = "3.1.1"
	greeterPath    = "/dubbo/org.demo.Greeter/providers"
)

// dubboPrograms returns how to run the provider and consumer of each language.
func dubboPrograms(t *testing.T) map[string]func(args ...string) *exec.Cmd {
	t.Helper()
	program := filepath.Join(cacheDir(t, "dubbogo"), "dubbogo")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = "dubbogo"
	output(t, build)
	return map[string]func(args ...string) *exec.Cmd{
		"Java": func(args ...string) *exec.Cmd {
			return java(t, "dubbo", append([]string{"-Ddubbo.network.interface.ignored=.*",
				"-Dzookeeper.sasl.client=false", "paddock.interop.DubboProgram"}, args...)...)
		},
		"Go": func(args ...string) *exec.Cmd { return exec.Command(program, args...) },
	}
}

// startProvider runs a provider, which registers at the server at, until the
// returned function, or the end of the test, ends it in good order.
func startProvider(t *testing.T, at *server, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	cmd.Dir = t.TempDir()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log transcript
	cmd.Stderr = &log
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "READY") {
				close(ready)
			}
			fmt.Fprintln(&log, lines.Text())
		}
		io.Copy(&log, out)
		cmd.Wait()
		close(ended)
	}()
	hung := func() string {
		stacks := at.stacks() // first, while the provider still waits
		hang(cmd, ended)
		return fmt.Sprintf("%s\n%s", tail([]byte(log.String()), dumpSize), stacks)
	}
	stop = func() {
		in.Close()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Errorf("the provider did not end\n%s", hung())
		}
	}
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("the provider ended: %v\n%s", cmd.ProcessState, tail([]byte(log.String()), 4000))
	case <-time.After(patience):
		t.Fatalf("the provider is not ready\n%s", hung())
	}
	return stop
}

// consume runs a consumer, which looks at the server at, and checks who answered.
func consume(t *testing.T, at *server, cmd *exec.Cmd, want string) {
	t.Helper()
	cmd.Dir = t.TempDir()
	out, log, err := await(t, programLimit, cmd, at)
	if err != nil || !strings.Contains(string(out), "SAID "+want) {
		t.Errorf("%v, want %q in\n%s\n%s", err, want, tail(out, 1000), tail(log, 4000))
	}
}

// TestDubbo lets providers and consumers in Java and in Go find each other
// through a plain server and through an agent, which then also answers DNS
// queries for them.
func TestDubbo(t *testing.T) {
	t.Parallel() // it waits more than it works
	need(t, "java", "mvn")
	programs := dubboPrograms(t)
	languages := []struct{ name, answers, client, version string }{
		{"Java", "this is Dubbo for Java", "Dubbo for Java", dubboVersion},
		{"Go", "this is dubbo-go", "dubbo-go", dubboGoVersion},
	}
	type place struct {
		name string
		at   *server
		dns  string
	}
	places := []place{{"server", startPeer(t), ""}}
	if *tested == peer.KindPaddock {
		agent := startAgent(t, "")
		places = append(places, place{"agent", &agent.server, agent.dns})
	}
	for _, p := range places {
		conn := dialGo(t, p.at)
		for _, provider := range languages {
			port := freePort(t)
			stop := startProvider(t, p.at, programs[provider.name]("provider", p.at.addr(), fmt.Sprint(port)))
			for _, consumer := range languages {
				name := fmt.Sprintf("through the %s, provider in %s, consumer in %s", p.name, provider.name, consumer.name)
				run(t, consumer.client, consumer.version, name, func(t *testing.T) {
					consume(t, p.at, programs[consumer.name]("consumer", p.at.addr(), "paddock"), "Hello paddock, "+provider.answers)
				})
			}
			if p.dns != "" {
				run(t, provider.client, provider.version, "the agent's DNS answers for the provider in "+provider.name, func(t *testing.T) {
					within(t, 10*time.Second, "SRV", func() error { return srvIs(t.Context(), p.dns, port) })
				})
			}
			run(t, provider.client, provider.version, fmt.Sprintf("through the %s, %s deregisters", p.name, provider.name), func(t *testing.T) {
				stop()
				within(t, 15*time.Second, "deregistered", func() error {
					names, _, err := conn.Children(greeterPath)
					if err == nil && len(names) == 0 || errors.Is(err, zk.ErrNoNode) {
						return nil
					}
					return fmt.Errorf("%v, %v", names, err)
				})
			})
		}
	}
}

// srvIs asks a name server for the Greeter and wants one answer with this port.
func srvIs(ctx context.Context, dns string, port int) error {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, dns)
	}}
	_, srv, err := resolver.LookupSRV(ctx, "", "", "org.demo.Greeter.service.paddock.")
	if err != nil {
		return err
	}
	if len(srv) != 1 || int(srv[0].Port) != port {
		return fmt.Errorf("%d SRV records, the first %+v, want port %d", len(srv), *srv[0], port)
	}
	ips, err := resolver.LookupHost(ctx, srv[0].Target)
	if err != nil || len(ips) != 1 || ips[0] != "127.0.0.1" {
		return fmt.Errorf("A of %s: %v, %w", srv[0].Target, ips, err)
	}
	return nil
}
