package configsync

import (
	"context"
	"go/build"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

var discard = slog.New(slog.DiscardHandler)

// TestWithTheRealFileSystemAndClock is the whole path, but for the server: a
// znode is set, and a program that watches the directory sees one event for
// the new file; an edit is undone.
func TestWithTheRealFileSystemAndClock(t *testing.T) {
	root := t.TempDir()
	tree := newFakeTree()
	tree.put("/c", "0")
	m, err := New(Config{Client: tree, StateDir: root + "/state", Targets: []Target{
		{Name: "a", From: "/c", To: root + "/out/a.conf", Check: ShellCommand("grep -q . {file}"), Reload: ShellCommand("echo >> " + root + "/reloads")},
	}})
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	waitFor := func(what string, ok func() bool) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for !ok() {
			select {
			case <-deadline:
				t.Fatalf("no %s; status %+v", what, m.Status())
			case <-tick.C:
			}
		}
	}
	holds := func(want string) func() bool {
		return func() bool {
			b, _ := os.ReadFile(root + "/out/a.conf")
			return string(b) == want
		}
	}
	waitFor("first file", holds("0"))
	n, err := fsnotify.NewBufferedWatcher(100)
	must(t, err)
	defer n.Close()
	must(t, n.Add(root+"/out"))
	tree.put("/c", "1")
	waitFor("second file", holds("1"))
	waitFor("events", func() bool { return len(n.Events) > 0 })
	waitFor("reload", func() bool { s := m.Status()[0]; return s.Reload != nil && s.Reload.OK && !s.Reload.Pending })
	for len(n.Events) > 0 {
		if ev := <-n.Events; filepath.Base(ev.Name) != "a.conf" || ev.Op != fsnotify.Create {
			t.Errorf("event %v, want one CREATE of the file", ev)
		}
	}
	must(t, os.WriteFile(root+"/out/a.conf", []byte("edited"), 0o644))
	waitFor("restored file", holds("1"))
	waitFor("restored status", func() bool { return m.Status()[0].Restores == 1 })
}

// BenchmarkZnodeToFile measures from the change of a znode to the new file
// under its name, on the real file system, with the debounce of the default.
func BenchmarkZnodeToFile(b *testing.B) {
	root := b.TempDir()
	tree := newFakeTree()
	m, err := New(Config{Client: tree, StateDir: root + "/state", Targets: []Target{{Name: "a", From: "/c", To: root + "/out/a.conf"}}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	i := 0
	for b.Loop() {
		b.StopTimer()
		time.Sleep(paceWindow / paceBurst) // quicker changes would wait for each other
		b.StartTimer()
		i++
		want := strings.Repeat("x", i)
		tree.put("/c", want)
		for {
			if info, err := os.Stat(root + "/out/a.conf"); err == nil && info.Size() == int64(i) {
				break
			}
			time.Sleep(100 * time.Microsecond) // of the measuring, not of the measured
		}
	}
	stop()
	<-done
}

func TestImports(t *testing.T) {
	const module = "github.com/paddockio/paddock/"
	for dir, allowed := range map[string][]string{
		".":        {"configsync/dirwatch", "zab", "zab/client", "zab/wire"},
		"dirwatch": {},
	} {
		p, err := build.ImportDir(dir, 0)
		must(t, err)
		for _, imp := range p.Imports {
			own, is := strings.CutPrefix(imp, module)
			switch {
			case is && !slices.Contains(allowed, own):
				t.Errorf("%s imports %s: it must not know of more than the client", dir, own)
			case !is && strings.Contains(imp, ".") && !(dir == "dirwatch" && imp == "github.com/fsnotify/fsnotify"):
				t.Errorf("%s imports %s: only dirwatch may, and only fsnotify", dir, imp)
			}
		}
	}
}
