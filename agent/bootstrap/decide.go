package bootstrap

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/paddockio/paddock/zab"
)

// A Stored is what a host must not forget. The zero Stored is a new disk, but
// for Node, which comes first.
type Stored struct {
	Node NodeID
	// Cluster is the configured name that all of this is about.
	Cluster string
	// Seen is an ensemble that is known to exist, from the moment on when it is
	// first seen: a host that knows of one helps to form no other.
	Seen ClusterID
	// List was acknowledged, if not nil. It is never replaced by another one.
	List *List
	// Membership, if not nil, is final.
	Membership *Membership
}

// A Membership is a host's place in an ensemble.
type Membership struct {
	Cluster ClusterID
	ID      zab.ServerID
	// Ensemble is the newest list that this host has heard of from its server. It
	// is not changed.
	Ensemble *zab.Ensemble
}

// A View is all that a decision depends on.
type View struct {
	// Self is this host. Its State, Cluster, Hash and Version do not count: they
	// follow from Stored and from the decision.
	Self   Host
	Stored Stored
	// Data: the server's directory is not empty.
	Data bool
	// Others are the hosts that were ever heard of, with the newest that came
	// from each. In any order; it may be old.
	Others []Seen
	// Join has an element for every host of the join list.
	Join []JoinHost
}

// A Seen is another host.
type Seen struct {
	Host
	// Alive: gossip reaches it, or believes so.
	Alive bool
}

// A JoinHost is one element of the join list.
type JoinHost struct {
	Entry string // as it is configured
	// Nodes are who is at its addresses, among the others that are alive and this
	// host itself.
	Nodes []NodeID
	// Reached: there is a host at all of its addresses.
	Reached bool
}

// A Kind is a kind of Verdict.
type Kind uint8

// The kinds.
const (
	// Wait for more: Reason says for what.
	Wait Kind = iota
	// Propose: announce that this host would acknowledge List. Reason says for
	// whom that waits.
	Propose
	// Acknowledge: store List, durably, then decide again.
	Acknowledge
	// Form: everybody on the stored list has acknowledged it. Store the
	// membership, then start the server.
	Form
	// Join: find a place on the list of Cluster, which runs.
	Join
	// Done: the stored membership holds.
	Done
)

// A Verdict is what a host does next.
type Verdict struct {
	Kind    Kind
	List    *List
	Cluster ClusterID
	Reason  string
}

func wait(format string, args ...any) Verdict {
	return Verdict{Kind: Wait, Reason: fmt.Sprintf(format, args...)}
}

// Decide says what a host does next. Equal views give equal verdicts.
//
// What it holds, whatever the views are and however old:
//
//	B1  A host acknowledges one list at most, and none once it knows of an
//	    ensemble or has data.
//	B2  Form needs the acknowledgement of everybody on the list, so of two lists
//	    that share a host one at most is formed.
//	B3  A host acknowledges no list without all the voters at the addresses of its
//	    join list. So two lists without a common host would need join lists that
//	    have none in common either.
//	B4  An ensemble that is seen is never forgotten, and joined instead of forming
//	    another; nor is one formed with a host in reach that has seen one.
func Decide(v View) Verdict {
	if v.Stored.Membership != nil {
		return Verdict{Kind: Done, Cluster: v.Stored.Membership.Cluster}
	}
	found := v.ensembles()
	if l := v.Stored.List; l != nil {
		return v.acknowledged(l, found)
	}
	switch {
	case len(found) > 1:
		return wait("two ensembles gossip as %q: %s; give one of them another bootstrap.cluster", v.Stored.Cluster, v.describe(found))
	case len(found) == 1:
		return Verdict{Kind: Join, Cluster: found[0]}
	case v.Data:
		return wait("the data directory has data but no list of servers: a first ensemble is never formed over data; waiting for a server of its ensemble")
	case v.Self.Role == RoleObserver:
		return wait("no ensemble is there yet, and an observer does not form one")
	case !v.Self.candidate(): // an auto or voter without Expect
		return wait("no ensemble is there yet, and bootstrap.expect is not set, so this host does not form one")
	}
	return v.form()
}

