package configsync

import (
	"context"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab"
)

// reloadGather is how long a reload waits for other targets that changed by
// the same cause. It is not part of the time in which a file gets its bytes.
const reloadGather = 50 * time.Millisecond

// A reloader runs one reload command for all targets that name it: one run at a
// time, and one for all changes that came before it.
type reloader struct {
	m        *Mirror
	command  Command
	targets  []*target
	timeout  time.Duration // the largest of the targets
	interval time.Duration // likewise
	tries    int           // likewise
	kick     chan struct{} // buffer 1

	mu  sync.Mutex // guards due
	due map[*target]order
}

// An order is a target's wish for a reload.
type order struct {
	zxid   zab.Zxid
	number uint64 // the target's count of its orders
}

func newReloader(m *Mirror, c Command) *reloader {
	return &reloader{m: m, command: c, kick: make(chan struct{}, 1), due: map[*target]order{}}
}

func (r *reloader) add(t *target) {
	t.reloader = r
	r.targets = append(r.targets, t)
	r.timeout = max(r.timeout, t.tc.ReloadTimeout)
	r.interval = max(r.interval, t.tc.ReloadInterval)
	r.tries = max(r.tries, t.tc.ReloadTries)
}

// want asks for a run that begins after this call.
func (r *reloader) want(t *target, z zab.Zxid, number uint64) {
	r.mu.Lock()
	r.due[t] = order{z, number}
	r.mu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

func (r *reloader) run(ctx context.Context) {
	var ended time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.kick:
		}
		pause := max(reloadGather, time.Until(ended.Add(r.interval)))
		for attempt := 1; ; attempt++ {
			if !sleep(ctx, pause) {
				return
			}
			// Whatever was asked for until now is served by this run. A change that
			// comes while it runs, or between failing runs, starts the count anew.
			select {
			case <-r.kick:
				attempt = 1
			default:
			}
			ok := r.once(ctx, attempt)
			ended = time.Now()
			if ok || attempt >= r.tries || ctx.Err() != nil {
				break
			}
			pause = max(r.interval, min(time.Second<<min(attempt-1, 10), time.Minute))
		}
	}
}

// once runs the command for all that is due and tells the targets.
func (r *reloader) once(ctx context.Context, attempt int) (ok bool) {
	r.mu.Lock()
	due := r.due
	r.due = map[*target]order{}
	r.mu.Unlock()
	var names []string
	var newest zab.Zxid
	for _, t := range r.targets { // in the order of the configuration
		if o, is := due[t]; is {
			names = append(names, t.tc.Name)
			newest = max(newest, o.zxid)
		}
	}
	if len(names) == 0 {
		return true
	}
	s := try(ctx, r.m.run, r.command, r.timeout, commandEnv(names, "", newest))
	if ctx.Err() != nil {
		return false // stopped with the agent, and still due when it comes back
	}
	s.Attempt = attempt
	log := r.m.log.With("targets", names, "took", time.Duration(s.TookMs)*time.Millisecond, "attempt", attempt)
	if s.OK {
		log.Info("reloaded", "zxid", newest)
	} else {
		log.Warn("reload command fails", "exit", s.Exit, "err", s.Error)
	}
	if !s.OK {
		r.mu.Lock()
		for t, o := range due {
			if _, newer := r.due[t]; !newer {
				r.due[t] = o // for the next attempt
			}
		}
		r.mu.Unlock()
	}
	for t, o := range due {
		mine := *s
		t.post(func(m *mail) { m.reload, m.reloaded = &mine, o.number })
	}
	return s.OK
}

// sleep reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
