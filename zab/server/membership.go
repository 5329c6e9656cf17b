package server

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/transport"
)

// A Membership is what a server of an ensemble knows of it at one moment, for
// people and metrics.
type Membership struct {
	zab.Status
	Since time.Time // when the role or its phase began
	// Ensemble is the list of servers in force, LastSeen the one that was proposed
	// last: another one only while a reconfiguration is under way.
	Ensemble, LastSeen *zab.Ensemble
	// PendingSyncs are requests of the word sync that wait for a quorum, on a leader.
	PendingSyncs int
	Election     transport.ElectionStatus
	Quorum       transport.QuorumStatus
}

// membershipTimeout bounds how long a picture may take to be made: a driver that
// hangs must not hang those who ask why.
const membershipTimeout = time.Second

// Membership returns the present picture; that of the last change of the role if
// the driver does not answer. ok is false for a server alone.
func (s *Server) Membership() (ms Membership, ok bool) {
	m := s.member
	if m == nil {
		return ms, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), membershipTimeout)
	defer cancel()
	picture := make(chan Membership, 1) // the driver may be late
	err := s.inDriver(ctx, func() {
		p := Membership{Status: s.node.Status(), Since: s.start.Add(time.Duration(m.since)), PendingSyncs: len(s.barriers)}
		for _, l := range m.links {
			p.PendingSyncs += len(l.barriers)
		}
		picture <- p
	})
	if err == nil {
		ms = <-picture
	} else if st := m.status.Load(); st != nil {
		ms.Status = *st
	}
	l := m.lists.Load()
	ms.Ensemble, ms.LastSeen = l.inForce, l.lastSeen
	ms.Election, ms.Quorum = m.election.Status(), m.quorum.Status()
	return ms, true
}

// PeerState is the role and its phase in ZooKeeper's words: "leading - broadcast".
func (ms *Membership) PeerState() string {
	text := strings.ToLower(ms.Role.String())
	if ms.Phase != zab.Election {
		text += " - " + strings.ToLower(ms.Phase.String())
	}
	return text
}

// LearnerCounts are the learners of a leader as Apache counts them.
type LearnerCounts struct {
	All, Followers, NonVoting, Observers int // all connected ones; those that are up to date
}

// LearnerCounts counts them.
func (ms *Membership) LearnerCounts() (n LearnerCounts) {
	n.All = len(ms.Learners)
	for _, l := range ms.Learners {
		switch {
		case !l.UpToDate:
		case l.Observer:
			n.Observers++
		default:
			n.Followers++
			if !l.Voter {
				n.NonVoting++
			}
		}
	}
	return n
}

// learns reports whether this server has a leader that is another one.
func (s *Server) learns() bool {
	if s.member == nil {
		return false
	}
	st := s.member.status.Load()
	return st != nil && (st.Role == zab.Following || st.Role == zab.Observing)
}

// metrics are those of the ensemble.
func (ms *Membership) metrics(s *Server) []Metric {
	gauge := func(name string, v int64, help string) Metric {
		return Metric{Name: name, Value: float64(v), Help: help}
	}
	flag := func(b bool) int64 {
		if b {
			return 1
		}
		return 0
	}
	list := []Metric{
		gauge("quorum_size", int64(len(ms.Ensemble.Voters())), "servers with a vote"),
		{Name: "proposal_count", Value: float64(s.member.sizes.count.Load()), Counter: true, Help: "transactions that this server has proposed"},
		{Name: "diff_count", Value: float64(s.stats.Diffs.Load()), Counter: true, Help: "learners that this server has brought up to date by what they lacked"},
		{Name: "snap_count", Value: float64(s.stats.SnapshotsSent.Load()), Counter: true, Help: "learners that this server has sent its whole tree"},
		{Name: "paddock_elections_total", Value: float64(s.stats.Elections.Load()), Counter: true, Help: "elections that this server took part in"},
		gauge("paddock_server_id", int64(ms.ID), "number of this server"),
		gauge("paddock_leader_id", max(0, int64(ms.Leader)), "number of the leader, 0 while there is none"),
		gauge("paddock_epoch", int64(ms.Epoch), "epoch of the leader"),
		gauge("paddock_serving", flag(ms.Role != zab.Looking && ms.Phase == zab.Broadcast), "1 while clients are served"),
	}
	connected := 0
	for _, p := range ms.Election.Peers {
		if p.Listed && p.Connected {
			connected++
		}
	}
	list = append(list, gauge("paddock_peers_connected", int64(connected), "other servers on the list with a connection to the election port"))
	if ms.Role != zab.Leading {
		return list
	}
	n := ms.LearnerCounts()
	var behind zab.Zxid
	for _, l := range ms.Learners {
		if l.Voter && l.UpToDate && l.Acked < ms.Last {
			behind = max(behind, ms.Last-l.Acked)
		}
	}
	bytes, packets := 0, 0
	for _, l := range ms.Quorum.Links {
		bytes, packets = max(bytes, l.QueuedBytes), max(packets, l.QueuedPackets)
	}
	last, low, high := s.ProposalSizes()
	return append(list,
		gauge("learners", int64(n.All), "servers that are connected to this leader"),
		gauge("synced_followers", int64(n.Followers), "followers that are up to date"),
		gauge("synced_non_voting_followers", int64(n.NonVoting), "those of them without a vote"),
		gauge("synced_observers", int64(n.Observers), "observers that are up to date"),
		gauge("pending_syncs", int64(ms.PendingSyncs), "sync requests that wait for a quorum"),
		gauge("leader_uptime", time.Since(ms.Since).Milliseconds(), "ms for which this server has led"),
		gauge("last_proposal_size", last, "bytes of the last transaction that was proposed, -1 if there was none"),
		gauge("max_proposal_size", high, "bytes of the largest transaction that this leader has proposed"),
		gauge("min_proposal_size", low, "bytes of the smallest transaction that this leader has proposed"),
		gauge("paddock_learner_queue_bytes", int64(bytes), "bytes that wait to be sent to the learner for which most do"),
		gauge("paddock_learner_queue_packets", int64(packets), "packets that wait to be sent to the learner for which most do"),
		gauge("paddock_followers_behind", int64(behind), "transactions that the slowest of the followers up to date has not acknowledged"),
	)
}

