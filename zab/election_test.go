package zab

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// electionPump drives elections with virtual time. It plays the rest of a server too, in
// the least way: a leader is established once a quorum follows it, and who does
// not get there within joinLimit looks again.
type electionPump struct {
	t         *testing.T
	rng       *rand.Rand
	now       Millis
	seq       int
	servers   []*electionServer
	queue     []electionPacket
	drop      func(n Notification) bool
	delay     func() Millis // nil: 1 ms
	epoch     Epoch
	trace     []string
	said      map[saying]bool
	roundLead map[int64]ServerID // established in the round; only kept without restarts
	restarted bool
	hangUp    bool // connections to a server end with it
}

const joinLimit Millis = 2000

type electionPacket struct {
	at  Millis
	seq int
	n   Notification
}

// saying is what a server has told others, or itself.
type saying struct {
	by     ServerID
	leader ServerID
}

type electionServer struct {
	id          ServerID
	e           *election
	up          bool
	own         Vote
	lost        bool
	ensemble    *Ensemble
	lastSeen    *Ensemble
	established bool
	giveUp      Millis
	decisions   int
}

func newElectionPump(t *testing.T, seed uint64) *electionPump {
	p := &electionPump{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: 1000, epoch: 10, said: map[saying]bool{}, roundLead: map[int64]ServerID{}}
	p.drop = func(Notification) bool { return false }
	return p
}

// electionOf returns a pump with servers of one list, none of them started.
func electionOf(t *testing.T, e *Ensemble) *electionPump {
	p := newElectionPump(t, 1)
	p.add(e)
	return p
}

func (p *electionPump) add(e *Ensemble) {
	for _, m := range e.Members {
		p.servers = append(p.servers, &electionServer{id: m.ID, ensemble: e, own: Vote{Leader: m.ID}})
	}
}

func (p *electionPump) server(id ServerID) *electionServer {
	for _, s := range p.servers {
		if s.id == id {
			return s
		}
	}
	return nil
}

// up starts servers; crash stops them.
func (p *electionPump) up(ids ...ServerID) {
	for _, id := range ids {
		s := p.server(id)
		p.restarted = p.restarted || s.e != nil
		s.e, s.up = newElection(id, true, p.rng.Int64N), true
		p.look(s)
	}
}

func (p *electionPump) crash(id ServerID) {
	s := p.server(id)
	s.up, s.established = false, false
	p.queue = slices.DeleteFunc(p.queue, func(k electionPacket) bool { return k.n.To == id || k.n.From == id })
	p.follow()
	for _, o := range p.servers {
		if o.up && p.hangUp {
			o.e.peerDown(p.now, id)
			p.flush(o)
		}
	}
}

func (p *electionPump) look(s *electionServer) {
	s.established = false
	s.e.start(p.now, s.own, s.lost, s.ensemble, s.lastSeen)
	p.flush(s)
}

// flush takes the outputs of a server.
func (p *electionPump) flush(s *electionServer) {
	if a := s.e.adopt; a != nil {
		s.e.adopt = nil
		if equal := a.Equal(s.ensemble); !equal {
			s.ensemble = a
			p.look(s)
			return
		}
		s.ensemble = a
		s.e.configure(a, s.lastSeen)
	}
	if s.e.hasVote {
		p.said[saying{s.id, s.e.vote.Leader}] = true
	}
	for _, n := range s.e.out {
		if p.drop(n) {
			continue
		}
		at := p.now + 1
		if p.delay != nil {
			at = p.now + p.delay()
		}
		for _, k := range p.queue { // links keep the order
			if k.n.From == n.From && k.n.To == n.To {
				at = max(at, k.at)
			}
		}
		p.seq++
		p.queue = append(p.queue, electionPacket{at, p.seq, n})
	}
	s.e.out = s.e.out[:0]
	if s.e.decided {
		s.e.decided = false
		s.decisions++
		s.giveUp = p.now + joinLimit
		p.tracef("%d %v %d", s.id, s.e.role, s.e.vote.Leader)
		leader := s.e.vote.Leader
		if !s.ensemble.IsQuorum(func(id ServerID) bool { return p.said[saying{id, leader}] }) {
			p.t.Fatalf("server %d decided for %d without a quorum that ever said so", s.id, leader)
		}
		p.follow()
	}
}

