package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// list returns an ensemble of these voters; server 3 is at h3:2888:3888.
func list(ids ...zab.ServerID) *zab.Ensemble {
	e := &zab.Ensemble{}
	for _, id := range ids {
		e.Members = append(e.Members, zab.Member{ID: id, Addrs: []zab.MemberAddr{{Host: fmt.Sprintf("h%d", id), QuorumPort: 2888, ElectionPort: 3888}}})
	}
	return e
}

// A voice is the election port of a server in a test, and what it has heard.
type voice struct {
	*Election
	log  logBuffer
	stop context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	heard []zab.Notification
	ups   []zab.ServerID
	downs []zab.ServerID
}

func newVoice(n *pipeNet, id zab.ServerID, change func(*ElectionConfig)) *voice {
	v := &voice{done: make(chan struct{})}
	cfg := ElectionConfig{
		ID: id, Listen: []string{fmt.Sprintf("h%d:3888", id)}, Net: n.host(fmt.Sprintf("h%d", id)),
		Logger: slog.New(slog.NewTextHandler(&v.log, nil)),
		Received: func(n zab.Notification) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.heard = append(v.heard, n)
		},
		PeerUp: func(id zab.ServerID) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.ups = append(v.ups, id)
		},
		PeerDown: func(id zab.ServerID) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.downs = append(v.downs, id)
		},
	}
	if change != nil {
		change(&cfg)
	}
	v.Election = NewElection(cfg)
	return v
}

func (v *voice) start(t *testing.T, peers *zab.Ensemble) {
	v.SetPeers(peers)
	var ctx context.Context
	ctx, v.stop = context.WithCancel(context.Background())
	go func() {
		v.Run(ctx)
		close(v.done)
	}()
	t.Cleanup(v.end)
	synctest.Wait()
}

func (v *voice) end() {
	v.stop()
	<-v.done
}

// rounds returns the rounds of what was heard from a server, and forgets them.
func (v *voice) rounds(from zab.ServerID) (rounds []int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.heard = slices.DeleteFunc(v.heard, func(n zab.Notification) bool {
		if n.From == from {
			rounds = append(rounds, n.Round)
		}
		return n.From == from
	})
	return rounds
}

func (v *voice) connected(id zab.ServerID) bool { return v.peer(id).Connected }

func (v *voice) peer(id zab.ServerID) PeerStatus {
	for _, p := range v.Status().Peers {
		if p.ID == id {
			return p
		}
	}
	return PeerStatus{}
}

func say(to zab.ServerID, round int64) zab.Notification {
	return zab.Notification{To: to, Round: round, Ensemble: []byte("version=0")}
}

