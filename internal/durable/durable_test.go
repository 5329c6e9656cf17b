package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestAFileIsReplacedWhole(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "state")
	for _, text := range []string{"one", "", "another"} {
		if err := WriteFile(name, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := ReadFile(name, 7)
		if err != nil || string(got) != text {
			t.Fatalf("%q %v, want %q", got, err, text)
		}
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o640 {
			t.Fatalf("mode %v %v", info.Mode(), err)
		}
	}
	if _, err := ReadFile(name, 6); err == nil || !strings.Contains(err.Error(), "more than 6 bytes") {
		t.Errorf("a file that is too long: %v", err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"state"}) {
		t.Errorf("the directory has %q", got)
	}
}

func TestWhatFailsLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "state")
	if err := WriteFile(name, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	full := errors.New("full")
	if err := Write(name, 0o600, func(w io.Writer) error { io.WriteString(w, "half"); return full }); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	if got, err := ReadFile(name, 100); err != nil || string(got) != "old" {
		t.Errorf("%q %v", got, err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"state"}) {
		t.Errorf("the directory has %q", got)
	}
	if err := WriteFile(filepath.Join(dir, "none", "state"), nil, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
}

// Each restart of a process that is killed while it writes would leave one more.
func TestWhatAKilledProcessLeftIsRemoved(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".state.tmp"), []byte("half of it"), 0o400); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "state")
	if err := WriteFile(name, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFile(name, 100); err != nil || string(got) != "new" {
		t.Errorf("%q %v", got, err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"state"}) {
		t.Errorf("the directory has %q", got)
	}
}

func TestALinkIsReplacedNotFollowed(t *testing.T) {
	dir := t.TempDir()
	target, name := filepath.Join(dir, "target"), filepath.Join(dir, "state")
	if err := os.WriteFile(target, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		t.Skip(err)
	}
	if err := WriteFile(name, []byte("ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(target); string(got) != "theirs" {
		t.Errorf("the file that the link names has %q", got)
	}
}
