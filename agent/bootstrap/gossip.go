package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxHosts bounds how many hosts are remembered, dead ones included.
const maxHosts = 2048

// gossip is the directory of hosts, kept up to date by memberlist. All that
// comes from the network ends here: a Host that is valid, or a counted refusal.
type gossip struct {
	name    string         // of this host there: its node id
	self    netip.AddrPort // of this host, as others know it
	list    *memberlist.Memberlist
	log     *slog.Logger
	changed chan struct{} // has one element if something changed since it was last read

	mu       sync.Mutex // guards what is below; leaf: memberlist calls in under its own locks
	meta     []byte     // what this host announces
	hosts    map[NodeID]*gossiped
	order    uint64 // of changes
	refused  int
	problem  string // the last trouble, for people
	at       time.Time
	problems map[string]time.Time // when each kind was logged
}

// A gossiped is another host with its gossip address.
type gossiped struct {
	Seen
	addr  netip.AddrPort
	order uint64 // of the last change
}

// openGossip listens and announces self. Connections are made under ctx.
func openGossip(ctx context.Context, cfg Config, self Host, advertise netip.Addr, keys [][]byte) (*gossip, error) {
	listen, err := netip.ParseAddrPort(cfg.Listen)
	if err != nil {
		return nil, err
	}
	g := &gossip{
		name: self.Node.String(), log: cfg.Logger, changed: make(chan struct{}, 1), meta: appendMeta(nil, self),
		hosts: map[NodeID]*gossiped{}, problems: map[string]time.Time{},
	}
	logger := log.New(logWriter{g}, "", 0)
	tcp, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{listen.Addr().String()}, BindPort: int(listen.Port()), Logger: logger,
	})
	if err != nil {
		// Its errors do not say in a way that programs understand that a port is taken.
		if l, lerr := net.Listen("tcp", cfg.Listen); lerr != nil {
			err = lerr
		} else {
			l.Close()
		}
		return nil, fmt.Errorf("gossip port: %w", err)
	}
	g.self = netip.AddrPortFrom(advertise, uint16(tcp.GetAutoBindPort()))
	mc := memberlist.DefaultLANConfig()
	mc.Name, mc.Label, mc.Logger, mc.LogOutput = g.name, cfg.Cluster, logger, nil
	mc.Transport = &dialer{tcp, ctx}
	mc.BindAddr, mc.BindPort = listen.Addr().String(), tcp.GetAutoBindPort()
	mc.AdvertiseAddr, mc.AdvertisePort = g.self.Addr().String(), tcp.GetAutoBindPort()
	mc.TCPTimeout = 5 * cfg.Pace
	mc.ProbeInterval, mc.ProbeTimeout = cfg.Pace, cfg.Pace/2
	mc.GossipInterval = cfg.Pace / 5
	mc.PushPullInterval = 15 * cfg.Pace
	mc.GossipToTheDeadTime = 30 * cfg.Pace
	mc.DeadNodeReclaimTime = 10 * cfg.Pace // a host whose address has changed
	mc.RequireNodeNames = false            // the names of the join list are not known
	mc.Delegate, mc.Events, mc.Alive, mc.Conflict = g, g, g, g
	if len(keys) > 0 {
		if mc.Keyring, err = memberlist.NewKeyring(keys, keys[0]); err != nil {
			return nil, errors.Join(err, tcp.Shutdown())
		}
	}
	if g.list, err = memberlist.Create(mc); err != nil {
		return nil, errors.Join(fmt.Errorf("gossip: %w", err), tcp.Shutdown())
	}
	return g, nil
}

// A dialer is the transport of memberlist whose connections end with a context,
// so that a shutdown does not wait for hosts that do not answer.
type dialer struct {
	*memberlist.NetTransport
	ctx context.Context // of the Bootstrap: memberlist has none to give
}

func (d *dialer) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return (&net.Dialer{Timeout: timeout}).DialContext(d.ctx, "tcp", a.Addr)
}

func (d *dialer) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return d.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func addrOf(n *memberlist.Node) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(ip.Unmap(), n.Port)
}

// announce changes what this host tells. It reports whether that was new.
func (g *gossip) announce(h Host) bool {
	b := appendMeta(nil, h)
	g.mu.Lock()
	defer g.mu.Unlock()
	if bytes.Equal(b, g.meta) {
		return false
	}
	g.meta = b
	return true
}

// spread sends the announcement out and waits until it is under way, for at most
// timeout: what got lost then comes with the next full exchange.
func (g *gossip) spread(timeout time.Duration) {
	if err := g.list.UpdateNode(timeout); err != nil {
		g.log.Debug("announcement not confirmed", "err", err)
	}
}

// join exchanges everything with the host at an address.
func (g *gossip) join(addr netip.AddrPort) error {
	_, err := g.list.Join([]string{addr.String()})
	return err
}

// close leaves politely, so that the others do not wait for this host's answers.
func (g *gossip) close(timeout time.Duration) error {
	return errors.Join(g.list.Leave(timeout), g.list.Shutdown())
}

