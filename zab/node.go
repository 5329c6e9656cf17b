package zab

import (
	"errors"
	"fmt"
)

// A Role is what a server is to the ensemble at the moment
// (QuorumPeer.ServerState).
type Role uint8

// The roles.
const (
	Looking Role = iota
	Following
	Leading
	Observing
)

// String returns ZooKeeper's name of the state.
func (r Role) String() string {
	return [...]string{"LOOKING", "FOLLOWING", "LEADING", "OBSERVING"}[r]
}

// HardState is what a server must not forget: its promises. Accepted is the
// highest epoch promised to a leader, Current the epoch of the history it
// adopted (files acceptedEpoch and currentEpoch).
type HardState struct {
	Accepted, Current Epoch
}

// Empty reports whether there is nothing to do.
func (r *Ready) Empty() bool {
	return r.StoreAccepted == 0 && r.StoreCurrent == 0 && len(r.Append) == 0 && len(r.Committed) == 0
}

// Config describes the server that a Node plays.
type Config struct {
	ID ServerID

	// Voters are the ids that elect and acknowledge. Empty means a standalone
	// server: it leads without an election and goes on in the epoch of its last
	// transaction, as Apache's ZooKeeperServerMain does.
	Voters []ServerID

	// Hard and LastZxid are what recovery found on disk.
	Hard     HardState
	LastZxid Zxid
}

// Errors of Step.
var (
	ErrNotLeading = errors.New("server does not lead")
	ErrZxidOrder  = errors.New("zxid out of order")
)

// Node is the Zab state machine of one server: no I/O, no clock, no goroutine, no
// lock. Equal inputs give equal outputs. Not safe for concurrent use.
//
// Invariants:
//
//	N1  committed ≤ durable ≤ last: nothing is delivered before this server's own
//	    log holds it durably (rule R1).
//	N2  the zxids of pending follow each other without a gap (rule R5).
//	N3  hard.Current ≤ hard.Accepted, and a server leads an epoch only after both
//	    are durable (rule R14).
type Node struct {
	cfg       Config
	role      Role
	epoch     Epoch
	hard      HardState
	last      Zxid       // last proposed here
	durable   Zxid       // last reported by MsgAppended
	committed Zxid       // last put into Ready.Committed
	pending   []Proposal // proposed, not committed, in order
	out       Ready
}

// NewNode returns the node of a server that has just recovered from its disk.
func NewNode(cfg Config) (*Node, error) {
	n := &Node{
		cfg: cfg, hard: cfg.Hard,
		last: cfg.LastZxid, durable: cfg.LastZxid, committed: cfg.LastZxid,
	}
	switch {
	case cfg.Hard.Accepted < cfg.Hard.Current:
		return nil, fmt.Errorf("accepted epoch %d is below current epoch %d: a promise was lost", cfg.Hard.Accepted, cfg.Hard.Current)
	case len(cfg.Voters) == 0:
		n.lead(cfg.LastZxid.Epoch())
	case len(cfg.Voters) > 1 || cfg.Voters[0] != cfg.ID:
		return nil, fmt.Errorf("server %d: an ensemble of %d voters is not supported by this node", cfg.ID, len(cfg.Voters))
	case cfg.Hard.Current < cfg.LastZxid.Epoch():
		return nil, fmt.Errorf("current epoch %d is below the epoch of the last transaction %v", cfg.Hard.Current, cfg.LastZxid)
	default:
		// The only voter is a quorum of its own: its vote elects it, and discovery
		// is the promise to itself.
		n.out.StoreAccepted = cfg.Hard.Accepted + 1
	}
	return n, nil
}

// Step takes one message. An error says that the driver broke the contract or
// asked for what the role does not allow; the node is unchanged then.
func (n *Node) Step(m Message) error {
	switch m.Type {
	case MsgPropose:
		return n.propose(m.Proposals)
	case MsgAppended:
		if m.Zxid < n.durable || m.Zxid > n.last {
			return fmt.Errorf("log durable up to %v, between %v and %v expected: %w", m.Zxid, n.durable, n.last, ErrZxidOrder)
		}
		n.durable = m.Zxid
		n.commit(m.Zxid)
	case MsgAcceptedStored:
		n.hard.Accepted = m.Epoch
		n.out.StoreCurrent = m.Epoch
	case MsgCurrentStored:
		if m.Epoch > n.hard.Accepted {
			return fmt.Errorf("current epoch %d above accepted epoch %d: %w", m.Epoch, n.hard.Accepted, ErrZxidOrder)
		}
		n.hard.Current = m.Epoch
		n.lead(m.Epoch)
	default:
		return fmt.Errorf("message of unknown type %d", m.Type)
	}
	return nil
}

// Tick advances time by one tick. A server alone has nobody to time out.
func (n *Node) Tick() {}

// Ready returns what is to be done; it is valid until Advance.
func (n *Node) Ready() *Ready {
	n.out.Role, n.out.Epoch, n.out.Dial = n.role, n.epoch, NoServer
	return &n.out
}

// Advance says that everything in Ready was taken over. Disk writes among it may
// still be under way: their end is a message.
func (n *Node) Advance() {
	clear(n.out.Append) // the slices are used again; let go of the data
	clear(n.out.Committed)
	n.out = Ready{Append: n.out.Append[:0], Committed: n.out.Committed[:0]}
}

// Role returns the present role.
func (n *Node) Role() Role { return n.role }

// LastZxid returns the zxid of the last transaction proposed here.
func (n *Node) LastZxid() Zxid { return n.last }

// NextZxid returns the zxid of the next proposal. At the end of a counter a
// standalone server goes on with the next epoch.
func (n *Node) NextZxid() Zxid {
	if n.last.Epoch() < n.epoch {
		return NewZxid(n.epoch, 1)
	}
	return n.last.Next()
}

func (n *Node) lead(e Epoch) { n.role, n.epoch = Leading, e }

func (n *Node) propose(ps []Proposal) error {
	if n.role != Leading {
		return ErrNotLeading
	}
	want := n.NextZxid()
	for _, p := range ps {
		if p.Zxid != want {
			return fmt.Errorf("proposal %v, %v expected: %w", p.Zxid, want, ErrZxidOrder)
		}
		want = want.Next()
	}
	if len(ps) > 0 {
		n.last = ps[len(ps)-1].Zxid
		n.pending = append(n.pending, ps...)
		n.out.Append = append(n.out.Append, ps...)
	}
	return nil
}

// commit moves what the quorum holds to Committed. Here the own log is the
// quorum.
func (n *Node) commit(upTo Zxid) {
	i := 0
	for i < len(n.pending) && n.pending[i].Zxid <= upTo {
		i++
	}
	n.out.Committed = append(n.out.Committed, n.pending[:i]...)
	rest := copy(n.pending, n.pending[i:])
	clear(n.pending[rest:])
	n.pending = n.pending[:rest]
	n.committed = max(n.committed, upTo)
}
