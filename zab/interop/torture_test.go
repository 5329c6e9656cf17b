//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// rounds is how often the torture kills the server: INTEROP_ROUNDS, or 30.
func rounds(t *testing.T) int {
	t.Helper()
	v := os.Getenv("INTEROP_ROUNDS")
	if v == "" {
		return 30
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("INTEROP_ROUNDS=%q is not a count", v)
	}
	return n
}

// TestKillUnderLoad ends the server with kill -9 again and again while clients
// write, now and then a second time while it recovers. After each restart every
// acknowledged write must be there, every ephemeral of a session that lives, and
// none of a session that was closed; in the end none of one that expired.
func TestKillUnderLoad(t *testing.T) {
	n := rounds(t)
	run(t, "kill -9 under load", fmt.Sprintf("%d rounds", n), "nothing is lost", func(t *testing.T) {
		s := startServer(t, *peer, t.TempDir(), "tickTime=200", "maxSessionTimeout=30000", "snapCount=2000", "preAllocSize=1024")
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))

		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		boss, _ := connect(t, s, client.Config{SessionTimeout: 25 * time.Second})
		if _, _, err := boss.Create(ctx, "/expired", nil, nil, wire.Persistent); err != nil {
			t.Fatal(err)
		}
		var (
			writers []*writer
			wg      sync.WaitGroup
			stop    atomic.Bool
		)
		for i := range 6 {
			c, _ := connect(t, s, client.Config{SessionTimeout: 25 * time.Second})
			w := &writer{c: c, root: fmt.Sprintf("/w%d", i), rng: rand.New(rand.NewPCG(seed, uint64(i+1))), known: map[string]content{}}
			if _, _, err := c.Create(ctx, w.root, nil, nil, wire.Persistent); err != nil {
				t.Fatal(err)
			}
			writers = append(writers, w)
			wg.Go(func() {
				for !stop.Load() && w.err == nil {
					w.err = w.step(ctx)
				}
			})
		}

		sessions := 0
		for round := range n {
			// A session whose client vanishes without a word, and one that is closed.
			for _, closed := range []bool{false, true} {
				if err := vanish(ctx, t, s, fmt.Sprintf("/expired/%d-%v", round, closed), closed); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				sessions++
			}
			time.Sleep(time.Duration(50+rng.IntN(200)) * time.Millisecond)
			s.kill()
			for rng.IntN(4) == 0 { // again while it starts
				s.launch(t)
				time.Sleep(time.Duration(rng.IntN(40)) * time.Millisecond)
				s.kill()
			}
			s.start(t)
			if _, found, err := boss.Exists(ctx, fmt.Sprintf("/expired/%d-true", round)); err != nil || found {
				t.Fatalf("round %d: the ephemeral of a closed session is found %v, %v", round, found, err)
			}
			for _, w := range writers {
				w.verify.Store(true)
			}
		}
		stop.Store(true)
		finished := make(chan struct{})
		go func() { wg.Wait(); close(finished) }()
		select {
		case <-finished:
		case <-time.After(patience):
			t.Fatalf("the writers do not come back\n%s", s.log())
		}
		acked, ops := 0, 0
		for _, w := range writers {
			if err := errors.Join(w.err, w.verifyAll(ctx)); err != nil {
				t.Errorf("%s: %v", w.root, err)
			}
			if w.session != w.c.Session().ID {
				t.Errorf("%s: session %v became %v", w.root, w.session, w.c.Session().ID)
			}
			acked += w.acked
			ops += w.acked + w.unknown
		}
		// All that vanished expire within their timeout after the last restart.
		deadline := time.Now().Add(10 * time.Second)
		for {
			names, _, err := boss.Children(ctx, "/expired")
			if err != nil {
				t.Fatal(err)
			}
			if len(names) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("ephemerals of expired sessions: %v", names)
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Logf("%d rounds, %d writes, %d acknowledged, %d sessions ended", n, ops, acked, sessions)
		if acked < 20*n {
			t.Errorf("%d writes were acknowledged: too few to prove anything", acked)
		}
		if t.Failed() {
			t.Logf("%s", s.log())
		}
	})
}

