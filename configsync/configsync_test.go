package configsync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

func TestFileFollowsItsZnode(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(Target{From: "/c/a", To: "sub/a.conf", Mode: 0o600})
		w.rest()
		w.want("")
		w.wantState(StateKept, "no such znode")
		w.tree.put("/c/a", "1")
		w.rest()
		w.want("sub/a.conf=1")
		w.wantState(StateCurrent, "")
		info, err := os.Stat(w.dir + "/sub/a.conf")
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
		}
		first := info.ModTime()
		w.tree.put("/c/a", "2")
		w.rest()
		w.want("sub/a.conf=2")
		if info, _ := os.Stat(w.dir + "/sub/a.conf"); !info.ModTime().After(first) {
			t.Errorf("mtime %v is not after %v", info.ModTime(), first)
		}
		s := w.m.Status()[0]
		if s.Zxid != w.tree.zxid.String() || s.Writes != 2 || s.Restores != 0 {
			t.Errorf("status %+v: want zxid %v and 2 writes", s, w.tree.zxid)
		}
		if _, err := json.Marshal(s); err != nil {
			t.Error(err)
		}
	})
}

func TestStagingDirectoryGoesWithTheMirror(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c", "1")
		w.start(Target{From: "/c", To: "a"})
		w.rest()
		names, err := os.ReadDir(filepath.Join(w.dir, stagingName))
		if err != nil || len(names) != 0 {
			t.Errorf("staging directory: %v, %v; want empty", names, err)
		}
		w.stop()
		if _, err := os.Stat(filepath.Join(w.dir, stagingName)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("staging directory after the end: %v", err)
		}
		// What a killed process left is removed by the next.
		must(t, os.MkdirAll(filepath.Join(w.dir, stagingName, "t1", "x"), 0o700))
		must(t, os.Chmod(filepath.Join(w.dir, stagingName), 0o700))
		w.start(Target{From: "/c", To: "a"})
		w.rest()
		if _, err := os.Stat(filepath.Join(w.dir, stagingName, "t1")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("orphan: %v", err)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestABurstIsOneWrite(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(Target{From: "/c", To: "a", Debounce: 20 * time.Millisecond})
		w.rest()
		for i := range 8 {
			w.tree.put("/c", fmt.Sprint(i))
			w.sleep(10 * time.Millisecond)
		}
		w.rest()
		w.want("a=7")
		if n := w.m.Status()[0].Writes; n != 1 {
			t.Errorf("%d writes for one burst", n)
		}
	})
}

func TestAZnodeThatNeverRestsIsWrittenAtABoundedRate(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(Target{From: "/c", To: "a"})
		w.rest()
		begin := time.Now()
		for i := 0; time.Since(begin) < 10*time.Second; i++ {
			w.tree.put("/c", fmt.Sprint(i))
			w.sleep(5 * time.Millisecond)
		}
		if n := w.m.Status()[0].Writes; n < 20 || n > 110 {
			t.Errorf("%d writes in 10s, want at most about 10 a second", n)
		}
	})
}

func TestLastGoodFileStays(t *testing.T) {
	for name, tc := range map[string]struct {
		do     func(w *world)
		tc     Target
		state  string
		reason string
	}{
		"znode deleted": {do: func(w *world) { w.tree.del("/c/a") }, state: StateKept, reason: "gone"},
		"parent deleted too, even with remove": {do: func(w *world) { w.tree.del("/c") }, tc: Target{Delete: DeleteRemove},
			state: StateKept, reason: "nothing proves"},
		"znode emptied": {do: func(w *world) { w.tree.put("/c/a", "") }, state: StateKept, reason: "empty"},
		"znode emptied, even with remove": {do: func(w *world) { w.tree.put("/c/a", "") }, tc: Target{Delete: DeleteRemove},
			state: StateKept, reason: "empty"},
		"znode too large": {do: func(w *world) { w.tree.put("/c/a", "12345") }, tc: Target{MaxFile: 4}, state: StateFailing, reason: "max_file"},
		"no permission": {do: func(w *world) {
			w.tree.with(func() { w.tree.nodes["/c/a"].deny = true })
			w.tree.state(wire.StateSyncConnected)
		}, state: StateFailing, reason: "not authorized"},
		"reads fail": {do: func(w *world) {
			w.tree.with(func() { w.tree.fail = wire.ErrConnectionLoss })
			w.tree.put("/c/a", "2")
		}, state: StateFailing, reason: "connection lost"},
		"connection lost": {do: func(w *world) { w.tree.state(wire.StateDisconnected) }, state: StateStale},
		"check refuses": {do: func(w *world) {
			w.cmds.do = func(context.Context, Command, []string) (string, error) {
				return "line 3: bad", errors.New("exit status 1")
			}
			w.tree.put("/c/a", "bad")
		}, tc: Target{Check: Command{"check"}}, state: StateFailing, reason: "check refused"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.tree.put("/c/a", "1")
				tc.tc.From, tc.tc.To = "/c/a", "a"
				w.start(tc.tc)
				w.rest()
				w.want("a=1")
				tc.do(w)
				w.rest()
				w.want("a=1")
				w.wantState(tc.state, tc.reason)
				w.sleep(10 * time.Minute)
				w.want("a=1")
			})
		})
	}
}

