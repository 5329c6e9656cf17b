package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// A port is the quorum port of a server in a test, and what has happened there.
type port struct {
	*Quorum
	log  logBuffer
	stop context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	links []*Link
	got   []string // "ID NAME zxid" of packets, "up", "down" and the reason
	down  map[*Link]error
	gate  chan struct{} // if not nil, Received waits for it
}

func newPort(n Net, listen string, change func(*QuorumConfig)) *port {
	p := &port{done: make(chan struct{}), down: map[*Link]error{}}
	note := func(l *Link, format string, args ...any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.got = append(p.got, fmt.Sprintf("%d ", l.ID())+fmt.Sprintf(format, args...))
	}
	cfg := QuorumConfig{
		Listen: []string{listen}, Net: n, Logger: slog.New(slog.NewTextHandler(&p.log, nil)),
		LinkUp: func(l *Link) {
			note(l, "up %d", l.Peer())
			p.mu.Lock()
			defer p.mu.Unlock()
			p.links = append(p.links, l)
		},
		Received: func(l *Link, packets []wire.QuorumPacket) {
			if p.gate != nil {
				<-p.gate
			}
			for _, packet := range packets {
				note(l, "%v %v", packet.Type, packet.Zxid)
			}
		},
		Snapshot: func(l *Link, packet wire.QuorumPacket, r *SnapshotReader) error {
			// As the parser of snapshots it reads more than it needs.
			var all []byte
			buf := make([]byte, 32<<10)
			for {
				n, err := r.Read(buf)
				if all = append(all, buf[:n]...); err != nil {
					note(l, "SNAP %v broken", packet.Zxid)
					return err
				}
				if stream, rest, ok := bytes.Cut(all, []byte("BenWasHere")); ok {
					r.Unread(rest)
					note(l, "SNAP %v of %d bytes", packet.Zxid, len(stream))
					return nil
				}
			}
		},
		LinkDown: func(l *Link, err error) {
			note(l, "down")
			p.mu.Lock()
			defer p.mu.Unlock()
			if _, ok := p.down[l]; ok {
				panic("down twice")
			}
			p.down[l] = err
		},
	}
	if change != nil {
		change(&cfg)
	}
	p.Quorum = NewQuorum(cfg)
	return p
}

func (p *port) start(t testing.TB) {
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	go func() {
		p.Run(ctx)
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop()
		<-p.done
	})
}

// events returns what has happened since the last call.
func (p *port) events() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

func (p *port) reason(l *Link) (err error, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	err, down = p.down[l]
	return err, down
}

