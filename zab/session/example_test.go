package session_test

import (
	"fmt"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/session"
)

// Two sessions of 4 s, and ticks of 2 s; one client was heard of meanwhile.
func ExampleTracker() {
	t := session.NewTracker(2000)
	t.Add(1, 4000, 0)
	t.Add(2, 4000, 0)
	lastHeard := func(id zab.SessionID) int64 {
		if id == 2 {
			return 3500
		}
		return 0
	}
	for now := int64(2000); now <= 8000; now += 2000 {
		fmt.Println(now, t.Expire(now, lastHeard))
	}
	// Output:
	// 2000 []
	// 4000 []
	// 6000 [0x1]
	// 8000 [0x2]
}
