package transport

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// ElectionConfig says how an [Election] works. ID, Listen and Received are needed.
type ElectionConfig struct {
	ID zab.ServerID

	// Listen are the addresses, host:port, where the port is opened.
	Listen []string

	// Advertise are the addresses that peers are told to dial. Default: those of
	// this server in the ensemble, of which Apache takes the first only unless all
	// servers have multiAddress.enabled (MultiAddress).
	Advertise    []string
	MultiAddress bool

	// AllowUnknown accepts some servers that are in no list: new ones that want to
	// learn who leads before they are added by a reconfiguration.
	AllowUnknown bool

	// Received takes a notification. It is called by the reader of the connection,
	// which reads on when it has returned; notifications of one peer keep their order.
	Received func(zab.Notification)

	// PeerUp, if not nil, is called when a connection to a peer is there, and
	// PeerDown when one has ended and no other has taken its place.
	PeerUp, PeerDown func(zab.ServerID)

	// DialTimeout bounds one attempt to connect (default 2s), HandshakeTimeout the
	// time until a peer has said who it is (5s), WriteTimeout the sending of one
	// message and the receiving of one that has begun (5s).
	DialTimeout, HandshakeTimeout, WriteTimeout time.Duration

	// MinBackoff and MaxBackoff bound the pause between attempts to connect to a
	// peer; it doubles. Defaults 20ms and 1s.
	MinBackoff, MaxBackoff time.Duration

	// Net defaults to TCP{}, Logger to silence.
	Net    Net
	Logger *slog.Logger
}

const (
	// maxUnknown is how many servers that are in no list are connected at once.
	maxUnknown = 16
	// tellPause is the least time that a peer with a greater id gets to connect.
	tellPause = 100 * time.Millisecond
	// hopeless is how long an attempt to connect may take before a newer one has
	// better prospects.
	hopeless = 500 * time.Millisecond
	// muteFault is how many connections in a row a peer closes without a word before
	// it is named for it.
	muteFault = 5
	// maxHandshakes is how many connections may not have said yet who they are.
	maxHandshakes = 64
)

// An Election is the election port of one server (class QuorumCnxManager). Of two
// servers the one with the greater id connects: the other makes itself known by a
// connection that it closes after its initial message. Methods are safe for
// concurrent use.
type Election struct {
	cfg     ElectionConfig
	log     *slog.Logger
	faults  *faults
	shakes  handshakes
	changed chan struct{} // 1: peers differ from the loops that run, or listen from listeners
	wg      sync.WaitGroup

	mu        sync.Mutex // guards what follows, and the peers; never held during I/O or a callback
	peers     map[zab.ServerID]*peer
	header    []byte // initial message of this server
	listen    []string
	listeners []*listener
}

// A peer is another server, as Election.mu guards it.
type peer struct {
	id     zab.ServerID
	addrs  []string // configured; nil for one that is in no list
	listed bool
	voter  bool

	conn     *electionConn // nil: none
	hint     []string      // addresses in the last initial message
	unsent   []byte        // the mailbox: frame of the newest notification
	last     []byte        // frame that was sent last
	redial   bool          // the peer has asked to be connected to
	pause    time.Duration // before the next attempt to connect
	kick     chan struct{} // 1: the dialler shall look again
	hurry    chan struct{} // 1: and not pause first
	stop     func()        // ends the dialler; nil: none runs
	abort    func()        // ends the attempt under way; nil: there is none
	began    time.Time     // the attempt under way
	err      error         // why there is no connection
	without  time.Time     // since when there is none; set with err
	mute     int           // connections in a row that p has closed without a word
	sent     uint64
	received uint64
}

// An electionConn is the connection to a peer.
type electionConn struct {
	net.Conn
	r     *bufio.Reader
	since time.Time
	wake  chan struct{} // 1: something is in the mailbox
	done  chan struct{} // closed when the reader has ended
	heard bool          // a notification has come; owned by the reader
}

