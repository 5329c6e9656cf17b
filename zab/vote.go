package zab

// Beats reports whether v is the better vote: the higher epoch, then the longer
// history, then the higher id (FastLeaderElection.totalOrderPredicate).
func (v Vote) Beats(w Vote) bool {
	switch {
	case v.Epoch != w.Epoch:
		return v.Epoch > w.Epoch
	case v.Zxid != w.Zxid:
		return v.Zxid > w.Zxid
	}
	return v.Leader > w.Leader
}

// A Ballot is what one voter was last heard to say, for those who ask why an
// election does not end.
type Ballot struct {
	Server ServerID
	Heard  bool // the rest is zero otherwise
	State  Role
	Vote   Vote
	NoVote bool // it lost its disk, or has not heard of a candidate yet
	Round  int64

	// Refused counts notifications that cannot be meant.
	Refused uint64
	// Differs says how its list of servers differs from ours though it should not,
	// as [Ensemble.Diff] does.
	Differs []string
}

// A Stranger is an id that this server's lists of servers do not have among the
// members, or, if From is another server, that From votes for and that is no voter.
type Stranger struct {
	ID, From ServerID
	Count    uint64 // of notifications
}

// ballot is a vote as it came in.
type ballot struct {
	heard  bool
	state  Role
	vote   Vote
	noVote bool
	round  int64
	// old is a sender before version 1 of the message: ZooKeeper of that time does
	// not report the epoch of its leader.
	old bool
}

// agrees reports whether two servers that are not LOOKING have the same leader
// (Vote.equals). Their zxids and rounds may differ, since each keeps those of the
// election that it took part in; an epoch has one leader only.
func (b ballot) agrees(c ballot) bool {
	return b.vote.Leader == c.vote.Leader && (b.old != c.old || b.vote.Epoch == c.vote.Epoch)
}