// snapshot returns all known hosts with their gossip addresses.
func (g *gossip) snapshot() []gossiped {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]gossiped, 0, len(g.hosts))
	for _, h := range g.hosts {
		list = append(list, *h)
	}
	return list
}

// trouble returns the last problem, if it is not long ago, and how much was
// refused.
func (g *gossip) trouble() (problem string, refused int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.problem != "" && time.Since(g.at) < reportInterval {
		problem = g.problem
	}
	return problem, g.refused
}

func (g *gossip) wake() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// NodeMeta implements memberlist.Delegate.
func (g *gossip) NodeMeta(int) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.meta
}

// NotifyMsg implements memberlist.Delegate: there are no messages.
func (g *gossip) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (g *gossip) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (g *gossip) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (g *gossip) MergeRemoteState([]byte, bool) {}

// NotifyAlive implements memberlist.AliveDelegate: what is not valid is not a
// peer.
func (g *gossip) NotifyAlive(n *memberlist.Node) error {
	if n.Name == g.name {
		return nil // memberlist corrects what others say of this host
	}
	h, err := decodeMeta(n.Meta)
	if err == nil && h.Node.String() != n.Name {
		err = errors.New("it has the name of another one")
	}
	if err == nil && (!addrOf(n).IsValid() || n.Port == 0) {
		err = errors.New("it has no address")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil && g.hosts[h.Node] == nil && len(g.hosts) >= maxHosts && !g.forgetLocked() {
		err = fmt.Errorf("there are %d hosts already", maxHosts)
	}
	if err != nil {
		g.refused++
		return err
	}
	return nil
}

// forgetLocked drops the host that is dead for longest.
func (g *gossip) forgetLocked() bool {
	var oldest *gossiped
	for _, h := range g.hosts {
		if !h.Alive && (oldest == nil || h.order < oldest.order) {
			oldest = h
		}
	}
	if oldest == nil {
		return false
	}
	delete(g.hosts, oldest.Node)
	return true
}

// NotifyJoin implements memberlist.EventDelegate.
func (g *gossip) NotifyJoin(n *memberlist.Node) { g.note(n, true) }

// NotifyUpdate implements memberlist.EventDelegate.
func (g *gossip) NotifyUpdate(n *memberlist.Node) { g.note(n, true) }

// NotifyLeave implements memberlist.EventDelegate.
func (g *gossip) NotifyLeave(n *memberlist.Node) { g.note(n, false) }

func (g *gossip) note(n *memberlist.Node, alive bool) {
	if n.Name == g.name {
		return
	}
	h, err := decodeMeta(n.Meta)
	if err != nil {
		return // NotifyAlive has refused it
	}
	g.mu.Lock()
	g.order++
	g.hosts[h.Node] = &gossiped{Seen{h, alive}, addrOf(n), g.order}
	g.mu.Unlock()
	g.wake()
}

// NotifyConflict implements memberlist.ConflictDelegate.
func (g *gossip) NotifyConflict(existing, other *memberlist.Node) {
	who := "another host"
	if existing.Name == g.name {
		who = "this host"
	} else if h, err := decodeMeta(existing.Meta); err == nil {
		who = h.Name
	}
	g.report("conflict", fmt.Sprintf("%s at %v and the host at %v have the same identity: %s was copied with a data directory; delete it on one of them",
		who, addrOf(existing), addrOf(other), FileName))
}

// reportInterval is how long one kind of trouble is not logged again.
const reportInterval = time.Minute

// report notes trouble, and logs it if its kind was not logged lately.
func (g *gossip) report(kind, text string) {
	g.mu.Lock()
	g.problem, g.at = text, time.Now()
	last, known := g.problems[kind]
	quiet := known && time.Since(last) < reportInterval || !known && len(g.problems) >= 64
	if !quiet {
		g.problems[kind] = time.Now()
	}
	g.mu.Unlock()
	if !quiet {
		g.log.Warn("gossip", "err", text)
	}
}

// A logWriter takes memberlist's log lines, "[WARN] memberlist: text". Much of
// it anybody on the network can cause, so trouble is reported by its kind.
type logWriter struct{ g *gossip }

func (w logWriter) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level, text, ok := strings.Cut(text, " memberlist: ")
	if !ok {
		level, text = "", level
	}
	switch {
	case level != "[ERR]" && level != "[WARN]":
		w.g.log.Debug("gossip", "err", text)
	case strings.HasPrefix(text, "Refuting"), strings.HasPrefix(text, "Conflicting address"), strings.HasPrefix(text, "Was able to connect to"),
		strings.Contains(text, net.ErrClosed.Error()):
		// What memberlist settles by itself, what NotifyConflict says better, and
		// what comes of a shutdown.
		w.g.log.Debug("gossip", "err", text)
	default:
		w.g.report(kindOf(text), text)
	}
	return len(line), nil
}

// kindOf returns the begin of a message, up to what differs each time.
func kindOf(text string) string {
	if i := strings.IndexAny(text, `'"0123456789:(`); i >= 0 {
		text = text[:i]
	}
	return text
}
