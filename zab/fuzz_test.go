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
				if m.Type == MsgSnap {
					l.h.received[l.link] = nil
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
