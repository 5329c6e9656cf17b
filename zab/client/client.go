package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// A Client is one session with an ensemble. Its methods may be called by any
// number of goroutines, also before and after Run.
type Client struct {
	cfg    Config
	log    *slog.Logger
	addrs  []string
	chroot string // "" or "/a/b"

	slots chan struct{} // one for each operation under way
	wake  chan struct{} // the queue is not empty; buffer 1: one mark is enough
	ended chan struct{} // closed when Run has returned
	calls sync.Pool     // of *call; not global: a channel belongs to one synctest bubble

	mu       sync.Mutex // leaf; guards all below, never held during I/O
	running  bool
	closing  bool               // no more operations
	cancel   context.CancelFunc // of Run
	session  Session
	state    wire.KeeperState
	fullSeen bool // the session was given by a server with a quorum
	auths    []Auth
	queue    callQueue // not sent, or to be sent again
	sent     callQueue // waiting for their replies, in order
	sentAuth callQueue // the same with xid -4; a call without waiter for each stored identity
	rearming int       // setWatches replies to come
	xid      int32
	watches  watchTable
	subs     map[chan Event]struct{} // of SessionEvents
}

// New returns a client that connects once Run is called.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("client config: %w", err)
	}
	addrs, chroot, _ := parseServers(cfg.Servers, cfg.Dial != nil)
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	cfg.setDefaults(len(addrs))
	c := &Client{
		cfg: cfg, log: cfg.Logger, addrs: addrs, chroot: chroot,
		slots: make(chan struct{}, cfg.MaxPending),
		wake:  make(chan struct{}, 1),
		ended: make(chan struct{}),
		auths: append([]Auth(nil), cfg.Auth...),
		subs:  make(map[chan Event]struct{}),
	}
	c.watches.init()
	if cfg.Session != nil {
		c.session = *cfg.Session
		c.fullSeen = c.session.ID != 0
	}
	return c, nil
}

// Session returns the current session: Config.Session, or one with ID 0, before
// the first connection; ID 0 also after CloseSession and an expiry.
func (c *Client) Session() Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// State returns the state of the session: SyncConnected, ConnectedReadOnly,
// Disconnected, or Closed after Run.
func (c *Client) State() wire.KeeperState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// errSessionClosed ends Run after CloseSession.
var errSessionClosed = errors.New("session closed")

// Run connects, and connects again, until ctx ends or the session is closed;
// then it returns nil. The end of ctx drops the connection only: the session
// lives on, on the servers, until its timeout, for a later process to take up.
// Run returns an error if a stored identity is refused and, with ExitOnExpiry,
// when the session is expired. It owns all goroutines of the client and can be
// called once.
func (c *Client) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return errors.New("client: Run called twice")
	}
	c.running, c.cancel = true, cancel
	c.mu.Unlock()
	err := c.run(ctx)
	c.shutdown()
	if ctx.Err() != nil || errors.Is(err, errSessionClosed) {
		return nil
	}
	return err
}

const (
	firstBackoff = 50 * time.Millisecond
	// stableAfter is how long a connection must have lasted for the pauses to
	// start anew: a server that greets and hangs up must not be called in a loop.
	stableAfter = time.Second
)

func (c *Client) run(ctx context.Context) error {
	next, failures, warned := 0, 0, false
	for {
		if c.nothingToClose() {
			return errSessionClosed
		}
		addr := c.addrs[next%len(c.addrs)]
		began := time.Now()
		err := c.attempt(ctx, addr)
		var full errFullServer
		switch {
		case ctx.Err() != nil, errors.Is(err, errSessionClosed):
			return err
		case errors.Is(err, wire.ErrAuthFailed):
			c.publish(Event{Type: wire.EventNone, State: wire.StateAuthFailed})
			return err
		case errors.Is(err, wire.ErrSessionExpired):
			if c.cfg.ExitOnExpiry {
				return err
			}
			c.log.Warn("session expired, making a new one", "err", err)
			continue // the server that said so is a good one
		case errors.As(err, &full):
			next, failures = full.index, 0
			continue
		}
		next++
		var lost *lostError
		if errors.As(err, &lost) {
			c.log.Info("connection lost", "peer", addr, "err", err)
			if time.Since(began) >= stableAfter {
				failures, warned = 0, false
			}
		}
		// Several rounds without success deserve one line, not one each.
		if failures++; failures > 2*len(c.addrs)+2 && !warned {
			warned = true
			c.log.Warn("no server reachable, trying on", "peer", addr, "err", err)
		} else {
			c.log.Debug("server not usable", "peer", addr, "err", err)
		}
		if failures > 1 {
			if !sleep(ctx, backoff(failures-2, c.cfg.MaxBackoff)) {
				return ctx.Err()
			}
		}
	}
}

