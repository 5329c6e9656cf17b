package zab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// world is a few nodes with disks, links and time of their own, driven by hand or
// as fast as they can. It is small and strict: what a node does that the rules
// forbid ends the test.
type world struct {
	t     testing.TB
	now   Millis
	hosts []*host // by id
	wires []*wire
	cut   map[[2]ServerID]string // pairs that cannot reach each other: "all", or only the "quorum" port
	held  map[[2]ServerID]bool   // packets wait for deliver
	links LinkID
	loud  bool // log pings and notifications too
	log   strings.Builder
	next  int // names the transactions
	agree map[Zxid]string
}

// host is one server: its disk outlives its node.
type host struct {
	id    ServerID
	cfg   Config
	node  *Node // nil while it is down
	shown string
	dial  ServerID
	notes map[ServerID]Notification // by receiver: the newest that is not delivered

	hard   HardState
	hist   []Proposal // what snapshot and log hold durably
	logs   Zxid       // the log files reach back to here; before it there is the snapshot only
	list   *Ensemble  // the stored list of servers
	next   *Ensemble
	work   []func() Message // handed to the disk and not done
	names  []string         // of work
	slow   bool             // work waits for sync
	broken bool             // truncation fails
	deaf   bool             // nothing that others send arrives

	tree      []Proposal
	received  map[LinkID][]Proposal // snapshots that came over a link
	confirmed uint64
}

// wire is a connection of the quorum port. Each end has its own id.
type wire struct {
	ends   [2]*host
	ids    [2]LinkID
	queues [2][]wirePacket // to each end
	down   [2]bool
}

type wirePacket struct {
	m    Message
	tree []Proposal // of SNAP
}

func newWorld(t testing.TB) *world {
	return &world{t: t, cut: map[[2]ServerID]string{}, held: map[[2]ServerID]bool{}, agree: map[Zxid]string{}}
}

func (w *world) logf(format string, args ...any) { fmt.Fprintf(&w.log, format+"\n", args...) }

// take returns what happened since the last call.
func (w *world) take() string {
	s := w.log.String()
	w.log.Reset()
	return s
}

func (w *world) host(id ServerID) *host {
	for _, h := range w.hosts {
		if h.id == id {
			return h
		}
	}
	w.t.Fatalf("no server %d", id)
	return nil
}

// listOf returns a list of servers.
func listOf(version Zxid, voters, observers []ServerID) *Ensemble {
	e := &Ensemble{Version: int64(version)}
	for _, id := range append(slices.Clone(voters), observers...) {
		e.Members = append(e.Members, Member{
			ID: id, Observer: slices.Contains(observers, id),
			Addrs: []MemberAddr{{Host: fmt.Sprintf("s%d", id), QuorumPort: 2888, ElectionPort: 3888}},
		})
	}
	slices.SortFunc(e.Members, func(a, b Member) int { return int(a.ID - b.ID) })
	return e
}

func (w *world) add(id ServerID, e *Ensemble, history int) *host {
	h := &host{id: id, list: e, next: e, dial: NoServer}
	h.cfg = Config{ID: id, TickTime: 1000, InitLimit: 10, SyncLimit: 5, ReconfigEnabled: true, HistoryCount: history, HistoryBytes: 1 << 20}
	w.hosts = append(w.hosts, h)
	slices.SortFunc(w.hosts, func(a, b *host) int { return int(a.id - b.id) })
	return h
}

// start makes the node of a server from its disk.
func (w *world) start(h *host, lost bool) {
	cfg := h.cfg
	cfg.Ensemble, cfg.LastSeen, cfg.Hard, cfg.Lost, cfg.LastZxid = h.list, h.next, h.hard, lost, h.last()
	cfg.Hard.Current = max(cfg.Hard.Current, cfg.LastZxid.Epoch())
	n, err := NewNode(cfg)
	if err != nil {
		w.t.Fatalf("server %d: %v", h.id, err)
	}
	h.node, h.dial, h.shown = n, NoServer, ""
	h.notes, h.received = map[ServerID]Notification{}, map[LinkID][]Proposal{}
	h.tree = slices.Clone(h.hist)
	n.Tick(w.now)
	for _, o := range w.hosts {
		if o.node != nil && o != h && !w.apart(o.id, h.id, "all") {
			o.node.PeerUp(h.id)
		}
	}
}

func (h *host) last() Zxid {
	if len(h.hist) == 0 {
		return 0
	}
	return h.hist[len(h.hist)-1].Zxid
}

// crash ends a server: what its disk has not done is lost.
func (w *world) crash(h *host) {
	h.node, h.work, h.names = nil, nil, nil
	for _, x := range slices.Clone(w.wires) {
		if x.ends[0] == h || x.ends[1] == h {
			w.sever(x)
		}
	}
}

