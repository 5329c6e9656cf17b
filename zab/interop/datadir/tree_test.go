//go:build interop

package datadir

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/wire"
)

// A node is all that a client can see of one.
type node struct {
	data []byte // nil is no data, which is not empty data
	stat wire.Stat
	acl  []wire.ACL
}

func (z node) String() string {
	data := fmt.Sprintf("%.60q", z.data)
	if z.data == nil {
		data = "null"
	}
	return fmt.Sprintf("%s (%d bytes) %+v %v", data, len(z.data), z.stat, z.acl)
}

func (z node) equal(o node) bool {
	return bytes.Equal(z.data, o.data) && (z.data == nil) == (o.data == nil) && z.stat == o.stat && slices.Equal(z.acl, o.acl)
}

// A state is what the server keeps, as far as it tells.
type state struct {
	znodes   map[string]node
	sessions []zab.SessionID // without that of the reader
	zxid     zab.Zxid        // before the reader came
	digests  map[zab.Zxid]string
}

// read reads the state as the super user, whom no ACL stops and from whom none
// is hidden.
func read(t *testing.T, s *peer.Server) *state {
	t.Helper()
	st := &state{znodes: map[string]node{}, sessions: s.Sessions(t), zxid: s.Zxid(t), digests: digests(t, s)}
	c, stop := peer.Connect(t, client.Config{
		Servers: s.Addr(), SessionTimeout: 30 * time.Second, Auth: []client.Auth{{Scheme: "digest", Data: []byte(peer.Super)}},
	})
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), peer.Patience)
	defer cancel()
	var (
		mu    sync.Mutex // guards st.znodes and failed
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
		st.znodes[path] = node{data, stat, acl}
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
	if fault != nil {
		t.Fatalf("reading the tree of %s: %v", s.Kind, fault)
	}
	if n, err := c.AllChildrenNumber(ctx, "/"); err != nil || n != len(st.znodes)-1 {
		t.Errorf("%s counts %d znodes below /, %v; there are %d", s.Kind, n, err, len(st.znodes)-1)
	}
	if err := c.CloseSession(ctx); err != nil {
		t.Fatal(err)
	}
	return st
}

// ephemerals returns the paths of a session, in order.
func (st *state) ephemerals(id zab.SessionID) []string {
	var paths []string
	for _, path := range slices.Sorted(maps.Keys(st.znodes)) {
		if st.znodes[path].stat.EphemeralOwner == id {
			paths = append(paths, path)
		}
	}
	return paths
}

// compare reports every difference between two states, up to a few.
func compare(t *testing.T, what string, got, want *state) {
	t.Helper()
	n := 0
	report := func(format string, args ...any) {
		t.Helper()
		if n++; n <= 10 {
			t.Errorf(what+": "+format, args...)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(want.znodes)) {
		g, ok := got.znodes[path]
		if w := want.znodes[path]; !ok {
			report("%q is missing, was %v", path, w)
		} else if !g.equal(w) {
			report("%q\n got %v\nwant %v", path, g, w)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got.znodes)) {
		if _, ok := want.znodes[path]; !ok {
			report("%q should not be there: %v", path, got.znodes[path])
		}
	}
	if !slices.Equal(got.sessions, want.sessions) {
		report("sessions %v, want %v", got.sessions, want.sessions)
	}
	both := 0
	for zxid, digest := range got.digests {
		if w, ok := want.digests[zxid]; ok {
			both++
			if w != digest {
				report("digest at %v is %s, want %s", zxid, digest, w)
			}
		}
	}
	if n > 10 {
		t.Errorf("%s: %d differences", what, n)
	}
	t.Logf("%s: %d znodes, %d sessions, %d digests compared", what, len(got.znodes), len(got.sessions), both)
}

// digests returns what the AdminServer's command "hash" tells: digests of the
// tree at some zxids. They do not depend on the way there.
func digests(t *testing.T, s *peer.Server) map[zab.Zxid]string {
	t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/commands/hash", s.Admin))
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

// trouble finds the lines of a server's log that must not be there.
var trouble = regexp.MustCompile(`(?im)^.*( ERROR |level=ERROR|mismatch|not matching|checksum|CRC |corrupt|Exception|panic:|digest of the tree).*$`)

// checkLog reports the lines of the log, from an offset on, that tell of errors.
func checkLog(t *testing.T, s *peer.Server) {
	t.Helper()
	for _, line := range trouble.FindAllString(s.Output(), 20) {
		if !slices.ContainsFunc(harmless, func(part string) bool { return strings.Contains(line, part) }) {
			t.Errorf("log of %s: %s", s.Kind, line)
		}
	}
	if n := s.Metric(t, "digest_mismatches_count"); n != 0 {
		t.Errorf("%s counts %v digest mismatches", s.Kind, n)
	}
}

// harmless are parts of lines that look like trouble and are none.
var harmless = []string{
	// A four-letter word that came before Apache's server had read its files.
	"Error closing a command socket", `"this.zkDb" is null`,
	// What reconfig is answered.
	"reconfig feature is disabled",
}