func TestEmptyFileOnlyWhenTold(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c", "1")
		w.start(Target{From: "/c", To: "a", Empty: EmptyWrite})
		w.rest()
		w.tree.put("/c", "")
		w.rest()
		w.want("a=")
		w.wantState(StateCurrent, "")
	})
}

func TestDeletedZnodeRemovesTheFileWhenTold(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c/a", "1")
		w.tree.put("/c/b", "1")
		w.start(Target{From: "/c/a", To: "a", Delete: DeleteRemove, Reload: Command{"reload"}})
		w.rest()
		w.tree.del("/c/a")
		w.rest()
		w.want("")
		w.tree.put("/c/a", "2")
		w.rest()
		w.want("a=2")
		w.sleep(10 * time.Second)
		if n := w.cmds.count("reload"); n != 3 {
			t.Errorf("%d reloads, want one for each change", n)
		}
		// Deleted while nobody looked: the pzxid of the parent is the proof.
		w.stop()
		w.tree.del("/c/a")
		w.start(Target{From: "/c/a", To: "a", Delete: DeleteRemove})
		w.rest()
		w.want("")
	})
}

func TestOnlyOwnUneditedFilesAreRemoved(t *testing.T) {
	bubble(t, func(w *world) {
		w.write("a", "1") // equal already: not the mirror's
		w.tree.put("/c/a", "1")
		w.tree.put("/c/b", "1")
		w.tree.put("/c/z", "1")
		target := Target{From: "/c", To: "./", Delete: DeleteRemove, Edits: EditsReport}
		w.start(target)
		w.rest()
		w.write("b", "edited")
		w.tree.del("/c/a")
		w.tree.del("/c/b")
		w.rest()
		w.want("a=1 b=edited z=1")
		w.wantState(StateEdited, "changed by somebody else")
	})
}

func TestTreeIsADirectory(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c/app/a", "1")
		w.tree.put("/c/app/d/b", "2")
		w.tree.put("/c/app/d", "own")
		w.tree.put("/c/app/empty", "")
		w.tree.put("/c/app", "root")
		w.write("foreign", "f")
		w.start(Target{From: "/c/app", To: "./", Delete: DeleteRemove, DirMode: 0o750})
		w.rest()
		w.want("_data=root a=1 d/_data=own d/b=2 foreign=f")
		w.wantState(StateCurrent, "")
		if info, _ := os.Stat(w.dir + "/d"); info.Mode().Perm() != 0o750 {
			t.Errorf("mode of directory: %v", info.Mode())
		}

		w.tree.put("/c/app/new/deep/x", "3")
		w.tree.put("/c/app/a", "1b")
		w.tree.del("/c/app/d")
		w.rest()
		w.want("_data=root a=1b foreign=f new/deep/x=3")
		if _, err := os.Stat(w.dir + "/d"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("directory that the mirror made is left behind: %v", err)
		}

		// A file becomes a directory and back.
		w.tree.put("/c/app/a/sub", "4")
		w.rest()
		w.want("_data=root a/_data=1b a/sub=4 foreign=f new/deep/x=3")
		w.tree.del("/c/app/a/sub")
		w.rest()
		w.want("_data=root a=1b foreign=f new/deep/x=3")

		// Nothing left is not the same as nothing wanted.
		w.tree.del("/c/app/new")
		w.rest()
		w.tree.put("/c/app", "")
		w.rest()
		w.tree.del("/c/app/a")
		w.rest()
		w.want("_data=root a=1b foreign=f")
		w.wantState(StateKept, "empty")
		w.tree.del("/c/app")
		w.rest()
		w.want("_data=root a=1b foreign=f")
		w.wantState(StateKept, "gone")
	})
}

