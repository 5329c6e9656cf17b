//go:build interop

package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/znode"
)

func TestMain(m *testing.M) { os.Exit(peer.Main(m)) }

// rounds is how often the server is killed: PADDOCK_TORTURE_ROUNDS, or 200.
func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("PADDOCK_TORTURE_ROUNDS")
	if text == "" {
		return 200
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("PADDOCK_TORTURE_ROUNDS=%q: want a number", text)
	}
	return n
}

// A world is one server and the clients that work on it through all its deaths.
type world struct {
	t   *testing.T
	ctx context.Context
	s   *peer.Server
	rng *rand.Rand // of the test's goroutine

	// Workers hold the gate shared during each operation, the check holds it
	// alone: then no write is under way.
	gate   sync.RWMutex
	top    atomic.Int64 // highest zxid that an answer told
	acked  atomic.Int64 // writes
	lost   atomic.Int64 // writes whose outcome was unknown
	took   atomic.Int64 // of these, those that turned out to be carried out
	faults atomic.Int64

	workers []worker
	reader  *client.Client
}

// A worker writes on a session of its own and knows what must be there.
type worker interface {
	// step does one operation or a few. An error ends the test.
	step(ctx context.Context) error
	// check compares the tree with what it knows. It is not called during step.
	check(ctx context.Context, reader *client.Client) error
}

