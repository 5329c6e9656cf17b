package configsync

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A crashDisk is the real file system, but for waiting until bytes are on the
// disk, until its nth step. From that step on
// everything fails, as if the process were dead; powerCut then takes back what
// was not synced. Or, with once, only that step fails.
type crashDisk struct {
	mu      sync.Mutex // guards all
	steps   int
	crashAt int // 0: never
	once    bool
	dead    bool
	undo    []undo          // renames and removals whose directory was not synced
	dirty   map[string]bool // files, by path, whose bytes were not synced
}

// An undo puts a name back as it was.
type undo struct {
	dir, path string
	data      []byte // nil: did not exist
	mode      fs.FileMode
}

var errCrash = errors.New("crash")

func (d *crashDisk) step() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steps++
	if d.steps == d.crashAt {
		d.dead = !d.once
		return errCrash
	}
	if d.dead {
		return errCrash
	}
	return nil
}

// reached reports whether there were that many steps.
func (d *crashDisk) reached(step int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps >= step
}

// powerCut makes the files as a disk may have them after the power failed.
func (d *crashDisk) powerCut(t *testing.T, rng *rand.Rand, dirs ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range slices.Backward(d.undo) {
		if rng.IntN(2) == 0 {
			continue // the disk was quicker than it had to be
		}
		_ = os.Remove(u.path)
		if u.data != nil {
			must(t, os.MkdirAll(u.dir, 0o755))
			must(t, os.WriteFile(u.path, u.data, u.mode))
		}
	}
	for path := range d.dirty {
		if b, err := os.ReadFile(path); err == nil {
			must(t, os.WriteFile(path, b[:rng.IntN(len(b)+1)], 0o600))
		}
	}
}

func (d *crashDisk) open(path string, perm fs.FileMode, mk bool) (directory, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	dir, err := osDisk{}.open(path, perm, mk)
	if err != nil {
		return nil, err
	}
	return &crashDirectory{directory: dir, d: d, path: path}, nil
}

type crashDirectory struct {
	directory
	d    *crashDisk
	path string
}

func (c *crashDirectory) abs(name string) string { return filepath.Join(c.path, name) }

func (c *crashDirectory) mkdir(name string, perm fs.FileMode) error {
	return errors.Join(c.d.step(), c.alive(func() error { return c.directory.mkdir(name, perm) }))
}

// alive does f unless the process is dead.
func (c *crashDirectory) alive(f func() error) error {
	c.d.mu.Lock()
	dead := c.d.dead
	c.d.mu.Unlock()
	if dead {
		return errCrash
	}
	return f()
}

func (c *crashDirectory) create(name string) (file, error) {
	if err := c.d.step(); err != nil {
		return nil, err
	}
	f, err := c.directory.create(name)
	if err != nil {
		return nil, err
	}
	c.d.mu.Lock()
	if c.d.dirty == nil {
		c.d.dirty = map[string]bool{}
	}
	c.d.dirty[c.abs(name)] = true
	c.d.mu.Unlock()
	return &crashFile{file: f, dir: c, path: c.abs(name)}, nil
}

func (c *crashDirectory) chtimes(name string, m time.Time) error {
	if err := c.d.step(); err != nil {
		return err
	}
	return c.directory.chtimes(name, m)
}

// remember notes how a name is before it changes.
func (c *crashDirectory) remember(name string) {
	u := undo{dir: filepath.Dir(c.abs(name)), path: c.abs(name)}
	if info, err := os.Lstat(u.path); err == nil && info.Mode().IsRegular() {
		u.data, _ = os.ReadFile(u.path)
		u.data = append([]byte{}, u.data...)
		u.mode = info.Mode()
	}
	c.d.mu.Lock()
	c.d.undo = append(c.d.undo, u)
	c.d.mu.Unlock()
}

func (c *crashDirectory) rename(from, to string) error {
	if err := c.d.step(); err != nil {
		return err
	}
	c.remember(to)
	err := c.directory.rename(from, to)
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if err == nil && c.d.dirty[c.abs(from)] {
		delete(c.d.dirty, c.abs(from))
		c.d.dirty[c.abs(to)] = true
	}
	return err
}

