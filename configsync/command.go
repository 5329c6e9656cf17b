package configsync

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A Command is a program and its arguments, run without a shell. In arguments
// of a check, {file} stands for the staged file, or the staged directory of a
// tree. Programs also get PADDOCK_FILE, PADDOCK_TARGET (several names for a
// shared reload, separated by commas) and PADDOCK_ZXID in their environment.
// Nothing that comes from a znode is ever part of a command line.
//
// Where a text stands instead of a list in a configuration file it is a script
// for /bin/sh.
type Command []string

// ShellCommand returns the command that runs script by /bin/sh. {file} in it
// must not be quoted: it becomes a quoted variable.
func ShellCommand(script string) Command {
	if strings.TrimSpace(script) == "" {
		return nil
	}
	return Command{"/bin/sh", "-c", strings.ReplaceAll(script, "{file}", `"$PADDOCK_FILE"`)}
}

// UnmarshalText implements [encoding.TextUnmarshaler] for the short form.
func (c *Command) UnmarshalText(text []byte) error {
	*c = ShellCommand(string(text))
	return nil
}

// UnmarshalJSON reads both forms.
func (c *Command) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte(`"`)) {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		return c.UnmarshalText([]byte(s))
	}
	return json.Unmarshal(b, (*[]string)(c))
}

// String returns the command for people to read.
func (c Command) String() string {
	if len(c) == 3 && c[0] == "/bin/sh" && c[1] == "-c" {
		return c[2]
	}
	return strings.Join(c, " ")
}

const (
	maxOutput = 4096        // bytes of a command's output that are kept: the last ones
	killDelay = time.Second // between the polite and the final signal, and for stray children holding the output
)

// A runner runs one command; tests have their own.
type runner func(ctx context.Context, c Command, env []string) (output string, exit int, err error)

// execute runs c and waits for it. Output is both streams together, cut at the
// front. When ctx ends the whole process group gets SIGTERM, then SIGKILL. err
// is nil only for exit status 0.
func execute(ctx context.Context, c Command, env []string) (output string, exit int, err error) {
	cmd := exec.CommandContext(ctx, c[0], c[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = "/"
	tail := &tailBuffer{}
	cmd.Stdout, cmd.Stderr = tail, tail
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killDelay
	err = cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		// What is left of the group ignored the polite signal.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		err = context.Cause(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.New("timed out")
		}
	}
	exit = -1
	if cmd.ProcessState != nil {
		exit = cmd.ProcessState.ExitCode()
	}
	if errors.Is(err, exec.ErrWaitDelay) && exit == 0 {
		err = nil // a daemon that the command started keeps its output open
	}
	return tail.String(), exit, err
}

// tailBuffer keeps the last maxOutput bytes written. os/exec gives one writer
// for both streams to one goroutine, so it needs no lock.
type tailBuffer struct {
	b   []byte
	cut bool
}

func (t *tailBuffer) Write(p []byte) (int, error) {
	n := len(p)
	t.b = append(t.b, p...)
	if over := len(t.b) - maxOutput; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
		t.cut = true
	}
	return n, nil
}

func (t *tailBuffer) String() string {
	s := strings.ToValidUTF8(strings.TrimSpace(string(t.b)), "\uFFFD")
	if t.cut {
		s = "…" + s
	}
	return s
}

// A CommandStatus is the result of the last run of a check or reload command.
type CommandStatus struct {
	Command string    `json:"command"`
	Time    time.Time `json:"time"` // of its start
	TookMs  int64     `json:"took_ms"`
	OK      bool      `json:"ok"`
	Exit    int       `json:"exit"` // -1: not started, or ended by a signal
	Error   string    `json:"error,omitempty"`
	// Output is the end of what it printed, at most 4 KiB.
	Output string `json:"output,omitempty"`
	// Attempt counts the runs for the same change, from 1.
	Attempt int `json:"attempt"`
	// Pending says that a run is due: the program may not know what is in the file.
	Pending bool `json:"pending,omitempty"`
}

// try runs c within timeout.
func try(ctx context.Context, run runner, c Command, timeout time.Duration, env []string) *CommandStatus {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s := &CommandStatus{Command: c.String(), Time: time.Now(), Attempt: 1}
	var err error
	s.Output, s.Exit, err = run(ctx, c, env)
	s.TookMs = time.Since(s.Time).Milliseconds()
	if err != nil {
		s.Error = err.Error()
	}
	s.OK = err == nil
	return s
}

// stagedFile fills in what a check is to look at.
func (c Command) stagedFile(path string) Command {
	out := make(Command, len(c))
	for i, a := range c {
		out[i] = strings.ReplaceAll(a, "{file}", path)
	}
	return out
}

func commandEnv(targets []string, file string, zxid fmt.Stringer) []string {
	env := []string{"PADDOCK_TARGET=" + strings.Join(targets, ",")}
	if file != "" {
		env = append(env, "PADDOCK_FILE="+file)
	}
	if zxid != nil {
		env = append(env, "PADDOCK_ZXID="+zxid.String())
	}
	return env
}
