package configsync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/paddockio/paddock/configsync/dirwatch"
)

// Config says what a Mirror mirrors.
type Config struct {
	// Targets are the files and directories to keep.
	Targets []Target
	// Client reads the znodes. Required.
	Client Client
	// StateDir is where the mirror remembers what it has written, one small file
	// for each target; it is made with mode 0700. Required. Without its contents
	// nothing is rewritten either, but older data is not recognized and no file
	// counts as the mirror's own to remove.
	StateDir string
	// Logger gets what changed and what is wrong. Default: none.
	Logger *slog.Logger
}

// A Target is one file that is to equal a znode, or a directory that is to
// equal a subtree.
type Target struct {
	// Name is how status, logs and commands call it: letters, digits and "._-".
	Name string

	// From is the path of the znode.
	From string

	// To is the absolute path of the file, or of the directory if it ends in "/"
	// or Tree is set. Missing directories are made.
	To string

	// Tree makes To a directory that equals the subtree of From: a leaf is a file,
	// a znode with children a directory, whose own data, if any, is the file _data
	// in it. Empty leaves are left out. Names that cannot be file names are
	// reported and left out.
	Tree bool

	// Mode is the mode of files, at most 0777. Default: that of the file that is
	// there, else 0644.
	Mode Mode

	// DirMode is the mode of directories that the mirror makes. Default 0755.
	DirMode Mode

	// Owner and Group are names or numbers. Default: those of the file that is
	// there, else the agent's. Other owners than itself only root can give.
	Owner, Group string

	// Delete says what becomes of a file whose znode is deleted: "keep" (default)
	// or "remove". Removed is only what the mirror itself wrote and nobody edited,
	// and only if the znode's parent shows that it was deleted, not if the whole
	// source is gone or empty.
	Delete DeletePolicy

	// Edits says what becomes of a file that somebody else changed or removed:
	// "restore" (default) writes it again, "report" leaves it as it is until its
	// znode changes.
	Edits EditPolicy

	// Empty says what a znode without data means: "keep" (default) the file as it
	// is, or "write" an empty file.
	Empty EmptyPolicy

	// Links says what to do where the file to be written is a symbolic link:
	// "refuse" (default), or "replace" it by a plain file.
	Links LinkPolicy

	// InPlace allows writing into the file where it cannot be replaced because it
	// is a mount point of its own, as in containers. Readers may then see half a
	// file. Default: report and leave it.
	InPlace bool

	// Check is run on what is staged before it gets its name: {file} is the staged
	// file, or a directory with all files of the tree as they would be. If it fails
	// the old files stay.
	Check Command
	// CheckTimeout ends the check, which then has failed. Default 30s.
	CheckTimeout time.Duration

	// Reload is run after files changed. Targets with the same command share one
	// run.
	Reload Command
	// ReloadTimeout ends the reload, which then has failed. Default 30s.
	ReloadTimeout time.Duration
	// ReloadInterval is the least time between two runs. Default 1s.
	ReloadInterval time.Duration
	// ReloadTries is how often a failing reload is run for one change, with
	// growing pauses of 1s to 1m. Default 6.
	ReloadTries int

	// Debounce is how long the znodes must rest before files are written; a
	// source that never rests is written after ten times as long. Default 10ms.
	Debounce time.Duration

	// MaxFile bounds the bytes of one file; a larger znode is reported and the
	// file left as it is. Default 1 MiB, which is also what ZooKeeper stores by
	// default.
	MaxFile int64
	// MaxFiles bounds the znodes of a tree, and MaxTotal their bytes, which are
	// held in memory; a larger tree is reported and nothing is written. Defaults
	// 10,000 and 64 MiB.
	MaxFiles int
	MaxTotal int64
}

// Policies; see [Target].
type (
	DeletePolicy string
	EditPolicy   string
	EmptyPolicy  string
	LinkPolicy   string
)

// The values of the policies; "" is the first of each.
const (
	DeleteKeep   DeletePolicy = "keep"
	DeleteRemove DeletePolicy = "remove"

	EditsRestore EditPolicy = "restore"
	EditsReport  EditPolicy = "report"

	EmptyKeep  EmptyPolicy = "keep"
	EmptyWrite EmptyPolicy = "write"

	LinksRefuse  LinkPolicy = "refuse"
	LinksReplace LinkPolicy = "replace"
)

// A Mode is the permission bits of a file; 0 is unset. Its text is octal.
type Mode fs.FileMode

// UnmarshalText reads "0640", "640" or "0o640".
func (m *Mode) UnmarshalText(text []byte) error {
	s := strings.TrimPrefix(strings.TrimPrefix(string(text), "0o"), "0O")
	if s == "" {
		*m = 0
		return nil
	}
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil {
		return fmt.Errorf("mode %q is no octal number", text)
	}
	*m = Mode(n)
	return nil
}

