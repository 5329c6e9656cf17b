package configsync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// fakeTree is a ZooKeeper in memory, for one client.
type fakeTree struct {
	mu      sync.Mutex // guards all
	zxid    zab.Zxid
	nodes   map[string]*fakeNode
	watches []*fakeWatch
	fail    error  // of every read, if set
	reads   int    // of data
	hook    func() // before each read, without the lock
}

type fakeNode struct {
	data []byte
	stat wire.Stat
	deny bool
}

type fakeWatch struct {
	tree   *fakeTree
	path   string
	events chan client.Event
	closed bool
}

func newFakeTree() *fakeTree {
	return &fakeTree{zxid: zab.NewZxid(1, 0), nodes: map[string]*fakeNode{"/": {}}}
}

func (f *fakeTree) emit(typ wire.EventType, p string) {
	for _, w := range f.watches {
		if p == w.path || strings.HasPrefix(p, w.path+"/") {
			w.events <- client.Event{Type: typ, State: wire.StateSyncConnected, Path: p, Zxid: f.zxid}
		}
	}
}

// state sends a change of the connection.
func (f *fakeTree) state(s wire.KeeperState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.watches {
		w.events <- client.Event{Type: wire.EventNone, State: s}
	}
}

// put creates or sets a znode, with its parents.
func (f *fakeTree) put(p, data string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.putLocked(p, data)
}

func (f *fakeTree) putLocked(p, data string) {
	if n := f.nodes[p]; n != nil {
		f.zxid++
		f.nodes[p] = &fakeNode{data: []byte(data), stat: n.stat, deny: n.deny}
		f.nodes[p].stat.Mzxid = f.zxid
		f.nodes[p].stat.Version++
		f.emit(wire.EventNodeDataChanged, p)
		return
	}
	up := path.Dir(p)
	if f.nodes[up] == nil {
		f.putLocked(up, "")
	}
	f.zxid++
	f.nodes[p] = &fakeNode{data: []byte(data), stat: wire.Stat{Czxid: f.zxid, Mzxid: f.zxid, Pzxid: f.zxid}}
	f.nodes[up].stat.Pzxid = f.zxid
	f.nodes[up].stat.NumChildren++
	f.emit(wire.EventNodeCreated, p)
}

// del deletes a subtree.
func (f *fakeTree) del(p string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := slices.Sorted(maps.Keys(f.nodes))
	slices.Reverse(names)
	for _, n := range names {
		if n != p && !strings.HasPrefix(n, p+"/") {
			continue
		}
		f.zxid++
		delete(f.nodes, n)
		f.nodes[path.Dir(n)].stat.Pzxid = f.zxid
		f.nodes[path.Dir(n)].stat.NumChildren--
		f.emit(wire.EventNodeDeleted, n)
	}
}

