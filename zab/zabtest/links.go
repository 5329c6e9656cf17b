package zabtest

import (
	"bytes"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/znode"
)

// peerConn is a connection of the quorum port as the driver sees it.
type peerConn struct {
	link       *link
	side       int
	peer       *server
	lastCommit zab.Zxid // of the commits that came over it
	acked      bool     // NEWLEADER was acknowledged on it
	received   zab.Zxid // last transaction that came over it
	sync       zab.Zxid // of these, the last one in front of NEWLEADER
}

type arrivedSnapshot struct {
	link zab.LinkID
	tree *znode.Tree
}

func (v *server) connOf(id zab.LinkID) *peerConn {
	for _, c := range v.conns {
		if c.link.id == id {
			return c
		}
	}
	return nil
}

// linked reports whether a connection to another server is open at both ends.
func (v *server) linked(u *server) bool {
	for _, c := range v.conns {
		if c.peer == u && c.link.end[0].open && c.link.end[1].open && u.connOf(c.link.id) != nil {
			return true
		}
	}
	return false
}

func (v *server) dropConn(c *peerConn) {
	for i := range v.conns {
		if v.conns[i] == c {
			v.conns = append(v.conns[:i], v.conns[i+1:]...)
			return
		}
	}
}

// startDial connects to a leader, with retries until the node turns elsewhere.
func (v *server) startDial(to zab.ServerID) {
	v.dial = dialing{to, v.dial.try + 1}
	peer := v.s.byID(to)
	if peer == nil {
		v.step(zab.Message{Type: zab.MsgDialFailed, From: to})
		return
	}
	v.tryDial(peer, v.dial.try, v.now()+zab.Millis(v.s.p.initLimit)*v.s.p.tick)
}

func (v *server) tryDial(peer *server, try int, until zab.Millis) {
	there := v.s.net.delay(v.idx, peer.idx)
	back := v.s.net.delay(v.idx, peer.idx)
	again := func() {
		v.after(50*millisecond+usec(v.rand.Int64N(int64(50*millisecond))), func() {
			if v.dial.try != try {
				return
			}
			if v.now() > until {
				v.step(zab.Message{Type: zab.MsgDialFailed, From: peer.id})
				return
			}
			v.tryDial(peer, try, until)
		})
	}
	v.after(there, func() {
		if v.dial.try != try {
			return
		}
		n := v.s.net
		if !peer.up || peer.shown.role != zab.Leading || !n.reaches(quorumPort, v.idx, peer.idx) || !n.reaches(quorumPort, peer.idx, v.idx) {
			again()
			return
		}
		l := n.connect(v, peer)
		l.end[1].open = true
		peer.take(peer.boot, func() { peer.linkUp(l, 1) })
		v.after(back, func() {
			l.end[0].open = true
			if v.dial.try != try {
				l.close(0) // another leader was found meanwhile
				return
			}
			v.linkUp(l, 0)
		})
	})
}

func (v *server) linkUp(l *link, side int) {
	if !l.end[side].open {
		return
	}
	if side == 1 && v.shown.role != zab.Leading {
		l.close(side) // stopped listening while the connection was on its way
		return
	}
	c := &peerConn{link: l, side: side, peer: l.end[1-side].srv}
	v.conns = append(v.conns, c)
	m := zab.Message{Type: zab.MsgLinkUp, Link: l.id, From: zab.NoServer}
	if side == 0 {
		m.From = c.peer.id
	}
	v.step(m)
}

func (v *server) closeLink(c zab.Closing) {
	v.s.log(v, "closes", c)
	v.s.check.closed(v, c)
	p := v.connOf(c.Link)
	if p == nil {
		return
	}
	p.link.close(p.side)
	v.linkGone(p)
}

// linkGone forgets a connection and tells the node.
func (v *server) linkGone(c *peerConn) {
	v.dropConn(c)
	v.forgetLink(c)
	v.step(zab.Message{Type: zab.MsgLinkDown, Link: c.link.id})
}

// receive takes a packet from a link.
func (v *server) receive(l *link, side int, p *packet) {
	c := v.connOf(l.id)
	if p.kind == packetFin {
		l.end[side].open = false
		l.end[1-side].open = false
		l.n.sweep(l)
		if c != nil {
			v.linkGone(c)
		}
		return
	}
	if c == nil {
		return
	}
	switch p.kind {
	case packetNode:
		v.receiveMessage(c, p)
	case packetProgress:
		v.step(zab.Message{Type: zab.MsgProgress, Link: l.id})
	default:
		v.receiveDriver(c, p)
	}
}

