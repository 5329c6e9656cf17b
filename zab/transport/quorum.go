package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// QuorumConfig says how a [Quorum] works. The callbacks but Admit are needed. They
// are called by the reader of a link, one at a time and in this order: LinkUp, any
// number of Received and Snapshot, LinkDown. While one of them has not returned
// nothing is read from this link. After Run has ended none is called.
type QuorumConfig struct {
	// Listen are the addresses, host:port, that are opened while the server leads.
	Listen []string

	// Admit, if not nil, says whether the server may join, by an error if not.
	Admit func(id zab.ServerID, addr net.Addr) error

	// LinkUp announces a link: one that Dial has made, or one by which a server has
	// sent FOLLOWERINFO or OBSERVERINFO, which is then the first packet.
	LinkUp func(*Link)

	// Received takes packets in their order. The slice is good until it returns, what
	// the packets hold for ever.
	Received func(*Link, []wire.QuorumPacket)

	// Snapshot takes the stream behind a SNAP packet, of a link made by Dial. It reads
	// up to the end of the stream, gives back what it has read behind it (Unread), and
	// returns; packets follow. An error closes the link.
	Snapshot func(l *Link, p wire.QuorumPacket, r *SnapshotReader) error

	// LinkDown says that the link has ended; its last call. The reason is nil after
	// Close(nil).
	LinkDown func(*Link, error)

	// MaxPacket bounds the data of a packet in bytes. Default 2 × wire.MaxBuffer, as
	// Apache's jute.maxbuffer and its extra size.
	MaxPacket int

	// QueueBytes and QueuePackets bound what waits to be sent on one link. A link
	// whose queue is full is closed. Defaults 64 MiB and 2^20.
	QueueBytes, QueuePackets int

	// WriteTimeout is how long some 256 KiB may take to be sent; a link that is
	// slower is closed. Default 10s. HandshakeTimeout is how long a server may take
	// to say who it is (5s), DialTimeout an attempt to connect to one address (2s).
	WriteTimeout, HandshakeTimeout, DialTimeout time.Duration

	// MaxLinks bounds the learners. Default 1000.
	MaxLinks int

	// Net defaults to TCP{}, Logger to silence.
	Net    Net
	Logger *slog.Logger
}

// ErrStopped says that the transport does not run any more.
var ErrStopped = errors.New("transport has stopped")

// A Quorum is the quorum port of one server, and its connections to those of
// others. Methods are safe for concurrent use.
type Quorum struct {
	cfg     QuorumConfig
	log     *slog.Logger
	faults  *faults
	shakes  handshakes
	changed chan struct{} // 1: open differs from what Run has done
	done    chan struct{} // closed when stopped is set

	mu        sync.Mutex // guards what follows; never held during I/O or a callback
	open      bool
	listen    []string
	stopped   bool
	listeners []*listener
	links     map[*Link]struct{}
	accepted  int // of links
	lastID    zab.LinkID
	wg        sync.WaitGroup // links; nothing is added once stopped is set
}

// QuorumStatus is a copy of the state for people to read.
type QuorumStatus struct {
	Listen []error      // for each address why it is not open, nil if it is; none while closed
	Links  []LinkStatus // in no order
	Faults []Fault      // the latest first
	Faulty uint64       // how many faults there were
}

