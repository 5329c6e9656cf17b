package nameserver

import (
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// Stats are counters since the start.
type Stats struct {
	// Queries counts replies by type and response code. Only pairs that
	// occurred are there.
	Queries []QueryCount
	// UDP and TCP count queries by transport.
	UDP, TCP uint64
	// Truncated counts replies that told the client to use TCP.
	Truncated uint64
	// Stale counts replies from a view that was not live.
	Stale uint64
	// Built counts answers that were made from the directory; the other
	// answers about services came from the cache.
	Built uint64
	// Ignored counts packets that got no reply: too short, or replies.
	Ignored uint64
	// RateLimited counts UDP queries that were dropped or answered empty.
	RateLimited uint64
	// TCPRefused counts connections above the limits.
	TCPRefused uint64
	// TCPOpen is how many connections are open now.
	TCPOpen int
	// WriteErrors counts replies that the system did not take.
	WriteErrors uint64
}

// A QueryCount is how often a query of a type had a response code.
type QueryCount struct {
	Type  string // A, AAAA, SRV, …, "other"
	Rcode string // NOERROR, NXDOMAIN, …; NODATA for NOERROR without an answer
	Count uint64
}

// Types and codes that are counted apart. The last type stands for all others.
var (
	statTypes  = [...]uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypePTR, dns.TypeSOA, dns.TypeNS, dns.TypeCNAME, dns.TypeANY, 0}
	statRcodes = [...]int{dns.RcodeSuccess, rcodeNoData, dns.RcodeNameError, dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeBadVers}
)

// rcodeNoData is how NOERROR without an answer is counted.
const rcodeNoData = -1

type counters struct {
	queries     [len(statTypes)][len(statRcodes)]atomic.Uint64
	udp, tcp    atomic.Uint64
	truncated   atomic.Uint64
	stale       atomic.Uint64
	built       atomic.Uint64
	ignored     atomic.Uint64
	rateLimited atomic.Uint64
	tcpRefused  atomic.Uint64
	writeErrors atomic.Uint64
}

func (c *counters) count(qtype uint16, rcode int) {
	t := len(statTypes) - 1
	for i, have := range statTypes[:t] {
		if have == qtype {
			t = i
			break
		}
	}
	for i, have := range statRcodes {
		if have == rcode {
			c.queries[t][i].Add(1)
			return
		}
	}
}

// Stats returns the counters. They are read one by one.
func (s *Server) Stats() Stats {
	c := &s.count
	out := Stats{
		UDP: c.udp.Load(), TCP: c.tcp.Load(),
		Truncated: c.truncated.Load(), Stale: c.stale.Load(), Built: c.built.Load(),
		Ignored: c.ignored.Load(), RateLimited: c.rateLimited.Load(),
		TCPRefused: c.tcpRefused.Load(), WriteErrors: c.writeErrors.Load(),
		TCPOpen: s.conns.open(),
	}
	for i, t := range statTypes {
		for j, r := range statRcodes {
			if n := c.queries[i][j].Load(); n > 0 {
				out.Queries = append(out.Queries, QueryCount{typeName(t), rcodeName(r), n})
			}
		}
	}
	return out
}

func typeName(t uint16) string {
	if t == 0 {
		return "other"
	}
	return dns.Type(t).String()
}

func rcodeName(r int) string {
	switch r {
	case rcodeNoData:
		return "NODATA"
	case dns.RcodeBadVers:
		return "BADVERS" // shares its number with BADSIG
	}
	return strings.ToUpper(dns.RcodeToString[r])
}