// follow establishes leaders that have a quorum, and ends what has none.
func (p *electionPump) follow() {
	for _, l := range p.servers {
		if !l.up || l.e.role != Leading {
			continue
		}
		follows := func(id ServerID) bool {
			s := p.server(id)
			return s != nil && s.up && (s == l || s.e.role == Following && s.e.vote.Leader == l.id)
		}
		quorum := l.ensemble.IsQuorum(follows)
		switch {
		case quorum && !l.established:
			if other, ok := p.roundLead[l.e.round]; ok && other != l.id && !p.restarted {
				p.t.Fatalf("round %d: leaders %d and %d were established", l.e.round, other, l.id)
			}
			p.roundLead[l.e.round] = l.id
			p.epoch++
			l.established = true
			p.settle(l, Leading)
		case !quorum && l.established:
			p.tracef("%d has lost its quorum", l.id)
			p.look(l)
		}
	}
	for _, s := range p.servers {
		if !s.up || s.e.role != Following && s.e.role != Observing {
			continue
		}
		l := p.server(s.e.vote.Leader)
		switch leads := l.up && l.e.role == Leading && l.established; {
		case leads && !s.established:
			s.established = true
			p.settle(s, s.e.role)
		case !leads && s.established:
			p.look(s)
		}
	}
}

func (p *electionPump) settle(s *electionServer, role Role) {
	s.own.Epoch, s.lost = p.epoch, false
	s.e.settle(role, Vote{s.e.vote.Leader, s.e.vote.Zxid, p.epoch})
	p.flush(s)
}

// reconsider gives up what cannot come to anything.
func (p *electionPump) reconsider(s *electionServer) {
	if s.e.role == Looking || s.established {
		return
	}
	linked := func(id ServerID) bool {
		o := p.server(id)
		return o.up && o.e.role == Following && o.e.vote.Leader == s.id
	}
	if s.e.leaderGone() || s.e.role == Leading && !s.e.supported(linked) {
		p.tracef("%d gives up %v %d", s.id, s.e.role, s.e.vote.Leader)
		p.look(s)
	}
}

// run lets time pass until all servers that are up have a leader or d is over, and
// returns how long it took.
func (p *electionPump) run(d Millis) Millis {
	begin := p.now
	for end := p.now + d; p.now < end && !p.done(); {
		next := end
		for _, k := range p.queue {
			next = min(next, k.at)
		}
		for _, s := range p.servers {
			if s.up {
				next = min(next, s.e.deadline())
				if s.e.role != Looking && !s.established {
					next = min(next, s.giveUp)
				}
			}
		}
		p.now = max(p.now, next)
		for _, s := range p.servers {
			if !s.up {
				continue
			}
			if s.e.role != Looking && !s.established && p.now >= s.giveUp {
				s.e.shun(p.now, s.e.vote.Leader)
				p.look(s)
			}
			p.reconsider(s)
			s.e.tick(p.now)
			p.flush(s)
		}
		slices.SortFunc(p.queue, func(a, b electionPacket) int {
			if a.at != b.at {
				return int(a.at - b.at)
			}
			return a.seq - b.seq
		})
		for len(p.queue) > 0 && p.queue[0].at <= p.now {
			k := p.queue[0]
			p.queue = p.queue[1:]
			if s := p.server(k.n.To); s != nil && s.up {
				s.e.step(p.now, &k.n)
				p.flush(s)
			}
		}
		p.follow()
	}
	return p.now - begin
}

func (p *electionPump) done() bool {
	for _, s := range p.servers {
		if s.up && !s.established {
			return false
		}
	}
	return true
}

func (p *electionPump) tracef(format string, args ...any) {
	p.trace = append(p.trace, fmt.Sprintf("%d: ", p.now-1000)+fmt.Sprintf(format, args...))
}

// roles prints who is what: "1F3 2F3 3L" and "4?" for one that looks.
func (p *electionPump) roles() string {
	var words []string
	for _, s := range p.servers {
		switch {
		case !s.up:
		case s.e.role == Looking:
			words = append(words, fmt.Sprintf("%d?", s.id))
		case s.e.role == Leading:
			words = append(words, fmt.Sprintf("%dL", s.id))
		default:
			words = append(words, fmt.Sprintf("%d%c%d", s.id, s.e.role.String()[0], s.e.vote.Leader))
		}
	}
	return strings.Join(words, " ")
}

// wants runs until the roles are as wanted, within a bound.
func (p *electionPump) wants(bound Millis, roles string) {
	p.t.Helper()
	took := p.run(bound)
	if got := p.roles(); got != roles {
		p.t.Fatalf("after %d ms: %s, want %s\n%s", took, got, roles, strings.Join(p.trace, "\n"))
	}
}

func TestServersThatStartTogetherElectTheHighestAtOnce(t *testing.T) {
	for _, tc := range []struct {
		n     int
		roles string
	}{
		{1, "1L"},
		{2, "1F2 2L"},
		{3, "1F3 2F3 3L"},
		{5, "1F5 2F5 3F5 4F5 5L"},
		{7, "1F7 2F7 3F7 4F7 5F7 6F7 7L"},
	} {
		p := electionOf(t, votersUpTo(tc.n))
		for id := 1; id <= tc.n; id++ {
			p.up(ServerID(id))
		}
		p.wants(20, tc.roles) // no final wait: all agree
	}
}

