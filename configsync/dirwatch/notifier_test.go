package dirwatch

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// notify runs a Notifier and returns what it tells.
func notify(t *testing.T, n *Notifier) <-chan []string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	told := make(chan []string, 1000)
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx, func(paths []string) { told <- paths }) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return told
}

func TestTouchedPathsAreTold(t *testing.T) {
	root := t.TempDir()
	must(t, os.Mkdir(root+"/a", 0o755))
	var mu sync.Mutex
	dirs := []string{root + "/a"}
	n := NewNotifier(NotifierConfig{Settle: 5 * time.Millisecond, Poll: time.Hour, Dirs: func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(dirs)
	}})
	armed := make(chan string, 100)
	n.open = func() (*source, error) {
		s, err := openSource()
		if err != nil {
			return nil, err
		}
		add := s.add
		s.add = func(d string) error { defer func() { armed <- d }(); return add(d) }
		return s, nil
	}
	told := notify(t, n)
	await := func(path string) {
		t.Helper()
		deadline := time.After(5 * time.Second)
		for {
			select {
			case got := <-told:
				if slices.Contains(got, path) {
					return
				}
			case <-deadline:
				t.Fatalf("nobody told of %s", path)
			}
		}
	}
	awaitArmed := func(dir string) {
		t.Helper()
		deadline := time.After(5 * time.Second)
		for {
			select {
			case d := <-armed:
				if d == dir {
					return
				}
			case <-deadline:
				t.Fatalf("%s is not watched", dir)
			}
		}
	}
	awaitArmed(root + "/a")
	put(t, root+"/a/x", "1")
	await(root + "/a/x")
	must(t, os.Remove(root+"/a/x"))
	await(root + "/a/x")

	must(t, os.Mkdir(root+"/b", 0o755))
	mu.Lock()
	dirs = append(dirs, root+"/b")
	mu.Unlock()
	n.Refresh()
	awaitArmed(root + "/b")
	put(t, root+"/b/y", "1")
	await(root + "/b/y")

	must(t, os.RemoveAll(root+"/a"))
	await(root + "/a")
	must(t, os.Mkdir(root+"/a", 0o755))
	n.Refresh()
	awaitArmed(root + "/a")
	put(t, root+"/a/z", "1")
	await(root + "/a/z")
}

func TestWhatCannotBeToldIsToldAsUnknown(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		n := NewNotifier(NotifierConfig{Dirs: func() []string { return []string{dir} }})
		n.open = fake.open
		told := notify(t, n)
		for i := range 300 {
			fake.events <- fsnotify.Event{Name: fmt.Sprint(dir, "/", i)}
		}
		if got := <-told; got != nil {
			t.Errorf("a burst of 300 paths: told %d", len(got))
		}
		for range 3 {
			fake.events <- fsnotify.Event{Name: dir + "/a"}
			fake.events <- fsnotify.Event{Name: dir + "/b"}
		}
		if got := strings.Join(<-told, " "); got != dir+"/a "+dir+"/b" {
			t.Errorf("told %q", got)
		}
		begin := time.Now()
		fake.errors <- fsnotify.ErrEventOverflow
		if got := <-told; got != nil || time.Since(begin) > 20*time.Millisecond {
			t.Errorf("after an overflow: %q after %v", got, time.Since(begin))
		}
		begin = time.Now()
		if got := <-told; got != nil || time.Since(begin) > 2*time.Second {
			t.Errorf("poll: %q after %v", got, time.Since(begin))
		}
		if fake.opened != 2 {
			t.Errorf("opened %d times, want anew after the overflow", fake.opened)
		}
	})
	if err := NewNotifier(NotifierConfig{}).Run(t.Context(), nil); err == nil {
		t.Error("no directories, no error")
	}
}
