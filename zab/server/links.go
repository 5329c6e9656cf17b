package server

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/transport"
	"github.com/paddockio/paddock/zab/wire"
)

// What other servers send comes in over readers of package transport, is decoded
// there, and waits for the driver.

// An event is what another server has sent, or another goroutine reports: one of
// the three, do for what is rare.
type event struct {
	msg  zab.Message
	link *transport.Link // that msg came over
	note *zab.Notification
	do   func() error
}

// admit says whether a server may join. It is called by the transport.
func (m *member) admit(id zab.ServerID, _ net.Addr) error {
	if m.s.cfg.ReconfigEnabled {
		return nil // it may be about to be added
	}
	l := m.lists.Load()
	if _, ok := l.inForce.Member(id); !ok {
		return fmt.Errorf("server %d is not in the list of servers", id)
	}
	return nil
}

// post hands events to the driver, in their order.
func (m *member) post(events ...event) {
	s := m.s
	s.inMu.Lock()
	m.events = append(m.events, events...)
	s.inMu.Unlock()
	s.wakeUp()
}

// maxEvents and maxEventBytes bound what other servers have sent and the driver
// has not taken yet.
const (
	maxEvents     = 64 << 10
	maxEventBytes = 64 << 20
)

// postBatch hands what a link has brought to the driver. When too much waits
// there it does not return, so that no more is read from the link.
func (m *member) postBatch(b *batch) {
	s := m.s
	s.inMu.Lock()
	for (len(m.events) > maxEvents || m.eventBytes > maxEventBytes) && !m.ended {
		m.taken.Wait()
	}
	m.events = append(m.events, b.events...)
	m.eventBytes += b.bytes
	s.inbox = append(s.inbox, b.requests...)
	s.inMu.Unlock()
	s.wakeUp()
}

// end is the end of the driver: nobody waits for it any more.
func (m *member) end() {
	m.hangUp()
	m.s.inMu.Lock()
	m.ended = true
	m.s.inMu.Unlock()
	m.taken.Broadcast()
}

// takeEvents gives the node what has come, and starts what it wants done.
func (m *member) takeEvents() error {
	s := m.s
	s.inMu.Lock()
	events := m.events
	m.events, m.freeEvents, m.eventBytes = m.freeEvents, nil, 0
	s.inMu.Unlock()
	m.taken.Broadcast()
	s.node.Tick(s.millis())
	for i := range events {
		if err := m.take(&events[i]); err != nil {
			return err
		}
	}
	clear(events)
	if cap(events) > maxFreeEvents {
		events = nil
	}
	s.inMu.Lock()
	m.freeEvents = events[:0]
	s.inMu.Unlock()
	return s.perform()
}

// maxFreeEvents bounds the memory that is kept for the next events.
const maxFreeEvents = 4096

func (m *member) take(e *event) error {
	s := m.s
	switch {
	case e.do != nil:
		return e.do()
	case e.note != nil:
		s.node.Notified(*e.note)
		return nil
	}
	msg := &e.msg
	if e.link != nil {
		msg.Link = e.link.ID()
		switch msg.Type {
		case zab.MsgLinkUp:
			m.links[msg.Link] = &link{Link: e.link}
			if e.link.Dialled() {
				m.learning.link = m.links[msg.Link]
			}
		case zab.MsgLinkDown:
			m.forgetLink(msg.Link)
		default:
			if m.links[msg.Link] == nil {
				return nil // it was given up
			}
			m.learning.noteCommit(m.links[msg.Link], msg)
		}
	}
	return m.step(*msg)
}

// step gives the node a message. What came for a role that has just ended is no
// error.
func (m *member) step(msg zab.Message) error {
	err := m.s.node.Step(msg)
	if errors.Is(err, zab.ErrNotLeading) {
		return nil
	}
	return err
}

func (m *member) forgetLink(id zab.LinkID) {
	if m.learning.link != nil && m.learning.link.ID() == id {
		m.learning.link = nil
	}
	delete(m.links, id)
}

