//go:build interop

package datadir

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
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

const workers = 4

// A load writes to servers at random. Its sessions are left alive, with their
// ephemerals, and are taken up when it goes on, on whatever server then has the
// directory. Its znodes stand under /load and /zookeeper/quota.
type load struct {
	seed     uint64
	legs     int // how often it ran
	sessions [workers]*client.Session

	mu   sync.Mutex // guards done
	done map[string]*outcome
}

// outcome counts what became of one kind of operation.
type outcome struct{ ok, refused int }

func newLoad(t *testing.T) *load {
	t.Helper()
	l := &load{seed: uint64(time.Now().UnixNano()), done: map[string]*outcome{}}
	t.Logf("seed %d", l.seed)
	return l
}

// worker is one session at work.
type worker struct {
	*load
	t     *testing.T
	ctx   context.Context
	c     *client.Client
	addr  string
	rng   *rand.Rand
	home  string   // what it creates stands below
	paths []string // some that were created, the first of them home
	n     int
}

// run does at least ops operations of every worker, and leaves the sessions.
func (l *load) run(t *testing.T, s *peer.Server, ops int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*peer.Patience)
	defer cancel()
	l.start(t, ctx, s, func(w *worker) {
		w.everything()
		for range ops {
			w.random()
		}
	})
}

// start runs a function in each worker and waits for all of them.
func (l *load) start(t *testing.T, ctx context.Context, s *peer.Server, work func(*worker)) {
	t.Helper()
	l.legs++
	var wg sync.WaitGroup
	for i := range workers {
		c, stop := peer.Connect(t, client.Config{
			Servers: s.Addr(), SessionTimeout: 90 * time.Second, Session: l.sessions[i],
			Auth: []client.Auth{{Scheme: "digest", Data: fmt.Appendf(nil, "user%d:pass", i)}},
		})
		w := &worker{
			load: l, t: t, ctx: ctx, c: c, addr: s.Addr(), rng: rand.New(rand.NewPCG(l.seed, uint64(l.legs*workers+i))),
			home: fmt.Sprintf("/load/w%d-%d", i, l.legs),
		}
		wg.Go(func() {
			defer stop()
			w.must(w.create("/load", nil, nil, wire.Persistent))
			w.must(w.create(w.home, nil, nil, wire.Persistent))
			w.paths = []string{w.home} // also if it was there
			work(w)
			session := c.Session()
			if old := l.sessions[i]; old != nil && old.ID != session.ID {
				t.Errorf("session %v was not taken up: the worker has %v", old.ID, session.ID)
			}
			session.LastZxid = 0 // what a copy of the directory is behind
			l.sessions[i] = &session
		})
	}
	wg.Wait()
}

// report logs what was done and tells whether every kind was carried out.
func (l *load) report(t *testing.T) {
	t.Helper()
	var b strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(l.done)) {
		o := l.done[kind]
		fmt.Fprintf(&b, " %s %d/%d", kind, o.ok, o.ok+o.refused)
		if o.ok == 0 && !slices.Contains([]string{"reconfig", "multi that fails"}, kind) {
			t.Errorf("no %s was carried out", kind)
		}
	}
	t.Logf("carried out / asked:%s", &b)
}

func (w *worker) count(kind string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.done[kind]
	if o == nil {
		o = &outcome{}
		w.done[kind] = o
	}
	if err == nil {
		o.ok++
	} else {
		o.refused++
	}
}

// must stops the load if err is none that a server may answer to random
// operations.
func (w *worker) must(err error) error {
	var code wire.Code
	switch {
	case err == nil:
		return nil
	case errors.Is(w.ctx.Err(), context.Canceled): // the server was killed on purpose
		return err
	case errors.As(err, &code) && code <= wire.ErrAPIError && code != wire.ErrSessionExpired, errors.Is(err, wire.ErrBadArguments), errors.Is(err, wire.ErrUnimplemented):
		return err
	}
	w.t.Errorf("%s: %v", w.home, err)
	return err
}

func (w *worker) create(path string, data []byte, acl []wire.ACL, mode wire.CreateMode) error {
	made, _, err := w.c.Create(w.ctx, path, data, acl, mode)
	w.keep(made, err)
	return err
}