// proposalSizes are those of the transactions of one reign, and the number of all
// (class ProposalStats). The driver writes them.
type proposalSizes struct {
	last, low, high atomic.Int64 // 1 more than the size; 0: none yet
	count           atomic.Int64
}

func (p *proposalSizes) record(size int) {
	n := int64(size) + 1
	p.last.Store(n)
	if low := p.low.Load(); low == 0 || n < low {
		p.low.Store(n)
	}
	if n > p.high.Load() {
		p.high.Store(n)
	}
	p.count.Add(1)
}

func (p *proposalSizes) reset() {
	p.last.Store(0)
	p.low.Store(0)
	p.high.Store(0)
}

// ProposalSizes returns the sizes in bytes of the last, the smallest and the
// largest transaction that this leader has proposed, -1 if there was none.
func (s *Server) ProposalSizes() (last, low, high int64) {
	if s.member == nil {
		return -1, -1, -1
	}
	p := &s.member.sizes
	return p.last.Load() - 1, p.low.Load() - 1, p.high.Load() - 1
}

// shownID is the number of this server as conf prints it: 0 for one alone.
func (s *Server) shownID() zab.ServerID {
	if s.member == nil {
		return 0
	}
	return s.cfg.ID
}

// writeConf writes what conf adds for a server of an ensemble. The list ends
// without a line feed, as at Apache.
func (m *member) writeConf(b *bytes.Buffer) {
	cfg, list := &m.s.cfg, m.lists.Load().inForce
	fmt.Fprintf(b, "initLimit=%d\nsyncLimit=%d\nelectionAlg=3\n", cfg.InitLimit, cfg.SyncLimit)
	me, _ := list.Member(cfg.ID)
	var elections, quorums []string
	for _, a := range me.Addrs {
		elections, quorums = append(elections, strconv.Itoa(a.ElectionPort)), append(quorums, strconv.Itoa(a.QuorumPort))
	}
	peerType := 0
	if me.Observer {
		peerType = 1
	}
	fmt.Fprintf(b, "electionPort=%s\nquorumPort=%s\npeerType=%d\nmembership: \n%s",
		strings.Join(elections, "|"), strings.Join(quorums, "|"), peerType, list)
}

// publish makes a picture for those who cannot wait for the driver, and names what
// others say that cannot be, once.
func (m *member) publish() {
	st := m.s.node.Status()
	m.status.Store(&st)
	for _, b := range st.Ballots {
		if d := strings.Join(b.Differs, "; "); d != "" && m.isNews(fmt.Sprint(b.Server, d)) {
			m.log.Error("another server has another list of servers", "peer", b.Server, "err", d)
		}
	}
	for _, x := range st.Strangers {
		if m.isNews(fmt.Sprint(x.ID, "from", x.From)) {
			m.log.Warn("a server that is not in the list of servers takes part in the election", "server", x.ID, "peer", x.From)
		}
	}
}

// maxSaid bounds what is remembered of what was said.
const maxSaid = 1000

// isNews reports whether something was not said before, and remembers it.
func (m *member) isNews(what string) bool {
	if m.said[what] || len(m.said) >= maxSaid {
		return false
	}
	m.said[what] = true
	return true
}
