package configsync

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

const (
	readTimeout   = 5 * time.Second // of one read: then the connection is as good as gone
	retryMin      = 200 * time.Millisecond
	retryMax      = time.Minute
	resyncEvery   = 10 * time.Minute       // everything is read again that often, in case an event was lost
	debounceMax   = 10                     // times Debounce: the longest wait for a source that never rests
	maxDirty      = 1000                   // more changed znodes than that are cheaper read all together
	paceBurst     = 5                      // rounds of writing within paceWindow; more are put off
	paceWindow    = 150 * time.Millisecond // so that no change waits longer
	editBackoff   = time.Second            // between two restorations; it doubles while somebody keeps editing
	failingRetry  = 30 * time.Second       // files that cannot be written are tried again that often
	maxWatchDirs  = 512                    // directories of one target with a watch for edits; the poll sees the rest
	maxFileStatus = 1000                   // files of one target listed in its status, the worst first
)

// A target keeps one file or directory. All fields without another note belong
// to the goroutine of run.
type target struct {
	tc       Target
	uid, gid int // of Owner and Group; -1: not set
	m        *Mirror
	log      *slog.Logger
	root     string // the directory that names are relative to
	single   string // the file's name in root, if it is not a tree

	src       *source
	mem       *memory
	seen      map[string]sight   // files as they were last looked at
	notes     map[string]problem // of the last round, by file name or znode
	connected bool
	known     bool            // src was read since the start
	memDirty  bool            // mem is not as it was saved
	inPlace   map[string]bool // files that cannot be replaced
	applied   []time.Time     // the last rounds that wrote, at most paceBurst
	restored  time.Time       // when an edit was last undone
	lastApply time.Time
	editWait  time.Duration // how soon after restored the next may be
	refused   digest        // of what Check refused last
	wants     uint64        // counts reloads asked for
	forget    bool          // accept older znodes, once
	foldCase  *bool         // nil: not known yet

	dirsChanged func()
	reloader    *reloader     // nil: no reload command
	kick        chan struct{} // says that mail has something; buffer 1

	mailMu sync.Mutex // guards mail
	mail   mail

	statusMu sync.Mutex // guards status and dirs
	status   TargetStatus
	dirs     []string
}

// mail is what other goroutines want of a target.
type mail struct {
	look     bool // files may have been edited
	forget   bool
	reload   *CommandStatus
	reloaded uint64 // the reload asked for with this number succeeded
}

// A problem is why a file is not as its znode.
type problem struct {
	state  string // StateKept, StateEdited or StateFailing
	reason string
	znode  string
}

func newTarget(m *Mirror, tc Target) (*target, error) {
	uid, gid, err := tc.owners()
	if err != nil {
		return nil, err
	}
	t := &target{tc: tc, uid: uid, gid: gid, m: m, log: m.log.With("target", tc.Name), kick: make(chan struct{}, 1)}
	t.root = tc.To
	if !tc.Tree {
		t.root, t.single = filepath.Dir(tc.To), filepath.Base(tc.To)
	}
	t.src = &source{client: m.cfg.Client, tc: &t.tc, nodes: map[string]*node{}}
	t.mem = &memory{Version: 1, From: tc.From, To: tc.To, Files: map[string]fileMemory{}}
	t.seen, t.inPlace = map[string]sight{}, map[string]bool{}
	t.status = TargetStatus{Name: tc.Name, From: tc.From, To: tc.To, Tree: tc.Tree, State: StateWaiting,
		Since: time.Now(), Zxid: zab.Zxid(0).String(), Files: []FileStatus{}}
	t.dirs = []string{t.root}
	return t, nil
}

