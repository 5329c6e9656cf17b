package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
)

// quorumFiles are recordings: quorum.txt has the examples of the reference, the
// other is made by TestCaptureEnsemble.
var quorumFiles = []string{"testdata/quorum.txt", "testdata/quorum_apache.txt"}

// A quorumLine is one line of a recording of the quorum port.
type quorumLine struct {
	fromLeader bool
	name       string
	bytes      []byte
}

// readQuorumLines reads a recording; lines that begin with # are comments.
func readQuorumLines(t testing.TB, file string) (lines []quorumLine) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		packet, err := hex.DecodeString(strings.Join(f[1:len(f)-1], ""))
		if err != nil {
			t.Fatalf("%s: %s: %v", file, line, err)
		}
		lines = append(lines, quorumLine{f[0] == "M>", f[len(f)-1], packet})
	}
	return lines
}

// TestQuorumPacketsAreApaches decodes what Apache's servers said to each other
// and encodes it again by every way there is.
func TestQuorumPacketsAreApaches(t *testing.T) {
	for _, file := range quorumFiles {
		for _, l := range readQuorumLines(t, file) {
			p := &QuorumPacket{}
			recode(t, l.name, l.bytes, p)
			if p.Type.String() != l.name {
				t.Errorf("%s reads as %v", l.name, p.Type)
			}
			if n, err := QuorumPacketSize(append(l.bytes, "more"...), MaxBuffer); n != len(l.bytes) || err != nil {
				t.Errorf("%s: size %d, %v, want %d", l.name, n, err, len(l.bytes))
			}
			checkMeaning(t, l, p)
		}
	}
}

// checkMeaning takes p apart as a pipeline or the core would.
func checkMeaning(t *testing.T, l quorumLine, p *QuorumPacket) {
	t.Helper()
	var again []byte
	switch {
	case p.Type == PacketRequest:
		var r ForwardedRequest
		if err := r.DecodePacket(p); err != nil {
			t.Error(err)
		}
		again = r.AppendPacket(nil)
	case p.Type == PacketRevalidate && l.fromLeader:
		var r Revalidation
		if err := Unmarshal(p.Data, &r); err != nil {
			t.Error(err)
		}
		again = AppendRevalidation(nil, r)
	case p.Type == PacketRevalidate:
		var r Touch
		if err := Unmarshal(p.Data, &r); err != nil {
			t.Error(err)
		}
		again = AppendRevalidate(nil, r)
	case p.Type == PacketSync:
		again = p.Append(nil)
	default:
		if p.Type == PacketPing {
			if _, err := DecodeTouches(nil, p); err != nil {
				t.Error(err)
			}
		}
		m, err := p.Message()
		if err != nil {
			t.Errorf("%s: %v", l.name, err)
			return
		}
		again = AppendMessage(nil, &m)
	}
	if !bytes.Equal(again, l.bytes) {
		t.Errorf("%s:\n got %x\nwant %x", l.name, again, l.bytes)
	}
}

func TestEveryMessageComesBack(t *testing.T) {
	z := zab.NewZxid(3, 9)
	txn := (&Txn{Header: TxnHeader{Zxid: z, Type: OpDelete}, Body: &PathRecord{"/a"}}).Append(nil)
	p := zab.Proposal{Zxid: z, Data: txn}
	for _, m := range []zab.Message{
		{Type: zab.MsgProposal, Proposal: p},
		{Type: zab.MsgAck, Zxid: z},
		{Type: zab.MsgCommit, Zxid: z},
		{Type: zab.MsgPing, Zxid: z},
		{Type: zab.MsgPing, Zxid: z, Data: []byte{}},
		{Type: zab.MsgInform, Proposal: p},
		{Type: zab.MsgCommitAndActivate, Zxid: z, Leader: 7},
		{Type: zab.MsgNewLeader, Zxid: z, Data: []byte("version=0")},
		{Type: zab.MsgFollowerInfo, Zxid: z, From: 5, Version: 0x100000004},
		{Type: zab.MsgUpToDate},
		{Type: zab.MsgDiff, Zxid: z},
		{Type: zab.MsgTrunc, Zxid: z},
		{Type: zab.MsgSnap, Zxid: z},
		{Type: zab.MsgObserverInfo, Zxid: z, From: 5},
		{Type: zab.MsgLeaderInfo, Zxid: z},
		{Type: zab.MsgAckEpoch, Zxid: z, Epoch: 3, HasEpoch: true},
		{Type: zab.MsgAckEpoch, Zxid: z},
		{Type: zab.MsgInformAndActivate, Leader: 7, Proposal: p},
	} {
		var packet QuorumPacket
		b := AppendMessage(nil, &m)
		if err := Unmarshal(b, &packet); err != nil {
			t.Errorf("%+v: %v", m, err)
			continue
		}
		if got, err := packet.Message(); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v, %v\nwant %+v\nfrom %x", got, err, m, b)
		}
	}
}

