package bootstrap

import (
	"cmp"
	"slices"

	"github.com/paddockio/paddock/zab"
)

// A MemberInfo is one host or server, as gossip and the list of servers have it.
type MemberInfo struct {
	Name string // of the agent; "" for a server without gossip
	Node NodeID // zero for a server without gossip
	// ID is that of its server, 0 if it has none yet.
	ID zab.ServerID
	// Wants is the configured role; 0 for a server without gossip.
	Wants Role
	// State is that of the host; 0 for a server without gossip.
	State State
	// Addr and ClientAddr are those of its server: of the list if it is there,
	// else what the host says.
	Addr       zab.MemberAddr
	ClientAddr string
	// Self is this host.
	Self bool
	// Alive: gossip reaches it. It may serve all the same, or not.
	Alive bool
	// Place is RoleVoter or RoleObserver as the list has it, 0 if it is not on it.
	Place Role
}

// Members returns all hosts that gossip knows and all servers of the list, in
// the order of their ids, those without one at the end.
func (b *Bootstrap) Members() []MemberInfo {
	hosts := b.gossip.snapshot()
	v := b.view(hosts)
	b.mu.Lock()
	d := b.verdict
	b.mu.Unlock()
	self := v.Announce(d)
	seen := []Seen{{self, true}}
	for _, h := range hosts {
		seen = append(seen, h.Seen)
	}
	var list zab.Ensemble
	if m := v.Stored.Membership; m != nil {
		list = *m.Ensemble
	}
	return members(self, seen, list)
}

// members joins the directory with the list of servers. A host has a place if
// it is a member of this host's ensemble, has the id and, of several that say so,
// is alive.
func members(self Host, hosts []Seen, list zab.Ensemble) []MemberInfo {
	slices.SortFunc(hosts, func(a, b Seen) int {
		if a.Alive != b.Alive {
			if a.Alive {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Node[:], b.Node[:]))
	})
	var all []MemberInfo
	placed := map[zab.ServerID]bool{}
	for _, h := range hosts {
		m := MemberInfo{
			Name: h.Name, Node: h.Node, ID: h.ID, Wants: h.Role, State: h.State, Addr: h.Addr, ClientAddr: h.ClientDial(),
			Self: h.Node == self.Node, Alive: h.Alive,
		}
		if line, ok := list.Member(h.ID); ok && h.State == Member && h.Cluster == self.Cluster && h.Role != RoleClient && !placed[h.ID] {
			placed[h.ID] = true
			m.Addr, m.Place = line.Addrs[0], place(line)
		}
		all = append(all, m)
	}
	for _, line := range list.Members {
		if !placed[line.ID] {
			all = append(all, MemberInfo{ID: line.ID, Addr: line.Addrs[0], ClientAddr: Host{Addr: line.Addrs[0], ClientAddr: line.ClientAddr}.ClientDial(), Place: place(line)})
		}
	}
	slices.SortStableFunc(all, func(a, b MemberInfo) int {
		last := func(m MemberInfo) zab.ServerID {
			if m.ID == 0 {
				return maxID + 1
			}
			return m.ID
		}
		return cmp.Compare(last(a), last(b))
	})
	return all
}

func place(m zab.Member) Role {
	if m.Observer {
		return RoleObserver
	}
	return RoleVoter
}
