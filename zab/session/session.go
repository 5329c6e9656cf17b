// Package session decides when sessions expire, and makes their ids and
// passwords.
//
// [Tracker] is pure: time comes in as milliseconds of any clock that does not
// jump. It has no lock; its owner is the goroutine that orders the writes.
//
// Sessions are touched lazily. A connection notes the time at which it last
// heard from its client, in a place of its own; the tracker asks for that time
// only when the session seems to be due, and moves the session on if it was
// heard of. So a ping costs the tracker nothing.
package session

import (
	"encoding/binary"
	"slices"

	"github.com/paddockio/paddock/zab"
)

// Tracker keeps the sessions of an ensemble, on its leader, in buckets of one
// tick (classes SessionTrackerImpl, ExpiryQueue). A session of timeout T
// expires between T and T + tick after it was last heard of: deadlines are
// always rounded up.
type Tracker struct {
	tickMs   int64
	sessions map[zab.SessionID]*entry
	// buckets holds the sessions by their deadline in ms, a multiple of tickMs. A
	// session that has moved on or is gone stays in its old bucket until that is
	// due; it is known by another deadline.
	buckets map[int64][]*entry
}

type entry struct {
	id        zab.SessionID
	timeoutMs int64
	deadline  int64 // key of its bucket
	closing   bool  // or gone
}

// NewTracker returns a tracker without sessions. tickMs is at least 1.
func NewTracker(tickMs int64) *Tracker {
	return &Tracker{
		tickMs:   max(tickMs, 1),
		sessions: map[zab.SessionID]*entry{},
		buckets:  map[int64][]*entry{},
	}
}

// bucket rounds a time up to the next multiple of the tick, also from an exact
// one.
func (t *Tracker) bucket(ms int64) int64 { return (ms/t.tickMs + 1) * t.tickMs }

// Add tracks a session from nowMs on; one that is tracked already is touched
// and gets the new timeout. A new leader adds all sessions of its tree, which
// gives each its full timeout.
func (t *Tracker) Add(id zab.SessionID, timeoutMs int32, nowMs int64) {
	e := t.sessions[id]
	if e == nil {
		e = &entry{id: id}
		t.sessions[id] = e
	}
	if e.closing {
		return
	}
	e.timeoutMs = int64(timeoutMs)
	t.move(e, t.bucket(nowMs+e.timeoutMs))
}

// Touch notes that a session was heard of at nowMs. It returns false if the
// session is unknown or closing. A time before an earlier one changes nothing.
func (t *Tracker) Touch(id zab.SessionID, nowMs int64) bool {
	e := t.sessions[id]
	if e == nil || e.closing {
		return false
	}
	if at := t.bucket(nowMs + e.timeoutMs); at > e.deadline {
		t.move(e, at)
	}
	return true
}

// Close marks a session as closing: it cannot be touched any more and does not
// expire (again). It returns false if the session is unknown or was closing.
func (t *Tracker) Close(id zab.SessionID) bool {
	e := t.sessions[id]
	if e == nil || e.closing {
		return false
	}
	e.closing = true
	return true
}

// Closing reports whether a session is tracked and closing.
func (t *Tracker) Closing(id zab.SessionID) bool {
	e := t.sessions[id]
	return e != nil && e.closing
}

// Alive reports whether a session is tracked and not closing.
func (t *Tracker) Alive(id zab.SessionID) bool {
	e := t.sessions[id]
	return e != nil && !e.closing
}

// Timeout returns the timeout of a session in ms.
func (t *Tracker) Timeout(id zab.SessionID) (timeoutMs int32, ok bool) {
	e := t.sessions[id]
	if e == nil {
		return 0, false
	}
	return int32(e.timeoutMs), true
}

// Remove forgets a session: its closeSession is applied.
func (t *Tracker) Remove(id zab.SessionID) {
	if e := t.sessions[id]; e != nil {
		e.closing = true
		delete(t.sessions, id)
	}
}

// Len returns the number of sessions, those that are closing included.
func (t *Tracker) Len() int { return len(t.sessions) }

// NextExpiry returns the time in ms at which Expire may find something, and
// false if nothing can expire.
func (t *Tracker) NextExpiry() (ms int64, ok bool) {
	first := int64(0)
	for at := range t.buckets {
		if !ok || at < first {
			first, ok = at, true
		}
	}
	return first, ok
}

// Expire returns the sessions that expired by nowMs, in the order of their
// deadlines and ids, and marks them as closing. lastHeard says when a session
// was heard of last, in ms of the same clock, 0 if this server does not know;
// it is asked only for sessions that are due by what the tracker knows. It may
// be nil.
func (t *Tracker) Expire(nowMs int64, lastHeard func(zab.SessionID) int64) []zab.SessionID {
	var due []int64
	for at := range t.buckets {
		if at <= nowMs {
			due = append(due, at)
		}
	}
	slices.Sort(due)
	var expired []zab.SessionID
	for _, at := range due {
		first := len(expired)
		for _, e := range t.buckets[at] {
			if e.closing || e.deadline != at {
				continue
			}
			if lastHeard != nil {
				if heard := lastHeard(e.id); heard != 0 {
					if next := t.bucket(heard + e.timeoutMs); next > nowMs {
						t.move(e, next)
						continue
					}
				}
			}
			e.closing = true
			expired = append(expired, e.id)
		}
		delete(t.buckets, at)
		slices.Sort(expired[first:])
	}
	return expired
}

func (t *Tracker) move(e *entry, deadline int64) {
	if e.deadline != deadline {
		e.deadline = deadline
		t.buckets[deadline] = append(t.buckets[deadline], e)
	}
}

// IDs makes the ids of the sessions that one server opens
// (SessionTrackerImpl.initializeNextSessionId): the server in the high byte, 40
// bits of the clock, then a counter.
type IDs struct{ next uint64 }

// NewIDs returns the generator of a server. nowMs is the wall clock at its
// start, so that ids of an earlier run do not come again. (Apache takes a clock
// that begins with the machine.) A standalone server is server 1.
func NewIDs(server zab.ServerID, nowMs int64) *IDs {
	next := uint64(nowMs)<<24>>8 | uint64(server)<<56
	if next == 1<<63 {
		next++ // this owner means a container
	}
	return &IDs{next: next}
}

// Next returns an id that is not in use.
func (g *IDs) Next() zab.SessionID {
	id := g.next
	g.next++
	return zab.SessionID(id)
}

// passwordSecret is ZooKeeper's constant; sessions could not move between
// servers with another one.
const passwordSecret = 0xB3415C00

// Password returns the password of a session, which every server computes from
// the id (ZooKeeperServer.generatePasswd): it proves nothing but that the
// client has seen the id.
func Password(id zab.SessionID) (p [16]byte) {
	const mask = 1<<48 - 1
	seed := (uint64(id) ^ passwordSecret ^ 0x5DEECE66D) & mask // java.util.Random
	for i := 0; i < len(p); i += 4 {
		seed = (seed*0x5DEECE66D + 0xB) & mask
		binary.LittleEndian.PutUint32(p[i:], uint32(seed>>16))
	}
	return p
}

// CheckPassword reports whether password is that of the session.
func CheckPassword(id zab.SessionID, password []byte) bool {
	p := Password(id)
	return id != 0 && string(password) == string(p[:])
}
