package nameserver

import (
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// A reverseIndex holds the addresses of all instances at one generation.
type reverseIndex struct {
	gen   uint64
	addrs []netip.Addr // sorted
	apps  [][]string   // the applications at each address, sorted
	live  bool         // all views are
}

// reverseCache builds the reverse index when it is asked for. That reads the
// whole directory, so it happens at most so often that it costs a tenth of one
// processor; between, the last one serves.
type reverseCache struct {
	mu   sync.Mutex // held while building; guards what follows
	cur  *reverseIndex
	next time.Time // no attempt before
}

// at returns the index of generation gen or an earlier one; nil if there has
// never been a moment to read the directory whole.
func (c *reverseCache) at(s *Server, gen uint64) *reverseIndex {
	c.mu.Lock()
	defer c.mu.Unlock()
	start := time.Now()
	if c.cur != nil && c.cur.gen == gen || start.Before(c.next) {
		return c.cur
	}
	for range maxTries {
		if r := s.readReverse(); s.dir.Generation() == r.gen {
			c.cur = r
			break
		}
	}
	end := time.Now()
	c.next = end.Add(9 * end.Sub(start))
	return c.cur
}

func (s *Server) readReverse() *reverseIndex {
	r := &reverseIndex{gen: s.dir.Generation(), live: true}
	apps := make(map[netip.Addr][]string)
	note := func(host netip.Addr, app string) {
		list, ok := apps[host]
		if !ok {
			r.addrs = append(r.addrs, host)
		}
		if app != "" && !slices.Contains(list, app) {
			list = append(list, app)
		}
		apps[host] = list
	}
	for _, name := range s.dir.Services() {
		v, _ := s.dir.Lookup(name)
		r.live = r.live && v.Live
		for _, in := range v.Instances {
			if addr := instanceAddr(in); addr.IsValid() {
				note(addr, in.App)
			}
		}
	}
	for _, name := range s.dir.Apps() {
		v, _ := s.dir.LookupApp(name)
		r.live = r.live && v.Live
		for _, in := range v.Instances {
			if addr := instanceAddr(in); addr.IsValid() {
				note(addr, name)
			}
		}
	}
	slices.SortFunc(r.addrs, netip.Addr.Compare)
	for _, addr := range r.addrs {
		list := apps[addr]
		slices.Sort(list)
		r.apps = append(r.apps, list)
	}
	return r
}

// any tells whether an instance has an address in net.
func (r *reverseIndex) any(net netip.Prefix) bool {
	i, _ := slices.BinarySearchFunc(r.addrs, net.Addr(), netip.Addr.Compare)
	return i < len(r.addrs) && net.Contains(r.addrs[i])
}

// maxPTR bounds the names of one address. Programs use the first.
const maxPTR = 16

// reverse answers for a name in a reverse zone: first the name of the address,
// which leads back to it, then the applications there.
func (s *Server) reverse(q *query, z *zone, gen uint64) *answer {
	net, ok := parseReverse(q)
	r := s.reverses.at(s, gen)
	switch {
	case r == nil:
		return unsettled
	case q.nlabels == z.nlabels && q.qtype == dns.TypeSOA:
		return zoneSOA
	case q.nlabels == z.nlabels && q.qtype == dns.TypeNS:
		a := newAnswer()
		a.ttl = s.ttl
		a.add(dns.TypeNS, []byte("\x02ns"), s.zones[0].wire)
		return a
	case q.nlabels == z.nlabels && z.nlabels != hostLabels(net):
		return noData
	case !ok || !r.any(net):
		return nxDomain
	case !net.IsSingleIP():
		return noData
	}
	i, _ := slices.BinarySearchFunc(r.addrs, net.Addr(), netip.Addr.Compare)
	a := newAnswer()
	a.ttl = s.ttl
	if !r.live {
		a.ttl, a.ede = min(s.ttl, s.staleTTL), int(dns.ExtendedErrorCodeStaleAnswer)
	}
	switch q.qtype {
	case dns.TypeANY:
		a.addMinimal()
	case dns.TypePTR:
		a.add(dns.TypePTR, appendAddrName(nil, net.Addr(), s.zones[0].wire))
		for _, app := range r.apps[i][:min(len(r.apps[i]), maxPTR-1)] {
			if name, err := joinName(app, appWord, s.cfg.Domain); err == nil {
				a.add(dns.TypePTR, name)
			}
		}
	}
	return a
}

func hostLabels(net netip.Prefix) int {
	if net.Addr().Is4() {
		return 6
	}
	return 34
}

// reverseZone returns the zone for the addresses of net.
func reverseZone(net netip.Prefix) *zone {
	raw := net.Addr().AsSlice()
	var labels []string
	suffix := "ip6.arpa."
	if net.Addr().Is4() {
		suffix = "in-addr.arpa."
		for _, b := range raw[:net.Bits()/8] {
			labels = append(labels, strconv.Itoa(int(b)))
		}
	} else {
		for i := range net.Bits() / 4 {
			labels = append(labels, strconv.FormatUint(uint64(raw[i/2]>>(4*(1-i%2))&15), 16))
		}
	}
	name := suffix
	for _, l := range labels {
		name = l + "." + name
	}
	wire, err := packName(name)
	if err != nil {
		panic("nameserver: reverse zone " + name + ": " + err.Error()) // digits and dots
	}
	z := newZone(wire)
	z.net = net
	return z
}

var inAddrArpa, ip6Arpa = newZone([]byte("\x07in-addr\x04arpa\x00")), newZone([]byte("\x03ip6\x04arpa\x00"))

// parseReverse reads the network that a reverse name stands for: a single
// address if all labels are there, a network for its ancestors.
func parseReverse(q *query) (netip.Prefix, bool) {
	var raw [16]byte
	label := func(i int) []byte {
		off := int(q.labels[i])
		return q.key[off+1 : off+1+int(q.key[off])]
	}
	switch {
	case inAddrArpa.contains(q) && q.nlabels <= 6:
		n := q.nlabels - 2
		for i := range n {
			l := label(n - 1 - i)
			v, err := strconv.ParseUint(string(l), 10, 8)
			if err != nil || len(l) > 1 && l[0] == '0' {
				return netip.Prefix{}, false
			}
			raw[i] = byte(v)
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(raw[:4])), 8*n), true
	case ip6Arpa.contains(q) && q.nlabels <= 34:
		n := q.nlabels - 2
		for i := range n {
			l := label(n - 1 - i)
			if len(l) != 1 || unhex(l[0]) < 0 {
				return netip.Prefix{}, false
			}
			raw[i/2] |= byte(unhex(l[0])) << (4 * (1 - i%2))
		}
		addr := netip.AddrFrom16(raw)
		if addr.Is4In6() {
			return netip.Prefix{}, false
		}
		return netip.PrefixFrom(addr, 4*n), true
	}
	return netip.Prefix{}, false
}

// looseReverse returns a zone of its own for the address of an instance whose
// network is not in Config.Reverse, or nil.
func (s *Server) looseReverse(q *query) *zone {
	net, ok := parseReverse(q)
	if !ok || !net.IsSingleIP() {
		return nil
	}
	if r := s.reverses.at(s, s.dir.Generation()); r == nil || !r.any(net) {
		return nil
	}
	return reverseZone(net)
}
