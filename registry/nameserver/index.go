package nameserver

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// An index maps the names below one word of the domain to services (or
// applications). It follows the directory's sorted list by its differences, so
// that a change costs what changed, and knows of every ancestor and of every
// last segment how many names stand behind it.
type index struct {
	log *slog.Logger

	mu    sync.RWMutex
	fresh bool   // gen is set
	gen   uint64 // the generation that list was read at
	list  []string
	nodes map[string]*node // by labels in wire format, lower case, no root
}

// A node is a name that exists. Without an exact name and without an alias it
// holds no data: it is an ancestor only.
type node struct {
	exact []string // names spelled like this but for letter case: one, or a collision
	last  []string // dotted names whose last segment this is
	below int      // names strictly below
}

func newIndex(log *slog.Logger) *index {
	return &index{log: log, nodes: make(map[string]*node)}
}

type found int

const (
	missing  found = iota // no such name
	ancestor              // exists, but stands for nothing or for several
	exact                 // stands for one
)

// find returns what the labels stand for. A name that several services could
// mean, as their letter case or their packages alone tell them apart, stands for
// none of them: traffic must not reach the wrong one.
func (x *index) find(labels []byte) (string, found) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := x.nodes[string(labels)]
	switch {
	case n == nil:
		return "", missing
	case len(n.exact) == 1:
		return n.exact[0], exact
	case len(n.exact) == 0 && len(n.last) == 1:
		return n.last[0], exact
	}
	return "", ancestor
}

// sync brings the index up to generation gen. list may already be newer: the
// caller compares generations after it is done.
func (x *index) sync(gen uint64, list func() []string) {
	x.mu.RLock()
	ok := x.fresh && x.gen == gen
	x.mu.RUnlock()
	if ok {
		return
	}
	for _, n := range x.update(gen, list) {
		x.log.LogAttrs(context.Background(), n.level, n.msg, n.attrs...)
	}
}

// A note is what is to be logged after the lock is free.
type note struct {
	level slog.Level
	msg   string
	attrs []slog.Attr
}

func (x *index) update(gen uint64, list func() []string) []note {
	x.mu.Lock()
	defer x.mu.Unlock()
	next := list()
	if len(next) > 0 && len(next) == len(x.list) && &next[0] == &x.list[0] {
		x.fresh, x.gen = true, gen // the very same list
		return nil
	}
	if !strictlySorted(next) {
		next = slices.Compact(slices.Sorted(slices.Values(next)))
	}
	var notes []note
	old, now := x.list, next
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(old) > 0 && len(now) > 0 && old[0] == now[0]:
			old, now = old[1:], now[1:]
		case len(now) == 0 || len(old) > 0 && old[0] < now[0]:
			x.changeLocked(old[0], false)
			old = old[1:]
		default:
			notes = append(notes, x.changeLocked(now[0], true)...)
			now = now[1:]
		}
	}
	x.fresh, x.gen, x.list = true, gen, next
	return notes
}

// changeLocked adds or removes a name of the directory. It tells of names that
// nobody or no longer one alone can be reached by.
func (x *index) changeLocked(name string, add bool) (notes []note) {
	var buf [maxName]byte
	labels, err := appendName(buf[:0], name)
	if err == nil && len(labels)+1 > maxName {
		err = errLongName
	}
	if err != nil {
		return []note{{slog.LevelWarn, "name cannot be reached by dns", []slog.Attr{slog.String("name", name), slog.Any("err", err)}}}
	}
	x.touchLocked(labels, func(n *node) {
		n.exact = changed(n.exact, name, add)
		if len(n.exact) == 2 {
			notes = append(notes, note{slog.LevelWarn, "names differ in letter case only, dns answers for neither",
				[]slog.Attr{slog.Any("names", slices.Clone(n.exact))}})
		}
	})
	for rest := labels[1+labels[0]:]; len(rest) > 0; rest = rest[1+rest[0]:] {
		lastSegment := len(rest) == 1+int(rest[0])
		x.touchLocked(rest, func(n *node) {
			if add {
				n.below++
			} else {
				n.below--
			}
			if !lastSegment {
				return
			}
			n.last = changed(n.last, name, add)
			if len(n.last) == 2 {
				notes = append(notes, note{slog.LevelInfo, "several names end in one segment, it is no dns alias any more",
					[]slog.Attr{slog.Any("names", slices.Clone(n.last))}})
			}
		})
	}
	return notes
}

func (x *index) touchLocked(labels []byte, change func(*node)) {
	n := x.nodes[string(labels)]
	if n == nil {
		n = new(node)
		x.nodes[string(labels)] = n
	}
	if change(n); n.below == 0 && len(n.exact) == 0 {
		delete(x.nodes, string(labels))
	}
}

// changed returns list, which is sorted, with or without name.
func changed(list []string, name string, add bool) []string {
	i, have := slices.BinarySearch(list, name)
	switch {
	case add && !have:
		return slices.Insert(list, i, name)
	case !add && have:
		return slices.Delete(list, i, i+1)
	}
	return list
}

func strictlySorted(list []string) bool {
	for i := 1; i < len(list); i++ {
		if list[i-1] >= list[i] {
			return false
		}
	}
	return true
}
