package command

import (
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// slackOfThreads returns the timer slack of n threads of the process, in ns.
func slackOfThreads(n int) (slack []uintptr) {
	var mu sync.Mutex
	var all, together sync.WaitGroup
	together.Add(n)
	for range n {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			together.Done()
			together.Wait() // so that no two share a thread
			ns, _, _ := syscall.Syscall(syscall.SYS_PRCTL, syscall.PR_GET_TIMERSLACK, 0, 0)
			mu.Lock()
			defer mu.Unlock()
			slack = append(slack, ns)
		})
	}
	all.Wait()
	return slack
}

func TestCalmThreads(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	old := slackOfThreads(1)[0]

	t.Setenv("GOMAXPROCS", "1")
	calmThreads()
	if got := slackOfThreads(1)[0]; got != old || runtime.GOMAXPROCS(0) != before {
		t.Errorf("with GOMAXPROCS set: slack %d ns, %d Ps; want %d and %d as they were", got, runtime.GOMAXPROCS(0), old, before)
	}

	t.Setenv("GOMAXPROCS", "")
	calmThreads()
	if _, _, errno := syscall.AllThreadsSyscall(syscall.SYS_GETPID, 0, 0, 0); errno == syscall.ENOTSUP {
		t.Skip("no way to all threads in a build with cgo")
	}
	defer syscall.AllThreadsSyscall(syscall.SYS_PRCTL, syscall.PR_SET_TIMERSLACK, old, 0)
	if got := runtime.GOMAXPROCS(0); got <= before || got < 3 {
		t.Errorf("%d Ps, want more than %d, and 3 at least", got, before)
	}
	for _, ns := range slackOfThreads(20) {
		if ns != uintptr(timerSlack) {
			t.Errorf("a thread has a slack of %d ns, want %v", ns, timerSlack)
		}
	}
}
