package bootstrap

import (
	"slices"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
)

// id makes a node id of a name.
func id(name string) NodeID {
	var n NodeID
	copy(n[:], name)
	return n
}

// voter is a host that has nothing yet and expects three.
func voter(name string) Host {
	return Host{
		Node: id(name), Name: name, Role: RoleAuto, State: Seeking, Expect: 3,
		Addr: zab.MemberAddr{Host: name, QuorumPort: 2888, ElectionPort: 3888}, ClientAddr: "0.0.0.0:2181",
	}
}

func with(h Host, change func(*Host)) Host { change(&h); return h }

func alive(hosts ...Host) []Seen {
	var list []Seen
	for _, h := range hosts {
		list = append(list, Seen{h, true})
	}
	return list
}

func reached(names ...string) []JoinHost {
	var list []JoinHost
	for _, n := range names {
		list = append(list, JoinHost{n + ":7946", []NodeID{id(n)}, true})
	}
	return list
}

func listOf(t *testing.T, hosts ...Host) *List {
	t.Helper()
	l, err := newList("demo", hosts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDecide(t *testing.T) {
	a, b, c, d := voter("a"), voter("b"), voter("c"), voter("d")
	abc := listOf(t, a, b, c)
	says := func(h Host, s State, l *List) Host {
		h.State, h.Hash = s, l.Hash()
		return h
	}
	member := func(h Host, l *List) Host {
		h.State, h.Cluster, h.ID, h.Hash = Member, l.ClusterID(), 9, Hash{9}
		return h
	}
	other := listOf(t, b, c, d)
	stored := func(l *List) Stored { return Stored{List: l} }

	for _, tc := range []struct {
		name   string
		view   View
		want   Kind
		reason string // a part of it
	}{
		{"a host alone waits for the others", View{Self: a}, Wait, "1 of 3 expected hosts seen: waiting for 2 more"},
		{"a join host that does not answer is named",
			View{Self: a, Others: alive(b), Join: append(reached("b"), JoinHost{Entry: "c:7946"})}, Wait, "2 of 3 expected hosts seen: waiting for c:7946"},
		{"dead hosts do not count", View{Self: a, Others: []Seen{{b, true}, {c, false}}}, Wait, "2 of 3"},
		{"all are there but do not know it", View{Self: a, Others: alive(b, c)}, Propose, "waiting until b, c sees"},
		{"one sees other hosts", View{Self: a, Others: alive(says(b, Proposing, abc), says(c, Proposing, other))}, Propose, "until c sees"},
		{"all propose the same", View{Self: a, Others: alive(says(b, Proposing, abc), says(c, Acknowledged, abc))}, Acknowledge, ""},
		{"one has acknowledged another list", View{Self: a, Others: alive(says(b, Proposing, abc), says(c, Acknowledged, other))}, Wait, "c has acknowledged another list"},
		{"four want to vote and nobody says who shall", View{Self: a, Others: alive(b, c, d)}, Wait, "4 hosts are to vote (a, b, c, d) and 3 are expected"},
		{"four want to vote and the join list says who shall", View{Self: a, Others: alive(b, c, d), Join: reached("a", "b", "c")}, Propose, ""},
		{"four want to vote and the join list names the other three", View{Self: a, Others: alive(b, c, d), Join: reached("b", "c")}, Propose, ""},
		{"the join list names others", View{Self: d, Others: alive(a, b, c), Join: reached("a", "b", "c")}, Wait, "names the 3 voters, a, b, c"},
		{"the join list names too many", View{Self: a, Others: alive(b, c, d), Join: reached("a", "b", "c", "d")}, Wait, "bootstrap.join has 4 hosts"},
		{"only an observer is in the join list",
			View{Self: a, Others: alive(b, c, with(d, func(h *Host) { h.Role = RoleObserver })), Join: reached("d")}, Wait, "at least one must"},
		{"expect differs", View{Self: a, Others: alive(b, with(c, func(h *Host) { h.Expect = 5 }))}, Wait, "c expects 5 hosts and this one 3"},
		{"two want the same id",
			View{Self: with(a, func(h *Host) { h.ID = 2 }), Others: alive(with(b, func(h *Host) { h.ID = 2 }), c)}, Wait, "a and b both want the server id 2"},
		{"two have the same address", View{Self: a, Others: alive(b, with(c, func(h *Host) { h.Addr = a.Addr }))}, Wait, "a and c both have the address a:2888"},
		{"two have the same name", View{Self: a, Others: alive(b, with(c, func(h *Host) { h.Name = "a" }))}, Wait, "two hosts are called a"},
		{"somebody has data", View{Self: a, Others: alive(b, with(c, func(h *Host) { h.State = Holding }))}, Wait, "c has data"},
		{"this host has data", View{Self: a, Others: alive(b, c), Data: true}, Wait, "never formed over data"},
		{"an observer waits for an ensemble", View{Self: with(a, func(h *Host) { h.Role = RoleObserver }), Others: alive(b, c)}, Wait, "an observer does not form one"},
		{"without expect nothing is formed", View{Self: with(a, func(h *Host) { h.Expect = 0 }), Others: alive(b, c)}, Wait, "bootstrap.expect is not set"},
		{"one is expected", View{Self: with(a, func(h *Host) { h.Expect = 1 })}, Acknowledge, ""},

		{"the others have not acknowledged", View{Self: a, Stored: stored(abc), Others: alive(says(b, Acknowledged, abc), says(c, Proposing, abc))}, Wait, "waiting for c"},
		{"all have, even if they are gone since", View{Self: a, Stored: stored(abc), Others: []Seen{{says(b, Acknowledged, abc), false}, {says(c, Acknowledged, abc), false}}}, Form, ""},
		{"one knows that all have", View{Self: a, Stored: stored(abc), Others: alive(b, member(c, abc))}, Form, ""},
		{"another list was acknowledged by one of this", View{Self: a, Stored: stored(abc), Others: alive(says(b, Acknowledged, abc), says(c, Acknowledged, other))}, Wait, "but c another one"},
		{"an acknowledged list is kept although other hosts are there", View{Self: a, Stored: stored(abc), Others: alive(b, c, d)}, Wait, "1 of 3 have acknowledged"},
		{"another ensemble is there, and this list may still be formed", View{Self: a, Stored: stored(abc), Others: alive(member(d, other))}, Wait, "but there is another ensemble"},
		{"another ensemble is there, and this list cannot be formed", View{Self: a, Stored: stored(abc), Others: alive(member(c, other))}, Join, ""},
		{"data behind an acknowledged list that was not formed", View{Self: a, Stored: stored(abc), Data: true, Others: alive(says(b, Acknowledged, abc), says(c, Acknowledged, abc))}, Wait, "never formed over data"},
		{"data behind an acknowledged list that others formed", View{Self: a, Stored: stored(abc), Data: true, Others: alive(member(b, abc))}, Join, ""},

		{"an ensemble is joined", View{Self: d, Others: alive(member(a, abc))}, Join, ""},
		{"an ensemble whose members are gone is joined", View{Self: d, Others: []Seen{{member(a, abc), false}}}, Join, ""},
		{"an ensemble that was seen before is waited for", View{Self: d, Stored: Stored{Seen: abc.ClusterID()}, Others: alive(a, b)}, Join, ""},
		{"who knows an ensemble is listened to",
			View{Self: a, Others: alive(b, c, with(d, func(h *Host) { h.State, h.Cluster = Joining, abc.ClusterID() })), Join: reached("a", "b", "c")}, Wait, "d knows of the ensemble"},
		{"data without a list belongs to the ensemble that is there", View{Self: d, Data: true, Others: alive(member(a, abc))}, Join, ""},
		{"two ensembles are one too many", View{Self: a, Others: alive(member(b, abc), member(d, other))}, Wait, "two ensembles gossip"},
		{"a member is a member", View{Self: a, Stored: Stored{Membership: &Membership{Cluster: abc.ClusterID(), ID: 1}}, Others: alive(member(d, other))}, Done, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.view.Stored.Cluster, tc.view.Stored.Node = "demo", tc.view.Self.Node
			got := Decide(tc.view)
			if got.Kind != tc.want || !strings.Contains(got.Reason, tc.reason) {
				t.Errorf("Decide = %d %q, want %d %q", got.Kind, got.Reason, tc.want, tc.reason)
			}
			slices.Reverse(tc.view.Others)
			if again := Decide(tc.view); again.Kind != got.Kind || again.Reason != got.Reason {
				t.Errorf("in another order: %d %q, then %d %q", got.Kind, got.Reason, again.Kind, again.Reason)
			}
		})
	}
}

func TestServerIDsAreGivenByNameAndConfiguration(t *testing.T) {
	for _, tc := range []struct {
		name string
		ids  []zab.ServerID // of c, a, b as configured
		want string
	}{
		{"all free", []zab.ServerID{0, 0, 0}, "[1=a 2=b 3=c]"},
		{"one is configured", []zab.ServerID{1, 0, 0}, "[1=c 2=a 3=b]"},
		{"all are configured", []zab.ServerID{7, 200, 3}, "[3=b 7=c 200=a]"},
	} {
		hosts := []Host{voter("c"), voter("a"), voter("b")}
		for i := range hosts {
			hosts[i].ID = tc.ids[i]
		}
		l := listOf(t, hosts...)
		if got := l.String(); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
		slices.Reverse(hosts)
		if l.Hash() != listOf(t, hosts...).Hash() {
			t.Errorf("%s: the hash depends on the order", tc.name)
		}
	}
}

func TestHashesOfDifferentListsDiffer(t *testing.T) {
	base := func() *List { return listOf(t, voter("a"), voter("b"), voter("c")) }
	seen := map[Hash]string{base().Hash(): "the list"}
	for name, change := range map[string]func(*List){
		"cluster": func(l *List) { l.Cluster = "other" },
		"node":    func(l *List) { l.Seats[1].Node[15] = 1 },
		"name":    func(l *List) { l.Seats[1].Name = "x" },
		"id":      func(l *List) { l.Seats[2].ID = 4 },
		"host":    func(l *List) { l.Seats[1].Addr.Host = "x" },
		"quorum":  func(l *List) { l.Seats[1].Addr.QuorumPort = 1 },
		"elect":   func(l *List) { l.Seats[1].Addr.ElectionPort = 1 },
		"client":  func(l *List) { l.Seats[1].ClientAddr = "" },
		"fewer":   func(l *List) { l.Seats = l.Seats[:2] },
	} {
		l := base()
		change(l)
		if other, twice := seen[l.Hash()]; twice {
			t.Errorf("%s has the hash of %s", name, other)
		}
		seen[l.Hash()] = name
	}
}

// FuzzDecide has hosts say whatever gossip carries to one that has, by the first
// byte, nothing, a server's data, an acknowledged list, an ensemble seen or one that
// it is a member of. No metadata gives or takes a vote but as B1 to B4 allow, the
// order in which it came counts for nothing, and what the host announces is valid.
func FuzzDecide(f *testing.F) {
	a, b, c := voter("a"), voter("b"), voter("c")
	list, err := newList("demo", []Host{a, b, c})
	if err != nil {
		f.Fatal(err)
	}
	encode := func(situation byte, hosts ...Host) []byte {
		in := []byte{situation}
		for _, h := range hosts {
			meta := appendMeta(nil, h)
			in = append(append(in, byte(len(meta)>>8)|0x80, byte(len(meta))), meta...)
		}
		return in
	}
	said := func(h Host, s State) Host {
		h.State, h.Hash, h.ID = s, list.Hash(), 2
		if s == Member || s == Joining {
			h.Cluster = list.ClusterID()
		}
		return h
	}
	for situation := range byte(6) {
		for s := Seeking; s <= Member; s++ {
			f.Add(encode(situation, said(b, s), said(c, s)))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		v := View{Self: a, Stored: Stored{Node: a.Node, Cluster: "demo"}}
		switch in[0] % 6 {
		case 1:
			v.Data = true
		case 2:
			v.Stored.List = list
		case 3:
			v.Stored.List, v.Data = list, true
		case 4:
			v.Stored.Seen = ClusterID{7}
		case 5:
			v.Stored.Membership = &Membership{Cluster: ClusterID{7}, ID: 1, Ensemble: list.Ensemble()}
		}
		for in = in[1:]; len(in) > 2; {
			n := min(int(in[0]&0x7f)<<8|int(in[1]), len(in)-2)
			h, err := decodeMeta(in[2 : 2+n])
			if err == nil && h.Node != a.Node && v.other(h.Node).Node != h.Node {
				v.Others = append(v.Others, Seen{h, in[0]&0x80 != 0})
			}
			in = in[2+n:]
		}
		d := Decide(v)
		turned := v
		turned.Others = slices.Clone(v.Others)
		slices.Reverse(turned.Others)
		if again := Decide(turned); again.Kind != d.Kind || again.Cluster != d.Cluster || again.Reason != d.Reason {
			t.Fatalf("%+v, in the other order %+v", d, again)
		}
		if h := v.Announce(d); h.valid() != nil {
			t.Fatalf("%+v announces %+v: %v", d, h, h.valid())
		}
		switch m := v.Stored.Membership; {
		case m != nil && (d.Kind != Done || d.Cluster != m.Cluster):
			t.Fatalf("a member is told %+v", d)
		case (d.Kind == Propose || d.Kind == Acknowledge) && (v.Data || v.Stored.List != nil || v.Stored.Seen != ClusterID{}):
			t.Fatalf("B1: %+v in %+v", d, v)
		case d.Kind == Form && (v.Data || d.List != v.Stored.List):
			t.Fatalf("B2: %+v in %+v", d, v)
		}
		if d.List == nil {
			return
		}
		formed := slices.ContainsFunc(v.Others, func(o Seen) bool { return o.State == Member && o.Cluster == d.List.ClusterID() })
		for _, s := range d.List.Seats {
			o := v.other(s.Node)
			agrees := o.Hash == d.List.Hash() && (o.State == Acknowledged || o.State == Proposing && d.Kind == Acknowledge)
			switch {
			case s.Node == a.Node:
			case d.Kind == Form && !formed && !agrees, d.Kind == Acknowledge && !agrees:
				t.Fatalf("B2: %+v without %s, which says %+v", d, s.Name, o)
			case d.Kind != Form && (!o.Alive || !o.candidate() || o.Expect != a.Expect):
				t.Fatalf("B3: %+v with %+v", d, o)
			}
		}
	})
}