// A batch is what comes out of one call of received.
type batch struct {
	events   []event
	requests []*request
	bytes    int
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// maxPooledBatch keeps the memory of unusually large ones from staying.
const maxPooledBatch = 1024

// received takes packets of a link, in its reader: it decodes and sorts them, and
// posts them to the driver together.
func (m *member) received(l *transport.Link, packets []wire.QuorumPacket) {
	b := batches.Get().(*batch)
	for i := range packets {
		if err := m.sort(l, &packets[i], b); err != nil {
			l.Close(err)
			break
		}
	}
	m.s.outstanding.Add(int64(len(b.requests)))
	m.postBatch(b)
	if cap(b.events) > maxPooledBatch || cap(b.requests) > maxPooledBatch {
		return
	}
	clear(b.events)
	clear(b.requests)
	*b = batch{events: b.events[:0], requests: b.requests[:0]}
	batches.Put(b)
}

// sort adds a packet to a batch as what it is.
func (m *member) sort(l *transport.Link, p *wire.QuorumPacket, b *batch) error {
	b.bytes += len(p.Data)
	switch {
	case p.Type == wire.PacketRequest && !l.Dialled():
		r, err := m.request(l, p)
		if err != nil {
			return err
		}
		b.requests = append(b.requests, r)
	case p.Type == wire.PacketRevalidate && !l.Dialled():
		r, err := m.revalidation(l, p)
		if err != nil {
			return err
		}
		b.requests = append(b.requests, r)
	case p.Type == wire.PacketRevalidate:
		var a wire.Revalidation
		if err := wire.Unmarshal(p.Data, &a); err != nil {
			return err
		}
		b.events = append(b.events, event{do: m.ifLeader(l, func() { m.revalidated(a) })})
	case p.Type == wire.PacketSync && l.Dialled():
		b.events = append(b.events, event{do: m.ifLeader(l, m.synced)})
	default:
		e, err := m.packet(l, p)
		if err != nil {
			return err
		}
		b.events = appendEvent(b.events, e)
	}
	return nil
}

// ifLeader makes an event of do for as long as l is the link to the leader.
func (m *member) ifLeader(l *transport.Link, do func()) func() error {
	return func() error {
		if m.learning.link != nil && m.learning.link.Link == l {
			do()
		}
		return nil
	}
}

// packet makes an event of a packet for the node.
func (m *member) packet(l *transport.Link, p *wire.QuorumPacket) (event, error) {
	if p.Type == wire.PacketPing && !l.Dialled() {
		ts, err := wire.DecodeTouches(nil, p)
		if err != nil {
			return event{}, err
		}
		m.touched(ts)
	}
	msg, err := p.Message()
	if err != nil {
		return event{}, err
	}
	switch msg.Type {
	case zab.MsgProposal, zab.MsgInform, zab.MsgInformAndActivate:
		text, ok, err := wire.ReconfigText(msg.Proposal.Data)
		if err != nil {
			return event{}, err
		}
		if ok {
			if msg.Proposal.Ensemble, err = zab.ParseEnsemble(string(text)); err != nil {
				return event{}, err
			}
		}
	}
	return event{link: l, msg: msg}, nil
}

// appendEvent appends an event. An ACK stands for those before it, so of many in a
// row the last is enough; the first one of a link has no counter.
func appendEvent(events []event, e event) []event {
	if n := len(events); n > 0 && e.msg.Type == zab.MsgAck && e.msg.Zxid.Counter() > 0 {
		last := &events[n-1].msg
		if last.Type == zab.MsgAck && last.Zxid.Counter() > 0 && last.Zxid < e.msg.Zxid && last.Zxid.Epoch() == e.msg.Zxid.Epoch() {
			*last = e.msg
			return events
		}
	}
	return append(events, e)
}

func (m *member) linkUp(l *transport.Link) {
	from := zab.NoServer
	if l.Dialled() {
		from = l.Peer()
	}
	m.post(event{link: l, msg: zab.Message{Type: zab.MsgLinkUp, From: from}})
}

func (m *member) linkDown(l *transport.Link, _ error) {
	m.post(event{link: l, msg: zab.Message{Type: zab.MsgLinkDown}})
}
