package wire

import "github.com/paddockio/paddock/zab"

// Xids with a fixed meaning between client and server.
const (
	XidNotification int32 = -1
	XidPing         int32 = -2
	XidAuth         int32 = -4
	XidSetWatches   int32 = -8
)

// ConnectRequest opens or takes up a session. It is the first frame of a client
// and has no request header.
type ConnectRequest struct {
	ProtocolVersion int32
	LastZxidSeen    zab.Zxid
	TimeoutMs       int32
	SessionID       zab.SessionID // 0: a new session
	Password        []byte
	ReadOnly        bool
	HasReadOnly     bool // the byte was there; old and some non-Java clients leave it out
}

// Append implements Record.
func (r *ConnectRequest) Append(b []byte) []byte {
	b = AppendInt(b, r.ProtocolVersion)
	b = AppendLong(b, int64(r.LastZxidSeen))
	b = AppendInt(b, r.TimeoutMs)
	b = AppendLong(b, int64(r.SessionID))
	b = AppendBuffer(b, r.Password)
	if r.HasReadOnly {
		b = AppendBool(b, r.ReadOnly)
	}
	return b
}

// Decode implements Record.
func (r *ConnectRequest) Decode(d *Decoder) {
	r.ProtocolVersion = d.Int()
	r.LastZxidSeen = zab.Zxid(d.Long())
	r.TimeoutMs = d.Int()
	r.SessionID = zab.SessionID(d.Long())
	r.Password = d.Buffer()
	if r.HasReadOnly = d.Len() > 0; r.HasReadOnly {
		r.ReadOnly = d.Bool()
	}
}

// ConnectResponse answers a ConnectRequest. TimeoutMs 0 and SessionID 0: the
// session is unknown or expired, or the password is wrong.
type ConnectResponse struct {
	ProtocolVersion int32
	TimeoutMs       int32
	SessionID       zab.SessionID
	Password        [16]byte
	ReadOnly        bool
	HasReadOnly     bool // as in the request
}

// Append implements Record.
func (r *ConnectResponse) Append(b []byte) []byte {
	b = AppendInt(b, r.ProtocolVersion)
	b = AppendInt(b, r.TimeoutMs)
	b = AppendLong(b, int64(r.SessionID))
	b = AppendBuffer(b, r.Password[:])
	if r.HasReadOnly {
		b = AppendBool(b, r.ReadOnly)
	}
	return b
}

// Decode implements Record.
func (r *ConnectResponse) Decode(d *Decoder) {
	r.ProtocolVersion = d.Int()
	r.TimeoutMs = d.Int()
	r.SessionID = zab.SessionID(d.Long())
	copy(r.Password[:], d.Buffer())
	if r.HasReadOnly = d.Len() > 0; r.HasReadOnly {
		r.ReadOnly = d.Bool()
	}
}

// RequestHeader begins every request but the ConnectRequest.
type RequestHeader struct {
	Xid int32
	Op  Op
}

// Append implements Record.
func (r *RequestHeader) Append(b []byte) []byte { return AppendInt(AppendInt(b, r.Xid), int32(r.Op)) }

// Decode implements Record.
func (r *RequestHeader) Decode(d *Decoder) { r.Xid, r.Op = d.Int(), Op(d.Int()) }

// ReplyHeader begins every reply and every notification. With Err not OK no
// record follows, except after a failed sasl.
type ReplyHeader struct {
	Xid  int32
	Zxid zab.Zxid
	Err  Code
}

// Append implements Record.
func (r *ReplyHeader) Append(b []byte) []byte {
	return AppendInt(AppendLong(AppendInt(b, r.Xid), int64(r.Zxid)), int32(r.Err))
}

// Decode implements Record.
func (r *ReplyHeader) Decode(d *Decoder) {
	r.Xid, r.Zxid, r.Err = d.Int(), zab.Zxid(d.Long()), Code(d.Int())
}

// A CreateMode is the flags field of a create request (class CreateMode). It is
// an enumeration, not a set of bits.
type CreateMode int32

// The modes of ZooKeeper 3.9.
const (
	Persistent              CreateMode = 0
	Ephemeral               CreateMode = 1
	PersistentSequential    CreateMode = 2
	EphemeralSequential     CreateMode = 3
	Container               CreateMode = 4
	PersistentTTL           CreateMode = 5
	PersistentSequentialTTL CreateMode = 6
)

// Valid reports whether m is one of the modes above.
func (m CreateMode) Valid() bool { return m >= Persistent && m <= PersistentSequentialTTL }

// IsEphemeral reports whether the znode goes with its session.
func (m CreateMode) IsEphemeral() bool { return m == Ephemeral || m == EphemeralSequential }

