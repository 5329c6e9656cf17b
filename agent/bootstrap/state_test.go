package bootstrap

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestStateSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	d := disk{dir: filepath.Join(dir, "zab"), logDir: filepath.Join(dir, "log")}
	st, err := d.load("demo")
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.load("demo")
	if err != nil || !reflect.DeepEqual(st, again) || st.Node == (NodeID{}) {
		t.Fatalf("a new disk: %+v, then %+v, %v", st, again, err)
	}
	self := with(voter("a"), func(h *Host) { h.Node = st.Node })
	st.Seen, st.List = ClusterID{7}, listOf(t, self, voter("b"), voter("c"))
	st.Membership = &Membership{st.List.ClusterID(), 1, st.List.Ensemble()}
	if err := d.save(st); err != nil {
		t.Fatal(err)
	}
	if again, err = d.load("demo"); err != nil || !reflect.DeepEqual(st, again) {
		t.Fatalf("stored %+v, read %+v, %v", st, again, err)
	}
	info, err := os.Stat(filepath.Join(d.dir, FileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(d.dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := d.load("other"); err == nil || !strings.Contains(err.Error(), `"demo"`) {
		t.Errorf("for another cluster: %v", err)
	}
}

func TestDamagedStateIsNotANewDisk(t *testing.T) {
	d := disk{dir: t.TempDir()}
	st, err := d.load("demo")
	if err != nil {
		t.Fatal(err)
	}
	st.List = listOf(t, with(voter("a"), func(h *Host) { h.Node = st.Node }), voter("b"))
	good, err := formatState(st)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":         "",
		"cut off":       string(good[:len(good)/2]),
		"behind":        string(good) + "{}",
		"other list":    strings.Replace(string(good), `"Name": "b"`, `"Name": "x"`, 1),
		"other version": strings.Replace(string(good), `"Version": 1`, `"Version": 2`, 1),
		"unknown key":   strings.Replace(string(good), `"Version"`, `"X": 1, "Version"`, 1),
		"too large":     strings.Repeat(" ", maxState) + string(good),
	} {
		if err := os.WriteFile(filepath.Join(d.dir, FileName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if st, err := d.load("demo"); err == nil {
			t.Errorf("%s: read %+v", name, st)
		}
	}
}

// TestOnlyAFormedServerMayVoteEmpty follows the right to vote with an empty
// directory (rule R14): it comes with the first ensemble and goes with the first
// snapshot, and a wiped server never has it.
func TestOnlyAFormedServerMayVoteEmpty(t *testing.T) {
	d := disk{dir: t.TempDir(), logDir: t.TempDir()}
	st, err := d.load("demo")
	if err != nil {
		t.Fatal(err)
	}
	st.List = listOf(t, with(voter("b"), func(h *Host) { h.Node = st.Node }), voter("a"))
	if st, err = d.form(st); err != nil || st.Membership.ID != 2 {
		t.Fatalf("form: %+v, %v", st, err)
	}
	check := func(when string, want bool) {
		t.Helper()
		if lost, err := d.lost(); err != nil || lost != want {
			t.Errorf("%s: lost %v, %v, want %v", when, lost, err, want)
		}
	}
	check("formed", false)
	version := filepath.Join(d.dir, "version-2")
	if err := os.MkdirAll(version, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(version, "snapshot.0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(d.logDir, initializeName)); err != nil { // as the server does
		t.Fatal(err)
	}
	check("running", false)
	if err := os.RemoveAll(version); err != nil {
		t.Fatal(err)
	}
	check("wiped", true)
	if err := d.allowVote(); err != nil {
		t.Fatal(err)
	}
	if st, err = d.join(st, Membership{ClusterID{1}, 3, st.List.Ensemble()}); err != nil {
		t.Fatal(err)
	}
	check("joined", true)
}
