package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/paddockio/paddock/internal/durable"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// API is the source of what Register registers.
const API = "api"

// A State says where a registration stands.
type State string

const (
	// Pending: wanted and not in the tree yet, for lack of a connection or of a
	// check's first result, or because the tree does not take it; Status.Error says
	// why. Tried again.
	Pending State = "pending"
	// Registered: in the tree, owned by our session.
	Registered State = "registered"
	// Critical: kept out of the tree by a check.
	Critical State = "critical"
	// Offline: kept out of the tree by SetOffline.
	Offline State = "offline"
)

// A Status is a registration, with its defaults filled in, and what became of it.
type Status struct {
	Registration
	// Source is who wants it: API, or the Origin of the registration, or else the
	// source given to Replace.
	Source string `json:"source"`
	State  State  `json:"state"`
	// Path is the znode, as far as one was made. (Registration.Path is that of the URL.)
	Path string `json:"znode,omitempty"`
	// Since is when State began.
	Since time.Time `json:"since"`
	// Error says why State is not Registered, if an operation failed.
	Error   string        `json:"error,omitempty"`
	Results []CheckResult `json:"results,omitempty"`
}

// A CheckResult is the last result of one check.
type CheckResult struct {
	Check  string    `json:"check"` // the target
	State  string    `json:"state"` // unknown, passing or failing, after Rise and Fall
	Output string    `json:"output,omitempty"`
	At     time.Time `json:"at"`
}

var (
	// ErrNotFound: no registration has this ID.
	ErrNotFound = errors.New("no such registration")
	// ErrOtherSource: the registration belongs to a file, or the other way round.
	ErrOtherSource = errors.New("registration belongs to another source")
	// ErrDuplicate: another ID registers the same URL.
	ErrDuplicate = errors.New("same URL as another registration")
)

// registrar keeps the registrations of this agent in the tree.
//
// One goroutine (run) compares what is wanted with what the session owns and
// does what is missing; everything else only changes what is wanted, or what is
// known, and wakes it. Nothing depends on seeing each event: the comparison is
// repeated after every connection and each Resync, from a list of the session's
// znodes that the server gives.
type registrar struct {
	conn Conn
	cfg  Config
	log  *slog.Logger
	kick chan struct{} // 1

	// api is held by whoever changes what is wanted, the write of the file included;
	// taken before mu. Under it alone the wanted set can be read.
	api sync.Mutex

	mu      sync.Mutex // guards what follows; never held during I/O
	entries map[string]*entry
	offline map[string]bool // ids
	waiting map[string]bool // sources that have not called Replace
	doomed  map[string]bool // paths of ours that nobody wants any more
	own     map[string]bool // ephemerals of our session below the root, as far as known
	listed  bool            // own is complete
	relist  bool            // own has to be read again
	past    map[zab.SessionID]bool
	keys    map[string]string // what is registered, see key -> id
}

// An entry is one wanted registration. Guarded by registrar.mu.
type entry struct {
	reg    Registration
	source string
	key    string

	state State
	since time.Time
	err   error

	node *Provider // as it stands or shall stand; nil: to be chosen
	path string    // of node
	busy bool      // a create is on its way
	due  time.Time // not to be tried before
	wait backoff
	made time.Time // when it was last created

	health  health
	checks  []*checkState
	stop    context.CancelFunc // ends the checks; nil: not begun
	removed bool
}

type checkState struct {
	check   Check
	counter counter
	result  CheckResult
}

func (g *registrar) init(conn Conn, cfg Config) error {
	g.conn, g.cfg, g.log = conn, cfg, cfg.Logger
	g.kick = make(chan struct{}, 1)
	g.entries = map[string]*entry{}
	g.offline = map[string]bool{}
	g.waiting = map[string]bool{}
	g.doomed = map[string]bool{}
	g.own = map[string]bool{}
	g.past = map[zab.SessionID]bool{}
	g.keys = map[string]string{}
	for _, s := range cfg.Sources {
		g.waiting[s] = true
	}
	return g.load()
}