// rawPeer is a connection to an election port made by hand.
func rawPeer(t *testing.T, n *pipeNet, host, addr string, m *wire.InitialMessage) net.Conn {
	t.Helper()
	conn, err := n.host(host).Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	if m != nil {
		if _, err := conn.Write(m.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

func frame(n zab.Notification) []byte {
	b := wire.AppendNotification(nil, &n)
	return append(wire.AppendInt(nil, int32(len(b))), b...)
}

func readNotification(t *testing.T, conn net.Conn) zab.Notification {
	t.Helper()
	head := make([]byte, 4)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	d := wire.NewDecoder(head)
	b := make([]byte, d.Int())
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Fatal(err)
	}
	n, err := wire.DecodeNotification(b)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOfTwoServersTheGreaterOneConnects(t *testing.T) {
	for _, tc := range []struct {
		name  string
		start []zab.ServerID
	}{
		{"the smaller starts first", []zab.ServerID{1, 2}},
		{"the greater starts first", []zab.ServerID{2, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newPipeNet()
				v := map[zab.ServerID]*voice{}
				for _, id := range tc.start {
					v[id] = newVoice(n, id, nil)
					v[id].start(t, list(1, 2))
					time.Sleep(5 * time.Second)
				}
				v[1].Send(say(2, 12))
				v[2].Send(say(1, 21))
				time.Sleep(2 * time.Second)
				if !v[1].connected(2) || !v[2].connected(1) {
					t.Fatalf("not connected: %+v, %+v", v[1].Status(), v[2].Status())
				}
				if r := v[2].rounds(1); !slices.Equal(r, []int64{12}) {
					t.Errorf("2 heard %v", r)
				}
				if r := v[1].rounds(2); !slices.Equal(r, []int64{21}) {
					t.Errorf("1 heard %v", r)
				}
				// The port of the one that accepted says who made the connection.
				if got := v[1].peer(2).Remote; got[:3] != "h2:" {
					t.Errorf("the connection that stays comes from %s", got)
				}
				before := n.count("h1", "h2:3888") + n.count("h2", "h1:3888")
				time.Sleep(time.Hour)
				if after := n.count("h1", "h2:3888") + n.count("h2", "h1:3888"); after != before {
					t.Errorf("%d more attempts within a quiet hour", after-before)
				}
			})
		})
	}
}

func TestCrossedDialsEndInOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		all := list(1, 2, 3, 4, 5)
		var v []*voice
		for _, m := range all.Members {
			v = append(v, newVoice(n, m.ID, nil))
			v[len(v)-1].start(t, all)
		}
		time.Sleep(3 * time.Second)
		for _, a := range v {
			for _, m := range all.Members {
				if a.cfg.ID != m.ID && !a.connected(m.ID) {
					t.Errorf("%d is not connected to %d: %v", a.cfg.ID, m.ID, a.peer(m.ID).Err)
				}
				a.Send(say(m.ID, int64(a.cfg.ID)))
			}
		}
		synctest.Wait()
		for _, a := range v {
			for _, m := range all.Members {
				if r := a.rounds(m.ID); a.cfg.ID != m.ID && !slices.Equal(r, []int64{int64(m.ID)}) {
					t.Errorf("%d heard from %d: %v", a.cfg.ID, m.ID, r)
				}
			}
			if f, _ := a.faults.list(); len(f) != 0 {
				t.Errorf("%d blames %+v", a.cfg.ID, f)
			}
		}
	})
}

func TestNewestNotificationReplacesAnUnsentOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		v := newVoice(n, 1, nil)
		v.start(t, list(1, 2))
		v.Send(say(2, 1))
		v.Send(say(2, 2))
		synctest.Wait()
		conn := rawPeer(t, n, "h2", "h1:3888", &wire.InitialMessage{Server: 2, Addrs: []string{"h2:3888"}})
		synctest.Wait() // 2 is with the writer, which nobody reads from
		for round := range int64(100) {
			v.Send(say(2, 100+round))
		}
		for _, want := range []int64{2, 199} {
			if got := readNotification(t, conn); got.Round != want {
				t.Errorf("round %d, want %d", got.Round, want)
			}
		}
		conn.Close()
	})
}

// The peer may not have got what was sent last before a connection broke.
func TestLastNotificationIsSentAgainOnANewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		v := newVoice(n, 1, nil)
		v.start(t, list(1, 2))
		m := &wire.InitialMessage{Server: 2, Addrs: []string{"h2:3888"}}
		conn := rawPeer(t, n, "h2", "h1:3888", m)
		v.Send(say(2, 7))
		readNotification(t, conn)
		time.Sleep(time.Second)
		conn.Close()
		lost := time.Now()
		time.Sleep(time.Minute) // more attempts fail
		if p := v.peer(2); p.Connected || p.Err == nil || !p.Since.Equal(lost) {
			t.Errorf("%+v, want no connection since %v", p, lost)
		}
		synctest.Wait()
		conn = rawPeer(t, n, "h2", "h1:3888", m)
		if got := readNotification(t, conn); got.Round != 7 {
			t.Errorf("round %d, want 7 again", got.Round)
		}
		// Not if there is something newer. The old connection is still open here.
		v.Send(say(2, 8))
		readNotification(t, conn)
		old := conn
		conn = rawPeer(t, n, "h2", "h1:3888", m)
		if got := readNotification(t, conn); got.Round != 8 {
			t.Errorf("round %d, want 8", got.Round)
		}
		if _, err := old.Read(make([]byte, 1)); err == nil {
			t.Error("the old connection is open beside the new one")
		}
		conn.Close()
		synctest.Wait()
		v.mu.Lock()
		defer v.mu.Unlock()
		if !slices.Equal(v.ups, []zab.ServerID{2, 2, 2}) {
			t.Errorf("PeerUp of %v", v.ups)
		}
		if !slices.Equal(v.downs, []zab.ServerID{2, 2}) { // not of the one that was replaced
			t.Errorf("PeerDown of %v", v.downs)
		}
	})
}

