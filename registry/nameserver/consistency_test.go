package nameserver

import (
	"fmt"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/paddockio/paddock/registry"
)

// TestAnswersShowOneGeneration asks from several workers while every
// generation moves all instances to another port: a reply with two ports, or with
// a port older than one already seen by the worker, is a mix.
func TestAnswersShowOneGeneration(t *testing.T) {
	d := newFake()
	set := func(port int) {
		var list []*registry.Instance
		for i := range 5 {
			list = append(list, &registry.Instance{Service: "org.x.Moving", Protocol: "dubbo", Host: fmt.Sprintf("10.0.0.%d", i+1), Port: port, Weight: 100, Enabled: true, Raw: fmt.Sprint(i)})
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.gen++
		d.services["org.x.Moving"] = registry.View{Service: "org.x.Moving", Instances: list, Live: true}
	}
	set(1)
	s := newTest(t, d)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			w, newest := s.newWorker(), uint16(0)
			msg := packQuery(t, "moving.service.paddock.", dns.TypeSRV)
			for range 500 {
				var m dns.Msg
				if err := m.Unpack(w.reply(nil, msg, testClient, overUDP)); err != nil {
					t.Error(err)
					return
				}
				if m.Rcode == dns.RcodeServerFailure {
					continue // the directory did not hold still
				}
				if len(m.Answer) != 5 {
					t.Errorf("%d records, want 5", len(m.Answer))
					return
				}
				for _, rr := range m.Answer {
					if port := rr.(*dns.SRV).Port; port != m.Answer[0].(*dns.SRV).Port || port < newest {
						t.Errorf("port %d after %d in %v", port, newest, &m)
						return
					}
				}
				newest = m.Answer[0].(*dns.SRV).Port
			}
		})
	}
	for port := 2; port < 1500; port++ {
		set(port)
	}
	wg.Wait()
}