// Register adds a registration or replaces the one with its ID, and keeps it
// over restarts of the agent. It returns the ID once that is written down; the
// tree follows, see List. Errors: [FieldError]s, ErrOtherSource, ErrDuplicate,
// or of the file.
func (r *Registry) Register(reg Registration) (id string, err error) { return r.regs.register(reg) }

// Deregister removes a registration made by Register for good.
func (r *Registry) Deregister(id string) error { return r.regs.deregister(id) }

// SetOffline takes a registration of any source out of the tree until it is set
// back, also over restarts of the agent.
func (r *Registry) SetOffline(id string, offline bool) error {
	return r.regs.setOffline(id, offline)
}

// Replace makes regs all that source wants: what it wanted before and is not in
// regs is deregistered, what is equal is not touched. A registration that cannot
// be is left out and reported (joined [RegistrationError]s). One that Register made is
// displaced by one of a source with the same ID.
func (r *Registry) Replace(source string, regs []Registration) error {
	return r.regs.replace(source, regs)
}

// List returns all registrations, ordered by ID.
func (r *Registry) List() []Status { return r.regs.list() }

// A RegistrationError says which of several registrations is wrong.
type RegistrationError struct {
	ID  string
	Err error
}

// Error returns "registration id: what is wrong".
func (e *RegistrationError) Error() string { return "registration " + e.ID + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *RegistrationError) Unwrap() error { return e.Err }

func (g *registrar) wake() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

