//go:build interop

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// super is the password of the super user, and the zoo.cfg line that allows it.
const (
	super     = "super:test"
	superLine = "DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU="
)

// connect runs a client of ours until the test ends or stop is called, which
// leaves the session alive.
func connect(t *testing.T, s *server, cfg client.Config) (c *client.Client, stop func()) {
	t.Helper()
	cfg.Servers = s.addr()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			t.Errorf("client: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return c, stop
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// A znode is all that a client can see of one.
type znode struct {
	data []byte
	null bool // no data, which is not empty data
	stat wire.Stat
	acl  []wire.ACL
}

func (z znode) String() string {
	data := fmt.Sprintf("%q", z.data)
	if z.null {
		data = "null"
	}
	return fmt.Sprintf("%s %+v %v", data, z.stat, z.acl)
}

// dumpTree reads every znode of a server, as the super user.
func dumpTree(t *testing.T, s *server) map[string]znode {
	t.Helper()
	c, stop := connect(t, s, client.Config{Auth: []client.Auth{{Scheme: "digest", Data: []byte(super)}}})
	defer stop()
	ctx := timeout(t)
	defer c.CloseSession(ctx)
	tree := map[string]znode{}
	var (
		mu   sync.Mutex // guards tree and err
		errs []error
		wg   sync.WaitGroup
		walk func(path string)
	)
	slots := make(chan struct{}, 32)
	walk = func(path string) {
		defer wg.Done()
		slots <- struct{}{}
		data, stat, err := c.Get(ctx, path)
		acl, _, aerr := c.GetACL(ctx, path)
		names, _, cerr := c.Children(ctx, path)
		<-slots
		mu.Lock()
		defer mu.Unlock()
		if err := errors.Join(err, aerr, cerr); err != nil {
			errs = append(errs, err)
			return
		}
		tree[path] = znode{data, data == nil, stat, acl}
		for _, name := range names {
			child := path + "/" + name
			if path == "/" {
				child = "/" + name
			}
			wg.Add(1)
			go walk(child)
		}
	}
	wg.Add(1)
	go walk("/")
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("reading the tree of %s: %v", s.kind, err)
	}
	return tree
}

// compareTrees reports every difference, up to a few.
func compareTrees(t *testing.T, got, want map[string]znode) {
	t.Helper()
	paths := map[string]bool{}
	for p := range got {
		paths[p] = true
	}
	for p := range want {
		paths[p] = true
	}
	differences := 0
	for p := range paths {
		g, inGot := got[p]
		w, inWant := want[p]
		if inGot == inWant && bytes.Equal(g.data, w.data) && g.null == w.null && g.stat == w.stat && slices.Equal(g.acl, w.acl) {
			continue
		}
		if differences++; differences <= 10 {
			t.Errorf("%s: got %v %v\nwant %v %v", p, inGot, g, inWant, w)
		}
	}
	if differences > 0 {
		t.Errorf("%d of %d znodes differ", differences, len(paths))
	}
}
