package registry

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paddockio/paddock/zab/wire"
)

// readWidth is how many reads are in flight at once: enough to hide the round
// trips of a remote ensemble, too few to fill its queue.
const readWidth = 16

// views is the picture of all services.
//
// Three parties: the watch marks what changed (connected, disconnected,
// changed), one reader reads it again and publishes (run), anybody looks up. A
// lookup touches nothing but the two atomics.
type views struct {
	conn Conn
	cfg  Config
	log  *slog.Logger

	current atomic.Pointer[snapshot]
	publish sync.Mutex // held to replace current

	mu       sync.Mutex       // guards the marks
	full     bool             // everything has to be read
	readOnly bool             // the server has no quorum: what it says may be old
	dirty    map[string]parts // child of the root -> what of it has to be read
	epoch    uint64           // counts connections and losses
	kick     chan struct{}    // 1: more than "look at the marks" need not be said
	changes  chan *snapshot   // 1: the newest for the saver

	// owned by the reader
	services map[string]*service // by child name of the root
}

type parts uint8

const (
	providersPart parts = 1 << iota
	configuratorsPart
	bothParts = providersPart | configuratorsPart
)

// A snapshot is what lookups see. It is never changed.
type snapshot struct {
	generation uint64
	live       bool
	asOf       time.Time // meaningful if not live; zero: never
	services   map[string]*serviceView
	names      []string // sorted
	apps       map[string]*View
	appNames   []string // sorted
}

type serviceView struct {
	view      View     // without AsOf and Live
	overrides []string // raw names, for the file
}

// A service is the reader's state of one child of the root.
type service struct {
	name      string               // decoded
	parsed    map[string]*Instance // by raw name, before overrides; nil: cannot be read
	raw       []string             // names of providers, sorted
	overrides []string             // names of configurators, sorted
	rules     []override
	out       *serviceView
	notBefore time.Time // a big service is not read again at once
	retry     backoff
}

func (v *views) init(conn Conn, cfg Config) {
	v.conn, v.cfg, v.log = conn, cfg, cfg.Logger
	v.dirty = map[string]parts{}
	v.kick = make(chan struct{}, 1)
	v.changes = make(chan *snapshot, 1)
	v.services = map[string]*service{}
	// Seconds since 1970 as the start: generations rise over restarts even without
	// a file, as the serial of a zone must.
	v.current.Store(&snapshot{generation: uint64(time.Now().Unix())})
	v.load()
}

// connected says that events come from now on and that all before is unknown.
// What a read-only server says is used, but is not live.
func (v *views) connected(readOnly bool) {
	if readOnly {
		v.disconnected()
	}
	v.mu.Lock()
	v.full = true
	v.readOnly = readOnly
	v.epoch++
	v.mu.Unlock()
	v.wake()
}

// disconnected says that answers are no longer known to be current.
func (v *views) disconnected() {
	v.mu.Lock()
	v.epoch++
	v.mu.Unlock()
	v.publish.Lock()
	defer v.publish.Unlock()
	if old := v.current.Load(); old.live {
		s := *old
		s.live, s.asOf = false, time.Now()
		s.generation++
		v.current.Store(&s)
	}
}

// changed marks what an event is about.
func (v *views) changed(ev Event) {
	if ev.Type != wire.EventNodeCreated && ev.Type != wire.EventNodeDeleted {
		return // nothing of interest is in data
	}
	p := split(v.cfg.Root, ev.Path)
	v.mu.Lock()
	switch {
	case len(p) == 0:
		if ev.Path == v.cfg.Root {
			v.full = true
		}
	case len(p) == 1:
		v.dirty[p[0]] |= bothParts
	case len(p) <= 3 && p[1] == string(Providers):
		v.dirty[p[0]] |= providersPart
	case len(p) <= 3 && p[1] == string(configurators):
		v.dirty[p[0]] |= configuratorsPart
	}
	v.mu.Unlock()
	v.wake()
}

func (v *views) wake() {
	select {
	case v.kick <- struct{}{}:
	default:
	}
}

// run is the reader.
func (v *views) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { v.saver(ctx) })

	pending := map[string]parts{}
	full := false
	var retry backoff
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.kick:
			sleep(ctx, v.cfg.Settle)
		case <-timer.C:
		}
		v.mu.Lock()
		full = full || v.full
		v.full = false
		for name, p := range v.dirty {
			pending[name] |= p
		}
		clear(v.dirty)
		epoch := v.epoch
		v.mu.Unlock()

		next := time.Hour
		if full {
			if err := v.readAll(ctx, epoch); err == nil {
				full, retry = false, backoff{}
				clear(pending)
			} else if ctx.Err() == nil {
				next = retry.next()
				v.log.Warn("services could not be read", "path", v.cfg.Root, "err", err, "retry", next)
			}
		} else {
			next = v.readDirty(ctx, pending)
		}
		timer.Reset(next)
	}
}