func (p *port) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := p.events(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func member(id zab.ServerID, hosts ...string) zab.Member {
	m := zab.Member{ID: id}
	for _, h := range hosts {
		m.Addrs = append(m.Addrs, zab.MemberAddr{Host: h, QuorumPort: 2888})
	}
	return m
}

// connected returns a leader and a learner of a network in memory, and their link.
func connected(t *testing.T, change func(*QuorumConfig)) (leader, learner *port, down, up *Link) {
	t.Helper()
	n := newPipeNet()
	leader, learner = newPort(n.host("h1"), "h1:2888", change), newPort(n.host("h2"), "h2:2888", change)
	leader.start(t)
	learner.start(t)
	leader.Open()
	synctest.Wait()
	up, down = join(t, learner, leader, 2)
	return leader, learner, down, up
}

// join links learner number id to the leader at h1.
func join(t *testing.T, learner, leader *port, id zab.ServerID) (up, down *Link) {
	t.Helper()
	if err := learner.Dial(t.Context(), member(1, "h1")); err != nil {
		t.Fatal(err)
	}
	up = learner.links[len(learner.links)-1]
	up.SendMessage(&zab.Message{Type: zab.MsgFollowerInfo, From: id})
	synctest.Wait()
	down = leader.links[len(leader.links)-1]
	leader.events()
	learner.events()
	return up, down
}

func proposal(z zab.Zxid, size int) *zab.Message {
	h := wire.TxnHeader{Zxid: z, Type: wire.OpSetData}
	return &zab.Message{Type: zab.MsgProposal, Proposal: zab.Proposal{Zxid: z, Data: append(h.Append(nil), make([]byte, size)...)}}
}

func TestLearnerSaysFirstWhoItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		leader, learner := newPort(n.host("h1"), "h1:2888", nil), newPort(n.host("h2"), "h2:2888", nil)
		leader.start(t)
		learner.start(t)
		leader.Open()
		if err := learner.Dial(t.Context(), member(1, "h1")); err != nil {
			t.Fatal(err)
		}
		learner.expect(t, "1 up 1")
		leader.expect(t)
		up := learner.links[0]
		up.SendMessage(&zab.Message{Type: zab.MsgObserverInfo, From: 2, Zxid: zab.NewZxid(3, 0)})
		up.SendMessage(&zab.Message{Type: zab.MsgAckEpoch, Zxid: 5})
		leader.expect(t, "1 up 2", "1 OBSERVERINFO 0x300000000", "1 ACKEPOCH 0x5")
		if l := leader.links[0]; l.Dialled() || l.RemoteAddr().String()[:3] != "h2:" {
			t.Errorf("%+v", l.status())
		}
		leader.links[0].SendMessage(&zab.Message{Type: zab.MsgLeaderInfo, Zxid: zab.NewZxid(4, 0)})
		leader.links[0].SendMessage(&zab.Message{Type: zab.MsgUpToDate})
		learner.expect(t, "1 LEADERINFO 0x400000000", "1 UPTODATE 0xffffffffffffffff")

		up.Close(nil)
		leader.expect(t, "1 down")
		learner.expect(t, "1 down")
		if err, _ := learner.reason(up); err != nil {
			t.Errorf("closed for no fault, yet %v", err)
		}
		if err, _ := leader.reason(leader.links[0]); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if s := leader.Status(); len(s.Links) != 0 || s.Faulty != 0 || len(s.Listen) != 1 || s.Listen[0] != nil {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhoIsNoLearnerIsNamedOnce(t *testing.T) {
	info := func(id zab.ServerID, protocol int32) []byte {
		p := wire.QuorumPacket{Type: wire.PacketFollowerInfo, Data: (&wire.LearnerInfo{Server: id, Protocol: protocol}).Append(nil)}
		return p.Append(nil)
	}
	for _, tc := range []struct {
		name string
		send []byte
		want error
	}{
		{"random bytes", []byte("abcdefgh"), ErrProtocol},
		{"TLS", []byte("\x16\x03\x01\x02\x00\x01"), ErrTLS},
		{"SASL", wire.AppendLong(nil, wire.QuorumAuthMagic), ErrSASL},
		{"another packet", (&wire.QuorumPacket{Type: wire.PacketAck}).Append(nil), ErrProtocol},
		{"large first packet", wire.AppendPacketHead(nil, wire.PacketFollowerInfo, 0, firstPacket+1), ErrProtocol},
		{"server 3.3", info(2, 1), ErrProtocol},
		{"negative id", info(-2, wire.QuorumProtocol), ErrProtocol},
		{"not admitted", info(9, wire.QuorumProtocol), ErrUnknownServer},
		{"slow loris", info(2, wire.QuorumProtocol)[:30], ErrHandshake},
		{"silence", nil, ErrHandshake},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				leader, learner, down, up := connected(t, func(c *QuorumConfig) {
					c.Admit = func(id zab.ServerID, _ net.Addr) error {
						if id == 9 {
							return errors.New("not one of us")
						}
						return nil
					}
				})
				n := leader.cfg.Net.(pipeHost).pipeNet
				for range 20 {
					conn := rawPeer(t, n, "evil", "h1:2888", nil)
					if len(tc.send) > 0 {
						go conn.Write(tc.send)
					}
					if _, err := io.Copy(io.Discard, conn); err != nil {
						t.Fatal(err)
					}
				}
				leader.expect(t)
				s := leader.Status()
				if len(s.Faults) != 1 || s.Faults[0].Kind != tc.want || s.Faults[0].Count != 20 {
					t.Errorf("%+v, want %v", s.Faults, tc.want)
				}
				if lines := leader.log.count("fault of a peer"); lines != 1 {
					t.Errorf("%d lines in the log", lines)
				}
				up.SendMessage(&zab.Message{Type: zab.MsgAck, Zxid: 7})
				leader.expect(t, fmt.Sprintf("%d ACK 0x7", down.ID()))
				learner.expect(t)
			})
		})
	}
}

