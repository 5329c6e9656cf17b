package zab

import (
	"bytes"
	"cmp"
	"math"
	"slices"
)

// Times of the election (class FastLeaderElection). ZooKeeper lets the interval
// grow to a minute; a server that missed a notification would then keep the
// others waiting for as long (rule R18).
const (
	finalWait   Millis = 200
	minInterval Millis = 200
	maxInterval Millis = 2000

	// shunTime is how long a server that was elected and could not be joined gets
	// no vote from this one: longer than an election of all that shun it, short
	// enough to wait for if only some do.
	shunTime Millis = 3000
)

// never is a deadline that does not come.
const never Millis = math.MaxInt64

// Bounds on what others make this server remember or believe.
const (
	maxStrangers = 16
	maxAskers    = 256
	// maxRoundJump is far above what rounds differ by, and so far below the largest
	// that nobody can make the round overflow.
	maxRoundJump = 1 << 40
)

// election is fast leader election (class FastLeaderElection): while this server
// is LOOKING it looks for a vote that a quorum agrees on or a leader that a quorum
// has; at all other times it tells those who look. Pure, as [Node] is.
//
// An election only proposes: that a leader has everything committed and that an
// epoch has one leader is assured by discovery. What is assured here is that all
// servers which hear each other within finalWait propose the same.
type election struct {
	id       ServerID
	reconfig bool
	rand     func(n int64) int64 // nil: no jitter

	committed, lastSeen *Ensemble
	text                []byte    // of committed, as notifications carry it
	electors            []elector // voters of committed and of lastSeen, sorted by id
	askers              []asker   // those without a vote, sorted by id
	unknown             []Stranger

	role  Role
	round int64 // logicalclock
	lost  bool  // the disk was lost: only an established leader is of interest (R14)

	own       Vote // what this server votes for at the beginning of a round
	vote      Vote // its vote now; outside LOOKING, what it tells of its leader
	hasVote   bool // false: a non-voter that has not heard of a candidate, or lost
	final     bool // a quorum has our vote: it counts at finalAt
	finalAt   Millis
	resendAt  Millis
	interval  Millis
	isCounted func(ServerID) bool // the argument of IsQuorum, made once

	// Outputs, for the Node to take and reset.

	// out is to be sent.
	out []Notification
	// decided: role and vote are the result of the election.
	decided bool
	// adopt is a configuration that the ensemble has committed and this server has
	// not. The Node makes it its committed one and calls start, or configure if it
	// is Equal to the present one.
	adopt *Ensemble
}

// elector is what is known of one voter.
type elector struct {
	id   ServerID
	in   ballot // its vote in this round (recvset)
	out  ballot // its leader, of whatever round (outofelection)
	last ballot // the latest

	looked Millis // when it was last heard to be LOOKING
	// gone: it was heard to look for another leader since this server leads.
	gone bool
	// down: its connection has ended. A vote that it may have sent is not awaited.
	down    bool
	counted bool // for isCounted
	shunned bool // until shunEnd
	shunEnd Millis

	list    []byte // the text of its list, nil if it is ours or was not heard
	version int64  // of list
	differs []string
	refused uint64
}

// newElection returns the election of a server that has not started one.
// reconfig is reconfigEnabled: newer lists of servers are taken over.
func newElection(id ServerID, reconfig bool, rand func(n int64) int64) *election {
	e := &election{id: id, reconfig: reconfig, rand: rand}
	e.isCounted = func(id ServerID) bool {
		v := e.elector(id)
		return v != nil && v.counted
	}
	return e
}

// start begins a round: the server is LOOKING from now on. own is its vote for
// itself, of its current epoch and the last transaction that its log holds
// durably; lost says that the log was lost. lastSeen may be nil.
func (e *election) start(now Millis, own Vote, lost bool, committed, lastSeen *Ensemble) {
	e.configure(committed, lastSeen)
	e.role, e.own, e.lost = Looking, own, lost
	e.decided, e.adopt = false, nil
	e.interval = minInterval
	for i := range e.electors {
		v := &e.electors[i]
		v.out, v.gone = ballot{}, false
	}
	e.enter(e.round + 1)
	for i := range e.electors {
		// Who noticed before us that the leader is gone has voted already, and says
		// it again only after its interval.
		if v := &e.electors[i]; v.last.heard && v.last.state == Looking && e.votable(v.last) {
			e.take(now, v, v.last)
		}
	}
	e.sendAll(now)
	e.count(now)
}