// readAll replaces the whole picture, or leaves it as it is.
func (v *views) readAll(ctx context.Context, epoch uint64) error {
	start := time.Now()
	names, err := v.children(ctx, v.cfg.Root)
	if err != nil {
		return err
	}
	fresh := make([]*service, len(names))
	err = parallel(len(names), readWidth, func(i int) error {
		s, err := v.read(ctx, names[i], v.services[names[i]], bothParts)
		fresh[i] = s
		return err
	})
	if err != nil {
		return err
	}
	all := make(map[string]*service, len(names))
	changed := map[string]bool{}
	for i, s := range fresh {
		if s == nil {
			continue
		}
		all[names[i]] = s
		if old := v.services[names[i]]; old == nil || old.out != s.out {
			changed[s.name] = true
		}
	}
	for child, s := range v.services {
		if all[child] == nil {
			changed[s.name] = true
		}
	}
	v.services = all
	v.store(changed, epoch)
	v.log.Debug("services read", "path", v.cfg.Root, "services", len(all), "took", time.Since(start))
	return nil
}

// readDirty reads the pending services that are due, takes them out of pending
// and returns when the next one is due.
func (v *views) readDirty(ctx context.Context, pending map[string]parts) time.Duration {
	now := time.Now()
	next := time.Hour
	var due []string
	for name := range pending {
		if s := v.services[name]; s != nil && s.notBefore.After(now) {
			next = min(next, s.notBefore.Sub(now))
			continue
		}
		due = append(due, name)
	}
	slices.Sort(due)
	fresh := make([]*service, len(due))
	errs := make([]error, len(due))
	_ = parallel(len(due), readWidth, func(i int) error {
		fresh[i], errs[i] = v.read(ctx, due[i], v.services[due[i]], pending[due[i]])
		return nil
	})
	changed := map[string]bool{}
	for i, name := range due {
		old := v.services[name]
		if errs[i] != nil {
			if ctx.Err() != nil {
				break
			}
			if old == nil {
				// Not known yet: keep it pending at the pace of the others.
				next = min(next, time.Second)
				continue
			}
			d := old.retry.next()
			old.notBefore = time.Now().Add(d)
			next = min(next, d)
			v.log.Warn("service could not be read", "service", old.name, "err", errs[i], "retry", d)
			continue
		}
		delete(pending, name)
		switch s := fresh[i]; {
		case s == nil && old == nil:
		case s == nil:
			delete(v.services, name)
			changed[old.name] = true
		default:
			v.services[name] = s
			if old == nil || old.out != s.out {
				changed[s.name] = true
			}
		}
	}
	if len(changed) > 0 {
		v.store(changed, 0)
	}
	return next
}

// read returns the new state of one child of the root, nil if it is no service.
// It does not change old. If nothing changed, out stays the same pointer.
func (v *views) read(ctx context.Context, child string, old *service, what parts) (*service, error) {
	start := time.Now()
	s := &service{}
	if old != nil {
		*s = *old
		s.retry = backoff{}
	} else {
		what = bothParts
		name, err := unescape(child)
		if err != nil {
			return nil, nil // nobody asks for a name that cannot be read
		}
		s.name = name
	}
	dir := join(v.cfg.Root, child)
	if what&providersPart != 0 {
		names, _, err := v.conn.Children(ctx, join(dir, string(Providers)))
		switch {
		case errors.Is(err, wire.ErrNoNode):
			return nil, nil
		case errors.Is(err, wire.ErrNoAuth) && old != nil:
			return old, nil // keep the last good answer; a full read must not fail for one service
		case errors.Is(err, wire.ErrNoAuth):
			return nil, nil
		case err != nil:
			return nil, err
		}
		if reserved[child] && len(names) == 0 {
			return nil, nil
		}
		slices.Sort(names)
		if old == nil || !slices.Equal(names, s.raw) {
			s.out = nil
			s.parse(names, v.bad)
		}
	}
	if what&configuratorsPart != 0 {
		names, _, err := v.conn.Children(ctx, join(dir, string(configurators)))
		if err != nil && !errors.Is(err, wire.ErrNoNode) && !errors.Is(err, wire.ErrNoAuth) {
			return nil, err
		}
		slices.Sort(names)
		if !slices.Equal(names, s.overrides) {
			s.out = nil
			s.overrides = names
			s.rules = parseOverrides(names, v.bad)
		}
	}
	if s.out == nil {
		s.build()
	}
	// What took long to read is read less often: at most a fifth of the time goes
	// into it, however fast it changes.
	took := time.Since(start)
	s.notBefore = time.Now().Add(4 * took)
	return s, nil
}

func (v *views) bad(name string, err error) {
	v.log.Warn("unreadable name skipped", "err", err)
}