// The walk through five servers that start one after the other.
func TestFiveServersStartInOrder(t *testing.T) {
	p := electionOf(t, votersUpTo(5))
	p.up(1)
	p.wants(5000, "1?")
	p.up(2)
	p.wants(5000, "1? 2?")
	if v := p.server(1).e.vote.Leader; v != 2 {
		t.Errorf("server 1 votes for %d, want 2: the higher id", v)
	}
	p.up(3)
	p.wants(220, "1F3 2F3 3L")
	p.up(4)
	p.wants(20, "1F3 2F3 3L 4F3")
	p.up(5)
	p.wants(20, "1F3 2F3 3L 4F3 5F3")
	if p.server(1).decisions != 1 {
		t.Errorf("server 1 decided %d times", p.server(1).decisions)
	}
}

func TestEpochIsComparedFirstThenZxidThenID(t *testing.T) {
	for _, tc := range []struct {
		votes [3]Vote
		roles string
	}{
		{[3]Vote{{1, 0x100000005, 2}, {2, 0x100000009, 1}, {3, 0x100000001, 1}}, "1L 2F1 3F1"},
		{[3]Vote{{1, 0x100000001, 1}, {2, 0x100000009, 1}, {3, 0x100000001, 1}}, "1F2 2L 3F2"},
		{[3]Vote{{1, 0x200000001, 2}, {2, 0x200000001, 2}, {3, 0x200000000, 2}}, "1F2 2L 3F2"},
	} {
		p := electionOf(t, votersUpTo(3))
		for i, v := range tc.votes {
			p.servers[i].own = v
		}
		p.up(1, 2, 3)
		p.wants(20, tc.roles)
	}
}

func TestACrashedLeaderIsReplacedAndComesBackAsFollower(t *testing.T) {
	p := electionOf(t, votersUpTo(3))
	p.up(1, 2, 3)
	p.wants(20, "1F3 2F3 3L")
	p.crash(3)
	p.wants(250, "1F2 2L")
	p.up(3) // its round begins anew, far behind
	p.wants(20, "1F2 2L 3F2")
	p.crash(1)
	p.crash(2)
	p.wants(5000, "3?")
	p.up(1)
	p.server(3).own.Zxid = 7
	p.wants(3000, "1F3 3L")
}

func TestNobodyWaitsForTheVoteOfAServerWhoseConnectionEnded(t *testing.T) {
	p := electionOf(t, votersUpTo(3))
	p.hangUp = true
	p.up(1, 2, 3)
	p.wants(20, "1F3 2F3 3L")
	p.crash(3)
	p.wants(20, "1F2 2L")
}

// The vote of one that noticed first is not asked for again.
func TestVotesThatCameBeforeTheElectionCount(t *testing.T) {
	e := newElection(1, false, nil)
	e.start(0, Vote{1, 5, 1}, false, votersUpTo(3), nil)
	e.settle(Following, Vote{3, 5, 1})
	e.peerDown(10, 3)
	e.step(10, &Notification{From: 2, Vote: Vote{2, 5, 1}, Round: 2, Version: 2})
	e.start(11, Vote{1, 5, 1}, false, votersUpTo(3), nil)
	if !e.decided || e.role != Following || e.vote.Leader != 2 || e.round != 2 {
		t.Errorf("%v %+v in round %d", e.role, e.vote, e.round)
	}
	e.decided = false
	e.start(12, Vote{1, 5, 1}, false, votersUpTo(3), nil)
	if e.decided || e.vote.Leader != 1 {
		t.Errorf("counts a vote of round 2 in round %d", e.round)
	}
}

// A leader that restarts before its followers have noticed must not take their
// votes for its former self as an election.
func TestOldVotesForAFormerSelfDoNotElect(t *testing.T) {
	e := newElection(3, false, nil)
	e.start(0, Vote{3, 0x500000009, 5}, false, votersUpTo(3), nil)
	for id := ServerID(1); id <= 2; id++ {
		e.step(1, &Notification{From: id, State: Following, Vote: Vote{3, 0x400000001, 5}, Round: 1, Version: 2})
	}
	if e.decided {
		t.Error("leads on votes of another election")
	}
	for id := ServerID(1); id <= 2; id++ {
		e.step(2, &Notification{From: id, State: Following, Vote: Vote{3, 0x500000009, 5}, Round: 1, Version: 2})
	}
	if !e.decided || e.role != Leading {
		t.Error("does not lead though a quorum follows in this round")
	}
}

