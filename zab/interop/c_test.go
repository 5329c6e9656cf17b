//go:build interop

package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/interop/peer"
)

// debianPackages makes sure that packages are installed: as root by apt.
func debianPackages(t *testing.T, packages ...string) {
	t.Helper()
	installed := func() bool {
		_, _, err := await(t, toolLimit, exec.Command("dpkg", append([]string{"-s"}, packages...)...))
		return err == nil
	}
	if installed() {
		return
	}
	need(t, "apt-get")
	if os.Getuid() != 0 {
		peer.Missing(t, "Debian's packages %v are not installed, and only root can install them", packages)
	}
	if _, _, err := await(t, toolLimit, exec.Command("apt-get", "update")); err != nil {
		t.Logf("apt-get update: %v", err) // an old list may do
	}
	install := exec.Command("apt-get", append([]string{"install", "-y", "--no-install-recommends"}, packages...)...)
	install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if _, errs, err := await(t, toolLimit, install); err != nil || !installed() {
		peer.Missing(t, "apt-get install %v: %v\n%s", packages, err, tail(errs, 1000))
	}
}

// debianVersion is the upstream part of a package's version.
func debianVersion(t *testing.T, name string) string {
	t.Helper()
	v := output(t, exec.Command("dpkg-query", "-W", "-f=${Version}", name))
	v, _, _ = strings.Cut(v, "-")
	return v
}

func TestDebianCClient(t *testing.T) {
	need(t, "cc", "dpkg")
	debianPackages(t, "libzookeeper-mt-dev")
	program := filepath.Join(t.TempDir(), "client")
	output(t, exec.Command("cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-DTHREADED", "-o", program,
		filepath.Join("c", "client.c"), "-lzookeeper_mt", "-lpthread"))
	s := startPeer(t)
	runProgram(t, "Debian's C client", debianVersion(t, "libzookeeper-mt-dev"), s, exec.Command(program, s.addr()))
}

// TestDebianCShell runs the C client's own shell.
func TestDebianCShell(t *testing.T) {
	need(t, "dpkg")
	debianPackages(t, "zookeeper-bin")
	s := startPeer(t)
	version := debianVersion(t, "zookeeper-bin")
	cmd := exec.Command("/usr/lib/zookeeper/bin/cli_mt", s.addr())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out transcript
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	for _, tc := range []struct{ name, command, want string }{
		{"connect", "", "CONNECTED_STATE"},
		{"create", "create /cli", "[/cli]: rc = 0"},
		{"create again", "create /cli", "rc = -110"},
		{"set", "set /cli two", "/cli: rc = 0"},
		{"get", "get /cli", "value_len = 3\ntwo"},
		{"ls", "ls /", "cli"},
		{"ls2", "ls2 /cli", "version=1"},
		{"ephemeral", "create +e /eph", "[/eph]: rc = 0"},
		{"sequence", "create +s /cli/n-", "name = /cli/n-0000000000"},
		{"sync", "sync /cli", "rc = 0"},
		{"delete what has children", "delete /cli", "rc = -111"},
		{"delete", "delete /cli/n-0000000000", "rc = 0"},
		{"get what is gone", "get /cli/n-0000000000", "rc = -101"},
	} {
		if t.Failed() {
			break // what comes next depends on what came before
		}
		run(t, "Debian's cli_mt", version, tc.name, func(t *testing.T) {
			if tc.command != "" {
				out.reset()
				fmt.Fprintln(in, tc.command)
			}
			deadline := time.Now().Add(10 * time.Second)
			for !strings.Contains(out.String(), tc.want) {
				if time.Now().After(deadline) {
					t.Fatalf("%s: want %q in\n%s\n%s", tc.command, tc.want, out.String(), s.stacks())
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
}

// transcript collects a running program's output.
type transcript struct {
	mu sync.Mutex // guards b
	b  []byte
}

func (tr *transcript) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.b = append(tr.b, p...)
	return len(p), nil
}

func (tr *transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return string(tr.b)
}

func (tr *transcript) reset() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.b = nil
}
