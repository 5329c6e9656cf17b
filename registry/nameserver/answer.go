package nameserver

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"weak"

	"github.com/miekg/dns"

	"github.com/paddockio/paddock/registry"
)

// An answer is what is known about one name and type: a response code, or one
// record set whose owner is the name in the question. It is in wire format
// and does not depend on the letter case of the question, on the size of the
// message or on the order of the records, which is chosen for each reply.
type answer struct {
	gen atomic.Uint64 // the directory's generation that it holds for

	rcode int
	ede   int // extended error, or noEDE
	ttl   uint32

	recs []byte
	ends []int // where each record ends in recs

	order  order
	weight []uint32     // per record; nil if all are equal
	glue   []netip.Addr // per SRV record: the address of its target, or invalid

	// The view behind the answer, to find out whether a new generation changed
	// it. Weak, so that names nobody asks for any more do not keep old views.
	service string
	first   weak.Pointer[*registry.Instance]
	n       int
	asOf    time.Time
	live    bool
}

// order says what becomes of the records in a reply.
type order int

const (
	fixed    order = iota
	shuffled       // all, in random order, the heavier ones more often in front
	pickOne        // one of them, the heavier ones more often
)

func newAnswer() *answer {
	return &answer{ede: noEDE, live: true}
}

func failure(rcode, ede int) *answer {
	return &answer{rcode: rcode, ede: ede, live: true}
}

// Answers without a view. They are never changed.
var (
	noData    = failure(dns.RcodeSuccess, noEDE)
	nxDomain  = failure(dns.RcodeNameError, noEDE)
	refused   = failure(dns.RcodeRefused, noEDE)
	notReady  = failure(dns.RcodeServerFailure, int(dns.ExtendedErrorCodeNotReady))
	tooStale  = failure(dns.RcodeServerFailure, int(dns.ExtendedErrorCodeNoReachableAuthority))
	unsettled = failure(dns.RcodeServerFailure, int(dns.ExtendedErrorCodeNotReady))
	zoneSOA   = failure(dns.RcodeSuccess, noEDE) // the SOA itself is written into each reply
)

// add appends one record set member whose rdata is the concatenation of parts.
func (a *answer) add(typ uint16, parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	a.recs = appendHead(a.recs, toQuestion, typ, a.ttl, n)
	for _, p := range parts {
		a.recs = append(a.recs, p...)
	}
	a.ends = append(a.ends, len(a.recs))
}

func (a *answer) addAddr(addr netip.Addr) {
	a.recs = appendAddr(a.recs, toQuestion, a.ttl, addr)
	a.ends = append(a.ends, len(a.recs))
}

// record returns the i-th record.
func (a *answer) record(i int) []byte {
	start := 0
	if i > 0 {
		start = a.ends[i-1]
	}
	return a.recs[start:a.ends[i]]
}

// A filter is what the underscore labels in front of a name ask for.
type filter struct {
	underTCP                bool // the name begins with _tcp or _{protocol}._tcp
	proto, version, group   []byte
	hasProto, hasVer, hasGr bool
}

func (f *filter) match(in *registry.Instance) bool {
	return (!f.underTCP || in.Protocol != "") &&
		(!f.hasProto || matchFold(f.proto, in.Protocol)) &&
		(!f.hasVer || matchOption(f.version, in.Version)) &&
		(!f.hasGr || matchOption(f.group, in.Group))
}

// parseFilter reads the labels in front of a name: _tcp or _{protocol}._tcp,
// then a version and a group in any order. Each counts once: else there would be
// endlessly many names.
func parseFilter(labels []byte) (f filter, ok bool) {
	next := func() []byte {
		l := labels[1 : 1+labels[0]]
		labels = labels[1+labels[0]:]
		return l
	}
	for first := true; len(labels) > 0; first = false {
		switch l := next(); {
		case first && bytes.HasPrefix(labels, []byte("\x04_tcp")) && len(l) > 1 && l[0] == '_':
			f.underTCP, f.hasProto, f.proto = true, true, l[1:]
			next()
		case first && string(l) == "_tcp":
			f.underTCP = true
		case !f.hasVer && bytes.HasPrefix(l, []byte(versionPrefix)):
			f.hasVer, f.version = true, l[len(versionPrefix):]
		case !f.hasGr && bytes.HasPrefix(l, []byte(groupPrefix)):
			f.hasGr, f.group = true, l[len(groupPrefix):]
		default:
			return f, false
		}
	}
	return f, true
}

