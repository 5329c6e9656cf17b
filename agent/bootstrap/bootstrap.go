package bootstrap

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab"
)

// A Bootstrap finds the ensemble of a host, or forms it with others, and keeps
// the directory of hosts. Its methods may be called from any goroutine.
type Bootstrap struct {
	cfg    Config
	disk   disk
	self   Host // its State does not count
	data   bool // the server had data when the process started
	gossip *gossip
	stop   context.CancelFunc // of connections under way
	join   []*joinEntry
	keyed  bool // gossip is among those who have the key

	spread  chan struct{}       // has one element if there is something new to announce
	seat    chan *Membership    // from the search for a place on the list
	settled chan struct{}       // closed when outcome is set
	taking  sync.Mutex          // held while Update stores a list; before mu
	mu      sync.Mutex          // guards what is below; leaf
	stored  Stored              // written after it is on disk, by Run until there is an outcome, then by Update
	verdict Verdict             // the last one
	seating string              // why the search has not found a place yet
	outcome Outcome             // set before settled is closed
	reached map[*joinEntry]bool // who is at the join list, as of the last decision
}

// An Outcome is where a host belongs.
type Outcome struct {
	// Role is RoleVoter, RoleObserver or RoleClient.
	Role Role
	// ID is the id of the server; 0 for a RoleClient.
	ID zab.ServerID
	// Ensemble is the newest list of servers that is stored here. The server's
	// data may have a newer one. Nil for a RoleClient. It must not be changed.
	Ensemble *zab.Ensemble
	// Lost: the server has nothing on its disk and must not vote before it is
	// synced. (The server finds that out by itself, if it is told not to make an
	// empty database by itself.)
	Lost bool
	// Cluster is the id of the ensemble.
	Cluster ClusterID
}

