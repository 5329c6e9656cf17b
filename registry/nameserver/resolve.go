package nameserver

import (
	"bytes"
	"net/netip"
	"slices"
	"weak"

	"github.com/miekg/dns"

	"github.com/paddockio/paddock/registry"
)

// A zone is a domain that the server is authoritative for.
type zone struct {
	wire    []byte // lower case, with the root
	nlabels int
	net     netip.Prefix // of a reverse zone
}

func newZone(wire []byte) *zone {
	z := &zone{wire: wire}
	for off := 0; wire[off] != 0; off += 1 + int(wire[off]) {
		z.nlabels++
	}
	return z
}

// contains tells whether the name in q lies in the zone.
func (z *zone) contains(q *query) bool {
	if q.nlabels < z.nlabels {
		return false
	}
	return bytes.Equal(q.name()[z.offset(q):], z.wire)
}

// offset returns where the zone's name begins in a name that it contains.
func (z *zone) offset(q *query) int {
	if q.nlabels == z.nlabels {
		return 0
	}
	return int(q.labels[q.nlabels-z.nlabels])
}

// zoneOf returns the zone for the name in q: the innermost one.
func (s *Server) zoneOf(q *query) *zone {
	var best *zone
	for _, z := range s.zones {
		if z.contains(q) && (best == nil || z.nlabels > best.nlabels) {
			best = z
		}
	}
	return best
}

// maxTries bounds how often an answer is built anew because the directory
// changed meanwhile. One attempt takes microseconds.
const maxTries = 8

// answerFor returns the answer to q, which lies in zone z. Every part of an
// answer comes from one generation: what was read while the generation changed is
// thrown away. If the directory does not hold still, an older answer serves; if
// there is none, to fail is better than to mix.
func (s *Server) answerFor(q *query, z *zone) *answer {
	key := q.key[:q.nameLen+2]
	old := s.cache.get(key)
	for range maxTries {
		gen := s.dir.Generation()
		if old != nil && old.gen.Load() == gen {
			return old
		}
		s.services.sync(gen, s.dir.Services)
		s.apps.sync(gen, s.dir.Apps)
		a, keep := s.build(q, z, gen, old)
		if s.dir.Generation() != gen {
			continue
		}
		if keep {
			a.gen.Store(gen)
			if a != old {
				s.cache.put(key, a)
			}
		}
		return a
	}
	if old != nil {
		return old
	}
	return unsettled
}

// build makes the answer for a name in zone z. It says whether the answer may
// be kept: only answers about services and applications that exist are, so that
// guessed names cannot fill the cache. old, which may be nil, is returned if it
// is still true.
func (s *Server) build(q *query, z *zone, gen uint64, old *answer) (a *answer, keep bool) {
	if z.net.IsValid() {
		return s.reverse(q, z, gen), false
	}
	rel := q.nlabels - z.nlabels
	if rel == 0 {
		return s.apex(q.qtype), false
	}
	wordAt := int(q.labels[rel-1])
	word := q.key[wordAt+1 : wordAt+1+int(q.key[wordAt])]
	labels := q.key[:wordAt]
	switch string(word) {
	case serviceWord:
		return s.named(s.services, s.dir.Lookup, labels, z, q.qtype, old)
	case appWord:
		return s.named(s.apps, s.dir.LookupApp, labels, z, q.qtype, old)
	case addrWord:
		return s.address(labels, q.qtype), false
	case nsWord:
		if rel == 1 {
			return s.self(q.qtype), false
		}
	}
	return nxDomain, false
}

func (s *Server) named(x *index, lookup func(string) (registry.View, bool), labels []byte, z *zone, qtype uint16, old *answer) (*answer, bool) {
	if len(labels) == 0 {
		return noData, false
	}
	name, f, kind := x.resolve(labels)
	switch kind {
	case missing:
		if s.cfg.Ready != nil && !s.cfg.Ready() {
			return notReady, false
		}
		return nxDomain, false
	case ancestor:
		return noData, false
	}
	v, ok := lookup(name)
	if !ok {
		return nxDomain, false // it has just gone: the generation tells
	}
	v.Service = name
	if old != nil && old.sameView(v) {
		return old, true
	}
	s.count.built.Add(1)
	a := s.fromView(v, &f, z, qtype)
	if a.rcode == dns.RcodeNameError {
		return nxDomain, false
	}
	return a, isCommon(qtype)
}

// isCommon tells whether a type is asked for by ordinary clients. Only answers
// about those are kept, as there are 65536 types to ask one name for.
func isCommon(qtype uint16) bool {
	switch qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypeCNAME, dns.TypeANY, dns.TypeHTTPS:
		return true
	}
	return false
}

// sameView tells whether a was made from the same instances. Views are
// immutable, so the same slice has the same content.
func (a *answer) sameView(v registry.View) bool {
	return a.service == v.Service && a.live == v.Live &&
		a.n == len(v.Instances) && a.first == firstInstance(v) && (v.Live || a.asOf.Equal(v.AsOf))
}

// firstInstance identifies, with their number, the instances of v.
func firstInstance(v registry.View) weak.Pointer[*registry.Instance] {
	if len(v.Instances) == 0 {
		return weak.Pointer[*registry.Instance]{}
	}
	return weak.Make(&v.Instances[0])
}

// apex answers for the domain itself.
func (s *Server) apex(qtype uint16) *answer {
	a := newAnswer()
	a.ttl = s.ttl
	switch qtype {
	case dns.TypeSOA:
		return zoneSOA
	case dns.TypeNS:
		a.add(dns.TypeNS, []byte{2, 'n', 's', toQuestion >> 8, toQuestion & 0xff})
	case dns.TypeANY:
		a.addMinimal()
	default:
		return noData
	}
	return a
}

// self answers for ns.<domain>.
func (s *Server) self(qtype uint16) *answer {
	a := newAnswer()
	a.ttl = s.ttl
	switch qtype {
	case dns.TypeANY:
		a.addMinimal()
		return a
	case dns.TypeA, dns.TypeAAAA:
		for _, addr := range s.advertise() {
			if addrType(addr) == qtype {
				a.addAddr(addr)
			}
		}
	}
	return a
}

// address answers for {hex}.addr: whatever address the digits say. It takes no
// state, so the target of an SRV record resolves even after its instance has
// gone.
func (s *Server) address(labels []byte, qtype uint16) *answer {
	if len(labels) == 0 {
		return noData
	}
	addr, ok := parseAddrLabel(labels[1:])
	if !ok || len(labels) != 1+int(labels[0]) {
		return nxDomain
	}
	a := newAnswer()
	a.ttl = s.ttl
	switch qtype {
	case addrType(addr):
		a.addAddr(addr)
	case dns.TypeANY:
		a.addMinimal()
	}
	return a
}

// parseAddrLabel reads 8 or 32 hexadecimal digits.
func parseAddrLabel(digits []byte) (netip.Addr, bool) {
	var raw [16]byte
	if len(digits) != 8 && len(digits) != 32 {
		return netip.Addr{}, false
	}
	for i, c := range digits {
		v := unhex(c)
		if v < 0 {
			return netip.Addr{}, false
		}
		raw[i/2] = raw[i/2]<<4 | byte(v)
	}
	return netip.AddrFromSlice(raw[:len(digits)/2])
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

func (s *Server) advertise() []netip.Addr {
	if len(s.cfg.Advertise) > 0 {
		return s.cfg.Advertise
	}
	if ap := s.Addr(); ap.IsValid() && !ap.Addr().IsUnspecified() {
		return slices.Clip([]netip.Addr{ap.Addr().Unmap().WithZone("")})
	}
	return nil
}