// A smaller server that was started again asks to be connected to, although this
// one still believes its old connection.
func TestHalfOpenConnectionIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		l, _ := n.host("h1").Listen(t.Context(), "h1:3888")
		v := newVoice(n, 2, nil)
		v.start(t, list(1, 2))
		accept := func() net.Conn {
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 27)
			if _, err := io.ReadFull(conn, b); err != nil || !bytes.Equal(b, (&wire.InitialMessage{Server: 2, Addrs: []string{"h2:3888"}}).Append(nil)) {
				t.Fatalf("%x, %v", b, err)
			}
			return conn
		}
		dead := accept()
		synctest.Wait()
		rawPeer(t, n, "h1", "h2:3888", &wire.InitialMessage{Server: 1, Addrs: []string{"h1:3888"}}).Close()
		conn := accept()
		conn.Write(frame(say(2, 5)))
		synctest.Wait()
		if r := v.rounds(1); !slices.Equal(r, []int64{5}) {
			t.Errorf("heard %v", r)
		}
		if _, err := dead.Read(make([]byte, 1)); err == nil {
			t.Error("the old connection is open")
		}
		conn.Close()
		l.Close()
	})
}

func TestDeadAddressDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		n.setDead("h2:3888", true)
		v3, v1 := newVoice(n, 3, nil), newVoice(n, 1, nil)
		v1.start(t, list(1, 2, 3))
		begin := time.Now()
		v3.start(t, list(1, 2, 3))
		for !v3.connected(1) {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(begin); d > 200*time.Millisecond {
			t.Errorf("connected after %v", d)
		}
		time.Sleep(time.Minute)
		tried := n.count("h3", "h2:3888")
		if tried < 15 || tried > 40 {
			t.Errorf("%d attempts to reach the dead one within a minute", tried)
		}
		if err := v3.peer(2).Err; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the dead one: %v", err)
		}
		v2 := newVoice(n, 2, nil)
		n.setDead("h2:3888", false)
		begin = time.Now()
		v2.start(t, list(1, 2, 3))
		for !v3.connected(2) || !v2.connected(1) {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(begin); d > 800*time.Millisecond {
			t.Errorf("back after %v", d)
		}
	})
}