func (c *crashDirectory) remove(name string) error {
	if err := c.d.step(); err != nil {
		return err
	}
	c.remember(name)
	return c.directory.remove(name)
}

func (c *crashDirectory) removeAll(name string) error {
	if err := c.d.step(); err != nil {
		return err
	}
	return c.directory.removeAll(name)
}

func (c *crashDirectory) syncDir(name string) error {
	if err := c.d.step(); err != nil {
		return err
	}
	c.d.mu.Lock()
	c.d.undo = slices.DeleteFunc(c.d.undo, func(u undo) bool { return u.dir == c.abs(name) })
	c.d.mu.Unlock()
	return nil // the test reads through the kernel: nothing to wait for
}

type crashFile struct {
	file
	dir  *crashDirectory
	path string
}

func (f *crashFile) Write(b []byte) (int, error) {
	if err := f.dir.d.step(); err != nil {
		n, _ := f.file.Write(b[:len(b)/2]) // a torn write
		return n, err
	}
	return f.file.Write(b)
}

func (f *crashFile) Sync() error {
	if err := f.dir.d.step(); err != nil {
		return err
	}
	f.dir.d.mu.Lock()
	defer f.dir.d.mu.Unlock()
	delete(f.dir.d.dirty, f.path)
	return nil
}

// history is what files may hold: version n of file i is a long text, so that
// a torn one is noticed.
func version(i, n int) string { return fmt.Sprintf("%d:%d:", i, n) + strings.Repeat("x", 2000) + "." }

// checkWhole fails unless each file is a whole version, none older than what
// was seen before.
func checkWhole(t *testing.T, dir string, newest map[string]int, what string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if e != nil && e.Name() == stagingName {
			return filepath.SkipDir
		}
		if err != nil || e.IsDir() {
			return nil
		}
		b, err := os.ReadFile(p)
		must(t, err)
		var i, n int
		if _, err := fmt.Sscanf(string(b), "%d:%d:", &i, &n); err != nil || string(b) != version(i, n) {
			t.Fatalf("%s: file %s is not whole: %.20q… of %d bytes", what, p, b, len(b))
		}
		if n < newest[e.Name()] {
			t.Fatalf("%s: file %s went back to version %d from %d", what, p, n, newest[e.Name()])
		}
		return nil
	})
}

func TestFilesAreWholeWhereverTheProcessDies(t *testing.T) {
	for _, power := range []bool{false, true} {
		rng := rand.New(rand.NewPCG(1, 2))
		died := true
		stride := 1
		if !power {
			stride = 3 // a cut of the power is the same and more
		}
		for at := 2; died; at += stride { // step 1 is Run's own look at the state directory
			bubble(t, func(w *world) {
				t := w.t
				died = false
				w.tree.put("/c/a", version(0, 1))
				w.tree.put("/c/d/b", version(1, 1))
				w.tree.put("/c/gone", version(2, 1))
				target := Target{From: "/c", To: "./", Delete: DeleteRemove, Edits: EditsReport, Reload: Command{"reload"}}
				w.start(target)
				w.rest()
				w.stop()
				w.cmds.runs = nil
				w.tree.put("/c/a", version(0, 2))
				w.tree.put("/c/d/b", version(1, 2))
				w.tree.put("/c/new/e", version(3, 2))
				w.tree.del("/c/gone")

				crash := &crashDisk{crashAt: at}
				w.disk = crash
				w.start(target)
				w.rest()
				died = crash.reached(at)
				what := fmt.Sprintf("step %d, power %v", at, power)
				checkWhole(t, w.dir, nil, what)
				w.stop()
				if power {
					crash.powerCut(t, rng)
					checkWhole(t, w.dir, nil, what)
				}
				reloads := w.cmds.count("reload")
				w.disk = &crashDisk{}
				w.start(target)
				w.rest()
				if s := w.m.Status()[0]; s.State != StateCurrent {
					t.Fatalf("%s: state %s %s %+v", what, s.State, s.Error, s.Files)
				}
				want := fmt.Sprintf("a=%s d/b=%s new/e=%s", version(0, 2), version(1, 2), version(3, 2))
				if got := w.files(); got != want {
					t.Fatalf("%s: not repaired: %.60q", what, got)
				}
				if n := w.cmds.count("reload"); n == 0 || reloads > 0 && n > 2 {
					t.Fatalf("%s: %d reloads before, %d in all: want it once the files are there", what, reloads, n)
				}
			})
		}
	}
}

