// Package dirwatch tells what is in a directory, again whenever that changed.
//
// A [Watcher] gives its owner the complete listing of the files that matter,
// with their bytes, once at the start and once for each burst of changes. The
// owner compares with what it had: there are no events to miss. Kernel
// notifications make it quick; a poll makes it sure, since every kind of
// notification has a way of getting lost: a queue overflows, a limit of the
// host is reached, the directory is replaced, a link is turned at a place that
// nobody watches.
//
// It works for all ways in which people change files: in place, rename over
// the old one, remove and create, Kubernetes' "..data" link, a directory that
// comes later or is itself a link. It is not recursive.
package dirwatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Limits that nobody has needed to change.
const (
	maxFiles     = 4096            // more files than that in one directory are reported by name and error only
	maxLinkDirs  = 64              // directories behind linked files that get a watch of their own; the poll sees the rest
	maxSettles   = 50              // a directory that never rests is reported after that many settle times
	racyWindow   = 2 * time.Second // a file changed so shortly before it was read may change again with the same times
	reopenPolls  = 15              // without notifications, try to get them each so many polls
	eventBacklog = 64              // of fsnotify's channel; the kernel has its own queue behind it
)

// ErrTooMany is the error of each file beyond the first 4096 of a directory.
var ErrTooMany = errors.New("too many files in the directory")

// Config says what to watch.
type Config struct {
	// Dir is the directory; it need not exist yet. A relative name is taken from
	// the working directory of the call of New.
	Dir string

	// Match chooses files by name (without directory). Default: all but those
	// that are [Ignored] always.
	Match func(name string) bool

	// Settle is how long the directory must rest before it is read, so that a
	// burst of changes is one change and a file written in place is whole.
	// Default 20 ms. A directory that never rests is read after 50 times Settle.
	Settle time.Duration

	// Poll is how often the directory is looked at without being told. It bounds
	// how late a change is seen where notifications do not work, and how long a
	// directory must be gone before it counts as empty. Default 2 s.
	Poll time.Duration

	// MaxFile bounds the size of a file in bytes: larger ones are listed with an
	// error. Default 1 MiB.
	MaxFile int64

	// Logger gets a warning when notifications are not to be had. Default: none.
	Logger *slog.Logger
}

// A File is one regular file, possibly reached through a link.
type File struct {
	// Name is the name in the directory.
	Name string
	// Data are the bytes, nil if Err is set. Not to be modified.
	Data []byte
	// Err says why the file could not be read, nil if it could.
	Err error
	// ModTime is the time of the last change when Data was read.
	ModTime time.Time
}

// Ignored reports whether a name is hidden or looks like an editor's or a
// writer's temporary file: .x, x~, x.tmp, x.swp, #x#.
func Ignored(name string) bool {
	return name == "" || name[0] == '.' || strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".tmp") ||
		strings.HasSuffix(name, ".swp") || name[0] == '#' && strings.HasSuffix(name, "#")
}

// A Watcher watches one directory.
type Watcher struct {
	cfg  Config
	open func() (*source, error)
}

// New returns a Watcher; Run does the work.
func New(cfg Config) *Watcher {
	cfg = cfg.withDefaults()
	if cfg.Dir != "" {
		if abs, err := filepath.Abs(cfg.Dir); err == nil {
			cfg.Dir = abs
		}
	}
	return &Watcher{cfg: cfg, open: openSource}
}

