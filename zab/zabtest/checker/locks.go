package checker

import (
	"sync"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// A Guard is a store outside of the ensemble that a lock is meant to protect. A
// lock of sessions alone cannot: its holder may be paused and expired before it
// writes. So each write carries the czxid of the holder's znode, and the Guard
// refuses a token smaller than one that it has seen. It is safe for concurrent
// use.
type Guard struct {
	name string
	r    *Recorder
	mu   sync.Mutex // guards max; held around the lock of the recorder
	max  zab.Zxid
}

// NewGuard returns a store whose writes are part of the history. name is the
// path of the lock.
func NewGuard(r *Recorder, name string) *Guard { return &Guard{name: name, r: r} }

// Write writes for the session whose znode was created at token, and reports
// whether the store took it.
func (g *Guard) Write(session zab.SessionID, token zab.Zxid) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	ok := token >= g.max
	g.max = max(g.max, token)
	g.r.mu.Lock()
	defer g.r.mu.Unlock()
	now := g.r.now()
	e := &Entry{Kind: Guarded, Session: session, Call: now, Return: now, Args: Args{Path: g.name, Token: token}}
	if !ok {
		e.Err = wire.ErrBadVersion
	}
	g.r.add(e)
	return ok
}

// locks checks what the guards took: tokens that never decrease, each of a znode
// that its session had made below the lock. A refused token is no fault: two
// sessions believed to hold the lock, which is why there are tokens.
func (r *run) locks() {
	last := map[string]*Entry{} // by guard: the last write that was taken
	for _, e := range r.h.Entries {
		if e.Kind != Guarded {
			continue
		}
		if e.Err != wire.OK {
			r.report.Stale++
			if l := last[e.Path]; l == nil || l.Token <= e.Token {
				r.fail("fencing", e.Token, entries(e), "the guard refused a token that is not smaller than those before")
			}
			continue
		}
		r.report.Guarded++
		if l := last[e.Path]; l != nil && e.Token < l.Token {
			r.fail("fencing", e.Token, entries(l, e), "the guard took %v after %v", e.Token, l.Token)
		}
		last[e.Path] = e
		at, ok := r.byZxid[e.Token]
		if !ok || r.txns[at].Header.Session != e.Session || !makesBelow(r.txns[at], e.Path) {
			r.fail("fencing", e.Token, entries(e), "session %v made no znode below %s at %v", e.Session, e.Path, e.Token)
		}
	}
}

func makesBelow(txn *wire.Txn, top string) bool {
	c, ok := txn.Body.(*wire.CreateTxn)
	return ok && c.Path != top && isBelow(c.Path, top)
}
