package zab

import (
	"cmp"
	"fmt"
	"slices"
)

// history is the end of this server's log, in memory: what is still to be
// delivered, and before it what a learner that was away for a while may lack.
// Everything that is logged goes through append, whatever phase it comes from
// (rule R6).
//
// Invariants:
//
//	H1  the first entry follows base, each other one the entry before it (R5).
//	H2  base ≤ delivered ≤ committed ≤ last, and delivered ≤ durable ≤ last: nothing
//	    is delivered that this log does not hold durably (R1).
//	H3  of the delivered entries at most keepCount with at most keepBytes are kept.
type history struct {
	keepCount int
	keepBytes int64

	entries []Proposal // those before head are dropped
	head    int
	waiting int   // index of the first entry that is not delivered
	open    int   // index of the first entry that is not committed
	kept    int64 // bytes of entries[head:waiting]

	base      Zxid // the transaction before entries[head]
	delivered Zxid // last handed to the tree
	committed Zxid // last known to be agreed upon
	durable   Zxid // last that the log holds for good
	last      Zxid // last appended
}

// reset begins at z: log and tree end there, and nothing before it is in memory.
func (h *history) reset(z Zxid) {
	clear(h.entries)
	h.entries, h.head, h.waiting, h.open, h.kept = h.entries[:0], 0, 0, 0, 0
	h.base, h.delivered, h.committed, h.durable, h.last = z, z, z, z, z
}

// append takes the next transaction of the log.
func (h *history) append(p Proposal) error {
	if !p.Zxid.Follows(h.last) {
		return fmt.Errorf("transaction %v behind %v: %w", p.Zxid, h.last, ErrZxidOrder)
	}
	h.entries = append(h.entries, p)
	h.last = p.Zxid
	return nil
}

// appendAll takes transactions that follow each other and the last one.
func (h *history) appendAll(ps []Proposal) {
	h.entries = append(h.entries, ps...)
	h.last = ps[len(ps)-1].Zxid
}

// uncommitted returns what is not committed yet, up to z. It is valid until the
// history changes.
func (h *history) uncommitted(z Zxid) []Proposal {
	end := h.open
	for end < len(h.entries) && h.entries[end].Zxid <= z {
		end++
	}
	return h.entries[h.open:end]
}

// next returns the first transaction that is not committed, or nil.
func (h *history) next() *Proposal {
	if h.open == len(h.entries) {
		return nil
	}
	return &h.entries[h.open]
}

// commit says that everything up to z is agreed upon.
func (h *history) commit(z Zxid) {
	h.committed = max(h.committed, min(z, h.last))
	for h.open < len(h.entries) && h.entries[h.open].Zxid <= h.committed {
		h.open++
	}
}

// deliver appends to list what has become both committed and durable.
func (h *history) deliver(list []Proposal) []Proposal {
	upTo := min(h.committed, h.durable)
	if h.delivered >= upTo {
		return list
	}
	from := h.waiting
	for ; h.waiting < len(h.entries) && h.entries[h.waiting].Zxid <= upTo; h.waiting++ {
		h.kept += int64(len(h.entries[h.waiting].Data))
	}
	list = append(list, h.entries[from:h.waiting]...)
	h.delivered = upTo
	h.trim()
	return list
}

// trim drops delivered entries that are too many, and now and then gives the
// room of dropped ones to the next.
func (h *history) trim() {
	if h.keepCount == 0 && h.head < h.waiting {
		h.base, h.kept = h.entries[h.waiting-1].Zxid, 0
		clear(h.entries[h.head:h.waiting])
		h.head = h.waiting
	}
	for h.head < h.waiting && (h.waiting-h.head > h.keepCount || h.kept > h.keepBytes) {
		e := &h.entries[h.head]
		h.base = e.Zxid
		h.kept -= int64(len(e.Data))
		*e = Proposal{}
		h.head++
	}
	if h.head == len(h.entries) {
		h.entries, h.waiting, h.open, h.head = h.entries[:0], 0, 0, 0
	} else if h.head > 64 && h.head > len(h.entries)/2 {
		n := copy(h.entries, h.entries[h.head:])
		clear(h.entries[n:])
		h.entries = h.entries[:n]
		h.waiting, h.open, h.head = h.waiting-h.head, h.open-h.head, 0
	}
}

