package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/session"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/watch"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// Server is one ZooKeeper server. Its methods are safe for concurrent use.
type Server struct {
	cfg   Config
	log   *slog.Logger
	store *storage.Store
	start time.Time // of the monotonic clock behind nanos
	stats Stats

	// treeMu is held exclusively by the driver while it applies, shared by reads.
	// The driver alone changes the tree, so prep reads it without the lock.
	treeMu  sync.RWMutex
	tree    *znode.Tree
	serves  bool       // clients may read the tree; false only in an ensemble
	reign   zab.Zxid   // of the leader, with counter 0: no transaction has it
	watchMu sync.Mutex // guards watches; a leaf
	watches *watch.Manager[*conn]

	sessMu     sync.Mutex // guards what follows; a leaf
	sessions   map[zab.SessionID]*sessionState
	tracker    *session.Tracker
	sessionIDs *session.IDs
	resumedAt  int64 // nanos; when this process went on after a pause

	connMu   sync.Mutex // guards what follows; a leaf
	conns    map[*conn]struct{}
	perIP    map[netip.Addr]int
	stopped  bool
	listener net.Listener
	serving  sync.WaitGroup // one for each connection

	inMu      sync.Mutex // guards what follows; a leaf
	inbox     []*request
	freeInbox []*request    // memory for the next inbox
	wake      chan struct{} // one token: inbox is not empty

	// Warnings.
	badPacket, authFailed, slowClient, notAccepted, refused, digestDiffers rarely

	outstandingBytes atomic.Int64
	outstanding      atomic.Int64

	gate *gate
	held atomic.Bool // replies are not written: see heldLocked

	member *member // nil: a server alone

	// Owned by the driver.
	node        *zab.Node
	alarmAt     zab.Millis         // when the node will be told the time
	prep        *znode.Prep        // nil: this server does not lead
	own         fifo               // requests made by the server itself
	ownUnderWay int                // of these, in inflight
	inflight    fifo               // proposed here, in zxid order
	barriers    []barrier          // in the order of their requests
	due         []*request         // to be answered
	confirmed   uint64             // token of the last round of the quorum
	encode      []byte             // payloads of the batch that is being collected
	encodeOld   []byte             // payloads of the batch that the disk has
	props       []zab.Proposal     // scratch
	toLog       []zab.Proposal     // behind jobs
	toLogOld    []zab.Proposal     // what the disk has
	jobs        []diskJob          // not started
	diskBusy    bool               // a job is
	draining    bool               // no more snapshots
	roll        bool               // the next batch begins a new log file
	freezing    bool               // a tree is frozen
	toFreeze    []func()           // who waits for that
	fired       []*conn            // scratch
	result      znode.Result       // of the last transaction applied
	decoder     storage.TxnDecoder // of those that were not prepared here
	dirty       []*conn            // have output since the last flush
	impatient   bool               // patience is running
	lastLoop    int64              // nanos, at the last tick
	lastWall    int64              // nanos since 1970, at lastLoop
	expireAt    int64              // nanos: when containers are looked at again
	purgeAt     int64              // nanos
	differsAt   zab.Zxid           // of a transaction after which the tree had another digest; to be logged
	applyAt     int64              // nanos: when the present batch is applied

	diskIn     chan diskJob
	diskOut    chan diskDone
	frozen     chan thaw
	patience   *time.Timer // how long clients are kept waiting while the server does not serve
	control    chan func()
	driven     chan struct{}  // closed when the driver ends: nothing is answered any more
	done       chan struct{}  // closed when Run returns
	background sync.WaitGroup // snapshots and purges; the driver begins them
	purging    atomic.Bool
	ready      atomic.Bool
	traceMask  atomic.Int64

	lastSnapshot atomic.Pointer[SnapshotTime]
}

// Open recovers the data directory and starts to listen. Nothing is served
// before Run. An error says what is wrong with which file, and the way out.
func Open(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("server configuration: %w", err)
	}
	cfg = cfg.withDefaults()
	s := &Server{
		cfg: cfg, log: cfg.Logger, start: time.Now(),
		watches:  watch.New[*conn](),
		sessions: make(map[zab.SessionID]*sessionState),
		conns:    make(map[*conn]struct{}), perIP: make(map[netip.Addr]int),
		wake: make(chan struct{}, 1), diskIn: make(chan diskJob, 1), diskOut: make(chan diskDone, 1),
		frozen: make(chan thaw, 1), control: make(chan func()),
		driven: make(chan struct{}), done: make(chan struct{}),
	}
	s.traceMask.Store(306) // Apache's default
	s.gate = newGate(cfg.Ensemble == nil)
	s.patience = time.NewTimer(cfg.ElectionGrace)
	s.sessionIDs = session.NewIDs(cfg.ID, time.Now().UnixMilli())
	var err error
	if s.store, err = storage.Open(cfg.Storage); err != nil {
		return nil, err
	}
	if err = s.recover(); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	if cfg.Listen != "" {
		if s.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, errors.Join(fmt.Errorf("client port: %w", err), s.store.Close())
		}
	}
	return s, nil
}