func TestOneDeadAddressCostsTheFinalWait(t *testing.T) {
	p := electionOf(t, votersUpTo(3))
	p.up(1, 2)
	took := p.run(1000)
	if got := p.roles(); got != "1F2 2L" || took < finalWait || took > finalWait+20 {
		t.Errorf("%s after %d ms", got, took)
	}
}

func TestTheFinalWaitLetsABetterVoteIn(t *testing.T) {
	p := electionOf(t, votersUpTo(5))
	p.up(1, 2, 3)
	p.run(150)
	p.up(5)
	p.wants(250, "1F5 2F5 3F5 5L")
}

func TestObserversFollowAndDoNotVote(t *testing.T) {
	e := votersUpTo(3)
	for _, id := range []ServerID{4, 5} {
		e.Members = append(e.Members, Member{ID: id, Addrs: []MemberAddr{{fmt.Sprintf("h%d", id), 1, 2}}, Observer: true})
	}
	p := electionOf(t, e)
	p.server(5).own = Vote{5, 0x900000001, 9}
	p.up(4, 5, 1)
	p.wants(3000, "1? 4? 5?") // two observers and a voter are no quorum
	p.up(2)
	p.wants(1500, "1F2 2L 4O2 5O2")
	if took := p.now; p.server(4).e.vote.Leader != 2 {
		t.Errorf("at %d: observer has vote %+v", took, p.server(4).e.vote)
	}
	p.crash(2)
	p.up(3)
	p.wants(1500, "1L 3F1 4O1 5O1")
	for _, b := range p.server(1).e.ballots() {
		if b.Server > 3 {
			t.Errorf("ballot of an observer: %+v", b)
		}
	}
	if s := p.server(1).e.strangers(); len(s) > 0 {
		t.Errorf("observers are strangers: %+v", s)
	}
}

// A server that lost its disk has forgotten what it promised (R14): it neither
// votes nor helps to elect, and follows a leader that the others have.
func TestAServerThatLostItsDiskHasNoVote(t *testing.T) {
	p := electionOf(t, votersUpTo(3))
	p.server(3).lost = true
	p.up(1, 3)
	p.wants(10_000, "1? 3?")
	p.up(2)
	p.wants(2500, "1F2 2L 3F2")
	p.crash(2)
	p.wants(2500, "1F3 3L") // synced since: it votes again

	// ZooKeeper shows such a server by zxid -1.
	e := newElection(1, false, nil)
	e.start(0, Vote{1, 5, 1}, false, votersUpTo(3), nil)
	e.out = e.out[:0]
	for id := ServerID(2); id <= 3; id++ {
		e.step(1, &Notification{From: id, Vote: Vote{id, -1, 9}, Round: 1, Version: 2})
	}
	if e.vote.Leader != 1 || e.final || len(e.out) > 0 {
		t.Errorf("votes of servers without a disk count: %+v", e.vote)
	}
}

func TestALeaderMustSayItselfThatItLeads(t *testing.T) {
	for _, round := range []int64{1, 7} {
		e := newElection(1, false, nil)
		e.start(0, Vote{1, 5, 1}, false, votersUpTo(5), nil)
		for id := ServerID(2); id <= 4; id++ {
			e.step(1, &Notification{From: id, State: Following, Vote: Vote{5, 9, 2}, Round: round, Version: 2})
		}
		if e.decided {
			t.Fatalf("round %d: follows 5, which was not heard", round)
		}
		// As it stands after establishment, with zxid and round of another election.
		e.step(2, &Notification{From: 5, State: Leading, Vote: Vote{5, 8, 2}, Round: round, Version: 2})
		if !e.decided || e.role != Following || e.vote.Leader != 5 || e.round != round {
			t.Errorf("round %d: does not follow 5: %v %+v in round %d", round, e.role, e.vote, e.round)
		}
	}
}