// sever breaks a connection. What was on its way is lost.
func (w *world) sever(x *wire) {
	w.wires = slices.DeleteFunc(w.wires, func(y *wire) bool { return x == y })
	for i, h := range x.ends {
		if h.node != nil && !x.down[i] {
			w.step(h, Message{Type: MsgLinkDown, Link: x.ids[i]})
		}
	}
}

// apart reports whether two servers are cut off from each other, on all ports or
// on that one.
func (w *world) apart(a, b ServerID, port string) bool {
	c := w.cut[[2]ServerID{min(a, b), max(a, b)}]
	return c == "all" || c == port
}

func (w *world) step(h *host, m Message) {
	if err := h.node.Step(m); err != nil {
		w.t.Fatalf("server %d: step of type %d: %v\n%s", h.id, m.Type, err, w.log.String())
	}
	w.check(h)
}

// check tests the invariants after each step.
func (w *world) check(h *host) {
	if err := h.node.valid(); err != nil {
		w.t.Fatalf("server %d: %v\n%s", h.id, err, w.log.String())
	}
}

// pump lets everything happen that needs no time.
func (w *world) pump() {
	for range 100_000 {
		if !w.pumpOnce() {
			return
		}
	}
	w.t.Fatalf("it does not come to rest:\n%s", w.log.String())
}

func (w *world) pumpOnce() (busy bool) {
	for _, h := range w.hosts {
		if h.node != nil {
			busy = w.perform(h) || busy
		}
	}
	for _, h := range w.hosts {
		for h.node != nil && !h.slow && len(h.work) > 0 {
			w.sync(h)
			busy = true
		}
	}
	for _, x := range slices.Clone(w.wires) {
		busy = w.deliver(x, 0) || busy
		busy = w.deliver(x, 1) || busy
	}
	for _, h := range w.hosts {
		busy = w.connect(h) || busy
		for _, to := range slices.Sorted(maps.Keys(h.notes)) {
			n := h.notes[to]
			delete(h.notes, to)
			if o := w.host(to); o.node != nil && !o.deaf && !w.apart(h.id, to, "all") {
				if w.loud {
					w.logf("%d->%d %v %d %v", h.id, to, n.State, n.Vote.Leader, n.Vote.Zxid)
				}
				o.node.Notified(n)
				w.check(o)
				busy = true
			}
		}
	}
	return busy
}

// deliver hands the next packet to one end of a wire.
func (w *world) deliver(x *wire, end int) bool {
	from, to := x.ends[1-end], x.ends[end]
	if w.held[[2]ServerID{from.id, to.id}] {
		return false
	}
	return w.deliverNow(x, end)
}

func (w *world) deliverNow(x *wire, end int) bool {
	to := x.ends[end]
	if len(x.queues[end]) == 0 || to.node == nil || x.down[end] {
		return false
	}
	p := x.queues[end][0]
	x.queues[end] = x.queues[end][1:]
	p.m.Link = x.ids[end]
	if p.m.Type == MsgSnap {
		to.received[p.m.Link] = p.tree
	}
	w.step(to, p.m)
	return true
}

// connect dials for a learner that wants it.
func (w *world) connect(h *host) bool {
	if h.node == nil || h.dial == NoServer {
		return false
	}
	o := w.host(h.dial)
	if o.node == nil || o.deaf || o.node.Role() != Leading || w.apart(h.id, o.id, "all") || w.apart(h.id, o.id, "quorum") {
		return false
	}
	w.links += 2
	x := &wire{ends: [2]*host{h, o}, ids: [2]LinkID{w.links - 1, w.links}}
	w.wires = append(w.wires, x)
	h.dial = NoServer
	w.step(o, Message{Type: MsgLinkUp, Link: x.ids[1], From: NoServer})
	w.step(h, Message{Type: MsgLinkUp, Link: x.ids[0], From: o.id})
	return true
}

