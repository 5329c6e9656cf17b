package dirwatch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

func show(files []File) string {
	var b strings.Builder
	for _, f := range files {
		if f.Err != nil {
			fmt.Fprintf(&b, "%s! ", f.Name)
			continue
		}
		fmt.Fprintf(&b, "%s=%s ", f.Name, f.Data)
	}
	return strings.TrimSpace(b.String())
}

// start runs a Watcher and returns its listings.
func start(t *testing.T, w *Watcher) <-chan string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	lists := make(chan string, 1000)
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx, func(files []File) { lists <- show(files) }) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return lists
}

// await reads listings until want comes.
func await(t *testing.T, lists <-chan string, want string) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	var got []string
	for {
		select {
		case l := <-lists:
			if l == want {
				return
			}
			got = append(got, l)
		case <-deadline:
			t.Fatalf("no listing %q, got %q", want, got)
		}
	}
}

func put(t *testing.T, name, data string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// waysToChange are the methods of changing a file a that people use; each turns
// a=1 into a=2.
var waysToChange = map[string]func(t *testing.T, dir string){
	"write in place": func(t *testing.T, dir string) { put(t, dir+"/a", "2") },
	"rename over": func(t *testing.T, dir string) {
		put(t, dir+"/a.tmp", "2")
		must(t, os.Rename(dir+"/a.tmp", dir+"/a"))
	},
	"rename over from elsewhere, equal size and time": func(t *testing.T, dir string) {
		info, err := os.Stat(dir + "/a")
		must(t, err)
		other := filepath.Dir(dir) + "/staged"
		put(t, other, "2")
		must(t, os.Chtimes(other, info.ModTime(), info.ModTime()))
		must(t, os.Rename(other, dir+"/a"))
	},
	"in place, equal size and time": func(t *testing.T, dir string) {
		info, err := os.Stat(dir + "/a")
		must(t, err)
		put(t, dir+"/a", "2")
		must(t, os.Chtimes(dir+"/a", info.ModTime(), info.ModTime()))
	},
	"remove and create": func(t *testing.T, dir string) {
		must(t, os.Remove(dir+"/a"))
		put(t, dir+"/a", "2")
	},
	"directory removed and made again": func(t *testing.T, dir string) {
		must(t, os.RemoveAll(dir))
		must(t, os.Mkdir(dir, 0o755))
		put(t, dir+"/a", "2")
	},
	"directory renamed away and replaced": func(t *testing.T, dir string) {
		must(t, os.Rename(dir, dir+".old"))
		must(t, os.Mkdir(dir, 0o755))
		put(t, dir+"/a", "2")
	},
	"directory turned into a link": func(t *testing.T, dir string) {
		must(t, os.Rename(dir, dir+".old"))
		must(t, os.Mkdir(dir+".new", 0o755))
		put(t, dir+".new/a", "2")
		must(t, os.Symlink(filepath.Base(dir)+".new", dir))
	},
	"file turned into a link": func(t *testing.T, dir string) {
		put(t, filepath.Dir(dir)+"/elsewhere", "2")
		must(t, os.Symlink("../elsewhere", dir+"/.l"))
		must(t, os.Rename(dir+"/.l", dir+"/a"))
	},
}

func TestEveryWayOfChangingAFileIsSeen(t *testing.T) {
	for name, change := range waysToChange {
		for _, mode := range []string{"notified", "polled"} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "d")
				must(t, os.Mkdir(dir, 0o755))
				put(t, dir+"/a", "1")
				// The poll must not hide that notifications do not work.
				w := New(Config{Dir: dir, Settle: 5 * time.Millisecond, Poll: time.Minute})
				if mode == "polled" {
					w = New(Config{Dir: dir, Settle: 5 * time.Millisecond, Poll: 20 * time.Millisecond})
					w.open = func() (*source, error) { return nil, syscall.EMFILE }
				}
				lists := start(t, w)
				await(t, lists, "a=1")
				change(t, dir)
				await(t, lists, "a=2")
				put(t, dir+"/b", "3") // and the watch is not lost
				await(t, lists, "a=2 b=3")
			})
		}
	}
}