// backoff is a random time between half and all of 50ms, 100ms, … limit.
func backoff(n int, limit time.Duration) time.Duration {
	d := limit
	if n < 16 {
		d = min(limit, firstBackoff<<n)
	}
	return d/2 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt connects to one server and serves the connection until it ends. It
// always returns an error.
func (c *Client) attempt(ctx context.Context, addr string) error {
	nc, err := c.dial(ctx, addr)
	if err != nil {
		return err
	}
	// Close is what ends blocked reads and writes.
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	defer nc.Close()
	resp, err := c.handshake(nc)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	k, err := c.established(nc, resp)
	if err != nil {
		return err
	}
	c.log.Info("connected", "peer", addr, "session", resp.SessionID, "readonly", resp.ReadOnly)
	err = c.serve(ctx, k, addr)
	c.lost()
	return err
}

func (c *Client) dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
	defer cancel()
	return c.cfg.Dial(ctx, addr)
}

// established takes the outcome of the handshake over into the state of the
// client, and prepares what goes out before anything else.
func (c *Client) established(nc net.Conn, resp *wire.ConnectResponse) (*conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.session
	if !c.fullSeen {
		old.ID = 0
	}
	if resp.TimeoutMs <= 0 || resp.SessionID == 0 {
		if old.ID == 0 {
			return nil, errors.New("server makes no session")
		}
		if c.closeSentLocked() {
			return nil, errSessionClosed // it is gone, as was asked
		}
		c.expireLocked()
		if c.closing {
			return nil, errSessionClosed
		}
		return nil, fmt.Errorf("session %v: %w", old.ID, wire.ErrSessionExpired)
	}
	if old.ID != 0 && old.ID != resp.SessionID {
		c.expireLocked() // no server does this, but nobody may believe that the session went on
	}
	timeout := time.Duration(resp.TimeoutMs) * time.Millisecond
	c.session.ID, c.session.Password, c.session.Timeout = resp.SessionID, resp.Password, timeout
	c.state = wire.StateSyncConnected
	if resp.ReadOnly {
		c.state = wire.StateConnectedReadOnly
	} else {
		c.fullSeen = true
	}
	k := newConn(nc, timeout, c.cfg.MaxReply)
	k.readOnly = resp.ReadOnly
	for _, a := range c.auths {
		k.preamble = appendFrame(k.preamble, wire.XidAuth, wire.OpAuth, &wire.AuthPacket{Scheme: a.Scheme, Auth: a.Data})
		c.sentAuth.push(&call{op: wire.OpAuth, path: a.Scheme, state: callSent, abandoned: true})
	}
	k.preamble, c.rearming = c.watches.appendRearm(k.preamble, c.session.LastZxid, min(c.cfg.MaxRequest, maxSetWatches))
	c.publishLocked(Event{Type: wire.EventNone, State: c.state})
	if c.rearming == 0 {
		c.watches.armed()
	}
	return k, nil
}

// closeSentLocked reports that a server was asked to end the session, so that
// its end is no expiry, and finishes what waits for it.
func (c *Client) closeSentLocked() bool {
	at := slices.IndexFunc(c.queue.calls, func(k *call) bool { return k != nil && k.op == wire.OpCloseSession && k.losses > 0 })
	if at < 0 {
		return false
	}
	c.session = Session{LastZxid: c.session.LastZxid}
	c.fullSeen = false
	c.finishClosingLocked()
	return true
}

// finishClosingLocked ends what is queued: nothing comes after the session.
func (c *Client) finishClosingLocked() {
	for _, k := range c.queue.takeAll() {
		k.state = callTaken
		if k.op == wire.OpCloseSession {
			c.finish(k, wire.OK, nil)
		} else {
			c.finish(k, wire.OK, ErrClosed)
		}
	}
}

