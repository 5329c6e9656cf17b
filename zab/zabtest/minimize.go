package zabtest

import "slices"

// Minimize plays a run that has failed again and again with fewer faults, fewer
// operations and fewer clients, as long as the same rule breaks, and returns the
// smallest one that it finds in at most budget plays. Its Options give it again.
func Minimize(r Result, budget int) Result {
	if r.Violation == nil {
		return r
	}
	m := minimizer{best: r, rule: r.Violation.Rule, left: budget}
	m.try(func(o *Options) { o.Plan = m.happened() })
	m.faults()
	m.number(func(o *Options) *int { return &o.Clients }, m.best.Stats.Clients)
	m.number(func(o *Options) *int { return &o.Ops }, m.best.Stats.Ops)
	m.faults()
	m.spans()
	return m.best
}

type minimizer struct {
	best Result
	rule string
	left int
}

// try keeps a change if the rule still breaks with it.
func (m *minimizer) try(change func(*Options)) bool {
	if m.left <= 0 {
		return false
	}
	m.left--
	o := m.best.Options
	o.Plan = slices.Clone(m.best.Plan)
	change(&o)
	r := Run(o)
	if r.Violation == nil || r.Violation.Rule != m.rule {
		return false
	}
	r.Plan = o.Plan
	m.best = r
	return true
}

// happened are the faults that were injected before the rule broke.
func (m *minimizer) happened() []Fault {
	list := []Fault{}
	for _, f := range m.best.Plan {
		if f.At <= m.best.Violation.At {
			list = append(list, f)
		}
	}
	return list
}

// faults leaves out parts of the plan: halves first, then smaller ones.
func (m *minimizer) faults() {
	for size := (len(m.best.Plan) + 1) / 2; size > 0; size /= 2 {
		for at := 0; at < len(m.best.Plan); {
			end := min(at+size, len(m.best.Plan))
			if !m.try(func(o *Options) { o.Plan = slices.Delete(o.Plan, at, end) }) {
				at = end
			}
		}
	}
}

// spans shortens faults.
func (m *minimizer) spans() {
	for i := range m.best.Plan {
		for m.best.Plan[i].For > 0 && m.try(func(o *Options) { o.Plan[i].For /= 4 }) {
		}
	}
}

// number lowers a number of the options that is now at value.
func (m *minimizer) number(of func(*Options) *int, value int) {
	for step := value / 2; step > 0; step /= 2 {
		for value-step >= 1 && m.try(func(o *Options) { *of(o) = value - step }) {
			value -= step
		}
	}
}
