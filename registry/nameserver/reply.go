package nameserver

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// A worker answers one query at a time. What it needs for that it keeps.
type worker struct {
	s   *Server
	rng *rand.Rand

	q    query
	perm []int
	at   []int // where each record of the reply stands, by place in perm
}

func (s *Server) newWorker() *worker {
	return &worker{s: s, rng: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}
}

// A transport is how a message came, which says how long the reply may be.
type transport int

const (
	overUDP     transport = iota
	overUDPSlip           // the client is over its rate: send it to TCP
	overTCP
)

// maxTCP is what the length before a message can say.
const maxTCP = 65535

// reply appends to b the reply to msg. It appends nothing for what must not be
// replied to: less than a header, and replies, since two servers could keep each
// other busy.
func (w *worker) reply(b, msg []byte, client netip.AddrPort, tr transport) []byte {
	s, q, be := w.s, &w.q, binary.BigEndian
	if tr == overTCP {
		s.count.tcp.Add(1)
	} else {
		s.count.udp.Add(1)
	}
	if len(msg) < headerLen {
		s.count.ignored.Add(1)
		return b
	}
	q.id, q.flags = be.Uint16(msg), be.Uint16(msg[2:])
	if q.flags&flagQR != 0 {
		s.count.ignored.Add(1)
		return b
	}
	if q.opcode() != dns.OpcodeQuery {
		// The sections of other messages mean other things.
		s.count.count(0, dns.RcodeNotImplemented)
		q.qend = 0
		return w.bare(b, msg, dns.RcodeNotImplemented)
	}
	if !q.parse(msg) {
		s.count.count(0, dns.RcodeFormatError)
		q.edns = false
		return w.bare(b, msg, dns.RcodeFormatError)
	}
	if q.version != 0 {
		s.count.count(q.qtype, dns.RcodeBadVers)
		return w.bare(b, msg, dns.RcodeBadVers)
	}
	z := s.zoneOf(q)
	if z == nil && q.qclass == dns.ClassINET {
		z = s.looseReverse(q)
	}
	a := refused
	if z != nil && q.qclass == dns.ClassINET && !isMeta(q.qtype) {
		a = s.answerFor(q, z)
		if !a.live {
			s.count.stale.Add(1)
			if s.cfg.MaxStale > 0 && time.Since(a.asOf) > s.cfg.MaxStale {
				a = tooStale
			}
		}
	}
	start := len(b)
	b = w.write(b, msg, z, a, tr)
	w.account(b[start:], a, client)
	return b
}

// isMeta tells whether a type can only be asked for, not be held: transfers,
// signatures and the like. ANY is answered.
func isMeta(qtype uint16) bool {
	return qtype == 0 || qtype == dns.TypeOPT || qtype >= dns.TypeTKEY && qtype < dns.TypeANY
}

// bare appends a reply without records but OPT.
func (w *worker) bare(b, msg []byte, rcode int) []byte {
	start := len(b)
	b = w.head(b, msg, 0, rcode)
	if w.q.edns {
		b = appendOPT(b, &w.q, w.s.cfg.UDPSize, rcode, noEDE)
		binary.BigEndian.PutUint16(b[start+10:], 1)
	}
	return b
}

// head appends the header, without counts of records, and the question as it
// was spelled: resolvers compare the letter case (0x20).
func (w *worker) head(b, msg []byte, flags uint16, rcode int) []byte {
	be := binary.BigEndian
	q := &w.q
	flags |= flagQR | q.flags&(0xf<<opcodeShift|flagRD|flagCD) | uint16(rcode&0xf)
	b = be.AppendUint16(b, q.id)
	b = be.AppendUint16(b, flags)
	b = append(b, 0, byte(b2i(q.qend > 0)), 0, 0, 0, 0, 0, 0)
	if q.qend > 0 {
		b = append(b, msg[headerLen:q.qend]...)
	}
	return b
}

// write appends the reply with answer a.
func (w *worker) write(b, msg []byte, z *zone, a *answer, tr transport) []byte {
	s, q, be := w.s, &w.q, binary.BigEndian
	start := len(b)
	limit := start + maxTCP
	if tr != overTCP {
		limit = start + min(q.clientSz, s.cfg.UDPSize)
	}
	if q.edns {
		limit -= optLen
		if a.ede != noEDE {
			limit -= edeLen
		}
	}
	var flags uint16
	if a.rcode == dns.RcodeSuccess || a.rcode == dns.RcodeNameError {
		flags = flagAA
	}
	b = w.head(b, msg, flags, a.rcode)
	var answers, authority, additional int
	switch {
	case tr == overUDPSlip:
		b[start+2] |= flagTC >> 8
	case a == zoneSOA:
		b = s.appendZoneSOA(b, q, z)
		answers = 1
	case len(a.ends) > 0:
		w.arrange(a)
		if len(b)+w.total(a) > limit {
			b[start+2] |= flagTC >> 8
			// Over TCP nobody can come again for more.
			if !s.cfg.KeepPartial && tr != overTCP {
				break
			}
		}
		w.at = w.at[:0]
		for _, i := range w.perm {
			r := a.record(i)
			if len(b)+len(r) > limit {
				break
			}
			w.at = append(w.at, len(b)-start)
			b = append(b, r...)
		}
		answers = len(w.at)
		switch {
		case a.glue != nil:
			b, additional = w.appendGlue(b, limit, a)
		case q.qtype == dns.TypeNS && answers > 0: // the apex: one record
			b, additional = s.appendGlueNS(b, w.at[0]+2+10, limit, a.ttl)
		}
	case flags&flagAA != 0:
		b = s.appendZoneSOA(b, q, z)
		authority = 1
	}
	if q.edns {
		b = appendOPT(b, q, s.cfg.UDPSize, a.rcode, a.ede)
		additional++
	}
	be.PutUint16(b[start+6:], uint16(answers))
	be.PutUint16(b[start+8:], uint16(authority))
	be.PutUint16(b[start+10:], uint16(additional))
	return b
}

