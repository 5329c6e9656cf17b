package api

// BootstrapStatus says how far this host has come in finding its ensemble; null
// without gossip.
type BootstrapStatus struct {
	// Cluster is the configured name, ID that of the ensemble: "" before it is known.
	Cluster string `json:"cluster"`
	ID      string `json:"id,omitempty"`
	// State is seeking, proposing, acknowledged, holding, joining or member.
	State string `json:"state"`
	// Waiting says for what, "" once the place of this host is known.
	Waiting string `json:"waiting,omitempty"`
	// Problems are about gossip and other hosts.
	Problems []string `json:"problems,omitempty"`
}

// MemberList is the answer of GET /v1/members: the hosts that gossip knows and
// the servers of the list, as this agent sees them, in the order of their ids.
type MemberList struct {
	// Gossip is false if only the list of servers is known.
	Gossip  bool     `json:"gossip"`
	Members []Member `json:"members"`
}

// Member is one host, or a server of the list that no host is known for.
type Member struct {
	Name string `json:"name,omitempty"`
	ID   int64  `json:"id,omitempty"`
	// Wants is the role that the host is configured with.
	Wants string `json:"wants,omitempty"`
	// State is how far the host has come, see BootstrapStatus.
	State string `json:"state,omitempty"`
	Self  bool   `json:"self"`
	// Alive: gossip reaches the host. It may serve all the same, or not.
	Alive bool `json:"alive"`
	// Role is what the list says, participant or observer; "" if it is not on it.
	Role string `json:"role,omitempty"`
	// Address is that of the quorum port, Client that for clients.
	Address string `json:"address,omitempty"`
	Client  string `json:"client,omitempty"`
}
