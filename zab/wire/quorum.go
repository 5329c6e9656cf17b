package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/paddockio/paddock/zab"
)

// A PacketType is the type of a QuorumPacket (class Leader). Those that the core
// knows have the number of their [zab.MessageType].
type PacketType int32

// The types. REQUEST, REVALIDATE and SYNC are between pipelines and never reach
// the core; the others are described at their zab.MessageType.
const (
	PacketRequest           PacketType = 1 // learner to leader: a client's write, see ForwardedRequest
	PacketProposal          PacketType = 2
	PacketAck               PacketType = 3
	PacketCommit            PacketType = 4
	PacketPing              PacketType = 5 // a learner's answer carries a Touch for each live session
	PacketRevalidate        PacketType = 6 // learner to leader: Touch; back: Revalidation
	PacketSync              PacketType = 7 // leader to learner: the answer to a forwarded sync
	PacketInform            PacketType = 8
	PacketCommitAndActivate PacketType = 9
	PacketNewLeader         PacketType = 10
	PacketFollowerInfo      PacketType = 11
	PacketUpToDate          PacketType = 12
	PacketDiff              PacketType = 13
	PacketTrunc             PacketType = 14
	PacketSnap              PacketType = 15 // the snapshot follows, without a frame
	PacketObserverInfo      PacketType = 16
	PacketLeaderInfo        PacketType = 17
	PacketAckEpoch          PacketType = 18
	PacketInformAndActivate PacketType = 19
)

var packetNames = [...]string{
	1: "REQUEST", "PROPOSAL", "ACK", "COMMIT", "PING", "REVALIDATE", "SYNC", "INFORM", "COMMITANDACTIVATE", "NEWLEADER",
	"FOLLOWERINFO", "UPTODATE", "DIFF", "TRUNC", "SNAP", "OBSERVERINFO", "LEADERINFO", "ACKEPOCH", "INFORMANDACTIVATE",
}

// Valid reports whether t is one of the types above.
func (t PacketType) Valid() bool { return t >= PacketRequest && t <= PacketInformAndActivate }

// String returns ZooKeeper's name of the type.
func (t PacketType) String() string {
	if t.Valid() {
		return packetNames[t]
	}
	return fmt.Sprintf("packet type %d", int32(t))
}

// QuorumAuthMagic begins the first packet of a server that wants to authenticate
// with SASL, on the quorum port and behind the header of the election port
// (class QuorumAuth).
const QuorumAuthMagic = 0x5f2435013501edcc

// QuorumProtocol is the version that FOLLOWERINFO, OBSERVERINFO and LEADERINFO
// carry since Zab 1.0. Peers below it (ZooKeeper 3.3) are not supported.
const QuorumProtocol = 0x10000

// ErrPacket says that a peer sent bytes that are no packet, or a packet whose
// fields cannot be meant.
var ErrPacket = errors.New("bad quorum packet")

// A QuorumPacket is everything on the quorum port besides snapshots. There is no
// frame around it: packets follow each other.
type QuorumPacket struct {
	Type PacketType
	Zxid zab.Zxid
	Data []byte // nil is null, which is not the same as empty
	Auth []ID   // REQUEST: the identities of the client; nil is null
}