func TestVotesOfSettledServersAreComparedByLeaderAndEpoch(t *testing.T) {
	for _, tc := range []struct {
		name    string
		a, b    Notification
		follows bool
	}{
		{"zxids and rounds may differ",
			Notification{From: 2, State: Leading, Vote: Vote{2, 5, 3}, Round: 4, Version: 2},
			Notification{From: 3, State: Following, Vote: Vote{2, 9, 3}, Round: 8, Version: 2}, true},
		{"epochs may not",
			Notification{From: 2, State: Leading, Vote: Vote{2, 5, 3}, Round: 4, Version: 2},
			Notification{From: 3, State: Following, Vote: Vote{2, 5, 2}, Round: 4, Version: 2}, false},
		{"unless one is of before version 1",
			Notification{From: 2, State: Leading, Vote: Vote{2, 5, 3}, Round: 4, Version: 0},
			Notification{From: 3, State: Following, Vote: Vote{2, 5, 2}, Round: 4, Version: 2}, true},
		{"or it is in this round",
			Notification{From: 2, State: Leading, Vote: Vote{2, 5, 3}, Round: 1, Version: 1},
			Notification{From: 3, State: Following, Vote: Vote{2, 5, 2}, Round: 1, Version: 1}, true},
		{"an observer does not count",
			Notification{From: 2, State: Leading, Vote: Vote{2, 5, 3}, Round: 4, Version: 2},
			Notification{From: 3, State: Observing, Vote: Vote{2, 5, 3}, Round: 4, Version: 2}, false},
	} {
		e := newElection(1, false, nil)
		e.start(0, Vote{1, 5, 1}, false, votersUpTo(3), nil)
		e.step(1, &tc.a)
		e.step(1, &tc.b)
		if e.decided != tc.follows {
			t.Errorf("%s: decided %v, want %v", tc.name, e.decided, tc.follows)
		}
	}
}

func TestAnswers(t *testing.T) {
	e := newElection(3, false, nil)
	e.start(0, Vote{3, 5, 1}, false, votersUpTo(3), nil)
	e.round = 4
	answer := func(n Notification) string {
		t.Helper()
		e.out = e.out[:0]
		n.Version = 2
		e.step(1, &n)
		var words []string
		for _, o := range e.out {
			words = append(words, fmt.Sprintf("%d %v %d r%d e%d", o.To, o.State, o.Vote.Leader, o.Round, o.Vote.Epoch))
		}
		return strings.Join(words, ", ")
	}
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	check("LOOKING in an older round", answer(Notification{From: 1, Vote: Vote{1, 9, 9}, Round: 2}), "1 LOOKING 3 r4 e1")
	check("LOOKING with a worse vote", answer(Notification{From: 1, Vote: Vote{1, 1, 1}, Round: 4}), "")
	check("LOOKING without a vote", answer(Notification{From: 1, NoVote: true, Round: 4}), "")
	check("not a voter", answer(Notification{From: 9, NoVote: true, Round: 1}), "9 LOOKING 3 r4 e1")
	check("LOOKING in a newer round", answer(Notification{From: 1, Vote: Vote{1, 1, 1}, Round: 6}), "1 LOOKING 3 r6 e1, 2 LOOKING 3 r6 e1")
	e.decide(Vote{3, 5, 1})
	check("decided", answer(Notification{From: 1, Vote: Vote{3, 5, 1}, Round: 6}), "1 LEADING 3 r6 e1")
	e.out = e.out[:0]
	e.settle(Leading, Vote{3, 5, 2})
	if len(e.out) != 2 || e.out[1].To != 9 {
		t.Errorf("who looked or asked was not told of the leader: %+v", e.out)
	}
	check("settled", answer(Notification{From: 2, Vote: Vote{2, 5, 1}, Round: 1}), "2 LEADING 3 r6 e2")
	check("both settled", answer(Notification{From: 2, State: Following, Vote: Vote{3, 5, 2}, Round: 6}), "")
	check("not a voter, LOOKING again", answer(Notification{From: 9, NoVote: true, Round: 2}), "9 LEADING 3 r6 e2")
	check("not a voter, again at once", answer(Notification{From: 9, NoVote: true, Round: 2}), "")
	check("not a voter, settled", answer(Notification{From: 9, State: Following, NoVote: true, Round: 1}), "")
	check("from itself", answer(Notification{From: 3, Vote: Vote{2, 5, 1}, Round: 9}), "")
	e.out = e.out[:0]
	e.peerUp(1)
	e.peerUp(77)
	if len(e.out) != 1 || e.out[0].To != 1 {
		t.Errorf("after the connections: %+v", e.out)
	}
}