// ensembles returns the clusters that are known to exist, sorted. That they were
// formed once is enough: a dead member is a member that may come back.
func (v *View) ensembles() []ClusterID {
	set := map[ClusterID]bool{}
	if v.Stored.Seen != (ClusterID{}) {
		set[v.Stored.Seen] = true
	}
	for _, o := range v.Others {
		if o.State == Member {
			set[o.Cluster] = true
		}
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b ClusterID) int { return slices.Compare(a[:], b[:]) })
}

// acknowledged waits until the stored list is formed.
func (v *View) acknowledged(l *List, found []ClusterID) Verdict {
	hash, id := l.Hash(), l.ClusterID()
	switch formed := slices.Contains(found, id); {
	case v.Data && formed:
		return Verdict{Kind: Join, Cluster: id} // its server looks for itself on the list
	case v.Data:
		return wait("this host has acknowledged the list %s, which is not formed, but its data directory has data: a first ensemble is never formed over data", l)
	case formed:
		return Verdict{Kind: Form, List: l, Cluster: id}
	}
	var missing, elsewhere []string
	var dead []ClusterID
	for _, s := range l.Seats {
		if s.Node == v.Self.Node {
			continue
		}
		switch o := v.other(s.Node); {
		case o.State == Member:
			// It acknowledged another list or none: this one can never be formed.
			dead = append(dead, o.Cluster)
		case o.State == Acknowledged && o.Hash == hash:
		case o.State == Acknowledged:
			elsewhere = append(elsewhere, s.Name)
		default:
			missing = append(missing, s.Name)
		}
	}
	switch {
	case len(found) == 1 && len(dead) > 0:
		return Verdict{Kind: Join, Cluster: found[0]}
	case len(found) > 0:
		return wait("this host has acknowledged the list %s, which is not formed, but there is another ensemble: %s", l, v.describe(found))
	case len(elsewhere) > 0:
		return wait("this host has acknowledged the list %s, but %s another one: none of the two can be formed; stop all of these agents, make sure that no server has data, and delete %s in their data directories",
			l, strings.Join(elsewhere, ", "), FileName)
	case len(missing) > 0:
		return wait("%d of %d have acknowledged the list %s: waiting for %s", len(l.Seats)-len(missing), len(l.Seats), l, strings.Join(missing, ", "))
	}
	return Verdict{Kind: Form, List: l, Cluster: id}
}

// form looks for the first list.
func (v *View) form() Verdict {
	expect := v.Self.Expect
	candidates := map[NodeID]Host{v.Self.Node: v.Self}
	for _, o := range v.others() {
		switch {
		case !o.Alive:
		case o.State == Holding:
			return wait("%s has data but no list of servers: a first ensemble is never formed over data", o.Name)
		case o.State == Joining:
			return wait("%s knows of the ensemble %.8s: waiting to see it too", o.Name, o.Cluster.String())
		case o.candidate() && o.Expect != expect:
			return wait("%s expects %d hosts and this one %d: bootstrap.expect must be equal", o.Name, o.Expect, expect)
		case o.candidate():
			candidates[o.Node] = o.Host
		}
	}

	// The voters of the join list have a place for sure.
	chosen := map[NodeID]Host{}
	var unreached []string
	for _, j := range v.Join {
		if !j.Reached {
			unreached = append(unreached, j.Entry)
		}
		for _, n := range j.Nodes {
			if h, ok := candidates[n]; ok {
				chosen[n] = h
			}
		}
	}
	if len(unreached) > 0 {
		return wait("%d of %d expected hosts seen: waiting for %s", min(len(candidates), expect), expect, strings.Join(unreached, ", "))
	}
	if len(v.Join) > 0 && len(chosen) == 0 {
		return wait("no host of bootstrap.join is to vote: at least one must")
	}
	if len(chosen) < expect {
		chosen[v.Self.Node] = v.Self
	}
	switch {
	case len(chosen) > expect:
		return wait("bootstrap.join has %d hosts that are to vote, and bootstrap.expect is %d", len(chosen), expect)
	case len(chosen) == expect:
		// The join list says who, so nobody else is asked.
	case len(candidates) < expect:
		return wait("%d of %d expected hosts seen: waiting for %d more", len(candidates), expect, expect-len(candidates))
	case len(candidates) > expect:
		return wait("%d hosts are to vote (%s) and %d are expected: set zab.role to observer for the others, or name all voters in bootstrap.join",
			len(candidates), names(candidates), expect)
	default:
		chosen = candidates
	}
	if _, ok := chosen[v.Self.Node]; !ok {
		return wait("bootstrap.join names the %d voters, %s: waiting for them to form the ensemble", expect, names(chosen))
	}
	l, err := newList(v.Stored.Cluster, slices.Collect(maps.Values(chosen)))
	if err != nil {
		return wait("no list can be made: %v", err)
	}
	return v.propose(l)
}