// QuorumPacketSize returns the size of the packet that begins at b if it is whole,
// which is so if the size is not above len(b). Otherwise the result is a length,
// more than len(b) and not more than the packet's: before so many bytes have come
// nothing new can be said. limit bounds the data, and the identities together. An
// error wraps ErrPacket: no bytes can make a packet of this.
func QuorumPacketSize(b []byte, limit int) (int, error) {
	if len(b) < 4 {
		return 4, nil
	}
	if t := PacketType(binary.BigEndian.Uint32(b)); !t.Valid() {
		return 0, fmt.Errorf("%v: %w", t, ErrPacket)
	}
	if len(b) < 16 {
		return 16, nil
	}
	at := 16
	n := int(int32(binary.BigEndian.Uint32(b[12:])))
	if n < -1 || n > limit {
		return 0, fmt.Errorf("%v with data of %d bytes: %w", PacketType(binary.BigEndian.Uint32(b)), n, ErrPacket)
	}
	at += max(n, 0)
	if len(b) < at+4 {
		return at + 4, nil
	}
	ids := int(int32(binary.BigEndian.Uint32(b[at:])))
	at += 4
	// Strings that are not here yet have 4 bytes at least, which the size counts, so
	// that a list that comes byte by byte is not walked for each of them.
	for start, left := at, 2*ids; left > 0; left-- {
		if at-start+4*left > limit {
			return 0, fmt.Errorf("%v with %d identities: %w", PacketType(binary.BigEndian.Uint32(b)), ids, ErrPacket)
		}
		if len(b) < at+4 {
			return at + 4*left, nil
		}
		n := int(int32(binary.BigEndian.Uint32(b[at:])))
		if n < -1 || n > limit {
			return 0, fmt.Errorf("identity of %d bytes: %w", n, ErrPacket)
		}
		at += 4 + max(n, 0)
		if len(b) < at {
			return at + 4*(left-1), nil
		}
	}
	return at, nil
}

// Append implements Record.
func (p *QuorumPacket) Append(b []byte) []byte {
	b = AppendBuffer(AppendLong(AppendInt(b, int32(p.Type)), int64(p.Zxid)), p.Data)
	return appendIdentities(b, p.Auth)
}

func appendIdentities(b []byte, ids []ID) []byte {
	if ids == nil {
		return AppendInt(b, -1)
	}
	b = AppendInt(b, int32(len(ids)))
	for _, id := range ids {
		b = AppendString(AppendString(b, id.Scheme), id.ID)
	}
	return b
}

// AppendPacketHead appends what precedes size bytes of data in a packet; size -1 is
// null. Behind the data comes the list of identities, of which AppendInt(b, -1) is
// null.
func AppendPacketHead(b []byte, t PacketType, z zab.Zxid, size int) []byte {
	return AppendInt(AppendLong(AppendInt(b, int32(t)), int64(z)), int32(size))
}

// Decode implements Record. Only Data aliases the input.
func (p *QuorumPacket) Decode(d *Decoder) {
	p.Type, p.Zxid, p.Data, p.Auth = PacketType(d.Int()), zab.Zxid(d.Long()), d.Buffer(), nil
	if n, null := d.Count(8); !null && d.Err() == nil {
		p.Auth = make([]ID, n)
	}
	for i := range p.Auth {
		p.Auth[i] = ID{d.NullString(), d.NullString()}
	}
	if !p.Type.Valid() {
		d.Fail(fmt.Errorf("%v: %w", p.Type, ErrPacket))
	}
}

// bad returns an error about the data of p.
func (p *QuorumPacket) bad(what string) error {
	return fmt.Errorf("%v %v: %s in %d bytes of data: %w", p.Type, p.Zxid, what, len(p.Data), ErrPacket)
}

// LearnerInfo is the data of FOLLOWERINFO and OBSERVERINFO.
type LearnerInfo struct {
	Server   zab.ServerID
	Protocol int32 // QuorumProtocol; 1 if the peer sends none
	Config   int64 // version of the ensemble in force at the learner; 0 if the peer sends none
}

// learnerInfoSize is the size of a LearnerInfo of our time.
const learnerInfoSize = 8 + 4 + 8

// Append implements Record.
func (r *LearnerInfo) Append(b []byte) []byte {
	return AppendLong(AppendInt(AppendLong(b, int64(r.Server)), r.Protocol), r.Config)
}

// Decode implements Record. As Apache does, it accepts the id alone and the id
// with the protocol.
func (r *LearnerInfo) Decode(d *Decoder) {
	*r = LearnerInfo{Server: zab.ServerID(d.Long()), Protocol: 1}
	if d.Len() >= 4 {
		r.Protocol = d.Int()
	}
	if d.Len() >= 8 {
		r.Config = d.Long()
	}
}

// A Touch says that a session is alive, at the learner that its client is
// connected to. PING answers carry a list of them; REVALIDATE of a learner is one,
// of a session that a client wants to go on with there.
type Touch struct {
	Session   zab.SessionID
	TimeoutMs int32
}

// touchSize is the size of a Touch.
const touchSize = 8 + 4

