//go:build interop

package wire_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client/apachetest"
	"github.com/paddockio/paddock/zab/wire"
)

// A learner records what it and its leader say.
type learner struct {
	t    *testing.T
	nc   net.Conn
	kind string // F> or O>
	buf  []byte
	out  *bytes.Buffer
}

func (l *learner) send(packet []byte) {
	l.t.Helper()
	var p wire.QuorumPacket
	if err := wire.Unmarshal(packet, &p); err != nil {
		l.t.Fatal(err)
	}
	fmt.Fprintf(l.out, "%s %x %v\n", l.kind, packet, p.Type)
	if _, err := l.nc.Write(packet); err != nil {
		l.t.Fatalf("%v: %v", p.Type, err)
	}
}

func (l *learner) message(m zab.Message) { l.t.Helper(); l.send(wire.AppendMessage(nil, &m)) }

func (l *learner) fill() {
	l.t.Helper()
	b := make([]byte, 64<<10)
	n, err := l.nc.Read(b)
	if l.buf = append(l.buf, b[:n]...); err != nil {
		l.t.Fatalf("%v\n%s", err, l.out)
	}
}

// receive takes packets in until one of this type has come.
func (l *learner) receive(want wire.PacketType) *wire.QuorumPacket {
	l.t.Helper()
	for {
		n, err := wire.QuorumPacketSize(l.buf, wire.MaxBuffer)
		if err != nil {
			l.t.Fatalf("%v\n%s", err, l.out)
		}
		if n > len(l.buf) {
			l.fill()
			continue
		}
		p := &wire.QuorumPacket{}
		if err := wire.Unmarshal(l.buf[:n], p); err != nil {
			l.t.Fatal(err)
		}
		fmt.Fprintf(l.out, "M> %x %v\n", l.buf[:n], p.Type)
		l.buf = l.buf[n:]
		if p.Type == wire.PacketPing && want != wire.PacketPing {
			l.message(zab.Message{Type: zab.MsgPing, Zxid: p.Zxid, Data: []byte{}})
		}
		if p.Type == wire.PacketSnap {
			mark := []byte("\x00\x00\x00\x0aBenWasHere")
			for !bytes.Contains(l.buf, mark) {
				l.fill()
			}
			_, l.buf, _ = bytes.Cut(l.buf, mark)
		}
		if p.Type == want {
			return p
		}
	}
}

// join makes a learner of a server that is in no list.
func join(t *testing.T, out *bytes.Buffer, addr string, id zab.ServerID, kind zab.MessageType) *learner {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	l := &learner{t: t, nc: nc, kind: "F>", out: out}
	if kind == zab.MsgObserverInfo {
		l.kind = "O>"
	}
	fmt.Fprintf(out, "\n# server %d joins\n", id)
	l.message(zab.Message{Type: kind, From: id})
	info := l.receive(wire.PacketLeaderInfo)
	l.message(zab.Message{Type: zab.MsgAckEpoch, HasEpoch: true})
	l.receive(wire.PacketNewLeader)
	l.message(zab.Message{Type: zab.MsgAck, Zxid: info.Zxid})
	l.receive(wire.PacketUpToDate)
	l.message(zab.Message{Type: zab.MsgAck, Zxid: info.Zxid})
	return l
}

