package zabtest

import (
	"github.com/paddockio/paddock/zab"
)

// port is one of the nets that can be cut apart from the others.
type port uint8

const (
	quorumPort port = iota
	electionPort
	clientPort
	ports
)

// network carries what servers and clients send to each other. Hosts are numbered:
// servers first, then clients.
type network struct {
	s     *sim
	hosts int
	// cut counts the faults that keep host a from reaching host b, at
	// [(port*hosts+a)*hosts+b].
	cut   []int
	links []*link // that are open at one end at least
	last  zab.LinkID
	posts []mailbox // of the election port, at [from*servers+to]
	calls []call    // connections of the election port, at [low*servers+high]

	// slow is what a packet takes longer from or to a host.
	slow []usec
}

func newNetwork(s *sim, servers, clients int) *network {
	hosts := servers + clients
	n := &network{
		s: s, hosts: hosts, cut: make([]int, int(ports)*hosts*hosts), slow: make([]usec, hosts),
		posts: make([]mailbox, servers*servers), calls: make([]call, servers*servers),
	}
	return n
}

func (n *network) reaches(p port, a, b int) bool {
	return n.cut[(int(p)*n.hosts+a)*n.hosts+b] == 0
}

// sever keeps a from reaching b; mend takes that back once.
func (n *network) sever(p port, a, b int) { n.cut[(int(p)*n.hosts+a)*n.hosts+b]++ }

func (n *network) mend(p port, a, b int) {
	c := &n.cut[(int(p)*n.hosts+a)*n.hosts+b]
	if *c--; *c > 0 {
		return
	}
	// What waits in the buffers goes on.
	for _, l := range n.links {
		for to := range l.end {
			if p == quorumPort && l.end[1-to].host() == a && l.end[to].host() == b {
				l.arm(to, n.s.now+n.delay(a, b))
			}
		}
	}
	for _, c := range n.s.clients {
		if p == clientPort && c.conn != nil {
			c.conn.kick(a, b)
		}
	}
	if p == electionPort && a < n.servers() && b < n.servers() {
		n.pickUp(a, b)
	}
}

// mendAll ends all cuts.
func (n *network) mendAll() {
	for a := range n.hosts {
		for b := range n.hosts {
			n.mendWay(a, b)
		}
	}
}

// mendWay ends all cuts of the way from a to b.
func (n *network) mendWay(a, b int) {
	for p := range ports {
		if c := &n.cut[(int(p)*n.hosts+a)*n.hosts+b]; *c > 0 {
			*c = 1
			n.mend(p, a, b)
		}
	}
}

func (n *network) servers() int { return len(n.s.servers) }

// delay draws how long a packet takes.
func (n *network) delay(a, b int) usec {
	p, r := &n.s.p, n.s.netRand
	d := p.delayMin + usec(r.ExpFloat64()*float64(p.delayMean))
	if p.delayTail > 0 && r.IntN(1000) < p.delayTail {
		d += usec(r.Int64N(int64(p.delayTailMax)))
	}
	return d + n.slow[a] + n.slow[b]
}

// A packet is what travels over the quorum port: a message of the node, or of the
// drivers to each other.
type packet struct {
	at   usec
	kind packetKind
	msg  zab.Message
	snap []byte   // of a MsgSnap
	fwd  *request // forwarded, or a sync
	sess zab.SessionID
	ok   bool
	bell func() // runs at the sender when the packet has left it
}

type packetKind uint8

const (
	packetNode packetKind = iota
	packetFin
	packetRequest
	packetSync        // learner to leader
	packetSynced      // leader to learner: sess and the xid in fwd
	packetRevalidate  // learner to leader
	packetRevalidated // leader to learner
	packetProgress    // bytes of a snapshot
)

// A link is a connection of the quorum port: two queues that keep their order.
type link struct {
	n   *network
	id  zab.LinkID
	end [2]linkEnd // the one who dialled, the one who was
}

type linkEnd struct {
	srv   *server
	boot  int
	open  bool // as far as this end knows
	in    fifo[packet]
	last  usec // arrival of the last packet
	armed bool
}

func (e *linkEnd) host() int { return e.srv.idx }

// alive reports whether the process that has this end is still there.
func (e *linkEnd) alive() bool { return e.srv.up && e.srv.boot == e.boot }

// connect makes a link, open at the end that was dialled; the other end learns of
// it later.
func (n *network) connect(from, to *server) *link {
	n.last++
	l := &link{n: n, id: n.last}
	l.end[0] = linkEnd{srv: from, boot: from.boot}
	l.end[1] = linkEnd{srv: to, boot: to.boot}
	n.links = append(n.links, l)
	return l
}

// send queues a packet to the other end.
func (l *link) send(from int, p packet, extra usec) {
	e, to := &l.end[from], &l.end[1-from]
	if !e.open && p.kind != packetFin {
		return
	}
	d := l.n.delay(e.host(), to.host()) + extra
	p.at = max(l.n.s.now+d, to.last)
	to.last = p.at
	to.in.push(p)
	l.arm(1-from, p.at)
}

// arm plans the arrival of the first packet at an end.
func (l *link) arm(to int, at usec) {
	e := &l.end[to]
	if e.armed || e.in.len() == 0 {
		return
	}
	e.armed = true
	l.n.s.at(max(at, e.in.first().at), func() { l.arrive(to) })
}

