package zabtest_test

import (
	"fmt"
	"time"

	"github.com/paddockio/paddock/zab/zabtest"
)

// A run is known by its options; what it says can be repeated.
func ExampleRun() {
	r := zabtest.Run(zabtest.Options{Seed: 1, Servers: 3, Faulty: time.Minute})
	if r.Violation != nil {
		fmt.Println(zabtest.Minimize(r, 200).Violation)
	}
	fmt.Println("all rules held:", r.Violation == nil, r.Stats.Writes > 100)
	// Output: all rules held: true true
}