// IsSequential reports whether the server appends the parent's counter.
func (m CreateMode) IsSequential() bool {
	return m == PersistentSequential || m == EphemeralSequential || m == PersistentSequentialTTL
}

// IsTTL reports whether the znode goes when it was not changed for its TTL.
func (m CreateMode) IsTTL() bool { return m == PersistentTTL || m == PersistentSequentialTTL }

// CreateRequest is the record of create, create2 and createContainer, and with
// a TTL in ms of createTTL.
type CreateRequest struct {
	Path  string
	Data  []byte
	ACL   []ACL
	Mode  CreateMode
	TTLMs int64 // only on the wire with HasTTL; -1 otherwise
	// HasTTL is set by who encodes or decodes: the record does not tell.
	HasTTL bool
}

// Append implements Record.
func (r *CreateRequest) Append(b []byte) []byte {
	b = AppendString(b, r.Path)
	b = AppendBuffer(b, r.Data)
	b = AppendACL(b, r.ACL)
	b = AppendInt(b, int32(r.Mode))
	if r.HasTTL {
		b = AppendLong(b, r.TTLMs)
	}
	return b
}

// Decode implements Record.
func (r *CreateRequest) Decode(d *Decoder) {
	r.Path = d.String()
	r.Data = d.Buffer()
	r.ACL = DecodeACL(d)
	r.Mode = CreateMode(d.Int())
	r.TTLMs = -1
	if r.HasTTL {
		r.TTLMs = d.Long()
	}
}

// PathVersion is the record of delete and check: a path and the version that
// the znode must have, -1 for any.
type PathVersion struct {
	Path    string
	Version int32
}

// Append implements Record.
func (r *PathVersion) Append(b []byte) []byte { return AppendInt(AppendString(b, r.Path), r.Version) }

// Decode implements Record.
func (r *PathVersion) Decode(d *Decoder) { r.Path, r.Version = d.String(), d.Int() }

// PathWatch is the record of exists, getData, getChildren and getChildren2.
type PathWatch struct {
	Path  string
	Watch bool
}

// Append implements Record.
func (r *PathWatch) Append(b []byte) []byte { return AppendBool(AppendString(b, r.Path), r.Watch) }

// Decode implements Record.
func (r *PathWatch) Decode(d *Decoder) { r.Path, r.Watch = d.String(), d.Bool() }

// SetDataRequest is the record of setData.
type SetDataRequest struct {
	Path    string
	Data    []byte
	Version int32
}

// Append implements Record.
func (r *SetDataRequest) Append(b []byte) []byte {
	return AppendInt(AppendBuffer(AppendString(b, r.Path), r.Data), r.Version)
}

// Decode implements Record.
func (r *SetDataRequest) Decode(d *Decoder) {
	r.Path, r.Data, r.Version = d.String(), d.Buffer(), d.Int()
}

// SetACLRequest is the record of setACL; Version is compared with aversion.
type SetACLRequest struct {
	Path    string
	ACL     []ACL
	Version int32
}

// Append implements Record.
func (r *SetACLRequest) Append(b []byte) []byte {
	return AppendInt(AppendACL(AppendString(b, r.Path), r.ACL), r.Version)
}

// Decode implements Record.
func (r *SetACLRequest) Decode(d *Decoder) {
	r.Path, r.ACL, r.Version = d.String(), DecodeACL(d), d.Int()
}

// PathRecord is any record that is one path: the requests getACL, sync,
// getEphemerals, getAllChildrenNumber and deleteContainer, the responses of
// create and sync. Sync echoes even a null path, so null reads as "".
type PathRecord struct{ Path string }

// Append implements Record.
func (r *PathRecord) Append(b []byte) []byte { return AppendString(b, r.Path) }

// Decode implements Record.
func (r *PathRecord) Decode(d *Decoder) { r.Path = d.NullString() }

// CreateResponse is the answer to create2, createContainer and createTTL.
type CreateResponse struct {
	Path string
	Stat Stat
}

// Append implements Record.
func (r *CreateResponse) Append(b []byte) []byte { return r.Stat.Append(AppendString(b, r.Path)) }

// Decode implements Record.
func (r *CreateResponse) Decode(d *Decoder) {
	r.Path = d.String()
	r.Stat.Decode(d)
}

// GetDataResponse is the answer to getData and reconfig.
type GetDataResponse struct {
	Data []byte
	Stat Stat
}

// Append implements Record.
func (r *GetDataResponse) Append(b []byte) []byte { return r.Stat.Append(AppendBuffer(b, r.Data)) }

