package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab/wire"
)

// Config says how a [Registry] works. The zero value is useful.
type Config struct {
	// Root is the directory of all services. Default /dubbo. "/" is legal: services
	// are then at the top of the tree.
	Root string

	// Dir is the data directory: registrations made by Register and the last good
	// view survive a restart there. Default: nothing is kept.
	Dir string

	// Advertise is the address of registrations that have none. Default: see
	// [OutgoingAddr].
	Advertise string

	// Agent names this agent. It is the data of the znodes it makes, by which it
	// knows its own of a session before. Two agents with one name take znodes of
	// the same URL from each other. Default: the host name.
	Agent string

	// Sources are names of those that will call Replace. Until each has done so
	// once, no znode that a former process of this agent left behind is taken for
	// unwanted.
	Sources []string

	// Settle is how long changes of the tree are collected before the view is read
	// again: less costs reads, more delays answers. Default 10 ms.
	Settle time.Duration

	// Resync is how often the znodes of this agent are compared with what is
	// wanted although nothing happened. Default 1 minute.
	Resync time.Duration

	// OpTimeout bounds each operation for a registration; without a connection it
	// fails after that time and is tried again. Default 10 s.
	OpTimeout time.Duration

	// SaveEvery is the least time between two writes of the view to Dir. Default 5 s.
	SaveEvery time.Duration

	// Probe runs a check. Default: [Probe].
	Probe func(context.Context, Check) error

	// Logger; nil discards.
	Logger *slog.Logger
}

// Validate reports every setting that cannot work.
func (c Config) Validate() error {
	var errs []error
	if c.Root != "" && c.Root != "/" {
		if !strings.HasPrefix(c.Root, "/") || strings.HasSuffix(c.Root, "/") || strings.Contains(c.Root, "//") {
			errs = append(errs, fmt.Errorf("root %q is not a path like /dubbo", c.Root))
		}
	}
	if c.Advertise != "" {
		if err := checkHost(c.Advertise); err != nil {
			errs = append(errs, fmt.Errorf("advertise: %w", err))
		}
	}
	for _, d := range [...]struct {
		name string
		d    time.Duration
	}{{"settle", c.Settle}, {"resync", c.Resync}, {"op timeout", c.OpTimeout}, {"save every", c.SaveEvery}} {
		if d.d < 0 {
			errs = append(errs, fmt.Errorf("%s %v is negative", d.name, d.d))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if c.Root == "" {
		c.Root = "/dubbo"
	}
	if c.Advertise == "" {
		c.Advertise = OutgoingAddr()
	}
	if c.Agent == "" {
		c.Agent, _ = os.Hostname()
	}
	def(&c.Settle, 10*time.Millisecond)
	def(&c.Resync, time.Minute)
	def(&c.OpTimeout, 10*time.Second)
	def(&c.SaveEvery, 5*time.Second)
	if c.Probe == nil {
		c.Probe = Probe
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// A Registry keeps registrations in the tree and a view of all services, both
// over one connection and one watch. It is a [Directory]. All methods are safe
// for concurrent use and none waits for the network, but Run.
type Registry struct {
	cfg  Config
	conn Conn
	log  *slog.Logger

	views views
	regs  registrar
}

// New returns a registry that answers from the saved view and holds the saved
// registrations, if there are any. A damaged file of the view is a warning, one
// of the registrations an error: it holds what cannot be had elsewhere.
func New(conn Conn, cfg Config) (*Registry, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	cfg = cfg.withDefaults()
	r := &Registry{cfg: cfg, conn: conn, log: cfg.Logger}
	r.views.init(conn, cfg)
	if err := r.regs.init(conn, cfg); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	return r, nil
}

// Run keeps registrations and view up to date until ctx ends; it returns nil
// then. It does not take the registrations out of the tree: they go with the
// session, or are found again by the next process that takes the session up.
func (r *Registry) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.views.run(ctx) })
	wg.Go(func() { r.regs.run(ctx) })
	for pause := (backoff{}); ctx.Err() == nil; {
		start := time.Now()
		if err := r.follow(ctx); err != nil && ctx.Err() == nil {
			if time.Since(start) > maxPause {
				pause = backoff{}
			}
			d := pause.next()
			r.log.Warn("watch of the registry lost", "path", r.cfg.Root, "err", err, "retry", d)
			sleep(ctx, d)
		}
	}
	return nil
}

// follow sets the watch and passes its events on until it ends. It never waits
// for anything but the next event, so that the queue of the client stays short.
func (r *Registry) follow(ctx context.Context) error {
	w, err := r.conn.Watch(ctx, r.cfg.Root)
	if err != nil {
		return err
	}
	defer w.Close()
	r.views.connected(false) // if that is not so, an event says so
	r.regs.connected()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-w.Events():
			if !ok {
				r.views.disconnected()
				return errWatchEnded
			}
			r.handle(ev)
		}
	}
}

var errWatchEnded = errors.New("the client ended the watch")

func (r *Registry) handle(ev Event) {
	if ev.Type == wire.EventNone {
		r.log.Debug("session state", "state", ev.State)
		switch ev.State {
		case wire.StateSyncConnected, wire.StateConnectedReadOnly:
			r.views.connected(ev.State == wire.StateConnectedReadOnly)
			r.regs.connected()
		case wire.StateDisconnected:
			r.views.disconnected()
		case wire.StateExpired, wire.StateClosed:
			r.views.disconnected()
			r.regs.expired()
		}
		return
	}
	r.views.changed(ev)
	if ev.Type == wire.EventNodeDeleted {
		r.regs.deleted(ev.Path)
	}
}

// maxPause bounds every back-off here.
const maxPause = 30 * time.Second

// backoff doubles from 100 ms to maxPause. A quarter of each pause is random, so
// that the agents of a fleet do not come back in one wave.
type backoff struct{ last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, 100*time.Millisecond), maxPause)
	return b.last - rand.N(b.last/4)
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// join appends a name to a path; dir may be "/".
func join(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}

// split takes a path below root apart; parts is nil if it is not below root.
// Child names hold no slash: those of URLs are escaped.
func split(root, path string) (parts []string) {
	rest, ok := strings.CutPrefix(path, root)
	if !ok {
		return nil
	}
	if root != "/" {
		if rest, ok = strings.CutPrefix(rest, "/"); !ok {
			return nil
		}
	}
	if rest == "" {
		return nil
	}
	return strings.Split(rest, "/")
}

// reserved are children of the root that are no services, although admin tools
// leave empty category directories in them. (zookeeper: if the root is "/".)
var reserved = map[string]bool{"config": true, "metadata": true, "mapping": true, "zookeeper": true}

// parallel calls f for 0 ≤ i < n, at most width at a time, and returns the first
// error; after one, no further call begins.
func parallel(n, width int, f func(i int) error) error {
	var (
		mu    sync.Mutex // guards next, first
		next  int
		first error
		wg    sync.WaitGroup
	)
	for range min(width, n) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := first != nil || i >= n
				mu.Unlock()
				if stop {
					return
				}
				if err := f(i); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}