func (f *fakeTree) with(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// unheard does something of which no event is sent.
func (f *fakeTree) unheard(do func()) {
	var watches []*fakeWatch
	f.with(func() { watches, f.watches = f.watches, nil })
	do()
	f.with(func() { f.watches = watches })
}

func (f *fakeTree) before() error {
	if f.hook != nil {
		f.hook()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fail
}

func (f *fakeTree) Get(ctx context.Context, p string) ([]byte, wire.Stat, error) {
	if err := f.before(); err != nil {
		return nil, wire.Stat{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	n := f.nodes[p]
	if n == nil {
		return nil, wire.Stat{}, &wire.OpError{Op: wire.OpGetData, Path: p, Err: wire.ErrNoNode}
	}
	if n.deny {
		return nil, wire.Stat{}, &wire.OpError{Op: wire.OpGetData, Path: p, Err: wire.ErrNoAuth}
	}
	return n.data, n.stat, nil
}

func (f *fakeTree) Children(ctx context.Context, p string) ([]string, wire.Stat, error) {
	if err := f.before(); err != nil {
		return nil, wire.Stat{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[p]
	if n == nil {
		return nil, wire.Stat{}, &wire.OpError{Op: wire.OpGetChildren2, Path: p, Err: wire.ErrNoNode}
	}
	var names []string
	for c := range f.nodes {
		if c != "/" && path.Dir(c) == p {
			names = append(names, path.Base(c))
		}
	}
	slices.Sort(names)
	return names, n.stat, nil
}

func (f *fakeTree) Sync(ctx context.Context, p string) error { return f.before() }

func (f *fakeTree) AddWatch(ctx context.Context, p string, mode int32) (Watch, error) {
	if mode != wire.WatchPersistentRecursive {
		return nil, fmt.Errorf("watch mode %d", mode)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &fakeWatch{tree: f, path: p, events: make(chan client.Event, 100_000)}
	f.watches = append(f.watches, w)
	return w, nil
}

func (w *fakeWatch) Events() <-chan client.Event { return w.events }

func (w *fakeWatch) Close() error {
	w.tree.mu.Lock()
	defer w.tree.mu.Unlock()
	if w.closed {
		return errors.New("closed twice")
	}
	w.closed = true
	w.tree.watches = slices.DeleteFunc(w.tree.watches, func(o *fakeWatch) bool { return o == w })
	return nil
}

// fakeEdits stands for dirwatch in a bubble: its poll, and events on demand.
type fakeEdits struct{ events chan []string }

func (f *fakeEdits) Refresh() {}

func (f *fakeEdits) Run(ctx context.Context, onChange func([]string)) error {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			onChange(nil)
		case p := <-f.events:
			onChange(p)
		}
	}
}

// fakeCommands records the commands that are run.
type fakeCommands struct {
	mu   sync.Mutex // guards runs, envs and fail
	runs []string
	envs []string
	fail bool
	do   func(ctx context.Context, c Command, env []string) (string, error)
}

func (f *fakeCommands) run(ctx context.Context, c Command, env []string) (string, int, error) {
	f.mu.Lock()
	f.runs = append(f.runs, strings.Join(c, " "))
	f.envs = append(f.envs, strings.Join(env, " "))
	fail := f.fail
	f.mu.Unlock()
	if fail {
		return "no such service", 5, errors.New("exit status 5")
	}
	if f.do == nil {
		return "", 0, nil
	}
	out, err := f.do(ctx, c, env)
	if err != nil {
		return out, 1, err
	}
	return out, 0, nil
}

func (f *fakeCommands) count(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.runs {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// world is a mirror under test, in a bubble, with everything around it.
type world struct {
	t     *testing.T
	tree  *fakeTree
	cmds  *fakeCommands
	edits *fakeEdits
	disk  disk
	dir   string // for targets
	state string
	m     *Mirror
	stop  func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root := t.TempDir()
	w := &world{t: t, tree: newFakeTree(), cmds: &fakeCommands{}, disk: &crashDisk{}, dir: root + "/out", state: root + "/state"}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return w
}

// start runs a mirror of targets, whose To is taken below dir.
func (w *world) start(targets ...Target) {
	w.t.Helper()
	for i := range targets {
		tree := strings.HasSuffix(targets[i].To, "/")
		targets[i].To = filepath.Join(w.dir, targets[i].To)
		if tree {
			targets[i].To += "/"
		}
		if targets[i].Name == "" {
			targets[i].Name = fmt.Sprintf("t%d", i+1)
		}
	}
	m, err := New(Config{Targets: targets, Client: w.tree, StateDir: w.state})
	if err != nil {
		w.t.Fatal(err)
	}
	w.edits = &fakeEdits{make(chan []string)}
	m.watch = func(func() []string) edits { return w.edits }
	m.run, m.disk = w.cmds.run, w.disk
	w.m = m
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}()
	w.stop = func() { cancel(); <-done }
}

// sleep lets the fake time pass and everything come to rest.
func (w *world) sleep(d time.Duration) {
	w.t.Helper()
	time.Sleep(d)
	synctest.Wait()
}

// rest lets the mirror finish what it does at once, debouncing included.
func (w *world) rest() {
	w.t.Helper()
	w.sleep(time.Second)
}

// files lists what is in dir, staging left out: "a=1 d/b=2".
func (w *world) files() string {
	w.t.Helper()
	return listFiles(w.t, w.dir)
}

func listFiles(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		switch {
		case d.Name() == stagingName:
			return filepath.SkipDir
		case d.IsDir():
			return nil
		case d.Type()&os.ModeSymlink != 0:
			to, _ := os.Readlink(p)
			out = append(out, rel+"->"+to)
			return nil
		}
		b, err := os.ReadFile(p)
		out = append(out, rel+"="+string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

func (w *world) want(files string) {
	w.t.Helper()
	if got := w.files(); got != files {
		w.t.Errorf("files %q, want %q", got, files)
		w.dump()
	}
}

// state1 checks the state of the first target.
func (w *world) wantState(state, reason string) {
	w.t.Helper()
	s := w.m.Status()[0]
	why := s.Error
	for _, f := range s.Files {
		if f.State == s.State {
			why += " " + f.Reason
		}
	}
	if s.State != state || !strings.Contains(why, reason) {
		w.t.Errorf("state %q because of %q, want %q because of %q", s.State, why, state, reason)
	}
}

func (w *world) dump() {
	for _, s := range w.m.Status() {
		w.t.Logf("%s: %s %s", s.Name, s.State, s.Error)
		for _, f := range s.Files {
			w.t.Logf("  %s %s: %s %s", f.Path, f.Znode, f.State, f.Reason)
		}
	}
}

func (w *world) write(name, data string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(data), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// bubble runs a test in a world with a fake clock.
func bubble(t *testing.T, f func(w *world)) {
	t.Helper()
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		w.t = t
		f(w)
		if w.stop != nil {
			w.stop()
		}
	})
}
