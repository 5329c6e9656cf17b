//go:build interop

package interop

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	goClient        = "go-zookeeper/zk"
	goClientVersion = "1.0.4"
)

// quiet keeps the library from logging to standard error.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// dialGo connects the public Go client and waits for its session.
func dialGo(t *testing.T, s *server) *zk.Conn {
	t.Helper()
	conn, events, err := zk.Connect([]string{s.addr()}, 10*time.Second, zk.WithLogger(quiet{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	deadline := time.After(patience)
	for {
		select {
		case e := <-events:
			if e.State == zk.StateHasSession {
				go func() { // the library wants its events taken
					for range events {
					}
				}()
				return conn
			}
		case <-deadline:
			t.Fatal("no session")
		}
	}
}

func wantEvent(t *testing.T, events <-chan zk.Event, typ zk.EventType, path string) {
	t.Helper()
	select {
	case e := <-events:
		if e.Type != typ || e.Path != path {
			t.Errorf("got event %v %s, want %v %s", e.Type, e.Path, typ, path)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("no event, want %v %s", typ, path)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestGoClient(t *testing.T) {
	s := startPeer(t)
	open := zk.WorldACL(zk.PermAll)
	for name, f := range map[string]func(t *testing.T, c, d *zk.Conn){
		"tree": func(t *testing.T, c, _ *zk.Conn) {
			must[string](t)(c.Create("/go", []byte("0"), 0, open))
			_, err := c.Create("/go", nil, 0, open)
			wantErr(t, err, zk.ErrNodeExists)
			_, err = c.Create("/none/x", nil, 0, open)
			wantErr(t, err, zk.ErrNoNode)
			must[string](t)(c.Create("/go/a", nil, 0, open))
			seq := must[string](t)(c.Create("/go/s-", nil, zk.FlagSequence, open))
			if seq != "/go/s-0000000001" {
				t.Errorf("sequential name %s", seq)
			}
			children, st, err := c.Children("/go")
			slices.Sort(children)
			if err != nil || !slices.Equal(children, []string{"a", "s-0000000001"}) || st.NumChildren != 2 || st.Cversion != 2 {
				t.Errorf("children %v, stat %+v, %v", children, st, err)
			}
			st = must[*zk.Stat](t)(c.Set("/go", []byte("11"), 0))
			data, read, err := c.Get("/go")
			if err != nil || string(data) != "11" || *read != *st || st.Version != 1 || st.DataLength != 2 {
				t.Errorf("data %q, stat %+v and %+v, %v", data, read, st, err)
			}
			_, err = c.Set("/go", nil, 0)
			wantErr(t, err, zk.ErrBadVersion)
			wantErr(t, c.Delete("/go", -1), zk.ErrNotEmpty)
			wantErr(t, c.Delete("/go/a", 4), zk.ErrBadVersion)
			wantErr(t, c.Delete("/go/a", 0), nil)
			if found, _, err := c.Exists("/go/a"); found || err != nil {
				t.Errorf("exists %v, %v", found, err)
			}
			if _, err := c.Sync("/go"); err != nil {
				t.Error(err)
			}
		},
		"watches": func(t *testing.T, c, d *zk.Conn) {
			_, _, exists, err := c.ExistsW("/gow")
			if err != nil {
				t.Fatal(err)
			}
			must[string](t)(d.Create("/gow", nil, 0, open))
			wantEvent(t, exists, zk.EventNodeCreated, "/gow")
			_, _, data, err := c.GetW("/gow")
			if err != nil {
				t.Fatal(err)
			}
			_, _, children, err := c.ChildrenW("/gow")
			if err != nil {
				t.Fatal(err)
			}
			must[*zk.Stat](t)(d.Set("/gow", []byte("x"), -1))
			wantEvent(t, data, zk.EventNodeDataChanged, "/gow")
			must[string](t)(d.Create("/gow/c", nil, 0, open))
			wantEvent(t, children, zk.EventNodeChildrenChanged, "/gow")
		},
		"ephemerals": func(t *testing.T, c, _ *zk.Conn) {
			owner := dialGo(t, s)
			must[string](t)(owner.Create("/goe", nil, zk.FlagEphemeral, open))
			_, st, gone, err := c.ExistsW("/goe")
			if err != nil || st.EphemeralOwner != owner.SessionID() {
				t.Fatalf("owner %x, want %x, %v", st.EphemeralOwner, owner.SessionID(), err)
			}
			_, err = c.Create("/goe/c", nil, 0, open)
			wantErr(t, err, zk.ErrNoChildrenForEphemerals)
			owner.Close()
			wantEvent(t, gone, zk.EventNodeDeleted, "/goe")
		},
		"multi": func(t *testing.T, c, _ *zk.Conn) {
			res, err := c.Multi(
				&zk.CreateRequest{Path: "/gom", Data: []byte("0"), Acl: open},
				&zk.SetDataRequest{Path: "/gom", Data: []byte("1"), Version: 0},
				&zk.CheckVersionRequest{Path: "/gom", Version: 1},
			)
			if err != nil || len(res) != 3 || res[0].String != "/gom" || res[1].Stat.Version != 1 {
				t.Errorf("%+v, %v", res, err)
			}
			_, err = c.Multi(
				&zk.DeleteRequest{Path: "/gom", Version: -1},
				&zk.CheckVersionRequest{Path: "/gom", Version: 1},
			)
			wantErr(t, err, zk.ErrNoNode)
			if found, _, err := c.Exists("/gom"); !found || err != nil {
				t.Errorf("half of a multi was done: %v", err)
			}
		},
		"ACL": func(t *testing.T, c, d *zk.Conn) {
			if err := c.AddAuth("digest", []byte("ann:secret")); err != nil {
				t.Fatal(err)
			}
			must[string](t)(c.Create("/goacl", nil, 0, zk.DigestACL(zk.PermAll, "ann", "secret")))
			_, _, err := d.Get("/goacl")
			wantErr(t, err, zk.ErrNoAuth)
			acl, st, err := c.GetACL("/goacl")
			if err != nil || !slices.Equal(acl, zk.DigestACL(zk.PermAll, "ann", "secret")) || st.Aversion != 0 {
				t.Errorf("%v, %+v, %v", acl, st, err)
			}
			if _, err := c.SetACL("/goacl", append(acl, zk.WorldACL(zk.PermRead)...), 0); err != nil {
				t.Error(err)
			}
			_, _, err = d.Get("/goacl")
			wantErr(t, err, nil)
			_, err = c.SetACL("/goacl", nil, -1)
			wantErr(t, err, zk.ErrInvalidACL)
		},
		"container and TTL": func(t *testing.T, c, _ *zk.Conn) {
			must[string](t)(c.CreateContainer("/goc", nil, zk.FlagContainer, open))
			must[string](t)(c.CreateTTL("/gottl", []byte("x"), zk.FlagTTL, open, time.Minute))
			if data, _, err := c.Get("/gottl"); string(data) != "x" || err != nil {
				t.Errorf("%q, %v", data, err)
			}
		},
		"lock": func(t *testing.T, c, d *zk.Conn) {
			var inside, rounds int
			var wg sync.WaitGroup
			for _, conn := range []*zk.Conn{c, d} {
				wg.Go(func() {
					for range 20 {
						l := zk.NewLock(conn, "/golock", open)
						if err := l.Lock(); err != nil {
							t.Error(err)
							return
						}
						// The lock orders these: a fault shows as a wrong count, and under -race.
						inside++
						if inside != 1 {
							t.Errorf("%d hold the lock", inside)
						}
						rounds++
						inside--
						if err := l.Unlock(); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if rounds != 40 {
				t.Errorf("%d rounds, want 40", rounds)
			}
		},
		"many at once": func(t *testing.T, c, d *zk.Conn) {
			must[string](t)(c.Create("/gomany", nil, 0, open))
			var wg sync.WaitGroup
			for i := range 500 {
				conn := []*zk.Conn{c, d}[i%2]
				wg.Go(func() {
					path := fmt.Sprintf("/gomany/%d", i)
					if _, err := conn.Create(path, []byte(path), 0, open); err != nil {
						t.Error(err)
					} else if data, _, err := conn.Get(path); err != nil || string(data) != path {
						t.Errorf("%q, %v", data, err)
					}
				})
			}
			wg.Wait()
			if children, _, err := c.Children("/gomany"); len(children) != 500 || err != nil {
				t.Errorf("%d children, %v", len(children), err)
			}
		},
		// The library's readers of "srvr" and "cons" do not know 3.9's form.
		"four-letter word ruok": func(t *testing.T, _, _ *zk.Conn) {
			if !zk.FLWRuok([]string{s.addr()}, 5*time.Second)[0] {
				t.Error("ruok")
			}
		},
	} {
		run(t, goClient, goClientVersion, name, func(t *testing.T) { f(t, dialGo(t, s), dialGo(t, s)) })
	}
}

// TestGoClientSurvivesRestart ends the server and starts it again: the session
// and its ephemeral stay, and watches are set anew by the client.
func TestGoClientSurvivesRestart(t *testing.T) {
	s := startPeer(t)
	run(t, goClient, goClientVersion, "session over a restart", func(t *testing.T) {
		open := zk.WorldACL(zk.PermAll)
		conn := dialGo(t, s)
		id := conn.SessionID()
		must[string](t)(conn.Create("/r", nil, zk.FlagEphemeral, open))
		must[string](t)(conn.Create("/rw", nil, 0, open))
		_, _, changed, err := conn.GetW("/rw")
		if err != nil {
			t.Fatal(err)
		}
		s.Kill()
		s.start(t)
		deadline := time.Now().Add(patience)
		for {
			found, st, err := conn.Exists("/r")
			if err == nil {
				if !found || st.EphemeralOwner != id || conn.SessionID() != id {
					t.Fatalf("found %v, owner %x, session %x, was %x", found, st.EphemeralOwner, conn.SessionID(), id)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		other := dialGo(t, s)
		must[*zk.Stat](t)(other.Set("/rw", []byte("x"), -1))
		wantEvent(t, changed, zk.EventNodeDataChanged, "/rw")
	})
}
