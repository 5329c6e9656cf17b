//go:build interop && linux

package nemesis

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
	"unsafe"

	"github.com/paddockio/paddock/zab/interop/peer"
)

// needTools ends the test if what it breaks disks with is not on this machine.
func needTools(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		peer.Missing(t, "mounts and tracing need root")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		peer.Missing(t, "mkfs.ext4 is not on this machine")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		// Debian's package; elsewhere there is no apt-get, and the error says so.
		install := exec.CommandContext(t.Context(), "apt-get", "install", "-y", "--no-install-recommends", "strace")
		install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := install.CombinedOutput(); err != nil {
			peer.Missing(t, "strace is not on this machine, apt-get install: %v\n%s", err, out)
		}
	}
}

// A disk is a file system of a member's own, in a file, under its data directory.
type disk struct {
	image   string
	dir     string // where it is mounted
	ballast string // what fills it
}

// diskBytes is the size of a disk. The file that it is in has holes: it takes what
// was written.
const diskBytes = 4 << 30

// newDisk puts a disk under the data directory of a member that has not run.
func newDisk(t testing.TB, m *peer.Member) *disk {
	t.Helper()
	image := filepath.Join(m.Dir, "disk.img")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, diskBytes)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	d := &disk{image: image, dir: m.Data(), ballast: filepath.Join(m.Data(), "ballast")}
	if err := d.mount(); err != nil {
		peer.Missing(t, "%v", err)
	}
	t.Cleanup(func() {
		m.End()
		if err := d.unmount(); err != nil {
			t.Error(err)
		}
	})
	id := fmt.Appendln(nil, m.ID)
	if err := errors.Join(os.Remove(filepath.Join(d.dir, "lost+found")), os.WriteFile(filepath.Join(d.dir, "myid"), id, 0o600)); err != nil {
		t.Fatal(err)
	}
	syscall.Sync() // the power may be cut before the first write
	return d
}

// mount takes a new loop device each time. "mount -o loop" takes the one that the
// file has already, and with it the file system that is in it, as long as anybody
// uses that: every process that got a mount namespace of its own meanwhile does.
func (d *disk) mount() error {
	device, err := exec.Command("losetup", "--find", "--show", d.image).Output()
	if err != nil {
		return fmt.Errorf("losetup: %w", err)
	}
	loop := strings.TrimSpace(string(device))
	out, err := exec.Command("mount", loop, d.dir).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("mount: %w\n%s", err, out)
	}
	// From now on it goes away with its last use.
	if out, derr := exec.Command("losetup", "--detach", loop).CombinedOutput(); derr != nil {
		err = errors.Join(err, fmt.Errorf("losetup --detach: %w\n%s", derr, out))
	}
	return err
}

func (d *disk) unmount() error {
	if out, err := exec.Command("umount", d.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("umount: %w\n%s", err, out)
	}
	return nil
}

// Of the kernel's interface to file systems: EXT4_IOC_SHUTDOWN, and to leave even
// the journal as it is.
const (
	shutdown   = 0x8004587d
	noLogFlush = uint32(2)
)

// cutPower loses what was written and not synced. From then on every call fails,
// until restorePower.
func (d *disk) cutPower(t testing.TB) {
	t.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags := noLogFlush
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		t.Fatalf("shutdown of %s: %v", d.dir, errno)
	}
}

// restorePower brings back what the disk has kept. Nobody may use it meanwhile.
func (d *disk) restorePower(t testing.TB) {
	t.Helper()
	if err := errors.Join(d.unmount(), d.mount()); err != nil {
		t.Fatal(err)
	}
}

// fill takes all the space that is left.
func (d *disk) fill(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile(d.ballast, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// The server goes on writing meanwhile, so it takes some attempts. What is left
	// at the end is less than the smallest.
	size := int64(0)
	for piece := int64(1 << 30); piece >= 4096; {
		switch err := syscall.Fallocate(int(f.Fd()), 0, size, piece); {
		case err == nil:
			size += piece
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.ENOSPC):
			piece /= 2
		default:
			t.Fatalf("fallocate: %v", err)
		}
	}
}

// empty gives the space back.
func (d *disk) empty(t testing.TB) {
	t.Helper()
	if err := os.Remove(d.ballast); err != nil {
		t.Fatal(err)
	}
}

// diskCalls are the system calls that bring data to a disk. Servers of ours write
// the log by pwrite64 to a file that was opened with O_DIRECT and O_DSYNC, and the
// rest by write and fsync; Apache's by write and fdatasync. Write goes to sockets
// too, so it is not among them.
const diskCalls = "pwrite64,pwritev2,fdatasync,fsync,sync_file_range"

// A tracer meddles with the system calls of a member.
type tracer struct {
	*peer.Process
	log string
}

// traces numbers the files of tracers.
var traces int

// trace injects something into the disk calls of a member, in the words of strace.
// It waits until all threads are traced, or the first was changed.
func trace(t testing.TB, m *peer.Member, what string) *tracer {
	t.Helper()
	traces++
	tr := &tracer{log: filepath.Join(m.Dir, fmt.Sprintf("strace.%d", traces))}
	tr.Process = peer.Run(t, exec.Command("strace", "-f", "-o", tr.log, "-p", fmt.Sprint(m.PID()),
		"-e", "trace="+diskCalls, "-e", "signal=none", "-e", "inject="+diskCalls+":"+what), filepath.Join(m.Dir, "strace.out"))
	for deadline := time.Now().Add(peer.Patience); !tr.attached(m) && tr.changed() == 0; time.Sleep(time.Millisecond) {
		select {
		case <-m.Done():
			return tr // it met its first error at once
		case <-tr.Done():
			t.Fatalf("strace ended\n%s", tr.Tail())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("strace does not come to an end with the threads of %v\n%s", m, tr.Tail())
		}
	}
	return tr
}

// attached reports whether all threads of a member are traced.
func (tr *tracer) attached(m *peer.Member) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", m.PID()))
	if err != nil {
		return false
	}
	for _, thread := range threads {
		b, err := os.ReadFile(thread)
		if err != nil || bytes.Contains(b, []byte("\nTracerPid:\t0\n")) {
			return false
		}
	}
	return len(threads) > 0
}

// changed counts the calls that were meddled with.
func (tr *tracer) changed() int {
	b, err := os.ReadFile(tr.log)
	if err != nil {
		return 0
	}
	s := string(b)
	return strings.Count(s, "(INJECTED)") + strings.Count(s, "(DELAYED)")
}

// stop lets the member go its own way.
func (tr *tracer) stop() { tr.Quit(peer.Patience) } // or it has ended with the member