func (g *registrar) register(reg Registration) (string, error) {
	reg = reg.withID()
	reg.Origin = ""
	if err := reg.Validate(); err != nil {
		return "", &RegistrationError{reg.ID, err}
	}
	g.api.Lock()
	defer g.api.Unlock()
	old := g.entries[reg.ID]
	if old != nil && old.source != API {
		return "", &RegistrationError{reg.ID, fmt.Errorf("%w: %s", ErrOtherSource, cmp.Or(old.reg.Origin, old.source))}
	}
	if other, ok := g.keys[g.key(reg)]; ok && other != reg.ID {
		return "", &RegistrationError{reg.ID, fmt.Errorf("%w: %s", ErrDuplicate, other)}
	}
	if old != nil && old.reg.equal(reg) {
		return reg.ID, nil
	}
	if err := g.save(reg.ID, &reg, g.offline); err != nil {
		return "", &RegistrationError{reg.ID, err}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.putLocked(API, reg)
	g.wake()
	return reg.ID, nil
}

func (g *registrar) deregister(id string) error {
	g.api.Lock()
	defer g.api.Unlock()
	e := g.entries[id]
	if e == nil {
		return &RegistrationError{id, ErrNotFound}
	}
	if e.source != API {
		return &RegistrationError{id, fmt.Errorf("%w: %s", ErrOtherSource, cmp.Or(e.reg.Origin, e.source))}
	}
	offline := maps.Clone(g.offline)
	delete(offline, id)
	if err := g.save(id, nil, offline); err != nil {
		return &RegistrationError{id, err}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.offline = offline
	g.dropLocked(id)
	g.wake()
	return nil
}

func (g *registrar) setOffline(id string, offline bool) error {
	g.api.Lock()
	defer g.api.Unlock()
	if g.entries[id] == nil && (offline || !g.offline[id]) {
		return &RegistrationError{id, ErrNotFound}
	}
	if g.offline[id] == offline {
		return nil
	}
	ids := maps.Clone(g.offline)
	if offline {
		ids[id] = true
	} else {
		delete(ids, id)
	}
	if err := g.save("", nil, ids); err != nil {
		return &RegistrationError{id, err}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.offline = ids
	g.wake()
	return nil
}

func (g *registrar) replace(source string, regs []Registration) error {
	g.api.Lock()
	defer g.api.Unlock()
	displaced, errs := g.swap(source, regs)
	if displaced {
		if err := g.save("", nil, g.offline); err != nil {
			errs = append(errs, err)
		}
	}
	g.wake()
	return errors.Join(errs...)
}

// swap is replace in memory. displaced: something that Register made is gone.
func (g *registrar) swap(source string, regs []Registration) (displaced bool, errs []error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	keep := map[string]bool{}
	var put []Registration
	for _, reg := range regs {
		reg = reg.withID()
		err := reg.Validate()
		old := g.entries[reg.ID]
		switch {
		case err != nil:
		case keep[reg.ID]:
			err = errors.New("id is used twice")
		case old != nil && old.source != source && old.source != API:
			err = fmt.Errorf("%w: %s", ErrOtherSource, cmp.Or(old.reg.Origin, old.source))
		}
		if err != nil {
			errs = append(errs, &RegistrationError{reg.ID, err})
			continue
		}
		keep[reg.ID] = true
		put = append(put, reg)
	}
	// First out, then in: a URL may move from one ID to another.
	for _, id := range slices.Sorted(maps.Keys(g.entries)) {
		if g.entries[id].source == source && !keep[id] {
			g.dropLocked(id)
		}
	}
	put = slices.DeleteFunc(put, func(reg Registration) bool {
		old := g.entries[reg.ID]
		same := old != nil && old.source == source && old.reg.equal(reg)
		if same {
			old.reg.Origin = reg.Origin
		}
		return same
	})
	for _, reg := range put {
		if old := g.entries[reg.ID]; old != nil {
			delete(g.keys, old.key)
		}
	}
	for _, reg := range put {
		old := g.entries[reg.ID]
		if other, ok := g.keys[g.key(reg)]; ok {
			errs = append(errs, &RegistrationError{reg.ID, fmt.Errorf("%w: %s", ErrDuplicate, other)})
			switch {
			case old == nil:
			case g.keys[old.key] == "":
				g.keys[old.key] = reg.ID // it stays as it was
			default:
				g.dropLocked(reg.ID)
			}
			continue
		}
		if old != nil && old.source != source {
			g.log.Warn("registration displaced", "id", reg.ID, "from", old.source, "by", source)
			displaced = true
		}
		g.putLocked(source, reg)
	}
	delete(g.waiting, source)
	return displaced, errs
}

// key is the same for two registrations that differ in time only. Two with one
// key would share a znode, and the end of one would be the end of both.
func (g *registrar) key(reg Registration) string {
	p := reg.node(g.cfg.Advertise, time.Time{})
	p.Params.Del("timestamp")
	p.Params.Del("pid")
	return string(reg.category()) + " " + p.String()
}

// putLocked makes reg wanted. A registration that changes only its checks keeps
// its znode.
func (g *registrar) putLocked(source string, reg Registration) {
	e := &entry{reg: reg, source: source, key: g.key(reg), state: Pending, since: time.Now()}
	if old := g.entries[reg.ID]; old != nil {
		g.endLocked(old)
		e.state, e.since = old.state, old.since
		if old.node != nil {
			if old.node.Equal(reg.node(g.cfg.Advertise, time.Time{})) {
				e.node, e.path, e.made = old.node, old.path, old.made
			} else {
				g.doomed[old.path] = true
			}
		}
	}
	if len(reg.Checks) == 0 || reg.Passing {
		e.health = passing
	}
	for _, c := range reg.Checks {
		c = c.withDefaults()
		e.checks = append(e.checks, &checkState{
			check:   c,
			counter: counter{rise: c.Rise, fall: c.Fall},
			result:  CheckResult{Check: c.name(), State: "unknown"},
		})
	}
	g.entries[reg.ID] = e
	g.keys[e.key] = reg.ID
}

// dropLocked makes the entry unwanted.
func (g *registrar) dropLocked(id string) {
	e := g.entries[id]
	g.endLocked(e)
	if e.path != "" {
		g.doomed[e.path] = true
	}
	delete(g.entries, id)
}

func (g *registrar) endLocked(e *entry) {
	e.removed = true
	if g.keys[e.key] == e.reg.ID {
		delete(g.keys, e.key)
	}
	if e.stop != nil {
		e.stop()
	}
}

// startChecks starts the checks of new entries. They end with ctx, or with the
// entry.
func (g *registrar) startChecks(ctx context.Context, wg *sync.WaitGroup) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.entries {
		if e.stop != nil || len(e.checks) == 0 {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		e.stop = cancel
		for _, c := range e.checks {
			wg.Go(func() {
				runCheck(ctx, c.check, g.cfg.Probe, func(err error) { g.result(e, c, err) })
			})
		}
	}
}

// stopChecks lets a later run start them again.
func (g *registrar) stopChecks() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.entries {
		if e.stop != nil {
			e.stop()
			e.stop = nil
		}
	}
}

// result takes the result of one check.
func (g *registrar) result(e *entry, c *checkState, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e.removed {
		return
	}
	changed := c.counter.add(err == nil)
	c.result.At = time.Now()
	c.result.Output = ""
	if err != nil {
		c.result.Output = err.Error()
	}
	c.result.State = c.counter.state.String()
	if !changed {
		return
	}
	h := passing
	if e.reg.Passing {
		// Unknown counts as passing until a check has said otherwise.
		for _, c := range e.checks {
			if c.counter.state == failing {
				h = failing
			}
		}
	} else {
		for _, c := range e.checks {
			h = worse(h, c.counter.state)
		}
	}
	if h == e.health {
		return
	}
	if e.health != unknown || h == failing {
		g.log.Info("health changed", "id", e.reg.ID, "state", h.String(), "check", c.check.name(), "output", c.result.Output)
	}
	e.health = h
	e.due = time.Time{}
	g.wake()
}

// worse orders failing before unknown before passing.
func worse(a, b health) health {
	rank := func(h health) int { return [...]int{unknown: 1, passing: 0, failing: 2}[h] }
	if rank(b) > rank(a) {
		return b
	}
	return a
}

func (h health) String() string {
	return [...]string{unknown: "unknown", passing: "passing", failing: "failing"}[h]
}

func (g *registrar) list() []Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Status, 0, len(g.entries))
	for _, e := range g.entries {
		s := Status{Registration: e.reg.filled(g.cfg.Advertise), Source: cmp.Or(e.reg.Origin, e.source), State: e.state, Path: e.path, Since: e.since}
		if e.err != nil {
			s.Error = e.err.Error()
		}
		for _, c := range e.checks {
			s.Results = append(s.Results, c.result)
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// connected says that the session may have changed while nobody watched.
func (g *registrar) connected() {
	g.mu.Lock()
	g.relist = true
	for _, e := range g.entries {
		e.due, e.wait = time.Time{}, backoff{}
	}
	g.mu.Unlock()
	g.wake()
}

// expired says that all znodes of the session are gone.
func (g *registrar) expired() {
	g.mu.Lock()
	g.listed = false
	g.relist = true
	clear(g.own)
	clear(g.doomed)
	g.mu.Unlock()
	g.wake()
}

// deleted says that a znode is gone, by whose hand ever.
func (g *registrar) deleted(path string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.own[path] {
		delete(g.own, path)
		g.wake()
		return
	}
	for _, e := range g.entries {
		switch {
		case e.path != path:
		case e.busy:
			// Created and deleted again before we heard of the first.
			g.relist = true
			g.wake()
		case e.err != nil: // perhaps because of this one
			e.due = time.Time{}
			g.wake()
		}
	}
}

// run is the reconcile loop.
func (g *registrar) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer g.stopChecks()

	timer := time.NewTimer(0)
	defer timer.Stop()
	var relist backoff
	resync := time.Now().Add(g.cfg.Resync)
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.kick:
		case <-timer.C:
		}
		g.startChecks(ctx, &wg)
		now := time.Now()
		g.mu.Lock()
		if !now.Before(resync) {
			g.relist = true
		}
		need := g.relist || !g.listed
		g.relist = false
		g.mu.Unlock()
		next := resync.Sub(now)
		if need {
			if err := g.listOwn(ctx); err != nil {
				if ctx.Err() != nil {
					return
				}
				d := relist.next()
				g.fail(err)
				g.mu.Lock()
				g.relist = true
				g.mu.Unlock()
				timer.Reset(d)
				continue
			}
			relist = backoff{}
			resync = time.Now().Add(g.cfg.Resync)
			next = g.cfg.Resync
		}
		creates, deletes, due := g.plan(time.Now())
		g.perform(ctx, creates, deletes)
		if len(creates)+len(deletes) > 0 {
			due = 0 // look again: what was done changes what is to do
		}
		timer.Reset(min(next, due))
	}
}