// configure changes the configurations. It restarts nothing.
func (e *election) configure(committed, lastSeen *Ensemble) {
	if e.committed == committed && e.lastSeen == lastSeen {
		return
	}
	e.committed, e.lastSeen = committed, lastSeen
	e.text = []byte(committed.String())
	ids := committed.Voters()
	if lastSeen != nil {
		ids = append(ids, lastSeen.Voters()...)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	electors := make([]elector, len(ids))
	for i, id := range ids {
		if v := e.elector(id); v != nil {
			electors[i] = *v
			electors[i].list, electors[i].differs = nil, nil // compared with another list
		}
		electors[i].id = id
	}
	e.electors = electors
	e.unknown = slices.DeleteFunc(e.unknown, func(s Stranger) bool { return e.known(s.ID, s.From) })
}

// settle says what this server has become, after a leader was established or
// joined: v is what it tells from now on, with the epoch that v.Leader leads.
// Without it latecomers would not find equal votes (ZOOKEEPER-1732).
func (e *election) settle(role Role, v Vote) {
	e.role, e.vote, e.hasVote = role, v, true
	e.final, e.decided = false, false
	if l := e.elector(v.Leader); l != nil {
		l.shunned = false
	}
	e.tellThoseLooking()
	for _, a := range e.askers {
		if a.waiting {
			e.send(a.id)
		}
	}
	e.askers = e.askers[:0]
}

// shun says that this server could not join id, which was elected. For a while it
// votes for others, so that one who reaches the election port only cannot keep the
// ensemble without a leader. The leader of a quorum is followed all the same.
func (e *election) shun(now Millis, id ServerID) {
	if v := e.elector(id); v != nil && id != e.id {
		v.shunned, v.shunEnd = true, now+shunTime
	}
}

// supported reports whether this server, elected and not established yet, may
// still find a quorum: voters that are linked or have not been heard to look for
// another leader (ZOOKEEPER-3109).
func (e *election) supported(linked func(ServerID) bool) bool {
	return e.quorum(func(v *elector) bool { return v.id == e.id || !v.gone || linked(v.id) })
}

// leaderGone reports whether the leader that this server has decided for does not
// lead any more, as it says itself.
func (e *election) leaderGone() bool {
	if e.role == Looking || e.vote.Leader == e.id {
		return false
	}
	v := e.elector(e.vote.Leader)
	return v != nil && v.gone
}

// leaderLooked reports whether the leader that this server has decided for was heard
// to be LOOKING, for itself or anybody, at a time or after it.
func (e *election) leaderLooked(since Millis) bool {
	v := e.elector(e.vote.Leader)
	return v != nil && v.last.heard && v.last.state == Looking && v.looked >= since
}

// ballots returns what is known of every voter, this server included, by id.
func (e *election) ballots() []Ballot {
	list := make([]Ballot, len(e.electors))
	for i := range e.electors {
		v := &e.electors[i]
		list[i] = Ballot{v.id, v.last.heard, v.last.state, v.last.vote, v.last.noVote, v.last.round, v.refused, v.differs}
		if v.id == e.id {
			list[i] = Ballot{Server: v.id, Heard: true, State: e.role, Vote: e.vote, NoVote: !e.hasVote, Round: e.round}
		}
	}
	return list
}

// strangers returns the ids that do not belong here, at most maxStrangers.
func (e *election) strangers() []Stranger { return slices.Clone(e.unknown) }

// deadline returns when tick must be called.
func (e *election) deadline() Millis {
	switch {
	case e.role != Looking:
		return never
	case e.final:
		return min(e.finalAt, e.resendAt)
	}
	return e.resendAt
}

// tick lets time pass.
func (e *election) tick(now Millis) {
	switch {
	case e.role != Looking:
	case e.final && now >= e.finalAt:
		e.decide(e.vote)
	case now >= e.resendAt:
		e.interval = min(2*e.interval, maxInterval)
		e.sendAll(now)
	}
}

// peerUp says that a connection to a server was opened: it hears the vote at once.
func (e *election) peerUp(id ServerID) {
	if v := e.elector(id); v != nil && id != e.id {
		v.down = false
		e.send(id)
	}
}

// peerDown says that a connection that was open has ended and no other was opened
// since. The final wait is for votes under way, and none is under way from there:
// so when a leader crashes and all others agree, they need not wait.
func (e *election) peerDown(now Millis, id ServerID) {
	if v := e.elector(id); v != nil && id != e.id {
		v.down = true
		if e.role == Looking {
			e.count(now)
		}
	}
}

// step takes a notification in (WorkerReceiver.run and lookForLeader). The
// Ensemble of n may be used again by the caller.
func (e *election) step(now Millis, n *Notification) {
	if n.From == e.id {
		return
	}
	v := e.elector(n.From)
	if e.compareLists(v, n) {
		return // the election starts again with other voters
	}
	if v == nil {
		e.answerNonVoter(now, n)
		return
	}
	b := ballot{true, n.State, n.Vote, n.NoVote, n.Round, n.Version == 0}
	if n.State > Observing || n.Round < 0 || n.Round-e.round > maxRoundJump || !n.NoVote && n.Vote.Zxid < -1 {
		v.refused++
		return
	}
	v.last, v.down = b, false
	if b.state == Looking {
		v.looked = now
	}
	if e.role != Looking {
		e.observe(v, b)
		if n.State == Looking {
			e.answer(n.From)
		}
		return
	}
	if n.State == Looking {
		v.out = ballot{} // it has no leader any more
		if n.Round < e.round {
			e.answer(n.From)
		}
	}
	if n.NoVote || n.State == Observing {
		return
	}
	if !e.votable(b) {
		e.stranger(n.Vote.Leader, n.From)
		return
	}
	if n.State == Looking {
		e.stepLooking(now, v, b)
	} else {
		e.stepSettled(v, b)
	}
}

// stepLooking takes in the vote of one that is LOOKING like us.
func (e *election) stepLooking(now Millis, v *elector, b ballot) {
	if e.take(now, v, b) {
		e.sendAll(now)
	}
	e.count(now)
}

// take records a vote, and reports whether the own one has changed by it.
func (e *election) take(now Millis, v *elector, b ballot) (changed bool) {
	if e.lost || b.vote.Zxid == -1 || b.round < e.round {
		return false
	}
	if b.round > e.round {
		e.enter(b.round)
		changed = true
	}
	if e.prefers(now, b.vote) {
		e.setVote(b.vote)
		changed = true
	}
	v.in = b
	return changed
}

// votable reports whether a ballot names one of the voters.
func (e *election) votable(b ballot) bool { return !b.noVote && e.elector(b.vote.Leader) != nil }

// stepSettled takes in what one says that has a leader, or leads. A quorum of the
// committed configuration is enough to join: the leader has to know whose promises
// it needs, and one that has logged a reconfiguration which the others gave up
// would wait for its own voice otherwise.
func (e *election) stepSettled(v *elector, b ballot) {
	leader := b.vote.Leader
	if leader == e.id && (e.lost || b.round != e.round || b.vote != e.vote) {
		// ZooKeeper compares rounds only, which begin at 1 in each process: it may
		// take what others say of an earlier life of its own for this election.
		v.out = b
		return
	}
	if b.round == e.round {
		v.in = b
		agree := func(w *elector) bool {
			return w.in.heard && w.in.vote.Leader == leader && (w.in.state != Looking || w.in.vote == b.vote)
		}
		if e.majority(agree) && e.leads(leader, func(w *elector) ballot { return w.in }) {
			e.decide(b.vote)
			return
		}
	}
	v.out = b
	agree := func(w *elector) bool { return w.out.heard && w.out.agrees(b) }
	if e.majority(agree) && e.leads(leader, func(w *elector) ballot { return w.out }) {
		e.round = b.round
		e.decide(b.vote)
	}
}

// leads reports whether a server says itself that it leads (checkLeader):
// otherwise servers would follow one that is gone, on each other's word.
func (e *election) leads(leader ServerID, said func(*elector) ballot) bool {
	if leader == e.id {
		return true // stepSettled has looked at the round
	}
	b := said(e.elector(leader))
	return b.heard && b.state == Leading
}

// observe keeps track of who looks for another leader while this server has one.
func (e *election) observe(v *elector, b ballot) {
	switch b.state {
	case Looking:
		v.gone = b.round > e.round || b.round == e.round && !b.noVote && b.vote.Leader != e.vote.Leader && b.vote.Beats(e.vote)
	case Following, Leading:
		v.gone = b.vote.Leader != e.vote.Leader
	}
}

// enter begins a round with the own vote.
func (e *election) enter(round int64) {
	e.round = round
	for i := range e.electors {
		e.electors[i].in = ballot{}
	}
	e.vote, e.hasVote, e.final = Vote{}, false, false
	if !e.lost && e.committed.IsVoter(e.id) {
		e.setVote(e.own)
	}
}

func (e *election) setVote(v Vote) {
	e.vote, e.hasVote, e.final = v, true, false
	if me := e.elector(e.id); me != nil {
		me.in = ballot{heard: true, state: Looking, vote: v, round: e.round}
	}
}

// prefers reports whether a vote is better than the one this server has.
func (e *election) prefers(now Millis, v Vote) bool {
	if l := e.elector(v.Leader); l.shunned && now < l.shunEnd || e.weight(v.Leader) == 0 {
		return false
	}
	return !e.hasVote || v.Beats(e.vote)
}

// weight returns the weight of a voter in the configuration that has it.
func (e *election) weight(id ServerID) int64 {
	if !e.committed.IsVoter(id) && e.lastSeen != nil {
		return e.lastSeen.Weight(id)
	}
	return e.committed.Weight(id)
}

// count looks whether the own vote wins.
func (e *election) count(now Millis) {
	same := func(v *elector) bool { return v.in.heard && v.in.vote == e.vote }
	switch {
	case !e.hasVote || !e.quorum(same):
		e.final = false
	case !slices.ContainsFunc(e.electors, func(v elector) bool { return !v.counted && !v.down }):
		e.decide(e.vote) // nobody is left who could bring a better one
	case !e.final:
		e.final, e.finalAt = true, now+finalWait
	}
}

// quorum reports whether the voters that counts is true for are a quorum of the
// committed configuration and of the one that is to follow it, if there is one.
func (e *election) quorum(counts func(*elector) bool) bool {
	return e.majority(counts) &&
		(e.lastSeen == nil || e.lastSeen.Version <= e.committed.Version || e.lastSeen.IsQuorum(e.isCounted))
}

// majority reports it for the committed configuration alone.
func (e *election) majority(counts func(*elector) bool) bool {
	for i := range e.electors {
		e.electors[i].counted = counts(&e.electors[i])
	}
	return e.committed.IsQuorum(e.isCounted)
}

// decide ends the election.
func (e *election) decide(v Vote) {
	e.vote, e.hasVote, e.final, e.decided = v, true, false, true
	switch {
	case v.Leader == e.id:
		e.role = Leading
	case e.elector(e.id) != nil:
		e.role = Following
	default:
		e.role = Observing
	}
	e.tellThoseLooking()
}

// tellThoseLooking spares those who were last heard LOOKING a question. ZooKeeper
// only answers; its servers take this for an answer.
func (e *election) tellThoseLooking() {
	for i := range e.electors {
		if v := &e.electors[i]; v.id != e.id && v.last.heard && v.last.state == Looking {
			e.send(v.id)
		}
	}
}

// sendAll sends the vote to all voters.
func (e *election) sendAll(now Millis) {
	for i := range e.electors {
		if id := e.electors[i].id; id != e.id {
			e.send(id)
		}
	}
	e.resendAt = now + e.interval
	if e.rand != nil {
		e.resendAt += Millis(e.rand(int64(e.interval/4 + 1)))
	}
}

func (e *election) send(to ServerID) {
	n := Notification{
		From: e.id, To: to, State: e.role, Vote: e.vote, Round: e.round, Version: 2,
		NoVote: !e.hasVote, Ensemble: e.text,
	}
	if last := len(e.out) - 1; last >= 0 && e.out[last].To == to {
		e.out[last] = n // the newer one says it all
		return
	}
	e.out = append(e.out, n)
}

// answer tells a voter what this server votes for or follows. One without a vote
// keeps silent: nobody counts what it says, and voters answer all that it sends,
// so that the two would never stop.
func (e *election) answer(to ServerID) {
	if e.elector(e.id) != nil {
		e.send(to)
	}
}

// asker is one without a vote that asked who leads.
type asker struct {
	id       ServerID
	waiting  bool   // there was no leader then
	answered Millis // last
}

// answerNonVoter tells an observer, or one that is about to join, what is known
// here: it finds the leader by asking. Not more often than one that looks would ask
// again: by two lists of servers, each of two may have a vote and not the other, and
// they would never stop to answer.
func (e *election) answerNonVoter(now Millis, n *Notification) {
	if !e.known(n.From, n.From) {
		e.stranger(n.From, n.From)
	}
	if n.State != Looking {
		return
	}
	i, ok := slices.BinarySearchFunc(e.askers, n.From, func(a asker, id ServerID) int { return cmp.Compare(a.id, id) })
	if !ok {
		if len(e.askers) == maxAskers {
			e.askers, i = e.askers[:0], 0 // they will ask again
		}
		e.askers = slices.Insert(e.askers, i, asker{id: n.From, answered: math.MinInt64 / 2})
	}
	e.askers[i].waiting = e.role == Looking
	if now < e.askers[i].answered+minInterval/2 {
		return
	}
	e.askers[i].answered = now
	e.send(n.From)
}

// known reports whether an id has a place in the lists: of a member if it speaks
// for itself, of a voter if another server votes for it.
func (e *election) known(id, from ServerID) bool {
	if e.elector(id) != nil || id != from {
		return e.elector(id) != nil
	}
	_, ok := e.committed.Member(id)
	if !ok && e.lastSeen != nil {
		_, ok = e.lastSeen.Member(id)
	}
	return ok
}

func (e *election) stranger(id, from ServerID) {
	for i := range e.unknown {
		if s := &e.unknown[i]; s.ID == id && s.From == from {
			s.Count++
			return
		}
	}
	if len(e.unknown) < maxStrangers {
		e.unknown = append(e.unknown, Stranger{id, from, 1})
	}
}

// elector returns what is known of a voter, or nil.
func (e *election) elector(id ServerID) *elector {
	i, ok := slices.BinarySearchFunc(e.electors, id, func(v elector, id ServerID) int { return cmp.Compare(v.id, id) })
	if !ok {
		return nil
	}
	return &e.electors[i]
}

// compareLists looks at the list of servers that came with a notification. A
// newer one of a member is taken over while this server is LOOKING, if
// reconfiguration is enabled; the result is whether the election must start
// again. Lists that should be the same and are not are kept for Status (R24).
func (e *election) compareLists(v *elector, n *Notification) bool {
	if len(n.Ensemble) == 0 || !e.known(n.From, n.From) {
		return false
	}
	if bytes.Equal(n.Ensemble, e.text) {
		if v != nil {
			v.list, v.differs = nil, nil
		}
		return false
	}
	looking := e.role == Looking && e.reconfig
	if v != nil && bytes.Equal(n.Ensemble, v.list) && !(looking && v.version > e.committed.Version) {
		return false
	}
	theirs, err := ParseEnsemble(string(n.Ensemble))
	if v != nil {
		v.list, v.version, v.differs = bytes.Clone(n.Ensemble), 0, nil
		switch {
		case err != nil:
			v.differs = []string{err.Error()}
		case !e.reconfig || theirs.Version == e.committed.Version:
			v.differs = e.committed.Diff(theirs)
		}
		if err == nil {
			v.version = theirs.Version
		}
	}
	if err != nil || !looking || theirs.Version <= e.committed.Version || e.adopt != nil && theirs.Version <= e.adopt.Version {
		return false
	}
	e.adopt = theirs
	return !theirs.Equal(e.committed)
}
