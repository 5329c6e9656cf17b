package zab

// An Ensemble is a list of servers as zoo.cfg and its dynamic file give it. The
// zero Ensemble is a server alone. It is not changed once it is in use.
type Ensemble struct {
	// Members are sorted by ID.
	Members []Member
	// Groups are the members of each group; empty: one majority of weights counts.
	Groups map[int][]ServerID
	// Weights of servers; a server that is not here has weight 1.
	Weights map[ServerID]int64
	// Version is that of a dynamic configuration: the zxid that made it. 0 for a
	// static one.
	Version int64
}

// A Member is one line "server.ID=…" (class QuorumPeer.QuorumServer).
type Member struct {
	ID    ServerID
	Addrs []MemberAddr // at least one
	// Observer is false for a participant, who votes.
	Observer bool
	// ClientAddr is the host:port behind the semicolon, "" if there is none.
	ClientAddr string
}

// A MemberAddr is where the other servers reach one.
type MemberAddr struct {
	Host                     string // name or address, without brackets
	QuorumPort, ElectionPort int
}