func TestWhoIsNotMeantIsNamedOnceAndCounted(t *testing.T) {
	initial := func(id zab.ServerID) []byte {
		return (&wire.InitialMessage{Server: id, Addrs: []string{"x:3888"}}).Append(nil)
	}
	for _, tc := range []struct {
		name string
		send []byte
		want error
	}{
		{"unknown id", initial(9), ErrUnknownServer},
		{"anonymous observer", initial(wire.AnonymousObserver), ErrUnknownServer},
		{"own id", initial(2), ErrOwnID},
		{"random bytes", []byte("\x8f\x10\x00\x02abcdefghijklmnop"), ErrProtocol},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), ErrProtocol},
		{"TLS", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc"), ErrTLS},
		{"long address", append(wire.AppendLong(wire.AppendLong(nil, -65536), 3), 0x7f, 0, 0, 0), ErrProtocol},
		{"slow loris", initial(3)[:12], ErrHandshake},
		{"silence", nil, ErrHandshake},
		{"oversize message", append(initial(3), 0, 8, 0, 1), ErrTooLarge},
		{"negative message", append(initial(3), 0xff, 0xff, 0xff, 0xff), ErrTooLarge},
		{"empty message", append(initial(3), 0, 0, 0, 0), ErrTooLarge},
		{"SASL", append(initial(3), 0x5f, 0x24, 0x35, 1, 0x35, 1, 0xed, 0xcc), ErrSASL},
		{"impossible state", append(initial(3), frame(zab.Notification{State: 9})...), ErrProtocol},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newPipeNet()
				v, friend := newVoice(n, 2, nil), newVoice(n, 4, nil)
				v.start(t, list(2, 3, 4))
				friend.start(t, list(2, 4))
				time.Sleep(time.Second)
				up := v.peer(4).Since
				for range 50 {
					conn := rawPeer(t, n, "evil", "h2:3888", nil)
					if len(tc.send) > 0 {
						go conn.Write(tc.send)
					}
					if _, err := io.Copy(io.Discard, conn); err != nil {
						t.Fatalf("not closed: %v", err)
					}
					conn.Close()
				}
				synctest.Wait()
				s := v.Status()
				if len(s.Faults) != 1 || s.Faults[0].Kind != tc.want || s.Faults[0].Host != "evil" || s.Faults[0].Count != 50 || s.Faulty != 50 {
					t.Errorf("faults %+v, want 50 times %v", s.Faults, tc.want)
				}
				if lines := v.log.count("fault of a peer"); lines != 1 {
					t.Errorf("%d lines in the log:\n%s", lines, v.log.b.String())
				}
				friend.Send(say(2, 1))
				synctest.Wait()
				if r := v.rounds(4); !slices.Equal(r, []int64{1}) || v.peer(4).Since != up {
					t.Errorf("the other peer was disturbed: %v", r)
				}
			})
		})
	}
}

func TestUnfinishedMessageIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		v := newVoice(n, 2, nil)
		v.start(t, list(2, 3))
		conn := rawPeer(t, n, "h3", "h2:3888", &wire.InitialMessage{Server: 3})
		conn.Write(wire.AppendInt(nil, wire.MaxNotification))
		conn.Write(make([]byte, 2000))
		begin := time.Now()
		if _, err := conn.Read(make([]byte, 1)); err == nil || time.Since(begin) > 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

func TestTooManyWhoSayNothingDoNotKeepOthersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		v := newVoice(n, 2, nil)
		v.start(t, list(2, 3))
		synctest.Wait()
		var evil []net.Conn
		for range 3 * maxHandshakes {
			evil = append(evil, rawPeer(t, n, "evil", "h2:3888", nil))
		}
		synctest.Wait()
		conn := rawPeer(t, n, "h3", "h2:3888", &wire.InitialMessage{Server: 3})
		synctest.Wait()
		if !v.connected(3) {
			t.Error("kept out")
		}
		if f, _ := v.faults.list(); len(f) != 1 || f[0].Kind != ErrTooMany || f[0].Count != 2*maxHandshakes+1 {
			t.Errorf("%+v", f)
		}
		for _, c := range append(evil, conn) {
			c.Close()
		}
	})
}

func TestSameIDTwiceIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		v := newVoice(n, 2, nil)
		v.start(t, list(2, 3))
		a := rawPeer(t, n, "one", "h2:3888", &wire.InitialMessage{Server: 3, Addrs: []string{"one:3888"}})
		synctest.Wait()
		b := rawPeer(t, n, "two", "h2:3888", &wire.InitialMessage{Server: 3, Addrs: []string{"two:3888"}})
		synctest.Wait()
		if f, _ := v.faults.list(); len(f) != 1 || f[0].Kind != ErrDuplicateID || f[0].Host != "two" {
			t.Errorf("%+v", f)
		}
		a.Close()
		b.Close()
	})
}