// fail notes why nothing is registered.
func (g *registrar) fail(err error) {
	err = g.noAnswer(err)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.entries {
		if e.state == Pending {
			e.err = err
		}
	}
	g.log.Debug("own znodes could not be listed", "err", err)
}

// noAnswer says in words what the end of an operation's time means.
func (g *registrar) noAnswer(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer from ZooKeeper within %v", g.cfg.OpTimeout)
	}
	return err
}

// listOwn asks the server for the znodes of our session.
func (g *registrar) listOwn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.OpTimeout)
	defer cancel()
	paths, err := g.conn.Ephemerals(ctx, g.cfg.Root)
	if errors.Is(err, wire.ErrUnimplemented) {
		// A server before 3.6: what we own shows when a create fails.
		paths, err = nil, nil
	}
	if err != nil {
		return err
	}
	own := map[string]bool{}
	for _, path := range paths {
		if p := split(g.cfg.Root, path); len(p) == 3 &&
			(p[1] == string(Providers) || p[1] == string(Consumers)) {
			own[path] = true
		}
	}
	g.mu.Lock()
	g.own, g.listed = own, true
	if id := g.conn.SessionID(); id != 0 {
		g.past[id] = true
	}
	g.mu.Unlock()
	return nil
}

// An op is one thing to do for e, or for nobody if e is nil (a delete).
type op struct {
	e    *entry
	path string
}