// total is how much room the records in w.perm take.
func (w *worker) total(a *answer) int {
	if len(w.perm) == len(a.ends) {
		return len(a.recs)
	}
	n := 0
	for _, i := range w.perm {
		n += len(a.record(i))
	}
	return n
}

// weightedPlaces is how many places are drawn by weight. Clients use the first
// few; the cost is this number times the number of records.
const weightedPlaces = 16

// arrange sets w.perm to the records to send, in their order.
func (w *worker) arrange(a *answer) {
	n := len(a.ends)
	w.perm = w.perm[:0]
	for i := range n {
		w.perm = append(w.perm, i)
	}
	if a.order == fixed {
		return
	}
	rest := w.perm
	if a.weight != nil {
		var sum uint64
		for _, wt := range a.weight {
			sum += uint64(wt)
		}
		for range min(n, weightedPlaces) {
			r, j := w.rng.Uint64N(sum), 0
			for ; r >= uint64(a.weight[rest[j]]); j++ {
				r -= uint64(a.weight[rest[j]])
			}
			sum -= uint64(a.weight[rest[j]])
			rest[0], rest[j] = rest[j], rest[0]
			rest = rest[1:]
		}
	}
	for i := len(rest) - 1; i > 0; i-- {
		j := int(w.rng.Uint32N(uint32(i + 1)))
		rest[i], rest[j] = rest[j], rest[i]
	}
	if a.order == pickOne {
		w.perm = w.perm[:1]
	}
}

// appendGlue appends the addresses of the SRV targets as long as there is room:
// they are a courtesy, so leaving some out is no truncation (RFC 2181 section 9).
func (w *worker) appendGlue(b []byte, limit int, a *answer) ([]byte, int) {
	const maxPointer = 0x3fff
	n := 0
	for place, target := range w.at {
		addr := a.glue[w.perm[place]]
		// The name of the target stands in the record just written.
		target += srvTarget
		if !addr.IsValid() || target > maxPointer {
			continue
		}
		size := 2 + 10 + addr.BitLen()/8
		if len(b)+size > limit {
			continue
		}
		b = appendAddr(b, 0xc000|uint16(target), a.ttl, addr)
		n++
	}
	return b, n
}

// appendGlueNS appends the addresses of the server, whose name stands in the
// reply at target.
func (s *Server) appendGlueNS(b []byte, target, limit int, ttl uint32) ([]byte, int) {
	n := 0
	for _, addr := range s.advertise() {
		if len(b)+2+10+addr.BitLen()/8 > limit {
			break
		}
		b = appendAddr(b, 0xc000|uint16(target), ttl, addr)
		n++
	}
	return b, n
}

// appendZoneSOA appends the SOA of zone z, in which the question lies.
func (s *Server) appendZoneSOA(b []byte, q *query, z *zone) []byte {
	owner := uint16(toQuestion + z.offset(q))
	domain := []byte{byte(owner >> 8), byte(owner)}
	if z.net.IsValid() {
		domain = s.zones[0].wire
	}
	return appendSOA(b, owner, domain, uint32(s.dir.Generation()), s.negativeTTL)
}

// account counts the reply and logs it if queries are logged.
func (w *worker) account(reply []byte, a *answer, client netip.AddrPort) {
	s, q := w.s, &w.q
	rcode := a.rcode
	if rcode == dns.RcodeSuccess && len(a.ends) == 0 && a != zoneSOA {
		rcode = rcodeNoData
	}
	s.count.count(q.qtype, rcode)
	if reply[2]&(flagTC>>8) != 0 {
		s.count.truncated.Add(1)
	}
	if s.log.Enabled(context.Background(), slog.LevelDebug) {
		// Escaped, since the octets come from the network.
		s.log.Debug("query", "name", presentation(q.name()), "type", dns.Type(q.qtype).String(),
			"rcode", rcodeName(rcode), "client", client, "bytes", len(reply))
	}
}
