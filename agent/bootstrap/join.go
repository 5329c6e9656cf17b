package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab"
)

// A joinEntry is an element of the join list and what it resolves to.
type joinEntry struct {
	entry string
	host  string
	port  uint16

	mu    sync.Mutex // guards what is below; leaf
	addrs []netip.AddrPort
	self  []bool // which of addrs lead to this host
}

func newJoinEntry(entry string) (*joinEntry, error) {
	host, port, err := splitJoin(entry)
	return &joinEntry{entry: entry, host: host, port: port}, err
}

// resolve looks the name up again and returns the addresses of others. Without
// an answer the last one stays.
func (j *joinEntry) resolve(ctx context.Context, self netip.AddrPort, timeout time.Duration) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ips, err := lookup(ctx, j.host)
	var own []netip.Addr
	if err == nil && j.port == self.Port() {
		own = localAddrs()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		j.addrs, j.self = nil, nil
		for _, ip := range ips {
			a := netip.AddrPortFrom(ip, j.port)
			j.addrs, j.self = append(j.addrs, a), append(j.self, a == self || slices.Contains(own, ip))
		}
	}
	var others []netip.AddrPort
	for i, a := range j.addrs {
		if !j.self[i] {
			others = append(others, a)
		}
	}
	return others, err
}

func localAddrs() []netip.Addr {
	var ips []netip.Addr
	addrs, _ := net.InterfaceAddrs() // without them the advertised address still tells
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			ips = append(ips, p.Addr().Unmap())
		}
	}
	return ips
}

func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(ips) == 0 {
		err = fmt.Errorf("%s has no address", host)
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return slices.Compact(ips), err
}

// view says who is there. A name may have addresses of both families, of which a
// host announces one: all addresses of one family must have a host.
func (j *joinEntry) view(self NodeID, hosts []gossiped) JoinHost {
	j.mu.Lock()
	defer j.mu.Unlock()
	v := JoinHost{Entry: j.entry}
	var found, missing [2]int // by family
	for i, a := range j.addrs {
		family := 0
		if a.Addr().Is6() {
			family = 1
		}
		nodes := hostsAt(hosts, a)
		if j.self[i] {
			nodes = append(nodes, self)
		}
		v.Nodes = append(v.Nodes, nodes...)
		if len(nodes) > 0 {
			found[family]++
		} else {
			missing[family]++
		}
	}
	v.Reached = found[0] > 0 && missing[0] == 0 || found[1] > 0 && missing[1] == 0
	return v
}

// hostsAt returns who is alive at a gossip address.
func hostsAt(hosts []gossiped, addr netip.AddrPort) []NodeID {
	var nodes []NodeID
	for _, h := range hosts {
		if h.Alive && h.addr == addr {
			nodes = append(nodes, h.Node)
		}
	}
	return nodes
}

// advertised finds the address at which others reach this host.
func advertised(ctx context.Context, cfg Config) (netip.Addr, error) {
	if cfg.Advertise != "" {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		ips, err := lookup(ctx, cfg.Advertise)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("bootstrap.advertise: %w", err)
		}
		return ips[0], nil
	}
	listen, err := netip.ParseAddrPort(cfg.Listen)
	if err != nil || !listen.Addr().IsUnspecified() {
		return listen.Addr().Unmap(), err
	}
	// No packet is sent by this: the system only looks for the route.
	for _, to := range append(slices.Clone(cfg.Join), "192.0.2.1", "2001:db8::1") {
		host, port, err := splitJoin(to)
		if err != nil {
			continue
		}
		d := net.Dialer{Timeout: time.Second}
		conn, err := d.DialContext(ctx, "udp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err != nil {
			continue
		}
		local, ok := conn.LocalAddr().(*net.UDPAddr)
		conn.Close()
		if ip := local.AddrPort().Addr().Unmap(); ok && !ip.IsLoopback() {
			return ip, nil
		}
	}
	return netip.Addr{}, errors.New("no address of this host that others can reach was found: set bootstrap.advertise")
}

// findSeat looks until it has a place or ctx ends, then tells Run.
func (b *Bootstrap) findSeat(ctx context.Context, cluster ClusterID) {
	pause := backoff{first: b.cfg.Pace, most: 10 * b.cfg.Pace}
	for {
		m, err := b.trySeat(ctx, cluster)
		if err == nil {
			select {
			case b.seat <- m:
			case <-ctx.Done():
			}
			return
		}
		if ctx.Err() != nil {
			return
		}
		b.mu.Lock()
		changed := b.seating != err.Error()
		b.seating = err.Error()
		b.mu.Unlock()
		if changed && !errors.Is(err, ErrChanged) {
			b.cfg.Logger.Info("no place on the list of servers yet", "err", err)
		}
		if errors.Is(err, ErrChanged) {
			pause.reset()
		}
		if !pause.wait(ctx) {
			return
		}
	}
}

// maxServers bounds how many servers are asked for the list.
const maxServers = 16