// perform does what a node wants done.
func (w *world) perform(h *host) (busy bool) {
	rd := h.node.Ready()
	w.show(h, rd)
	if rd.Role == Looking {
		h.dial = NoServer
	}
	h.list, h.next = rd.Ensemble, rd.LastSeen
	busy = !rd.Empty()
	if e := rd.StoreAccepted; e != 0 {
		h.later(fmt.Sprintf("accepted epoch %d", e), func() Message {
			h.hard.Accepted = e
			return Message{Type: MsgAcceptedStored, Epoch: e}
		})
	}
	if e := rd.StoreCurrent; e != 0 {
		h.later(fmt.Sprintf("current epoch %d", e), func() Message {
			h.hard.Current = e
			return Message{Type: MsgCurrentStored, Epoch: e}
		})
	}
	if z := rd.Truncate; z != 0 {
		h.later(fmt.Sprintf("truncate to %v", z), func() Message { return h.truncate(z) })
	}
	if in := rd.Install; in != nil {
		h.later(fmt.Sprintf("install %v", in.Zxid), func() Message { return h.install(in) })
	}
	for _, p := range rd.Append {
		h.later(fmt.Sprintf("log %v", p.Zxid), func() Message {
			if !p.Zxid.Follows(h.last()) {
				w.t.Fatalf("server %d: log %v behind %v\n%s", h.id, p.Zxid, h.last(), w.log.String())
			}
			h.hist = append(h.hist, p)
			return Message{Type: MsgAppended, Zxid: p.Zxid}
		})
	}
	for _, p := range rd.Committed {
		w.apply(h, p)
	}
	if rd.Phase == Broadcast {
		w.compare(h)
	}
	if rd.Confirmed != 0 {
		h.confirmed = rd.Confirmed
		w.logf("%d confirms %d", h.id, rd.Confirmed)
	}
	if rd.Dial != NoServer {
		h.dial = rd.Dial
	}
	for _, m := range rd.Messages {
		w.send(h, wirePacket{m: m})
	}
	for _, n := range rd.Notifications {
		h.notes[n.To] = n
	}
	var steps []Message
	for _, l := range rd.Locate {
		m := Message{Type: MsgLocated, Link: l.Link, Failed: l.Zxid < h.logs}
		for _, p := range h.hist {
			if p.Zxid <= l.Zxid {
				m.Zxid = p.Zxid
			}
		}
		w.logf("%d locates %v: %v failed=%v", h.id, l.Zxid, m.Zxid, m.Failed)
		steps = append(steps, m)
	}
	for _, s := range rd.Stream {
		steps = append(steps, w.stream(h, s))
	}
	for _, c := range rd.Close {
		w.closed(h, c)
	}
	h.node.Advance()
	for _, m := range steps {
		w.step(h, m)
	}
	return busy
}

// show logs what a server has become.
func (w *world) show(h *host, rd *Ready) {
	s := rd.Role.String()
	if rd.Role != Looking {
		s = fmt.Sprintf("%v %v of %d, epoch %d", rd.Role, rd.Phase, rd.Leader, rd.Epoch)
	} else if rd.Reason != nil {
		s += ": " + rd.Reason.Error()
	}
	if rd.Ensemble.Version != 0 && (h.list.Version != rd.Ensemble.Version) {
		w.logf("%d list of servers %v", h.id, Zxid(rd.Ensemble.Version))
	}
	if s != h.shown {
		h.shown = s
		w.logf("%d %s", h.id, s)
	}
}

func (h *host) later(name string, do func() Message) {
	h.work, h.names = append(h.work, do), append(h.names, name)
}

// sync does the oldest step of a disk.
func (w *world) sync(h *host) {
	do, name := h.work[0], h.names[0]
	h.work, h.names = h.work[1:], h.names[1:]
	m := do()
	w.logf("%d disk: %s", h.id, name)
	w.step(h, m)
}

func (h *host) truncate(z Zxid) Message {
	i := slices.IndexFunc(h.hist, func(p Proposal) bool { return p.Zxid == z })
	if h.broken || z < h.logs || i < 0 {
		return Message{Type: MsgTruncated, Zxid: z, Failed: true}
	}
	h.hist = slices.Clone(h.hist[:i+1])
	h.tree = slices.Clone(h.hist)
	return Message{Type: MsgTruncated, Zxid: z}
}

func (h *host) install(in *Installation) Message {
	h.hist = slices.Clone(h.received[in.Link])
	for _, p := range in.Committed {
		if p.Zxid > h.last() {
			h.hist = append(h.hist, p)
		}
	}
	h.logs = in.Zxid
	h.tree = slices.Clone(h.hist)
	h.hard.Current = in.Epoch
	return Message{Type: MsgInstalled, Zxid: in.Zxid}
}

func (w *world) apply(h *host, p Proposal) {
	var last Zxid
	if n := len(h.tree); n > 0 {
		last = h.tree[n-1].Zxid
	}
	if !p.Zxid.Follows(last) || !slices.ContainsFunc(h.hist, func(q Proposal) bool { return q.Zxid == p.Zxid }) {
		w.t.Fatalf("server %d: applies %v behind %v, its disk ends at %v\n%s", h.id, p.Zxid, last, h.last(), w.log.String())
	}
	h.tree = append(h.tree, p)
	w.logf("%d applies %v %s", h.id, p.Zxid, p.Data)
}

// compare checks that a server in Broadcast has what all others had there.
func (w *world) compare(h *host) {
	for i, p := range h.tree {
		prev := ""
		if i > 0 {
			prev = h.tree[i-1].Zxid.String()
		}
		s := prev + " " + string(p.Data)
		if was, ok := w.agree[p.Zxid]; ok && was != s {
			w.t.Fatalf("server %d: %v is %q, elsewhere it was %q\n%s", h.id, p.Zxid, s, was, w.log.String())
		}
		w.agree[p.Zxid] = s
	}
}

