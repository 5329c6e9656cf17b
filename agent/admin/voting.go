package admin

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/server"
)

// The commands about the ensemble. A server alone answers them as Apache's does.

var errNotInitialized = errors.New("server is not initialized")

// shownID is the number of the server as configuration shows it: 0 for one alone.
func shownID(s *server.Server) int64 {
	if c := s.Config(); c.Ensemble != nil {
		return int64(c.ID)
	}
	return 0
}

func leader(s *server.Server, _ *http.Request) (object, error) {
	ms, ok := s.Membership()
	if !ok {
		return nil, errNotInitialized
	}
	var hosts []string
	if m, ok := ms.Ensemble.Member(ms.Leader); ok {
		for _, a := range m.Addrs {
			hosts = append(hosts, a.Host)
		}
	}
	return object{
		{"is_leader", ms.Role == zab.Leading}, {"leader_id", int64(ms.Leader)}, {"leader_ip", strings.Join(hosts, "|")},
	}, nil
}

// observers describes those that are connected to this leader and up to date.
// Packets of a connection are not counted one by one: -1.
func observers(s *server.Server, _ *http.Request) (object, error) {
	list := []any{}
	if ms, ok := s.Membership(); ok {
		for _, l := range ms.Learners {
			if !l.Observer || !l.UpToDate {
				continue
			}
			for _, link := range ms.Quorum.Links {
				if link.ID == l.Link {
					list = append(list, object{
						{"remote_socket_address", "/" + link.Remote}, {"sid", int64(l.ID)}, {"established", link.Since.UnixMilli()},
						{"queued_packets", link.QueuedPackets}, {"queued_packets_size", link.QueuedBytes},
						{"packets_received", -1}, {"packets_sent", -1}, {"requests", 0}, {"last_zxid", int64(ms.Committed)},
					})
				}
			}
		}
	}
	return object{{"synced_observers", len(list)}, {"observers", list}}, nil
}

func votingView(s *server.Server, _ *http.Request) (object, error) {
	view := object{}
	if ms, ok := s.Membership(); ok {
		for _, m := range ms.Ensemble.Members {
			if m.Observer {
				continue
			}
			client := m.ClientAddr
			if m.ID == ms.ID && client == "" {
				client = ownClientAddr(s)
			}
			view = append(view, field{strconv.FormatInt(int64(m.ID), 10), object{
				{"server_addresses", anys(quorumAddrs(m).all)}, {"election_addresses", anys(electionAddrs(m).all)},
				{"client_address", client}, {"learner_type", "participant"},
			}})
		}
	}
	return object{{"current_config", view}}, nil
}

// ownClientAddr is where this server was told to listen for clients.
func ownClientAddr(s *server.Server) string {
	host, _, err := net.SplitHostPort(s.Config().Listen)
	if err != nil || s.Port() == 0 {
		return ""
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return net.JoinHostPort(host, strconv.Itoa(s.Port()))
}

// zabState is not about a server that does not serve, although it has an answer
// then.
func zabState(s *server.Server, _ *http.Request) (object, error) {
	ms, ok := s.Membership()
	if !ok || !s.State().Serving {
		return object{{"voting", false}, {"zabstate", ""}}, nil
	}
	last := s.State().LastZxid
	o := object{{"myid", int64(ms.ID)}, {"is_leader", ms.Role == zab.Leading}}
	client := ownClientAddr(s)
	if m, ok := ms.Ensemble.Member(ms.ID); ok {
		o = append(o, field{"quorum_address", quorumAddrs(m).object()}, field{"election_address", electionAddrs(m).object()})
		if m.ClientAddr != "" {
			client = m.ClientAddr
		}
	}
	return append(o, object{
		{"client_address", client}, {"voting", ms.Ensemble.IsVoter(ms.ID)}, {"last_zxid", last.String()},
		{"zab_epoch", int64(last.Epoch())}, {"zab_counter", int64(last.Counter())}, {"zabstate", strings.ToLower(ms.Phase.String())},
	}...), nil
}

// addresses are those of one port of a server (class MultipleAddresses).
type addresses struct {
	all, hosts []string
	ports      []int
}

func (a *addresses) add(host string, port int) {
	a.all = append(a.all, net.JoinHostPort(host, strconv.Itoa(port)))
	a.hosts, a.ports = append(a.hosts, host), append(a.ports, port)
}

func quorumAddrs(m zab.Member) (a addresses) {
	for _, x := range m.Addrs {
		a.add(x.Host, x.QuorumPort)
	}
	return a
}

func electionAddrs(m zab.Member) (a addresses) {
	for _, x := range m.Addrs {
		a.add(x.Host, x.ElectionPort)
	}
	return a
}

// object prints what Apache's serializer makes of the class. Nobody tries here
// whether an address can be reached: the first one stands for that.
func (a addresses) object() object {
	var wildcards []any
	for _, p := range a.ports {
		wildcards = append(wildcards, net.JoinHostPort("0.0.0.0", strconv.Itoa(p)))
	}
	one := a.all[0]
	return object{
		{"empty", false}, {"all_addresses", anys(a.all)}, {"wildcard_addresses", wildcards}, {"all_ports", anys(a.ports)},
		{"all_host_strings", anys(a.hosts)}, {"reachable_address", one}, {"all_reachable_addresses", anys(a.all)},
		{"all_reachable_addresses_or_all", anys(a.all)}, {"reachable_or_one", one}, {"one", one},
	}
}
