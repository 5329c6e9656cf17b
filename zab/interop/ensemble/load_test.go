//go:build interop

package ensemble

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/wire"
)

// A plan says what a load does.
type plan struct {
	pace    time.Duration // pause between two steps of a worker
	writers []string      // connect strings
	readers []string      // of workers that do nothing but read after a sync
	stale   bool          // such a read that is stale is counted, not reported
}

// A load is a number of workers that write, each on a session of its own, and
// keep a history.
type load struct {
	plan
	t       testing.TB
	began   time.Time
	staled  atomic.Int64
	read    atomic.Int64 // after a sync
	workers []*worker    // the writers

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// A worker is a client that writes below a znode of its own.
type worker struct {
	*load
	c      *client.Client
	id     int
	home   string
	n      int
	acked  atomic.Int64
	writes []write // of the worker until the load has stopped

	register atomic.Int32 // version of home/reg that was acknowledged
	doubt    bool         // it may be one more
	held     []string     // ephemerals
	session  zab.SessionID
}

// sessionTimeout outlives the longest cut, and what comes after it: a connection
// that lost packets for 12 s may be silent for as long again.
const sessionTimeout = 40 * time.Second

// loads counts the homes of workers.
var loads atomic.Int32

// startLoad runs a worker for each connect string.
func startLoad(t testing.TB, p plan) *load {
	t.Helper()
	l := &load{plan: p, t: t, began: time.Now()}
	ctx, cancel := context.WithTimeout(t.Context(), peer.Patience)
	defer cancel()
	for i, s := range p.writers {
		w := &worker{load: l, c: l.connect(s), id: i, home: fmt.Sprintf("/load/%d-%d", loads.Add(1), i)}
		for _, path := range []string{"/load", w.home, w.home + "/reg"} {
			if _, _, err := w.c.Create(ctx, path, nil, nil, wire.Persistent); err != nil && !errors.Is(err, wire.ErrNodeExists) {
				t.Fatalf("%s on %s: %v", path, s, err)
			}
		}
		st, _, err := w.c.Exists(ctx, w.home+"/reg")
		if err != nil {
			t.Fatal(err)
		}
		w.writes = []write{{path: w.home + "/reg", acked: true, zxid: st.Czxid}}
		w.session = w.c.Session().ID
		l.workers = append(l.workers, w)
	}
	run, stop := context.WithCancel(context.Background())
	l.cancel = stop
	t.Cleanup(l.stop)
	for _, w := range l.workers {
		l.wg.Go(func() { l.repeat(run, fmt.Sprintf("worker %d", w.id), w.step) })
	}
	for i, s := range p.readers {
		c := l.connect(s)
		n := 0
		l.wg.Go(func() {
			l.repeat(run, fmt.Sprintf("reader %d", i), func(ctx context.Context) error {
				n++
				return l.readAfterSync(ctx, c, l.workers[n%len(l.workers)])
			})
		})
	}
	return l
}

func (l *load) connect(servers string) *client.Client {
	l.t.Helper()
	timeout := sessionTimeout
	if strings.Contains(servers, ",") {
		timeout /= 2 // it can go elsewhere, and should do so soon
	}
	c, _ := peer.Connect(l.t, client.Config{
		Servers: servers, SessionTimeout: timeout, ConnectTimeout: time.Second, MaxBackoff: 50 * time.Millisecond, ExitOnExpiry: true,
	})
	return c
}

// stop lets the workers finish what they are doing.
func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

// acked is the number of acknowledged writes.
func (l *load) acked() (n int64) {
	for _, w := range l.workers {
		n += w.acked.Load()
	}
	return n
}

// awaitProgress waits until each worker has had some more writes acknowledged.
func (l *load) awaitProgress(e *peer.Ensemble) {
	l.t.Helper()
	l.awaitProgressOf(e, l.workers)
}

func (l *load) awaitProgressOf(e *peer.Ensemble, workers []*worker) {
	l.t.Helper()
	deadline := time.Now().Add(peer.Patience)
	for _, w := range workers {
		for from := w.acked.Load(); w.acked.Load() < from+5; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				e.Fatalf(l.t, "no write of worker %d is acknowledged", w.id)
			}
		}
	}
}