func TestOneFailingStepIsRetried(t *testing.T) {
	failed := true
	for at := 2; failed; at++ {
		bubble(t, func(w *world) {
			t := w.t
			w.tree.put("/c/a", version(0, 1))
			w.tree.put("/c/d/b", version(1, 1))
			crash := &crashDisk{crashAt: at, once: true}
			w.disk = crash
			w.start(Target{From: "/c", To: "./", Reload: Command{"reload"}})
			w.rest()
			w.tree.put("/c/a", version(0, 2))
			w.sleep(5 * time.Second)
			failed = crash.reached(at)
			checkWhole(t, w.dir, nil, fmt.Sprint("step ", at))
			if s := w.m.Status()[0]; s.State != StateCurrent {
				t.Fatalf("step %d: state %s %s %+v", at, s.State, s.Error, s.Files)
			}
			if want := fmt.Sprintf("a=%s d/b=%s", version(0, 2), version(1, 1)); w.files() != want {
				t.Fatalf("step %d: not repaired: %.60q", at, w.files())
			}
			if s := w.m.Status()[0]; s.Reload == nil || s.Reload.Pending {
				t.Fatalf("step %d: reload %+v, want it done", at, s.Reload)
			}
		})
	}
}

// TestRandomLife lets a tree change at random, with restarts, lost events,
// edits, dead processes and power cuts, and looks at every stop whether the
// files are whole, never went back, and equal the znodes in the end.
func TestRandomLife(t *testing.T) {
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, 7))
		bubble(t, func(w *world) {
			t := w.t
			names := []string{"a", "b", "d/a2", "d/b2", "d/e/a3"}
			versions := map[string]int{}
			newest := map[string]int{}
			target := Target{From: "/c", To: "./", Delete: DeleteRemove, Reload: Command{"reload"}}
			if seed%2 == 0 {
				target.Check = Command{"check", "{file}"}
			}
			w.tree.put("/c/always", version(9, 1))
			w.start(target)
			for step := range 60 {
				what := fmt.Sprintf("seed %d step %d", seed, step)
				switch name := names[rng.IntN(len(names))]; rng.IntN(10) {
				case 0:
					w.stop()
					w.start(target)
				case 1: // die in the middle of writing
					w.stop()
					crash := &crashDisk{crashAt: 2 + rng.IntN(40)}
					w.disk = crash
					w.start(target)
					versions[name]++
					w.tree.put("/c/"+name, version(slices.Index(names, name), versions[name]))
					w.rest()
					w.stop()
					checkWhole(t, w.dir, nil, what)
					if rng.IntN(2) == 0 {
						crash.powerCut(t, rng)
						clear(newest) // what was not synced may go, though not in part
					}
					w.disk = &crashDisk{}
					w.start(target)
				case 2:
					w.tree.del("/c/" + name)
				case 3: // not while a deletion is on its way: that would rightly keep the file
					w.sleep(5 * time.Second)
					if _, err := os.Stat(filepath.Join(w.dir, name)); err == nil {
						w.write(name, version(7, 1_000_000)) // an edit, to be undone
						w.sleep(2 * time.Minute)
					}
				case 4:
					versions[name]++
					w.tree.unheard(func() { w.tree.put("/c/"+name, version(slices.Index(names, name), versions[name])) })
				default:
					versions[name]++
					w.tree.put("/c/"+name, version(slices.Index(names, name), versions[name]))
				}
				if rng.IntN(3) == 0 {
					w.sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
				}
				checkWhole(t, w.dir, newest, what)
				for i, name := range names {
					b, _ := os.ReadFile(filepath.Join(w.dir, name))
					var fi, n int
					if _, err := fmt.Sscanf(string(b), "%d:%d:", &fi, &n); err == nil && fi == i {
						newest[filepath.Base(name)] = n
					}
				}
			}
			w.tree.state(3) // connected: reads all again
			w.sleep(5 * time.Minute)
			var want []string
			w.tree.with(func() {
				for p, n := range w.tree.nodes {
					if rel, ok := strings.CutPrefix(p, "/c/"); ok && len(n.data) > 0 {
						want = append(want, rel+"="+string(n.data))
					}
				}
			})
			slices.Sort(want)
			got := strings.Fields(w.files())
			slices.Sort(got)
			if !slices.Equal(got, want) {
				w.dump()
				t.Fatalf("seed %d: %d files %.20q, want %d as in the tree %.20q", seed, len(got), got, len(want), want)
			}
		})
	}
}