func (s *Server) recover() error {
	began := time.Now()
	tree, err := s.store.Recover()
	var damage *storage.DamageError
	if errors.As(err, &damage) && s.cfg.Ensemble != nil && len(s.cfg.Ensemble.Voters()) > 1 {
		// The others have everything; this server must not vote before it has it too
		// (rule R13).
		s.log.Error("data directory is damaged: it is set aside, the leader's data will be copied", "err", err)
		tree, err = s.store.Forget()
	}
	if err != nil {
		return err
	}
	s.tree = tree
	if s.cfg.Ensemble != nil {
		err = s.join()
	} else if err = s.damagedEpochs(); err == nil {
		s.node, err = zab.NewNode(zab.Config{ID: s.cfg.ID, LastZxid: tree.LastZxid()})
		s.prep, s.serves = znode.NewPrep(tree), true
		s.trackSessions()
	}
	if err != nil {
		return err
	}
	if r := s.store.Recovery(); r.Snapshot != "" {
		s.lastSnapshot.Store(&SnapshotTime{r.SnapshotZxid, began})
	}
	s.log.Info("data recovered", "zxid", tree.LastZxid(), "znodes", tree.NodeCount(), "took", time.Since(began))
	return nil
}

// damagedEpochs refuses epoch files that cannot be read. A server alone does not
// need them, but they are the first that a failing disk shows, and would be believed
// missing when the server joins an ensemble.
func (s *Server) damagedEpochs() error {
	_, aerr := s.store.AcceptedEpoch()
	_, cerr := s.store.CurrentEpoch()
	if err := errors.Join(aerr, cerr); errors.Is(err, storage.ErrEpochDamaged) {
		return fmt.Errorf("%w: check the disk, then delete the file; a server alone goes on in the epoch of its last transaction, %v", err, s.tree.LastZxid())
	}
	return nil
}

// Addr returns the address of the client port, or one without a port if there is
// none.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return &net.TCPAddr{}
	}
	return s.listener.Addr()
}

func (s *Server) closeListener() error {
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}

// nanos is the server's monotonic clock. It is never 0, which stands for never.
func (s *Server) nanos() int64 { return int64(time.Since(s.start)) + 1 }

func (s *Server) millis() zab.Millis { return zab.Millis(s.nanos() / 1e6) }

// Close gives up what Open took, for a server that never ran.
func (s *Server) Close() error { return errors.Join(s.closeListener(), s.store.Close()) }

// Run serves until ctx ends or the disk fails, which is an error. It closes
// everything that Open opened, after it has answered what is durable. Sessions
// stay: they go on when a server starts on the data again.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer close(s.done)
	var parts sync.WaitGroup
	failed := make(chan error, 5) // one from each part
	part := func(name string, run func(context.Context) error) {
		parts.Go(func() {
			if err := run(ctx); err != nil {
				failed <- fmt.Errorf("%s: %w", name, err)
				cancel()
			}
		})
	}
	s.log.Info("serving", "address", s.Addr().String(), "zxid", s.tree.LastZxid())
	parts.Go(s.writeDisk)
	part("driver", s.drive)
	if s.member != nil {
		part("election port", s.member.election.Run)
		part("quorum port", s.member.quorum.Run)
	}
	if s.listener != nil {
		part("client port", s.accept)
	}
	part("sweeper", s.sweep)
	s.ready.Store(true)

	<-ctx.Done()
	s.ready.Store(false)
	s.closeListener()
	s.endConns()
	s.serving.Wait()
	parts.Wait()
	s.background.Wait()
	close(failed)
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, s.store.Close())...)
}

// How long the end of the server waits for a disk that hangs, and then for
// clients that do not take their last replies.
const (
	drainTimeout = 5 * time.Second
	lastTimeout  = time.Second
)

// endConns closes all connections, after what the driver still answered is
// written.
func (s *Server) endConns() {
	timeout := time.NewTimer(drainTimeout)
	defer timeout.Stop()
	select {
	case <-s.driven:
	case <-timeout.C:
	}
	s.connMu.Lock()
	s.stopped = true
	for c := range s.conns {
		go c.windUp()
	}
	s.connMu.Unlock()
}