func (c Config) withDefaults() Config {
	if c.Settle <= 0 {
		c.Settle = 20 * time.Millisecond
	}
	if c.Poll <= 0 {
		c.Poll = 2 * time.Second
	}
	if c.MaxFile <= 0 {
		c.MaxFile = 1 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Run calls onChange with the files of the directory, sorted by name: at once
// with those that are there, then after each change of a name, of bytes or of
// an error. Calls are sequential, from this goroutine; the slice is the callee's.
//
// A missing directory is an empty one, but one that disappears is reported as
// empty only after it stayed away for Config.Poll, as tools replace whole
// directories. While an existing directory cannot be listed the last listing
// stands. Run returns nil when ctx ends and an error only for a Config without
// Dir.
func (w *Watcher) Run(ctx context.Context, onChange func(files []File)) error {
	if w.cfg.Dir == "" {
		return errors.New("dirwatch: no directory given")
	}
	r := &run{cfg: w.cfg, cache: map[string]*entry{}}
	r.arms = arms{open: w.open, log: w.cfg.Logger, poll: w.cfg.Poll, armed: map[string]fs.FileInfo{}}
	r.reopen()
	defer r.close()

	poll := time.NewTicker(r.cfg.Poll)
	defer poll.Stop()
	settle := time.NewTimer(0) // the initial listing goes the usual way
	defer settle.Stop()
	var first time.Time // of the changes that are settling; zero: none
	touch := func(d time.Duration) {
		if first.IsZero() {
			first = time.Now()
		}
		settle.Reset(d)
	}
	polls := 0
	for {
		var events <-chan fsnotify.Event
		var errs <-chan error
		if r.src != nil {
			events, errs = r.src.events, r.src.errors
		}
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-events:
			if !ok {
				r.reopen()
				touch(r.cfg.Settle)
			} else if r.concerns(ev.Name) {
				// A stream of changes may not put off the listing for ever.
				if first.IsZero() || !r.gone.IsZero() || time.Since(first) < maxSettles*r.cfg.Settle {
					touch(r.cfg.Settle)
				}
			}
		case err := <-errs:
			r.cfg.Logger.Warn("directory notifications lost, reading again", "path", r.cfg.Dir, "err", err)
			r.reopen()
			clear(r.cache)
			touch(r.cfg.Settle)
		case <-poll.C:
			polls++
			if r.src == nil && polls%reopenPolls == 0 {
				r.reopen()
			}
			if !first.IsZero() || !r.moved() {
				continue
			}
			// Nobody told: if there are notifications at all, they stopped working.
			r.reopen()
			touch(r.cfg.Settle)
		case <-settle.C:
			files, state := r.list()
			late := !first.IsZero() && time.Since(first) >= maxSettles*r.cfg.Settle
			if state == listMoving && !late {
				touch(r.cfg.Settle)
				continue
			}
			if state == listGone && len(r.last) > 0 {
				if r.gone.IsZero() {
					r.gone = time.Now()
				}
				if rest := r.cfg.Poll - time.Since(r.gone); rest > 0 {
					touch(rest)
					continue
				}
			}
			first = time.Time{}
			if state == listFailed {
				continue
			}
			r.gone = time.Time{}
			if r.told && slices.EqualFunc(files, r.last, sameFile) {
				continue
			}
			r.last, r.told = files, true
			onChange(slices.Clone(files))
		}
	}
}

func sameFile(a, b File) bool {
	return a.Name == b.Name && bytes.Equal(a.Data, b.Data) && errText(a.Err) == errText(b.Err)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A source is a stream of notifications: fsnotify's, or a test's.
type source struct {
	events      <-chan fsnotify.Event
	errors      <-chan error
	add, remove func(dir string) error
	close       func() error
}

func openSource() (*source, error) {
	n, err := fsnotify.NewBufferedWatcher(eventBacklog)
	if err != nil {
		return nil, err
	}
	return &source{n.Events, n.Errors, n.Add, n.Remove, n.Close}, nil
}

// An entry remembers a file as it was read.
type entry struct {
	File
	info fs.FileInfo // of the file itself, behind all links
	racy bool        // it may have changed since without a trace in info
}

// run is the state of one call of Run, owned by its goroutine.
type run struct {
	arms
	cfg Config

	cache  map[string]*entry
	links  map[string]bool // directories that linked files lead to
	linked bool            // some file is a link: any name may be a part of its way

	told bool // onChange was called
	last []File
	gone time.Time // when Dir was first missed
	fail string    // the last error of listing, logged once
}

// reopen gets notifications anew, if they are to be had.
func (r *run) reopen() {
	r.arms.reopen()
	r.arm()
}

// arm watches all directories where a change may matter. It comes before each
// listing, so that no change falls between the two.
func (r *run) arm() {
	dirs := []string{r.cfg.Dir}
	// The parent tells when Dir is made, removed or turned to another place; when
	// the parent is missing too, the nearest ancestor tells when it is made.
	for p := filepath.Dir(r.cfg.Dir); ; p = filepath.Dir(p) {
		if _, err := os.Stat(p); err == nil {
			dirs = append(dirs, p)
			break
		}
		if p == filepath.Dir(p) {
			break
		}
	}
	for d := range r.links {
		dirs = append(dirs, d)
	}
	r.set(dirs)
}

// concerns reports whether a notification may be about a file that counts.
func (r *run) concerns(name string) bool {
	dir, base := filepath.Split(name)
	dir = filepath.Clean(dir)
	if name == r.cfg.Dir || strings.HasPrefix(r.cfg.Dir, strings.TrimSuffix(name, "/")+"/") {
		r.refresh = true
		return true
	}
	if dir == r.cfg.Dir {
		delete(r.cache, base) // even if size and times are as before
		return r.linked || r.matches(base)
	}
	return r.links[dir] || r.links[name]
}

func (r *run) matches(name string) bool {
	return !Ignored(name) && (r.cfg.Match == nil || r.cfg.Match(name))
}

type listState int

const (
	listWhole  listState = iota
	listMoving           // a file changed while it was read
	listGone             // Dir does not exist
	listFailed           // Dir cannot be listed
)

// list arms the watches and reads what changed since the last call.
func (r *run) list() (files []File, state listState) {
	r.arm()
	names, err := r.names()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		clear(r.cache)
		return nil, listGone
	case err != nil:
		if r.fail != err.Error() {
			r.cfg.Logger.Warn("directory cannot be listed, keeping what was there", "path", r.cfg.Dir, "err", err)
			r.fail = err.Error()
		}
		return nil, listFailed
	}
	r.fail = ""
	seen := make(map[string]*entry, len(names))
	links, linked := map[string]bool{}, false
	for _, name := range names {
		path := filepath.Join(r.cfg.Dir, name)
		link, err := os.Lstat(path)
		if err != nil {
			continue // removed meanwhile: a notification is on its way
		}
		info := link
		if link.Mode()&fs.ModeSymlink != 0 {
			linked = true
			if real, err := filepath.EvalSymlinks(path); err == nil && len(links) < maxLinkDirs {
				links[filepath.Dir(real)] = true
			}
			if info, err = os.Stat(path); err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					files = append(files, File{Name: name, Err: err})
				}
				continue
			}
		}
		if !info.Mode().IsRegular() {
			continue
		}
		if len(files) >= maxFiles {
			files = append(files, File{Name: name, Err: ErrTooMany})
			continue
		}
		e := r.cache[name]
		if e == nil || e.racy || !unchanged(e.info, info) {
			fresh, moving := r.read(path, name)
			if moving {
				state = listMoving
			}
			if fresh == nil {
				continue
			}
			e = fresh
		}
		seen[name] = e
		files = append(files, e.File)
	}
	r.cache, r.linked = seen, linked
	if !maps.Equal(links, r.links) {
		r.links = links
		r.arm()
		// What changed there before the watch was set would go unseen until the
		// next poll.
		if r.src != nil {
			state = listMoving
		}
	}
	return files, state
}

