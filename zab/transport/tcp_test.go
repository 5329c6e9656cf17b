package transport

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// A loopback is TCP on this machine, with names of a test for ports that are free.
type loopback struct {
	TCP
	mu    sync.Mutex
	ports map[string]string
}

func newLoopback() *loopback { return &loopback{ports: map[string]string{}} }

func (l *loopback) Listen(ctx context.Context, addr string) (net.Listener, error) {
	ln, err := l.TCP.Listen(ctx, "127.0.0.1:0")
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ports[addr] = ln.Addr().String()
	}
	return ln, err
}

func (l *loopback) Dial(ctx context.Context, addr string) (net.Conn, error) {
	l.mu.Lock()
	real, ok := l.ports[addr]
	l.mu.Unlock()
	if !ok {
		return nil, errRefused
	}
	return l.TCP.Dial(ctx, real)
}

// within waits for a value; the time only bounds a test that fails.
func within[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing within 20 s")
	}
	return v
}

func TestElectionOverTCP(t *testing.T) {
	n := newLoopback()
	all := list(1, 2, 3)
	heard := make(chan string, 100)
	var elections []*Election
	var ups sync.WaitGroup
	for _, m := range all.Members {
		var seen sync.Map
		ups.Add(2)
		e := NewElection(ElectionConfig{
			ID: m.ID, Net: n, Listen: []string{fmt.Sprintf("h%d:3888", m.ID)},
			Received: func(n zab.Notification) { heard <- fmt.Sprintf("%d>%d %d", n.From, n.To, n.Round) },
			PeerUp: func(id zab.ServerID) {
				if _, again := seen.LoadOrStore(id, true); !again {
					ups.Done()
				}
			},
		})
		e.SetPeers(all)
		elections = append(elections, e)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, e := range elections {
		running.Go(func() { e.Run(ctx) })
	}
	ups.Wait()
	for i, e := range elections {
		for _, m := range all.Members {
			e.Send(zab.Notification{To: m.ID, Round: int64(i), Ensemble: []byte(all.String())})
		}
	}
	// A connection may be replaced at first, and the message be sent again on the next.
	got := map[string]bool{}
	for len(got) < 6 {
		got[within(t, heard)] = true
	}
	stop()
	running.Wait()
	for _, want := range []string{"1>2 0", "1>3 0", "2>1 1", "2>3 1", "3>1 2", "3>2 2"} {
		if !got[want] {
			t.Errorf("got %v, want %s", got, want)
		}
	}
}

// A pair is a leader and its learner over TCP.
type pair struct {
	leader, learner *Quorum
	down, up        *Link
	ended           chan error
}

// newPair links a learner to a leader, whose callbacks get what the other sends.
func newPair(t testing.TB, fromLeader, fromLearner func(*Link, []wire.QuorumPacket), snapshot func(*Link, wire.QuorumPacket, *SnapshotReader) error) *pair {
	n := newLoopback()
	p := &pair{ended: make(chan error, 2)}
	downs := make(chan *Link, 1)
	ended := func(_ *Link, err error) { p.ended <- err }
	p.leader = NewQuorum(QuorumConfig{
		Listen: []string{"h1:2888"}, Net: n, LinkUp: func(l *Link) { downs <- l }, LinkDown: ended,
		Received: func(l *Link, packets []wire.QuorumPacket) {
			if packets[0].Type == wire.PacketFollowerInfo {
				packets = packets[1:]
			}
			if len(packets) > 0 {
				fromLearner(l, packets)
			}
		},
	})
	p.learner = NewQuorum(QuorumConfig{
		Net: n, LinkUp: func(l *Link) { p.up = l }, LinkDown: ended, Received: fromLeader, Snapshot: snapshot,
	})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.leader.Run(ctx) })
	running.Go(func() { p.learner.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	p.leader.Open()
	dctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.learner.Dial(dctx, member(1, "h1")); err != nil {
		t.Fatal(err)
	}
	p.up.SendMessage(&zab.Message{Type: zab.MsgFollowerInfo, From: 2})
	p.down = within(t, downs)
	return p
}

// TestSnapshotAmongPacketsOverTCP sends packets before and behind a snapshot, small
// and large ones, and looks whether they come in order.
func TestSnapshotAmongPacketsOverTCP(t *testing.T) {
	done := make(chan zab.Zxid, 10)
	var next zab.Zxid
	wrong := false
	mark := []byte("BenWasHere")
	size := 3<<20 + 7
	p := newPair(t,
		func(l *Link, packets []wire.QuorumPacket) {
			for _, packet := range packets {
				next++
				m, err := packet.Message()
				if err != nil || m.Proposal.Zxid != next || len(m.Proposal.Data) != int(next)*100 {
					wrong = true
				}
				if next == 200 || wrong {
					done <- next
				}
			}
		},
		func(*Link, []wire.QuorumPacket) {},
		func(l *Link, _ wire.QuorumPacket, r *SnapshotReader) error {
			next += 1000
			buf := make([]byte, 100_000)
			left := size
			for {
				n, err := r.Read(buf[:])
				if err != nil {
					return err
				}
				if n > left {
					r.Unread(buf[left:n])
					break
				}
				left -= n
			}
			end := make([]byte, len(mark))
			if _, err := io.ReadFull(r, end); err != nil || !bytes.Equal(end, mark) {
				wrong = true
			}
			next -= 1000
			return nil
		})
	send := func(z zab.Zxid) {
		h := wire.TxnHeader{Zxid: z, Type: wire.OpSetData}
		data := make([]byte, z*100)
		copy(data, h.Append(nil))
		p.down.SendMessage(&zab.Message{Type: zab.MsgProposal, Proposal: zab.Proposal{Zxid: z, Data: data}})
	}
	for z := zab.Zxid(1); z <= 100; z++ {
		send(z)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.down.Stream(func(w io.Writer) error {
			w.Write((&wire.QuorumPacket{Type: wire.PacketSnap}).Append(nil))
			w.Write(make([]byte, size))
			_, err := w.Write(mark)
			return err
		}); err != nil {
			t.Error(err)
		}
	})
	running.Wait()
	for z := zab.Zxid(101); z <= 200; z++ {
		send(z)
	}
	if z := within(t, done); z != 200 {
		t.Errorf("packet %v is wrong", z)
	}
	if s := p.leader.Status(); s.Links[0].SentBytes < uint64(size) {
		t.Errorf("%+v", s.Links)
	}
}

