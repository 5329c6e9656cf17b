package zabtest

import "fmt"

// The rules that are checked, by their numbers in the reliability reference:
// S1 to S30 for what must never happen, L1 to L10 for what must happen in time.
const (
	safetyRules   = 30
	livenessRules = 10
)

// checks counts how often each rule was looked at: a rule that is never looked at
// proves nothing.
type checks [safetyRules + livenessRules]int

// safe counts a look at rule S n, live one at L n.
func (c *checks) safe(n ...int) {
	for _, n := range n {
		c[n-1]++
	}
}

func (c *checks) live(n int) { c[safetyRules+n-1]++ }

// byName returns the counts under the names of the rules, all of them.
func (c *checks) byName() map[string]int {
	m := map[string]int{}
	for i, n := range c {
		if i < safetyRules {
			m[fmt.Sprintf("S%d", i+1)] = n
		} else {
			m[fmt.Sprintf("L%d", i+1-safetyRules)] = n
		}
	}
	return m
}