// check compares the history with itself and with every tree, after stop.
func (l *load) check(states []*peer.State) {
	l.t.Helper()
	var all []write
	unknown := 0
	for _, w := range l.workers {
		all = append(all, w.writes...)
		if id := w.c.Session().ID; id != w.session {
			l.t.Errorf("session %v of worker %d has become %v", w.session, w.id, id)
		}
	}
	for _, w := range all {
		if !w.acked {
			unknown++
		}
	}
	report := func(what string, errs []error) {
		l.t.Helper()
		for i, err := range errs {
			if i == 10 {
				l.t.Errorf("%s: %d more", what, len(errs)-i)
				break
			}
			l.t.Errorf("%s: %v", what, err)
		}
	}
	report("order", checkOrder(all))
	for _, st := range states {
		tree := map[string]found{}
		for path, z := range st.Znodes {
			tree[path] = found{string(z.Data), z.Stat.Version, z.Stat.Czxid, z.Stat.Mzxid, z.Stat.EphemeralOwner}
		}
		for _, w := range l.workers {
			report("tree", checkTree(w.writes, w.home, tree))
		}
	}
	l.t.Logf("load: %d writes acknowledged, %d unknown; %d reads after a sync, %d stale", l.acked(), unknown, l.read.Load(), l.staled.Load())
}