func TestDigestsAreTold(t *testing.T) {
	bubble(t, func(w *world) {
		t := w.t
		w.tree.put("/c", "1")
		w.start(Target{From: "/c", To: "a"})
		w.rest()
		if got, want := w.m.Status()[0].Files[0].SHA256, digest(sha256.Sum256([]byte("1"))).String(); got != want {
			t.Errorf("sha256 %s, want %s", got, want)
		}
	})
}

// busyDisk refuses to rename over files, as bind mounts do.
type busyDisk struct{ crashDisk }

func (d *busyDisk) open(path string, perm fs.FileMode, mk bool) (directory, error) {
	dir, err := d.crashDisk.open(path, perm, mk)
	if err != nil {
		return nil, err
	}
	return busyDirectory{dir}, nil
}

type busyDirectory struct{ directory }

func (d busyDirectory) rename(from, to string) error {
	if strings.HasPrefix(from, stagingName) {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EBUSY}
	}
	return d.directory.rename(from, to)
}

func TestMountedFilesAreWrittenIntoOnlyWhenTold(t *testing.T) {
	bubble(t, func(w *world) {
		w.disk = &busyDisk{}
		w.write("a", "old")
		w.tree.put("/c", "longer")
		w.start(Target{From: "/c", To: "a", Reload: Command{"reload"}})
		w.rest()
		w.want("a=old")
		w.wantState(StateFailing, "mount point")
		if n := w.cmds.count("reload"); n != 0 {
			t.Errorf("%d reloads for nothing", n)
		}
		w.stop()
		before := w.inode("a")
		w.start(Target{From: "/c", To: "a", InPlace: true, Mode: 0o600})
		w.rest()
		w.want("a=longer")
		w.wantState(StateCurrent, "")
		if s := w.m.Status()[0]; !s.Files[0].InPlace || w.inode("a") != before {
			t.Errorf("inode %d, was %d; status %+v", w.inode("a"), before, s.Files[0])
		}
		if info, _ := os.Stat(w.dir + "/a"); info.Mode() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
	})
}

func (w *world) inode(name string) uint64 {
	info, err := os.Lstat(filepath.Join(w.dir, name))
	must(w.t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}

func TestOwnerIsGivenBeforeTheName(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	bubble(t, func(w *world) {
		w.tree.put("/c", "1")
		w.start(Target{From: "/c", To: "a", Owner: "12345", Group: "54321", Mode: 0o640})
		w.rest()
		for _, step := range []string{"written", "given away by somebody", "edited"} {
			info, err := os.Stat(w.dir + "/a")
			must(t, err)
			if uid, gid := owner(info); uid != 12345 || gid != 54321 || info.Mode() != 0o640 {
				t.Errorf("%s: owner %d:%d, mode %v", step, uid, gid, info.Mode())
			}
			if step == "written" {
				must(t, os.Chown(w.dir+"/a", 1, 1))
			} else {
				w.write("a", "edited")
			}
			w.sleep(time.Minute)
		}
		w.stop()
		// Without a setting the owner of the file that is there stays.
		w.start(Target{From: "/c", To: "a"})
		w.tree.put("/c", "2")
		w.rest()
		info, err := os.Stat(w.dir + "/a")
		must(t, err)
		if uid, gid := owner(info); uid != 12345 || gid != 54321 || info.Mode() != 0o640 {
			t.Errorf("owner %d:%d, mode %v; want them kept", uid, gid, info.Mode())
		}
	})
}
