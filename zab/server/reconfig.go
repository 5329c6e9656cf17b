package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// configPath is the znode that shows the list of servers.
const configPath = "/zookeeper/config"

// configure takes over lists of servers: the one in force, and the one that was
// proposed last.
func (m *member) configure(inForce, lastSeen *zab.Ensemble) {
	m.ensemble, m.lastSeen = inForce, lastSeen
	m.lists.Store(&lists{inForce, lastSeen})
	m.election.SetPeers(inForce, lastSeen)
	s := m.s
	text := []byte(inForce.String())
	s.treeMu.Lock()
	defer s.treeMu.Unlock()
	if data, _, code := s.tree.Get(configPath, superuser); code != wire.OK || string(data) != string(text) {
		s.tree.SetConfig(text)
	}
}

// loggedEnsemble returns the list of servers in the recovered tree, nil if there
// is none. It may be one that was proposed and never committed.
func (s *Server) loggedEnsemble() *zab.Ensemble {
	data, _, code := s.tree.Get(configPath, superuser)
	if code != wire.OK || len(data) == 0 {
		return nil
	}
	e, err := zab.ParseEnsemble(string(data))
	if err != nil {
		s.log.Warn("list of servers in the tree cannot be read", "path", configPath, "err", err)
		return nil
	}
	return e
}

// superuser may read everything.
var superuser = []wire.ID{{Scheme: "super"}}

// reconfigured takes note of other lists of servers.
func (m *member) reconfigured(inForce, lastSeen *zab.Ensemble) error {
	s := m.s
	before, _ := m.ensemble.Member(s.cfg.ID)
	changed := inForce != m.ensemble
	m.configure(inForce, lastSeen)
	if !changed {
		return nil
	}
	if now, ok := inForce.Member(s.cfg.ID); ok {
		m.move(before, now)
	}
	m.log.Info("list of servers in force", "version", fmt.Sprintf("%x", inForce.Version), "voters", inForce.Voters())
	if s.cfg.OnEnsemble == nil {
		return nil
	}
	if err := s.cfg.OnEnsemble(inForce); err != nil {
		return fmt.Errorf("list of servers cannot be stored: %w", err)
	}
	return nil
}

// move opens the ports for other servers where the list has this one now; its
// connections stay. The client port is that of the configuration, until the next
// start.
func (m *member) move(before, now zab.Member) {
	if len(now.Addrs) > 0 && !slices.Equal(before.Addrs, now.Addrs) {
		elections, quorums := m.ports(now)
		m.election.SetListen(elections...)
		m.quorum.SetListen(quorums...)
	}
	if before.ClientAddr != "" && now.ClientAddr != before.ClientAddr {
		m.log.Warn("the client address of this server has changed: its port follows when it is started again", "before", before.ClientAddr, "now", now.ClientAddr)
	}
}

// proposeReconfig prepares a change of the list of servers, which goes to the node
// by itself. It reports whether this server leads on.
func (m *member) proposeReconfig(r *request, timeMs int64) (again bool, err error) {
	s := m.s
	// What is under way first: it may be another change.
	if err := s.submitProposals(); err != nil || s.prep == nil {
		if s.prep == nil {
			s.putBack([]*request{r})
		}
		return false, err
	}
	zxid := s.node.NextZxid()
	var next *zab.Ensemble
	if body, ok := r.prep.Body.(*wire.ReconfigRequest); ok && r.prep.BadBody == wire.OK {
		var code wire.Code
		if next, code = m.nextEnsemble(body); code != wire.OK {
			r.prep.BadBody = code
		} else {
			next.Version = int64(zxid)
			r.prep.Body = &wire.SetDataTxn{Path: configPath, Data: []byte(next.String()), Version: -1}
		}
	}
	s.prepare(r, zxid, timeMs)
	if n := len(s.props); n > 0 && r.txn.Header.Type == wire.OpReconfig {
		s.props[n-1].Ensemble = next
	}
	if err := s.submitProposals(); err != nil {
		return false, err
	}
	return s.prep != nil, nil
}

// nextEnsemble is what a reconfig request asks for, or why it is refused
// (PrepRequestProcessor, case reconfig).
func (m *member) nextEnsemble(r *wire.ReconfigRequest) (*zab.Ensemble, wire.Code) {
	s := m.s
	switch {
	case !s.cfg.ReconfigEnabled:
		return nil, wire.ErrReconfigDisabled
	case m.lastSeen != m.ensemble:
		return nil, wire.ErrReconfigInProgress
	case r.ConfigID != -1 && r.ConfigID != m.ensemble.Version:
		return nil, wire.ErrBadVersion
	}
	// Copies: the list stays when the memory of the request is used again.
	joining, leaving, members := strings.Clone(r.Joining), strings.Clone(r.Leaving), strings.Clone(r.NewMembers)
	next, err := m.ensemble.Apply(joining, leaving, members, !s.cfg.StandaloneDisabled)
	switch {
	case errors.Is(err, zab.ErrNotNumber):
		return nil, wire.ErrMarshalling
	case err != nil:
		m.log.Warn("reconfiguration refused", "err", err)
		return nil, wire.ErrBadArguments
	}
	if !s.node.QuorumSynced(next) {
		return nil, wire.ErrNewConfigNoQuorum
	}
	return next, wire.OK
}

// configReply is the reply to a reconfig that was applied: the list of servers in
// force, which is the new one.
func (s *Server) configReply() wire.Record {
	data, stat, _ := s.tree.Get(configPath, superuser)
	return &wire.GetDataResponse{Data: data, Stat: stat}
}