// TestCaptureEnsemble records what servers of an ensemble of Apache say to one
// that this test plays. With -update it writes testdata/quorum_apache.txt and
// testdata/election_apache.txt.
func TestCaptureEnsemble(t *testing.T) {
	servers := apachetest.StartEnsemble(t, 27000, 3)
	leader := 0
	for i, s := range servers {
		if strings.Contains(s.Ask("srvr"), "Mode: leader") {
			leader = i + 1
		}
	}
	about := "# from release " + apachetest.Version + ".\n# Made by: go test -tags interop -run TestCaptureEnsemble ./zab/wire -update\n"

	// The election port: the answer to a server that is in no list is the vote.
	election := new(bytes.Buffer)
	fmt.Fprintf(election, "# What servers say on the election port, %s", strings.TrimPrefix(about, "# "))
	for i := 1; i <= 3; i++ {
		nc, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", 27020+i))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(10 * time.Second))
		m := wire.InitialMessage{Server: 9, Addrs: []string{"127.0.0.1:27099"}}
		frame := wire.AppendNotification(make([]byte, 4), &zab.Notification{Vote: zab.Vote{Leader: 9}, Round: 1})
		binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
		if _, err := nc.Write(append(m.Append(nil), frame...)); err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 4)
		if _, err := io.ReadFull(nc, head); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, binary.BigEndian.Uint32(head))
		if _, err := io.ReadFull(nc, b); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(election, "notification %x\n", b)
		n, err := wire.DecodeNotification(b)
		if err != nil || n.Vote.Leader != zab.ServerID(leader) || n.State == zab.Looking {
			t.Errorf("server %d, leader %d: %+v, %v", i, leader, n, err)
		}
	}
	// A server with a smaller id is dialled back.
	ln, err := net.Listen("tcp", "127.0.0.1:27098")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", "127.0.0.1:27021")
	if err != nil {
		t.Fatal(err)
	}
	m := wire.InitialMessage{Server: 0, Addrs: []string{"127.0.0.1:27098"}}
	nc.Write(m.Append(nil))
	nc.Close()
	ln.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	if nc, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 20+len("127.0.0.1:27021"))
	if _, err := io.ReadFull(nc, b); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	fmt.Fprintf(election, "initial %x\n", b)
	if err := wire.Unmarshal(b, &m); err != nil || m.Server != 1 {
		t.Errorf("%+v, %v", m, err)
	}

	// The quorum port.
	out := new(bytes.Buffer)
	fmt.Fprintf(out, "# What a leader (M>), a follower (F>) and an observer (O>) say on the quorum port, without snapshots,\n%s", about)
	addr := fmt.Sprintf("127.0.0.1:%d", 27010+leader)
	f := join(t, out, addr, 9, zab.MsgFollowerInfo)
	ack := func() zab.Zxid {
		z := f.receive(wire.PacketProposal).Zxid
		f.message(zab.Message{Type: zab.MsgAck, Zxid: z})
		f.receive(wire.PacketCommit)
		return z
	}
	session := zab.SessionID(0x0900000000000001)
	request := func(op wire.Op, cxid int32, body []byte) {
		r := wire.ForwardedRequest{Session: session, Cxid: cxid, Op: op, Body: body}
		if cxid > 0 {
			r.Auth = []wire.ID{{Scheme: "ip", ID: "127.0.0.1"}}
		}
		f.send(r.AppendPacket(nil))
	}
	request(wire.OpCreateSession, 0, wire.AppendInt(nil, 10000))
	ack()
	create := wire.CreateRequest{Path: "/quorum", Data: []byte("data"), ACL: wire.OpenACL(), Mode: wire.Ephemeral, TTLMs: -1}
	request(wire.OpCreate, 1, create.Append(nil))
	last := ack()
	request(wire.OpCreate, 2, create.Append(nil)) // an error is a transaction, too
	ack()
	request(wire.OpSync, 3, wire.AppendString(nil, "/"))
	f.receive(wire.PacketSync)
	f.send(wire.AppendRevalidate(nil, wire.Touch{Session: session, TimeoutMs: 10000}))
	f.receive(wire.PacketRevalidate)
	f.send(wire.AppendRevalidate(nil, wire.Touch{Session: 77, TimeoutMs: 10000}))
	f.receive(wire.PacketRevalidate)
	ping := f.receive(wire.PacketPing)
	touch := wire.Touch{Session: session, TimeoutMs: 10000}
	f.message(zab.Message{Type: zab.MsgPing, Zxid: ping.Zxid, Data: touch.Append(nil)})
	f.nc.Close()

	o := join(t, out, addr, 8, zab.MsgObserverInfo)
	r := wire.ForwardedRequest{Session: session, Cxid: 4, Op: wire.OpDelete, Body: (&wire.PathVersion{Path: "/quorum", Version: -1}).Append(nil), Auth: []wire.ID{}}
	o.send(r.AppendPacket(nil))
	if p := o.receive(wire.PacketInform); p.Zxid <= last {
		t.Errorf("INFORM of %v", p.Zxid)
	}
	if *update {
		for file, b := range map[string]*bytes.Buffer{"quorum": out, "election": election} {
			if err := os.WriteFile("testdata/"+file+"_apache.txt", b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