// An Apache leader that wants more than we can answers with an alert, or not at
// all.
func TestLeaderThatWantsTLSOrSASLIsNamed(t *testing.T) {
	for _, tc := range []struct {
		answer string
		want   error
	}{
		{"\x15\x03\x03\x00\x02\x02\x50", ErrTLS},
		{"", ErrNoAnswer},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newPipeNet()
			l, _ := n.host("h1").Listen(t.Context(), "h1:2888")
			defer l.Close()
			learner := newPort(n.host("h2"), "h2:2888", nil)
			learner.start(t)
			go func() {
				conn, _ := l.Accept()
				conn.Read(make([]byte, 100))
				conn.Write([]byte(tc.answer))
				conn.Close()
			}()
			if err := learner.Dial(t.Context(), member(1, "h1")); err != nil {
				t.Fatal(err)
			}
			learner.links[0].SendMessage(&zab.Message{Type: zab.MsgFollowerInfo, From: 2})
			synctest.Wait()
			if err, down := learner.reason(learner.links[0]); !down || !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// What a peer sends after it was admitted closes its link, too.
func TestBadPacketClosesItsLinkOnly(t *testing.T) {
	for name, bad := range map[string][]byte{
		"garbage":      []byte("garbage!"),
		"too large":    wire.AppendPacketHead(nil, wire.PacketAck, 0, 2*wire.MaxBuffer+1),
		"SNAP":         (&wire.QuorumPacket{Type: wire.PacketSnap}).Append(nil),
		"half of one":  (&wire.QuorumPacket{Type: wire.PacketAck}).Append(nil)[:19],
		"unknown type": (&wire.QuorumPacket{Type: 20}).Append(nil),
	} {
		synctest.Test(t, func(t *testing.T) {
			leader, learner, down, up := connected(t, nil)
			n := leader.cfg.Net.(pipeHost).pipeNet
			conn := rawPeer(t, n, "evil", "h1:2888", nil)
			m := zab.Message{Type: zab.MsgFollowerInfo, From: 3}
			conn.Write(append(wire.AppendMessage(nil, &m), bad...))
			conn.Close()
			leader.expect(t, fmt.Sprintf("%d up 3", down.ID()+1), fmt.Sprintf("%d FOLLOWERINFO 0x0", down.ID()+1), fmt.Sprintf("%d down", down.ID()+1))
			err, _ := leader.reason(leader.links[1])
			if name == "half of one" {
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%s: %v", name, err)
				}
			} else if !errors.Is(err, ErrProtocol) || leader.Status().Faulty != 1 {
				t.Errorf("%s: %v, %d faults", name, err, leader.Status().Faulty)
			}
			up.SendMessage(&zab.Message{Type: zab.MsgAck, Zxid: 7})
			leader.expect(t, fmt.Sprintf("%d ACK 0x7", down.ID()))
			learner.expect(t)
		})
	}
}

func TestPeerThatStopsReadingLosesItsLinkOnly(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*QuorumConfig)
		want   error
	}{
		{"bytes", func(c *QuorumConfig) { c.QueueBytes = 100_000 }, ErrQueueFull},
		{"packets", func(c *QuorumConfig) { c.QueuePackets = 99 }, ErrQueueFull},
		{"time", nil, ErrSlow},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				leader, good, goodDown, _ := connected(t, tc.change)
				n := leader.cfg.Net.(pipeHost).pipeNet
				bad := newPort(n.host("h3"), "h3:2888", nil)
				bad.gate = make(chan struct{})
				bad.start(t)
				_, badDown := join(t, bad, leader, 3)
				for z := range zab.Zxid(100) {
					goodDown.SendMessage(proposal(z, 1000))
					badDown.SendMessage(proposal(z, 1000))
					synctest.Wait()
				}
				badDown.SendMessage(proposal(100, 1000))
				time.Sleep(20 * time.Second)
				err, down := leader.reason(badDown)
				if !down || !errors.Is(err, tc.want) {
					t.Errorf("got %v, %v, want %v", down, err, tc.want)
				}
				if got := good.events(); len(got) != 100 {
					t.Errorf("the other got %d packets", len(got))
				}
				if _, down := leader.reason(goodDown); down {
					t.Error("the other link is down, too")
				}
				if s := leader.Status(); len(s.Links) != 1 || s.Links[0].QueuedBytes != 0 || s.Links[0].QueuedPackets != 0 {
					t.Errorf("%+v", s.Links)
				}
				badDown.SendMessage(proposal(101, 1000)) // nothing happens
				close(bad.gate)
			})
		})
	}
}

func TestOnePacketMayBeLargerThanTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, learner, down, _ := connected(t, func(c *QuorumConfig) { c.QueueBytes = 1000 })
		down.SendMessage(proposal(1, 1<<20))
		learner.expect(t, "1 PROPOSAL 0x1")
	})
}

func TestStreamsKeepTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader, learner, down, _ := connected(t, nil)
		snapshot := bytes.Repeat([]byte("0123456789"), 30_000)
		var wg sync.WaitGroup
		down.SendMessage(proposal(1, 10))
		for i := range zab.Zxid(2) {
			wg.Go(func() {
				err := down.Stream(func(w io.Writer) error {
					p := wire.QuorumPacket{Type: wire.PacketSnap, Zxid: 10 + i}
					w.Write(p.Append(nil))
					for part := range slices.Chunk(snapshot, 1000) {
						if _, err := w.Write(part); err != nil {
							return err
						}
					}
					_, err := w.Write([]byte("BenWasHere"))
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
			down.SendMessage(proposal(2+i, 10))
			synctest.Wait()
		}
		wg.Wait()
		got := learner.events()
		place := func(s string) int { return slices.Index(got, s) }
		if len(got) != 5 || got[0] != "1 PROPOSAL 0x1" || place("1 SNAP 0xa of 300000 bytes") < 1 || place("1 SNAP 0xb of 300000 bytes") <= place("1 SNAP 0xa of 300000 bytes") ||
			place("1 PROPOSAL 0x3") <= place("1 PROPOSAL 0x2") {
			t.Errorf("%q", got)
		}
		leader.expect(t)
	})
}

func TestPacketsBehindAStreamComeAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, learner, down, _ := connected(t, nil)
		begun := make(chan struct{})
		go down.Stream(func(w io.Writer) error {
			close(begun)
			time.Sleep(time.Minute)
			w.Write((&wire.QuorumPacket{Type: wire.PacketDiff, Zxid: 8}).Append(nil))
			return nil
		})
		<-begun
		down.SendMessage(proposal(9, 10))
		learner.expect(t)
		time.Sleep(time.Minute)
		learner.expect(t, "1 DIFF 0x8", "1 PROPOSAL 0x9")
	})
}

