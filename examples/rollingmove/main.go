// Rollingmove exchanges the three Apache servers of an ensemble for paddock, one
// by one and over the same data directories, and then back, while a client goes
// on writing. Nothing that was acknowledged may be missing at the end, and the
// client's session and its ephemeral znode must live through all of it.
//
// It needs Java, and Debian's package libzookeeper-java or another class path:
//
//	go run ./examples/rollingmove -apache /usr/share/java/zookeeper.jar
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/paddockio/paddock/examples/local"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

func main() {
	apache := flag.String("apache", local.DebianClasspath, "class path of Apache's server")
	flag.Parse()
	local.Main("rollingmove", func(ctx context.Context, dir string) error {
		binary, err := local.Build(ctx, dir)
		if err != nil {
			return err
		}
		return run(ctx, dir, local.Apache(*apache), local.Paddock(binary), os.Stdout)
	})
}

// run moves from one program to the other and back.
func run(ctx context.Context, dir string, from, to local.Program, out io.Writer) error {
	servers, err := local.Ensemble(dir, 3)
	if err != nil {
		return err
	}
	var addrs []string
	for _, s := range servers {
		if err := s.Start(from); err != nil {
			return err
		}
		defer s.Kill()
		addrs = append(addrs, s.Addr)
	}
	if _, err := local.Leader(ctx, servers); err != nil {
		return err
	}
	w, err := newWriter(ctx, strings.Join(addrs, ","))
	if err != nil {
		return err
	}
	written := make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { written <- w.write(ctx) }()

	for _, program := range []local.Program{to, from} {
		if err := move(ctx, servers, program, out); err != nil {
			return err
		}
	}
	stop()
	if err := <-written; err != nil {
		return err
	}
	return w.check(out)
}

// move exchanges the program of each server, the leader's last.
func move(ctx context.Context, servers []*local.Server, program local.Program, out io.Writer) error {
	leader, err := local.Leader(ctx, servers)
	if err != nil {
		return err
	}
	order := []*local.Server{leader}
	for _, s := range servers {
		if s != leader {
			order = append([]*local.Server{s}, order...)
		}
	}
	for _, s := range order {
		if err := s.Stop(); err != nil {
			return err
		}
		// The others must have a leader and each other before the next may go.
		if _, err := local.Leader(ctx, servers); err != nil {
			return err
		}
		if err := s.Start(program); err != nil {
			return err
		}
		if _, err := local.Leader(ctx, servers); err != nil {
			return err
		}
		fmt.Fprintf(out, "server %d runs %s\n", s.ID, program.Name())
	}
	return nil
}

// A writer creates znodes that it numbers.
type writer struct {
	c       *client.Client
	ended   chan error
	stop    context.CancelFunc
	acked   []int
	unknown int
}

func newWriter(ctx context.Context, servers string) (*writer, error) {
	// A session that expires ends the client, and with it this program.
	c, err := client.New(client.Config{Servers: servers, SessionTimeout: 20 * time.Second, MaxBackoff: 100 * time.Millisecond, ExitOnExpiry: true})
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	w := &writer{c: c, ended: make(chan error, 1), stop: stop}
	go func() { w.ended <- c.Run(run) }()
	_, _, err = c.Create(ctx, "/numbers", nil, nil, wire.Persistent)
	if err == nil {
		_, _, err = c.Create(ctx, "/alive", nil, nil, wire.Ephemeral)
	}
	return w, err
}

// write goes on until ctx ends. A write whose connection broke may have been
// carried out or not; every other one is acknowledged, or an error.
func (w *writer) write(ctx context.Context) error {
	for n := 0; ctx.Err() == nil; n++ {
		_, _, err := w.c.Create(context.WithoutCancel(ctx), fmt.Sprintf("/numbers/%d", n), nil, nil, wire.Persistent)
		switch {
		case err == nil:
			w.acked = append(w.acked, n)
		case errors.Is(err, wire.ErrConnectionLoss):
			w.unknown++
		default:
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

// check looks for all that was acknowledged, and ends the client.
func (w *writer) check(out io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	names, _, err := w.c.Children(ctx, "/numbers")
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, name := range names {
		there[name] = true
	}
	for _, n := range w.acked {
		if !there[fmt.Sprint(n)] {
			return fmt.Errorf("write %d was acknowledged and is lost", n)
		}
	}
	st, found, err := w.c.Exists(ctx, "/alive")
	if err != nil || !found || st.EphemeralOwner != w.c.Session().ID {
		return fmt.Errorf("the ephemeral znode is gone: %+v, %w", st, err)
	}
	w.stop()
	if err := <-w.ended; err != nil {
		return err
	}
	fmt.Fprintf(out, "%d writes acknowledged, none lost; %d of unknown outcome; the session lives\n", len(w.acked), w.unknown)
	return nil
}