// New opens the state file and the port. Run must follow, or Close.
func New(cfg Config) (*Bootstrap, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	keys, err := readKeys(cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &Bootstrap{
		cfg: cfg, disk: disk{cfg.DataDir, cfg.LogDir}, stop: stop,
		spread: make(chan struct{}, 1), seat: make(chan *Membership), settled: make(chan struct{}),
		reached: map[*joinEntry]bool{}, keyed: len(keys) > 0,
	}
	if err := b.open(ctx, keys); err != nil {
		stop()
		return nil, err
	}
	return b, nil
}

func (b *Bootstrap) open(ctx context.Context, keys [][]byte) (err error) {
	if b.stored, err = b.disk.load(b.cfg.Cluster); err != nil {
		return err
	}
	if b.data, err = b.disk.hasData(); err != nil {
		return err
	}
	if e := b.cfg.Ensemble; e != nil && b.cfg.Role != RoleClient {
		b.stored.Membership = configured(b.cfg, b.stored.Membership)
	}
	for _, entry := range b.cfg.Join {
		j, err := newJoinEntry(entry)
		if err != nil {
			return err
		}
		b.join = append(b.join, j)
	}
	addr, err := advertised(ctx, b.cfg)
	if err != nil {
		return err
	}
	b.self = Host{
		Node: b.stored.Node, Name: b.cfg.Name, Role: b.cfg.Role, State: Seeking, Expect: b.cfg.Expect, ID: b.cfg.ID,
	}
	if b.cfg.Role != RoleClient {
		b.self.Addr = zab.MemberAddr{Host: b.cfg.Advertise, QuorumPort: b.cfg.QuorumPort, ElectionPort: b.cfg.ElectionPort}
		if b.self.Addr.Host == "" {
			b.self.Addr.Host = addr.String()
		}
		b.self.ClientAddr = b.cfg.ClientAddr
	}
	if err := b.self.valid(); err != nil {
		return err
	}
	if len(keys) == 0 && !addr.IsLoopback() {
		b.cfg.Logger.Warn("gossip without a key: everybody who reaches this host can take part in forming the first ensemble; only hosts of bootstrap.join are asked for a place on the list of servers", "file", "bootstrap.key_file")
	}
	view := b.view(nil)
	b.gossip, err = openGossip(ctx, b.cfg, view.Announce(Decide(view)), addr, keys)
	if err == nil && b.stored.Membership != nil {
		err = b.settle()
	}
	return err
}

// configured is the place of a host that is configured, not agreed on.
func configured(cfg Config, old *Membership) *Membership {
	m := Membership{ID: cfg.ID, Ensemble: cfg.Ensemble}
	if old != nil {
		m.Cluster = old.Cluster
		return &m
	}
	// Equal on all hosts with such lists, even if the lists differ: the hash of
	// the list, which is announced too, shows that.
	h := (&List{Cluster: cfg.Cluster}).Hash()
	copy(m.Cluster[:], h[:])
	return &m
}

// Close gives up what New took, if Run was never called.
func (b *Bootstrap) Close() error {
	b.stop()
	return b.gossip.close(b.cfg.Pace)
}

// Run gossips and decides until ctx ends, which is a clean stop and returns nil,
// or the disk fails.
func (b *Bootstrap) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		cancel()
		b.stop()
		wg.Wait()
		if err := b.gossip.close(b.cfg.Pace); err != nil {
			b.cfg.Logger.Debug("gossip did not end politely", "err", err)
		}
	}()
	wg.Go(func() { b.announceAll(ctx) })
	for _, j := range b.join {
		wg.Go(func() { b.keepJoined(ctx, j) })
	}
	wg.Go(func() { b.keepInTouch(ctx) })

	tick := time.NewTicker(b.cfg.Pace)
	defer tick.Stop()
	seating := false // a search for a place is under way
	for {
		verdict, err := b.decide()
		if err != nil {
			return err
		}
		if verdict.Kind == Join && !seating && b.cfg.Role != RoleClient {
			seating = true
			wg.Go(func() { b.findSeat(ctx, verdict.Cluster) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.gossip.changed:
		case <-tick.C:
		case m := <-b.seat:
			seating = false
			err = b.takeSeat(m)
		}
		if err != nil {
			return err
		}
	}
}

// decide does what Decide says, up to what must be waited for.
func (b *Bootstrap) decide() (Verdict, error) {
	for {
		v := b.view(b.gossip.snapshot())
		d := Decide(v)
		var err error
		st := v.Stored
		switch {
		case d.Kind == Acknowledge:
			st.List = d.List
			err = b.disk.save(st)
		case d.Kind == Form:
			st, err = b.disk.form(st)
		case d.Kind == Join && st.Seen != d.Cluster:
			st.Seen = d.Cluster
			err = b.disk.save(st)
		default:
			b.note(v, d)
			return d, nil
		}
		if err != nil {
			return d, err
		}
		id := d.Cluster
		if d.List != nil {
			id = d.List.ClusterID()
		}
		b.cfg.Logger.Info(map[Kind]string{
			Acknowledge: "list of the first ensemble acknowledged", Form: "first ensemble formed", Join: "ensemble found",
		}[d.Kind], "list", d.List.text(), "cluster", id.String())
		b.mu.Lock()
		b.stored = st
		b.mu.Unlock()
		if d.Kind == Form {
			if err := b.settle(); err != nil {
				return d, err
			}
		}
	}
}

// note keeps a verdict for Status, and tells the others what follows from it.
func (b *Bootstrap) note(v View, d Verdict) {
	b.mu.Lock()
	changed := d.Kind != b.verdict.Kind || d.Reason != b.verdict.Reason
	b.verdict = d
	for i, j := range b.join {
		b.reached[j] = v.Join[i].Reached
	}
	b.mu.Unlock()
	if changed && d.Reason != "" {
		b.cfg.Logger.Info("waiting for the ensemble", "reason", d.Reason)
	}
	if b.gossip.announce(v.Announce(d)) {
		select {
		case b.spread <- struct{}{}:
		default:
		}
	}
}

// view is what this host knows.
func (b *Bootstrap) view(hosts []gossiped) View {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := View{Self: b.self, Stored: b.stored, Data: b.data}
	for _, h := range hosts {
		v.Others = append(v.Others, h.Seen)
	}
	for _, j := range b.join {
		v.Join = append(v.Join, j.view(b.self.Node, hosts))
	}
	return v
}

// settle makes the stored membership the outcome.
func (b *Bootstrap) settle() error {
	lost, err := b.disk.lost()
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.stored.Membership
	role := RoleObserver
	if m.Ensemble.IsVoter(m.ID) {
		role = RoleVoter
	}
	if role == RoleObserver && b.cfg.Role == RoleVoter {
		b.cfg.Logger.Warn("this host has no vote: paddock members promote gives it one", "server", m.ID)
	}
	b.outcome = Outcome{Role: role, ID: m.ID, Ensemble: m.Ensemble, Lost: lost && b.cfg.Ensemble == nil, Cluster: m.Cluster}
	close(b.settled)
	return nil
}

// Wait returns where this host belongs, once that is known. For a host that knew
// it at the last start that is at once, and for a RoleClient too.
func (b *Bootstrap) Wait(ctx context.Context) (Outcome, error) {
	if b.cfg.Role == RoleClient {
		return Outcome{Role: RoleClient}, nil
	}
	select {
	case <-b.settled:
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.outcome, nil
	case <-ctx.Done():
		return Outcome{}, context.Cause(ctx)
	}
}

// Update tells which list the ensemble has now, as the server of this host knows
// it. It is on disk for the next start when Update returns, and is announced. An
// older list is ignored. There must be an outcome.
func (b *Bootstrap) Update(e *zab.Ensemble) error {
	b.taking.Lock()
	defer b.taking.Unlock()
	b.mu.Lock()
	st := b.stored
	b.mu.Unlock()
	m := st.Membership
	if m == nil || e.Version < m.Ensemble.Version || e.Version == m.Ensemble.Version && slices.Equal(e.Lines(), m.Ensemble.Lines()) {
		return nil
	}
	if b.cfg.Ensemble == nil {
		var err error
		if st, err = b.disk.newer(st, e); err != nil {
			return err
		}
	} else {
		st.Membership = &Membership{m.Cluster, m.ID, e} // what is configured is not ours to store
	}
	b.mu.Lock()
	b.stored = st
	b.mu.Unlock()
	b.gossip.wake()
	return nil
}

// announceAll sends out what is new.
func (b *Bootstrap) announceAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.spread:
			b.gossip.spread(b.cfg.Pace)
		}
	}
}

