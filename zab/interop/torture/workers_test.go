//go:build interop

package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/wire"
)

// liveSession is the timeout of sessions that must outlive every restart.
const liveSession = 30 * time.Second

// unknown reports whether nobody knows if a write was carried out.
func unknown(err error) bool { return errors.Is(err, wire.ErrConnectionLoss) }

// A register counts up in one znode, whose version must be its data.
type register struct {
	*world
	c       *client.Client
	path    string
	version int32 // acknowledged
	maybe   bool  // the next one was asked for
	mzxid   zab.Zxid
}

func newRegister(w *world, i int) *register {
	c, _ := w.connect(liveSession)
	r := &register{world: w, c: c, path: fmt.Sprintf("/register/%d", i)}
	if _, _, err := w.reader.Create(w.ctx, r.path, []byte("0"), nil, wire.Persistent); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (r *register) step(ctx context.Context) error {
	if r.maybe {
		return r.check(ctx, r.c)
	}
	st, err := r.c.Set(ctx, r.path, strconv.AppendInt(nil, int64(r.version)+1, 10), r.version)
	switch {
	case unknown(err):
		r.lost.Add(1)
		r.maybe = true
		return nil
	case err != nil:
		return err
	case st.Version != r.version+1 || st.Mzxid <= r.mzxid:
		return fmt.Errorf("set after version %d at %v answered %+v", r.version, r.mzxid, st)
	}
	r.acked.Add(1)
	r.saw(st.Mzxid)
	r.version, r.mzxid = st.Version, st.Mzxid
	return nil
}

func (r *register) check(ctx context.Context, reader *client.Client) error {
	data, st, err := reader.Get(ctx, r.path)
	if err != nil {
		return err
	}
	carriedOut := r.maybe && st.Version == r.version+1 && st.Mzxid > r.mzxid
	if string(data) != strconv.Itoa(int(st.Version)) ||
		!carriedOut && (st.Version != r.version || r.mzxid != 0 && st.Mzxid != r.mzxid) {
		return fmt.Errorf("%q, %+v; acknowledged was version %d at %v, one more was asked for: %v", data, st, r.version, r.mzxid, r.maybe)
	}
	if carriedOut {
		r.took.Add(1)
	}
	r.version, r.mzxid, r.maybe = st.Version, st.Mzxid, false
	r.saw(st.Mzxid)
	return nil
}

// A pair changes several znodes in one multi: two counters, and a znode whose
// name counts with them.
type pair struct {
	*world
	c     *client.Client
	n     int
	maybe bool
}

func newPair(w *world) *pair {
	c, _ := w.connect(liveSession)
	for _, path := range []string{"/pair/a", "/pair/b", "/pair/token-0"} {
		if _, _, err := w.reader.Create(w.ctx, path, []byte("0"), nil, wire.Persistent); err != nil {
			w.t.Fatal(err)
		}
	}
	return &pair{world: w, c: c}
}

func (p *pair) step(ctx context.Context) error {
	if p.maybe {
		return p.check(ctx, p.c)
	}
	next := []byte(strconv.Itoa(p.n + 1))
	res, err := p.c.Multi(ctx,
		client.SetOp("/pair/a", next, int32(p.n)),
		client.DeleteOp(fmt.Sprintf("/pair/token-%d", p.n), 0),
		client.CreateOp("/pair/token-"+string(next), next, nil, wire.Persistent),
		client.SetOp("/pair/b", next, int32(p.n)))
	switch {
	case unknown(err):
		p.lost.Add(1)
		p.maybe = true
		return nil
	case err != nil:
		return err
	}
	p.acked.Add(1)
	p.saw(res[0].Record.(*wire.Stat).Mzxid)
	p.n++
	return nil
}

func (p *pair) check(ctx context.Context, reader *client.Client) error {
	a, aStat, err := reader.Get(ctx, "/pair/a")
	b, bStat, err2 := reader.Get(ctx, "/pair/b")
	names, st, err3 := reader.Children(ctx, "/pair")
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	n, err := strconv.Atoi(string(a))
	if err != nil || n != p.n && !(p.maybe && n == p.n+1) {
		return fmt.Errorf("a is %q, acknowledged %d, one more asked for: %v", a, p.n, p.maybe)
	}
	if !bytes.Equal(a, b) || aStat.Mzxid != bStat.Mzxid || aStat.Version != bStat.Version || int(aStat.Version) != n ||
		!slices.Equal(names, []string{"a", "b", "token-" + string(a)}) || int(st.Cversion) != 3+2*n || n > 0 && st.Pzxid != aStat.Mzxid {
		return fmt.Errorf("torn: a %q %+v, b %q %+v, children %q of %+v", a, aStat, b, bStat, names, st)
	}
	if n > p.n {
		p.took.Add(1)
	}
	p.n, p.maybe = n, false
	return nil
}

// A sequence makes sequential znodes, many at a time, and gives each a number of
// its own as data. The check deletes them, after which none may come back.
type sequence struct {
	*world
	c      *client.Client
	parent string
	next   int            // number for the data
	acked  map[string]int // path to number
	maybe  map[int]bool   // numbers whose create has an unknown outcome
	gone   map[string]bool
	max    string // highest path so far: the numbering never goes back
	cv     int32  // cversion of the parent, at the last check
}

const pipelined = 16

func newSequence(w *world, i int) *sequence {
	c, _ := w.connect(liveSession)
	q := &sequence{world: w, c: c, parent: fmt.Sprintf("/sequence/%d", i), acked: map[string]int{}, maybe: map[int]bool{}, gone: map[string]bool{}}
	if _, _, err := w.reader.Create(w.ctx, q.parent, nil, nil, wire.Persistent); err != nil {
		w.t.Fatal(err)
	}
	return q
}

func (q *sequence) step(ctx context.Context) error {
	var (
		wg    sync.WaitGroup
		paths [pipelined]string
		stats [pipelined]wire.Stat
		errs  [pipelined]error
	)
	for i := range pipelined {
		wg.Go(func() {
			paths[i], stats[i], errs[i] = q.c.Create(ctx, q.parent+"/n-", []byte(strconv.Itoa(q.next+i)), nil, wire.PersistentSequential)
		})
	}
	wg.Wait()
	for i, err := range errs {
		switch {
		case unknown(err):
			q.lost.Add(1)
			q.maybe[q.next+i] = true
		case err != nil:
			return err
		default:
			if _, twice := q.acked[paths[i]]; twice || q.gone[paths[i]] {
				return fmt.Errorf("the name %s was given twice", paths[i])
			}
			if paths[i] <= q.max {
				return fmt.Errorf("the name %s came after %s", paths[i], q.max)
			}
			q.acked[paths[i]] = q.next + i
			q.world.acked.Add(1)
			q.saw(stats[i].Czxid)
		}
	}
	q.next += pipelined
	return nil
}

func (q *sequence) check(ctx context.Context, reader *client.Client) error {
	names, st, err := reader.Children(ctx, q.parent)
	if err != nil {
		return err
	}
	q.saw(st.Pzxid)
	data := make([][]byte, len(names))
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { data[i], _, errs[i] = reader.Get(ctx, q.parent+"/"+name) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	numbers := map[int]bool{}
	for i, name := range names {
		path := q.parent + "/" + name
		n, err := strconv.Atoi(string(data[i]))
		if err != nil || numbers[n] {
			return fmt.Errorf("%s has data %q, which another one has too", path, data[i])
		}
		numbers[n] = true
		if q.gone[path] {
			return fmt.Errorf("%s is back: its deletion was acknowledged", path)
		}
		if want, ok := q.acked[path]; ok && want != n {
			return fmt.Errorf("%s has data %d, want %d", path, n, want)
		} else if !ok && !q.maybe[n] {
			return fmt.Errorf("%s with data %d was never asked for", path, n)
		} else if !ok {
			q.took.Add(1)
		}
		delete(q.acked, path)
		delete(q.maybe, n)
	}
	if len(q.acked) > 0 {
		return fmt.Errorf("%d acknowledged znodes are lost: %v; there are %d", len(q.acked), q.acked, len(names))
	}
	// Each creation since the last check, and nothing else, has changed the list.
	if got := st.Cversion - q.cv; got != int32(len(names)) {
		return fmt.Errorf("cversion went up by %d for %d new children", got, len(names))
	}
	clear(q.maybe) // what has not happened by now never will
	for chunk := range slices.Chunk(names, 50) {
		var ops []wire.MultiOp
		for _, name := range chunk {
			ops = append(ops, client.DeleteOp(q.parent+"/"+name, 0))
		}
		if _, err := reader.Multi(ctx, ops...); err != nil {
			return err
		}
	}
	for _, name := range names {
		q.gone[q.parent+"/"+name] = true
		q.max = max(q.max, q.parent+"/"+name)
	}
	// A child that goes and comes counts twice in what a stat shows.
	_, st, err = reader.Children(ctx, q.parent)
	q.cv = st.Cversion
	if err == nil && st.NumChildren != 0 {
		err = fmt.Errorf("%d children after all were deleted", st.NumChildren)
	}
	return err
}

// A churn creates and deletes one znode.
type churn struct {
	*world
	c     *client.Client
	there bool
	maybe bool // it may be the other way
	czxid zab.Zxid
}

func newChurn(w *world) *churn {
	c, _ := w.connect(liveSession)
	return &churn{world: w, c: c}
}

func (k *churn) step(ctx context.Context) error {
	if k.maybe {
		return k.check(ctx, k.c)
	}
	var st wire.Stat
	var err error
	if k.there {
		err = k.c.Delete(ctx, "/churn/x", 0)
	} else {
		_, st, err = k.c.Create(ctx, "/churn/x", nil, nil, wire.Persistent)
	}
	switch {
	case unknown(err):
		k.lost.Add(1)
		k.maybe = true
		return nil
	case err != nil:
		return err
	}
	k.acked.Add(1)
	k.saw(st.Czxid)
	k.there = !k.there
	k.czxid = st.Czxid
	return nil
}

func (k *churn) check(ctx context.Context, reader *client.Client) error {
	st, found, err := reader.Exists(ctx, "/churn/x")
	if err != nil {
		return err
	}
	if found != k.there && !k.maybe {
		return fmt.Errorf("there: %v, want %v", found, k.there)
	}
	if found && k.there && st.Czxid != k.czxid {
		return fmt.Errorf("created at %v, want %v", st.Czxid, k.czxid)
	}
	if found != k.there {
		k.took.Add(1)
	}
	k.there, k.maybe, k.czxid = found, false, st.Czxid
	return nil
}

// An ephemerals keeps some ephemeral znodes of a session.
type ephemerals struct {
	*world
	c       *client.Client
	prefix  string
	id      zab.SessionID
	n       int
	there   map[string]bool
	maybe   string   // create or delete of it has an unknown outcome
	cuts    *network // not nil: the session is short, and may expire
	expired int
	history []string // the last operations, to understand a fault
}

// note adds to the history.
func (e *ephemerals) note(format string, args ...any) {
	if len(e.history) == 12 {
		e.history = e.history[1:]
	}
	e.history = append(e.history, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func newEphemerals(w *world, i int) *ephemerals {
	return &ephemerals{world: w, prefix: fmt.Sprintf("/ephemeral/%d-", i), there: map[string]bool{}}
}

func (e *ephemerals) step(ctx context.Context) error {
	err := e.change(ctx)
	if err != nil {
		err = fmt.Errorf("%w\nbefore that: %s", err, strings.Join(e.history, "\n"))
	}
	return err
}

// change makes or deletes one znode.
func (e *ephemerals) change(ctx context.Context) error {
	if e.c == nil {
		timeout := liveSession
		if e.cuts != nil {
			timeout = pausedSession
		}
		e.c, _ = e.connectOver(e.cuts, timeout)
	}
	if e.maybe != "" {
		return e.check(ctx, e.c)
	}
	var path string
	var err error
	defer func() { e.note("%s (%d there): %v", path, len(e.there), err) }()
	if len(e.there) < 5 {
		e.n++
		path = fmt.Sprintf("%s%d", e.prefix, e.n)
		var st wire.Stat
		_, st, err = e.c.Create(ctx, path, []byte("e"), nil, wire.Ephemeral)
		if err == nil {
			e.saw(st.Czxid)
			if e.id == 0 {
				e.id = st.EphemeralOwner
			}
			if st.EphemeralOwner != e.id && e.cuts == nil {
				return fmt.Errorf("session %v has become %v", e.id, st.EphemeralOwner)
			} else if st.EphemeralOwner != e.id {
				return e.renewed(ctx, st.EphemeralOwner, path)
			}
			e.there[path] = true
		}
	} else {
		for path = range e.there {
			break
		}
		if err = e.c.Delete(ctx, path, -1); err == nil {
			delete(e.there, path)
		}
	}
	switch {
	case unknown(err):
		e.lost.Add(1)
		e.maybe = path
		return nil
	case e.cuts != nil && (errors.Is(err, wire.ErrSessionExpired) || errors.Is(err, wire.ErrNoNode)):
		return e.renewed(ctx, 0, "")
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	}
	e.acked.Add(1)
	return nil
}

// renewed takes note that the session has expired: nothing of it may be there.
func (e *ephemerals) renewed(ctx context.Context, id zab.SessionID, path string) error {
	old := e.id
	e.id, e.maybe = id, ""
	e.there = map[string]bool{}
	if path != "" {
		e.there[path] = true
	}
	e.expired++
	return e.noneOf(ctx, e.c, old)
}

// noneOf checks that no znode of a session is there.
func (e *ephemerals) noneOf(ctx context.Context, reader *client.Client, id zab.SessionID) error {
	return each(ctx, reader, e.prefix, func(path string, st wire.Stat) error {
		if st.EphemeralOwner == id {
			return fmt.Errorf("%s is there, but its session %v has expired", path, id)
		}
		return nil
	})
}

// each calls a function for the ephemerals whose path begins with prefix.
func each(ctx context.Context, reader *client.Client, prefix string, f func(path string, st wire.Stat) error) error {
	names, _, err := reader.Children(ctx, "/ephemeral")
	if err != nil {
		return err
	}
	for _, name := range names {
		if path := "/ephemeral/" + name; strings.HasPrefix(path, prefix) {
			st, found, err := reader.Exists(ctx, path)
			if err == nil && found {
				err = f(path, st)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *ephemerals) check(ctx context.Context, reader *client.Client) error {
	maybe := e.maybe
	err := e.compare(ctx, reader)
	e.note("check, %q unknown: %d there, %v", maybe, len(e.there), err)
	if err != nil {
		err = fmt.Errorf("%w\nbefore that: %s", err, strings.Join(e.history, "\n"))
	}
	return err
}

func (e *ephemerals) compare(ctx context.Context, reader *client.Client) error {
	if e.cuts != nil && e.c != nil && e.id != 0 {
		// Only its own client knows, once it is connected again.
		if _, err := e.c.WhoAmI(ctx); err != nil && !errors.Is(err, wire.ErrSessionExpired) {
			return err
		}
		if id := e.c.Session().ID; id != e.id {
			return e.renewed(ctx, 0, "")
		}
	}
	seen := map[string]bool{}
	err := each(ctx, reader, e.prefix, func(path string, st wire.Stat) error {
		if !e.there[path] && path != e.maybe {
			return fmt.Errorf("%s of session %v is there although it was deleted, or was never made", path, st.EphemeralOwner)
		}
		if e.id != 0 && st.EphemeralOwner != e.id {
			return fmt.Errorf("%s belongs to %v, want %v", path, st.EphemeralOwner, e.id)
		}
		seen[path] = true
		return nil
	})
	if err != nil {
		return err
	}
	for path := range e.there {
		if !seen[path] && path != e.maybe {
			return fmt.Errorf("%s is lost: its session %v is alive", path, e.id)
		}
	}
	if e.maybe != "" && seen[e.maybe] != e.there[e.maybe] {
		e.took.Add(1)
	}
	e.there, e.maybe = seen, ""
	return nil
}

// A sessions opens sessions with ephemerals, and closes or leaves them.
type sessions struct {
	*world
	n               int
	closed, expired int
	left            []leftSession
	gone            []string // paths that must not come back, the latest
}

// A leftSession is one that nobody keeps alive.
type leftSession struct {
	id    zab.SessionID
	paths []string
}

func (s *sessions) step(ctx context.Context) error {
	var dials network
	c, stop := s.connectOver(&dials, 300*time.Millisecond)
	defer stop()
	var paths []string
	for range 3 {
		s.n++
		path := fmt.Sprintf("/session/%d", s.n)
		_, st, err := c.Create(ctx, path, nil, nil, wire.Ephemeral)
		switch {
		case unknown(err):
			s.lost.Add(1)
			paths = append(paths, path) // if it is there, it must go too
		case errors.Is(err, wire.ErrSessionExpired):
			// A busy machine; what was there is gone, the others belong to the next session.
			paths = append(paths, path)
		case err != nil:
			return err
		default:
			s.acked.Add(1)
			s.saw(st.Czxid)
			paths = append(paths, path)
		}
	}
	if s.n%2 == 0 {
		id := c.Session().ID
		if err := c.CloseSession(ctx); err == nil {
			s.closed++
			for _, path := range paths {
				// One that was made by an earlier session of this client, which
				// expired, is not gone by this.
				if st, found, err := s.reader.Exists(ctx, path); err != nil {
					return err
				} else if found && st.EphemeralOwner == id && dials.count() == 1 {
					// (A client that comes back with a session that is being closed is
					// told that it is no more, which is a moment early.)
					return fmt.Errorf("%s is there after its session %v was closed", path, id)
				}
			}
			if dials.count() == 1 {
				s.gone = append(s.gone, paths...)
				return nil
			}
		}
	}
	s.left = append(s.left, leftSession{c.Session().ID, paths})
	return nil
}

// check looks at what may not be there: an ephemeral that was seen to be gone.
func (s *sessions) check(ctx context.Context, reader *client.Client) error {
	names, st, err := reader.Children(ctx, "/session")
	if err != nil {
		return err
	}
	s.saw(st.Pzxid)
	there := map[string]bool{}
	for _, name := range names {
		there["/session/"+name] = true
	}
	for _, path := range s.gone {
		if there[path] {
			return fmt.Errorf("%s is back", path)
		}
	}
	left := s.left[:0]
	for _, l := range s.left {
		if slices.ContainsFunc(l.paths, func(p string) bool { return there[p] }) {
			left = append(left, l)
			continue
		}
		s.expired++
		s.gone = append(s.gone, l.paths...)
	}
	s.left = left
	return nil
}

// awaitExpiry waits until nothing is there of the sessions that nobody keeps
// alive.
func (s *sessions) awaitExpiry() {
	s.t.Helper()
	s.gate.Lock()
	defer s.gate.Unlock()
	ctx, cancel := context.WithTimeout(s.ctx, peer.Patience)
	defer cancel()
	began := time.Now()
	for {
		if err := s.check(ctx, s.reader); err != nil {
			s.fault("%v", err)
			return
		}
		if len(s.left) == 0 {
			return
		}
		// Timeout and a tick, and much more for a busy machine.
		if time.Since(began) > 10*time.Second {
			s.fault("after %v without a client, %d sessions still have ephemerals: %v", time.Since(began), len(s.left), s.left)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