// maxFilter is how many labels a filter can have.
const maxFilter = 4

// resolve finds what stands behind labels, those in front of the word: a name
// of the index, or one with a filter in front. The longest name wins, so one
// that looks like a filter is still reached.
func (x *index) resolve(labels []byte) (name string, f filter, kind found) {
	if name, kind = x.find(labels); kind != missing {
		return name, f, kind
	}
	if labels[1] != '_' {
		return "", f, missing
	}
	rest := labels
	for range maxFilter {
		if rest = rest[1+rest[0]:]; len(rest) == 0 {
			break
		}
		if name, kind = x.find(rest); kind != exact {
			continue
		}
		if f, ok := parseFilter(labels[:len(labels)-len(rest)]); ok {
			return name, f, exact
		}
	}
	return "", filter{}, missing
}

// fromView builds the answer for the instances of v that pass f.
func (s *Server) fromView(v registry.View, f *filter, z *zone, qtype uint16) *answer {
	a := newAnswer()
	a.service, a.first, a.n, a.asOf, a.live = v.Service, firstInstance(v), len(v.Instances), v.AsOf, v.Live
	a.ttl = s.ttl
	if !v.Live {
		a.ttl, a.ede = min(s.ttl, s.staleTTL), int(dns.ExtendedErrorCodeStaleAnswer)
	}
	matching := 0
	usable := make([]*registry.Instance, 0, len(v.Instances))
	for _, in := range v.Instances {
		if !f.match(in) {
			continue
		}
		matching++
		if in.Enabled && in.Weight > 0 {
			usable = append(usable, in)
		}
	}
	options := f.underTCP || f.hasVer || f.hasGr
	switch {
	case matching == 0 && options:
		a.rcode = dns.RcodeNameError // a name of ours, but for no instance
	case qtype == dns.TypeANY && (!f.underTCP || f.hasProto):
		a.addMinimal()
	case qtype == dns.TypeSRV && (!f.underTCP || f.hasProto):
		a.addSRV(usable, z)
	case f.underTCP:
	case qtype == dns.TypeA || qtype == dns.TypeAAAA || qtype == dns.TypeCNAME:
		a.addHosts(usable, qtype)
	case qtype == dns.TypeTXT:
		a.addSummary(v, usable)
	}
	return a
}

// addMinimal answers ANY with as little as RFC 8482 wants.
func (a *answer) addMinimal() {
	a.add(dns.TypeHINFO, []byte("\x07RFC8482\x00"))
}

// addHosts adds the addresses of the instances, each once. Instances that
// registered a host name count only if no instance has an address: then the
// name becomes an alias of one of them, a new choice for each reply, since a
// name can have one canonical name only (RFC 2181 section 10.1).
func (a *answer) addHosts(list []*registry.Instance, qtype uint16) {
	type target struct {
		addr netip.Addr
		name string
	}
	at := make(map[target]int, len(list))
	var targets []target
	var weights []uint32
	anyAddr := false
	for _, in := range list {
		t := target{addr: instanceAddr(in)}
		if t.addr.IsValid() {
			anyAddr = true
		} else if t.name = hostName(in.Host); t.name == "" {
			continue
		}
		if i, ok := at[t]; ok {
			weights[i] = max(weights[i], clampWeight(in.Weight))
			continue
		}
		at[t] = len(targets)
		targets = append(targets, t)
		weights = append(weights, clampWeight(in.Weight))
	}
	a.order = shuffled
	if !anyAddr {
		a.order = pickOne
	}
	for i, t := range targets {
		switch {
		case t.addr.IsValid() && addrType(t.addr) == qtype:
			a.addAddr(t.addr)
		case !anyAddr:
			a.add(dns.TypeCNAME, []byte(t.name))
		default:
			continue
		}
		a.weight = append(a.weight, weights[i])
	}
	if len(slices.Compact(slices.Clone(a.weight))) < 2 {
		a.weight = nil
	}
}