// plan compares what is wanted with what is there.
func (g *registrar) plan(now time.Time) (creates, deletes []op, next time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.listed {
		return nil, nil, time.Hour
	}
	next = time.Hour
	adopt := g.unclaimedLocked()
	claimed := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(g.entries)) {
		e := g.entries[id]
		if e.node == nil {
			g.adoptLocked(e, adopt)
		}
		want := !g.offline[id] && (e.health == passing || e.health == unknown && g.own[e.path])
		if want && e.node == nil {
			e.node = e.reg.node(g.cfg.Advertise, now)
			e.path = join(join(join(g.cfg.Root, escape(e.reg.Name)), string(e.reg.category())), e.node.Encode())
		}
		if want {
			claimed[e.path] = true
			delete(g.doomed, e.path)
		}
		switch {
		case e.busy:
		case want && g.own[e.path]:
			g.setLocked(e, Registered, nil)
		case want && e.due.After(now):
			next = min(next, e.due.Sub(now))
		case want:
			if !e.made.IsZero() && now.Sub(e.made) < maxPause {
				// It was there a moment ago: somebody deletes it as fast as we create. At
				// once the first time, then slower and slower.
				e.due = now.Add(e.wait.next())
			}
			e.busy = true
			creates = append(creates, op{e, e.path})
		case g.offline[id]:
			g.setLocked(e, Offline, nil)
		case e.health == failing:
			g.setLocked(e, Critical, nil)
		default:
			g.setLocked(e, Pending, nil)
		}
		if !want && e.node != nil && !e.busy {
			// It comes back as a new start, with a timestamp of its own.
			g.doomed[e.path] = true
			e.node, e.path = nil, ""
		}
	}
	if len(g.waiting) == 0 {
		for path := range g.own {
			if !claimed[path] {
				g.doomed[path] = true
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(g.doomed)) {
		switch {
		case claimed[path]:
			delete(g.doomed, path)
		case g.own[path]:
			deletes = append(deletes, op{nil, path})
		default:
			delete(g.doomed, path)
		}
	}
	return creates, deletes, next
}

// unclaimedLocked parses the znodes of ours that no entry stands for: those of
// a former process. By directory.
func (g *registrar) unclaimedLocked() map[string][]*Provider {
	claimed := map[string]bool{}
	open := false
	for _, e := range g.entries {
		if e.node != nil {
			claimed[e.path] = true
		} else {
			open = true
		}
	}
	if !open {
		return nil
	}
	found := map[string][]*Provider{}
	for _, path := range slices.Sorted(maps.Keys(g.own)) {
		if claimed[path] {
			continue
		}
		i := strings.LastIndexByte(path, '/')
		if p, err := ParseProvider(path[i+1:]); err == nil {
			found[path[:i]] = append(found[path[:i]], p)
		}
	}
	return found
}

// adoptLocked lets e stand for a znode that a former process made for it: equal
// but for the time. So a restart is not seen by anybody.
func (g *registrar) adoptLocked(e *entry, unclaimed map[string][]*Provider) {
	if len(unclaimed) == 0 {
		return
	}
	dir := join(join(g.cfg.Root, escape(e.reg.Name)), string(e.reg.category()))
	list := unclaimed[dir]
	if len(list) == 0 {
		return
	}
	want := e.reg.node(g.cfg.Advertise, time.Time{})
	for i, p := range list {
		if want.Equal(p) && !g.doomed[join(dir, p.Raw)] {
			e.node, e.path = p, join(dir, p.Raw)
			unclaimed[dir] = slices.Delete(list, i, i+1)
			return
		}
	}
}

func (g *registrar) setLocked(e *entry, s State, err error) {
	if e.state != s {
		e.state, e.since = s, time.Now()
		log := g.log
		if err != nil {
			log = log.With("err", err)
		}
		log.Info("registration", "id", e.reg.ID, "state", s, "path", e.path)
	}
	e.err = err
}

// opWidth is how many operations are in flight at once.
const opWidth = 16

// perform carries out a plan: first what is new, so that a changed registration
// is never away.
func (g *registrar) perform(ctx context.Context, creates, deletes []op) {
	_ = parallel(len(creates), opWidth, func(i int) error {
		o := creates[i]
		opCtx, cancel := context.WithTimeout(ctx, g.cfg.OpTimeout)
		err := g.create(opCtx, o.path)
		cancel()
		g.created(o, err)
		return nil
	})
	_ = parallel(len(deletes), opWidth, func(i int) error {
		o := deletes[i]
		opCtx, cancel := context.WithTimeout(ctx, g.cfg.OpTimeout)
		err := g.conn.Delete(opCtx, o.path, -1)
		cancel()
		g.mu.Lock()
		defer g.mu.Unlock()
		if err == nil || errors.Is(err, wire.ErrNoNode) {
			delete(g.own, o.path)
			delete(g.doomed, o.path)
			return nil
		}
		g.log.Warn("znode could not be deleted", "path", o.path, "err", err)
		return nil
	})
}

func (g *registrar) created(o op, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := o.e
	e.busy = false
	now := time.Now()
	if err == nil {
		g.own[o.path] = true
		if !e.removed {
			if e.made.IsZero() || now.Sub(e.made) >= maxPause {
				e.wait = backoff{}
			}
			e.made = now
			g.setLocked(e, Registered, nil)
		}
		return
	}
	if e.removed {
		// The outcome of a lost create is not known.
		g.relist = true
		return
	}
	g.setLocked(e, Pending, g.noAnswer(err))
	e.due = now.Add(e.wait.next())
}

// An ownedError says that a znode with our name is not ours.
type ownedError struct{ session zab.SessionID }

func (e *ownedError) Error() string {
	if e.session == 0 {
		return "a persistent znode has this name; delete it, or change the registration"
	}
	return fmt.Sprintf("owned by session %v of somebody else", e.session)
}

// create makes the ephemeral znode. It is no success that one exists: an older
// session of ours would take it along when it expires.
func (g *registrar) create(ctx context.Context, path string) error {
	var err error
	for range 4 {
		_, _, err = g.conn.Create(ctx, path, g.marker(), nil, wire.Ephemeral)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, wire.ErrNoNode):
			if err := g.makeParents(ctx, path); err != nil {
				return err
			}
		case errors.Is(err, wire.ErrNodeExists):
			done, err := g.takeOver(ctx, path)
			if done || err != nil {
				return err
			}
		default:
			return err
		}
	}
	return err
}

