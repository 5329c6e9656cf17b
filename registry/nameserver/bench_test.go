package nameserver

import (
	"fmt"
	"net"
	"testing"

	"github.com/miekg/dns"
)

// benchDirectory has n services with 10 providers each.
func benchDirectory(b *testing.B, n int) *fakeDirectory {
	d := newFake()
	for i := range n {
		for j := range 10 {
			d.add(b, fmt.Sprintf("dubbo://10.%d.%d.%d:20880/org.apache.dubbo.demo.Service%04d?application=app-%d", i/250, i%250, j+1, i, i%10))
		}
	}
	return d
}

func BenchmarkReply(b *testing.B) {
	s := newTest(b, benchDirectory(b, 100))
	for _, tc := range []struct {
		name, q string
		qtype   uint16
	}{
		{"A", "org.apache.dubbo.demo.Service0042.service.paddock.", dns.TypeA},
		{"AAAA-nodata", "org.apache.dubbo.demo.Service0042.service.paddock.", dns.TypeAAAA},
		{"SRV", "_dubbo._tcp.org.apache.dubbo.demo.Service0042.service.paddock.", dns.TypeSRV},
		{"NXDOMAIN", "org.apache.dubbo.demo.Nobody.service.paddock.", dns.TypeA},
		{"REFUSED", "www.example.com.", dns.TypeA},
	} {
		b.Run(tc.name, func(b *testing.B) {
			msg := packQuery(b, tc.q, tc.qtype, edns(1232))
			w := s.newWorker()
			buf := w.reply(nil, msg, testClient, overUDP)
			b.ReportAllocs()
			for b.Loop() {
				buf = w.reply(buf[:0], msg, testClient, overUDP)
			}
		})
	}
}

// sameList is a directory whose list of services does not change.
type sameList struct {
	*fakeDirectory
	services []string
}

func (d sameList) Services() []string { return d.services }

// BenchmarkRebuild is the cost of the first query after a change, with another
// service changed and with this one changed.
func BenchmarkRebuild(b *testing.B) {
	for _, n := range []int{100, 2000} {
		d := benchDirectory(b, n)
		s := newTest(b, sameList{d, d.Services()})
		msg := packQuery(b, "org.apache.dubbo.demo.Service0042.service.paddock.", dns.TypeA)
		w := s.newWorker()
		buf := w.reply(nil, msg, testClient, overUDP)
		for _, tc := range []struct {
			name   string
			change func()
		}{
			{"other", func() { d.gen++ }},
			{"this", func() {
				d.gen++
				v := d.services["org.apache.dubbo.demo.Service0042"]
				v.Instances = append(v.Instances[:0:0], v.Instances...)
				d.services["org.apache.dubbo.demo.Service0042"] = v
			}},
		} {
			b.Run(fmt.Sprintf("%s-of-%d", tc.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					tc.change()
					buf = w.reply(buf[:0], msg, testClient, overUDP)
				}
			})
		}
	}
}

// BenchmarkLibrary is the same reply as in BenchmarkReply/A by the records and
// the packer of miekg/dns: what the answers in wire format save.
func BenchmarkLibrary(b *testing.B) {
	msg := packQuery(b, "org.apache.dubbo.demo.Service0042.service.paddock.", dns.TypeA, edns(1232))
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var q, r dns.Msg
		if err := q.Unpack(msg); err != nil {
			b.Fatal(err)
		}
		r.SetReply(&q)
		r.Compress, r.Authoritative = true, true
		for i := range 10 {
			r.Answer = append(r.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5},
				A:   net.IPv4(10, 0, 42, byte(i+1)),
			})
		}
		r.SetEdns0(1232, false)
		out, err := r.PackBuffer(buf)
		if err != nil {
			b.Fatal(err)
		}
		buf = out[:cap(out)]
	}
}