// addSRV adds one record per host and port. All have priority 0; the weight is
// the instance's own, the largest if several services share the port.
func (a *answer) addSRV(list []*registry.Instance, z *zone) {
	type target struct {
		addr netip.Addr
		name string
		port int
	}
	at := make(map[target]int, len(list))
	var targets []target
	var weights []uint32
	for _, in := range list {
		if in.Port < 1 || in.Port > 65535 {
			continue
		}
		t := target{addr: instanceAddr(in), port: in.Port}
		if !t.addr.IsValid() {
			if t.name = hostName(in.Host); t.name == "" {
				continue
			}
		}
		if i, ok := at[t]; ok {
			weights[i] = max(weights[i], clampWeight(in.Weight))
			continue
		}
		at[t] = len(targets)
		targets = append(targets, t)
		weights = append(weights, clampWeight(in.Weight))
	}
	a.order = shuffled
	glued := make(map[netip.Addr]bool, len(targets))
	var buf [maxName]byte
	for i, t := range targets {
		name := []byte(t.name)
		glue := netip.Addr{}
		if t.addr.IsValid() {
			name = appendAddrName(buf[:0], t.addr, z.wire)
			if !glued[t.addr] {
				glued[t.addr], glue = true, t.addr
			}
		}
		var fixedPart [6]byte
		binary.BigEndian.PutUint16(fixedPart[2:], uint16(weights[i]))
		binary.BigEndian.PutUint16(fixedPart[4:], uint16(t.port))
		a.add(dns.TypeSRV, fixedPart[:], name) // RFC 2782: no compression
		a.glue = append(a.glue, glue)
	}
}

// srvTarget is where the target begins in an SRV record of ours.
const srvTarget = 2 + 10 + 6

// addSummary adds the one TXT record of a service: which service the name
// stands for, how many instances answer, and whether that is current.
func (a *answer) addSummary(v registry.View, list []*registry.Instance) {
	protocols, versions, groups := set{}, set{}, set{}
	for _, in := range list {
		protocols.add(in.Protocol)
		versions.add(in.Version)
		groups.add(in.Group)
	}
	var b []byte
	text := func(key, value string) {
		if value != "" {
			t := key + "=" + value
			t = t[:min(len(t), 255)]
			b = append(append(b, byte(len(t))), t...)
		}
	}
	text("name", v.Service)
	text("instances", strconv.Itoa(len(list)))
	text("protocol", protocols.String())
	text("version", versions.String())
	text("group", groups.String())
	if !v.Live {
		text("stale-since", v.AsOf.UTC().Format(time.RFC3339))
	}
	a.add(dns.TypeTXT, b)
}

// A set keeps words in the order in which they came.
type set struct{ words []string }

func (s *set) add(w string) {
	if w == "" {
		return
	}
	for _, have := range s.words {
		if have == w {
			return
		}
	}
	s.words = append(s.words, w)
}

// String joins the words; those that would not fit in one string of a TXT
// record are counted.
func (s *set) String() string {
	var b strings.Builder
	for i, w := range s.words {
		if b.Len()+len(w) > 200 {
			return b.String() + ",+" + strconv.Itoa(len(s.words)-i)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(w)
	}
	return b.String()
}

// instanceAddr returns the address that clients can use, or an invalid one for
// a host name and for addresses that mean nothing elsewhere.
func instanceAddr(in *registry.Instance) netip.Addr {
	addr, err := netip.ParseAddr(in.Host)
	if err != nil || addr.Zone() != "" || addr.IsUnspecified() {
		return netip.Addr{}
	}
	return addr.Unmap()
}

// hostName returns the wire format of a host name, "" if it is none.
func hostName(host string) string {
	host = strings.TrimSuffix(host, ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	var buf [maxName]byte
	b, err := appendName(buf[:0], host)
	if err != nil || len(b)+1 > maxName {
		return ""
	}
	return string(append(b, 0))
}

func clampWeight(w int) uint32 { return uint32(min(max(w, 1), 65535)) }