func (v *server) receiveMessage(c *peerConn, p *packet) {
	m := p.msg
	m.Link = c.link.id
	m.From = c.peer.id
	v.s.event(evMessage, v, uint64(m.Type), uint64(m.Zxid))
	if v.s.trace != nil {
		v.s.log(v, "receives", &m)
	}
	switch m.Type {
	case zab.MsgSnap:
		tree, _, err := storage.ReadStream(bytes.NewReader(p.snap), treeConfig, m.Zxid)
		if err != nil {
			v.s.fail("S17", "server %d cannot read the snapshot %v of server %d: %v", v.id, m.Zxid, c.peer.id, err)
			return
		}
		v.s.check.loaded(v, tree)
		v.arrived = arrivedSnapshot{c.link.id, tree}
	case zab.MsgProposal:
		c.received = m.Proposal.Zxid
	case zab.MsgNewLeader:
		c.sync = c.received
	case zab.MsgCommit, zab.MsgCommitAndActivate:
		c.lastCommit = m.Zxid
	case zab.MsgInform, zab.MsgInformAndActivate:
		c.lastCommit, c.received = m.Proposal.Zxid, m.Proposal.Zxid
	case zab.MsgPing:
		if c.side == 1 {
			v.touchAll(c, m.Data)
		}
	}
	v.step(m)
}

// sendMessage gives a message of the node to its link.
func (v *server) sendMessage(m *zab.Message) {
	c := v.connOf(m.Link)
	v.s.check.sending(v, c, m)
	if c == nil {
		return
	}
	if v.s.trace != nil {
		v.s.log(v, "sends to "+itoa(int64(c.peer.id)), m)
	}
	switch m.Type {
	case zab.MsgCommit, zab.MsgCommitAndActivate:
		v.serving.sentCommit = max(v.serving.sentCommit, m.Zxid)
	case zab.MsgInform, zab.MsgInformAndActivate:
		v.serving.sentCommit = max(v.serving.sentCommit, m.Proposal.Zxid)
	}
	p := packet{kind: packetNode, msg: *m}
	if m.Type == zab.MsgPing && c.side == 0 {
		p.msg.Data = v.touches()
	}
	c.link.send(c.side, p, 0)
}

// locate looks where a zxid stands in the log.
func (v *server) locate(q zab.Lookup) {
	v.after(v.s.diskTime(), func() {
		m := zab.Message{Type: zab.MsgLocated, Link: q.Link}
		if z, ok := v.s.mutant.locate(v, q.Zxid); ok {
			m.Zxid = z
			v.s.probe("located")
		} else {
			m.Failed = true
			v.s.probe("not located")
		}
		v.step(m)
	})
}

// find returns the last transaction of this server's history that is not behind z,
// if the log proves it: nothing is missing between it and the end.
func (v *server) find(z zab.Zxid) (zab.Zxid, bool) {
	at, err := v.store.Locate(z)
	if err != nil {
		return 0, false
	}
	for _, err := range v.store.Entries(at) {
		if err != nil {
			return 0, false
		}
	}
	return at, true
}

// stream writes history to a link.
func (v *server) stream(st zab.Stream) {
	c := v.connOf(st.Link)
	if c == nil {
		return
	}
	done := zab.Message{Type: zab.MsgStreamed, Link: st.Link}
	boot := v.boot
	report := func() {
		v.take(boot, func() { v.step(done) })
	}
	if st.Snapshot {
		v.streamSnapshot(c, &done, report)
		return
	}
	var ps []zab.Proposal
	for e, err := range v.store.Entries(st.After) {
		if err != nil {
			v.s.probe("stream failed")
			done.Failed = true
			v.after(v.s.diskTime(), report)
			return
		}
		if e.Zxid > st.Until {
			break
		}
		r := v.s.check.logged(v, e.Zxid, e.Payload)
		ps = append(ps, zab.Proposal{Zxid: e.Zxid, Data: r.data, Ensemble: r.list})
	}
	v.s.probe("stream of the log")
	done.Zxid = st.After
	for i, p := range ps {
		done.Zxid = p.Zxid
		c.link.send(c.side, packet{kind: packetNode, msg: zab.Message{Type: zab.MsgProposal, Proposal: p, Zxid: p.Zxid}}, 0)
		commit := packet{kind: packetNode, msg: zab.Message{Type: zab.MsgCommit, Zxid: p.Zxid}}
		if i == len(ps)-1 {
			commit.bell = report
		}
		c.link.send(c.side, commit, 0)
	}
	if len(ps) == 0 {
		v.after(v.s.diskTime(), report)
	}
}

func (v *server) streamSnapshot(c *peerConn, done *zab.Message, report func()) {
	v.s.probe("stream of a snapshot")
	var b bytes.Buffer
	done.Zxid = v.tree.LastZxid()
	if v.frozen {
		// The tree can be frozen once; the snapshot waits for the other one.
		v.finishSnapshot()
	}
	if err := storage.EncodeStream(&b, v.tree.Freeze(), noLock); err != nil {
		v.s.fail("S17", "server %d: encode a snapshot: %v", v.id, err)
		return
	}
	parts := 1 + v.s.netRand.IntN(4)
	took := v.s.transferTime(b.Len())
	link := c.link.id
	boot := v.boot
	for range parts {
		c.link.send(c.side, packet{kind: packetProgress, bell: func() {
			v.take(boot, func() {
				if v.connOf(link) != nil {
					v.step(zab.Message{Type: zab.MsgProgress, Link: link})
				}
			})
		}}, took/usec(parts))
	}
	c.link.send(c.side, packet{kind: packetNode, snap: b.Bytes(), bell: report,
		msg: zab.Message{Type: zab.MsgSnap, Zxid: done.Zxid}}, 0)
}