// run keeps the target until ctx ends.
func (t *target) run(ctx context.Context) {
	t.begin()
	backoff := retryMin
	for ctx.Err() == nil {
		w, err := t.m.cfg.Client.AddWatch(ctx, t.tc.From, wire.WatchPersistentRecursive)
		if err == nil {
			backoff = retryMin
			t.follow(ctx, w)
			if err := w.Close(); err != nil && ctx.Err() == nil {
				t.log.Debug("watch not removed", "err", err)
			}
			t.connected = false
			t.report(nil)
			continue
		}
		if ctx.Err() == nil {
			t.report(fmt.Errorf("watch %s: %w", t.tc.From, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, retryMax)
	}
	t.end()
}

// begin takes up what the last process left.
func (t *target) begin() {
	if err := t.withState(func(dir directory) (err error) {
		t.mem, err = loadMemory(dir, &t.tc)
		return err
	}); err != nil {
		// What was shown before is unknown now; the files themselves are not touched
		// before the znodes have been read.
		t.log.Warn("memory of earlier runs lost", "err", err)
	}
	if err := t.clean(false); err != nil {
		t.log.Warn("staging directory not cleaned", "path", filepath.Join(t.root, stagingName), "err", err)
	}
	if t.mem.ReloadDue && t.reloader != nil {
		t.wants++
		t.reloader.want(t, t.zxid(), t.wants)
	}
	t.report(nil)
}

func (t *target) end() {
	if err := t.clean(true); err != nil {
		t.log.Debug("staging directory not cleaned", "err", err)
	}
	t.readMail(context.Background())
}

func (t *target) withState(f func(directory) error) error {
	dir, err := t.m.disk.open(t.m.cfg.StateDir, 0o700, true)
	if err != nil {
		return err
	}
	defer dir.Close()
	return f(dir)
}

func (t *target) save() error {
	return t.withState(func(dir directory) error { return t.mem.save(dir, t.tc.Name) })
}

// A round is what is due: reading, writing, and when.
type round struct {
	full  bool            // read everything
	dirty map[string]bool // read these
	apply bool            // look at the files even if nothing was read
	first time.Time       // when the oldest of it became due; zero: nothing is
	fails int             // in a row
}

// follow keeps the target as long as the watch lives.
func (t *target) follow(ctx context.Context, w Watch) {
	t.connected = true
	r := &round{full: true, dirty: map[string]bool{}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	resync := time.NewTimer(jitter(resyncEvery))
	defer resync.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-w.Events():
			if !ok {
				return
			}
			if wait, due := t.event(r, ev); due {
				timer.Reset(wait)
			}
		case <-t.kick:
			if t.readMail(ctx) {
				r.apply = true
				timer.Reset(t.pace(time.Until(t.restored.Add(t.editWait))))
			}
		case <-resync.C:
			resync.Reset(jitter(resyncEvery))
			r.full = true
			timer.Reset(0)
		case <-timer.C:
			if wait, again := t.work(ctx, r); again {
				timer.Reset(wait)
			}
		}
	}
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// event notes what an event makes due, and when.
func (t *target) event(r *round, ev client.Event) (wait time.Duration, due bool) {
	if ev.Type == wire.EventNone {
		switch ev.State {
		case wire.StateSyncConnected, wire.StateConnectedReadOnly:
			t.connected, r.full, r.fails = true, true, 0
			return t.pace(0), true
		case wire.StateDisconnected, wire.StateExpired, wire.StateClosed, wire.StateAuthFailed:
			t.connected = false
			t.report(nil)
		}
		return 0, false
	}
	rel, ok := t.src.rel(ev.Path)
	if !ok || rel != "" && !t.tc.Tree {
		return 0, false
	}
	if len(r.dirty) >= maxDirty {
		r.full = true
	} else {
		r.dirty[rel] = true
	}
	now := time.Now()
	if r.first.IsZero() {
		r.first = now
	}
	latest := r.first.Add(debounceMax * t.tc.Debounce)
	return t.pace(min(t.tc.Debounce, latest.Sub(now))), true
}

// pace puts off a round when too many came before it: a file is not written
// more often than anybody can use.
func (t *target) pace(wait time.Duration) time.Duration {
	if len(t.applied) == paceBurst {
		wait = max(wait, time.Until(t.applied[0].Add(paceWindow)))
	}
	return max(wait, 0)
}

// work reads and writes what is due; again says that it has to be tried again.
func (t *target) work(ctx context.Context, r *round) (wait time.Duration, again bool) {
	r.first = time.Time{}
	switch {
	case t.connected && (r.full || len(r.dirty) > 0):
		if err := t.read(ctx, r); err != nil {
			r.full = true
			if ctx.Err() != nil {
				return 0, false
			}
			t.report(fmt.Errorf("read %s: %w", t.tc.From, err))
			return r.retry(), true
		}
		r.full = false
		clear(r.dirty)
	case !r.apply || !t.known:
		// Nothing to do, or nothing that can be done before the next connection,
		// which brings everything.
		return 0, false
	}
	err := t.apply(ctx)
	r.apply = err != nil
	t.report(err)
	if err != nil && ctx.Err() == nil {
		return r.retry(), true
	}
	r.fails = 0
	return 0, false
}

func (r *round) retry() time.Duration {
	r.fails++
	return jitter(min(retryMin<<min(r.fails-1, 20), retryMax))
}

func (t *target) read(ctx context.Context, r *round) error {
	var err error
	if r.full {
		err = t.src.readAll(ctx)
	} else {
		err = t.src.refresh(ctx, r.dirty)
	}
	if err != nil {
		return err
	}
	t.known = true
	t.statusMu.Lock()
	t.status.Read = time.Now()
	t.statusMu.Unlock()
	return nil
}

// look says that somebody may have written to the target's files.
func (t *target) look() {
	t.post(func(m *mail) { m.look = true })
}

func (t *target) forgetOlder() { t.post(func(m *mail) { m.forget = true }) }

func (t *target) post(f func(*mail)) {
	t.mailMu.Lock()
	f(&t.mail)
	t.mailMu.Unlock()
	select {
	case t.kick <- struct{}{}:
	default: // one is on its way
	}
}

// readMail handles what others want; due says that the files need a look.
func (t *target) readMail(ctx context.Context) (due bool) {
	t.mailMu.Lock()
	m := t.mail
	t.mail = mail{}
	t.mailMu.Unlock()
	if m.reload != nil {
		t.statusMu.Lock()
		t.status.Reload = m.reload
		t.statusMu.Unlock()
		if m.reloaded == t.wants && t.mem.ReloadDue && m.reload.OK {
			t.mem.ReloadDue, t.memDirty = false, true
			if err := t.saveIfDirty(); err != nil {
				t.log.Warn("reload not remembered", "err", err) // it is run once more after a restart
			}
		}
		t.report(nil)
	}
	if m.forget {
		t.forget = true
	}
	if !m.look || ctx.Err() != nil || !t.known {
		return m.forget
	}
	// What stands in the way of a file need not be a file that is looked after.
	failing := time.Since(t.lastApply) > failingRetry && slices.ContainsFunc(slices.Collect(maps.Values(t.notes)),
		func(p problem) bool { return p.state == StateFailing })
	return m.forget || failing || t.differs()
}

// concerns reports whether a local path is, or contains, a file of the target.
func (t *target) concerns(p string) bool {
	if t.tc.Tree {
		return p == t.root || beneath(p, t.root) && !beneath(p, filepath.Join(t.root, stagingName)) || beneath(t.root, p)
	}
	return p == t.tc.To || p == t.root || beneath(t.tc.To, p)
}

// watchDirs lists the directories where edits matter.
func (t *target) watchDirs() []string {
	t.statusMu.Lock()
	defer t.statusMu.Unlock()
	return t.dirs
}

// zxid returns the newest transaction that is in the files.
func (t *target) zxid() zab.Zxid {
	var z zab.Zxid
	for _, f := range t.mem.Files {
		z = max(z, zab.Zxid(f.Zxid))
	}
	return z
}

// znodeOf returns the path of the znode of a file.
func (t *target) znodeOf(name string) string {
	return t.src.abs(t.relOf(name))
}

// relOf is the reverse of fileName.
func (t *target) relOf(name string) string {
	if !t.tc.Tree {
		return ""
	}
	rel := filepath.ToSlash(name)
	if path.Base(rel) == dataName {
		rel = parentOf(rel)
	}
	return rel
}