// parse takes over a new list of names; what was parsed before is kept.
func (s *service) parse(names []string, bad func(string, error)) {
	parsed := make(map[string]*Instance, len(names))
	for i, raw := range names {
		in, known := s.parsed[raw]
		if !known {
			p, err := ParseProvider(raw)
			switch {
			case err != nil:
				bad(raw, err) // once: nil is remembered
			case p.Protocol == "empty":
			default:
				in = p.instance(s.name)
			}
		}
		if in != nil {
			names[i] = in.Raw // the string that is kept anyway
		}
		parsed[raw] = in
	}
	s.raw, s.parsed = names, parsed
}

// build makes the view from names and rules.
func (s *service) build() {
	list := make([]*Instance, 0, len(s.raw))
	for _, raw := range s.raw {
		if in := s.parsed[raw]; in != nil {
			list = append(list, applyOverrides(in, s.rules))
		}
	}
	s.out = &serviceView{view: View{Service: s.name, Instances: list}, overrides: s.overrides}
}

func (v *views) children(ctx context.Context, path string) ([]string, error) {
	names, _, err := v.conn.Children(ctx, path)
	if errors.Is(err, wire.ErrNoNode) {
		return nil, nil
	}
	return names, err
}

// store publishes the reader's services. changed are decoded names. epoch is that
// of a full read, 0 for less: if it is still the current one, the view is live
// from now on.
func (v *views) store(changed map[string]bool, epoch uint64) {
	v.publish.Lock()
	defer v.publish.Unlock()
	old := v.current.Load()
	s := *old
	v.mu.Lock()
	readOnly := v.readOnly
	live := (old.live || epoch == v.epoch) && !readOnly
	v.mu.Unlock()
	s.live = live
	if !live && epoch != 0 && !readOnly {
		s.asOf = time.Now()
	}
	if len(changed) > 0 {
		v.index(&s, changed)
	}
	if len(changed) == 0 && live == old.live {
		return
	}
	s.generation++
	v.current.Store(&s)
	select {
	case <-v.changes: // the saver has not taken it: replace it
	default:
	}
	v.changes <- &s // one writer (publish is held) and room for one
}

// index brings the maps of s up to date. Maps of old snapshots stay as they are.
func (v *views) index(s *snapshot, changed map[string]bool) {
	byName := make(map[string]*serviceView, len(v.services))
	for _, sv := range v.services {
		byName[sv.name] = sv.out
	}
	touched := map[string]bool{} // applications
	members := false
	for name := range changed {
		before, after := s.services[name], byName[name]
		members = members || before == nil || after == nil
		for _, sv := range [...]*serviceView{before, after} {
			if sv == nil {
				continue
			}
			for _, in := range sv.view.Instances {
				if in.App != "" {
					touched[in.App] = true
				}
			}
		}
	}
	s.services = byName
	if members {
		s.names = slices.Sorted(maps.Keys(byName))
	}
	if len(touched) > 0 {
		v.indexApps(s, touched)
	}
}

// indexApps rebuilds the views of the touched applications.
func (v *views) indexApps(s *snapshot, touched map[string]bool) {
	lists := map[string][]*Instance{}
	for _, name := range s.names {
		for _, in := range s.services[name].view.Instances {
			if touched[in.App] {
				lists[in.App] = append(lists[in.App], in)
			}
		}
	}
	apps := make(map[string]*View, len(s.apps)+len(lists))
	maps.Copy(apps, s.apps)
	for app := range touched {
		list := lists[app]
		if len(list) == 0 {
			delete(apps, app)
			continue
		}
		slices.SortStableFunc(list, func(a, b *Instance) int { return compareString(a.Raw, b.Raw) })
		apps[app] = &View{Service: app, Instances: list}
	}
	s.apps = apps
	s.appNames = slices.Sorted(maps.Keys(apps))
}

func compareString(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// dated adds to a view how current it is.
func (s *snapshot) dated(v View) View {
	v.Live, v.AsOf = s.live, s.asOf
	if s.live {
		v.AsOf = time.Now()
	}
	return v
}

// Lookup implements [Directory].
func (r *Registry) Lookup(service string) (View, bool) {
	s := r.views.current.Load()
	sv := s.services[service]
	if sv == nil {
		return s.dated(View{Service: service}), false
	}
	return s.dated(sv.view), true
}

// LookupApp implements [Directory].
func (r *Registry) LookupApp(app string) (View, bool) {
	s := r.views.current.Load()
	v := s.apps[app]
	if v == nil {
		return s.dated(View{Service: app}), false
	}
	return s.dated(*v), true
}

// Services implements [Directory].
func (r *Registry) Services() []string { return r.views.current.Load().names }

// Apps implements [Directory].
func (r *Registry) Apps() []string { return r.views.current.Load().appNames }

// Generation implements [Directory].
func (r *Registry) Generation() uint64 { return r.views.current.Load().generation }

// Live reports whether the views are current, and since when they are not; the
// zero time if there never was one.
func (r *Registry) Live() (live bool, asOf time.Time) {
	v := r.views.current.Load().dated(View{})
	return v.Live, v.AsOf
}

var _ Directory = (*Registry)(nil)