func (w *world) send(h *host, p wirePacket) {
	for _, x := range w.wires {
		for i, e := range x.ends {
			if e != h || x.ids[i] != p.m.Link || x.down[i] {
				continue
			}
			if p.m.Type != MsgPing || w.loud {
				w.logf("%d->%d %s", h.id, x.ends[1-i].id, describePacket(&p.m))
			}
			if p.m.Type == MsgAck && (p.m.Zxid.Counter() > 0 && h.last() < p.m.Zxid || h.hard.Current < p.m.Zxid.Epoch()) {
				w.t.Fatalf("server %d acknowledges %v, its disk ends at %v in epoch %d\n%s", h.id, p.m.Zxid, h.last(), h.hard.Current, w.log.String())
			}
			x.queues[1-i] = append(x.queues[1-i], p)
		}
	}
}

// stream writes history from the disk to a link.
func (w *world) stream(h *host, s Stream) Message {
	m := Message{Type: MsgStreamed, Link: s.Link, Zxid: s.After}
	if s.Snapshot {
		tree := slices.Clone(h.tree)
		if len(tree) > 0 {
			m.Zxid = tree[len(tree)-1].Zxid
		}
		w.send(h, wirePacket{Message{Type: MsgSnap, Link: s.Link, Zxid: m.Zxid}, tree})
		return m
	}
	for _, p := range h.hist {
		if p.Zxid > s.After && p.Zxid <= s.Until {
			w.send(h, wirePacket{m: Message{Type: MsgProposal, Link: s.Link, Zxid: p.Zxid, Proposal: p}})
			w.send(h, wirePacket{m: Message{Type: MsgCommit, Link: s.Link, Zxid: p.Zxid}})
			m.Zxid = p.Zxid
		}
	}
	return m
}

// closed ends one side of a connection; the other gets what was sent before.
func (w *world) closed(h *host, c Closing) {
	for _, x := range slices.Clone(w.wires) {
		for i, e := range x.ends {
			if e != h || x.ids[i] != c.Link {
				continue
			}
			if c.Reason != nil {
				w.logf("%d closes the link of %d: %v", h.id, c.Peer, c.Reason)
			}
			x.down[i] = true
			for w.deliverNow(x, 1-i) {
			}
			w.sever(x)
		}
	}
}

// pass lets time go by.
func (w *world) pass(ms Millis) {
	end := w.now + ms
	for {
		w.pump()
		next := end
		for _, h := range w.hosts {
			if h.node != nil {
				next = min(next, max(h.node.Deadline(), w.now+1))
			}
		}
		w.now = next
		for _, h := range w.hosts {
			if h.node != nil {
				h.node.Tick(w.now)
				w.check(h)
			}
		}
		w.pump()
		if w.now >= end {
			return
		}
	}
}

// propose hands new transactions to a leader.
func (w *world) propose(h *host, count int, e *Ensemble) error {
	z := h.node.NextZxid()
	var ps []Proposal
	for range count {
		w.next++
		p := Proposal{Zxid: z, Data: fmt.Appendf(nil, "tx%d", w.next)}
		if e != nil {
			e.Version = int64(z)
			p.Ensemble = e
		}
		ps = append(ps, p)
		z = z.Next()
	}
	return h.node.Step(Message{Type: MsgPropose, Proposals: ps})
}

var packetNames = map[MessageType]string{
	MsgProposal: "PROPOSAL", MsgAck: "ACK", MsgCommit: "COMMIT", MsgPing: "PING", MsgInform: "INFORM",
	MsgCommitAndActivate: "COMMITANDACTIVATE", MsgNewLeader: "NEWLEADER", MsgFollowerInfo: "FOLLOWERINFO", MsgUpToDate: "UPTODATE",
	MsgDiff: "DIFF", MsgTrunc: "TRUNC", MsgSnap: "SNAP", MsgObserverInfo: "OBSERVERINFO", MsgLeaderInfo: "LEADERINFO",
	MsgAckEpoch: "ACKEPOCH", MsgInformAndActivate: "INFORMANDACTIVATE",
}

// describePacket prints a packet as one line.
func describePacket(m *Message) string {
	s := packetNames[m.Type]
	switch m.Type {
	case MsgUpToDate:
		return s
	case MsgAckEpoch:
		if !m.HasEpoch {
			return fmt.Sprintf("%s %v epoch -1", s, m.Zxid)
		}
		return fmt.Sprintf("%s %v epoch %d", s, m.Zxid, m.Epoch)
	case MsgCommitAndActivate, MsgInformAndActivate:
		return fmt.Sprintf("%s %v leader %d", s, m.Zxid, m.Leader)
	}
	return fmt.Sprintf("%s %v", s, m.Zxid)
}
