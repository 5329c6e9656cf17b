package checker

import (
	"sync"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// A Recorder notes what clients do and see. It is safe for concurrent use; what
// one client sees must be noted in the order in which the client sees it.
type Recorder struct {
	now func() Time

	mu      sync.Mutex // guards what follows, and the connections
	entries []*Entry
	conns   []*Conn
}

// NewRecorder returns a recorder of a run whose time now tells. now must never
// decrease; it is called with a lock held.
func NewRecorder(now func() Time) *Recorder { return &Recorder{now: now} }

// Conn is a client's connection to a server, from the attempt to its end.
type Conn struct {
	r       *Recorder
	num     int
	connect *Entry
	session zab.SessionID
	open    []*Entry // without an answer, in the order of the calls
	ended   bool
}

// Connect notes that a client begins to connect to a server, whose name is any
// word, and asks for a session, 0 for a new one. ids are the identities that the
// connection has from its start, which matters for ACLs of the scheme ip only.
func (r *Recorder) Connect(server string, want zab.SessionID, ids ...wire.ID) *Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &Conn{r: r, num: len(r.conns) + 1}
	c.connect = &Entry{
		Kind: Connect, Conn: c.num, Server: server, Call: r.now(), Return: Never,
		Args: Args{Op: wire.OpCreateSession, Want: want, IDs: ids},
	}
	r.conns = append(r.conns, c)
	return c
}

// Connected notes the server's answer: the session, or 0 if the one that was asked
// for has expired. Later calls change nothing.
func (c *Conn) Connected(session zab.SessionID) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	e := c.connect
	if e == nil {
		return
	}
	c.connect, c.session = nil, session
	e.Session, e.Return = session, c.r.now()
	if session == 0 {
		e.Err = wire.ErrSessionExpired
	}
	c.r.add(e)
}

// Call notes a request. It must be called before the request is on its way. After
// Close its outcome is unknown at once: it may have left all the same.
func (c *Conn) Call(cxid int32, args Args) *Entry {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	e := &Entry{Kind: Request, Conn: c.num, Session: c.session, Call: c.r.now(), Return: Never, Cxid: cxid, Args: args}
	if c.ended {
		c.r.add(e)
	} else {
		c.open = append(c.open, e)
	}
	return e
}

// Return notes the answer to a request of this connection.
func (c *Conn) Return(e *Entry, result Result) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	for i := range c.open {
		if c.open[i] == e {
			copy(c.open[i:], c.open[i+1:])
			c.open = c.open[:len(c.open)-1]
			e.Return, e.Result = c.r.now(), result
			c.r.add(e)
			return
		}
	}
}

// Event notes a notification. zxid is that of its header: not positive if the
// server does not tell.
func (c *Conn) Event(typ wire.EventType, path string, zxid zab.Zxid) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if c.ended {
		return
	}
	now := c.r.now()
	c.r.add(&Entry{
		Kind: Event, Conn: c.num, Session: c.session, Call: now, Return: now,
		Args: Args{Op: wire.OpNotification, Path: path, What: int32(typ)}, Result: Result{Zxid: max(zxid, 0)},
	})
}

// Close notes the end of the connection. Of requests without an answer nobody
// knows the outcome. It may be called more than once.
func (c *Conn) Close() {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	if c.connect != nil {
		c.r.add(c.connect)
		c.connect = nil
	}
	for _, e := range c.open {
		c.r.add(e)
	}
	c.open = nil
	now := c.r.now()
	c.r.add(&Entry{Kind: Disconnect, Conn: c.num, Session: c.session, Call: now, Return: now})
}

// add enters an entry; the lock is held.
func (r *Recorder) add(e *Entry) {
	r.entries = append(r.entries, e)
	e.Seq = len(r.entries)
}

// History returns what was noted so far. Requests under way have no outcome in
// it, and connections stay open. It is a copy: the recorder may go on.
func (r *Recorder) History() *History {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := &History{Entries: make([]*Entry, 0, len(r.entries))}
	add := func(e *Entry) {
		c := *e
		h.Entries = append(h.Entries, &c)
		c.Seq = len(h.Entries)
	}
	for _, e := range r.entries {
		add(e)
	}
	for _, c := range r.conns {
		if c.connect != nil {
			add(c.connect)
		}
		for _, e := range c.open {
			add(e)
		}
	}
	return h
}

// Len returns the number of entries so far.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.entries)
}