// propose acknowledges a list when all on it would do so.
func (v *View) propose(l *List) Verdict {
	hash := l.Hash()
	var behind []string
	for _, s := range l.Seats {
		if s.Node == v.Self.Node {
			continue
		}
		switch o := v.other(s.Node); {
		case o.State == Acknowledged && o.Hash != hash:
			return wait("%s has acknowledged another list than %s, so this one cannot be formed: see the status of %s", s.Name, l, s.Name)
		case (o.State == Proposing || o.State == Acknowledged) && o.Hash == hash:
		default:
			behind = append(behind, s.Name)
		}
	}
	if len(behind) > 0 {
		return Verdict{Kind: Propose, List: l, Reason: fmt.Sprintf("all %d expected hosts seen: waiting until %s sees the same ones, %s", len(l.Seats), strings.Join(behind, ", "), l)}
	}
	return Verdict{Kind: Acknowledge, List: l}
}

// Announce returns what a host tells about itself after a verdict.
func (v *View) Announce(d Verdict) Host {
	h := v.Self
	h.State, h.Cluster, h.Hash, h.Version = Seeking, ClusterID{}, Hash{}, 0
	switch m := v.Stored.Membership; {
	case m != nil:
		h.State, h.ID, h.Cluster, h.Hash, h.Version = Member, m.ID, m.Cluster, ensembleHash(m.Ensemble), m.Ensemble.Version
	case d.Kind == Join:
		h.State, h.Cluster = Joining, d.Cluster
	case v.Stored.List != nil:
		h.State, h.Hash = Acknowledged, v.Stored.List.Hash()
	case v.Data:
		h.State = Holding
	case d.Kind == Propose || d.Kind == Acknowledge: // not stored yet, so not promised
		h.State, h.Hash = Proposing, d.List.Hash()
	}
	return h
}

// others returns the others in the order of their names.
func (v *View) others() []Seen {
	return slices.SortedFunc(slices.Values(v.Others), func(a, b Seen) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Node[:], b.Node[:]))
	})
}

// other returns a host, the zero Seen if it was never heard of.
func (v *View) other(n NodeID) Seen {
	i := slices.IndexFunc(v.Others, func(o Seen) bool { return o.Node == n })
	if i < 0 {
		return Seen{}
	}
	return v.Others[i]
}

// describe names ensembles by their members.
func (v *View) describe(found []ClusterID) string {
	var parts []string
	for _, c := range found {
		var who []string
		for _, o := range v.others() {
			if o.State == Member && o.Cluster == c {
				who = append(who, o.Name)
			}
		}
		parts = append(parts, fmt.Sprintf("%.8s (%s)", c.String(), cmp.Or(strings.Join(who, ", "), "seen before")))
	}
	return strings.Join(parts, " and ")
}

func names(hosts map[NodeID]Host) string {
	var list []string
	for _, h := range hosts {
		list = append(list, h.Name)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// String names the hosts in the order of their ids.
func (l *List) String() string {
	var list []string
	for _, s := range l.Seats {
		list = append(list, fmt.Sprintf("%d=%s", s.ID, s.Name))
	}
	return "[" + strings.Join(list, " ") + "]"
}