// Decode implements Record.
func (r *GetDataResponse) Decode(d *Decoder) {
	r.Data = d.Buffer()
	r.Stat.Decode(d)
}

// GetACLResponse is the answer to getACL.
type GetACLResponse struct {
	ACL  []ACL
	Stat Stat
}

// Append implements Record.
func (r *GetACLResponse) Append(b []byte) []byte { return r.Stat.Append(AppendACL(b, r.ACL)) }

// Decode implements Record.
func (r *GetACLResponse) Decode(d *Decoder) {
	r.ACL = DecodeACL(d)
	r.Stat.Decode(d)
}

// PathsRecord is any record that is one list of strings: the answers to
// getChildren and getEphemerals, and the closeSession transaction.
type PathsRecord struct{ Paths []string }

// Append implements Record.
func (r *PathsRecord) Append(b []byte) []byte { return AppendStrings(b, r.Paths) }

// Decode implements Record.
func (r *PathsRecord) Decode(d *Decoder) { r.Paths = d.Strings() }

// GetChildren2Response is the answer to getChildren2.
type GetChildren2Response struct {
	Children []string
	Stat     Stat
}

// Append implements Record.
func (r *GetChildren2Response) Append(b []byte) []byte {
	return r.Stat.Append(AppendStrings(b, r.Children))
}

// Decode implements Record.
func (r *GetChildren2Response) Decode(d *Decoder) {
	r.Children = d.Strings()
	r.Stat.Decode(d)
}

// ReconfigRequest is the record of reconfig: either joining and leaving, or the
// whole list. Null strings read as "", and "" is written as null: a list of
// new members that is not null, if empty, replaces all.
type ReconfigRequest struct {
	Joining, Leaving, NewMembers string
	ConfigID                     int64
}

// Append implements Record.
func (r *ReconfigRequest) Append(b []byte) []byte {
	b = appendNullString(b, r.Joining)
	b = appendNullString(b, r.Leaving)
	b = appendNullString(b, r.NewMembers)
	return AppendLong(b, r.ConfigID)
}

// Decode implements Record.
func (r *ReconfigRequest) Decode(d *Decoder) {
	r.Joining, r.Leaving, r.NewMembers = d.NullString(), d.NullString(), d.NullString()
	r.ConfigID = d.Long()
}

// The modes of addWatch (class AddWatchMode).
const (
	WatchPersistent          int32 = 0
	WatchPersistentRecursive int32 = 1
)

// The kinds of watch that checkWatches and removeWatches name (class
// Watcher.WatcherType).
const (
	WatcherChildren            int32 = 1
	WatcherData                int32 = 2
	WatcherAny                 int32 = 3
	WatcherPersistent          int32 = 4
	WatcherPersistentRecursive int32 = 5
)

// PathMode is the record of addWatch, whose Mode is a Watch… constant, and of
// checkWatches and removeWatches, where it is a Watcher… constant.
type PathMode struct {
	Path string
	Mode int32
}

// Append implements Record.
func (r *PathMode) Append(b []byte) []byte { return AppendInt(AppendString(b, r.Path), r.Mode) }

// Decode implements Record.
func (r *PathMode) Decode(d *Decoder) { r.Path, r.Mode = d.String(), d.Int() }

// SetWatches arms watches again after a reconnect. RelativeZxid is the last zxid
// that the client saw; older clients and setWatches send no persistent lists.
type SetWatches struct {
	RelativeZxid                    zab.Zxid
	Data, Exist, Child              []string
	Persistent, PersistentRecursive []string
	// HasPersistent is set by who encodes or decodes: true for setWatches2.
	HasPersistent bool
}

// Append implements Record.
func (r *SetWatches) Append(b []byte) []byte {
	b = AppendLong(b, int64(r.RelativeZxid))
	b = AppendStrings(b, r.Data)
	b = AppendStrings(b, r.Exist)
	b = AppendStrings(b, r.Child)
	if r.HasPersistent {
		b = AppendStrings(b, r.Persistent)
		b = AppendStrings(b, r.PersistentRecursive)
	}
	return b
}

// Decode implements Record.
func (r *SetWatches) Decode(d *Decoder) {
	r.RelativeZxid = zab.Zxid(d.Long())
	r.Data, r.Exist, r.Child = d.Strings(), d.Strings(), d.Strings()
	if r.HasPersistent {
		r.Persistent, r.PersistentRecursive = d.Strings(), d.Strings()
	}
}

// An EventType says what happened to a znode (class Watcher.Event.EventType).
type EventType int32