// NewQuorum returns a Quorum that does nothing before Run.
func NewQuorum(cfg QuorumConfig) *Quorum {
	setDefault(&cfg.WriteTimeout, 10*time.Second)
	setDefault(&cfg.HandshakeTimeout, 5*time.Second)
	setDefault(&cfg.DialTimeout, 2*time.Second)
	if cfg.MaxPacket <= 0 {
		cfg.MaxPacket = 2 * wire.MaxBuffer
	}
	if cfg.QueueBytes <= 0 {
		cfg.QueueBytes = 64 << 20
	}
	if cfg.QueuePackets <= 0 {
		cfg.QueuePackets = 1 << 20
	}
	if cfg.MaxLinks <= 0 {
		cfg.MaxLinks = 1000
	}
	if cfg.Net == nil {
		cfg.Net = TCP{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Quorum{
		listen: cfg.Listen,
		cfg:    cfg, log: cfg.Logger, faults: newFaults(cfg.Logger),
		shakes:  handshakes{max: maxHandshakes},
		changed: make(chan struct{}, 1),
		done:    make(chan struct{}),
		links:   map[*Link]struct{}{},
	}
}

// Run keeps the port open while Open says so, until ctx ends; then it closes all
// links and waits for everything that was started. It is called once and returns
// nil.
func (q *Quorum) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	begin := func(addr string) *listener {
		lctx, stop := context.WithCancel(ctx)
		l := &listener{net: q.cfg.Net, addr: addr, log: q.log, handle: func(conn net.Conn) { q.accept(lctx, conn) }, stop: stop}
		wg.Go(func() { l.run(lctx) })
		return l
	}
	for {
		q.mu.Lock()
		var addrs []string
		if q.open && ctx.Err() == nil {
			addrs = q.listen
		}
		opened := len(q.listeners) > 0
		q.listeners = adjust(q.listeners, addrs, begin)
		q.mu.Unlock()
		if opened && len(addrs) == 0 {
			q.shakes.closeAll()
		}
		select {
		case <-ctx.Done():
			q.shutDown()
			wg.Wait()
			q.wg.Wait()
			return nil
		case <-q.changed:
		}
	}
}

// shutDown ends all links, and lets no new one begin.
func (q *Quorum) shutDown() {
	q.mu.Lock()
	q.stopped, q.open = true, false
	q.listeners = adjust(q.listeners, nil, nil)
	close(q.done)
	var links []*Link
	for l := range q.links {
		links = append(links, l)
	}
	q.mu.Unlock()
	q.shakes.closeAll()
	for _, l := range links {
		l.end(ErrStopped)
	}
}

// Open opens the port, for ever trying again if that does not work at once.
func (q *Quorum) Open() { q.setOpen(true) }

// Close closes the port. Servers that have not said who they are are disconnected;
// links stay, for the caller to close. One more LinkUp may come.
func (q *Quorum) Close() { q.setOpen(false) }

func (q *Quorum) setOpen(open bool) {
	q.mu.Lock()
	q.open = open && !q.stopped
	q.mu.Unlock()
	wake(q.changed)
}

// SetListen changes the addresses of the port, which a reconfiguration may do.
// Links stay.
func (q *Quorum) SetListen(addrs ...string) {
	q.mu.Lock()
	q.listen = slices.Clone(addrs)
	q.mu.Unlock()
	wake(q.changed)
}

// Status returns a copy of the state.
func (q *Quorum) Status() QuorumStatus {
	var s QuorumStatus
	q.mu.Lock()
	listeners := q.listeners
	for l := range q.links {
		s.Links = append(s.Links, l.status())
	}
	q.mu.Unlock()
	for _, l := range listeners {
		s.Listen = append(s.Listen, l.status())
	}
	s.Faults, s.Faulty = q.faults.list()
	return s
}

// add makes a link of conn. A link that is not admitted yet has no id.
func (q *Quorum) add(conn net.Conn, dialled bool) (*Link, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.stopped, !dialled && !q.open:
		return nil, ErrStopped
	case !dialled && q.accepted >= q.cfg.MaxLinks:
		return nil, fmt.Errorf("%d learners: %w", q.accepted, ErrTooMany)
	}
	if !dialled {
		q.accepted++
	}
	q.lastID++
	l := newLink(q, q.lastID, conn, dialled)
	q.links[l] = struct{}{}
	q.wg.Add(1)
	return l, nil
}

func (q *Quorum) remove(l *Link) {
	q.mu.Lock()
	delete(q.links, l)
	if !l.dialled {
		q.accepted--
	}
	q.mu.Unlock()
	q.wg.Done()
}

// accept takes over a connection that somebody has made to the port.
func (q *Quorum) accept(ctx context.Context, conn net.Conn) {
	end := q.shakes.begin(conn)
	l, err := q.add(conn, false)
	if err != nil {
		end()
		conn.Close()
		if !errors.Is(err, ErrStopped) {
			q.faults.add(conn.RemoteAddr(), err)
		}
		return
	}
	defer q.remove(l)
	conn.SetReadDeadline(time.Now().Add(q.cfg.HandshakeTimeout))
	err = l.introduce()
	if evicted := end(); evicted {
		err = fmt.Errorf("closed for a later one before it said who it is: %w", ErrTooMany)
	}
	if err == nil && ctx.Err() != nil {
		err = ErrStopped
	}
	if err != nil {
		l.end(err)
		if ctx.Err() == nil {
			q.faults.add(conn.RemoteAddr(), err)
		}
		return
	}
	conn.SetReadDeadline(time.Time{})
	l.run()
}

// Dial connects to the quorum port of a server: all of its addresses at once, each
// again and again until ctx ends. When it returns nil, LinkUp has been called.
func (q *Quorum) Dial(ctx context.Context, m zab.Member) error {
	if len(m.Addrs) == 0 {
		return fmt.Errorf("server %d has no address", m.ID)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-q.done:
			cancel(ErrStopped)
		case <-ctx.Done():
		}
	}()
	conn, err := race(ctx, m.Addrs, func(ctx context.Context, a zab.MemberAddr) (net.Conn, error) {
		return q.dialAgain(ctx, net.JoinHostPort(a.Host, strconv.Itoa(a.QuorumPort)))
	})
	if err != nil {
		return fmt.Errorf("server %d: %w", m.ID, err)
	}
	if err := context.Cause(ctx); err != nil {
		conn.Close()
		return err
	}
	l, err := q.add(conn, true)
	if err != nil {
		conn.Close()
		return err
	}
	l.setPeer(m.ID)
	q.cfg.LinkUp(l)
	go func() {
		defer q.remove(l)
		l.run()
	}()
	return nil
}

// dialAgain connects to addr, again and again until ctx ends.
func (q *Quorum) dialAgain(ctx context.Context, addr string) (net.Conn, error) {
	for {
		conn, err := dialAny(ctx, q.cfg.Net, []string{addr}, q.cfg.DialTimeout)
		if err == nil {
			return conn, nil
		}
		if !sleep(ctx, 50*time.Millisecond+rand.N(50*time.Millisecond)) {
			return nil, err
		}
	}
}
