package zab

import (
	"slices"
	"testing"
)

// program is input for a fuzz target as a sequence of small numbers.
type program []byte

// next returns the next number, 0 to n-1; it is 0 behind the end.
func (p *program) next(n int) int {
	if len(*p) == 0 {
		return 0
	}
	b := (*p)[0]
	*p = (*p)[1:]
	return int(b) % n
}

// zxid returns one that is near something which matters to a node, or any.
func (p *program) zxid(h *host) Zxid {
	n := h.node
	epoch := max(n.epoch, n.hard.Accepted)
	switch p.next(12) {
	case 0:
		return n.log.last.Next()
	case 1:
		return n.log.last
	case 2:
		return n.log.committed
	case 3:
		if x := n.log.next(); x != nil {
			return x.Zxid
		}
		return n.log.committed.Next()
	case 4:
		return NewZxid(epoch, 0)
	case 5:
		return NewZxid(epoch, 1)
	case 6:
		return NewZxid(epoch+1, 0)
	case 7:
		return max(0, n.log.last-Zxid(p.next(8)))
	case 8:
		return n.log.last + Zxid(p.next(8))
	case 9:
		return 0
	case 10:
		return -1
	}
	var z Zxid
	for range 8 {
		z = z<<8 | Zxid(p.next(256))
	}
	return z
}

// lone is a world in which only one server is real. The others are what a
// program says.
type lone struct {
	*world
	h    *host
	hard HardState // as last seen
	link LinkID    // of a learner to its leader, 0 if there is none
	says func()    // checks what was sent
	nl   bool      // NEWLEADER was acknowledged on the link
	utd  bool      // UPTODATE was sent on the link
}

// newLone makes server 1 with some history on its disk.
func newLone(t testing.TB, list *Ensemble, history int, lost bool) *lone {
	w := newWorld(t)
	l := &lone{world: w, h: w.add(1, list, 100)}
	for _, m := range list.Members[1:] {
		w.add(m.ID, list, 100)
	}
	l.h.hard = HardState{2, 2}
	for i := range history {
		l.h.hist = append(l.h.hist, Proposal{Zxid: NewZxid(Epoch(1+2*i/max(history, 1)), 0) + Zxid(1+i%max(1, (history+1)/2))})
	}
	if lost {
		l.h.hist, l.h.hard.Current = nil, 0
	}
	l.says = func() {}
	w.start(l.h, lost)
	return l
}

// vote lets the others agree on a leader, and the server believe it.
func (l *lone) vote(leader ServerID) {
	for round := range 6 {
		n := l.h.node
		if n.Role() != Looking {
			return
		}
		l.now = max(l.now+1, min(n.Deadline(), l.now+2000))
		n.Tick(l.now)
		for _, m := range n.ensemble.Members {
			state := Looking
			if leader != 1 {
				state = map[bool]Role{true: Leading, false: Following}[m.ID == leader]
			}
			if m.ID != 1 && !m.Observer {
				v := Vote{Leader: leader, Epoch: n.currentEpoch(), Zxid: n.log.durable}
				n.Notified(Notification{From: m.ID, To: 1, State: state, Vote: v, Round: n.election.round + int64(round%2), Version: 2})
			}
			l.check(l.h)
		}
		l.do()
		l.syncAll()
	}
}

// dial connects a learner to its leader.
func (l *lone) dial() {
	if l.h.dial == NoServer || l.link != 0 {
		return
	}
	leader := l.h.dial
	l.h.dial = NoServer
	l.link, l.nl, l.utd = l.open(leader), false, false
	l.step(l.h, Message{Type: MsgLinkUp, Link: l.link, From: leader})
	l.do()
}

// open makes a connection to one of the others.
func (l *lone) open(to ServerID) LinkID {
	l.links++
	l.wires = append(l.wires, &wire{ends: [2]*host{l.h, l.host(to)}, ids: [2]LinkID{l.links, 1 << 40}})
	return l.links
}

func (l *lone) syncAll() {
	for i := 0; l.h.node != nil && len(l.h.work) > 0 && i < 1000; i++ {
		l.sync(l.h)
		l.do()
	}
}