// takeOver looks at a znode with our name: done if it is of our session; one of
// an older session of ours is deleted.
func (g *registrar) takeOver(ctx context.Context, path string) (done bool, err error) {
	data, stat, err := g.conn.Get(ctx, path)
	if errors.Is(err, wire.ErrNoNode) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	owner := stat.EphemeralOwner
	if owner == g.conn.SessionID() && owner != 0 {
		return true, nil
	}
	g.mu.Lock()
	ours := g.past[owner]
	g.mu.Unlock()
	if owner == 0 || !ours && string(data) != string(g.marker()) {
		return false, &ownedError{owner}
	}
	g.log.Info("znode of an older session replaced", "path", path, "session", owner)
	if err := g.conn.Delete(ctx, path, stat.Version); err != nil && !errors.Is(err, wire.ErrNoNode) {
		return false, err
	}
	return false, nil
}

// marker is the data of our znodes. No reader of the registry looks at data; it
// tells us, and people, who made the znode.
func (g *registrar) marker() []byte { return []byte("paddock " + g.cfg.Agent) }

// makeParents creates what is missing above path, persistent, as Dubbo does.
func (g *registrar) makeParents(ctx context.Context, path string) error {
	for i := 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		_, _, err := g.conn.Create(ctx, path[:i], nil, nil, wire.Persistent)
		// Without the right to create here the next level may still exist.
		if err != nil && !errors.Is(err, wire.ErrNodeExists) && !errors.Is(err, wire.ErrNoAuth) {
			return err
		}
	}
	return nil
}

