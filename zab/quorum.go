package zab

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// hierarchical reports whether groups and weights count instead of heads.
func (e *Ensemble) hierarchical() bool { return len(e.Groups)+len(e.Weights) > 0 }

// Weight returns what a server counts within its group. Without groups it is 1.
// A server of weight 0 is never voted for by others.
func (e *Ensemble) Weight(id ServerID) int64 {
	if w, ok := e.Weights[id]; ok {
		return w
	}
	if e.hierarchical() && !e.IsVoter(id) {
		return 0
	}
	return 1
}

// IsQuorum reports whether the voters for which acks is true are a quorum: more
// than half of the voters (QuorumMaj); with groups, more than half of the weight
// in more than half of those groups that have any (QuorumHierarchical).
func (e *Ensemble) IsQuorum(acks func(ServerID) bool) bool {
	if !e.hierarchical() {
		voters, acked := 0, 0
		for i := range e.Members {
			if m := &e.Members[i]; !m.Observer {
				voters++
				if acks(m.ID) {
					acked++
				}
			}
		}
		return acked > voters/2
	}
	groups, won := 0, 0
	for _, ids := range e.Groups { // any order: only counted
		var all, acked int64
		for _, id := range ids {
			w := e.Weight(id)
			all += w
			if w > 0 && e.IsVoter(id) && acks(id) {
				acked += w
			}
		}
		if all > 0 {
			groups++
		}
		if acked > all/2 {
			won++
		}
	}
	return won > groups/2
}

// Equal reports whether both list the same servers, groups and weights.
func (e *Ensemble) Equal(o *Ensemble) bool { return slices.Equal(e.Lines(), o.Lines()) }

// Diff says how another server's list differs from this one, for people: lines
// that are only here with a minus, those only there with a plus. Where a list has
// a wildcard as a host, which servers use in their own line, any host is right.
func (e *Ensemble) Diff(o *Ensemble) []string {
	here, there := e.Lines(), o.Lines()
	for _, m := range e.Members {
		if n, ok := o.Member(m.ID); ok && sameMember(m, n) {
			drop := func(line string) bool { return strings.HasPrefix(line, fmt.Sprintf("server.%d=", m.ID)) }
			here, there = slices.DeleteFunc(here, drop), slices.DeleteFunc(there, drop)
		}
	}
	var diff []string
	for _, l := range here {
		if !slices.Contains(there, l) {
			diff = append(diff, "-"+l)
		}
	}
	for _, l := range there {
		if !slices.Contains(here, l) {
			diff = append(diff, "+"+l)
		}
	}
	return diff
}

// sameMember compares two lines of a server; a wildcard is like any host.
func sameMember(a, b Member) bool {
	same := func(x, y MemberAddr) bool {
		return x.QuorumPort == y.QuorumPort && x.ElectionPort == y.ElectionPort &&
			(strings.EqualFold(x.Host, y.Host) || isWildcard(x.Host) || isWildcard(y.Host))
	}
	return a.Observer == b.Observer && a.ClientAddr == b.ClientAddr && slices.EqualFunc(a.Addrs, b.Addrs, same)
}

func isWildcard(host string) bool {
	return host == "0.0.0.0" || host == "0:0:0:0:0:0:0:0"
}

// Apply returns the list that a reconfig makes of this one: the whole list
// members, if that is not empty, or the servers that leave and join, both
// separated by commas. With standalone (standaloneEnabled) two voters must
// remain, otherwise one. The version of the result is the caller's to set. The
// order of the checks is ZooKeeper's; an error that is ErrNotNumber is its
// MARSHALLINGERROR, any other its BADARGUMENTS (class PrepRequestProcessor).
func (e *Ensemble) Apply(joining, leaving, members string, standalone bool) (*Ensemble, error) {
	var next *Ensemble
	var err error
	if members != "" {
		next, err = ParseEnsemble(strings.ReplaceAll(members, ",", "\n"))
	} else {
		next, err = e.step(joining, leaving)
	}
	if err != nil {
		return nil, err
	}
	least := 1
	if standalone {
		least = 2
	}
	if n := len(next.Voters()); n < least {
		return nil, fmt.Errorf("%d voters would be left, at least %d are needed", n, least)
	}
	return next, nil
}

// step takes servers out and in.
func (e *Ensemble) step(joining, leaving string) (*Ensemble, error) {
	if e.hierarchical() {
		return nil, errors.New("servers join and leave only where majorities count: with groups the whole list is wanted")
	}
	next := &Ensemble{Members: slices.Clone(e.Members)}
	remove := func(id ServerID) {
		next.Members = slices.DeleteFunc(next.Members, func(m Member) bool { return m.ID == id })
	}
	for text := range items(leaving) {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, &numberError{fmt.Sprintf("wants the id of a server that leaves, got %q", text)}
		}
		remove(ServerID(id))
	}
	for text := range items(joining) {
		key, value, ok := strings.Cut(text, "=")
		if key, value = strings.TrimSpace(key), strings.TrimSpace(value); !ok || key == "" || value == "" {
			return nil, fmt.Errorf("wants server.N=host:port:port;port, got %q", text)
		}
		number := key[strings.LastIndexByte(key, '.')+1:] // ZooKeeper does not look at what is before it
		id, err := strconv.ParseInt(number, 10, 64)
		if err != nil || id < 0 {
			return nil, &numberError{fmt.Sprintf("wants server.N, got %q", key)}
		}
		m, err := ParseMember(ServerID(id), value)
		if err != nil {
			return nil, err
		}
		if m.ClientAddr == "" {
			return nil, fmt.Errorf("server %d has no client port", id)
		}
		remove(m.ID)
		for _, other := range next.Members {
			if addr := sharedAddr(m, other); addr != "" {
				return nil, fmt.Errorf("servers %d and %d both have the address %s", m.ID, other.ID, addr)
			}
		}
		if err := next.setServer(m.ID, value); err != nil {
			return nil, err
		}
	}
	return next, next.Check()
}

// items goes through a list that is separated by commas.
func items(list string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for item := range strings.SplitSeq(list, ",") {
			if item = strings.TrimSpace(item); item != "" && !yield(item) {
				return
			}
		}
	}
}

// sharedAddr returns an address that two servers have in common, be it for
// servers or for clients. Like ZooKeeper it overlooks those that are not the same
// on every host: wildcards and loopback.
func sharedAddr(a, b Member) string {
	theirs := b.endpoints()
	for _, addr := range a.endpoints() {
		host, _, _ := cutHost(addr)
		if isWildcard(host) || host == "localhost" || host == "0:0:0:0:0:0:0:1" || strings.HasPrefix(host, "127.") {
			continue
		}
		if slices.ContainsFunc(theirs, func(s string) bool { return strings.EqualFold(s, addr) }) {
			return addr
		}
	}
	return ""
}

func (m Member) endpoints() []string {
	var list []string
	for _, a := range m.Addrs {
		list = append(list, joinHost(a.Host, a.QuorumPort), joinHost(a.Host, a.ElectionPort))
	}
	if m.ClientAddr != "" {
		list = append(list, m.ClientAddr)
	}
	return list
}
