package command

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// timerSlack is how much later than asked a thread may be woken.
const timerSlack = time.Millisecond

// blockedThreads is how many goroutines are in a long system call at a time, in the
// common case: one writes the log, one a snapshot or a file.
const blockedThreads = 2

// calmThreads makes the Go runtime's monitor thread (sysmon) cheaper. That takes
// Ps away from goroutines in system calls, and as long as it finds some it looks
// every 20 µs, which in a virtual machine costs a server up to a tenth of its CPU
// for timer interrupts. With the slack it looks every millisecond at most; the
// timers of the process are late by as much. In turn a goroutine that waits for a
// disk keeps its P for up to a millisecond, so there are more of them than cores:
// with one P nobody else would run meanwhile.
//
// Who sets GOMAXPROCS decides about all of this.
func calmThreads() {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	// Every thread, and with it those that it starts. Not available with cgo.
	if _, _, errno := syscall.AllThreadsSyscall(syscall.SYS_PRCTL, syscall.PR_SET_TIMERSLACK, uintptr(timerSlack), 0); errno != 0 {
		return
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + blockedThreads)
}