// savedRegistrations is the file of what Register and SetOffline were told.
type savedRegistrations struct {
	Format        int            `json:"format"`
	Registrations []Registration `json:"registrations"`
	Offline       []string       `json:"offline,omitempty"`
}

func (g *registrar) load() error {
	if g.cfg.Dir == "" {
		return nil
	}
	var f savedRegistrations
	found, err := durable.ReadJSON(filepath.Join(g.cfg.Dir, registrationsFile), maxFile, &f)
	if err != nil || !found {
		return err
	}
	if f.Format != 1 {
		return fmt.Errorf("%s has format %d, this agent knows 1", registrationsFile, f.Format)
	}
	for _, id := range f.Offline {
		g.offline[id] = true
	}
	for _, reg := range f.Registrations {
		reg = reg.withID()
		err := reg.Validate()
		if other, ok := g.keys[g.key(reg)]; ok && err == nil {
			err = fmt.Errorf("%w: %s", ErrDuplicate, other)
		}
		if err != nil {
			g.log.Warn("saved registration ignored", "id", reg.ID, "err", err)
			continue
		}
		g.putLocked(API, reg)
	}
	return nil
}

// save writes the file as it will be once id is reg, or is gone if reg is nil.
// The caller holds api.
func (g *registrar) save(id string, reg *Registration, offline map[string]bool) error {
	if g.cfg.Dir == "" {
		return nil
	}
	f := savedRegistrations{Format: 1, Registrations: []Registration{}, Offline: slices.Sorted(maps.Keys(offline))}
	for _, other := range slices.Sorted(maps.Keys(g.entries)) {
		if e := g.entries[other]; e.source == API && other != id {
			f.Registrations = append(f.Registrations, e.reg)
		}
	}
	if reg != nil {
		f.Registrations = append(f.Registrations, *reg)
	}
	return durable.WriteJSON(filepath.Join(g.cfg.Dir, registrationsFile), f)
}