// moved reports whether a listing would differ from the last one. Its cost for
// a directory at rest is one stat per file.
func (r *run) moved() bool {
	names, err := r.names()
	if errors.Is(err, fs.ErrNotExist) {
		return len(r.last) > 0
	}
	if err != nil {
		return false
	}
	known := 0
	for _, name := range names {
		if known >= maxFiles {
			break
		}
		path := filepath.Join(r.cfg.Dir, name)
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		e := r.cache[name]
		if e == nil || !unchanged(e.info, info) {
			return true
		}
		known++
		if !e.racy {
			continue
		}
		fresh, _ := r.read(path, name)
		if fresh == nil || !sameFile(fresh.File, e.File) {
			return true
		}
		r.cache[name] = fresh
	}
	return known != len(r.cache)
}

// names lists the names that count, sorted.
func (r *run) names() ([]string, error) {
	d, err := os.Open(r.cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	all, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(n string) bool { return !r.matches(n) })
	slices.Sort(all)
	return all, nil
}

func unchanged(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

// read reads one file; moving means that it was being written. A nil entry is a
// file that is gone or no regular file any more.
func (r *run) read(path, name string) (e *entry, moving bool) {
	// Without O_NONBLOCK the open of a pipe put there by somebody would hang.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true
	}
	if err != nil {
		info, serr := os.Stat(path)
		if serr != nil {
			return nil, true
		}
		// Racy: permission may come without any change of the file.
		return &entry{File: File{Name: name, Err: err, ModTime: info.ModTime()}, info: info, racy: true}, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, true
	}
	e = &entry{File: File{Name: name, ModTime: info.ModTime()}, info: info}
	if info.Size() > r.cfg.MaxFile {
		e.Err = fmt.Errorf("read %s: %d bytes, at most %d are allowed", path, info.Size(), r.cfg.MaxFile)
		return e, false
	}
	e.racy = time.Since(info.ModTime()) < racyWindow
	data, err := io.ReadAll(io.LimitReader(f, r.cfg.MaxFile+1))
	after, serr := f.Stat()
	if serr != nil || !unchanged(info, after) || int64(len(data)) != info.Size() {
		moving, e.racy = true, true
	}
	switch {
	case err != nil:
		e.Err, e.racy = err, true
	case int64(len(data)) > r.cfg.MaxFile:
		e.Err = fmt.Errorf("read %s: more than %d bytes", path, r.cfg.MaxFile)
	default:
		e.Data = data
	}
	return e, moving
}