func TestNamesThatCannotBeFilesAreLeftOut(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c/ok", "1")
		for _, bad := range []string{"..", ".", ".paddock", "_data", "a\nb", strings.Repeat("x", 256)} {
			w.tree.nodes["/c"].stat.NumChildren++
			w.tree.nodes["/c/"+bad] = &fakeNode{data: []byte("evil"), stat: wire.Stat{Mzxid: 1}}
		}
		// path.Dir of the fake cleans dots away, as a real server refuses them: give
		// them to the picture directly in the plan.
		w.start(Target{From: "/c", To: "d/"})
		w.rest()
		w.want("d/ok=1")
		w.wantState(StateFailing, "name")
	})
}

func TestRestartRewritesNothing(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c/a", "1")
		w.tree.put("/c/d/b", "2")
		targets := func() []Target {
			return []Target{{From: "/c", To: "./", Check: Command{"check"}, Reload: Command{"reload"}}}
		}
		w.start(targets()...)
		w.rest()
		before := w.inodes()
		w.stop()
		w.cmds.runs = nil
		w.start(targets()...)
		w.rest()
		w.sleep(time.Minute)
		if after := w.inodes(); after != before {
			t.Errorf("files changed by a restart: %s, then %s", before, after)
		}
		if len(w.cmds.runs) != 0 {
			t.Errorf("commands after a restart: %q", w.cmds.runs)
		}
		w.stop()
		must(t, os.RemoveAll(w.state)) // nor without memory
		w.start(targets()...)
		w.rest()
		if after := w.inodes(); after != before || len(w.cmds.runs) != 0 {
			t.Errorf("without memory: files %s, then %s; commands %q", before, after, w.cmds.runs)
		}
	})
}

// inodes identifies all files: inode and times.
func (w *world) inodes() string {
	var b strings.Builder
	_ = filepath.WalkDir(w.dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			info, _ := d.Info()
			fmt.Fprintf(&b, "%s %v %v;", d.Name(), ctime(info), info.ModTime())
		}
		return nil
	})
	return b.String()
}

func TestFilesNeverGoBack(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c/a", "1")
		old := w.tree.nodes["/c/a"]
		w.tree.put("/c/a", "2")
		w.start(Target{From: "/c/a", To: "a"})
		w.rest()
		w.want("a=2")
		w.tree.with(func() { w.tree.nodes["/c/a"] = old }) // as a server that lags would show it
		w.tree.state(wire.StateSyncConnected)
		w.rest()
		w.want("a=2")
		w.wantState(StateFailing, "older")
		w.stop()
		w.start(Target{From: "/c/a", To: "a"})
		w.rest()
		w.want("a=2")
		w.wantState(StateFailing, "older")
		// What is accepted once is not used up by a round that comes to nothing.
		w.m.disk = &crashDisk{once: true, crashAt: 3}
		must(t, w.m.Forget("t1"))
		w.rest()
		w.want("a=1")
		w.wantState(StateCurrent, "")
		if err := w.m.Forget("nobody"); err == nil {
			t.Error("unknown target forgotten")
		}
	})
}

func TestAnOlderHistoryIsNoDeletion(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c/keep", "1")
		w.tree.put("/c/a", "1")
		target := Target{From: "/c", To: "./", Delete: DeleteRemove}
		w.start(target)
		w.rest()
		w.want("a=1 keep=1")
		w.stop()
		// An ensemble that was set up anew, with less in it.
		w.tree = newFakeTree()
		w.tree.put("/c/keep", "1")
		w.start(target)
		w.rest()
		w.want("a=1 keep=1")
		if s := w.m.Status()[0]; s.State == StateCurrent {
			t.Errorf("state %q, want one that tells", s.State)
		}
	})
}

