// Package local runs the servers of the examples beside it, all of them on this
// machine, and each as a process of its own: what they show is what an operator
// sees.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// Main is main of an example: it gives run a directory for as long as it takes,
// ends its context on ^C, and ends the program with what it returns.
func Main(name string, run func(ctx context.Context, dir string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", name)
	if err == nil {
		err = errors.Join(run(ctx, dir), os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Build makes the paddock binary in dir and returns its path.
func Build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "paddock")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/paddockio/paddock").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, nil
}

// A Process is a program that runs. The zero Process does not.
type Process struct {
	cmd   *exec.Cmd
	ended chan error
	log   string
}

// Run starts a program. What it writes is appended to the file log.
func (p *Process) Run(log string, args ...string) error {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1) // nobody may be left to read it
	go func() { ended <- cmd.Wait() }()
	p.cmd, p.ended, p.log = cmd, ended, log
	return nil
}

// Running tells whether it was started and not stopped; an error, whether it has
// ended by itself.
func (p *Process) Running() (bool, error) {
	if p.cmd == nil {
		return false, nil
	}
	select {
	case err := <-p.ended:
		p.cmd = nil
		text, _ := os.ReadFile(p.log)
		return false, fmt.Errorf("a program has ended: %v, its output ends with\n%s", err, text[max(0, len(text)-2000):])
	default:
		return true, nil
	}
}

// Stop asks it to end, and waits.
func (p *Process) Stop() error {
	if p.cmd == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case <-p.ended:
		p.cmd = nil
		return nil
	case <-time.After(20 * time.Second):
		return fmt.Errorf("a program does not end, see %s", p.log)
	}
}

// Kill ends it as a crash does.
func (p *Process) Kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.ended
		p.cmd = nil
	}
}

// Ports finds ports of 127.0.0.1 that nobody has, below those that the kernel
// gives to outgoing connections.
func Ports(n int) ([]int, error) {
	var ports []int
	for port := 20000 + os.Getpid()%100*100; port < 32768 && len(ports) < n; port++ {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			ports = append(ports, port)
		}
	}
	if len(ports) < n {
		return nil, errors.New("no free ports")
	}
	return ports, nil
}

// Mode asks the ZooKeeper server at addr: it is leader, follower or observer, or
// "" while it does not serve.
func Mode(addr string) string {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second)) // a connection has deadlines
	_, _ = io.WriteString(conn, "srvr")               // else there is no answer
	answer, _ := io.ReadAll(conn)
	_, mode, _ := strings.Cut(string(answer), "Mode: ")
	mode, _, _ = strings.Cut(mode, "\n")
	return mode
}