// repeat calls a step until ctx ends.
func (l *load) repeat(ctx context.Context, who string, step func(context.Context) error) {
	pause := time.NewTicker(l.pace)
	defer pause.Stop()
	for ctx.Err() == nil {
		// What was asked for goes to its end, unless there is none.
		stepCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		grace := context.AfterFunc(ctx, func() { time.AfterFunc(peer.Patience/2, cancel) })
		err := step(stepCtx)
		grace()
		cancel()
		if err != nil {
			l.t.Errorf("%s: %v", who, err)
			return
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// do carries out one write, and adds it to the history with all that it changes.
// An error means a fault, not a lost connection.
func (w *worker) do(f func() (zab.Zxid, error), changes ...write) (acked bool, err error) {
	call := time.Since(w.began)
	zxid, err := f()
	ret := time.Since(w.began)
	unknown := errors.Is(err, wire.ErrConnectionLoss) || errors.Is(err, context.Canceled) || errors.Is(err, client.ErrClosed)
	if err != nil && !unknown {
		return false, fmt.Errorf("%+v: %w", changes, err)
	}
	if err == nil {
		w.acked.Add(1)
	}
	for _, c := range changes {
		c.call, c.ret, c.acked, c.zxid = call, ret, err == nil, zxid
		w.writes = append(w.writes, c)
	}
	return err == nil, nil
}

// step does one operation.
func (w *worker) step(ctx context.Context) error {
	if w.doubt {
		return w.resolve(ctx)
	}
	w.n++
	path := fmt.Sprintf("%s/n-%d", w.home, w.n)
	id := fmt.Sprintf("%d/%d", w.id, w.n)
	reg, version := w.home+"/reg", w.register.Load()
	change := write{path: reg, version: version + 1}
	switch w.n % 10 {
	default:
		_, err := w.do(func() (zab.Zxid, error) {
			_, st, err := w.c.Create(ctx, path, []byte(id), nil, wire.Persistent)
			return st.Czxid, err
		}, write{path: path, id: id})
		return err
	case 1, 5:
		acked, err := w.do(func() (zab.Zxid, error) {
			st, err := w.c.Set(ctx, reg, []byte(strconv.Itoa(int(version+1))), version)
			return st.Mzxid, err
		}, change)
		return w.registered(acked, err)
	case 2:
		acked, err := w.do(func() (zab.Zxid, error) {
			res, err := w.c.Multi(ctx, createOp(path, id, wire.Persistent),
				client.SetOp(reg, []byte(strconv.Itoa(int(version+1))), version))
			if err == nil && len(res) != 2 {
				err = fmt.Errorf("a multi of 2 operations has %d results", len(res))
			}
			if err != nil {
				return 0, err
			}
			return res[1].Record.(*wire.Stat).Mzxid, nil
		}, write{path: path, id: id}, change)
		return w.registered(acked, err)
	case 3:
		// The name comes with the answer.
		c := write{id: id}
		call := len(w.writes)
		_, err := w.do(func() (zab.Zxid, error) {
			name, st, err := w.c.Create(ctx, w.home+"/s-", []byte(id), nil, wire.PersistentSequential)
			c.path = name
			return st.Czxid, err
		}, c)
		if err == nil && w.writes[call].acked {
			w.writes[call].path = c.path
		}
		return err
	case 4:
		acked, err := w.do(func() (zab.Zxid, error) {
			_, st, err := w.c.Create(ctx, path, []byte(id), nil, wire.Ephemeral)
			return st.Czxid, err
		}, write{path: path, id: id, owner: w.session})
		if acked {
			w.held = append(w.held, path)
		}
		return err
	case 6:
		if len(w.held) < 5 {
			return nil
		}
		path, w.held = w.held[0], w.held[1:]
		_, err := w.do(func() (zab.Zxid, error) { return 0, w.c.Delete(ctx, path, 0) }, write{path: path, version: deleted, owner: w.session})
		return err
	case 7:
		return w.readAfterSync(ctx, w.c, w.workers[(w.id+w.n/10)%len(w.workers)])
	}
}

func (w *worker) registered(acked bool, err error) error {
	if acked {
		w.register.Add(1)
	}
	w.doubt = !acked
	return err
}

// resolve finds out whether the last write to the register was carried out.
func (w *worker) resolve(ctx context.Context) error {
	st, err := synced(ctx, w.c, w.home+"/reg")
	if err != nil || st == nil {
		return err
	}
	version := w.register.Load()
	if st.Version != version && st.Version != version+1 {
		return fmt.Errorf("version of %s/reg is %d, acknowledged %d", w.home, st.Version, version)
	}
	w.register.Store(st.Version)
	w.doubt = false
	return nil
}

// readAfterSync holds that a read after a sync sees what was acknowledged before
// to anybody.
func (l *load) readAfterSync(ctx context.Context, c *client.Client, of *worker) error {
	least := of.register.Load()
	st, err := synced(ctx, c, of.home+"/reg")
	if err != nil || st == nil {
		return err
	}
	l.read.Add(1)
	if st.Version < least {
		l.staled.Add(1)
		if !l.stale {
			return fmt.Errorf("stale read after sync: version of %s/reg is %d, %d was acknowledged before", of.home, st.Version, least)
		}
	}
	return nil
}

// synced reads after a sync; nil if the connection broke.
func synced(ctx context.Context, c *client.Client, path string) (*wire.Stat, error) {
	err := c.Sync(ctx, path)
	if err == nil {
		var st wire.Stat
		if _, st, err = c.Get(ctx, path); err == nil {
			return &st, nil
		}
	}
	if errors.Is(err, wire.ErrConnectionLoss) || errors.Is(err, context.Canceled) {
		return nil, nil
	}
	return nil, fmt.Errorf("%s: %w", path, err)
}

// createOp is what Java's clients send: a server before 3.9 that follows one of
// 3.9 does not carry out a multi with a create2 in it, and goes on without.
func createOp(path, data string, mode wire.CreateMode) wire.MultiOp {
	return wire.MultiOp{Op: wire.OpCreate, Record: &wire.CreateRequest{Path: path, Data: []byte(data), ACL: wire.OpenACL(), Mode: mode}}
}