func TestEventsLostInAGapAreMadeGood(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c/a", "1")
		w.tree.put("/c/b", "1")
		w.start(Target{From: "/c", To: "./", Delete: DeleteRemove})
		w.rest()
		w.tree.state(wire.StateDisconnected)
		w.tree.unheard(func() {
			w.tree.put("/c/a", "2")
			w.tree.del("/c/b")
			w.tree.put("/c/d/e", "3")
		})
		w.rest()
		w.want("a=1 b=1")
		w.wantState(StateStale, "")
		w.tree.state(wire.StateSyncConnected)
		w.rest()
		w.want("a=2 d/e=3")
		w.wantState(StateCurrent, "")
		// And without any sign of a gap, the next full reading finds it.
		w.tree.unheard(func() { w.tree.put("/c/a", "4") })
		w.sleep(20 * time.Minute)
		w.want("a=4 d/e=3")
	})
}

func TestChangesDuringReadingAreNotLost(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c/a", "1")
		w.tree.put("/c/b", "1")
		var reads atomic.Int32
		w.tree.hook = func() {
			if n := reads.Add(1); n < 20 {
				w.tree.put("/c/a", fmt.Sprint("a", n))
				w.tree.put("/c/b", fmt.Sprint("b", n))
			}
		}
		w.start(Target{From: "/c", To: "./"})
		w.sleep(10 * time.Second)
		if got := w.files(); !strings.HasPrefix(got, "a=a") || got != "a="+string(w.tree.nodes["/c/a"].data)+" b="+string(w.tree.nodes["/c/b"].data) {
			t.Errorf("files %q, want the last values", got)
		}
	})
}

func TestEditsAreUndone(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c", "1")
		w.start(Target{From: "/c", To: "d/a", Mode: 0o640, Reload: Command{"reload"}})
		w.rest()
		file := w.dir + "/d/a"
		for name, edit := range map[string]func(){
			"in place": func() { w.write("d/a", "edited") },
			"equal size and time": func() {
				info, _ := os.Stat(file)
				w.write("d/a", "2")
				must(t, os.Chtimes(file, info.ModTime(), info.ModTime()))
			},
			"removed":           func() { must(t, os.Remove(file)) },
			"directory removed": func() { must(t, os.RemoveAll(w.dir+"/d")) },
			"mode":              func() { must(t, os.Chmod(file, 0o666)) },
		} {
			edit()
			w.edits.events <- []string{file}
			w.sleep(5 * time.Minute) // the restorations are put off the more the closer they come
			if got := w.files(); got != "d/a=1" {
				t.Errorf("%s: %q, want it restored", name, got)
			}
			if info, err := os.Stat(file); err != nil || info.Mode() != 0o640 {
				t.Errorf("%s: %v %v, want mode 0640", name, info, err)
			}
		}
		if s := w.m.Status()[0]; s.Restores != 4 || s.State != StateCurrent {
			t.Errorf("%d restorations, state %s; want 4 and current", s.Restores, s.State)
		}
		if n := w.cmds.count("reload"); n != 5 {
			t.Errorf("%d reloads, want one for the first write and one for each edit of bytes", n)
		}
		// Also without a connection.
		w.tree.state(wire.StateDisconnected)
		w.write("d/a", "edited")
		w.sleep(5 * time.Minute)
		w.want("d/a=1")
	})
}

func TestEditsAreUndoneWhileReadsFail(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c", "1")
		w.start(Target{From: "/c", To: "a"})
		w.rest()
		w.tree.with(func() { w.tree.fail = wire.ErrConnectionLoss })
		w.tree.put("/c", "2")
		w.rest()
		w.tree.state(wire.StateDisconnected)
		w.rest()
		w.write("a", "edited")
		w.sleep(time.Minute)
		w.want("a=1")
		w.tree.with(func() { w.tree.fail = nil })
		w.tree.state(wire.StateSyncConnected)
		w.rest()
		w.want("a=2")
	})
}

func TestTwoWhoFightOverAFileDoNotBurnTheHost(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c", "1")
		w.start(Target{From: "/c", To: "a"})
		w.rest()
		for range 600 {
			w.write("a", "edited")
			w.edits.events <- []string{w.dir + "/a"}
			w.sleep(time.Second)
		}
		if n := w.m.Status()[0].Restores; n < 5 || n > 30 {
			t.Errorf("%d restorations in 10 minutes", n)
		}
	})
}