// PeerStatus is what is known of the connection to a peer.
type PeerStatus struct {
	ID             zab.ServerID
	Listed         bool // in the ensemble
	Connected      bool
	Remote         string    // address of the connection
	Since          time.Time // when it was made; or since when there is none, zero if that was not noticed
	Err            error     // why there is none
	Sent, Received uint64    // notifications
}

// ElectionStatus is a copy of the state for people to read.
type ElectionStatus struct {
	Listen []error      // for each address why it is not open, nil if it is
	Peers  []PeerStatus // by id
	Faults []Fault      // the latest first
	Faulty uint64       // how many faults there were
}

// NewElection returns an Election that does nothing before Run.
func NewElection(cfg ElectionConfig) *Election {
	setDefault(&cfg.DialTimeout, 2*time.Second)
	setDefault(&cfg.HandshakeTimeout, 5*time.Second)
	setDefault(&cfg.WriteTimeout, 5*time.Second)
	setDefault(&cfg.MinBackoff, 20*time.Millisecond)
	setDefault(&cfg.MaxBackoff, time.Second)
	if cfg.Net == nil {
		cfg.Net = TCP{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.PeerUp == nil {
		cfg.PeerUp = func(zab.ServerID) {}
	}
	if cfg.PeerDown == nil {
		cfg.PeerDown = func(zab.ServerID) {}
	}
	e := &Election{
		listen: cfg.Listen,
		cfg:    cfg, log: cfg.Logger, faults: newFaults(cfg.Logger),
		changed: make(chan struct{}, 1),
		peers:   map[zab.ServerID]*peer{},
		shakes:  handshakes{max: maxHandshakes},
	}
	e.setHeaderLocked(nil)
	return e
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

// Run opens the port and keeps connections until ctx ends and everything it
// started has ended. It is called once and returns nil.
func (e *Election) Run(ctx context.Context) error {
	begin := func(addr string) *listener {
		lctx, stop := context.WithCancel(ctx)
		l := &listener{net: e.cfg.Net, addr: addr, log: e.log, handle: func(conn net.Conn) { e.accept(ctx, conn) }, stop: stop}
		e.wg.Go(func() {
			defer stop()
			l.run(lctx)
		})
		return l
	}
	stop := context.AfterFunc(ctx, e.shakes.closeAll)
	defer stop()
	for {
		if ctx.Err() == nil {
			e.mu.Lock()
			e.listeners = adjust(e.listeners, e.listen, begin)
			e.mu.Unlock()
		}
		e.startDiallers(ctx)
		select {
		case <-ctx.Done():
			e.wg.Wait()
			return nil
		case <-e.changed:
		}
	}
}

// SetListen changes the addresses of the port, which a reconfiguration may do.
// Connections stay.
func (e *Election) SetListen(addrs ...string) {
	e.mu.Lock()
	e.listen = slices.Clone(addrs)
	e.mu.Unlock()
	wake(e.changed)
}

// SetPeers says who the other servers are: the members of all given lists, of
// which there are two while a reconfiguration is under way; the first list that
// has a server gives its addresses. A server that is in none of them any more is
// disconnected.
func (e *Election) SetPeers(lists ...*zab.Ensemble) {
	members := map[zab.ServerID]zab.Member{}
	for _, list := range lists {
		if list == nil {
			continue
		}
		for _, m := range list.Members {
			if have, ok := members[m.ID]; ok {
				have.Observer = have.Observer && m.Observer
				m = have
			}
			members[m.ID] = m
		}
	}
	var drop []*electionConn
	e.mu.Lock()
	e.setHeaderLocked(electionAddrs(members[e.cfg.ID]))
	delete(members, e.cfg.ID)
	for id, m := range members {
		p := e.peers[id]
		if p == nil {
			p = e.addPeerLocked(id)
		}
		p.listed, p.voter, p.addrs = true, !m.Observer, electionAddrs(m)
	}
	for id, p := range e.peers {
		if _, ok := members[id]; !ok && p.listed {
			if p.stop != nil {
				p.stop()
			}
			if p.conn != nil {
				drop = append(drop, p.conn)
			}
			delete(e.peers, id)
		}
	}
	e.mu.Unlock()
	for _, c := range drop {
		c.Close()
	}
	wake(e.changed)
}

func electionAddrs(m zab.Member) (addrs []string) {
	for _, a := range m.Addrs {
		addrs = append(addrs, net.JoinHostPort(a.Host, strconv.Itoa(a.ElectionPort)))
	}
	return addrs
}

// setHeaderLocked encodes the initial message. addrs are those of this server in
// the ensemble.
func (e *Election) setHeaderLocked(addrs []string) {
	if len(e.cfg.Advertise) > 0 {
		addrs = e.cfg.Advertise
	}
	if !e.cfg.MultiAddress {
		addrs = addrs[:min(1, len(addrs))]
	}
	m := wire.InitialMessage{Server: e.cfg.ID, Addrs: addrs}
	e.header = m.Append(nil)
}

func (e *Election) addPeerLocked(id zab.ServerID) *peer {
	p := &peer{id: id, kick: make(chan struct{}, 1), hurry: make(chan struct{}, 1), pause: e.cfg.MinBackoff}
	e.peers[id] = p
	return p
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Send puts n into the mailbox of n.To, where it replaces one that was not sent
// yet. A notification to this server itself or to one that is not known is dropped.
func (e *Election) Send(n zab.Notification) {
	frame := wire.AppendNotification(make([]byte, 4, 64+len(n.Ensemble)), &n)
	wire.AppendInt(frame[:0], int32(len(frame)-4))
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peers[n.To]
	if p == nil {
		return
	}
	p.unsent = frame
	if p.conn != nil {
		wake(p.conn.wake)
	} else {
		wake(p.kick)
	}
}

// Status returns a copy of the state.
func (e *Election) Status() ElectionStatus {
	var s ElectionStatus
	e.mu.Lock()
	for _, p := range e.peers {
		ps := PeerStatus{ID: p.id, Listed: p.listed, Since: p.without, Err: p.err, Sent: p.sent, Received: p.received}
		if p.conn != nil {
			ps.Connected, ps.Remote, ps.Since, ps.Err = true, p.conn.RemoteAddr().String(), p.conn.since, nil
		}
		s.Peers = append(s.Peers, ps)
	}
	listeners := e.listeners
	e.mu.Unlock()
	slices.SortFunc(s.Peers, func(a, b PeerStatus) int { return cmp.Compare(a.ID, b.ID) })
	for _, l := range listeners {
		s.Listen = append(s.Listen, l.status())
	}
	s.Faults, s.Faulty = e.faults.list()
	return s
}

// startDiallers starts what SetPeers asks for.
func (e *Election) startDiallers(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.peers {
		if p.listed && p.stop == nil && ctx.Err() == nil {
			ctx, stop := context.WithCancel(ctx)
			p.stop = stop
			e.wg.Go(func() {
				defer stop()
				e.keepConnected(ctx, p)
			})
		}
	}
}

// keepConnected dials p whenever a connection is wanted, until ctx ends.
func (e *Election) keepConnected(ctx context.Context, p *peer) {
	for {
		addrs, pause := e.wanted(p)
		if addrs == nil {
			select {
			case <-ctx.Done():
				return
			case <-p.kick:
			}
			continue
		}
		conn, err := e.attempt(ctx, p, addrs)
		switch {
		case ctx.Err() != nil:
			if conn != nil {
				conn.Close()
			}
			return
		case err != nil:
			e.noteError(p, err)
		case conn == nil:
			e.noteError(p, ErrNotDialled)
			// p knows now and dials. Apache would close a connection just made on being
			// told again.
			pause = max(pause, tellPause)
		default:
			if c := e.install(p, conn, bufio.NewReader(conn)); c != nil {
				e.wg.Go(func() { e.serve(ctx, p, c) })
			}
		}
		t := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-p.hurry:
			// Whoever says that it is p must not make us dial without a pause.
			sleep(ctx, e.cfg.MinBackoff)
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// attempt is dial, which welcome may abort.
func (e *Election) attempt(ctx context.Context, p *peer, addrs []string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e.mu.Lock()
	p.abort, p.began = cancel, time.Now()
	e.mu.Unlock()
	conn, err := e.dial(ctx, p, addrs)
	e.mu.Lock()
	p.abort = nil
	e.mu.Unlock()
	return conn, err
}

// wanted returns the addresses to dial now, or nil, and the pause behind the
// attempt.
func (e *Election) wanted(p *peer) ([]string, time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !p.redial && (p.conn != nil || !p.voter && p.unsent == nil) {
		return nil, 0
	}
	addrs := slices.Clone(p.addrs)
	for _, a := range p.hint {
		if p.redial && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	p.redial = false
	pause := p.pause
	p.pause = min(2*pause, e.cfg.MaxBackoff)
	return addrs, pause
}

// dial connects to a peer and says who we are. The connection is nil if it is the
// peer's part to make the one that stays.
func (e *Election) dial(ctx context.Context, p *peer, addrs []string) (net.Conn, error) {
	conn, err := dialAny(ctx, e.cfg.Net, addrs, e.cfg.DialTimeout)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	header := e.header
	e.mu.Unlock()
	conn.SetWriteDeadline(time.Now().Add(e.cfg.WriteTimeout))
	// Apache reads the header with one call, and takes what comes later for lost.
	_, err = conn.Write(header)
	if err != nil || p.id > e.cfg.ID {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// noteError says why there is no connection, unless there is one by now.
func (e *Election) noteError(p *peer, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.conn == nil {
		if p.err = err; p.without.IsZero() {
			p.without = time.Now()
		}
	}
}

// accept takes over a connection that somebody has made to the port.
func (e *Election) accept(ctx context.Context, conn net.Conn) {
	end := e.shakes.begin(conn)
	conn.SetDeadline(time.Now().Add(e.cfg.HandshakeTimeout))
	r := bufio.NewReader(conn)
	m, err := readInitial(r)
	if evicted := end(); evicted {
		err = fmt.Errorf("closed for a later one before it said who it is: %w", ErrTooMany)
	}
	var p *peer
	if err == nil && ctx.Err() == nil {
		p, err = e.welcome(conn, m)
	}
	if err != nil || ctx.Err() != nil {
		conn.Close()
		if ctx.Err() == nil {
			e.faults.add(conn.RemoteAddr(), err)
		}
		return
	}
	if p.id > e.cfg.ID {
		conn.SetDeadline(time.Time{})
		if c := e.install(p, conn, r); c != nil {
			e.serve(ctx, p, c)
		}
		return
	}
	conn.Close()
	e.mu.Lock()
	listed, hint := p.listed, p.hint
	e.mu.Unlock()
	if listed {
		wake(p.kick)
		return
	}
	// One that is in no list is dialled once, here: nobody waits for it.
	if conn, err = e.dial(ctx, p, hint); err != nil {
		e.mu.Lock()
		e.forgetLocked(p)
		e.mu.Unlock()
		return
	}
	if c := e.install(p, conn, bufio.NewReader(conn)); c != nil {
		e.serve(ctx, p, c)
	}
}

// readInitial reads the initial message and no byte more.
func readInitial(r *bufio.Reader) (m wire.InitialMessage, err error) {
	for n, have := 0, []byte(nil); ; {
		if n, err = wire.InitialMessageSize(have); err != nil {
			return m, protocolError(have, err)
		}
		if n <= len(have) {
			break
		}
		if have, err = r.Peek(n); err != nil {
			if f := foreign(have); f != nil {
				return m, f
			}
			if len(have) == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
				return m, err // somebody looked whether the port is open
			}
			return m, fmt.Errorf("%d bytes, then %w: %w", len(have), err, ErrHandshake)
		}
		if f := foreign(have); f != nil {
			return m, f
		}
	}
	have, _ := r.Peek(r.Buffered())
	d := wire.NewDecoder(have)
	if m.Decode(&d); d.Err() != nil {
		return m, protocolError(have, d.Err())
	}
	if m.Addrs == nil && m.Server > math.MaxInt32 && m.Server != wire.AnonymousObserver {
		// In form it could be the id of a server before 3.5, but it is a request or so.
		return m, protocolError(have, fmt.Errorf("server %d without an address", m.Server))
	}
	r.Discard(d.Offset())
	return m, nil
}

// welcome finds the peer that m is from.
func (e *Election) welcome(conn net.Conn, m wire.InitialMessage) (*peer, error) {
	hint := slices.DeleteFunc(m.Addrs, isWildcard)
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peers[m.Server]
	switch {
	case m.Server == e.cfg.ID:
		return nil, fmt.Errorf("server %d at %q: %w", m.Server, m.Addrs, ErrOwnID)
	case p == nil && !e.cfg.AllowUnknown, m.Server == wire.AnonymousObserver:
		return nil, fmt.Errorf("server %d at %q: %w", m.Server, m.Addrs, ErrUnknownServer)
	case p == nil && e.unknownLocked() >= maxUnknown:
		return nil, fmt.Errorf("server %d at %q: %w: %w", m.Server, m.Addrs, ErrUnknownServer, ErrTooMany)
	case p == nil && m.Server < e.cfg.ID && len(hint) == 0:
		return nil, fmt.Errorf("server %d without an address: %w", m.Server, ErrUnknownServer)
	case p == nil:
		e.log.Info("server that is not in the ensemble has connected", "server", m.Server, "peer", conn.RemoteAddr().String())
		p = e.addPeerLocked(m.Server)
	case !p.listed && p.id < e.cfg.ID:
		if p.conn != nil {
			p.conn.Close() // seems to be dead; the next attempt will find the place free
		}
		return nil, fmt.Errorf("server %d is being dialled: %w: %w", p.id, ErrUnknownServer, ErrTooMany)
	case p.conn != nil && len(p.hint) > 0 && len(hint) > 0 && !slices.Equal(hint, p.hint):
		// It may also be one server that has moved while its old connection seems to
		// live. So the newer one is taken, as always.
		e.faults.add(conn.RemoteAddr(), fmt.Errorf("server %d at %q, before at %q: %w", p.id, hint, p.hint, ErrDuplicateID))
	}
	p.hint = hint
	p.redial = p.listed && p.id < e.cfg.ID
	if p.redial {
		p.pause = e.cfg.MinBackoff // it is alive
		wake(p.hurry)
		if p.abort != nil && time.Since(p.began) > hopeless {
			p.abort() // it will not be reached by an attempt from before it was there
		}
	}
	return p, nil
}

func (e *Election) unknownLocked() (n int) {
	for _, p := range e.peers {
		if !p.listed {
			n++
		}
	}
	return n
}

// isWildcard reports whether addr names no host: Apache sends such an address if
// its server is configured with it.
func isWildcard(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsUnspecified()
}

// install makes conn the connection to p, in place of one that there may be. It
// returns nil, and closes conn, if p has been removed.
func (e *Election) install(p *peer, conn net.Conn, r *bufio.Reader) *electionConn {
	c := &electionConn{
		Conn: conn, r: r, since: time.Now(),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	e.mu.Lock()
	known := e.peers[p.id] == p
	old := p.conn
	if known {
		p.conn, p.err, p.without = c, nil, time.Time{}
	}
	e.mu.Unlock()
	if !known {
		conn.Close()
		return nil
	}
	if old != nil {
		old.Close()
	}
	return c
}

// serve reads from c, and writes to it what is in the mailbox of p, until it breaks
// or ctx ends.
func (e *Election) serve(ctx context.Context, p *peer, c *electionConn) {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	var writer sync.WaitGroup
	writer.Go(func() { e.write(p, c) })
	e.cfg.PeerUp(p.id)
	err := peerError(e.read(p, c), c.heard)
	c.Close()
	close(c.done)
	writer.Wait()

	e.mu.Lock()
	last := p.conn == c
	if last {
		p.conn, p.err, p.without = nil, err, time.Now()
		if p.mute++; c.heard {
			p.pause, p.mute = e.cfg.MinBackoff, 0
		}
		e.forgetLocked(p)
		wake(p.kick)
	}
	mute := p.mute
	e.mu.Unlock()
	if last {
		e.cfg.PeerDown(p.id)
	}
	if ctx.Err() == nil {
		// Once it happens to everybody, as when the peer is just stopped.
		if mute >= muteFault || !errors.Is(err, ErrNoAnswer) {
			e.faults.add(c.RemoteAddr(), err)
		}
		e.log.Debug("election connection ended", "server", p.id, "peer", c.RemoteAddr().String(), "err", err)
	}
}

// forgetLocked removes p if it is in no list.
func (e *Election) forgetLocked(p *peer) {
	if !p.listed && e.peers[p.id] == p {
		delete(e.peers, p.id)
	}
}

// write sends what is in the mailbox of p. At first it sends the last message
// again if there is nothing newer: the peer may not have got it.
func (e *Election) write(p *peer, c *electionConn) {
	for first := true; ; first = false {
		e.mu.Lock()
		var frame []byte
		switch {
		case p.conn != c: // what is in the mailbox is for its successor
		case p.unsent != nil:
			frame, p.unsent = p.unsent, nil
			p.last = frame
			p.sent++
		case first:
			frame = p.last
		}
		e.mu.Unlock()
		if frame == nil {
			select {
			case <-c.wake:
			case <-c.done:
				return
			}
			continue
		}
		c.SetWriteDeadline(time.Now().Add(e.cfg.WriteTimeout))
		if _, err := c.Write(frame); err != nil {
			c.Close()
			return
		}
	}
}

func (e *Election) read(p *peer, c *electionConn) error {
	for {
		frame, err := e.readFrame(c)
		if err != nil {
			return err
		}
		n, err := wire.DecodeNotification(frame)
		if err != nil {
			return fmt.Errorf("server %d: %w: %w", p.id, ErrProtocol, err)
		}
		n.From, n.To = p.id, e.cfg.ID
		c.heard = true
		e.mu.Lock()
		p.received++
		current := p.conn == c
		e.mu.Unlock()
		if !current {
			return net.ErrClosed
		}
		e.cfg.Received(n)
	}
}

// readFrame reads one message. Memory grows with the bytes that come.
func (e *Election) readFrame(c *electionConn) ([]byte, error) {
	head, err := c.r.Peek(4)
	if err != nil {
		if len(head) == 0 || !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, io.ErrUnexpectedEOF
	}
	d := wire.NewDecoder(head)
	size := int(d.Int())
	if f := foreign(head); f != nil {
		return nil, f
	}
	if size <= 0 || size > wire.MaxNotification {
		return nil, fmt.Errorf("message of %d bytes: %w", size, ErrTooLarge)
	}
	c.r.Discard(4)
	c.SetReadDeadline(time.Now().Add(e.cfg.WriteTimeout))
	defer c.SetReadDeadline(time.Time{})
	frame := make([]byte, 0, min(size, 1024))
	for len(frame) < size {
		if len(frame) == cap(frame) {
			frame = slices.Grow(frame, min(size-len(frame), len(frame)))
		}
		n, err := c.r.Read(frame[len(frame):min(cap(frame), size)])
		frame = frame[:len(frame)+n]
		if err != nil {
			return nil, err
		}
	}
	return frame, nil
}