// The server sends the types 1 to 4 only; the others are made by clients.
const (
	EventNone                   EventType = -1
	EventNodeCreated            EventType = 1
	EventNodeDeleted            EventType = 2
	EventNodeDataChanged        EventType = 3
	EventNodeChildrenChanged    EventType = 4
	EventDataWatchRemoved       EventType = 5
	EventChildWatchRemoved      EventType = 6
	EventPersistentWatchRemoved EventType = 7
)

// String returns ZooKeeper's name of the type.
func (t EventType) String() string {
	switch t {
	case EventNone:
		return "None"
	case EventNodeCreated:
		return "NodeCreated"
	case EventNodeDeleted:
		return "NodeDeleted"
	case EventNodeDataChanged:
		return "NodeDataChanged"
	case EventNodeChildrenChanged:
		return "NodeChildrenChanged"
	case EventDataWatchRemoved:
		return "DataWatchRemoved"
	case EventChildWatchRemoved:
		return "ChildWatchRemoved"
	case EventPersistentWatchRemoved:
		return "PersistentWatchRemoved"
	}
	return "Unknown"
}

// A KeeperState is the state of a client's session (class
// Watcher.Event.KeeperState). Servers only send StateSyncConnected.
type KeeperState int32

// The states of a session.
const (
	StateUnknown           KeeperState = -1
	StateDisconnected      KeeperState = 0
	StateSyncConnected     KeeperState = 3
	StateAuthFailed        KeeperState = 4
	StateConnectedReadOnly KeeperState = 5
	StateSaslAuthenticated KeeperState = 6
	StateClosed            KeeperState = 7
	StateExpired           KeeperState = -112
)

// String returns ZooKeeper's name of the state.
func (s KeeperState) String() string {
	switch s {
	case StateDisconnected:
		return "Disconnected"
	case StateSyncConnected:
		return "SyncConnected"
	case StateAuthFailed:
		return "AuthFailed"
	case StateConnectedReadOnly:
		return "ConnectedReadOnly"
	case StateSaslAuthenticated:
		return "SaslAuthenticated"
	case StateClosed:
		return "Closed"
	case StateExpired:
		return "Expired"
	}
	return "Unknown"
}

// A WatcherEvent tells a watcher of one change.
type WatcherEvent struct {
	Type  EventType
	State KeeperState
	Path  string
}

// Append implements Record.
func (e *WatcherEvent) Append(b []byte) []byte {
	return AppendString(AppendInt(AppendInt(b, int32(e.Type)), int32(e.State)), e.Path)
}

// Decode implements Record.
func (e *WatcherEvent) Decode(d *Decoder) {
	e.Type, e.State, e.Path = EventType(d.Int()), KeeperState(d.Int()), d.String()
}

// AuthPacket adds an identity to a connection.
type AuthPacket struct {
	Type   int32
	Scheme string
	Auth   []byte
}

// Append implements Record.
func (r *AuthPacket) Append(b []byte) []byte {
	return AppendBuffer(AppendString(AppendInt(b, r.Type), r.Scheme), r.Auth)
}

// Decode implements Record.
func (r *AuthPacket) Decode(d *Decoder) { r.Type, r.Scheme, r.Auth = d.Int(), d.String(), d.Buffer() }

// BufferRecord is any record that is one buffer: the sasl request and response.
type BufferRecord struct{ Data []byte }

// Append implements Record.
func (r *BufferRecord) Append(b []byte) []byte { return AppendBuffer(b, r.Data) }

// Decode implements Record.
func (r *BufferRecord) Decode(d *Decoder) { r.Data = d.Buffer() }

// IntRecord is any record that is one int: the answers to getAllChildrenNumber
// and addWatch, the createSession transaction (timeout in ms), the error
// transaction (a Code).
type IntRecord struct{ Value int32 }

// Append implements Record.
func (r *IntRecord) Append(b []byte) []byte { return AppendInt(b, r.Value) }

// Decode implements Record.
func (r *IntRecord) Decode(d *Decoder) { r.Value = d.Int() }

// WhoAmIResponse lists the identities of a connection; ID.ID is the user.
type WhoAmIResponse struct{ Users []ID }

// Append implements Record.
func (r *WhoAmIResponse) Append(b []byte) []byte {
	b = AppendInt(b, int32(len(r.Users)))
	for _, u := range r.Users {
		b = AppendString(AppendString(b, u.Scheme), u.ID)
	}
	return b
}

// Decode implements Record.
func (r *WhoAmIResponse) Decode(d *Decoder) {
	n, _ := d.Count(8)
	r.Users = make([]ID, n)
	for i := range r.Users {
		r.Users[i] = ID{d.NullString(), d.NullString()}
	}
}