// vanish makes a session with an ephemeral znode and drops it: closed, or as if
// its process had died.
func vanish(ctx context.Context, t *testing.T, s *server, path string, closed bool) error {
	c, stop := connect(t, s, client.Config{SessionTimeout: 2 * time.Second})
	defer stop()
	if _, _, err := c.Create(ctx, path, nil, nil, wire.Ephemeral); err != nil {
		return err
	}
	if closed {
		return c.CloseSession(ctx)
	}
	return nil
}

// A writer owns the znodes below root: it knows what each of them must hold.
type writer struct {
	c       *client.Client
	root    string
	rng     *rand.Rand
	known   map[string]content // by name; absent: there is no such znode
	session zab.SessionID      // that of the first step; it must live throughout
	acked   int
	unknown int // writes whose outcome had to be looked up
	serial  int
	verify  atomic.Bool // set from outside: look at everything now
	err     error
}

// content is what a znode holds.
type content struct {
	exists    bool
	data      string
	version   int32
	ephemeral bool
}

func (w *writer) step(ctx context.Context) error {
	if w.session == 0 {
		w.session = w.c.Session().ID
	}
	if w.verify.CompareAndSwap(true, false) {
		return w.verifyAll(ctx)
	}
	name := fmt.Sprintf("k%d", w.rng.IntN(20))
	path := w.root + "/" + name
	before := w.known[name]
	after := before
	w.serial++
	data := fmt.Sprintf("%s %d", path, w.serial)
	var err error
	switch {
	case !before.exists:
		after = content{exists: true, data: data, ephemeral: w.rng.IntN(3) == 0}
		mode := wire.Persistent
		if after.ephemeral {
			mode = wire.Ephemeral
		}
		_, _, err = w.c.Create(ctx, path, []byte(data), nil, mode)
	case w.rng.IntN(4) == 0:
		after = content{}
		err = w.c.Delete(ctx, path, before.version)
	case w.rng.IntN(4) == 0: // all or nothing
		after.data, after.version = data, before.version+2
		_, err = w.c.Multi(ctx, client.SetOp(path, []byte("half"), before.version), client.SetOp(path, []byte(data), before.version+1))
	default:
		after.data, after.version = data, before.version+1
		_, err = w.c.Set(ctx, path, []byte(data), before.version)
	}
	switch {
	case err == nil:
		w.acked++
		w.known[name] = after
		return nil
	case errors.Is(err, wire.ErrConnectionLoss):
		w.unknown++
		now, err := w.read(ctx, name)
		if err != nil {
			return err
		}
		if now != before && now != after {
			return fmt.Errorf("%s holds %+v, was %+v, and a write whose outcome is not known makes %+v", path, now, before, after)
		}
		w.known[name] = now
		return nil
	default:
		return fmt.Errorf("%s, known as %+v: %w", path, before, err)
	}
}

func (w *writer) read(ctx context.Context, name string) (content, error) {
	data, stat, err := w.c.Get(ctx, w.root+"/"+name)
	if errors.Is(err, wire.ErrNoNode) {
		return content{}, nil
	}
	if err != nil {
		return content{}, err
	}
	if stat.EphemeralOwner != 0 && stat.EphemeralOwner != w.session {
		return content{}, fmt.Errorf("%s/%s belongs to session %v, not %v", w.root, name, stat.EphemeralOwner, w.session)
	}
	return content{true, string(data), stat.Version, stat.EphemeralOwner != 0}, nil
}

// verifyAll reads everything the writer ever made.
func (w *writer) verifyAll(ctx context.Context) error {
	for i := range 20 {
		name := fmt.Sprintf("k%d", i)
		now, err := w.read(ctx, name)
		if err != nil {
			return err
		}
		if now != w.known[name] {
			return fmt.Errorf("%s/%s holds %+v, but %+v was acknowledged", w.root, name, now, w.known[name])
		}
	}
	return nil
}