func TestWhatCannotBeMeantIsRefusedAndCounted(t *testing.T) {
	e := newElection(1, false, nil)
	e.start(0, Vote{1, 5, 1}, false, votersUpTo(3), nil)
	for _, n := range []Notification{
		{From: 2, Vote: Vote{2, 5, 9}, Round: 1 << 62},
		{From: 2, Vote: Vote{2, 5, 9}, Round: -1},
		{From: 2, Vote: Vote{2, -7, 9}, Round: 1},
		{From: 2, State: Observing + 1, Vote: Vote{2, 5, 9}, Round: 1},
		{From: 2, Vote: Vote{66, 5, 9}, Round: 1},
		{From: 2, Vote: Vote{66, 5, 9}, Round: 1},
		{From: 55, Vote: Vote{55, 5, 9}, Round: 1},
	} {
		n.Version = 2
		e.step(1, &n)
	}
	if e.vote.Leader != 1 || e.round != 1 || e.final {
		t.Errorf("vote %+v in round %d", e.vote, e.round)
	}
	if b := e.ballots()[1]; b.Refused != 4 || !b.Heard || b.Vote.Leader != 66 {
		t.Errorf("ballot %+v", b)
	}
	if got := fmt.Sprint(e.strangers()); got != "[{66 2 2} {55 55 1}]" {
		t.Errorf("strangers %s", got)
	}
	for id := ServerID(1000); id < 1400; id++ {
		e.step(1, &Notification{From: id, Round: 1, NoVote: true, Version: 2})
	}
	if len(e.unknown) > maxStrangers || len(e.askers) > maxAskers {
		t.Errorf("remembers %d strangers and %d askers", len(e.unknown), len(e.askers))
	}
}

func TestAServerOfWeightZeroGetsNoVote(t *testing.T) {
	e := ensembleOf(t, "server.1=a:1:2 server.2=b:1:2 server.3=c:1:2 server.4=d:1:2 group.1=1:2:3:4 weight.4=0")
	p := electionOf(t, e)
	p.server(4).own = Vote{4, 0x900000001, 9}
	p.up(1, 2, 3, 4)
	p.wants(1000, "1F3 2F3 3L 4F3")
}

func TestBothListsMustAgreeWhileOneFollowsTheOther(t *testing.T) {
	old := votersUpTo(3)
	next := ensembleOf(t, "server.3=h3:2888:3888 server.4=d:1:2 server.5=e:1:2 version=9")
	p := newElectionPump(t, 1)
	p.add(old)
	p.add(&Ensemble{Members: next.Members[1:]})
	for _, s := range p.servers {
		s.ensemble, s.lastSeen = old, next
	}
	p.up(1, 2, 3)
	p.wants(5000, "1? 2? 3?") // a quorum of the old list only
	p.up(4)
	p.run(3000)
	if got := p.server(3).e; got.role != Leading || got.vote.Leader != 3 {
		t.Errorf("with a quorum of both lists: %s", p.roles())
	}
}

func TestAListThatIsNotCommittedYetCountsForItsServers(t *testing.T) {
	next := ensembleOf(t, "server.1=a:1:2 server.2=b:1:2 server.4=d:1:2 server.5=e:1:2 server.6=f:1:2:observer "+
		"group.1=1:2:4:5 weight.4=0 version=9")
	e := newElection(1, true, nil)
	e.start(0, Vote{1, 5, 1}, false, votersUpTo(2), next)
	for _, id := range []ServerID{4, 6, 7} {
		e.step(1, &Notification{From: id, Vote: Vote{id, 9, 9}, Round: 1, Version: 2})
	}
	if e.vote.Leader != 1 {
		t.Errorf("votes for %d: of 4, 6 and 7 the first has weight 0, the others no vote", e.vote.Leader)
	}
	if got := fmt.Sprint(e.strangers()); got != "[{7 7 1}]" {
		t.Errorf("strangers %s", got)
	}
	e.step(1, &Notification{From: 5, Vote: Vote{5, 9, 9}, Round: 1, Version: 2})
	if e.vote.Leader != 5 {
		t.Errorf("votes for %d, want 5", e.vote.Leader)
	}
	e.configure(votersUpTo(2), nil)
	if got := fmt.Sprint(e.strangers(), len(e.ballots())); got != "[{7 7 1}] 2" {
		t.Errorf("after the change: %s", got)
	}
}

