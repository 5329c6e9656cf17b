package zab

import (
	"errors"
	"fmt"
	"slices"
)

// link is a learner's connection, on the leader's side.
type link struct {
	id       LinkID
	peer     ServerID
	observer bool
	state    linkState
	info     Message // what it said first

	last  Zxid // the learner's last transaction when it came
	sent  Zxid // its history is ours up to here, until it is synced
	acked Zxid // everything up to here is durable there

	heard   bool   // since the last Tick
	heardAt Millis // at the time of a Tick
	seenAt  Millis // when something came over it
	late    Zxid   // a proposal whose acknowledgement is waited for, 0 if there is none
	lateAt  Millis // since when; 0: since the next Tick

	pings, answers uint64 // counted: links keep their order
	mark           uint64 // the answer that counts for the round under way, or against who is doubted
}

// linkState is what comes next on a link.
type linkState uint8

const (
	greeting  linkState = iota // its FOLLOWERINFO or OBSERVERINFO
	doubted                    // whether the older link of its id lives
	waiting                    // our epoch
	promising                  // its ACKEPOCH
	ready                      // our current epoch
	locating                   // where its last transaction stands in our log files
	streaming                  // the end of what the driver writes to it
	synced                     // its ACK of NEWLEADER
	adopted                    // our reign to be established
	following                  // proposals, for as long as it lasts
)

// String describes a state for people.
func (s linkState) String() string {
	return [...]string{
		"connecting", "connected twice", "waiting for the epoch", "promising", "waiting for the history", "being looked up in the log",
		"copying", "adopting", "waiting for a quorum", "up to date",
	}[s]
}

func (l *leader) follower(id ServerID) *link {
	for _, k := range l.followers {
		if k.peer == id {
			return k
		}
	}
	return nil
}

// linked reports whether a server is connected, in whatever role.
func (l *leader) linked(id ServerID) bool {
	return slices.ContainsFunc(l.links, func(k *link) bool { return k.peer == id })
}

// drop closes the link of a learner that is to blame for it.
func (l *leader) drop(k *link, reason error) {
	l.n.close(k.id, k.peer, reason)
	l.remove(k)
}

func (l *leader) remove(k *link) {
	delete(l.byID, k.id)
	is := func(o *link) bool { return o == k }
	l.links = slices.DeleteFunc(l.links, is)
	l.followers = slices.DeleteFunc(l.followers, is)
	l.doubted = slices.DeleteFunc(l.doubted, is)
	if l.stage < serving && !l.linked(k.peer) {
		l.left.add(k.peer)
	}
}

// ErrDuplicateID: a server says that it is one that is connected and alive.
var ErrDuplicateID = errors.New("two servers use one id")

// older returns the link that the server of k has already, nil if there is none.
func (l *leader) older(k *link) *link {
	for _, o := range l.links {
		if o != k && o.peer == k.peer && o.state > doubted {
			return o
		}
	}
	return nil
}

// doubt lets a link wait until it is known whether the older one of its server is
// what a crash or a broken network has left of it, or another server that was given the
// same id. A server has one link only, so who answers a PING on the older one that was
// sent now is another than who has just come on this one.
func (l *leader) doubt(k, old *link) {
	k.state, k.seenAt = doubted, l.n.now
	if old.state == following {
		l.ping(old)
	}
	k.mark = max(1, old.pings)
	l.doubted = append(l.doubted, k)
}

// judge decides about links that wait. The older one counts while it lives; were it
// to give way, two servers would throw each other off the leader for ever.
func (l *leader) judge() {
	n := l.n
	for _, k := range slices.Clone(l.doubted) {
		old := l.older(k)
		if old != nil {
			limit := n.cfg.TickTime
			if old.state != following {
				limit = n.ticks(n.cfg.SyncLimit) // it copies the history, or works on it
			}
			switch {
			case old.answers >= k.mark:
				l.drop(k, fmt.Errorf("server %d is connected already and answers there: %w", k.peer, ErrDuplicateID))
				continue
			case n.now < max(k.seenAt, old.seenAt)+limit:
				continue
			}
			l.drop(old, errors.New("silent, and the same server has connected again"))
		}
		l.doubted = slices.DeleteFunc(l.doubted, func(o *link) bool { return o == k })
		if err := l.join(k); n.lead != l {
			return
		} else if err != nil {
			l.drop(k, err)
		}
	}
}

func (l *leader) ping(k *link) {
	k.pings++
	l.n.send(Message{Type: MsgPing, Link: k.id, Zxid: l.n.log.last})
}

// overdue reports that a learner has owed us something for too long.
func (l *leader) overdue(k *link) error {
	n := l.n
	if k.heard || k.state == doubted || k.state == waiting || k.state == ready || k.state == locating || k.state == adopted {
		k.heard, k.heardAt = false, n.now // it is not its turn
	}
	if k.late != 0 && k.lateAt == 0 {
		k.lateAt = n.now
	}
	limit := n.ticks(n.cfg.InitLimit)
	if k.state == following {
		limit = n.ticks(n.cfg.SyncLimit)
	}
	switch {
	case n.now >= k.heardAt+limit:
		return fmt.Errorf("silent while %v for %d ms: %w", k.state, n.now-k.heardAt, ErrTimeout)
	case k.state == following && k.late != 0 && n.now >= k.lateAt+limit:
		return fmt.Errorf("has not acknowledged %v for %d ms: %w", k.late, n.now-k.lateAt, ErrTimeout)
	}
	return nil
}