// expireLocked ends everything that belonged to the session. Its last zxid
// stays: what was seen stays seen.
func (c *Client) expireLocked() {
	c.session = Session{LastZxid: c.session.LastZxid}
	c.fullSeen = false
	var keep callQueue
	for _, k := range c.queue.takeAll() {
		switch {
		case k.op == wire.OpCloseSession:
			k.state = callTaken
			c.finish(k, wire.OK, nil)
		case k.retry:
			keep.push(k)
		default: // it was meant for the old session: think of a lock
			k.state = callTaken
			c.finish(k, wire.ErrSessionExpired, nil)
		}
	}
	c.queue = keep
	c.state = wire.StateExpired
	e := Event{Type: wire.EventNone, State: wire.StateExpired}
	c.watches.end(e)
	c.watches.publish(e)
	c.publishLocked(e)
}

// lost sorts what was under way when the connection broke.
func (c *Client) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var again callQueue
	for _, k := range append(c.sentAuth.takeAll(), c.sent.takeAll()...) {
		k.losses++
		if k.retry && !k.abandoned && k.losses < maxLosses {
			k.state = callQueued
			again.push(k)
		} else {
			k.state = callTaken
			if k.pers != nil {
				c.watches.dropHandle(k.pers)
			}
			c.finish(k, wire.ErrConnectionLoss, nil)
		}
	}
	for _, k := range c.queue.takeAll() {
		if k.abandoned { // a Watch was closed, which needs no message any more
			continue
		}
		again.push(k)
	}
	c.queue = again
	c.rearming = 0
	if c.session.ID == 0 && c.closing {
		return
	}
	c.state = wire.StateDisconnected
	e := Event{Type: wire.EventNone, State: wire.StateDisconnected}
	c.watches.publish(e)
	c.publishLocked(e)
}

// nothingToClose reports that CloseSession was called and there is no session.
func (c *Client) nothingToClose() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing || c.session.ID != 0 {
		return false
	}
	c.finishClosingLocked()
	return true
}

// shutdown ends everything that still waits.
func (c *Client) shutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	for _, k := range c.queue.takeAll() {
		k.state = callTaken
		c.finish(k, wire.OK, ErrClosed)
	}
	c.state = wire.StateClosed
	e := Event{Type: wire.EventNone, State: wire.StateClosed}
	c.watches.end(e)
	c.watches.publish(e)
	c.watches.closeAll()
	c.publishLocked(e)
	for ch := range c.subs {
		delete(c.subs, ch)
		close(ch)
	}
	close(c.ended)
}

// CloseSession ends the session on the servers, ephemeral znodes included, and
// then Run, which returns nil. Operations that were called before it are
// carried out first, later ones fail with ErrClosed. If ctx ends first, Run
// returns all the same, and the session ends by its timeout.
func (c *Client) CloseSession(ctx context.Context) error {
	k := c.newCall(wire.OpCloseSession, "", nil, nil)
	k.retry = true
	_, err := c.do(ctx, k)
	if err != nil {
		c.mu.Lock()
		cancel := c.cancel
		c.mu.Unlock()
		if cancel != nil && !errors.Is(err, ErrClosed) {
			cancel()
		}
	}
	return err
}

// SessionEvents returns the changes of the session's state from now on, events
// of type EventNone; the state of now comes first if there is a connection. A
// reader that is slow loses the oldest. The channel is closed by stop and when
// Run returns.
func (c *Client) SessionEvents() (events <-chan Event, stop func()) {
	// A reader that comes back after a pause wants the last states, not all.
	ch := make(chan Event, 16)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == wire.StateClosed {
		close(ch)
		return ch, func() {}
	}
	if c.state == wire.StateSyncConnected || c.state == wire.StateConnectedReadOnly {
		ch <- Event{Type: wire.EventNone, State: c.state}
	}
	c.subs[ch] = struct{}{}
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, ok := c.subs[ch]; ok {
			delete(c.subs, ch)
			close(ch)
		}
	}
}

func (c *Client) publish(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.publishLocked(e)
}

func (c *Client) publishLocked(e Event) {
	for ch := range c.subs {
		for {
			select {
			case ch <- e:
			default:
				select {
				case <-ch:
				default:
				}
				continue
			}
			break
		}
	}
}

// noteZxid keeps the newest state that was seen.
func (c *Client) noteZxidLocked(z zab.Zxid) {
	c.session.LastZxid = max(c.session.LastZxid, z)
}

// xids are positive: the others have a meaning.
func (c *Client) nextXidLocked() int32 {
	c.xid = cmp.Or((c.xid+1)&(1<<31-1), 1)
	return c.xid
}