func TestANewerListOfAMemberIsTakenOver(t *testing.T) {
	old := votersUpTo(3)
	next := ensembleOf(t, old.String()[:strings.Index(old.String(), "version")]+"server.4=h4:2888:3888\nversion=500000001")
	p := newElectionPump(t, 1)
	p.add(next)
	p.server(1).ensemble = old // was down while the list changed
	p.server(1).own.Zxid = 1
	p.up(2, 3, 4)
	p.wants(300, "2F4 3F4 4L")
	p.up(1)
	p.wants(50, "1F4 2F4 3F4 4L")
	if !p.server(1).ensemble.Equal(next) || p.server(1).ensemble.Version != next.Version {
		t.Errorf("has %q", p.server(1).ensemble)
	}

	e := newElection(1, false, nil) // reconfigEnabled=false
	e.start(0, Vote{1, 5, 1}, false, old, nil)
	e.step(1, &Notification{From: 2, Vote: Vote{2, 5, 1}, Round: 1, Version: 2, Ensemble: []byte(next.String())})
	if e.adopt != nil || e.vote.Leader != 2 {
		t.Errorf("adopts %v, votes for %d", e.adopt, e.vote.Leader)
	}
	if got := fmt.Sprint(e.ballots()[1].Differs); got != "[+server.4=h4:2888:3888:participant]" {
		t.Errorf("differences of static lists: %s", got)
	}

	e = newElection(1, true, nil)
	e.start(0, Vote{1, 5, 1}, false, old, nil)
	e.step(1, &Notification{From: 9, NoVote: true, Round: 1, Version: 2, Ensemble: []byte(next.String())})
	e.step(1, &Notification{From: 2, NoVote: true, Round: 1, Version: 2, Ensemble: []byte("server.1=x")})
	if e.adopt != nil || len(e.ballots()[1].Differs) != 1 {
		t.Errorf("adopts %v of a stranger or of garbage", e.adopt)
	}
	e.settle(Following, Vote{2, 5, 1})
	e.step(1, &Notification{From: 2, State: Leading, Vote: Vote{2, 5, 1}, Round: 1, Version: 2, Ensemble: []byte(next.String())})
	if e.adopt != nil {
		t.Error("adopts a list while it has a leader, who will tell it")
	}
	e.start(2, Vote{1, 5, 1}, false, old, nil)
	e.step(3, &Notification{From: 2, Vote: Vote{2, 5, 1}, Round: 2, Version: 2, Ensemble: []byte(next.String())})
	if e.adopt == nil || e.vote.Leader != 1 {
		t.Errorf("adopts %v, vote %+v: wants the list, and the vote in the election that follows", e.adopt, e.vote)
	}
}

// A leader whose quorum port nobody reaches would be elected again and again.
func TestAnUnreachableLeaderLosesTheNextElection(t *testing.T) {
	p := electionOf(t, votersUpTo(3))
	p.up(1, 2)
	for _, id := range []ServerID{1, 2} {
		p.server(id).e.shun(p.now, 3)
		p.look(p.server(id))
	}
	p.up(3)
	p.wants(1000, "1F2 2L 3F2")

	e := newElection(1, false, nil)
	e.start(0, Vote{1, 5, 1}, false, votersUpTo(3), nil)
	e.shun(0, 3)
	n := Notification{From: 3, Vote: Vote{3, 5, 1}, Round: 1, Version: 2}
	e.step(shunTime-1, &n)
	if e.vote.Leader != 1 {
		t.Errorf("votes for %d, which it could not join", e.vote.Leader)
	}
	e.step(shunTime, &n)
	if e.vote.Leader != 3 {
		t.Error("shuns for ever")
	}
}

func TestALeaderSeesThatItsVotersLookForAnother(t *testing.T) {
	e := newElection(3, false, nil)
	e.start(0, Vote{3, 5, 1}, false, votersUpTo(3), nil)
	for id := ServerID(1); id <= 2; id++ {
		e.step(1, &Notification{From: id, Vote: Vote{3, 5, 1}, Round: 1, Version: 2})
	}
	none := func(ServerID) bool { return false }
	if e.role != Leading || !e.supported(none) {
		t.Fatalf("%v", e.role)
	}
	e.step(2, &Notification{From: 1, Vote: Vote{1, 5, 1}, Round: 2, Version: 2})
	if !e.supported(none) {
		t.Error("given up though 2 and 3 are a quorum")
	}
	e.step(3, &Notification{From: 2, Vote: Vote{2, 5, 1}, Round: 2, Version: 2})
	if e.supported(none) || !e.supported(func(id ServerID) bool { return id == 1 }) {
		t.Error("without anybody the leader goes on, or not with one that has come")
	}

	f := newElection(1, false, nil)
	f.start(0, Vote{1, 5, 1}, false, votersUpTo(3), nil)
	f.step(1, &Notification{From: 3, Vote: Vote{3, 5, 1}, Round: 1, Version: 2})
	f.tick(201)
	if f.role != Following || f.leaderGone() {
		t.Fatalf("%v", f.role)
	}
	f.step(300, &Notification{From: 3, Vote: Vote{3, 5, 1}, Round: 2, Version: 2})
	if !f.leaderGone() {
		t.Error("waits for a leader that looks again")
	}
}

func TestTheIntervalGrowsToTwoSeconds(t *testing.T) {
	e := newElection(1, false, nil)
	e.start(0, Vote{1, 5, 1}, false, votersUpTo(3), nil)
	var at []Millis
	for range 6 {
		e.out = e.out[:0]
		now := e.deadline()
		e.tick(now - 1)
		if len(e.out) > 0 {
			t.Fatalf("sent before %d", now)
		}
		e.tick(now)
		if len(e.out) != 2 {
			t.Fatalf("sent %d notifications at %d", len(e.out), now)
		}
		at = append(at, now)
	}
	if got := fmt.Sprint(at); got != "[200 600 1400 3000 5000 7000]" {
		t.Errorf("resends at %s", got)
	}
}