// A socket that is closed with unread input throws away what was sent on it.
func TestCloseForNoFaultSendsWhatIsQueued(t *testing.T) {
	const count = 2000
	var got atomic.Int64
	begun := make(chan bool, 1)
	p := newPair(t,
		func(_ *Link, packets []wire.QuorumPacket) { got.Add(int64(len(packets))) },
		func(*Link, []wire.QuorumPacket) {
			select {
			case begun <- true:
			default:
			}
		}, nil)
	stop := make(chan bool)
	var noise sync.WaitGroup
	noise.Go(func() {
		for z := zab.Zxid(1); ; z++ {
			select {
			case <-stop:
				return
			default:
				p.up.SendMessage(&zab.Message{Type: zab.MsgAck, Zxid: z})
			}
		}
	})
	within(t, begun)
	for z := range zab.Zxid(count) {
		p.down.SendMessage(&zab.Message{Type: zab.MsgCommit, Zxid: z})
	}
	p.down.Close(nil)
	p.down.SendMessage(&zab.Message{Type: zab.MsgCommit}) // after Close: nothing
	within(t, p.ended)
	close(stop)
	noise.Wait()
	within(t, p.ended)
	if n := got.Load(); n != count {
		t.Errorf("%d of %d packets", n, count)
	}
}

func TestAddressesMayBeNames(t *testing.T) {
	ln, err := TCP{}.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost"} {
		conn, err := TCP{}.Dial(t.Context(), net.JoinHostPort(host, port))
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		conn.Close()
	}
	for _, addr := range []string{"no-such-host.invalid:1", "nonsense"} {
		if conn, err := (TCP{}).Dial(t.Context(), addr); err == nil {
			conn.Close()
			t.Errorf("%s: no error", addr)
		}
	}
}

// window bounds what a benchmark has sent and the other side has not got.
type window struct {
	got  atomic.Int64
	more chan struct{}
}

func newWindow() *window { return &window{more: make(chan struct{}, 1)} }

func (w *window) add(n int) {
	w.got.Add(int64(n))
	wake(w.more)
}

func (w *window) wait(sent, open int64) {
	for sent-w.got.Load() > open {
		<-w.more
	}
}

// BenchmarkLink sends packets one way; ns and allocations are for one packet, both
// sides together.
func BenchmarkLink(b *testing.B) {
	for _, size := range []int{0, 150, 1000, 100_000} {
		b.Run(fmt.Sprintf("data=%d", size), func(b *testing.B) {
			w := newWindow()
			p := newPair(b, func(_ *Link, packets []wire.QuorumPacket) { w.add(len(packets)) }, func(*Link, []wire.QuorumPacket) {}, nil)
			m := &zab.Message{Type: zab.MsgAck, Zxid: 1}
			if size > 0 {
				m = proposal(1, size)
			}
			open := int64(max(16, 2_000_000/(size+100)))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			sent := int64(0)
			for b.Loop() {
				p.down.SendMessage(m)
				sent++
				w.wait(sent, open)
			}
			w.wait(sent, 0)
			b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "packets/s")
		})
	}
}

// BenchmarkRoundTrip sends a proposal and waits for its ACK.
func BenchmarkRoundTrip(b *testing.B) {
	acks := make(chan struct{}, 1)
	p := newPair(b,
		func(l *Link, packets []wire.QuorumPacket) {
			for i := range packets {
				l.SendMessage(&zab.Message{Type: zab.MsgAck, Zxid: packets[i].Zxid})
			}
		},
		func(*Link, []wire.QuorumPacket) { acks <- struct{}{} }, nil)
	m := proposal(1, 150)
	b.ReportAllocs()
	for b.Loop() {
		p.down.SendMessage(m)
		<-acks
	}
}

func BenchmarkStream(b *testing.B) {
	part := make([]byte, 32<<10)
	total := int64(64 << 20)
	p := newPair(b, func(*Link, []wire.QuorumPacket) {}, func(*Link, []wire.QuorumPacket) {},
		func(_ *Link, _ wire.QuorumPacket, r *SnapshotReader) error {
			_, err := io.CopyN(io.Discard, r, total)
			return err
		})
	b.SetBytes(total)
	for b.Loop() {
		p.down.Stream(func(w io.Writer) error {
			w.Write((&wire.QuorumPacket{Type: wire.PacketSnap}).Append(nil))
			for n := int64(0); n < total; n += int64(len(part)) {
				if _, err := w.Write(part); err != nil {
					return err
				}
			}
			return nil
		})
	}
}
