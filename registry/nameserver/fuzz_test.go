package nameserver

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/miekg/dns"
)

// FuzzServe feeds any octets to the server. A reply carries the id, is no
// longer than the transport allows, is read by another implementation, and
// repeats the question octet by octet if that could be read.
func FuzzServe(f *testing.F) {
	for _, q := range []struct {
		name  string
		qtype uint16
	}{
		{"demoservice.service.paddock.", dns.TypeA},
		{"_dubbo._tcp._v-1-0-0._g-blue.DemoService.service.paddock.", dns.TypeSRV},
		{"many.service.paddock.", dns.TypeSRV},
		{"outside.service.paddock.", dns.TypeA},
		{"paddock.", dns.TypeNS},
		{"demo-app.app.paddock.", dns.TypeTXT},
		{"0a000001.addr.paddock.", dns.TypeANY},
		{"1.0.0.10.in-addr.arpa.", dns.TypePTR},
		{"9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", dns.TypePTR},
	} {
		f.Add(packQuery(f, q.name, q.qtype), false)
		f.Add(packQuery(f, q.name, q.qtype, edns(700)), true)
	}
	d := sample(f)
	for _, in := range many(f, 200).services["many"].Instances {
		d.addInstance(in)
	}
	s := newTest(f, d)
	w := s.newWorker()
	f.Fuzz(func(t *testing.T, msg []byte, tcp bool) {
		tr, limit := overUDP, 1232
		if tcp {
			tr, limit = overTCP, maxTCP
		}
		prefix := []byte("before")
		out := w.reply(bytes.Clone(prefix), msg, testClient, tr)
		if !bytes.HasPrefix(out, prefix) {
			t.Fatalf("reply overwrote the buffer: %q", out)
		}
		out = out[len(prefix):]
		if len(out) == 0 {
			if len(msg) >= headerLen && msg[2]&0x80 == 0 {
				t.Fatal("no reply to a query")
			}
			return
		}
		if len(out) > limit {
			t.Fatalf("%d bytes, want at most %d", len(out), limit)
		}
		if !bytes.Equal(out[:2], msg[:2]) || out[2]&0x80 == 0 {
			t.Fatalf("header %x of the reply to %x", out[:4], msg[:4])
		}
		var m dns.Msg
		if err := m.Unpack(out); err != nil {
			t.Fatalf("reply %x: %v", out, err)
		}
		if m.RecursionAvailable || m.AuthenticatedData {
			t.Fatalf("flags of %v", &m)
		}
		if n := binary.BigEndian.Uint16(out[4:]); n == 1 && !bytes.HasPrefix(msg[headerLen:], out[headerLen:w.q.qend]) {
			t.Fatalf("question changed: %x to %x", msg, out)
		}
		// What the other implementation takes for a query, with nothing
		// unusual about it, gets an answer.
		var q dns.Msg
		if q.Unpack(msg) != nil || q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET {
			return
		}
		packed, err := q.Pack()
		if err != nil || !bytes.Equal(packed, msg) || len(q.Answer)+len(q.Ns)+len(q.Extra) > 0 {
			return
		}
		if m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented || len(m.Question) != 1 {
			t.Fatalf("query %v\nreply %v", &q, &m)
		}
		if size := q.Len(); !tcp && len(out) > 512 {
			t.Fatalf("%d bytes without EDNS (query %d)", len(out), size)
		}
		if m.Rcode == dns.RcodeSuccess && m.Authoritative && len(m.Answer) == 0 && !m.Truncated && len(m.Ns) != 1 {
			t.Fatalf("no data without SOA: %v", &m)
		}
		for _, rr := range m.Answer {
			if rr.Header().Name != m.Question[0].Name {
				t.Fatalf("owner %q, question %q", rr.Header().Name, m.Question[0].Name)
			}
		}
	})
}