func TestStreamThatFails(t *testing.T) {
	broken := errors.New("file is gone")
	t.Run("before the first byte the link goes on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, learner, down, _ := connected(t, nil)
			err := down.Stream(func(w io.Writer) error {
				w.Write([]byte("not sent"))
				return broken
			})
			if err != broken {
				t.Error(err)
			}
			down.SendMessage(proposal(1, 10))
			learner.expect(t, "1 PROPOSAL 0x1")
		})
	})
	t.Run("later it is closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			leader, learner, down, up := connected(t, nil)
			err := down.Stream(func(w io.Writer) error {
				w.Write((&wire.QuorumPacket{Type: wire.PacketSnap, Zxid: 1}).Append(nil))
				w.Write(make([]byte, 2*chunkSize))
				return broken
			})
			if err != broken {
				t.Error(err)
			}
			learner.expect(t, "1 SNAP 0x1 broken", "1 down")
			if err, _ := leader.reason(down); !errors.Is(err, broken) {
				t.Error(err)
			}
			if err, _ := learner.reason(up); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
		})
	})
	t.Run("its caller hears when the link ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, learner, down, _ := connected(t, nil)
			learner.gate = make(chan struct{})
			down.SendMessage(proposal(1, 10))
			errs := make(chan error)
			for range 2 {
				go func() {
					errs <- down.Stream(func(w io.Writer) error {
						_, err := w.Write(make([]byte, 1<<20))
						return err
					})
				}()
			}
			synctest.Wait()
			down.Close(broken)
			for range 2 {
				if err := <-errs; err == nil {
					t.Error("no error")
				}
			}
			if err := down.Stream(nil); err != broken {
				t.Error(err)
			}
			close(learner.gate)
		})
	})
}

// A stream is as slow as its reader, and no slower than the time allows.
func TestStreamWaitsForItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader, learner, down, _ := connected(t, nil)
		learner.cfg.Snapshot = func(l *Link, _ wire.QuorumPacket, r *SnapshotReader) error {
			for range 16 { // 16 pieces of 64 KiB in 128 s
				time.Sleep(8 * time.Second)
				if _, err := io.CopyN(io.Discard, r, chunkSize); err != nil {
					return err
				}
			}
			return nil
		}
		begin := time.Now()
		err := down.Stream(func(w io.Writer) error {
			w.Write((&wire.QuorumPacket{Type: wire.PacketSnap, Zxid: 1}).Append(nil))
			for range 16 {
				if _, err := w.Write(make([]byte, chunkSize)); err != nil {
					return err
				}
			}
			return nil
		})
		if d := time.Since(begin); err != nil || d < time.Minute {
			t.Errorf("%v after %v", err, d)
		}
		down.SendMessage(proposal(1, 10))
		learner.expect(t, "1 PROPOSAL 0x1")
		leader.expect(t)
	})
}

func TestDialTriesAgainUntilThePortIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		n.setDead("dead:2888", true)
		leader, learner := newPort(n.host("h1"), "h1:2888", nil), newPort(n.host("h2"), "h2:2888", nil)
		leader.start(t)
		learner.start(t)
		go func() {
			time.Sleep(3 * time.Second)
			leader.Open()
		}()
		begin := time.Now()
		if err := learner.Dial(t.Context(), member(1, "dead", "h1")); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d < 3*time.Second || d > 3200*time.Millisecond {
			t.Errorf("connected after %v", d)
		}
		if c := n.count("h2", "h1:2888"); c < 30 || c > 61 {
			t.Errorf("%d attempts in 3 s", c)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := learner.Dial(ctx, member(3, "nowhere"))
		if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "server 3") {
			t.Error(err)
		}
		if err := learner.Dial(ctx, member(3)); err == nil {
			t.Error("no address, no error")
		}
	})
}

func TestCloseEndsThePortButNoLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader, _, down, up := connected(t, nil)
		n := leader.cfg.Net.(pipeHost).pipeNet
		mute := rawPeer(t, n, "h3", "h1:2888", nil)
		leader.Close()
		synctest.Wait()
		if _, err := mute.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
		if _, err := n.host("h3").Dial(t.Context(), "h1:2888"); err == nil {
			t.Error("the port is open")
		}
		up.SendMessage(&zab.Message{Type: zab.MsgAck, Zxid: 7})
		leader.expect(t, fmt.Sprintf("%d ACK 0x7", down.ID()))
		if s := leader.Status(); len(s.Listen) != 0 || len(s.Links) != 1 || s.Faulty != 0 {
			t.Errorf("%+v", s)
		}
		leader.Open()
		synctest.Wait()
		rawPeer(t, n, "h3", "h1:2888", nil).Close()
	})
}

func TestPortMovesAndLinksStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader, _, down, up := connected(t, nil)
		n := leader.cfg.Net.(pipeHost).pipeNet
		leader.SetListen("h1:2889")
		synctest.Wait()
		if _, err := n.host("h3").Dial(t.Context(), "h1:2888"); err == nil {
			t.Error("the old port is open")
		}
		rawPeer(t, n, "h3", "h1:2889", nil).Close()
		up.SendMessage(&zab.Message{Type: zab.MsgAck, Zxid: 7})
		leader.expect(t, fmt.Sprintf("%d ACK 0x7", down.ID()))
		// While it is closed nothing opens.
		leader.Close()
		leader.SetListen("h1:2888")
		synctest.Wait()
		if _, err := n.host("h3").Dial(t.Context(), "h1:2888"); err == nil {
			t.Error("open although it was closed")
		}
		leader.Open()
		synctest.Wait()
		rawPeer(t, n, "h3", "h1:2888", nil).Close()
	})
}

func TestEndOfRunEndsLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader, learner, down, up := connected(t, nil)
		leader.stop()
		<-leader.done
		if err, ok := leader.reason(down); !ok || !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
		synctest.Wait()
		if err, ok := learner.reason(up); !ok || !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if err := leader.Dial(t.Context(), member(2, "h2")); err == nil {
			t.Error("dialled after the end")
		}
		leader.Open()
		if s := leader.Status(); len(s.Listen) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestLearnersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader, _, down, _ := connected(t, func(c *QuorumConfig) { c.MaxLinks = 1 })
		conn := rawPeer(t, leader.cfg.Net.(pipeHost).pipeNet, "h3", "h1:2888", nil)
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
		synctest.Wait()
		if s := leader.Status(); len(s.Faults) != 1 || s.Faults[0].Kind != ErrTooMany {
			t.Errorf("%+v", s.Faults)
		}
		down.Close(nil)
		synctest.Wait()
		conn = rawPeer(t, leader.cfg.Net.(pipeHost).pipeNet, "h3", "h1:2888", nil)
		m := zab.Message{Type: zab.MsgFollowerInfo, From: 3}
		conn.Write(wire.AppendMessage(nil, &m))
		synctest.Wait()
		if s := leader.Status(); len(s.Links) != 1 {
			t.Errorf("%+v", s)
		}
		conn.Close()
	})
}

// slowReader gives out what it has in pieces.
type slowReader struct {
	b    []byte
	size func() int
}

func (r *slowReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), max(1, r.size()))], r.b)
	r.b = r.b[n:]
	return n, nil
}

// readAll reads packets as a link does, and says how large the buffer has become.
func readAll(src io.Reader, limit int) (all []wire.QuorumPacket, largest int, err error) {
	var in inbox
	for {
		need, err := in.next(limit)
		all = append(all, in.batch...)
		if err != nil {
			return all, largest, err
		}
		if len(in.batch) > 0 {
			continue
		}
		if err := in.fill(src, need); err != nil {
			return all, largest, err
		}
		largest = max(largest, len(in.buf))
	}
}