func TestDirectoryThatComesLaterIsFound(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "x", "y")
	lists := start(t, New(Config{Dir: dir, Settle: 5 * time.Millisecond, Poll: 100 * time.Millisecond}))
	await(t, lists, "")
	must(t, os.MkdirAll(dir, 0o755))
	put(t, dir+"/a", "1")
	await(t, lists, "a=1")
	must(t, os.RemoveAll(root+"/x"))
	await(t, lists, "")
	must(t, os.MkdirAll(dir, 0o755))
	put(t, dir+"/a", "2")
	await(t, lists, "a=2")
}

func TestLinksOfKubernetesAndTargetsOfLinksAreFollowed(t *testing.T) {
	root := t.TempDir()
	dir := root + "/d"
	must(t, os.MkdirAll(dir+"/..1", 0o755))
	must(t, os.Mkdir(dir+"/..2", 0o755))
	must(t, os.Mkdir(root+"/far", 0o755))
	put(t, dir+"/..1/a", "1")
	put(t, dir+"/..2/a", "2")
	put(t, root+"/far/f", "1")
	must(t, os.Symlink("..1", dir+"/..data"))
	must(t, os.Symlink("..data/a", dir+"/a"))
	must(t, os.Symlink("../far/f", dir+"/z"))
	must(t, os.Symlink("nowhere", dir+"/dangling"))
	lists := start(t, New(Config{Dir: dir, Settle: 5 * time.Millisecond, Poll: time.Minute}))
	await(t, lists, "a=1 z=1")
	must(t, os.Symlink("..2", dir+"/..data_tmp"))
	must(t, os.Rename(dir+"/..data_tmp", dir+"/..data"))
	await(t, lists, "a=2 z=1")
	put(t, root+"/far/f.x", "2") // replaced behind the link: the hardest case
	must(t, os.Rename(root+"/far/f.x", root+"/far/f"))
	await(t, lists, "a=2 z=2")
}

func TestOnlyWhatMattersIsListed(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a.yaml", ".h.yaml", "b.yaml~", "c.yaml.tmp", "d.yaml.swp", "#e.yaml#", "f.txt", "big.yaml"} {
		put(t, dir+"/"+n, "1")
	}
	put(t, dir+"/big.yaml", strings.Repeat("x", 101))
	must(t, os.Mkdir(dir+"/dir.yaml", 0o755))
	must(t, syscall.Mkfifo(dir+"/pipe.yaml", 0o644))
	must(t, os.Symlink("loop.yaml", dir+"/loop.yaml"))
	lists := start(t, New(Config{Dir: dir, MaxFile: 100, Match: func(n string) bool { return strings.HasSuffix(n, ".yaml") }}))
	await(t, lists, "a.yaml=1 big.yaml! loop.yaml!")
}

func TestSettingsThatCannotWork(t *testing.T) {
	if err := New(Config{}).Run(t.Context(), nil); err == nil {
		t.Error("no directory, no error")
	}
}

// fakeSource stands for fsnotify in a bubble, where its reader of a real
// descriptor would stop the clock.
type fakeSource struct {
	events chan fsnotify.Event
	errors chan error
	opened int
	added  []string
}

func (f *fakeSource) open() (*source, error) {
	f.opened++
	return &source{f.events, f.errors,
		func(d string) error { f.added = append(f.added, d); return nil },
		func(string) error { return nil }, func() error { return nil }}, nil
}

func newFake() *fakeSource {
	return &fakeSource{events: make(chan fsnotify.Event), errors: make(chan error)}
}

