package agent

import (
	"net"
	"strconv"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/agent/bootstrap"
	"github.com/paddockio/paddock/zab"
)

// Members lists the hosts that gossip knows and the servers of the list.
func (a *Agent) Members() api.MemberList {
	l := api.MemberList{Gossip: a.bootstrap != nil, Members: []api.Member{}}
	if a.bootstrap != nil {
		for _, m := range a.bootstrap.Members() {
			l.Members = append(l.Members, api.Member{
				Name: m.Name, ID: int64(m.ID), Wants: word(m.Wants), State: word(m.State), Self: m.Self, Alive: m.Alive,
				Role:    map[bootstrap.Role]string{bootstrap.RoleVoter: "participant", bootstrap.RoleObserver: "observer"}[m.Place],
				Address: quorumAddr(m.Addr), Client: m.ClientAddr,
			})
		}
		return l
	}
	zk, list := a.zookeeper.Load(), a.list.Load()
	if zk == nil || list == nil {
		return l
	}
	for _, m := range list.Members {
		row := api.Member{ID: int64(m.ID), Self: m.ID == zk.Config().ID, Role: "participant", Address: quorumAddr(m.Addrs[0]), Client: clientAddr(m)}
		if m.Observer {
			row.Role = "observer"
		}
		if row.Self {
			row.Name, row.Alive = a.cfg.Name, true
		}
		l.Members = append(l.Members, row)
	}
	return l
}

// takenOff reports that the list of servers does not have this one any more.
func (a *Agent) takenOff(id zab.ServerID) bool {
	list := a.list.Load()
	if list == nil {
		return false
	}
	_, on := list.Member(id)
	return !on
}

// word is the name of a role or state, "" for none.
func word[T interface {
	~uint8
	String() string
}](v T) string {
	if v == 0 {
		return ""
	}
	return v.String()
}

func quorumAddr(a zab.MemberAddr) string {
	if a.Host == "" {
		return ""
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(a.QuorumPort))
}

// bootstrapStatus says how far this host has come in finding its ensemble.
func (a *Agent) bootstrapStatus() *api.BootstrapStatus {
	if a.bootstrap == nil {
		return nil
	}
	st := a.bootstrap.Status()
	s := &api.BootstrapStatus{Cluster: a.cfg.Bootstrap.Cluster, State: st.State.String(), Waiting: st.Reason, Problems: st.Problems}
	if st.Cluster != (bootstrap.ClusterID{}) {
		s.ID = st.Cluster.String()
	}
	return s
}