func TestEditsAreReportedAndLeft(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c", "1")
		target := Target{From: "/c", To: "a", Edits: EditsReport}
		w.start(target)
		w.rest()
		w.write("a", "mine")
		w.edits.events <- []string{w.dir + "/a"}
		w.rest()
		w.want("a=mine")
		w.wantState(StateEdited, "somebody else")
		w.stop()
		w.start(target)
		w.rest()
		w.want("a=mine")
		w.wantState(StateEdited, "somebody else")
		w.tree.put("/c", "2")
		w.rest()
		w.want("a=2")
		w.wantState(StateCurrent, "")
	})
}

func TestCheckSeesTheStagedFile(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c", "1")
		var seen []string
		w.cmds.do = func(_ context.Context, c Command, env []string) (string, error) {
			b, err := os.ReadFile(c[1])
			seen = append(seen, string(b))
			if err != nil || filepath.Base(c[1]) != "a.conf" || env[1] != "PADDOCK_FILE="+c[1] || env[0] != "PADDOCK_TARGET=t1" {
				t.Errorf("check of %q, %v, env %q", c, err, env)
			}
			if string(b) == "bad" {
				return "line 1: bad", errors.New("exit status 1")
			}
			return "fine", nil
		}
		w.start(Target{From: "/c", To: "a.conf", Check: Command{"check", "{file}"}})
		w.rest()
		w.tree.put("/c", "bad")
		w.sleep(30 * time.Second)
		w.want("a.conf=1")
		s := w.m.Status()[0]
		if s.Check.OK || s.Check.Output != "line 1: bad" || s.Check.Exit != 1 || s.Check.Attempt < 3 || s.Check.Attempt > 12 || s.Refused != 1 {
			t.Errorf("check %+v, refused %d", s.Check, s.Refused)
		}
		w.tree.put("/c", "2")
		w.rest()
		w.want("a.conf=2")
		if s := w.m.Status()[0]; !s.Check.OK || s.Check.Attempt != 1 || s.State != StateCurrent {
			t.Errorf("check %+v, state %s", s.Check, s.State)
		}
	})
}

func TestCheckOfATreeSeesTheWholeTree(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c/a", "1")
		w.tree.put("/c/d/b", "2")
		w.tree.put("/c/x", "3")
		var seen string
		w.cmds.do = func(_ context.Context, c Command, env []string) (string, error) {
			seen = listFiles(t, c[1])
			return "", nil
		}
		w.start(Target{From: "/c", To: "./", Check: Command{"check", "{file}"}, Delete: DeleteRemove})
		w.rest()
		if want := "a=1 d/b=2 x=3"; seen != want {
			t.Errorf("check saw %q, want %q", seen, want)
		}
		w.tree.put("/c/a", "1b")
		w.tree.del("/c/x")
		w.rest()
		if want := "a=1b d/b=2"; seen != want {
			t.Errorf("check saw %q, want %q", seen, want)
		}
		w.want("a=1b d/b=2")
	})
}

func TestReloadIsSharedRetriedAndSurvivesARestart(t *testing.T) {
	bubble(t, func(w *world) {
		w.cmds.fail = true
		targets := func() []Target {
			return []Target{{From: "/c/a", To: "a", Reload: Command{"reload", "app"}}, {From: "/c/b", To: "b", Reload: Command{"reload", "app"}}}
		}
		w.tree.put("/c/a", "1")
		w.tree.put("/c/b", "2")
		w.start(targets()...)
		w.rest()
		w.cmds.mu.Lock()
		if n := len(w.cmds.runs); n != 1 || !strings.HasPrefix(w.cmds.envs[0], "PADDOCK_TARGET=t1,t2 PADDOCK_ZXID=0x") {
			t.Errorf("%d runs, env %q; want one run for both", n, w.cmds.envs)
		}
		w.cmds.mu.Unlock()
		w.sleep(10 * time.Minute)
		if n := w.cmds.count("reload app"); n != 6 {
			t.Errorf("%d runs of a failing reload, want 6", n)
		}
		if s := w.m.Status()[0]; s.Reload.OK || !s.Reload.Pending || s.Reload.Output != "no such service" || s.Reload.Attempt != 6 {
			t.Errorf("reload %+v, want the failure", s.Reload)
		}
		w.stop()
		w.cmds.fail = false
		w.start(targets()...)
		w.rest()
		if n := w.cmds.count("reload app"); n != 7 {
			t.Errorf("%d runs, want one more after the restart", n)
		}
		if s := w.m.Status()[1]; !s.Reload.OK || s.Reload.Pending {
			t.Errorf("reload %+v, want success", s.Reload)
		}
		w.stop()
		w.start(targets()...)
		w.sleep(time.Minute)
		if n := w.cmds.count("reload app"); n != 7 {
			t.Errorf("%d runs, want no more once it succeeded", n)
		}
	})
}