// keepJoined exchanges everything with the hosts of one element of the join list:
// often while the ensemble is not known, later only when they are not there,
// since memberlist itself never dials a host again that it took for dead.
func (b *Bootstrap) keepJoined(ctx context.Context, j *joinEntry) {
	pause := backoff{first: b.cfg.Pace / 2, most: 60 * b.cfg.Pace}
	for {
		if !b.known() {
			pause.most = 4 * b.cfg.Pace
		} else {
			pause.most = 60 * b.cfg.Pace
		}
		addrs, err := j.resolve(ctx, b.gossip.self, 5*b.cfg.Pace)
		if err != nil && ctx.Err() == nil {
			b.cfg.Logger.Debug("join", "peer", j.entry, "err", err)
		}
		b.mu.Lock()
		reached := b.reached[j]
		b.mu.Unlock()
		if !reached || !b.known() {
			for _, a := range addrs {
				if err := b.gossip.join(a); err != nil && ctx.Err() == nil {
					b.cfg.Logger.Debug("join", "peer", j.entry, "err", err)
				}
			}
			b.gossip.wake()
		} else {
			pause.reset()
		}
		if !pause.wait(ctx) {
			return
		}
	}
}

// keepInTouch calls one of the dead hosts now and then: after a partition the
// join list alone may not connect the two halves.
func (b *Bootstrap) keepInTouch(ctx context.Context) {
	pause := backoff{first: 10 * b.cfg.Pace, most: 10 * b.cfg.Pace}
	for pause.wait(ctx) {
		dead := slices.DeleteFunc(b.gossip.snapshot(), func(h gossiped) bool { return h.Alive })
		if len(dead) == 0 {
			continue
		}
		h := dead[rand.IntN(len(dead))]
		if err := b.gossip.join(h.addr); err != nil && ctx.Err() == nil {
			b.cfg.Logger.Debug("still gone", "peer", h.Name, "err", err)
		}
	}
}

// known reports whether this host knows where it belongs.
func (b *Bootstrap) known() bool {
	select {
	case <-b.settled:
		return true
	default:
		return false
	}
}

// A backoff doubles pauses, with jitter, so that hosts which lost the same peer
// do not come back all at once.
type backoff struct {
	first, most, next time.Duration
}

func (p *backoff) reset() { p.next = 0 }

// wait pauses; false means that ctx has ended.
func (p *backoff) wait(ctx context.Context) bool {
	p.next = min(max(p.first, 2*p.next), p.most)
	t := time.NewTimer(p.next/2 + rand.N(p.next/2+1))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// text is String, "" for no list.
func (l *List) text() string {
	if l == nil {
		return ""
	}
	return l.String()
}

// A Status says how far a host has come, for people.
type Status struct {
	State State
	// Reason is what is waited for, "" once the ensemble is known.
	Reason  string
	Cluster ClusterID
	// Problems are about gossip and other hosts: nothing of this host fails.
	Problems []string
}

// Status returns how far this host has come.
func (b *Bootstrap) Status() Status {
	hosts := b.gossip.snapshot()
	v := b.view(hosts)
	b.mu.Lock()
	d, seating := b.verdict, b.seating
	b.mu.Unlock()
	h := v.Announce(d)
	s := Status{State: h.State, Reason: d.Reason, Cluster: h.Cluster}
	if d.Kind == Join {
		s.Reason = fmt.Sprintf("ensemble %.8s is there, a place on its list is not found yet", d.Cluster.String())
		if seating != "" {
			s.Reason += ": " + seating
		}
	}
	if problem, _ := b.gossip.trouble(); problem != "" {
		s.Problems = append(s.Problems, "gossip: "+problem)
	}
	slices.SortFunc(hosts, func(a, b gossiped) int { return strings.Compare(a.Name, b.Name) })
	for _, o := range hosts {
		if !o.Alive || o.State != Member || h.State != Member {
			continue
		}
		switch {
		case o.Cluster != h.Cluster:
			s.Problems = append(s.Problems, fmt.Sprintf("%s belongs to another ensemble, %.8s, under the same name", o.Name, o.Cluster.String()))
		case o.Version == h.Version && o.Hash != h.Hash:
			s.Problems = append(s.Problems, fmt.Sprintf("%s has another list of servers than this host", o.Name))
		case o.ID == h.ID && o.Role != RoleClient && h.Role != RoleClient:
			s.Problems = append(s.Problems, fmt.Sprintf("%s has the server id %d of this host", o.Name, o.ID))
		}
	}
	return s
}
