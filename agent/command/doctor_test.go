package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheDoctorSeesAClockThatWasSetBack(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "version-2", "log.1")
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d := &doctor{}
	d.future(dir)
	if len(d.findings) != 0 {
		t.Errorf("a file of now: %v", d.findings)
	}
	tomorrow := time.Now().Add(24 * time.Hour)
	if err := os.Chtimes(file, tomorrow, tomorrow); err != nil {
		t.Fatal(err)
	}
	d.future(dir)
	if len(d.findings) != 1 || d.findings[0].State != isWarning || !strings.HasPrefix(d.findings[0].Text, "was set back: log.1 ") {
		t.Errorf("a file of tomorrow: %v", d.findings)
	}
}

func TestTheDoctorLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	if took, err := syncTime(dir); err != nil || took <= 0 {
		t.Errorf("%v %v", took, err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("left %v, %v", list, err)
	}
	if _, err := syncTime(filepath.Join(dir, "missing")); err == nil {
		t.Error("wrote where nothing is")
	}
}

func TestWhereAListenerCanBeAsked(t *testing.T) {
	for listen, want := range map[string]string{
		"0.0.0.0:2181": "127.0.0.1:2181", ":2181": "127.0.0.1:2181", "[::]:2181": "127.0.0.1:2181", "10.0.0.1:2181": "10.0.0.1:2181", "h:1": "h:1", "": "",
	} {
		if got := reachable(listen); got != want {
			t.Errorf("%q: %q, want %q", listen, got, want)
		}
	}
}
