package command

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// timerSlack is how much later than asked a thread may be woken; prctl(2) counts
// it in nanoseconds, as a Duration does.
const timerSlack = time.Millisecond

// calmThreads makes the Go runtime's monitor thread (sysmon) cheaper. The monitor
// takes Ps, the runtime's permits to run Go code, away from goroutines in system
// calls, and as long as it finds some it looks every 20 µs, which in a virtual
// machine costs a server up to a tenth of its CPU for timer interrupts. With the
// slack it looks every millisecond at most; the timers of the process are late by
// as much. In turn a goroutine that waits for a
// disk keeps its P for up to a millisecond, so there is one more of them than cores,
// and three at least: the log and a snapshot may be written at a time, and with no P
// left nobody else would run meanwhile.
//
// Who sets GOMAXPROCS decides about all of this. A limit of CPU that is changed
// while the process runs is not followed any more.
func calmThreads() {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	// Every thread, and with it those that it starts. Not available with cgo.
	if _, _, errno := syscall.AllThreadsSyscall(syscall.SYS_PRCTL, syscall.PR_SET_TIMERSLACK, uintptr(timerSlack), 0); errno != 0 {
		return
	}
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0)+1, 3))
}