// accept takes connections until the listener closes.
func (s *Server) accept(ctx context.Context) error {
	for {
		nc, err := s.listener.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Out of descriptors, or the peer is gone again: go on, but not at full speed.
			s.notAccepted.warn(s, "", "accept", "err", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		s.admit(nc)
	}
}

// Dial connects to the server inside this process; the address is ignored. It
// fits the Dial of a client's configuration.
func (s *Server) Dial(ctx context.Context, _ string) (net.Conn, error) {
	if !s.ready.Load() {
		return nil, errors.New("server does not serve")
	}
	near, far := net.Pipe()
	if !s.admit(far) {
		return nil, errors.New("server refused the connection")
	}
	return near, nil
}

// admit begins to serve a connection, within the limits.
func (s *Server) admit(nc net.Conn) bool {
	c := newConn(s, nc)
	ip := c.remote.Addr()
	local := c.isLocal()
	s.connMu.Lock()
	refused := ""
	switch {
	case s.stopped:
		refused = "stopping"
	case !local && s.cfg.MaxClientCnxns > 0 && s.perIP[ip] >= s.cfg.MaxClientCnxns:
		refused = "too many connections from this address"
	case !local && s.cfg.MaxCnxns > 0 && len(s.conns) >= s.cfg.MaxCnxns:
		refused = "too many connections"
	default:
		s.conns[c] = struct{}{}
		if !local {
			s.perIP[ip]++
		}
		s.serving.Add(1)
	}
	s.connMu.Unlock()
	if refused != "" {
		s.stats.Refused.Add(1)
		s.refused.warn(s, refused, "connection refused", "peer", c.remote.String(), "reason", refused)
		nc.Close()
		return false
	}
	s.stats.Accepted.Add(1)
	go c.serve()
	return true
}

// forget removes what the server knows of a connection that ended.
func (s *Server) forget(c *conn) {
	s.watchMu.Lock()
	s.watches.RemoveConn(c)
	s.watchMu.Unlock()
	if c.sess != nil {
		s.sessMu.Lock()
		c.sess.conn.CompareAndSwap(c, nil)
		s.sessMu.Unlock()
	}
	s.connMu.Lock()
	delete(s.conns, c)
	if ip := c.remote.Addr(); c.isLocal() {
		// not counted
	} else if s.perIP[ip]--; s.perIP[ip] == 0 {
		delete(s.perIP, ip)
	}
	s.connMu.Unlock()
	s.serving.Done()
}

// sweep closes connections whose client does not read, or has ended its side
// unnoticed.
func (s *Server) sweep(ctx context.Context) error {
	tick := time.NewTicker(min(time.Second, s.cfg.StallTimeout/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var stalled, unsure []*conn
		now := s.nanos()
		s.connMu.Lock()
		for c := range s.conns {
			if at := c.writingSince.Load(); at != 0 && now-at > int64(s.cfg.StallTimeout) {
				stalled = append(stalled, c)
			}
			if c.unsure.Swap(false) {
				unsure = append(unsure, c)
			}
		}
		s.connMu.Unlock()
		for _, c := range stalled {
			c.killSlow(writeChunk)
		}
		for _, c := range unsure {
			if c.hasEnded() {
				c.kill()
			}
		}
	}
}

// maxUnsent is how many bytes of replies may wait before no more requests of
// their connection are read.
func (s *Server) maxUnsent() int { return min(256<<10, s.cfg.MaxReplyBytes/4) }

// submit hands writes to the driver in the order of rs.
func (s *Server) submit(rs []*request) {
	s.outstanding.Add(int64(len(rs)))
	s.inMu.Lock()
	s.inbox = append(s.inbox, rs...)
	s.inMu.Unlock()
	s.wakeUp()
}

// wakeUp makes the driver look at its inbox.
func (s *Server) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Server) authenticate(scheme string, auth []byte, ip netip.Addr) ([]wire.ID, wire.Code) {
	if scheme == "ensemble" && s.cfg.EnsembleAuth {
		if len(auth) > 0 && len(s.cfg.EnsembleNames) > 0 && !slices.Contains(s.cfg.EnsembleNames, string(auth)) {
			return nil, wire.ErrBadArguments
		}
		return nil, wire.OK
	}
	s.treeMu.RLock()
	defer s.treeMu.RUnlock()
	return s.tree.Authenticate(scheme, auth, ip)
}

// Stats returns the counters; they go on counting.
func (s *Server) Stats() *Stats { return &s.stats }