// truncate forgets what is behind z. Log and tree were read again and end there.
func (h *history) truncate(z Zxid) {
	if z < h.base {
		h.reset(z)
		return
	}
	i := h.index(z)
	clear(h.entries[i:])
	h.entries, h.waiting, h.open, h.kept = h.entries[:i], i, i, 0
	for _, e := range h.entries[h.head:] {
		h.kept += int64(len(e.Data))
	}
	h.delivered, h.committed, h.durable, h.last = z, z, z, z
	h.trim()
}

// index returns the place of the first entry behind z.
func (h *history) index(z Zxid) int {
	i, found := slices.BinarySearchFunc(h.entries[h.head:], z, func(p Proposal, z Zxid) int { return cmp.Compare(p.Zxid, z) })
	if found {
		i++
	}
	return h.head + i
}

// after returns the entries behind z, which is not before base. They are valid
// until the history changes.
func (h *history) after(z Zxid) []Proposal { return h.entries[h.index(z):] }

// floor returns the greatest committed transaction that is not above z and known
// here; z is not before base.
func (h *history) floor(z Zxid) Zxid {
	i := h.index(min(z, h.committed))
	if i == h.head {
		return h.base
	}
	return h.entries[i-1].Zxid
}

// valid checks the invariants.
func (h *history) valid() error {
	prev := h.base
	for _, e := range h.entries[h.head:] {
		if !e.Zxid.Follows(prev) {
			return fmt.Errorf("H1: %v behind %v", e.Zxid, prev)
		}
		prev = e.Zxid
	}
	if prev != h.last {
		return fmt.Errorf("H1: entries end at %v, last is %v", prev, h.last)
	}
	if h.base > h.delivered || h.delivered > h.committed || h.committed > h.last || h.delivered > h.durable || h.durable > h.last {
		return fmt.Errorf("H2: base %v, delivered %v, committed %v, durable %v, last %v", h.base, h.delivered, h.committed, h.durable, h.last)
	}
	if h.open < h.waiting || h.waiting < h.head ||
		h.open > h.head && h.entries[h.open-1].Zxid > h.committed || h.open < len(h.entries) && h.entries[h.open].Zxid <= h.committed ||
		h.waiting > h.head && h.entries[h.waiting-1].Zxid > h.delivered || h.waiting < len(h.entries) && h.entries[h.waiting].Zxid <= h.delivered {
		return fmt.Errorf("H2: entries %d..%d, delivered before %d, committed before %d", h.head, len(h.entries), h.waiting, h.open)
	}
	if n := h.waiting - h.head; n > h.keepCount || h.kept > h.keepBytes {
		return fmt.Errorf("H3: %d entries of %d bytes are kept", n, h.kept)
	}
	return nil
}

// A syncPlan is how a leader brings a learner to its own history (class
// LearnerHandler.syncFollower): by what comes behind from, which both have, after
// the learner has cut its log there if cut is set; or by a snapshot.
type syncPlan struct {
	kind syncKind
	from Zxid
}

type syncKind uint8

const (
	syncDiff   syncKind = iota // send what is behind from
	syncTrunc                  // let it cut to from, then send what is behind
	syncSnap                   // send the whole tree
	syncLocate                 // only the log files can tell
)

func (k syncKind) String() string { return [...]string{"DIFF", "TRUNC", "SNAP", "locate"}[k] }

// plan decides for a learner whose last transaction is p. What counts is whether
// p is an element of the committed history, never where it lies numerically:
// between two transactions of ours there may be one of a leader that failed
// (rule R7).
func (h *history) plan(p Zxid) syncPlan {
	switch {
	case p == h.base:
		return syncPlan{syncDiff, p}
	case p == 0:
		return syncPlan{syncSnap, 0}
	case p < h.base:
		return syncPlan{syncLocate, p}
	}
	return planAt(p, h.floor(p))
}

// planAt decides when q is known to be the greatest transaction of the committed
// history that is not above p.
func planAt(p, q Zxid) syncPlan {
	switch {
	case q == p:
		return syncPlan{syncDiff, p}
	case p.Counter() == 0:
		// Nothing was proposed in p's epoch when its owner synced with the
		// established leader of it, so it has what that leader began with, which
		// ends at q.
		return syncPlan{syncDiff, q}
	case q != 0 && q.Epoch() == p.Epoch():
		return syncPlan{syncTrunc, q}
	}
	// The transactions of p's epoch are all unknown here. Where its log parted
	// from ours cannot be told from p alone.
	return syncPlan{syncSnap, 0}
}