func TestReloadsHaveAPauseBetweenThem(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(Target{From: "/c", To: "a", Reload: Command{"reload"}, ReloadInterval: 5 * time.Second})
		for i := range 30 {
			w.tree.put("/c", fmt.Sprint(i))
			w.sleep(time.Second)
		}
		w.sleep(10 * time.Second)
		if n := w.cmds.count("reload"); n < 6 || n > 8 {
			t.Errorf("%d reloads in 30s, want one in 5s", n)
		}
	})
}

func TestAChangeDuringAReloadIsReloadedToo(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c", "1")
		w.cmds.do = func(context.Context, Command, []string) (string, error) {
			time.Sleep(3 * time.Second)
			return "", nil
		}
		w.start(Target{From: "/c", To: "a", Reload: Command{"reload"}})
		w.sleep(time.Second)
		w.tree.put("/c", "2")
		w.sleep(time.Second)
		w.want("a=2") // the file does not wait for the reload
		w.sleep(1200 * time.Millisecond)
		if s := w.m.Status()[0]; !s.Reload.Pending {
			t.Errorf("reload %+v: want it pending for the second change", s.Reload)
		}
		w.sleep(time.Minute)
		if n := w.cmds.count("reload"); n != 2 {
			t.Errorf("%d reloads, want 2", n)
		}
		if s := w.m.Status()[0]; s.Reload.Pending {
			t.Errorf("reload %+v: want none pending", s.Reload)
		}
	})
}

func TestWhatStandsInTheWayIsNotTouched(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(dir string) error
		tc      Target
		files   string
		state   string
	}{
		"link":           {func(d string) error { return os.Symlink("elsewhere", d+"/a") }, Target{From: "/c/a", To: "a"}, "a->elsewhere", StateFailing},
		"link, replaced": {func(d string) error { return os.Symlink("elsewhere", d+"/a") }, Target{From: "/c/a", To: "a", Links: LinksReplace}, "a=1", StateCurrent},
		"directory":      {func(d string) error { return os.MkdirAll(d+"/a/x", 0o755) }, Target{From: "/c/a", To: "a"}, "", StateFailing},
		"file as directory of a tree": {func(d string) error { return os.WriteFile(d+"/d", []byte("f"), 0o644) },
			Target{From: "/c", To: "./"}, "a=1 d=f", StateFailing},
		"link as directory of a tree": {func(d string) error { return errors.Join(os.Mkdir(d+"/real", 0o755), os.Symlink("real", d+"/d")) },
			Target{From: "/c", To: "./"}, "a=1 d->real", StateFailing},
		"link that leads out": {func(d string) error { return os.Symlink("..", d+"/d") },
			Target{From: "/c", To: "./"}, "a=1 d->..", StateFailing},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				must(t, tc.prepare(w.dir))
				w.tree.put("/c/a", "1")
				w.tree.put("/c/d/b", "2")
				w.start(tc.tc)
				w.rest()
				w.want(tc.files)
				if s := w.m.Status()[0]; s.State != tc.state {
					t.Errorf("state %s (%s), want %s", s.State, s.Error, tc.state)
				}
				if tc.state == StateCurrent {
					return
				}
				for _, n := range []string{"a", "d"} {
					if info, err := os.Lstat(w.dir + "/" + n); err == nil && (n == "d" || tc.tc.To == "a") {
						_ = info
						must(t, os.RemoveAll(w.dir+"/"+n))
					}
				}
				w.sleep(time.Minute) // seen without any event
				if s := w.m.Status()[0]; s.State != StateCurrent {
					t.Errorf("way is free, state %s (%s)", s.State, s.Error)
				}
			})
		})
	}
}

