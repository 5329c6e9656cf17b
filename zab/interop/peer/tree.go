//go:build interop

package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// A Znode is all that a client can see of one.
type Znode struct {
	Data []byte // nil is no data, which is not empty data
	Stat wire.Stat
	ACL  []wire.ACL
}

func (z Znode) String() string {
	data := fmt.Sprintf("%.60q", z.Data)
	if z.Data == nil {
		data = "null"
	}
	return fmt.Sprintf("%s (%d bytes) %+v %v", data, len(z.Data), z.Stat, z.ACL)
}

func (z Znode) equal(o Znode) bool {
	return bytes.Equal(z.Data, o.Data) && (z.Data == nil) == (o.Data == nil) && z.Stat == o.Stat && slices.Equal(z.ACL, o.ACL)
}

// A State is the tree of one server, as far as it tells.
type State struct {
	Znodes  map[string]Znode
	Zxid    zab.Zxid            // before the reader came
	Digests map[zab.Zxid]string // of the tree at some zxids; they do not depend on the way there
}

// The znode that holds the list of servers is made anew by each server at each
// start, with the time and in the order of lines that it happens to have.
const configPath = "/zookeeper/config"

// ReadState reads everything from one server as the super user, whom no ACL
// stops and from whom none is hidden.
func ReadState(t testing.TB, s *Server) *State {
	t.Helper()
	st := &State{Zxid: s.Zxid(t), Digests: s.digests(t)}
	c, stop := Connect(t, client.Config{
		Servers: s.Addr(), SessionTimeout: 30 * time.Second, Auth: []client.Auth{{Scheme: "digest", Data: []byte(Super)}},
	})
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	if err := c.Sync(ctx, "/"); err != nil {
		t.Fatalf("sync on %s: %v\n%s", s.Kind, err, s.Tail())
	}
	tree, err := ReadTree(ctx, c)
	if err != nil {
		t.Fatalf("reading the tree of %s: %v", s.Kind, err)
	}
	st.Znodes = tree
	if n, err := c.AllChildrenNumber(ctx, "/"); err != nil || n != len(st.Znodes)-1 {
		t.Errorf("%s counts %d znodes below /, %v; there are %d", s.Kind, n, err, len(st.Znodes)-1)
	}
	if err := c.CloseSession(ctx); err != nil {
		t.Fatal(err)
	}
	z := st.Znodes[configPath]
	z.Data = []byte(strings.Join(slices.Sorted(strings.Lines(strings.TrimSpace(string(z.Data))+"\n")), ""))
	z.Stat.Mtime = 0
	st.Znodes[configPath] = z
	return st
}

// ReadTree reads every znode that a client may see, with its stat and its ACL.
func ReadTree(ctx context.Context, c *client.Client) (map[string]Znode, error) {
	tree := map[string]Znode{}
	var (
		mu    sync.Mutex // guards tree and fault
		fault error
		wg    sync.WaitGroup
		slots = make(chan struct{}, 64) // requests under way
	)
	var visit func(path string)
	visit = func(path string) {
		defer wg.Done()
		slots <- struct{}{}
		data, stat, err := c.Get(ctx, path)
		acl, aclStat, err2 := c.GetACL(ctx, path)
		names, childStat, err3 := c.Children(ctx, path)
		<-slots
		err = errors.Join(err, err2, err3)
		if err == nil && (stat != aclStat || stat != childStat || int(stat.NumChildren) != len(names) || int(stat.DataLength) != len(data)) {
			err = fmt.Errorf("%s: %d bytes, %d children, stats %+v, %+v, %+v", path, len(data), len(names), stat, aclStat, childStat)
		}
		mu.Lock()
		tree[path] = Znode{data, stat, acl}
		fault = errors.Join(fault, err)
		mu.Unlock()
		if path == "/" {
			path = ""
		}
		for _, name := range names {
			wg.Add(1)
			go visit(path + "/" + name)
		}
	}
	wg.Add(1)
	visit("/")
	wg.Wait()
	return tree, fault
}

// CompareStates reports every difference between two states, up to a few, and
// returns how many digests of the same zxid both have.
func CompareStates(t testing.TB, what string, got, want *State) (digests int) {
	t.Helper()
	CompareTrees(t, what, got.Znodes, want.Znodes)
	for zxid, digest := range got.Digests {
		if w, ok := want.Digests[zxid]; ok {
			digests++
			if w != digest {
				t.Errorf("%s: digest at %v is %s, want %s", what, zxid, digest, w)
			}
		}
	}
	return digests
}

// CompareTrees reports every difference between two trees, up to a few.
func CompareTrees(t testing.TB, what string, got, want map[string]Znode) {
	t.Helper()
	n := 0
	report := func(format string, args ...any) {
		t.Helper()
		if n++; n <= 10 {
			t.Errorf(what+": "+format, args...)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[path]
		if w := want[path]; !ok {
			report("%q is missing, was %v", path, w)
		} else if !g.equal(w) {
			report("%q\n got %v\nwant %v", path, g, w)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[path]; !ok {
			report("%q should not be there: %v", path, got[path])
		}
	}
	if n > 10 {
		t.Errorf("%s: %d differences", what, n)
	}
}

// digests asks the AdminServer's command "hash".
func (s *Server) digests(t testing.TB) map[zab.Zxid]string {
	t.Helper()
	hc := http.Client{Timeout: Patience}
	resp, err := hc.Get(fmt.Sprintf("http://%s:%d/commands/hash", s.Host, s.Admin))
	if err != nil {
		t.Fatalf("hash: %v\n%s", err, s.Tail())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Digests []struct {
			Zxid   any
			Digest any
		}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&answer); err != nil {
		t.Fatalf("hash of %s: %v\n%s", s.Kind, err, body)
	}
	all := map[zab.Zxid]string{}
	for _, e := range answer.Digests {
		var z int64
		if _, err := fmt.Sscan(fmt.Sprint(e.Zxid), &z); err != nil {
			t.Fatalf("hash of %s: %v\n%s", s.Kind, err, body)
		}
		all[zab.Zxid(z)] = fmt.Sprint(e.Digest)
	}
	return all
}