// do performs what the server wants and checks what it says and has.
func (l *lone) do() {
	h := l.h
	for i := 0; ; i++ {
		clear(l.agree) // the others need not be honest
		if rd := h.node.Ready(); rd.Role == Looking && len(rd.Committed) > 0 {
			l.t.Fatalf("S18: applied while looking\n%s", l.log.String())
		}
		if !l.perform(h) {
			break
		}
		if i > 1000 {
			l.t.Fatalf("it does not come to rest\n%s", l.log.String())
		}
		l.says()
	}
	if a := h.hard.Accepted; a < l.hard.Accepted || h.hard.Current < l.hard.Current || a < h.hard.Current {
		l.t.Fatalf("S13: epochs %v, before they were %v\n%s", h.hard, l.hard, l.log.String())
	}
	l.hard = h.hard
	if len(h.tree) > len(h.hist) || !slices.EqualFunc(h.tree, h.hist[:len(h.tree)], func(a, b Proposal) bool { return a.Zxid == b.Zxid }) {
		l.t.Fatalf("S14: the tree is %v, the disk has %v\n%s", zxidsOf(h.tree), zxidsOf(h.hist), l.log.String())
	}
}

func zxidsOf(ps []Proposal) (list []Zxid) {
	for _, p := range ps {
		list = append(list, p.Zxid)
	}
	return list
}

// said returns and forgets what the server has sent over a link.
func (l *lone) said(link LinkID) (ms []Message) {
	for _, x := range l.wires {
		if x.ids[0] == link {
			for _, p := range x.queues[1] {
				ms = append(ms, p.m)
			}
			x.queues[1] = nil
		}
	}
	return ms
}

func (l *lone) connected(link LinkID) bool {
	return slices.ContainsFunc(l.wires, func(x *wire) bool { return x.ids[0] == link })
}

// learnerSays checks what a learner has sent at the moment at which it does so.
func (l *lone) learnerSays() {
	h, f := l.h, l.h.node.learn
	for _, m := range l.said(l.link) {
		fail := func(rule string) {
			l.t.Fatalf("%s: %s with %+v and the disk at %v, %+v\n%s", rule, describePacket(&m), h.node.Status(), h.last(), h.hard, l.log.String())
		}
		switch m.Type {
		case MsgFollowerInfo, MsgObserverInfo:
			if m.Zxid.Epoch() != h.hard.Accepted {
				fail("S13")
			}
		case MsgAckEpoch:
			if h.hard.Accepted < h.node.epoch || m.Zxid != -1 && m.Zxid != h.last() {
				fail("S13")
			}
		case MsgAck:
			if m.Zxid.Counter() == 0 {
				if h.hard.Current != m.Zxid.Epoch() || f != nil && h.last() < f.newLeaderAt {
					fail("S12: NEWLEADER")
				}
				l.nl = true
				break
			}
			if !l.nl || !slices.ContainsFunc(h.hist, func(p Proposal) bool { return p.Zxid == m.Zxid }) {
				fail("S12")
			}
		case MsgPing:
		default:
			fail("S19")
		}
	}
	if h.node.Phase() == Broadcast && !l.utd {
		l.t.Fatalf("S18: serves without UPTODATE\n%s", l.log.String())
	}
	if l.link != 0 && !l.connected(l.link) {
		l.link = 0
	}
}