func TestModeOfAnExistingFileIsKept(t *testing.T) {
	bubble(t, func(w *world) {
		w.write("a", "old")
		must(t, os.Chmod(w.dir+"/a", 0o604))
		w.tree.put("/c", "1")
		w.start(Target{From: "/c", To: "a"})
		w.rest()
		if info, _ := os.Stat(w.dir + "/a"); info.Mode() != 0o604 {
			t.Errorf("mode %v, want 0604", info.Mode())
		}
		w.want("a=1")
	})
}

func TestZnodeWithChildrenIsNoFile(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c/a", "1")
		w.start(Target{From: "/c", To: "f"})
		w.rest()
		w.want("")
		w.wantState(StateFailing, "tree: true")
	})
}

func TestALargeTreeIsRefusedWhole(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c/a", "1")
		w.start(Target{From: "/c", To: "./", MaxFiles: 3, MaxTotal: 10})
		w.rest()
		w.tree.put("/c/b", "12345678901")
		w.rest()
		w.want("a=1")
		w.wantState(StateFailing, "max_total")
		w.tree.put("/c/b", "2")
		w.sleep(2 * time.Minute)
		w.want("a=1 b=2")
		for i := range 5 {
			w.tree.put(fmt.Sprintf("/c/n%d", i), "x")
		}
		w.sleep(2 * time.Minute)
		w.want("a=1 b=2")
		w.wantState(StateFailing, "max_files")
	})
}

func TestTargetMovesToAnotherZnode(t *testing.T) {
	bubble(t, func(w *world) {
		w.tree.put("/c/old", "1") // an older transaction than of the znode before
		w.tree.put("/c/new", "2")
		w.start(Target{From: "/c/new", To: "a"})
		w.rest()
		w.want("a=2")
		w.stop()
		w.start(Target{From: "/c/old", To: "a"})
		w.rest()
		w.want("a=1")
	})
}

func TestBadMemoryIsNotTrustedAndNotFatal(t *testing.T) {
	for _, bad := range []string{"{", "[]", `{"version":9}`, `{"version":1,"files":{"../x":{}}}`, `{"version":1,"dirs":["/etc"]}`} {
		bubble(t, func(w *world) {
			must(t, os.Mkdir(w.state, 0o700))
			must(t, os.WriteFile(w.state+"/t1.json", []byte(bad), 0o600))
			w.tree.put("/c", "1")
			w.start(Target{From: "/c", To: "a"})
			w.rest()
			w.want("a=1")
			w.wantState(StateCurrent, "")
		})
	}
}

func TestSettingsThatCannotWorkAreAllReported(t *testing.T) {
	_, err := New(Config{Targets: []Target{
		{Name: "../x", From: "c", To: "rel", Mode: 0o4755, Owner: "no such user here", Delete: "yes", Check: Command{""}},
		{Name: "b", From: "/", To: "/"},
		{Name: "t", From: "/t", To: "/x/t/"},
		{Name: "f", From: "/f", To: "/x/t/f"},
		{Name: "f", From: "/f/../g", To: "/y", DirMode: 0o500, Debounce: -1},
	}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"no client", "no state directory", `name "../x"`, `from "c"`, `to "rel"`, "mode 04755", `owner "no such user here"`,
		`delete "yes"`, "check: no program", "own znodes", `to "/"`, "overlaps", "name is taken", "no path of a znode", "dir_mode", "debounce"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
}

func TestTextForms(t *testing.T) {
	var got struct {
		Mode  Mode
		Check Command
		Run   Command
	}
	must(t, json.Unmarshal([]byte(`{"Mode":"0640","Check":["nginx","-t","-c","{file}"],"Run":"nginx -s reload {file}"}`), &got))
	if got.Mode != 0o640 || len(got.Check) != 4 || got.Run[2] != `nginx -s reload "$PADDOCK_FILE"` || got.Run[0] != "/bin/sh" {
		t.Errorf("got %+v", got)
	}
	if got.Mode.String() != "0640" || got.Check.String() != "nginx -t -c {file}" {
		t.Errorf("printed %v, %v", got.Mode, got.Check)
	}
	var m Mode
	if err := m.UnmarshalText([]byte("rw-r--r--")); err == nil {
		t.Error("no error for a mode in letters")
	}
	if z := zxidText(0); z.UnmarshalText([]byte("0x100000002")) != nil || z != zxidText(zab.NewZxid(1, 2)) {
		t.Errorf("zxid %v", z)
	}
}
