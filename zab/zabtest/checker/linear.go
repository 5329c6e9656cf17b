package checker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// LinearOptions say how Linearizable searches. The zero value is a run that begins
// with an empty tree.
type LinearOptions struct {
	// Tree is the state before the history. It is only read. nil: nothing is there.
	Tree *znode.Tree

	// NoReads leaves reads out, also those behind a sync: for servers whose sync is
	// not a round of a quorum.
	NoReads bool

	// Limit is how long to search for one znode; if that is not enough, the history
	// is not accepted. Default 10s.
	Limit time.Duration
}

// LinearReport says how much Linearizable looked at.
type LinearReport struct {
	Registers  int // znodes checked as registers
	Sequences  int // znodes whose children have numbers
	Operations int
	Unknown    int // of these, without an outcome
}

// Linearizable searches, for each znode alone, an order of the updates and of the
// reads behind a sync that explains their answers and keeps to real time. It looks
// at no zxid. Updates without an outcome may be anywhere in the order or nowhere;
// give it the history that Resolve returns, or they are so many that the search
// ends at its limit.
//
// A znode is left out if more than its own operations change it: it was ever
// ephemeral, a container or part of a multi, has children or siblings with
// numbers, or its parent was deleted. Of a znode whose children have numbers it is
// checked that the numbers rise.
//
// The error is Violations, and about one znode each.
func Linearizable(h *History, opt LinearOptions) (LinearReport, error) {
	l := &linear{h: h, opt: opt, registers: map[string][]porcupine.Operation{}, sequences: map[string][]porcupine.Operation{}}
	if l.opt.Limit == 0 {
		l.opt.Limit = 10 * time.Second
	}
	l.collect()
	for _, path := range slices.Sorted(maps.Keys(l.registers)) {
		l.report.Registers++
		l.search(path, l.register(path), l.registers[path])
	}
	for _, path := range slices.Sorted(maps.Keys(l.sequences)) {
		l.report.Sequences++
		l.rises(path, l.sequences[path])
	}
	if len(l.found) > 0 {
		return l.report, l.found
	}
	return l.report, nil
}

type linear struct {
	h                    *History
	opt                  LinearOptions
	report               LinearReport
	registers, sequences map[string][]porcupine.Operation
	found                Violations
}

// input is an operation as the models see it.
type input struct {
	e       *Entry
	op      wire.Op
	data    string
	version int32
	number  int64 // of a name with a number
}

// output is its answer.
type output struct {
	known   bool
	err     wire.Code
	value   string
	version int32
	hasStat bool
}

// cell is the state of a register.
type cell struct {
	exists  bool
	value   string
	version int32
}

// register is the model of a znode that has no children.
func (l *linear) register(path string) porcupine.Model {
	var first cell
	if l.opt.Tree != nil {
		if data, st, code := l.opt.Tree.Get(path, super); code == wire.OK {
			first = cell{true, string(data), st.Version}
		}
	}
	return porcupine.Model{
		Init: func() any { return first },
		Step: func(state, in, out any) (bool, any) {
			s, i, o := state.(cell), in.(input), out.(output)
			next, want := s.step(i)
			if !o.known {
				return true, next
			}
			if o.err != want.err || o.hasStat && o.err == wire.OK && o.version != want.version ||
				i.op == wire.OpGetData && o.err == wire.OK && o.value != want.value {
				return false, s
			}
			return true, next
		},
	}
}

// step carries out an operation.
func (s cell) step(i input) (cell, output) {
	fail := func(code wire.Code) (cell, output) { return s, output{err: code} }
	switch i.op {
	case wire.OpCreate, wire.OpCreate2:
		if s.exists {
			return fail(wire.ErrNodeExists)
		}
		return cell{true, i.data, 0}, output{}
	}
	switch {
	case !s.exists:
		return fail(wire.ErrNoNode)
	case i.op == wire.OpGetData || i.op == wire.OpExists:
		return s, output{value: s.value, version: s.version}
	case i.version != -1 && i.version != s.version:
		return fail(wire.ErrBadVersion)
	case i.op == wire.OpDelete:
		return cell{}, output{}
	}
	return cell{true, i.data, s.version + 1}, output{version: s.version + 1}
}

func parentOf(path string) string { return path[:max(strings.LastIndexByte(path, '/'), 1)] }

// alone finds the paths that only their own operations change.
func (l *linear) alone() (shared map[string]bool, gone map[string]bool) {
	shared, gone = map[string]bool{}, map[string]bool{}
	numbered := map[string]bool{}
	paths := map[string]bool{}
	var look func(a *Args, r *Result, multi bool)
	look = func(a *Args, r *Result, multi bool) {
		for i := range a.Sub {
			if a.Op == wire.OpMulti {
				look(&a.Sub[i], &Result{}, true)
			}
		}
		switch a.Op {
		case wire.OpCreate, wire.OpCreate2, wire.OpCreateContainer, wire.OpCreateTTL:
			if a.Path == "" {
				return
			}
			shared[parentOf(a.Path)] = true
			if a.Mode.IsSequential() {
				numbered[parentOf(a.Path)] = true
				return
			}
			if a.Mode != wire.Persistent {
				shared[a.Path] = true
			}
		case wire.OpDelete:
			if r.Err == wire.OK {
				gone[a.Path] = true
			}
		case wire.OpSetData, wire.OpGetData, wire.OpExists:
		default:
			return
		}
		paths[a.Path] = true
		if multi {
			shared[a.Path] = true
		}
	}
	for _, e := range l.h.Entries {
		if e.Kind == Request {
			look(&e.Args, &e.Result, false)
		}
	}
	for path := range paths {
		if path != "" && (numbered[parentOf(path)] || gone[parentOf(path)]) {
			shared[path] = true
		}
	}
	return shared, gone
}