// trySeat asks the servers that gossip suggests once. The list is the ensemble's
// own; the place is this host's if its address is there, else a new one.
func (b *Bootstrap) trySeat(ctx context.Context, cluster ClusterID) (*Membership, error) {
	if b.cfg.Registrar == nil {
		return nil, errors.New("this host cannot ask for one: configure zab.servers")
	}
	hosts := b.gossip.snapshot()
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	slices.SortStableFunc(hosts, func(x, y gossiped) int { return rank(x) - rank(y) })
	var addrs []string
	strange := ""
	for _, h := range hosts {
		switch to := h.ClientDial(); {
		case h.State != Member || h.Cluster != cluster || to == "" || len(addrs) == maxServers:
		case b.keyed || b.named(to):
			addrs = append(addrs, to)
		default:
			strange = to
		}
	}
	switch {
	case len(addrs) > 0:
	case strange != "":
		return nil, fmt.Errorf("gossip names %s as a server, which anybody could do without bootstrap.key_file: set it, or put a member's host into bootstrap.join", strange)
	default:
		return nil, errors.New("no member of it with a client port is seen")
	}
	ctx, cancel := context.WithTimeout(ctx, 15*b.cfg.Pace)
	defer cancel()
	e, err := b.cfg.Registrar.Read(ctx, addrs)
	if err != nil {
		return nil, fmt.Errorf("read the list of servers: %w", err)
	}
	id, err := b.ownLine(e)
	if err != nil {
		return nil, err
	}
	if id == 0 {
		if b.data {
			return nil, fmt.Errorf("the data directory has data, but no server of the list has the address of this host, %s", b.self.Addr.Host)
		}
		if id, err = b.freeID(e, hosts); err != nil {
			return nil, err
		}
		line := zab.Member{ID: id, Addrs: []zab.MemberAddr{b.self.Addr}, ClientAddr: b.self.ClientAddr, Observer: true}
		if e, err = b.cfg.Registrar.Add(ctx, addrs, line, e.Version); err != nil {
			return nil, fmt.Errorf("put %v on the list of servers: %w", line, err)
		}
		// Somebody else may have got this id, and the answer may be of later.
		if got, err := b.ownLine(e); err != nil || got != id {
			return nil, errors.Join(err, ErrChanged)
		}
	}
	for _, h := range hosts {
		if h.Alive && h.State == Member && h.Cluster == cluster && h.ID == id {
			return nil, fmt.Errorf("server %d is run by %s already, node %v", id, h.Name, h.Node)
		}
	}
	return &Membership{Cluster: cluster, ID: id, Ensemble: e}, nil
}

// named reports whether an address is of a host that the join list names. The
// servers that are asked get the password of a user who may change the list of
// servers, and their answer is believed, so without a gossip key no others are.
func (b *Bootstrap) named(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(b.join, func(j *joinEntry) bool { return j.names(host) })
}

// names reports whether host is the one of the entry: the same name, or an
// address that it was resolved to. Another name proves nothing: who answers for
// it may be who announced it.
func (j *joinEntry) names(host string) bool {
	if host == j.host {
		return true
	}
	ip, err := netip.ParseAddr(host)
	j.mu.Lock()
	defer j.mu.Unlock()
	return err == nil && slices.ContainsFunc(j.addrs, func(a netip.AddrPort) bool { return a.Addr() == ip.Unmap() })
}

// rank puts hosts that are alive first.
func rank(h gossiped) int {
	if h.Alive {
		return 0
	}
	return 1
}

// ownLine finds the line of this host by its address: nobody else can be there.
func (b *Bootstrap) ownLine(e *zab.Ensemble) (zab.ServerID, error) {
	for _, m := range e.Members {
		here := slices.Contains(m.Addrs, b.self.Addr)
		switch {
		case here && b.self.ID != 0 && b.self.ID != m.ID:
			return 0, fmt.Errorf("zab.id is %d, but the list has this host's address for server %d", b.self.ID, m.ID)
		case here:
			return m.ID, nil
		case b.self.ID != 0 && b.self.ID == m.ID:
			return 0, fmt.Errorf("zab.id is %d, but the list has another address for it: %v; use paddock members replace if that server is gone", m.ID, m)
		}
	}
	return 0, nil
}

// freeID chooses an id that nobody has: the list decides, with its version, if
// two hosts choose the same one.
func (b *Bootstrap) freeID(e *zab.Ensemble, hosts []gossiped) (zab.ServerID, error) {
	if b.self.ID != 0 {
		return b.self.ID, nil
	}
	taken := map[zab.ServerID]bool{}
	for _, m := range e.Members {
		taken[m.ID] = true
	}
	for _, h := range hosts {
		if h.Alive {
			taken[h.ID] = true
		}
	}
	// 255 cannot be used with extended types of ephemerals.
	for id := zab.ServerID(1); id < maxID; id++ {
		if !taken[id] {
			return id, nil
		}
	}
	return 0, errors.New("all 254 server ids are taken: this host can be a client only")
}

// takeSeat stores what a search found.
func (b *Bootstrap) takeSeat(m *Membership) error {
	b.mu.Lock()
	st := b.stored
	b.mu.Unlock()
	if st.Membership != nil {
		return nil
	}
	st, err := b.disk.join(st, *m)
	if err != nil {
		return err
	}
	b.cfg.Logger.Info("ensemble joined", "server", m.ID, "cluster", m.Cluster.String())
	b.mu.Lock()
	b.stored = st
	b.mu.Unlock()
	return b.settle()
}