func TestPacketsThatCannotBeMeant(t *testing.T) {
	header := func(z zab.Zxid) []byte { return (&TxnHeader{Zxid: z, Type: OpFailed}).Append(nil) }
	for name, p := range map[string]QuorumPacket{
		"REQUEST at the core":           {Type: PacketRequest},
		"PROPOSAL without a header":     {Type: PacketProposal, Zxid: 1, Data: make([]byte, 31)},
		"PROPOSAL of another zxid":      {Type: PacketProposal, Zxid: 1, Data: header(2)},
		"PROPOSAL of null":              {Type: PacketProposal, Zxid: 1},
		"INFORMANDACTIVATE, too short":  {Type: PacketInformAndActivate, Zxid: 1, Data: header(1)},
		"COMMITANDACTIVATE of null":     {Type: PacketCommitAndActivate},
		"FOLLOWERINFO without an id":    {Type: PacketFollowerInfo},
		"FOLLOWERINFO with a bit of it": {Type: PacketFollowerInfo, Data: make([]byte, 7)},
		"FOLLOWERINFO, protocol 1":      {Type: PacketFollowerInfo, Data: AppendLong(nil, 3)},
		"OBSERVERINFO, negative id":     {Type: PacketObserverInfo, Data: (&LearnerInfo{-1, QuorumProtocol, 0}).Append(nil)},
		"LEADERINFO of null":            {Type: PacketLeaderInfo},
		"LEADERINFO, protocol 1":        {Type: PacketLeaderInfo, Data: AppendInt(nil, 1)},
		"ACKEPOCH of null":              {Type: PacketAckEpoch},
		"ACKEPOCH, impossible epoch":    {Type: PacketAckEpoch, Data: AppendInt(nil, -2)},
	} {
		if m, err := p.Message(); !errors.Is(err, ErrPacket) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	ping := &QuorumPacket{Type: PacketPing, Data: make([]byte, 13)}
	if _, err := DecodeTouches(nil, ping); !errors.Is(err, ErrPacket) {
		t.Errorf("13 bytes of sessions: %v", err)
	}
	var r ForwardedRequest
	if err := r.DecodePacket(&QuorumPacket{Type: PacketRequest, Data: make([]byte, 15)}); !errors.Is(err, ErrPacket) {
		t.Errorf("REQUEST of 15 bytes: %v", err)
	}
}

// TestPacketSizeIsKnownAsSoonAsItCanBe feeds packets byte by byte.
func TestPacketSizeIsKnownAsSoonAsItCanBe(t *testing.T) {
	for _, l := range readQuorumLines(t, "testdata/quorum.txt") {
		asked := 0
		for need := 0; ; asked++ {
			n, err := QuorumPacketSize(l.bytes[:need], 100)
			if err != nil || n > len(l.bytes) {
				t.Fatalf("%s: %d bytes: size %d, %v, want at most %d", l.name, need, n, err, len(l.bytes))
			}
			if n <= need {
				break
			}
			need = n
		}
		if asked > 6 {
			t.Errorf("%s: asked %d times", l.name, asked)
		}
	}
	for name, b := range map[string][]byte{
		"type 0":               {0, 0, 0, 0},
		"type 20":              {0, 0, 0, 20},
		"TLS":                  {0x16, 3, 1, 2},
		"HTTP":                 []byte("GET "),
		"data too long":        AppendPacketHead(nil, PacketProposal, 1, 101),
		"data of -2 bytes":     AppendPacketHead(nil, PacketProposal, 1, -2),
		"too many identities":  AppendInt(AppendPacketHead(nil, PacketRequest, -1, -1), 13),
		"identity too long":    AppendInt(AppendInt(AppendPacketHead(nil, PacketRequest, -1, -1), 1), 101),
		"identity of -2 bytes": AppendInt(AppendInt(AppendPacketHead(nil, PacketRequest, -1, -1), 1), -2),
		"identities too long together": append(AppendInt(AppendInt(AppendPacketHead(nil, PacketRequest, -1, -1), 1), 93),
			make([]byte, 93)...),
	} {
		if n, err := QuorumPacketSize(b, 100); !errors.Is(err, ErrPacket) {
			t.Errorf("%s: size %d, %v", name, n, err)
		}
	}
}

func TestReconfigurationIsFoundInATransaction(t *testing.T) {
	txn := &Txn{Header: TxnHeader{Zxid: 4, Type: OpReconfig}, Body: &SetDataTxn{"/zookeeper/config", []byte("version=4"), -1}}
	b := txn.Append(nil)
	if text, ok, err := ReconfigText(b); string(text) != "version=4" || !ok || err != nil {
		t.Errorf("%q, %v, %v", text, ok, err)
	}
	if _, ok, err := ReconfigText(b[:40]); !ok || err == nil {
		t.Errorf("cut: %v, %v", ok, err)
	}
	txn.Header.Type = OpSetData
	if _, ok, err := ReconfigText(txn.Append(nil)); ok || err != nil {
		t.Errorf("setData: %v, %v", ok, err)
	}
}

func FuzzQuorumPacket(f *testing.F) {
	for _, file := range quorumFiles {
		for _, l := range readQuorumLines(f, file) {
			f.Add(l.bytes)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkStable(t, b, func() Record { return &QuorumPacket{} })
		const limit = 1 << 10
		for need := 0; ; {
			n, err := QuorumPacketSize(b[:need], limit)
			if err != nil || n > len(b) {
				return
			}
			if n > need {
				need = n
				continue
			}
			var p QuorumPacket
			d := NewDecoder(b)
			if p.Decode(&d); d.Err() != nil || d.Offset() != n {
				t.Fatalf("size %d, decoded %d: %v", n, d.Offset(), d.Err())
			}
			if len(p.Data) > limit {
				t.Errorf("%d bytes of data", len(p.Data))
			}
			checkStableMeaning(t, &p)
			return
		}
	})
}

// checkStableMeaning demands that what is understood of p is encoded so that it is
// understood again.
func checkStableMeaning(t *testing.T, p *QuorumPacket) {
	t.Helper()
	var again QuorumPacket
	if m, err := p.Message(); err == nil {
		if err := Unmarshal(AppendMessage(nil, &m), &again); err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if m2, err := again.Message(); err != nil || !reflect.DeepEqual(m, m2) {
			t.Errorf("%+v became %+v, %v", m, m2, err)
		}
	}
	var r ForwardedRequest
	if p.Type == PacketRequest && r.DecodePacket(p) == nil {
		if err := Unmarshal(r.AppendPacket(nil), &again); err != nil || !bytes.Equal(again.Data, p.Data) ||
			!reflect.DeepEqual(again.Auth, p.Auth) {
			t.Errorf("%+v became %+v, %v", p, again, err)
		}
	}
	if ts, err := DecodeTouches(nil, p); err == nil {
		var b []byte
		for i := range ts {
			b = ts[i].Append(b)
		}
		if !bytes.Equal(b, p.Data) {
			t.Errorf("%+v became %x", p, b)
		}
	}
	ReconfigText(p.Data)
}

func BenchmarkQuorumPacket(b *testing.B) {
	p := QuorumPacket{Type: PacketProposal, Zxid: 5, Data: make([]byte, 150)}
	in := p.Append(nil)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sink = p.Append(sink[:0])
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if n, err := QuorumPacketSize(in, MaxBuffer); n != len(in) || err != nil {
				b.Fatal(n, err)
			}
			d := NewDecoder(in)
			if p.Decode(&d); d.Err() != nil {
				b.Fatal(d.Err())
			}
		}
	})
}