// Append implements Record.
func (t *Touch) Append(b []byte) []byte {
	return AppendInt(AppendLong(b, int64(t.Session)), t.TimeoutMs)
}

// Decode implements Record.
func (t *Touch) Decode(d *Decoder) { t.Session, t.TimeoutMs = zab.SessionID(d.Long()), d.Int() }

// DecodeTouches appends the list that a learner's PING carries to ts.
func DecodeTouches(ts []Touch, p *QuorumPacket) ([]Touch, error) {
	if len(p.Data)%touchSize != 0 {
		return ts, p.bad("no list of sessions")
	}
	for d := NewDecoder(p.Data); d.Len() > 0; {
		var t Touch
		t.Decode(&d)
		ts = append(ts, t)
	}
	return ts, nil
}

// A Revalidation is the leader's answer to REVALIDATE.
type Revalidation struct {
	Session zab.SessionID
	Valid   bool
}

// Append implements Record.
func (r *Revalidation) Append(b []byte) []byte {
	return AppendBool(AppendLong(b, int64(r.Session)), r.Valid)
}

// Decode implements Record.
func (r *Revalidation) Decode(d *Decoder) { r.Session, r.Valid = zab.SessionID(d.Long()), d.Bool() }

// A ForwardedRequest is a write, or a sync, that a client sent to a learner. The
// leader trusts the identities.
type ForwardedRequest struct {
	Session zab.SessionID
	Cxid    int32
	Op      Op
	Body    []byte // the record behind the client's request header
	Auth    []ID   // nil, which is sent as null, for requests that the learner made itself
}

// AppendPacket appends the REQUEST packet.
func (r *ForwardedRequest) AppendPacket(b []byte) []byte {
	b = AppendPacketHead(b, PacketRequest, -1, 8+4+4+len(r.Body))
	b = AppendInt(AppendInt(AppendLong(b, int64(r.Session)), r.Cxid), int32(r.Op))
	return appendIdentities(append(b, r.Body...), r.Auth)
}

// DecodePacket reads a REQUEST packet. Body and Auth are those of p.
func (r *ForwardedRequest) DecodePacket(p *QuorumPacket) error {
	d := NewDecoder(p.Data)
	*r = ForwardedRequest{zab.SessionID(d.Long()), d.Int(), Op(d.Int()), d.Rest(), p.Auth}
	if d.Err() != nil {
		return p.bad("no request")
	}
	return nil
}

// AppendRevalidate appends the REVALIDATE packet of a learner.
func AppendRevalidate(b []byte, t Touch) []byte {
	b = AppendPacketHead(b, PacketRevalidate, -1, touchSize)
	return AppendInt(t.Append(b), -1)
}

// AppendRevalidation appends the REVALIDATE packet of a leader.
func AppendRevalidation(b []byte, r Revalidation) []byte {
	b = AppendPacketHead(b, PacketRevalidate, -1, 8+1)
	return AppendInt(r.Append(b), -1)
}

// AppendMessage appends the packet of a message to a peer; m.Type is one of those
// that have the number of a packet, anything else is a mistake of the caller. The
// data of a PING is m.Data: nil for a leader's, a list of touches, not nil, for a
// learner's answer.
func AppendMessage(b []byte, m *zab.Message) []byte {
	t := PacketType(m.Type)
	switch m.Type {
	case zab.MsgProposal, zab.MsgInform:
		b = AppendPacketHead(b, t, m.Proposal.Zxid, len(m.Proposal.Data))
		b = append(b, m.Proposal.Data...)
	case zab.MsgAck, zab.MsgCommit, zab.MsgDiff, zab.MsgTrunc, zab.MsgSnap:
		b = AppendPacketHead(b, t, m.Zxid, -1)
	case zab.MsgUpToDate:
		b = AppendPacketHead(b, t, -1, -1)
	case zab.MsgPing, zab.MsgNewLeader:
		b = AppendBuffer(AppendLong(AppendInt(b, int32(t)), int64(m.Zxid)), m.Data)
	case zab.MsgCommitAndActivate:
		b = AppendLong(AppendPacketHead(b, t, m.Zxid, 8), int64(m.Leader))
	case zab.MsgInformAndActivate:
		b = AppendLong(AppendPacketHead(b, t, m.Proposal.Zxid, 8+len(m.Proposal.Data)), int64(m.Leader))
		b = append(b, m.Proposal.Data...)
	case zab.MsgFollowerInfo, zab.MsgObserverInfo:
		info := LearnerInfo{m.From, QuorumProtocol, m.Version}
		b = info.Append(AppendPacketHead(b, t, m.Zxid, learnerInfoSize))
	case zab.MsgLeaderInfo:
		b = AppendInt(AppendPacketHead(b, t, m.Zxid, 4), QuorumProtocol)
	case zab.MsgAckEpoch:
		epoch := int32(-1)
		if m.HasEpoch {
			epoch = int32(m.Epoch)
		}
		b = AppendInt(AppendPacketHead(b, t, m.Zxid, 4), epoch)
	default:
		panic(fmt.Sprintf("message of type %d has no packet", m.Type))
	}
	return AppendInt(b, -1)
}