// FuzzLearner lets any leader, honest or not, talk to a learner with a slow disk
// that crashes. After each packet and each write: it acknowledges only what its
// disk holds, behind the promise and NEWLEADER (S12), its epochs never go back
// (S13), its tree is a prefix of its disk (S14), its log has no gap (S15), it
// applies nothing while it looks for a leader and serves only after UPTODATE
// (S18), and it says nothing that a learner does not say (S19).
func FuzzLearner(f *testing.F) {
	const honest = 19
	steady := make([]byte, 0, 64)
	for range 20 {
		steady = append(steady, honest)
	}
	for flags := range byte(8) {
		f.Add(slices.Concat([]byte{flags, 5}, steady))
	}
	f.Add([]byte{0, 6, 0, 6, 14, 2, 7, 2, 14, 7, 4, 14, 8, 0, 4, 0, 5, 3, 14})       // TRUNC
	f.Add([]byte{0, 6, 0, 6, 14, 3, 8, 5, 4, 0, 5, 0, 7, 4, 15, honest, honest, 14}) // SNAP and a crash
	f.Add([]byte{0, 6, 0, 6, 14, 3, 1, 7, 4, 0, 3, 9, 16, 14, honest, 14, honest})   // two SNAPs and the end of the link
	f.Add([]byte{1, 3, 0, 6, 14, 1, 1, 6, 0, 7, 4, 14, 8, 6, 0, 11, 0, 9, 1})        // an observer
	f.Add([]byte{0, 9, 18, 0, 6, 14, 2, 7, 3, 14, honest, honest, honest})           // a TRUNC that fails
	f.Fuzz(func(t *testing.T, input []byte) {
		p := program(input[:min(len(input), 400)])
		flags := p.next(8)
		list := listOf(0, []ServerID{1, 2, 3}, nil)
		if flags&1 != 0 {
			list = listOf(0, []ServerID{2, 3, 4}, []ServerID{1})
		}
		l := newLone(t, list, p.next(16), flags&2 != 0)
		l.says = l.learnerSays
		sent := 0
		for len(p) > 0 {
			if l.h.node.Role() == Looking {
				l.link = 0
				l.vote(3)
			}
			l.dial()
			op := p.next(20)
			z := func() Zxid { return p.zxid(l.h) }
			var m Message
			switch op {
			case 0:
				m = Message{Type: MsgLeaderInfo, Zxid: z()}
			case 1:
				m = Message{Type: MsgDiff, Zxid: z()}
			case 2:
				m = Message{Type: MsgTrunc, Zxid: z()}
			case 3:
				m = Message{Type: MsgSnap, Zxid: z()}
			case 4:
				m = Message{Type: MsgProposal, Proposal: Proposal{Zxid: z()}}
			case 5:
				m = Message{Type: MsgCommit, Zxid: z()}
			case 6:
				m = Message{Type: MsgInform, Proposal: Proposal{Zxid: z()}}
			case 7:
				m = Message{Type: MsgNewLeader, Zxid: z()}
				if p.next(4) == 3 {
					m.Data = []byte(listOf(z(), []ServerID{1, 2, 3}, nil).String())
				}
			case 8:
				m = Message{Type: MsgUpToDate, Zxid: -1}
			case 9:
				m = Message{Type: MsgPing, Zxid: z()}
			case 10:
				m = Message{Type: MsgCommitAndActivate, Zxid: z(), Leader: ServerID(p.next(4))}
			case 11:
				m = Message{Type: MsgInformAndActivate, Proposal: Proposal{Zxid: z()}, Leader: ServerID(p.next(4))}
			case 12:
				m = Message{Type: MessageType(1 + p.next(int(MsgInformAndActivate))), Zxid: z()}
			case 13:
				if len(l.h.work) > 0 {
					l.sync(l.h)
				}
			case 14:
				l.syncAll()
			case 15:
				l.crash(l.h)
				l.wires, l.link = nil, 0
				l.start(l.h, false)
			case 16:
				if l.link != 0 {
					l.wires = nil
					l.step(l.h, Message{Type: MsgLinkDown, Link: l.link})
					l.link = 0
				}
			case 17:
				l.now += Millis(p.next(256)) * 50
				l.h.node.Tick(l.now)
				l.check(l.h)
			case 18:
				l.h.broken = !l.h.broken
			case honest:
				m = l.honest()
			}
			if m.Type != MsgNone && l.link != 0 {
				if _, twice := l.h.received[l.link]; m.Type == MsgSnap && !twice {
					l.h.received[l.link] = nil // a driver keeps the first tree of a link
					if m.Zxid > 0 {
						l.h.received[l.link] = []Proposal{{Zxid: m.Zxid}}
					}
				}
				m.Link = l.link
				sent++
				l.utd = l.utd || m.Type == MsgUpToDate
				m.Zxid = max(m.Zxid, -1)
				if m.Proposal.Zxid != 0 {
					m.Zxid = m.Proposal.Zxid
				}
				l.step(l.h, m)
			}
			l.do()
			if f := l.h.node.learn; f != nil && len(f.queue)+len(f.behind) > sent {
				t.Fatalf("%d packets are kept of %d", len(f.queue)+len(f.behind), sent)
			}
		}
	})
}