func newWorld(t *testing.T, settings ...string) *world {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, rng: rand.New(rand.NewPCG(seed, 0))}
	w.s = peer.Start(t, peer.KindPaddock, t.TempDir(), settings...)
	w.reader, _ = w.connect(time.Minute)
	for _, dir := range []string{"/register", "/pair", "/sequence", "/churn", "/ephemeral", "/session"} {
		if _, _, err := w.reader.Create(ctx, dir, nil, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) connect(timeout time.Duration) (*client.Client, func()) {
	return w.connectOver(nil, timeout)
}

// connectOver connects over a network that can be cut.
func (w *world) connectOver(n *network, timeout time.Duration) (*client.Client, func()) {
	var dial func(context.Context, string) (net.Conn, error)
	if n != nil {
		dial = n.dial
	}
	return peer.Connect(w.t, client.Config{
		Servers: w.s.Addr(), SessionTimeout: timeout, Dial: dial,
		MaxBackoff: 50 * time.Millisecond, // the server is away for a short time only
	})
}

func (w *world) fault(format string, args ...any) {
	if w.faults.Add(1) <= 20 {
		w.t.Errorf(format, args...)
	}
}

// saw takes note of a zxid that the server told in an answer.
func (w *world) saw(z zab.Zxid) {
	for {
		old := w.top.Load()
		if int64(z) <= old || w.top.CompareAndSwap(old, int64(z)) {
			return
		}
	}
}

// run lets every worker work until stop is called.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	var wg sync.WaitGroup
	for _, k := range w.workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				w.gate.RLock()
				// A step goes to its end: what it asked for must not get lost.
				stepCtx, done := context.WithTimeout(w.ctx, peer.Patience)
				err := k.step(stepCtx)
				done()
				w.gate.RUnlock()
				if err != nil {
					if w.ctx.Err() == nil {
						w.fault("%T: %v", k, err)
					}
					return
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// check stops the workers between two operations and compares the server's tree
// with what each of them knows.
func (w *world) check(what string) {
	w.t.Helper()
	w.gate.Lock()
	defer w.gate.Unlock()
	ctx, cancel := context.WithTimeout(w.ctx, peer.Patience)
	defer cancel()
	for _, k := range w.workers {
		if err := k.check(ctx, w.reader); err != nil {
			w.fault("%s: %T: %v", what, k, err)
		}
	}
	if z, top := w.s.Zxid(w.t), zab.Zxid(w.top.Load()); z < top {
		w.fault("%s: the server is at %v, and has told %v before", what, z, top)
	}
	if n := w.s.Metric(w.t, "digest_mismatches_count"); n != 0 {
		w.fault("%s: %v digest mismatches", what, n)
	}
}

// trouble finds the lines of the server's log that must not be there.
var trouble = regexp.MustCompile(`(?im)^.*(level=ERROR|mismatch|digest of the tree|panic:|fatal error:).*$`)

// finish checks what the server left.
func (w *world) finish() {
	w.t.Helper()
	if w.t.Failed() {
		w.t.Logf("the server's log:\n%s", w.s.Tail())
	}
	w.s.Kill()
	for _, line := range trouble.FindAllString(w.s.Output(), 10) {
		w.t.Errorf("log: %s", line)
	}
	report, err := storage.Verify(storage.Config{DataDir: w.s.Data(), Znode: znode.Config{Digest: true, ExtendedTypes: true}})
	if err != nil || report.Err != nil {
		w.t.Errorf("verify: %v", errors.Join(err, report.Err))
	}
	if top := zab.Zxid(w.top.Load()); report != nil && report.LastZxid < top {
		w.t.Errorf("the files end at %v, the server has told %v", report.LastZxid, top)
	}
}

// TestKill kills the server again and again under load. What was acknowledged
// must be there, what was not asked for must not, and ephemerals live and die
// with their sessions.
func TestKill(t *testing.T) {
	w := newWorld(t, "tickTime=100", "minSessionTimeout=200", "snapCount=300", "snapshot.trust.empty=false")
	session := &sessions{world: w}
	w.workers = []worker{
		newRegister(w, 0), newRegister(w, 1), newPair(w), newSequence(w, 0), newSequence(w, 1), newChurn(w),
		newEphemerals(w, 0), newEphemerals(w, 1), session,
	}
	n := rounds(t)
	var starts []time.Duration
	killedAtStart, terminated := 0, 0
	began := time.Now()
	stop := w.run()
	for i := range n {
		time.Sleep(time.Duration(50+w.rng.IntN(350)) * time.Millisecond)
		if w.rng.IntN(10) == 0 {
			terminated++
			w.s.Term(t)
		} else {
			w.s.Kill()
		}
		for w.rng.IntN(8) == 0 { // and once more before it serves
			killedAtStart++
			w.s.RestartFor(t, time.Duration(w.rng.IntN(60))*time.Millisecond)
		}
		w.s.Restart(t)
		starts = append(starts, w.s.Started)
		w.check(fmt.Sprintf("round %d", i))
		if i%20 == 19 || i == n-1 {
			session.awaitExpiry()
		}
		if t.Failed() {
			break // every later round would wait in vain
		}
	}
	stop()
	w.check("at the end")
	session.awaitExpiry()
	w.finish()
	slices.Sort(starts)
	t.Logf("%d rounds in %v: %d writes acknowledged, %d unknown of which %d were carried out; %d sessions closed, %d expired",
		n, time.Since(began).Round(time.Second), w.acked.Load(), w.lost.Load(), w.took.Load(), session.closed, session.expired)
	t.Logf("%d ends by SIGTERM, %d more kills during the start; start to serving: median %v, worst %v",
		terminated, killedAtStart, starts[len(starts)/2].Round(time.Millisecond), starts[len(starts)-1].Round(time.Millisecond))
}

// TestPause stops the server, or cuts the network of some clients, for longer
// than sessions last. Whatever the server then decides about sessions, their
// ephemerals must fit.
func TestPause(t *testing.T) {
	w := newWorld(t, "tickTime=200")
	session := &sessions{world: w}
	var owners []*ephemerals
	for i := range 4 {
		e := newEphemerals(w, i)
		e.cuts = &network{}
		owners = append(owners, e)
		w.workers = append(w.workers, e)
	}
	w.workers = append(w.workers, newRegister(w, 0), newPair(w), session)
	n := max(4, rounds(t)/10)
	cut, paused := 0, 0
	stop := w.run()
	for i := range n {
		time.Sleep(time.Duration(200+w.rng.IntN(300)) * time.Millisecond)
		if i%2 == 0 {
			before := expired(owners)
			w.s.Signal(t, syscall.SIGSTOP)
			time.Sleep(pausedSession + 600*time.Millisecond + time.Duration(w.rng.IntN(400))*time.Millisecond)
			w.s.Signal(t, syscall.SIGCONT)
			w.check(fmt.Sprintf("pause %d", i))
			paused += expired(owners) - before
		} else {
			half := owners[:2]
			before := expired(half)
			w.gate.Lock()
			ids := []zab.SessionID{half[0].c.Session().ID, half[1].c.Session().ID}
			w.gate.Unlock()
			for _, e := range half {
				e.cuts.cut()
			}
			w.awaitEnd(ids)
			for _, e := range half {
				e.cuts.heal()
			}
			w.check(fmt.Sprintf("cut %d", i))
			cut += len(half)
			if n := expired(half) - before; n != len(half) {
				w.fault("cut %d: %d of %d sessions expired", i, n, len(half))
			}
		}
		session.awaitExpiry()
		if t.Failed() {
			break
		}
	}
	stop()
	w.check("at the end")
	w.finish()
	t.Logf("%d rounds, %d sessions: %d expired when the network was cut %d times, %d when the server was paused; %d that were left expired; %d writes acknowledged, %d unknown of which %d were carried out",
		n, len(owners), expired(owners)-paused, cut, paused, session.expired, w.acked.Load(), w.lost.Load(), w.took.Load())
}

// awaitEnd waits until the server does not keep these sessions any more. That
// takes their timeout and up to a tick, and all of it again after a moment in
// which the server got no processor.
func (w *world) awaitEnd(ids []zab.SessionID) {
	w.t.Helper()
	deadline := time.Now().Add(peer.Patience)
	for {
		alive := w.s.Sessions(w.t)
		if !slices.ContainsFunc(ids, func(id zab.SessionID) bool { return slices.Contains(alive, id) }) {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("sessions %v do not expire", ids)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func expired(list []*ephemerals) int {
	n := 0
	for _, e := range list {
		n += e.expired
	}
	return n
}

// pausedSession is the session timeout of clients that may be expired.
const pausedSession = time.Second

// A network is that of one client.
type network struct {
	mu    sync.Mutex // guards down and conns
	down  bool
	conns []net.Conn
}

func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		conn.Close()
		return nil, errors.New("the network is cut")
	}
	n.conns = append(n.conns, conn)
	return conn, nil
}

// count returns how many connections there were since the last cut.
func (n *network) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns)
}

func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = true
	for _, conn := range n.conns {
		conn.Close()
	}
	n.conns = nil
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = false
}