// MarshalText prints four octal digits.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// String prints four octal digits.
func (m Mode) String() string { return fmt.Sprintf("%#04o", uint32(m)) }

var validName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$`)

// withDefaults returns t with defaults filled in and To cleaned.
func (t Target) withDefaults() Target {
	t.Tree = t.Tree || strings.HasSuffix(t.To, "/")
	if t.To != "" {
		t.To = filepath.Clean(t.To)
	}
	def(&t.DirMode, 0o755)
	def(&t.Delete, DeleteKeep)
	def(&t.Edits, EditsRestore)
	def(&t.Empty, EmptyKeep)
	def(&t.Links, LinksRefuse)
	def(&t.CheckTimeout, 30*time.Second)
	def(&t.ReloadTimeout, 30*time.Second)
	def(&t.ReloadInterval, time.Second)
	def(&t.ReloadTries, 6)
	def(&t.Debounce, 10*time.Millisecond)
	def(&t.MaxFile, 1<<20)
	def(&t.MaxFiles, 10_000)
	def(&t.MaxTotal, 64<<20)
	return t
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Validate reports all settings of the target that cannot work.
func (t Target) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !validName.MatchString(t.Name) {
		bad("name %q: only letters, digits and \"._-\", at most 100, and not a dot in front", t.Name)
	}
	if err := checkZnodePath(t.From); err != nil {
		errs = append(errs, err)
	}
	t = t.withDefaults()
	if !filepath.IsAbs(t.To) || t.To == "/" || strings.ContainsRune(t.To, 0) {
		bad("to %q must be the absolute path of a file or a directory", t.To)
	} else if !t.Tree {
		if err := checkName(filepath.Base(t.To)); err != nil {
			bad("to %q: %w", t.To, err)
		}
	}
	for key, m := range map[string]Mode{"mode": t.Mode, "dir_mode": t.DirMode} {
		if m&^0o777 != 0 {
			bad("%s %s: only permission bits; write 0640 or \"0640\"", key, m)
		}
	}
	if t.Mode != 0 && t.Mode&0o400 == 0 {
		bad("mode %s: the owner must be able to read", t.Mode)
	}
	if t.DirMode&0o700 != 0o700 {
		bad("dir_mode %s: the owner must be able to read, write and enter", t.DirMode)
	}
	if _, _, err := t.owners(); err != nil {
		errs = append(errs, err)
	}
	oneOf(bad, "delete", t.Delete, DeleteKeep, DeleteRemove)
	oneOf(bad, "edits", t.Edits, EditsRestore, EditsReport)
	oneOf(bad, "empty", t.Empty, EmptyKeep, EmptyWrite)
	oneOf(bad, "links", t.Links, LinksRefuse, LinksReplace)
	for key, c := range map[string]Command{"check": t.Check, "reload": t.Reload} {
		if len(c) > 0 && c[0] == "" {
			bad("%s: no program named", key)
		}
		for _, a := range c {
			if strings.ContainsRune(a, 0) {
				bad("%s: an argument has a zero byte", key)
			}
		}
	}
	for key, d := range map[string]time.Duration{"check_timeout": t.CheckTimeout, "reload_timeout": t.ReloadTimeout,
		"reload_interval": t.ReloadInterval, "debounce": t.Debounce} {
		if d < 0 {
			bad("%s must not be negative", key)
		}
	}
	for key, n := range map[string]int64{"reload_tries": int64(t.ReloadTries), "max_file": t.MaxFile,
		"max_files": int64(t.MaxFiles), "max_total": t.MaxTotal} {
		if n < 0 {
			bad("%s must not be negative", key)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func oneOf[P ~string](bad func(string, ...any), key string, p P, values ...P) {
	if !slices.Contains(values, p) {
		bad("%s %q: want one of %q", key, p, values)
	}
}

// owners resolves Owner and Group; -1 is unset.
func (t Target) owners() (uid, gid int, err error) {
	uid, gid = -1, -1
	if t.Owner != "" {
		if uid, err = resolve(t.Owner, func(n string) (string, error) {
			u, err := user.Lookup(n)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		}); err != nil {
			return -1, -1, fmt.Errorf("owner %q: %w", t.Owner, err)
		}
	}
	if t.Group != "" {
		if gid, err = resolve(t.Group, func(n string) (string, error) {
			g, err := user.LookupGroup(n)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		}); err != nil {
			return -1, -1, fmt.Errorf("group %q: %w", t.Group, err)
		}
	}
	return uid, gid, nil
}

func resolve(name string, lookup func(string) (string, error)) (int, error) {
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	id, err := lookup(name)
	if err != nil {
		return -1, err
	}
	return strconv.Atoi(id)
}

// Validate reports all settings that cannot work, alone or together.
func (c Config) Validate() error {
	var errs []error
	if c.Client == nil {
		errs = append(errs, errors.New("configsync: no client given"))
	}
	if c.StateDir == "" {
		errs = append(errs, errors.New("configsync: no state directory given"))
	}
	names := map[string]bool{}
	for i, t := range c.Targets {
		if err := t.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("configsync target %d %q: %w", i+1, t.Name, err))
		}
		if names[t.Name] {
			errs = append(errs, fmt.Errorf("configsync target %d %q: name is taken", i+1, t.Name))
		}
		names[t.Name] = true
		t = t.withDefaults()
		for _, o := range c.Targets[:i] {
			o = o.withDefaults()
			if t.To == o.To || t.Tree && beneath(o.To, t.To) || o.Tree && beneath(t.To, o.To) {
				errs = append(errs, fmt.Errorf("configsync target %d %q: to %q overlaps with target %q", i+1, t.Name, t.To, o.Name))
			}
		}
	}
	return errors.Join(errs...)
}

// beneath reports whether name is below dir.
func beneath(name, dir string) bool {
	return strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// A Mirror keeps the files of its targets equal to their znodes.
type Mirror struct {
	cfg     Config
	log     *slog.Logger
	targets []*target
	reloads []*reloader

	// Tests replace these before Run.
	disk  disk
	run   runner
	watch func(dirs func() []string) edits
}

// edits tells which directories somebody wrote to.
type edits interface {
	Run(ctx context.Context, onChange func(paths []string)) error
	Refresh()
}

// New checks the configuration; Run does the work.
func New(cfg Config) (*Mirror, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Mirror{cfg: cfg, log: cfg.Logger, disk: osDisk{}, run: execute}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.watch = func(dirs func() []string) edits {
		return dirwatch.NewNotifier(dirwatch.NotifierConfig{Dirs: dirs, Logger: m.log})
	}
	shared := map[string]*reloader{}
	for _, tc := range cfg.Targets {
		t, err := newTarget(m, tc.withDefaults())
		if err != nil {
			return nil, err
		}
		m.targets = append(m.targets, t)
		if len(tc.Reload) == 0 {
			continue
		}
		key := strings.Join(tc.Reload, "\x00")
		if shared[key] == nil {
			shared[key] = newReloader(m, t.tc.Reload)
			m.reloads = append(m.reloads, shared[key])
		}
		shared[key].add(t)
	}
	return m, nil
}

// Run mirrors until ctx ends, then returns nil. It returns an error at once if
// the state directory cannot be used. Everything else that goes wrong is
// retried and told by Status and the log.
func (m *Mirror) Run(ctx context.Context) error {
	if err := m.prepareState(); err != nil {
		return fmt.Errorf("configsync: %w", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	if len(m.targets) == 0 {
		<-ctx.Done()
		return nil
	}
	watch := m.watch(m.dirs)
	for _, t := range m.targets {
		t.dirsChanged = watch.Refresh
		wg.Go(func() { t.run(ctx) })
	}
	for _, r := range m.reloads {
		wg.Go(func() { r.run(ctx) })
	}
	wg.Go(func() {
		if err := watch.Run(ctx, m.edited); err != nil {
			m.log.Warn("local edits of mirrored files go unseen", "err", err)
		}
	})
	return nil
}

func (m *Mirror) prepareState() error {
	dir, err := m.disk.open(m.cfg.StateDir, 0o700, true)
	if err != nil {
		return err
	}
	return dir.Close()
}

// dirs lists the directories with mirrored files.
func (m *Mirror) dirs() []string {
	var all []string
	for _, t := range m.targets {
		all = append(all, t.watchDirs()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// edited passes on which paths somebody (often this mirror itself) wrote to.
// No paths: anything may have changed.
func (m *Mirror) edited(paths []string) {
	for _, t := range m.targets {
		if paths == nil || slices.ContainsFunc(paths, t.concerns) {
			t.look()
		}
	}
}

// Status tells the state of each target, in the order of the configuration. It
// may be called at any time, also before and after Run.
func (m *Mirror) Status() []TargetStatus {
	all := make([]TargetStatus, len(m.targets))
	for i, t := range m.targets {
		all[i] = t.snapshot()
	}
	return all
}

// Forget lets a target accept data that is older than what it has written
// before, once: for an ensemble that was restored from a backup or set up anew.
func (m *Mirror) Forget(name string) error {
	for _, t := range m.targets {
		if t.tc.Name == name {
			t.forgetOlder()
			return nil
		}
	}
	return fmt.Errorf("configsync: no target %q", name)
}
