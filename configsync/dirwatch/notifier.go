package dirwatch

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxPaths is how many changed paths are told apart in one burst.
const maxPaths = 256

// NotifierConfig says what a Notifier watches. Settle, Poll and Logger are as
// in [Config].
type NotifierConfig struct {
	// Dirs returns the absolute paths of the directories. It is called from the
	// goroutine of Run at the start, after Refresh and with each poll.
	Dirs   func() []string
	Settle time.Duration
	Poll   time.Duration
	Logger *slog.Logger
}

// A Notifier tells in which of many directories something happened, without
// reading any: for a caller that knows which files are to be there. All
// directories share one set of kernel notifications, of which a host has few.
type Notifier struct {
	cfg     NotifierConfig
	open    func() (*source, error)
	refresh chan struct{} // buffer 1: one refresh serves all that asked for it
}

// NewNotifier returns a Notifier; Run does the work.
func NewNotifier(cfg NotifierConfig) *Notifier {
	d := Config{Settle: cfg.Settle, Poll: cfg.Poll, Logger: cfg.Logger}.withDefaults()
	cfg.Settle, cfg.Poll, cfg.Logger = d.Settle, d.Poll, d.Logger
	return &Notifier{cfg: cfg, open: openSource, refresh: make(chan struct{}, 1)}
}

// Refresh makes Run ask for the directories again. It does not block.
func (n *Notifier) Refresh() {
	select {
	case n.refresh <- struct{}{}:
	default:
	}
}

// Run calls onChange with the sorted paths of files and directories that were
// touched, after each burst; with nil when it cannot tell, which is also the
// case at each poll: then anything may have changed. Calls are sequential. Run
// returns nil when ctx ends, and an error only if Dirs is missing.
func (n *Notifier) Run(ctx context.Context, onChange func(paths []string)) error {
	if n.cfg.Dirs == nil {
		return errors.New("dirwatch: no directories given")
	}
	a := &arms{open: n.open, log: n.cfg.Logger, poll: n.cfg.Poll, armed: map[string]fs.FileInfo{}}
	a.reopen()
	defer a.close()
	a.set(n.cfg.Dirs())

	poll := time.NewTicker(n.cfg.Poll)
	defer poll.Stop()
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	defer settle.Stop()
	var first time.Time // of the paths that are settling; zero: none
	paths := map[string]bool{}
	unknown := false
	touch := func() {
		if first.IsZero() {
			first = time.Now()
		} else if time.Since(first) >= maxSettles*n.cfg.Settle {
			return
		}
		settle.Reset(n.cfg.Settle)
	}
	tell := func() {
		first = time.Time{}
		if unknown {
			onChange(nil)
		} else {
			onChange(sortedKeys(paths))
		}
		clear(paths)
		unknown = false
	}
	polls := 0
	for {
		var events <-chan fsnotify.Event
		var errs <-chan error
		if a.src != nil {
			events, errs = a.src.events, a.src.errors
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.refresh:
			a.set(n.cfg.Dirs())
		case ev, ok := <-events:
			if !ok {
				a.reopen()
				a.set(n.cfg.Dirs())
				unknown = true
			}
			if a.armed[ev.Name] != nil {
				a.refresh = true // the directory itself was moved or removed
				a.set(n.cfg.Dirs())
			}
			if len(paths) < maxPaths {
				paths[filepath.Clean(ev.Name)] = true
			} else {
				unknown = true
			}
			touch()
		case err := <-errs:
			n.cfg.Logger.Warn("directory notifications lost", "err", err)
			a.reopen()
			a.set(n.cfg.Dirs())
			unknown = true
			touch()
		case <-poll.C:
			polls++
			if a.src == nil && polls%reopenPolls == 0 {
				a.reopen()
			}
			a.set(n.cfg.Dirs())
			unknown = true
			if first.IsZero() {
				tell()
			}
		case <-settle.C:
			tell()
		}
	}
}

func sortedKeys(m map[string]bool) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// arms is a set of directories with kernel notifications.
type arms struct {
	open    func() (*source, error)
	log     *slog.Logger
	poll    time.Duration // for the log
	src     *source       // nil: no notifications, only the poll
	armed   map[string]fs.FileInfo
	refresh bool // some directory is another one now: arm all anew
	warned  bool
}

func (a *arms) close() {
	if a.src != nil {
		// Nothing depends on it any more.
		_ = a.src.close()
		a.src = nil
	}
	clear(a.armed)
}

// reopen starts anew; the caller sets the directories again.
func (a *arms) reopen() {
	a.close()
	src, err := a.open()
	if err != nil {
		a.warn("", err)
		return
	}
	a.src, a.warned = src, false
}

func (a *arms) warn(path string, err error) {
	if !a.warned {
		a.log.Warn("no directory notifications, polling", "path", path, "interval", a.poll, "err", err)
		a.warned = true
	}
}

// set watches these directories and no others. What does not exist is left out:
// call set again when it may.
func (a *arms) set(dirs []string) {
	if a.src == nil {
		return
	}
	want := make(map[string]bool, len(dirs))
	for _, d := range dirs {
		want[d] = true
	}
	for dir, was := range a.armed {
		now, err := os.Stat(dir)
		if want[dir] && !a.refresh && err == nil && os.SameFile(was, now) {
			continue
		}
		// Watches belong to the inode: this one may be of another directory. It
		// may also be gone already, which is an error without meaning.
		_ = a.src.remove(dir)
		delete(a.armed, dir)
	}
	a.refresh = false
	for _, dir := range sortedKeys(want) {
		if a.armed[dir] != nil {
			continue
		}
		info, err := os.Stat(dir)
		if err != nil || !info.IsDir() {
			continue
		}
		if err := a.src.add(dir); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				a.warn(dir, err)
			}
			continue
		}
		a.armed[dir] = info
	}
}
