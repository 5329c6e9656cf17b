package nameserver

import (
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"
)

// A query is what the server reads of a message, and room to work in. Each
// worker has one and uses it again and again.
type query struct {
	id     uint16
	flags  uint16
	qtype  uint16
	qclass uint16
	qend   int // end of the question in the message; 0 if there is none

	nameLen int               // wire length with the root
	labels  [128]uint8        // where the labels begin
	nlabels int               // without the root
	key     [maxName + 2]byte // the name in lower case, then the type

	edns     bool
	do       bool
	version  uint8
	clientSz int
}

const (
	headerLen   = 12
	flagQR      = 1 << 15
	flagAA      = 1 << 10
	flagTC      = 1 << 9
	flagRD      = 1 << 8
	flagCD      = 1 << 4
	opcodeShift = 11
	optLen      = 11 // an OPT record without options
	edeLen      = 6  // an extended error without text (RFC 8914)
)

func (q *query) opcode() int  { return int(q.flags>>opcodeShift) & 0xf }
func (q *query) name() []byte { return q.key[:q.nameLen] }

// parse reads msg, which has a whole header. It returns false for what RFC
// 1035 does not allow in a query: no or several questions, records before the
// additional section, records that are cut, two OPT records, bytes behind the
// end. The question is valid then if q.qend is not 0.
func (q *query) parse(msg []byte) bool {
	be := binary.BigEndian
	q.qend, q.edns, q.do, q.version, q.clientSz = 0, false, false, 0, dns.MinMsgSize
	if be.Uint16(msg[4:]) != 1 {
		return false
	}
	off := q.parseQuestion(msg)
	if off == 0 {
		return false
	}
	q.qend = off
	if be.Uint32(msg[6:]) != 0 { // answer and authority
		return false
	}
	for range be.Uint16(msg[10:]) {
		root := off < len(msg) && msg[off] == 0
		if off = skipName(msg, off); off == 0 || len(msg)-off < 10 {
			return false
		}
		rr := msg[off:]
		off += 10 + int(be.Uint16(rr[8:]))
		if off > len(msg) {
			return false
		}
		if be.Uint16(rr) != dns.TypeOPT {
			continue // TSIG, SIG(0): this server knows no keys
		}
		if q.edns || !root || !validOptions(msg[off-int(be.Uint16(rr[8:])):off]) {
			return false
		}
		q.edns = true
		q.clientSz = max(q.clientSz, int(be.Uint16(rr[2:])))
		q.version = rr[5]
		q.do = rr[6]&0x80 != 0
	}
	return off == len(msg)
}

// parseQuestion fills name, type and class and returns where they end, or 0.
func (q *query) parseQuestion(msg []byte) int {
	off := headerLen
	q.nlabels = 0
	for {
		if off >= len(msg) {
			return 0
		}
		n := int(msg[off])
		if n == 0 {
			break
		}
		// A pointer would have to point into the header.
		if n > maxLabel || off-headerLen+n+2 > maxName {
			return 0
		}
		q.labels[q.nlabels] = uint8(off - headerLen)
		q.nlabels++
		off += n + 1
	}
	off++
	if len(msg)-off < 4 {
		return 0
	}
	q.nameLen = off - headerLen
	for i, c := range msg[headerLen:off] { // lengths are below 'A'
		q.key[i] = lower(c)
	}
	q.qtype = binary.BigEndian.Uint16(msg[off:])
	q.qclass = binary.BigEndian.Uint16(msg[off+2:])
	q.key[q.nameLen], q.key[q.nameLen+1] = msg[off], msg[off+1]
	return off + 4
}

// skipName returns the offset behind the name at off, or 0. A name of a record
// may end in a pointer, which nobody follows here.
func skipName(msg []byte, off int) int {
	for off < len(msg) {
		switch n := int(msg[off]); {
		case n == 0:
			return off + 1
		case n >= 0xc0:
			return off + 2
		case n > maxLabel:
			return 0
		default:
			off += n + 1
		}
	}
	return 0
}

// validOptions tells whether b is a sequence of whole options (RFC 6891).
func validOptions(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 4 {
			return false
		}
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return false
		}
		b = b[n:]
	}
	return true
}

// toQuestion is a compressed name: a pointer to the name in the question.
const toQuestion = 0xc000 | headerLen

// appendHead appends a record's fixed part with an owner at pointer.
func appendHead(b []byte, pointer, typ uint16, ttl uint32, rdlen int) []byte {
	be := binary.BigEndian
	b = be.AppendUint16(b, pointer)
	b = be.AppendUint16(b, typ)
	b = be.AppendUint16(b, dns.ClassINET)
	b = be.AppendUint32(b, ttl)
	return be.AppendUint16(b, uint16(rdlen))
}

// appendAddr appends an A or AAAA record.
func appendAddr(b []byte, owner uint16, ttl uint32, addr netip.Addr) []byte {
	if addr.Is4() {
		a := addr.As4()
		return append(appendHead(b, owner, dns.TypeA, ttl, 4), a[:]...)
	}
	a := addr.As16()
	return append(appendHead(b, owner, dns.TypeAAAA, ttl, 16), a[:]...)
}

func addrType(addr netip.Addr) uint16 {
	if addr.Is4() {
		return dns.TypeA
	}
	return dns.TypeAAAA
}

// appendAddrName appends {hex}.addr and a pointer to, or the name of, a domain.
func appendAddrName(b []byte, addr netip.Addr, domain []byte) []byte {
	const hex = "0123456789abcdef"
	raw := addr.AsSlice()
	b = append(b, byte(2*len(raw)))
	for _, c := range raw {
		b = append(b, hex[c>>4], hex[c&15])
	}
	return append(appendLabel(b, addrWord), domain...)
}

// The timers of the SOA. Nobody transfers the zone, so they only have to look
// sane.
const (
	soaRefresh = 3600
	soaRetry   = 600
	soaExpire  = 86400
)

// appendSOA appends the SOA of a zone: owner is a pointer into the question,
// domain the name or pointer that ns and hostmaster stand in front of.
func appendSOA(b []byte, owner uint16, domain []byte, serial, ttl uint32) []byte {
	const mname, rname = "\x02ns", "\x0ahostmaster"
	b = appendHead(b, owner, dns.TypeSOA, ttl, len(mname)+len(rname)+2*len(domain)+20)
	b = append(append(b, mname...), domain...)
	b = append(append(b, rname...), domain...)
	for _, v := range [...]uint32{serial, soaRefresh, soaRetry, soaExpire, ttl} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// appendOPT appends the server's OPT record, with an extended error if ede is
// not noEDE.
func appendOPT(b []byte, q *query, udpSize int, rcode, ede int) []byte {
	be := binary.BigEndian
	b = append(b, 0)
	b = be.AppendUint16(b, dns.TypeOPT)
	b = be.AppendUint16(b, uint16(udpSize))
	b = append(b, byte(rcode>>4), 0, byte(b2i(q.do)<<7), 0) // version 0
	if ede == noEDE {
		return append(b, 0, 0)
	}
	b = be.AppendUint16(b, edeLen)
	b = be.AppendUint16(b, dns.EDNS0EDE)
	b = be.AppendUint16(b, 2)
	return be.AppendUint16(b, uint16(ede))
}

// noEDE means that there is nothing more to tell than the response code.
const noEDE = -1
