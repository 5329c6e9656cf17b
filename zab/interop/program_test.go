//go:build interop

package interop

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// How long the programs of other people may run.
const (
	programLimit = 3 * time.Minute // a client
	suiteLimit   = 5 * time.Minute // one of their test classes, or kazoo's whole suite
	toolLimit    = 5 * time.Minute // a compiler, or what downloads
)

// grace is how long a program may take to print its stacks, and to close its
// streams after its end.
const grace = 10 * time.Second

var errHung = errors.New("did not end")

// start starts a program as the head of a process group, so that hang reaches
// the servers that it starts. It ends when the test binary does.
func start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	cmd.WaitDelay = grace
	return cmd.Start()
}

// hang makes the processes of a program that start started print their stacks,
// as Go programs and JVMs do on SIGQUIT, and ends them. Ended is closed when
// Wait has returned.
func hang(cmd *exec.Cmd, ended <-chan struct{}) {
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		syscall.Kill(-cmd.Process.Pid, sig)
		select {
		case <-ended:
		case <-time.After(grace):
		}
	}
	<-ended
}

// await runs a program that should end within limit, and returns what it
// printed. If it does not, the test fails with that, with where the program
// was, and with what the servers it talked to were doing.
func await(t *testing.T, limit time.Duration, cmd *exec.Cmd, servers ...*server) (stdout, stderr []byte, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := start(cmd); err != nil {
		return nil, nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = cmd.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(limit):
		stacks := allStacks(servers) // first, while the client still waits
		hang(cmd, ended)
		err = fmt.Errorf("%w within %v", errHung, limit)
		t.Errorf("%s: %v\nstandard output:\n%s\nstandard error:\n%s\n%s",
			strings.Join(cmd.Args, " "), err, tail(out.Bytes(), dumpSize), tail(errs.Bytes(), dumpSize), stacks)
	}
	return out.Bytes(), errs.Bytes(), err
}

// output runs a tool and returns its standard output; a failure of the tool
// fails the test.
func output(t *testing.T, cmd *exec.Cmd, servers ...*server) string {
	t.Helper()
	out, errs, err := await(t, toolLimit, cmd, servers...)
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", strings.Join(cmd.Args, " "), err, tail(out, 8000), tail(errs, 8000))
	}
	return string(out)
}

// dumpSize is how much of a dump is shown of one program.
const dumpSize = 64 << 10

// stacks is the end of what the server wrote, with what each of its goroutines
// or threads is doing. It ends the server.
func (s *server) stacks() string {
	s.Quit(grace)
	return fmt.Sprintf("the server on port %d, %s:\n%s", s.port, s.kind, tail([]byte(s.Output()), dumpSize))
}

func allStacks(servers []*server) string {
	var b strings.Builder
	for _, s := range servers {
		b.WriteString(s.stacks() + "\n")
	}
	return b.String()
}

// launchedLogs is what the servers that a program launched itself wrote, whose
// files match the pattern.
func launchedLogs(pattern string) string {
	var b strings.Builder
	files, _ := filepath.Glob(pattern)
	for _, file := range files {
		log, err := os.ReadFile(file)
		fmt.Fprintf(&b, "%s: %v\n%s\n", file, err, tail(log, dumpSize))
	}
	return b.String()
}