func (w *worker) createTTL(path string, data []byte, acl []wire.ACL, mode wire.CreateMode, ttl time.Duration) error {
	made, _, err := w.c.CreateTTL(w.ctx, path, data, acl, mode, ttl)
	w.keep(made, err)
	return err
}

func (w *worker) keep(path string, err error) {
	if err != nil || !strings.HasPrefix(path, w.home) {
		return
	}
	if len(w.paths) < 200 {
		w.paths = append(w.paths, path)
	} else {
		w.paths[1+w.rng.IntN(len(w.paths)-1)] = path
	}
}

// path returns a znode that was there, and mostly still is.
func (w *worker) path() string {
	if w.rng.IntN(20) == 0 {
		return w.home
	}
	return w.paths[w.rng.IntN(len(w.paths))]
}

var names = []string{"a", "b", "c", "d", "e", "f", "äöü-ß", "日本語", "имя", "mit leer zeichen", "…", "\u00a0", "é́", "\uf900",
	"dubbo%3A%2F%2F127.0.0.1%3A20880%2Forg.demo.Greeter%3Fversion%3D1.0.0", strings.Repeat("long", 300)}

// fresh returns a path that may not be there yet.
func (w *worker) fresh() string {
	parent := w.path()
	if strings.Count(parent, "/") > 8 {
		parent = w.home
	}
	name := names[w.rng.IntN(len(names))]
	if w.rng.IntN(3) > 0 {
		w.n++
		name += fmt.Sprint(w.n)
	}
	return parent + "/" + name
}

func (w *worker) data() []byte {
	switch w.rng.IntN(12) {
	case 0, 1:
		return nil
	case 2, 3:
		return []byte{}
	case 4:
		return []byte("żółć 漢字 🙂")
	case 5:
		return randomBytes(w.rng, 20_000)
	}
	return randomBytes(w.rng, 100)
}