// honest returns what a leader that keeps the rules could send next, or does
// what it waits for.
func (l *lone) honest() Message {
	n := l.h.node
	f := n.learn
	if f == nil {
		return Message{}
	}
	switch f.state {
	case greeted:
		return Message{Type: MsgLeaderInfo, Zxid: NewZxid(n.hard.Accepted+1, 0)}
	case acceptable:
		if f.whole {
			return Message{Type: MsgSnap, Zxid: NewZxid(n.epoch, 0)}
		}
		return Message{Type: MsgDiff, Zxid: n.log.last}
	case copying:
		return Message{Type: MsgNewLeader, Zxid: NewZxid(n.epoch, 0)}
	case acknowledged:
		return Message{Type: MsgUpToDate, Zxid: -1}
	case broadcasting:
		z := NewZxid(n.epoch, 1)
		if n.log.last >= z {
			z = n.log.last.Next()
		}
		if x := n.log.next(); x != nil && x.Zxid <= n.log.durable {
			return Message{Type: MsgCommit, Zxid: x.Zxid}
		}
		if n.role == Observing {
			return Message{Type: MsgInform, Proposal: Proposal{Zxid: z}}
		}
		return Message{Type: MsgProposal, Proposal: Proposal{Zxid: z}}
	}
	l.syncAll()
	return Message{}
}

