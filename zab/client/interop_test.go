//go:build interop

package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/client/apachetest"
	"github.com/paddockio/paddock/zab/wire"
)

const interopPort = 23301

// TestApacheServer does every operation against a real server.
func TestApacheServer(t *testing.T) {
	zk := apachetest.Start(t, interopPort)
	doEverything(t, Config{Servers: zk.Addr}, !strings.Contains(zk.Ask("srvr"), "version: 3.8"))
}

// TestApacheServerRestart takes a session over a restart of the server and of
// the process, with watches and ephemerals.
func TestApacheServerRestart(t *testing.T) {
	zk := apachetest.Start(t, interopPort+1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := New(Config{Servers: zk.Addr, SessionTimeout: 10 * time.Second})
	must(err)
	ran := make(chan error, 1)
	runCtx, stop := context.WithCancel(ctx)
	go func() { ran <- c.Run(runCtx) }()
	_, _, err = c.Create(ctx, "/e", []byte("x"), nil, wire.Ephemeral)
	must(err)
	_, _, ch, err := c.GetW(ctx, "/e")
	must(err)
	w, err := c.AddWatch(ctx, "/", wire.WatchPersistentRecursive)
	must(err)
	zk.Stop()
	zk.Restart()
	_, err = c.Set(ctx, "/e", []byte("y"), 0)
	must(err)
	select {
	case e := <-ch:
		if e.Type != wire.EventNodeDataChanged {
			t.Errorf("event after the restart: %+v", e)
		}
	case <-ctx.Done():
		t.Fatal("the one-shot watch was not armed again")
	}
	var got []Event
	for len(got) < 3 {
		select {
		case e := <-w.Events():
			got = append(got, e)
		case <-ctx.Done():
			t.Fatalf("events %v", got)
		}
	}
	if got[0].State != wire.StateDisconnected || got[1].Type != wire.EventNone || got[1].State != wire.StateSyncConnected ||
		got[2].Type != wire.EventNodeDataChanged {
		t.Errorf("events %+v", got)
	}

	stored := c.Session()
	stop()
	must(<-ran)
	next, err := New(Config{Servers: zk.Addr, Session: &stored})
	must(err)
	go func() { ran <- next.Run(ctx) }()
	if names, err := next.Ephemerals(ctx, "/"); err != nil || len(names) != 1 || next.Session().ID != stored.ID {
		t.Errorf("taken up: ephemerals %q, %v, session %v, want %v", names, err, next.Session(), stored)
	}
	must(next.CloseSession(ctx))
	must(<-ran)
	last := runClient(t, Config{Servers: zk.Addr, Session: &stored})
	if _, found, err := last.Exists(ctx, "/e"); found || err != nil || last.Session().ID == stored.ID {
		t.Errorf("after closing the session: found %v, %v, session %v", found, err, last.Session())
	}
}

func TestApacheServerOverABadNetwork(t *testing.T) {
	zk := apachetest.Start(t, interopPort+2)
	countOverABadNetwork(t, Config{Servers: zk.Addr, Dial: dialTCP}, 150)
}

// TestApacheEnsembleLosesItsLeader: all connections of all servers end; the
// session, its ephemeral and its watches go on.
func TestApacheEnsembleLosesItsLeader(t *testing.T) {
	servers := apachetest.StartEnsemble(t, interopPort+20, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var addrs []string
	for _, s := range servers {
		addrs = append(addrs, s.Addr)
	}
	c := runClient(t, Config{Servers: strings.Join(addrs, ","), SessionTimeout: 10 * time.Second})
	if _, _, err := c.Create(ctx, "/e", nil, nil, wire.Ephemeral); err != nil {
		t.Fatal(err)
	}
	w, err := c.AddWatch(ctx, "/", wire.WatchPersistentRecursive)
	if err != nil {
		t.Fatal(err)
	}
	session := c.Session()
	for _, s := range servers {
		if strings.Contains(s.Ask("srvr"), "Mode: leader") {
			s.Stop()
		}
	}
	began := time.Now()
	for version := int32(0); ; {
		stat, err := c.Set(ctx, "/e", nil, version)
		if err == nil && stat.EphemeralOwner != session.ID {
			t.Errorf("owner %v, want %v", stat.EphemeralOwner, session.ID)
		}
		if err == nil || errors.Is(err, wire.ErrBadVersion) { // the lost one was done
			break
		}
		if !errors.Is(err, wire.ErrConnectionLoss) {
			t.Fatal(err)
		}
	}
	t.Logf("a write took %v after the leader died", time.Since(began))
	if got := c.Session(); got.ID != session.ID {
		t.Errorf("session %v, want %v", got, session)
	}
	for {
		select {
		case e := <-w.Events():
			if e.Type == wire.EventNodeDataChanged && e.Path == "/e" {
				return
			}
		case <-ctx.Done():
			t.Fatal("the watch is dead")
		}
	}
}