// collect sorts the operations by znode.
func (l *linear) collect() {
	shared, gone := l.alone()
	var end Time
	for _, e := range l.h.Entries {
		end = max(end, e.Call+1)
		if e.Known() {
			end = max(end, e.Return+1)
		}
	}
	before := map[int]*Entry{} // by connection: the last reply
	for _, e := range l.h.Entries {
		if e.Kind != Request {
			continue
		}
		last := before[e.Conn]
		if e.Known() {
			before[e.Conn] = e
		}
		if undecided(e.Err) || e.Err == wire.ErrNoAuth {
			continue
		}
		in := input{e: e, op: e.Op, data: string(e.Data), version: e.Version}
		out := output{known: e.Known() || e.Resolved, err: e.Err, version: e.Stat.Version}
		call, ret := e.Call, end
		if e.Known() {
			ret = e.Return
		}
		path := e.Path
		switch e.Op {
		case wire.OpCreate, wire.OpCreate2:
			if e.Mode.IsSequential() {
				l.number(e, call, ret, gone)
				continue
			}
			out.hasStat = e.Op == wire.OpCreate2 && e.Known()
		case wire.OpDelete:
		case wire.OpSetData:
			out.hasStat = true
		case wire.OpGetData, wire.OpExists:
			if l.opt.NoReads || !e.Known() || last == nil || last.Op != wire.OpSync || last.Err != wire.OK {
				continue
			}
			call = last.Call // the sync is part of the read
			out.hasStat, out.value = true, string(e.Value)
		default:
			continue
		}
		if shared[path] || e.Err == wire.ErrBadArguments {
			continue
		}
		l.registers[path] = append(l.registers[path], porcupine.Operation{
			ClientId: e.Conn, Input: in, Call: int64(call), Output: out, Return: int64(ret),
		})
	}
}

// number enters the create of a name with a number.
func (l *linear) number(e *Entry, call, ret Time, gone map[string]bool) {
	parent := parentOf(e.Path)
	digits, ok := strings.CutPrefix(e.Created, e.Path)
	if !ok || e.Created == "" || e.Err != wire.OK || gone[parent] {
		return
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		l.found = append(l.found, &Violation{"S24", e.Zxid, entries(e), fmt.Sprintf("%s is not %s and a number", e.Created, e.Path)})
		return
	}
	l.sequences[parent] = append(l.sequences[parent], porcupine.Operation{
		ClientId: e.Conn, Input: input{e: e, op: e.Op, number: n}, Call: int64(call), Output: output{}, Return: int64(ret),
	})
}

// rises checks names with numbers: each has its own, and none is below that of an
// operation that had ended when it began. The order by number is the only one that
// may explain them, so nothing is searched.
func (l *linear) rises(path string, ops []porcupine.Operation) {
	l.report.Operations += len(ops)
	slices.SortFunc(ops, func(a, b porcupine.Operation) int {
		return cmp.Compare(a.Input.(input).number, b.Input.(input).number)
	})
	var latest porcupine.Operation // of the lower numbers, the one that began last
	for i, o := range ops {
		e := o.Input.(input).e
		switch {
		case i == 0:
			latest = o
			continue
		case ops[i-1].Input.(input).number == o.Input.(input).number:
			l.found = append(l.found, &Violation{"S24", e.Zxid, entries(ops[i-1].Input.(input).e, e), path + ": two names have one number"})
		case o.Return < latest.Call:
			l.found = append(l.found, &Violation{"linearizable", e.Zxid, entries(e, latest.Input.(input).e), path + ": the second had a lower number and began when the first had ended"})
		}
		if o.Call > latest.Call {
			latest = o
		}
	}
}

// search looks for an order.
func (l *linear) search(path string, model porcupine.Model, ops []porcupine.Operation) {
	l.report.Operations += len(ops)
	unknown := 0
	for _, o := range ops {
		if e := o.Input.(input).e; !e.Known() && !e.Resolved {
			unknown++
		}
	}
	l.report.Unknown += unknown
	res, info := porcupine.CheckOperationsVerbose(model, ops, l.opt.Limit)
	switch res {
	case porcupine.Ok:
	case porcupine.Unknown:
		l.found = append(l.found, &Violation{"undecided", 0, nil, fmt.Sprintf(
			"%s: no order of its %d operations, %d of them without an outcome, was found or ruled out in %v", path, len(ops), unknown, l.opt.Limit)})
	default:
		l.found = append(l.found, &Violation{"linearizable", 0, stuck(ops, info), path + ": no order explains the answers; the last that fits, and those that then do not"})
	}
}

// stuck names the operations around the place where the longest order ends: the
// last in it, and those that must come next.
func stuck(ops []porcupine.Operation, info porcupine.LinearizationInfo) []*Entry {
	var longest []porcupine.Operation
	for _, part := range info.PartialLinearizationsOperations() {
		for _, order := range part {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	var list []*Entry
	in := map[*Entry]bool{}
	for _, o := range longest {
		in[o.Input.(input).e] = true
	}
	if n := len(longest); n > 0 {
		list = append(list, longest[n-1].Input.(input).e)
	}
	var rest []porcupine.Operation
	end := int64(Never)
	for _, o := range ops {
		if !in[o.Input.(input).e] {
			rest = append(rest, o)
			end = min(end, o.Return)
		}
	}
	slices.SortStableFunc(rest, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	for _, o := range rest {
		if o.Call <= end && len(list) < 6 {
			list = append(list, o.Input.(input).e)
		}
	}
	return list
}
