package zabtest

import (
	"fmt"
	"slices"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// What must happen, and in time, once nothing is wrong with a core of servers (L1
// to L10), and how all states compare in the end.

// established reports whether a server leads and a quorum of its voters, in the
// given set, serves with it.
func (s *sim) established(in []*server) *server {
	for _, v := range in {
		if !v.up || v.paused || !v.shown.leads() {
			continue
		}
		if s.check.list.IsQuorum(func(id zab.ServerID) bool {
			u := s.byID(id)
			return u == v || slices.Contains(in, u) && u.up && u.shown.serves() && u.shown.leader == v.id && v.linked(u)
		}) {
			return v
		}
	}
	return nil
}

// servesWith reports whether a server serves, and with that leader: one that was cut
// off may not know yet that its own is gone.
func (v *server) servesWith(lead *server) bool {
	return v.up && v.serving.on && (v == lead || v.shown.serves() && v.shown.leader == lead.id && lead.linked(v))
}

// elects waits for a leader among servers that nothing is wrong with (L1), and for
// a write after that (L2).
func (s *sim) elects(in []*server, where string) bool {
	begin := s.now
	limit := s.p.l1()
	s.checks.live(1)
	if !s.runTo(begin+limit, func() bool { return s.established(in) != nil }) {
		if s.violation == nil {
			s.fail("L1", "%s: no leader after %v: %s", where, limit.duration(), s.describe(in))
		}
		return false
	}
	s.stats.Elected = max(s.stats.Elected, (s.now - begin).duration())
	begin = s.now
	want := zab.Zxid(0)
	lead := s.established(in)
	lead.submit(&request{op: wire.OpSetData, body: &wire.SetDataRequest{Path: "/", Version: -1}})
	want = s.check.last().zxid
	limit = s.p.l2()
	s.checks.live(2)
	if !s.runTo(begin+limit, func() bool { return s.check.last().zxid > want }) {
		if s.violation == nil {
			s.fail("L2", "%s: no write was committed in %v: %s", where, limit.duration(), s.describe(in))
		}
		return false
	}
	s.stats.Served = max(s.stats.Served, (s.now - begin).duration())
	return true
}

// converges waits until servers are at one state (L3).
func (s *sim) converges(in []*server, where string) bool {
	limit := s.p.l3()
	s.checks.live(3)
	same := func() bool {
		for _, v := range in {
			if !v.up || v.paused || !v.shown.serves() || v.view.applied != s.check.last() {
				return false
			}
		}
		return true
	}
	if same() || s.runTo(s.now+limit, same) {
		return true
	}
	if s.violation == nil && slices.ContainsFunc(in, func(v *server) bool { return !v.up }) {
		s.fail("L10", "%s: a server does not start: %s", where, s.describe(in))
	}
	if s.violation == nil {
		s.fail("L3", "%s: not at one state after %v, committed is %v: %s", where, limit.duration(), s.check.last().zxid, s.describe(in))
	}
	return false
}

// describe says what a report of a failed liveness rule needs.
func (s *sim) describe(in []*server) string {
	text := ""
	for _, v := range s.servers {
		text += fmt.Sprintf("\n  server %d: ", v.id)
		switch {
		case !slices.Contains(in, v):
			text += "not in the core; "
		case v.config == v.next:
			text += fmt.Sprintf("voters %v; ", v.config.Voters())
		default:
			text += fmt.Sprintf("voters %v, then %v; ", v.config.Voters(), v.next.Voters())
		}
		switch {
		case !s.check.list.IsVoter(v.id):
			text += "observer; "
		}
		switch {
		case !v.up:
			text += "down"
			continue
		case v.paused:
			text += "paused; "
		}
		text += fmt.Sprintf("%v, log up to %v, safe %v, applied %v, accepted %d, current %d, lost %v, %d links, disk jobs %d",
			show(&v.shown), v.view.appended.zxid, v.view.durable.zxid, v.view.applied.zxid, v.view.accepted, v.view.current, v.lost, len(v.conns), v.lanes[logLane].jobs.len())
	}
	return text
}

// live is the phase in which a core of servers must work, whatever is wrong with
// the others.
func (s *sim) live() {
	if s.violation != nil {
		return
	}
	s.phase = phaseLive
	core := s.drawCore()
	s.log(nil, "the core is", ids(core))
	s.net.mendAll()
	for _, v := range s.servers {
		if slices.Contains(core, v) {
			v.heal()
			continue
		}
		// Frozen in whatever state it is, cut off for good or not.
		v.downTill = forever
		if s.faultRand.IntN(2) == 0 {
			v.crash(true)
		} else {
			for b := range s.net.hosts {
				for p := range ports {
					s.net.sever(p, v.idx, b)
					s.net.sever(p, b, v.idx)
				}
			}
		}
	}
	// What a slow disk had begun takes its time.
	s.runTo(s.now+5*s.tick(), nil)
	if !s.elects(core, "liveness") {
		return
	}
	s.connects(core)
	s.runTo(s.now+5*s.tick(), nil)
	s.expires(core)
	core = s.rejoins(core)
	s.shares(core)
	for _, c := range s.clients {
		c.quiet = true
	}
	s.converges(core, "liveness")
}

// connects waits until every client has a session at a server of the core (L7).
func (s *sim) connects(core []*server) {
	begin := s.now
	served := make([]bool, len(s.clients))
	limit := usec(0)
	for _, c := range s.clients {
		limit = max(limit, usec(c.timeout)*millisecond*usec(len(s.servers)+2))
	}
	limit += s.p.l2()
	s.checks.live(7)
	done := func() bool {
		all := true
		for i, c := range s.clients {
			served[i] = served[i] || c.conn != nil && c.conn.live && c.heard > begin && slices.Contains(core, c.conn.v)
			all = all && served[i]
		}
		return all
	}
	if !s.runTo(begin+limit, done) && s.violation == nil && !done() {
		s.fail("L7", "clients that are served after %v: %v: %s", limit.duration(), served, s.describe(core))
	}
}

// expires lets one client fall silent and waits until its session has ended (L6).
func (s *sim) expires(core []*server) {
	i := slices.IndexFunc(s.clients, func(c *client) bool { return c.conn != nil && c.conn.live && c.session != 0 })
	if s.violation != nil || i < 0 {
		return
	}
	c := s.clients[i]
	c.silent = true
	id, reigns := c.session, s.stats.Reigns
	gone := func() bool {
		ss := s.check.ref.sessions[id]
		return ss != nil && ss.closed != 0 && !slices.ContainsFunc(core, func(v *server) bool {
			return v.up && v.shown.serves() && v.tree.LastZxid() < ss.closed
		})
	}
	limit := usec(c.timeout)*millisecond*10/9 + s.p.ticks(3) + s.p.l2()
	s.checks.live(6)
	ended := s.runTo(s.now+limit, gone)
	if !ended && s.stats.Reigns > reigns {
		ended = s.runTo(s.now+usec(c.timeout)*millisecond*10/9+s.p.l1(), gone)
	}
	if !ended && s.violation == nil {
		s.fail("L6", "session %v of client %d is not gone %v after its last word: %s", id, c.idx, limit.duration(), s.describe(core))
	}
	c.silent = false
}

// rejoins brings a server back that was not in the core, while clients go on
// writing (L4). It must not cost the leader its place (L5).
func (s *sim) rejoins(core []*server) []*server {
	i := slices.IndexFunc(s.servers, func(v *server) bool { return !slices.Contains(core, v) })
	if s.violation != nil || i < 0 {
		return core
	}
	v, reigns := s.servers[i], s.stats.Reigns
	// One that has promised a later epoch, or whose promise was damaged, can only join
	// a leader that begins such an epoch.
	lead := s.established(core)
	higher := lead == nil || v.view.accepted > lead.shown.epoch || v.view.storingAccepted > lead.shown.epoch
	s.log(v, "comes back", nil)
	for b := range s.net.hosts {
		if b < len(s.servers) && !slices.Contains(core, s.servers[b]) {
			continue
		}
		s.net.mendWay(v.idx, b)
		s.net.mendWay(b, v.idx)
	}
	v.heal()
	limit := s.p.l4()
	s.checks.live(4)
	joined := func() bool {
		lead := s.established(append(core, v))
		return lead != nil && v.servesWith(lead)
	}
	if !s.runTo(s.now+limit, joined) && s.violation == nil {
		s.fail("L4", "server %d has not joined after %v: %s", v.id, limit.duration(), s.describe(core))
	}
	if v.damaged || higher {
		return append(core, v)
	}
	s.checks.live(5)
	if s.violation == nil && s.stats.Reigns != reigns {
		s.fail("L5", "server %d comes back, and another reign begins: %s", v.id, s.describe(core))
	}
	return append(core, v)
}

// burst is how much one server is given at once.
const burst = 60

// shares gives one server much to do and waits for the write of another (L8).
func (s *sim) shares(core []*server) {
	lead := s.established(core)
	if s.violation != nil || lead == nil {
		return
	}
	var serving []*server
	for _, v := range core {
		if v.servesWith(lead) {
			serving = append(serving, v)
		}
	}
	busy, other := serving[0], serving[len(serving)-1]
	write := func(v *server, data string) {
		v.submit(&request{op: wire.OpSetData, body: &wire.SetDataRequest{Path: "/", Data: []byte(data), Version: -1}})
	}
	for range burst {
		write(busy, "one of many")
	}
	write(other, "a single one")
	from := len(s.check.committed)
	done := func() bool {
		for ; from < len(s.check.committed); from++ {
			if b, ok := s.check.committed[from].txn.Body.(*wire.SetDataTxn); ok && string(b.Data) == "a single one" {
				return true
			}
		}
		return false
	}
	s.checks.live(8)
	if limit := 10 * s.p.l2(); !s.runTo(s.now+limit, done) && s.violation == nil {
		s.fail("L8", "server %d has work, and a write of server %d waits for %v: %s", busy.id, other.id, limit.duration(), s.describe(core))
	}
}

func ids(in []*server) []zab.ServerID {
	var list []zab.ServerID
	for _, v := range in {
		list = append(list, v.id)
	}
	return list
}

// drawCore chooses a quorum of servers that have a vote, and perhaps more.
func (s *sim) drawCore() []*server {
	var core []*server
	order := s.faultRand.Perm(len(s.servers))
	isQuorum := func() bool {
		return s.everyQuorum(func(v *server) bool { return slices.Contains(core, v) && !v.lost && !v.wiped && !v.damaged })
	}
	for _, i := range order {
		v := s.servers[i]
		if v.lost || v.wiped || v.damaged {
			continue
		}
		if isQuorum() && s.faultRand.IntN(2) == 0 {
			break
		}
		core = append(core, v)
	}
	for _, i := range order {
		if v := s.servers[i]; !slices.Contains(core, v) && s.faultRand.IntN(3) == 0 {
			core = append(core, v)
		}
	}
	return core
}

// heal ends all that is wrong with a server.
func (v *server) heal() {
	v.downTill, v.slowDisk = 0, 0
	v.disk.SetCapacity(0)
	v.fullDisk = false
	v.disk.FailAt(0, nil)
	v.disk.CrashAt(0)
	v.s.net.slow[v.idx] = 0
	v.resume()
	if !v.up {
		v.host = true
		v.planRestart()
	}
}

// quiet brings everybody back, then compares all states, then all disks.
func (s *sim) quiet() {
	if s.violation != nil {
		return
	}
	s.phase = phaseQuiet
	s.net.mendAll()
	for _, v := range s.servers {
		v.heal()
	}
	for _, c := range s.clients {
		c.quiet = true
	}
	if !s.elects(s.servers, "quiescence") || !s.converges(s.servers, "quiescence") {
		return
	}
	s.checks.live(10)
	s.compare()
	// Everything from the disks once more: all at once, or one after another (L9).
	at := s.now
	for _, v := range s.servers {
		s.at(at, func() { v.crash(s.faultRand.IntN(2) == 0) })
		if s.p.storm {
			at += second + usec(s.faultRand.Int64N(int64(4*second)))
		}
	}
	s.runTo(at, nil)
	s.checks.live(9)
	if s.violation != nil || !s.elects(s.servers, "restart of all") || !s.converges(s.servers, "restart of all") {
		return
	}
	s.compare()
}

// compare checks that all servers hold the same, and that it is what the
// transactions make.
func (s *sim) compare() {
	for _, v := range s.servers {
		if v.tree != nil {
			s.check.whole(v, v.tree)
			s.check.digest(v, v.tree, s.check.last(), "S16")
		}
	}
}