func TestPacketsComeInPieces(t *testing.T) {
	var sent []wire.QuorumPacket
	var stream []byte
	for i := range 300 {
		p := wire.QuorumPacket{Type: wire.PacketAck, Zxid: zab.Zxid(i)}
		switch i % 4 {
		case 1:
			p.Type, p.Data = wire.PacketProposal, bytes.Repeat([]byte{byte(i)}, i*i)
		case 2:
			p.Type, p.Data = wire.PacketPing, []byte{}
		case 3:
			p.Type, p.Data, p.Auth = wire.PacketRequest, []byte("x"), []wire.ID{{Scheme: "ip", ID: "::1"}, {Scheme: "super"}}
		}
		sent = append(sent, p)
		stream = p.Append(stream)
	}
	for name, size := range map[string]func() int{
		"bytes": func() int { return 1 },
		"mixed": func() int { return rand.IntN(100_000) },
		"whole": func() int { return len(stream) },
	} {
		got, largest, err := readAll(&slowReader{stream, size}, 1<<20)
		if err != io.EOF || !reflect.DeepEqual(got, sent) {
			t.Errorf("%s: %d packets of %d, %v", name, len(got), len(sent), err)
		}
		if largest > 128<<10 {
			t.Errorf("%s: buffer of %d bytes", name, largest)
		}
	}
}

// A length is only a promise.
func TestBufferGrowsWithWhatHasComeOnly(t *testing.T) {
	head := wire.AppendPacketHead(nil, wire.PacketProposal, 1, 1<<30)
	for _, have := range []int{0, 1000, 100_000, 1_000_000} {
		_, largest, err := readAll(bytes.NewReader(append(head, make([]byte, have)...)), 1<<30)
		if err != io.EOF || largest > max(readBuffer, 2*(have+len(head))) {
			t.Errorf("buffer of %d bytes for %d, %v", largest, have, err)
		}
	}
	// It shrinks again, but not between large packets.
	var in inbox
	large := wire.QuorumPacket{Type: wire.PacketProposal, Data: make([]byte, 1<<20)}
	ack := wire.QuorumPacket{Type: wire.PacketAck}
	take := func(p wire.QuorumPacket) {
		for b := p.Append(nil); len(b) > 0 || len(in.batch) == 0; {
			need, err := in.next(1 << 20)
			if err != nil {
				t.Fatal(err)
			}
			if len(in.batch) == 0 {
				src := bytes.NewReader(b)
				in.fill(src, need)
				b = b[len(b)-src.Len():]
			}
		}
		in.next(1 << 20)
	}
	take(large)
	take(ack)
	if len(in.buf) < 1<<20 {
		t.Errorf("buffer of %d bytes after a large packet", len(in.buf))
	}
	for range 2 * keepLarge {
		take(ack)
	}
	if len(in.buf) != readBuffer {
		t.Errorf("buffer of %d bytes is kept", len(in.buf))
	}
}

// FuzzPacketStream cuts a stream at any places: the packets are the same.
func FuzzPacketStream(f *testing.F) {
	p := wire.QuorumPacket{Type: wire.PacketRequest, Data: []byte("data"), Auth: []wire.ID{{Scheme: "ip", ID: "::1"}}}
	ping := wire.QuorumPacket{Type: wire.PacketPing, Data: []byte{}}
	f.Add(ping.Append(p.Append(nil)), uint64(1))
	f.Add([]byte("garbage"), uint64(2))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		const limit = 1 << 16
		whole, _, _ := readAll(bytes.NewReader(stream), limit)
		rng := rand.New(rand.NewPCG(seed, 0))
		pieces, largest, _ := readAll(&slowReader{stream, func() int { return rng.IntN(20) }}, limit)
		if !reflect.DeepEqual(whole, pieces) {
			t.Errorf("%d packets, in pieces %d", len(whole), len(pieces))
		}
		if largest > max(readBuffer, 2*len(stream)) {
			t.Errorf("buffer of %d bytes for %d", largest, len(stream))
		}
	})
}