func TestABurstIsOneListing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		w := New(Config{Dir: dir})
		w.open = fake.open
		lists := start(t, w)
		await(t, lists, "")
		for i := range 10 {
			put(t, dir+"/a", fmt.Sprint(i))
			fake.events <- fsnotify.Event{Name: dir + "/a", Op: fsnotify.Write}
			time.Sleep(10 * time.Millisecond)
		}
		begin := time.Now()
		if got := <-lists; got != "a=9" {
			t.Errorf("first listing of the burst: %q, want the last state", got)
		}
		if d := time.Since(begin); d > 20*time.Millisecond {
			t.Errorf("listed %v after the burst, want one settle time", d)
		}
		synctest.Wait()
		if len(lists) != 0 {
			t.Errorf("more listings: %q", <-lists)
		}
	})
}

func TestADirectoryThatNeverRestsIsListedAllTheSame(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		w := New(Config{Dir: dir, Poll: time.Hour})
		w.open = fake.open
		lists := start(t, w)
		await(t, lists, "")
		begin := time.Now()
		for i := 0; len(lists) == 0 && i < 1000; i++ {
			put(t, dir+"/a", fmt.Sprint(i))
			fake.events <- fsnotify.Event{Name: dir + "/a", Op: fsnotify.Write}
			time.Sleep(10 * time.Millisecond)
		}
		if d := time.Since(begin); d > 1100*time.Millisecond {
			t.Errorf("first listing after %v, want about 1s", d)
		}
	})
}

func TestLostNotificationsAreMadeGoodByReadingAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		w := New(Config{Dir: dir})
		w.open = fake.open
		lists := start(t, w)
		await(t, lists, "")
		put(t, dir+"/a", "1")
		begin := time.Now()
		fake.errors <- fsnotify.ErrEventOverflow
		await(t, lists, "a=1")
		if d := time.Since(begin); d > 20*time.Millisecond {
			t.Errorf("listed %v after the overflow, want one settle time", d)
		}
		put(t, dir+"/a", "2") // and nobody tells
		begin = time.Now()
		await(t, lists, "a=2")
		if d := time.Since(begin); d > 2*time.Second+20*time.Millisecond {
			t.Errorf("listed after %v, want one poll", d)
		}
		if fake.opened != 3 {
			t.Errorf("notifications opened %d times, want anew after the overflow and after the miss", fake.opened)
		}
	})
}

func TestAVanishedDirectoryIsEmptyOnlyAfterAWhile(t *testing.T) {
	dir := t.TempDir() + "/d"
	must(t, os.Mkdir(dir, 0o755))
	put(t, dir+"/a", "1")
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		w := New(Config{Dir: dir})
		w.open = fake.open
		lists := start(t, w)
		await(t, lists, "a=1")
		must(t, os.Rename(dir, dir+".old"))
		fake.events <- fsnotify.Event{Name: dir, Op: fsnotify.Rename}
		time.Sleep(1900 * time.Millisecond)
		must(t, os.Rename(dir+".old", dir))
		fake.events <- fsnotify.Event{Name: dir, Op: fsnotify.Create}
		time.Sleep(10 * time.Second)
		if len(lists) != 0 {
			t.Errorf("a directory that came back in time was reported as %q", <-lists)
		}
		must(t, os.RemoveAll(dir))
		begin := time.Now()
		if got := <-lists; got != "" || time.Since(begin) < 2*time.Second {
			t.Errorf("after %v: %q, want empty after 2s", time.Since(begin), got)
		}
	})
}

func TestAFileThatCannotBeReadIsListedWithTheReason(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := t.TempDir()
	put(t, dir+"/a", "1")
	must(t, os.Chmod(dir+"/a", 0))
	var got []File
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	must(t, New(Config{Dir: dir}).Run(ctx, func(files []File) { got = files; stop() }))
	if len(got) != 1 || !errors.Is(got[0].Err, os.ErrPermission) {
		t.Errorf("got %+v, want one file without permission", got)
	}
}