// That is what an Apache server does that insists on SASL or TLS.
func TestPeerThatClosesWithoutAWordIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		l, _ := n.host("h1").Listen(t.Context(), "h1:3888")
		defer l.Close()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				conn.Read(make([]byte, 100))
				conn.Close()
			}
		}()
		v := newVoice(n, 2, nil)
		v.start(t, list(1, 2, 3))
		l3, _ := n.host("h3").Listen(t.Context(), "h3:3888")
		go func() { // is told, and never dials back
			for {
				conn, err := l3.Accept()
				if err != nil {
					return
				}
				io.Copy(io.Discard, conn)
				conn.Close()
			}
		}()
		defer l3.Close()
		time.Sleep(time.Minute)
		s := v.Status()
		if err := v.peer(1).Err; !errors.Is(err, ErrNoAnswer) || len(s.Faults) != 1 || s.Faults[0].Kind != ErrNoAnswer || s.Faults[0].Host != "h1" {
			t.Errorf("%v, faults %+v", err, s.Faults)
		}
		if err := v.peer(1).Err.Error(); !strings.Contains(err, "list") || !strings.Contains(err, "id") {
			t.Errorf("%q does not name a server that is unknown there, or known twice", err)
		}
		if err := v.peer(3).Err; err != ErrNotDialled {
			t.Error(err)
		}
		if lines := v.log.count("fault of a peer"); lines != 1 {
			t.Errorf("%d lines in the log", lines)
		}
	})
}

// A server that is to be added by a reconfiguration is in no list yet.
func TestServersInNoListMayBeHeard(t *testing.T) {
	for _, id := range []zab.ServerID{1, 9} {
		t.Run(fmt.Sprint("server ", id), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newPipeNet()
				v := newVoice(n, 5, func(c *ElectionConfig) { c.AllowUnknown = true })
				v.start(t, list(5))
				joiner := newVoice(n, id, nil)
				joiner.start(t, list(min(5, id), max(5, id)))
				time.Sleep(time.Second)
				joiner.Send(say(5, 3))
				synctest.Wait()
				v.Send(say(id, 4))
				synctest.Wait()
				if r := v.rounds(id); !slices.Equal(r, []int64{3}) {
					t.Errorf("heard %v", r)
				}
				if r := joiner.rounds(5); !slices.Equal(r, []int64{4}) {
					t.Errorf("the joiner heard %v", r)
				}
				v.SetPeers(list(min(5, id), max(5, id)))
				time.Sleep(time.Second)
				if p := v.peer(id); !p.Connected || !p.Listed {
					t.Errorf("%+v", p)
				}
				v.SetPeers(list(5))
				synctest.Wait()
				joiner.end()
				time.Sleep(time.Second)
				if s := v.Status(); len(s.Peers) != 0 {
					t.Errorf("it is kept: %+v", s.Peers)
				}
			})
		})
	}
}

func TestUnknownServersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		v := newVoice(n, 5, func(c *ElectionConfig) { c.AllowUnknown = true })
		v.start(t, list(5))
		synctest.Wait()
		var conns []net.Conn
		for id := range zab.ServerID(3 * maxUnknown) {
			conns = append(conns, rawPeer(t, n, "evil", "h5:3888", &wire.InitialMessage{Server: 10 + id}))
			synctest.Wait()
		}
		if s := v.Status(); len(s.Peers) != maxUnknown {
			t.Errorf("%d peers", len(s.Peers))
		}
		for _, c := range conns {
			c.Close()
		}
		synctest.Wait()
		if s := v.Status(); len(s.Peers) != 0 {
			t.Errorf("%d peers after they have gone", len(s.Peers))
		}
	})
}

// Observers are dialled only if there is something for them: they come by
// themselves.
func TestObserversAreNotDialled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		e := list(1, 2, 3)
		e.Members[0].Observer = true
		v := newVoice(n, 3, nil)
		v.start(t, e)
		time.Sleep(time.Minute)
		if a, b := n.count("h3", "h1:3888"), n.count("h3", "h2:3888"); a != 0 || b == 0 {
			t.Errorf("%d and %d attempts", a, b)
		}
		v.Send(say(1, 1))
		time.Sleep(time.Minute)
		if a := n.count("h3", "h1:3888"); a == 0 {
			t.Error("not dialled for a notification")
		}
	})
}

func TestPortIsBoundAgainForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		taken, _ := n.host("h2").Listen(t.Context(), "h2:3888")
		v := newVoice(n, 2, nil)
		v.start(t, list(2, 3))
		time.Sleep(time.Hour)
		if s := v.Status(); s.Listen[0] == nil {
			t.Error("open at a taken address")
		}
		if lines := v.log.count("cannot be opened"); lines != 1 {
			t.Errorf("%d lines in the log", lines)
		}
		taken.Close()
		time.Sleep(2 * time.Second)
		if s := v.Status(); s.Listen[0] != nil {
			t.Error(s.Listen[0])
		}
		// It also goes away while it is open, as with its interface.
		n.mu.Lock()
		l := n.listeners["h2:3888"]
		n.mu.Unlock()
		l.Close()
		time.Sleep(2 * time.Second)
		rawPeer(t, n, "h3", "h2:3888", nil).Close()
	})
}

func TestElectionPortMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		v := newVoice(n, 2, nil)
		v.start(t, list(2, 3))
		synctest.Wait()
		v.SetListen("h2:3889", "h2:3889", "h2:3890")
		synctest.Wait()
		if _, err := n.host("h3").Dial(t.Context(), "h2:3888"); err == nil {
			t.Error("the old port is open")
		}
		rawPeer(t, n, "h3", "h2:3889", nil).Close()
		rawPeer(t, n, "h3", "h2:3890", nil).Close()
		if s := v.Status(); len(s.Listen) != 2 {
			t.Errorf("%d ports", len(s.Listen))
		}
	})
}

func TestHeaderHasOneAddressUnlessAllServersKnowMore(t *testing.T) {
	e := list(1)
	e.Members[0].Addrs = append(e.Members[0].Addrs, zab.MemberAddr{Host: "fe80::1", ElectionPort: 3889})
	for _, tc := range []struct {
		cfg  ElectionConfig
		want []string
	}{
		{ElectionConfig{ID: 1}, []string{"h1:3888"}},
		{ElectionConfig{ID: 1, MultiAddress: true}, []string{"h1:3888", "[fe80::1]:3889"}},
		{ElectionConfig{ID: 1, Advertise: []string{"nat:1"}}, []string{"nat:1"}},
		{ElectionConfig{ID: 2}, nil},
	} {
		v := NewElection(tc.cfg)
		v.SetPeers(e)
		var m wire.InitialMessage
		if err := wire.Unmarshal(v.header, &m); err != nil || !slices.Equal(m.Addrs, tc.want) || m.Server != tc.cfg.ID {
			t.Errorf("got %+v, %v, want %v", m, err, tc.want)
		}
	}
}

func TestFaultsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		f := newFaults(slog.New(slog.NewTextHandler(&log, nil)))
		for i := range 2 * maxFaults {
			f.add(pipeAddr(fmt.Sprintf("10.0.%d.%d:99", i/256, i%256)), fmt.Errorf("x\ny: %w", ErrProtocol))
			time.Sleep(time.Millisecond)
		}
		f.add(pipeAddr("a:1"), io.EOF)
		all, total := f.list()
		if len(all) != maxFaults || total != 2*maxFaults || all[0].Host != "10.0.1.255" || all[0].Kind != ErrProtocol {
			t.Errorf("%d of %d, %+v", len(all), total, all[0])
		}
		if lines := log.count("\n"); lines != maxFaultLogs {
			t.Errorf("%d lines", lines)
		}
		time.Sleep(time.Minute)
		f.add(pipeAddr("b:1"), ErrTLS)
		if lines := log.count("\n"); lines != maxFaultLogs+1 {
			t.Errorf("%d lines a minute later", lines)
		}
	})
}