func (l *link) arrive(to int) {
	e, from := &l.end[to], &l.end[1-to]
	e.armed = false
	if e.in.len() == 0 || !l.n.reaches(quorumPort, from.host(), e.host()) {
		return // until it is mended
	}
	if !e.srv.host {
		e.in.pop() // nobody answers
		l.arm(to, l.n.s.now)
		return
	}
	p := e.in.pop()
	l.arm(to, l.n.s.now)
	if p.bell != nil && from.alive() {
		p.bell()
	}
	if !e.alive() || !e.open {
		if p.kind != packetFin {
			l.reset(1 - to)
		}
		return
	}
	e.srv.take(e.boot, func() {
		if e.open {
			e.srv.receive(l, to, &p)
		}
	})
}

// reset tells an end that the other one is gone.
func (l *link) reset(to int) {
	e := &l.end[to]
	if !e.open || !e.alive() {
		return
	}
	l.send(1-to, packet{kind: packetFin}, 0)
}

// close ends the link at one end, which the other one learns of behind all that
// was sent before.
func (l *link) close(from int) {
	if !l.end[from].open {
		return
	}
	l.end[from].open = false
	l.end[from].in.clear()
	l.send(from, packet{kind: packetFin}, 0)
	l.n.sweep(l)
}

// abandon is close without a word: the host has lost its power.
func (l *link) abandon(from int) {
	l.end[from].open = false
	l.n.sweep(l)
}

// sweep forgets a link that is closed at both ends.
func (n *network) sweep(l *link) {
	if l.end[0].open || l.end[1].open {
		return
	}
	for i := range n.links {
		if n.links[i] == l {
			n.links = append(n.links[:i], n.links[i+1:]...)
			return
		}
	}
}

// mailbox holds the newest notification from one server to another that has not
// left yet, and the one that is under way.
type mailbox struct {
	waiting, flying bool
	next, now       zab.Notification
	trip            int // counts what was sent
}

// call is the connection of the election port between two servers.
type call struct {
	up      bool
	dialing bool
}

func (n *network) callOf(a, b int) *call { return &n.calls[min(a, b)*n.servers()+max(a, b)] }

// post puts a notification into the mailbox of its receiver.
func (n *network) post(from, to int, note zab.Notification) {
	m := &n.posts[from*n.servers()+to]
	m.waiting, m.next = true, note
	if !n.callOf(from, to).up {
		n.dialElection(from, to, 0)
		return
	}
	n.pickUp(from, to)
}

// pickUp sends what is in a mailbox, unless something from it is under way.
func (n *network) pickUp(from, to int) {
	m := &n.posts[from*n.servers()+to]
	c := n.callOf(from, to)
	if m.flying {
		// It may have got stuck in a cut.
		if n.reaches(electionPort, from, to) {
			n.fly(from, to, m)
		}
		return
	}
	if !m.waiting || !c.up {
		return
	}
	m.flying, m.waiting, m.now = true, false, m.next
	n.fly(from, to, m)
}

func (n *network) fly(from, to int, m *mailbox) {
	m.trip++
	note, trip := m.now, m.trip
	boot := n.s.servers[to].boot
	n.s.at(n.s.now+n.delay(from, to), func() {
		if !n.callOf(from, to).up || !m.flying || m.trip != trip {
			return
		}
		if !n.reaches(electionPort, from, to) {
			return // until it is mended
		}
		m.flying = false
		srv := n.s.servers[to]
		srv.take(boot, func() { srv.notified(note) })
		n.pickUp(from, to)
	})
}

// dialElection connects two servers on the election port, after a while and as
// often as needed.
func (n *network) dialElection(a, b int, wait usec) {
	c := n.callOf(a, b)
	if c.up || c.dialing {
		return
	}
	c.dialing = true
	n.s.at(n.s.now+wait+n.delay(a, b), func() {
		c.dialing = false
		x, y := n.s.servers[a], n.s.servers[b]
		if !x.up && !y.up {
			return // who comes back first dials
		}
		if !x.up || !y.up || !n.reaches(electionPort, a, b) || !n.reaches(electionPort, b, a) {
			n.dialElection(a, b, 50*millisecond+usec(n.s.netRand.Int64N(int64(950*millisecond))))
			return
		}
		c.up = true
		for _, p := range [2][2]*server{{x, y}, {y, x}} {
			m := &n.posts[p[0].idx*n.servers()+p[1].idx]
			m.flying = false
			p[0].take(p[0].boot, func() { p[0].peerUp(p[1].id) })
			n.pickUp(p[0].idx, p[1].idx)
		}
	})
}

// hangUp breaks the election connection of two servers.
func (n *network) hangUp(a, b int) {
	c := n.callOf(a, b)
	if !c.up {
		return
	}
	c.up = false
	n.posts[a*n.servers()+b].flying = false
	n.posts[b*n.servers()+a].flying = false
	n.dialElection(a, b, usec(n.s.netRand.Int64N(int64(500*millisecond))))
}

// hangUpAll is what the end of a process does to its connections on the election
// port.
func (n *network) hangUpAll(a int) {
	for b := range n.servers() {
		if b != a {
			n.hangUp(a, b)
		}
		n.posts[a*n.servers()+b] = mailbox{}
	}
}