// All start together and hear each other well within the final wait: no two
// decide differently, whatever the order of messages and histories.
func TestServersThatHearEachOtherDecideTheSame(t *testing.T) {
	for seed := range uint64(500) {
		p := newElectionPump(t, seed)
		p.add(votersUpTo([]int{2, 3, 5, 7}[seed%4]))
		p.delay = func() Millis { return 1 + Millis(p.rng.Int64N(60)) }
		best := Vote{}
		for _, i := range p.rng.Perm(len(p.servers)) {
			s := p.servers[i]
			s.own.Zxid, s.own.Epoch = Zxid(p.rng.Int64N(3)), Epoch(p.rng.Int64N(3))
			if s.own.Beats(best) {
				best = s.own
			}
			p.up(s.id)
		}
		took := p.run(1000)
		for _, s := range p.servers {
			if s.e.vote.Leader != best.Leader || s.decisions != 1 || took > 2*60+finalWait+60 {
				t.Fatalf("seed %d, best vote %+v, %d ms: %s\n%s", seed, best, took, p.roles(), strings.Join(p.trace, "\n"))
			}
		}
	}
}

// With messages lost at random, servers may decide differently in one round; only
// one of the leaders gets a quorum of followers (follow checks it). When no more
// is lost, all find a leader soon.
func TestLostNotificationsDelayAnElectionOnly(t *testing.T) {
	for seed := range uint64(400) {
		p := newElectionPump(t, seed)
		p.add(votersUpTo([]int{3, 5, 7}[seed%3]))
		p.delay = func() Millis { return 1 + Millis(p.rng.Int64N(100)) }
		lossy, loss := true, p.rng.Float64()*0.8
		p.drop = func(Notification) bool { return lossy && p.rng.Float64() < loss }
		for _, s := range p.servers {
			s.own.Zxid = Zxid(p.rng.Int64N(3))
		}
		for _, i := range p.rng.Perm(len(p.servers)) {
			p.up(p.servers[i].id)
			p.run(Millis(p.rng.Int64N(300)))
		}
		p.run(6000)
		lossy = false
		if took := p.run(20_000); !p.done() || took > joinLimit+maxInterval*5/4+1000 {
			t.Fatalf("seed %d: after %d ms: %s\n%s", seed, took, p.roles(), strings.Join(p.trace, "\n"))
		}
	}
}

// Servers crash and come back all the time; a quorum is up in the end.
func TestElectionsEndAfterCrashes(t *testing.T) {
	for seed := range uint64(300) {
		p := newElectionPump(t, seed)
		p.add(votersUpTo(5))
		p.delay = func() Millis { return 1 + Millis(p.rng.Int64N(20)) }
		p.drop = func(Notification) bool { return p.rng.Float64() < 0.1 }
		p.up(1, 2, 3, 4, 5)
		for range 30 {
			p.run(Millis(p.rng.Int64N(800)))
			if s := p.servers[p.rng.IntN(5)]; s.up {
				p.crash(s.id)
			} else {
				p.up(s.id)
			}
		}
		for _, s := range p.servers[p.rng.IntN(3):] {
			if !s.up {
				p.up(s.id)
			}
		}
		p.drop = func(Notification) bool { return false }
		if took := p.run(20_000); !p.done() || took > 2*joinLimit+2*maxInterval {
			t.Fatalf("seed %d: after %d ms: %s\n%s", seed, took, p.roles(), strings.Join(p.trace, "\n"))
		}
	}
}

func TestEqualInputsGiveEqualOutputs(t *testing.T) {
	run := func() string {
		p := newElectionPump(t, 42)
		p.add(votersUpTo(7))
		p.drop = func(Notification) bool { return p.rng.Float64() < 0.3 }
		p.up(7, 3, 1, 2, 6, 5, 4)
		p.run(5000)
		return fmt.Sprint(p.trace, p.seq, p.now)
	}
	if a, b := run(), run(); a != b {
		t.Errorf("%s\n%s", a, b)
	}
}

func BenchmarkNotification(b *testing.B) {
	e := newElection(1, true, nil)
	e.start(0, Vote{1, 5, 1}, false, votersUpTo(7), nil)
	n := Notification{From: 2, Vote: Vote{2, 5, 1}, Round: 1, Version: 2, Ensemble: e.text}
	b.ReportAllocs()
	for b.Loop() {
		e.step(1, &n)
		e.out = e.out[:0]
	}
}