// Message returns the packet as the core takes it, without Link. From is set in
// FOLLOWERINFO and OBSERVERINFO only; Ensemble of a proposal is for the caller to
// add, see [ReconfigText]. An error wraps ErrPacket: the peer sent what cannot be
// meant, or REQUEST, REVALIDATE or SYNC, which are not for the core.
func (p *QuorumPacket) Message() (zab.Message, error) {
	m := zab.Message{Type: zab.MessageType(p.Type), Zxid: p.Zxid}
	d := NewDecoder(p.Data)
	switch p.Type {
	case PacketAck, PacketCommit, PacketDiff, PacketTrunc, PacketSnap:
	case PacketUpToDate:
		m.Zxid = 0
	case PacketPing, PacketNewLeader:
		m.Data = p.Data
	case PacketInformAndActivate, PacketCommitAndActivate:
		if m.Leader = zab.ServerID(d.Long()); d.Err() != nil {
			return m, p.bad("no leader")
		}
		if p.Type == PacketCommitAndActivate {
			break
		}
		fallthrough
	case PacketProposal, PacketInform:
		m.Zxid, m.Proposal = 0, zab.Proposal{Zxid: p.Zxid, Data: d.Rest()}
		var h TxnHeader
		if h.Decode(&d); d.Err() != nil || h.Zxid != p.Zxid {
			return m, p.bad("no transaction of this zxid")
		}
	case PacketFollowerInfo, PacketObserverInfo:
		var info LearnerInfo
		info.Decode(&d)
		switch {
		case d.Err() != nil:
			return m, p.bad("no server id")
		case info.Server < 0:
			return m, fmt.Errorf("%v of server %d: %w", p.Type, info.Server, ErrPacket)
		case info.Protocol < QuorumProtocol:
			return m, fmt.Errorf("%v of server %d with protocol %#x, before Zab 1.0: %w", p.Type, info.Server, info.Protocol, ErrPacket)
		}
		m.From, m.Version = info.Server, info.Config
	case PacketLeaderInfo:
		if v := d.Int(); d.Err() != nil || v < QuorumProtocol {
			return m, p.bad("no protocol of Zab 1.0")
		}
	case PacketAckEpoch:
		switch epoch := d.Int(); {
		case d.Err() != nil || epoch < -1:
			return m, p.bad("no epoch")
		case epoch >= 0:
			m.Epoch, m.HasEpoch = zab.Epoch(epoch), true
		}
	default:
		return m, fmt.Errorf("%v at the core: %w", p.Type, ErrPacket)
	}
	return m, nil
}

// ReconfigText returns the list of servers in a transaction, as PROPOSAL and
// INFORM carry it, if the transaction is a reconfiguration; ok is false if it is
// another. The text aliases txn.
func ReconfigText(txn []byte) (text []byte, ok bool, err error) {
	d := NewAliasDecoder(txn)
	var h TxnHeader
	if h.Decode(&d); d.Err() != nil || h.Type != OpReconfig {
		return nil, false, d.Err()
	}
	var t SetDataTxn
	t.Decode(&d)
	return t.Data, true, d.Err()
}
