package zab

// Status is a picture of a node for people and metrics. It is not the node's any
// more and may be handed to other goroutines.
type Status struct {
	ID     ServerID
	Role   Role
	Phase  Phase
	Leader ServerID // NoServer while there is none
	Epoch  Epoch
	Hard   HardState
	Lost   bool  // no vote until a leader has brought this server up to date
	Reason error // why the last role ended
	// Waiting says what this server waits for, "" in Broadcast.
	Waiting string

	Last, Durable, Committed, Delivered Zxid

	// Ballots are what every voter was last heard to say, this server included;
	// Strangers are ids that the list of servers does not have.
	Ballots   []Ballot
	Strangers []Stranger

	// Learners are those of a leader, in order of arrival.
	Learners []LearnerStatus
}

// LearnerStatus is what a leader knows of one connection.
type LearnerStatus struct {
	ID       ServerID // NoServer as long as it has not said who it is
	Link     LinkID
	Observer bool // it does not acknowledge
	Voter    bool // its acknowledgements count
	UpToDate bool
	State    string // what is awaited, or "up to date"
	Acked    Zxid   // the last transaction that it holds durably
}

// Status returns what the server is at the moment.
func (n *Node) Status() Status {
	h := &n.log
	s := Status{
		ID: n.cfg.ID, Role: n.role, Phase: n.phase, Leader: n.leader, Epoch: n.epoch, Hard: n.hard, Lost: n.lost, Reason: n.reason,
		Last: h.last, Durable: h.durable, Committed: h.committed, Delivered: h.delivered,
	}
	if n.election == nil {
		return s
	}
	s.Ballots, s.Strangers = n.election.ballots(), n.election.strangers()
	switch {
	case n.phase == Broadcast:
	case n.role == Leading:
		s.Waiting = n.lead.stage.String()
	case n.learn != nil:
		s.Waiting = n.learn.state.String()
	case !n.electing && n.idle():
		s.Waiting = "a moment before the next election"
	case !n.electing:
		s.Waiting = "the disk to finish the work of the last role"
	case n.lost:
		s.Waiting = "a leader that others have established: the own disk was lost"
	default:
		s.Waiting = "a quorum that agrees on a leader"
	}
	if n.lead != nil {
		for _, k := range n.lead.links {
			s.Learners = append(s.Learners, LearnerStatus{
				ID: k.peer, Link: k.id, Observer: k.observer, Voter: !k.observer && n.isVoter(k.peer),
				UpToDate: k.state == following, State: k.state.String(), Acked: k.acked,
			})
		}
	}
	return s
}