// FuzzLeader lets learners, honest or not, talk to a leader with a slow disk. It
// commits only what its disk or that of others makes a quorum of servers that
// said so (S8), tells nobody of a proposal or commit before NEWLEADER on that link
// or out of order (S15, S19), serves only when a quorum has acknowledged
// NEWLEADER (S18), and keeps no more links than there are.
func FuzzLeader(f *testing.F) {
	const honest = 11
	steady := slices.Repeat([]byte{honest, 0, honest, 1}, 16)
	for history := range byte(4) {
		f.Add(slices.Concat([]byte{history * 3}, steady))
	}
	write := []byte{7, 0, 2, 9, 0, honest, 0, 10, 0, 4, 8, 0, 3, honest, 0, 10, 1, 2}
	f.Add(slices.Concat([]byte{5}, steady[:40], write, steady, write))
	f.Fuzz(func(t *testing.T, input []byte) {
		p := program(input[:min(len(input), 400)])
		list := listOf(0, []ServerID{1, 2, 3}, []ServerID{4})
		l := newLone(t, list, p.next(16), false)
		h := l.h
		links := map[LinkID]*farLearner{}
		acked := map[ServerID]Zxid{} // by those that may count: all up to there
		established := map[Epoch]bool{}
		ack := func(k *farLearner, z Zxid) {
			if k.id == 4 || !k.nl {
				return
			}
			if z == NewZxid(k.epoch, 0) {
				established[k.epoch] = true
				z = k.cover // R3: with NEWLEADER, everything before it
			}
			acked[k.id] = max(acked[k.id], z)
		}
		l.says = func() {
			for id, k := range links {
				for _, m := range l.said(id) {
					k.takes(l, m)
				}
				if !l.connected(id) {
					delete(links, id)
				}
			}
			n := h.node
			if n.Role() != Leading {
				return
			}
			if n.Phase() == Broadcast && !established[n.epoch] {
				t.Fatalf("S18: epoch %d is served without a quorum\n%s", n.epoch, l.log.String())
			}
			if c := n.log.committed; c.Epoch() == n.epoch && c.Counter() > 0 && btoi(acked[2] >= c)+btoi(acked[3] >= c)+btoi(h.last() >= c) < 2 {
				t.Fatalf("S8: %v is committed, %v and the disk at %v acknowledge\n%s", c, acked, h.last(), l.log.String())
			}
			if len(n.lead.links) > len(links) {
				t.Fatalf("%d links are kept of %d", len(n.lead.links), len(links))
			}
		}
		for len(p) > 0 {
			if h.node.Role() == Looking {
				l.vote(1)
			}
			if h.node.Role() != Leading {
				return // it cannot win: nothing to test
			}
			op, id := p.next(12), ServerID(2+p.next(3))
			var k *farLearner
			var link LinkID
			for at, x := range links {
				if x.id == id {
					k, link = x, at
				}
			}
			m := Message{Link: link}
			switch op {
			case 0:
				if k == nil {
					link = l.open(id)
					links[link] = &farLearner{id: id}
					l.step(h, Message{Type: MsgLinkUp, Link: link, From: NoServer})
				}
			case 1:
				m.Type, m.From, m.Zxid = MsgFollowerInfo, id, p.zxid(h)
			case 2:
				m.Type, m.From, m.Zxid = MsgObserverInfo, id, p.zxid(h)
			case 3:
				m.Type, m.Zxid, m.Epoch, m.HasEpoch = MsgAckEpoch, p.zxid(h), Epoch(p.next(5)), p.next(4) > 0
			case 4:
				m.Type, m.Zxid = MsgAck, p.zxid(h)
			case 5:
				m.Type, m.Zxid = MsgPing, p.zxid(h)
			case 6:
				m.Type, m.Zxid = MessageType(1+p.next(int(MsgInformAndActivate))), p.zxid(h)
			case 7:
				if h.node.Phase() == Broadcast {
					if err := l.propose(h, 1+p.next(3), nil); err != nil {
						t.Fatal(err)
					}
				}
			case 8:
				if len(h.work) > 0 {
					l.sync(h)
				}
			case 9:
				l.syncAll()
			case 10:
				l.now += Millis(p.next(256)) * 20
				h.node.Tick(l.now)
				l.check(h)
			case honest:
				l.syncAll()
				if k == nil {
					link = l.open(id)
					links[link] = &farLearner{id: id}
					l.step(h, Message{Type: MsgLinkUp, Link: link, From: NoServer})
				} else {
					m = k.honest(h)
					m.Link = link
				}
			}
			if m.Type != MsgNone && k != nil {
				if m.Type == MsgAck {
					ack(k, m.Zxid)
				}
				l.step(h, m)
			}
			l.do()
		}
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// farLearner is one end of a link to a leader: what came over it.
type farLearner struct {
	id       ServerID
	greeted  bool // FOLLOWERINFO was sent
	promised bool // ACKEPOCH was sent
	epoch    Epoch
	begun    bool
	acked    bool // NEWLEADER
	nl       bool // came
	last     Zxid // proposal
	cover    Zxid // what came before NEWLEADER
	answered Zxid
}

// takes checks a packet of the leader.
func (k *farLearner) takes(l *lone, m Message) {
	fail := func(why string) {
		l.t.Fatalf("%s: %s to server %d, of which is known %+v\n%s", why, describePacket(&m), k.id, *k, l.log.String())
	}
	switch m.Type {
	case MsgLeaderInfo:
		if k.epoch != 0 || l.h.hard.Accepted < m.Zxid.Epoch() {
			fail("S13")
		}
		k.epoch = m.Zxid.Epoch()
	case MsgDiff, MsgTrunc, MsgSnap:
		if k.epoch == 0 || k.begun {
			fail("S19")
		}
		k.begun, k.cover = true, m.Zxid
		if m.Type != MsgDiff {
			k.last = m.Zxid
		}
	case MsgNewLeader:
		if !k.begun || k.nl || m.Zxid != NewZxid(k.epoch, 0) {
			fail("S19")
		}
		k.nl, k.cover = true, max(k.cover, k.last)
	case MsgProposal, MsgInform, MsgCommit, MsgInformAndActivate, MsgCommitAndActivate:
		if !k.begun {
			fail("S19")
		}
		if m.Type != MsgProposal && m.Type != MsgInform {
			break
		}
		if k.last != 0 && !m.Proposal.Zxid.Follows(k.last) {
			fail("S15")
		}
		k.last = m.Proposal.Zxid
	case MsgUpToDate:
		if !k.nl {
			fail("S19")
		}
	case MsgPing:
	default:
		fail("S19")
	}
}

// honest returns what a learner that keeps the rules could send next.
func (k *farLearner) honest(h *host) Message {
	switch {
	case !k.greeted:
		k.greeted = true
		t := MsgFollowerInfo
		if k.id == 4 {
			t = MsgObserverInfo
		}
		return Message{Type: t, From: k.id, Zxid: NewZxid(h.node.hard.Accepted, 0)}
	case k.epoch != 0 && !k.promised:
		k.promised = true
		return Message{Type: MsgAckEpoch, Zxid: h.node.log.durable, Epoch: h.node.hard.Current, HasEpoch: true}
	case k.nl && !k.acked:
		k.acked = true
		return Message{Type: MsgAck, Zxid: NewZxid(k.epoch, 0)}
	case k.acked && k.id != 4 && k.last > k.answered && k.last.Epoch() == k.epoch:
		k.answered = max(NewZxid(k.epoch, 0), k.answered).Next()
		return Message{Type: MsgAck, Zxid: k.answered}
	}
	return Message{Type: MsgPing, Zxid: h.node.log.last}
}
