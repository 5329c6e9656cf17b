//go:build interop

package interop

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/interop/peer"
)

// connectTo is what clients connect to: "" for a server alone, or "follower" or
// "observer" for a member of an ensemble of three voters.
var connectTo = os.Getenv("INTEROP_CONNECT")

// serverCommand is the command line of the server under test; the path of a
// zoo.cfg is to be added. With INTEROP_CONNECT it is this test binary, which
// launches an ensemble and looks like one server.
func serverCommand(t *testing.T, kind string, jvm ...string) []string {
	t.Helper()
	command := []string{peer.Paddock(), "server", "start-foreground"}
	if kind == peer.KindApache {
		command = slices.Concat([]string{"java"}, jvm, apacheServer(t))
	}
	if connectTo == "" {
		return command
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{self, launchWord, connectTo}, command...)
}

// launchWord is the first argument of a test binary that launches an ensemble.
const launchWord = "launch-ensemble"

// launchEnsemble is such a binary: `launch-ensemble follower|observer COMMAND…
// zoo.cfg`. The server of zoo.cfg becomes a follower or an observer of a leader
// that it starts before, and everything ends with it: on SIGTERM, when one member
// ends, and by a signal of the kernel when it is killed itself. The data
// directories of the other members lie in that of the zoo.cfg.
func launchEnsemble(args []string) error {
	// The members get their signal when the thread ends that started them.
	runtime.LockOSThread()
	if len(args) < 3 || args[0] != "follower" && args[0] != "observer" {
		return fmt.Errorf("arguments %q: want follower or observer, a command, and a zoo.cfg", args)
	}
	role, command, cfg := args[0], args[1:len(args)-1], args[len(args)-1]
	text, err := os.ReadFile(cfg)
	if err != nil {
		return err
	}
	settings := map[string]string{}
	var lines []string // what all members have in common
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		settings[key] = value
		if !slices.Contains([]string{"dataDir", "dataLogDir", "clientPort", "clientPortAddress"}, key) {
			lines = append(lines, line)
		}
	}
	tick, err := strconv.Atoi(settings["tickTime"])
	if err != nil {
		return err
	}
	// However short the ticks of a test are, servers have ten seconds for each other.
	limit := max(5, 10_000/max(tick, 1))
	lines = append(lines, fmt.Sprintf("initLimit=%d\nsyncLimit=%d\n", limit, limit))

	// The last member is that of zoo.cfg. The ones before it can elect a leader
	// without it, and it finds one.
	n := 3
	if role == "observer" {
		n = 4
	}
	for id := 1; id <= n; id++ {
		line := fmt.Sprintf("server.%d=127.0.0.1:%d:%d", id, launchPort(), launchPort())
		if id == n && role == "observer" {
			line += ":observer"
		}
		lines = append(lines, line+"\n")
	}
	held, err := holdAlone(filepath.Join(filepath.Dir(cfg), "members.lock"))
	if err != nil {
		return err
	}
	ended := make(chan error, n) // each member's end
	var running []*exec.Cmd
	start := func(id int, cfg, data string, own ...string) error {
		if err := os.MkdirAll(data, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(data, "myid"), fmt.Appendln(nil, id), 0o644); err != nil {
			return err
		}
		text := strings.Join(append(slices.Clone(lines), "dataDir="+data+"\n"+strings.Join(own, "\n")+"\n"), "")
		if err := os.WriteFile(cfg, []byte(text), 0o644); err != nil {
			return err
		}
		cmd := exec.Command(command[0], slices.Concat(command[1:], []string{cfg})...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Dir(cfg), os.Stdout, os.Stderr
		cmd.ExtraFiles = []*os.File{held}
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return err
		}
		running = append(running, cmd)
		go func() { ended <- fmt.Errorf("member %d has ended: %v", id, cmd.Wait()) }()
		return nil
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)

	var others []string
	for id := 1; id < n; id++ {
		dir := filepath.Join(settings["dataDir"], "ensemble", strconv.Itoa(id))
		port := launchPort()
		others = append(others, fmt.Sprintf("127.0.0.1:%d", port))
		if err := start(id, filepath.Join(dir, "zoo.cfg"), filepath.Join(dir, "data"), fmt.Sprintf("clientPort=%d", port), "clientPortAddress=127.0.0.1"); err != nil {
			return err
		}
	}
	led := make(chan error, 1)
	go func() { led <- awaitLed(others) }()
	for {
		select {
		case err := <-led:
			if err != nil {
				return err
			}
			own := []string{"clientPort=" + settings["clientPort"]}
			for _, key := range []string{"dataLogDir", "clientPortAddress"} {
				if value, ok := settings[key]; ok {
					own = append(own, key+"="+value)
				}
			}
			if role == "observer" {
				own = append(own, "peerType=observer")
			}
			if err := start(n, cfg+".member", settings["dataDir"], own...); err != nil {
				return err
			}
		case err := <-ended:
			return err
		case sig := <-signals:
			for _, cmd := range slices.Backward(running) {
				_ = cmd.Process.Signal(sig) // it may have ended
			}
			if sig == syscall.SIGQUIT {
				continue // a JVM prints its threads and goes on
			}
			for range running {
				<-ended
			}
			return nil
		}
	}
}

// holdAlone locks a file that members inherit, and with it the lock: members of a
// launcher that was killed end a moment after it.
func holdAlone(name string) (*os.File, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("members of a launcher before go on: %w", err)
		}
	}
}

// awaitLed waits until servers have a leader and serve.
func awaitLed(addrs []string) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		modes := map[string]int{}
		for _, addr := range addrs {
			answer, err := peer.Word(addr, "srvr", wordLimit)
			_, mode, ok := strings.Cut(answer, "Mode: ")
			if err == nil && ok {
				mode, _, _ = strings.Cut(mode, "\n")
				modes[mode]++
			}
		}
		if modes["leader"] == 1 && modes["follower"] == len(addrs)-1 {
			return nil
		}
	}
	return errors.New("no leader")
}

var lastLaunchPort atomic.Int32

// launchPort is a free port of 28000–31999 for what only members use.
func launchPort() int {
	lastLaunchPort.CompareAndSwap(0, int32(os.Getpid()*20%4000)+1)
	for {
		port := 28000 + int(lastLaunchPort.Add(1)%4000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
}