func randomBytes(rng *rand.Rand, most int) []byte {
	b := make([]byte, rng.IntN(most)+1)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func (w *worker) acl() []wire.ACL {
	one := func() wire.ACL {
		perms := wire.PermAll
		if w.rng.IntN(3) == 0 {
			perms = wire.Perms(w.rng.IntN(32))
		}
		ids := []wire.ID{
			{Scheme: "world", ID: "anyone"}, {Scheme: "world", ID: "anyone"}, {Scheme: "auth"}, {Scheme: "ip", ID: "127.0.0.1"},
			{Scheme: "ip", ID: "10.0.0.0/8"}, {Scheme: "ip", ID: "2001:db8::/32"}, {Scheme: "digest", ID: "somebody:G2RdrM8e0u0f1vNCj/TI99ebRMw="},
			{Scheme: "digest", ID: "ünlü:x"}, {Scheme: "nonsense", ID: "x"}, {Scheme: "world", ID: "nobody"},
		}
		return wire.ACL{Perms: perms, ID: ids[w.rng.IntN(len(ids))]}
	}
	switch w.rng.IntN(4) {
	case 0:
		list := []wire.ACL{}
		for range w.rng.IntN(4) {
			list = append(list, one())
		}
		return list
	case 1:
		// The session can still do everything.
		return []wire.ACL{{Perms: wire.PermAll, ID: wire.ID{Scheme: "auth"}}, one()}
	}
	return nil
}

func (w *worker) version() int32 {
	if w.rng.IntN(2) == 0 {
		return -1
	}
	return int32(w.rng.IntN(3))
}

// kinds are the operations, by name. Each may be refused.
var kinds = []struct {
	name   string
	weight int
	do     func(w *worker) error
}{
	{"create", 30, func(w *worker) error { return w.create(w.fresh(), w.data(), w.acl(), wire.Persistent) }},
	{"create sequential", 10, func(w *worker) error {
		return w.create(w.fresh(), w.data(), w.acl(), wire.PersistentSequential)
	}},
	{"create ephemeral", 10, func(w *worker) error { return w.create(w.fresh(), w.data(), w.acl(), wire.Ephemeral) }},
	{"create ephemeral sequential", 10, func(w *worker) error {
		return w.create(w.fresh(), w.data(), w.acl(), wire.EphemeralSequential)
	}},
	{"create container", 5, func(w *worker) error { return w.create(w.fresh(), w.data(), w.acl(), wire.Container) }},
	{"create TTL", 5, func(w *worker) error {
		return w.createTTL(w.fresh(), w.data(), w.acl(), wire.PersistentTTL, 20*time.Hour)
	}},
	{"create TTL sequential", 5, func(w *worker) error {
		return w.createTTL(w.fresh(), w.data(), w.acl(), wire.PersistentSequentialTTL, 20*time.Hour)
	}},
	{"setData", 30, func(w *worker) error { _, err := w.c.Set(w.ctx, w.path(), w.data(), w.version()); return err }},
	{"setACL", 10, func(w *worker) error {
		acl := w.acl()
		if acl == nil {
			acl = wire.OpenACL()
		}
		path := w.path()
		if path == w.home {
			return wire.ErrNoAuth // other sessions write here
		}
		_, err := w.c.SetACL(w.ctx, path, acl, w.version())
		return err
	}},
	{"delete", 20, func(w *worker) error {
		path := w.path()
		if path == w.home {
			return wire.ErrNotEmpty
		}
		return w.c.Delete(w.ctx, path, w.version())
	}},
	{"multi", 10, func(w *worker) error {
		parent := w.home + fmt.Sprintf("/multi%d", w.n)
		w.n++
		_, err := w.c.Multi(w.ctx,
			client.CreateOp(parent, w.data(), nil, wire.Persistent),
			client.CheckOp(parent, 0),
			client.CreateOp(parent+"/eph", w.data(), nil, wire.Ephemeral),
			client.CreateOp(parent+"/seq-", w.data(), []wire.ACL{{Perms: wire.PermAll, ID: wire.ID{Scheme: "auth"}}}, wire.PersistentSequential),
			client.SetOp(parent, w.data(), 0),
			client.CreateOp(parent+"/container", w.data(), nil, wire.Container),
			wire.MultiOp{Op: wire.OpCreateTTL, Record: &wire.CreateRequest{Path: parent + "/ttl", Data: w.data(),
				ACL: wire.OpenACL(), Mode: wire.PersistentTTL, TTLMs: 72_000_000, HasTTL: true}},
			client.CreateOp(parent+"/gone", nil, nil, wire.Persistent),
			client.SetOp(parent+"/gone", []byte("x"), -1),
			client.DeleteOp(parent+"/gone", 1),
			client.DeleteOp(parent+"/eph", 0),
			client.CreateOp(parent+"/eph", []byte{}, nil, wire.EphemeralSequential))
		return err
	}},
	{"multi that may fail", 10, func(w *worker) error {
		_, err := w.c.Multi(w.ctx,
			client.SetOp(w.path(), w.data(), -1),
			client.CreateOp(w.fresh(), w.data(), nil, wire.Ephemeral),
			client.DeleteOp(w.paths[w.rng.IntN(len(w.paths))], -1))
		return err
	}},
	{"multi that fails", 5, func(w *worker) error {
		_, err := w.c.Multi(w.ctx, client.CreateOp(w.home+"/never", w.data(), nil, wire.Persistent),
			client.SetOp(w.home, w.data(), -1), client.CheckOp(w.home, 1<<30))
		return err
	}},
	{"reconfig", 1, func(w *worker) error { _, _, err := w.c.Reconfig(w.ctx, "", "1", "", -1); return err }},
	{"sync", 2, func(w *worker) error { return w.c.Sync(w.ctx, w.path()) }},
	{"session with ephemerals, closed", 1, func(w *worker) error {
		c, stop := peer.Connect(w.t, client.Config{Servers: w.addr, SessionTimeout: 30 * time.Second})
		defer stop()
		for i := range w.rng.IntN(3) {
			if _, _, err := c.Create(w.ctx, fmt.Sprintf("%s/closed%d-%d", w.home, w.n, i), w.data(), nil, wire.Ephemeral); err != nil {
				return err
			}
		}
		w.n++
		return c.CloseSession(w.ctx)
	}},
}

// random does one operation.
func (w *worker) random() {
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	at := w.rng.IntN(sum)
	for _, k := range kinds {
		if at -= k.weight; at < 0 {
			w.count(k.name, w.must(k.do(w)))
			return
		}
	}
}

// everything does what chance would do too seldom, and some things wait for.
func (w *worker) everything() {
	try := func(kind string, errs ...error) {
		w.t.Helper()
		err := errors.Join(errs...)
		w.count(kind, err)
		if err != nil {
			w.t.Errorf("%s: %s: %v", w.home, kind, err)
		}
	}
	for _, k := range kinds {
		w.count(k.name, w.must(k.do(w)))
	}

	// Containers and TTL znodes that go, and a container that was never used.
	container, ttl := w.home+"/container", w.home+"/ttl"
	try("container that is used", w.create(container, []byte("c"), nil, wire.Container), w.create(container+"/x", nil, nil, wire.Persistent),
		w.c.Delete(w.ctx, container+"/x", -1))
	try("TTL that ends", w.createTTL(ttl, nil, nil, wire.PersistentTTL, 100*time.Millisecond))
	try("container never used", w.create(w.home+"/unused", nil, nil, wire.Container))

	// A session that is not closed, and expires.
	c, stop := peer.Connect(w.t, client.Config{Servers: w.addr, SessionTimeout: time.Second})
	lost := w.home + "/lost"
	_, _, err := c.Create(w.ctx, lost, []byte("soon gone"), nil, wire.Ephemeral)
	stop()
	try("ephemeral that is lost", err)

	// Limits of a quota, and statistics that the server keeps.
	quota := "/zookeeper/quota" + w.home
	for _, dir := range []string{"/zookeeper/quota/load", quota} {
		if err := w.create(dir, nil, nil, wire.Persistent); err != nil && !errors.Is(err, wire.ErrNodeExists) {
			try("quota", err)
		}
	}
	_, err = w.c.Multi(w.ctx, // or Apache's server complains if a znode goes in between
		client.CreateOp(quota+"/zookeeper_limits", []byte("count=100000,bytes=-1=;byteHardLimit=50000000;countHardLimit=-1"), nil, wire.Persistent),
		client.CreateOp(quota+"/zookeeper_stats", []byte("count=1,bytes=0"), nil, wire.Persistent))
	try("quota", err)

	// A lot of children, and large data.
	var wg sync.WaitGroup
	crowd := w.home + "/crowd"
	try("crowd", w.create(crowd, nil, nil, wire.Persistent))
	errs := make([]error, 1000)
	for i := range errs {
		wg.Go(func() { _, _, errs[i] = w.c.Create(w.ctx, crowd+"/n-", nil, nil, wire.PersistentSequential) })
	}
	wg.Wait()
	try("crowd", errs...)
	for i := range errs[:100] {
		wg.Go(func() { errs[i] = w.c.Delete(w.ctx, fmt.Sprintf("%s/n-%010d", crowd, i*7), 0) })
	}
	wg.Wait()
	try("crowd", errs...)
	try("large data", w.create(w.home+"/large", slices.Repeat([]byte("large"), 209_000), nil, wire.Persistent))

	for _, path := range []string{container, ttl, lost} {
		try("removal by the server", w.awaitGone(path))
	}
}

func (w *worker) awaitGone(path string) error {
	deadline := time.Now().Add(peer.Patience)
	for {
		_, found, events, err := w.c.ExistsW(w.ctx, path)
		if err != nil || !found {
			return err
		}
		select {
		case <-events:
		case <-time.After(time.Until(deadline)):
			return fmt.Errorf("%s is still there", path)
		}
	}
}

// quiet waits until nothing is left for the server to do by itself, and returns
// the last zxid.
func quiet(t *testing.T, s *peer.Server) zab.Zxid {
	t.Helper()
	const still = 1500 * time.Millisecond // more than twice the container interval, and an expiry
	deadline := time.Now().Add(peer.Patience)
	last, since := s.Zxid(t), time.Now()
	for time.Since(since) < still {
		time.Sleep(50 * time.Millisecond)
		if z := s.Zxid(t); z != last {
			last, since = z, time.Now()
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come to rest", s.Kind)
		}
	}
	return last
}
