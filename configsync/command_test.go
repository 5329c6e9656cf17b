package configsync

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

func TestCommandsAreRunWithoutAShell(t *testing.T) {
	s := try(t.Context(), execute, Command{"/bin/echo", "$HOME", "a b;c"}, time.Minute, nil)
	if !s.OK || s.Exit != 0 || s.Output != "$HOME a b;c" || s.Error != "" {
		t.Errorf("got %+v", s)
	}
	s = try(t.Context(), execute, Command{"/no/such/program"}, time.Minute, nil)
	if s.OK || s.Exit != -1 || !strings.Contains(s.Error, "no such file") {
		t.Errorf("got %+v", s)
	}
}

func TestScriptsGetTheFileAsAVariable(t *testing.T) {
	file := t.TempDir() + "/a b'$(x)"
	must(t, os.WriteFile(file, []byte("text"), 0o600))
	c := ShellCommand("cat {file}; echo; echo $PADDOCK_TARGET; echo wrong >&2; exit 3").stagedFile(file)
	s := try(t.Context(), execute, c, time.Minute, commandEnv([]string{"t"}, file, nil))
	if s.OK || s.Exit != 3 || s.Output != "text\nt\nwrong" || s.Error != "exit status 3" {
		t.Errorf("got %+v", s)
	}
	if ShellCommand(" \n") != nil {
		t.Error("an empty script is a command")
	}
}

func TestOutputIsCut(t *testing.T) {
	s := try(t.Context(), execute, ShellCommand(`i=0; while [ $i -lt 2000 ]; do echo "line $i"; i=$((i+1)); done`), time.Minute, nil)
	if len(s.Output) > maxOutput+3 || !strings.HasPrefix(s.Output, "…") || !strings.HasSuffix(s.Output, "line 1999") {
		t.Errorf("%d bytes: %.20q … %q", len(s.Output), s.Output, s.Output[len(s.Output)-20:])
	}
}

func TestCommandsThatHangAreEndedWithTheirChildren(t *testing.T) {
	begin := time.Now()
	s := try(t.Context(), execute, ShellCommand(`trap "" TERM; sleep 60 & wait; sleep 60`), 50*time.Millisecond, nil)
	if s.OK || s.Error != "timed out" {
		t.Errorf("got %+v", s)
	}
	if d := time.Since(begin); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
	// A daemon that keeps the output open does not make a success a failure.
	begin = time.Now()
	s = try(t.Context(), execute, ShellCommand(`sleep 60 & echo started`), time.Minute, nil)
	if !s.OK || s.Output != "started" || time.Since(begin) > 20*time.Second {
		t.Errorf("after %v: %+v", time.Since(begin), s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s := try(ctx, execute, Command{"/bin/true"}, time.Minute, nil); s.OK {
		t.Errorf("run after the end: %+v", s)
	}
}
