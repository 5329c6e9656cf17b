package zab

// Millis is a moment on the driver's monotonic clock, or a span of it, in
// milliseconds. The clock may start anywhere; it never goes back.
type Millis int64

// A LinkID names one connection of the quorum port while it lives. The driver
// gives every connection a new one; 0 is none.
type LinkID uint64

// A Phase is how far a server has come within its role (QuorumPeer.ZabState).
type Phase uint8

// The phases. Only in Broadcast are clients served.
const (
	Election Phase = iota
	Discovery
	Synchronization
	Broadcast
)

// String returns ZooKeeper's name of the phase.
func (p Phase) String() string {
	return [...]string{"ELECTION", "DISCOVERY", "SYNCHRONIZATION", "BROADCAST"}[p]
}

// A MessageType says what a Message is.
type MessageType uint8

// The messages. Those of the first group are local: the driver of this server
// makes them. The others come from a peer and go to one. Numbers of the quorum
// packets are Apache's (class Leader).
const (
	MsgNone MessageType = 0

	// MsgRequest to MsgInformAndActivate have the numbers of the packets. REQUEST,
	// REVALIDATE and SYNC never reach the node: they are the driver's.
	MsgProposal          MessageType = 2  // leader to follower: Proposal
	MsgAck               MessageType = 3  // to the leader: Zxid, or NewZxid(epoch, 0) for NEWLEADER and UPTODATE
	MsgCommit            MessageType = 4  // leader to follower: Zxid
	MsgPing              MessageType = 5  // Zxid; a learner's answer has the same. Its payload is the driver's.
	MsgInform            MessageType = 8  // leader to observer: Proposal
	MsgCommitAndActivate MessageType = 9  // leader to follower: Zxid, Leader the designated one
	MsgNewLeader         MessageType = 10 // leader to learner: Zxid = NewZxid(epoch, 0), Data the text of its last seen ensemble
	MsgFollowerInfo      MessageType = 11 // learner to leader: From, Zxid = NewZxid(accepted, 0), Version of its committed ensemble
	MsgUpToDate          MessageType = 12 // leader to learner
	MsgDiff              MessageType = 13 // leader to learner: Zxid, the last of what follows
	MsgTrunc             MessageType = 14 // leader to learner: Zxid to cut to
	MsgSnap              MessageType = 15 // leader to learner: Zxid. The driver steps it once the whole snapshot was read.
	MsgObserverInfo      MessageType = 16 // as MsgFollowerInfo, from one that has no vote
	MsgLeaderInfo        MessageType = 17 // leader to learner: Zxid = NewZxid(new epoch, 0)
	MsgAckEpoch          MessageType = 18 // learner to leader: Zxid its last, or -1 to get everything; Epoch its current epoch if HasEpoch
	MsgInformAndActivate MessageType = 19 // leader to observer: Proposal, Leader the designated one
)

const (
	// MsgPropose (local) hands a leader the transactions in Proposals. The first
	// zxid must be [Node.NextZxid], the others follow it.
	MsgPropose MessageType = 64 + iota
	// MsgAppended (local) says that every transaction of Ready.Append up to Zxid is
	// durable in the log.
	MsgAppended
	// MsgAcceptedStored and MsgCurrentStored (local) say that Epoch is durable in
	// its file.
	MsgAcceptedStored
	MsgCurrentStored
	// MsgTruncated (local) answers Ready.Truncate: the log ends at Zxid, the tree
	// was read again from disk. Failed: the files do not reach back to it and
	// nothing was changed.
	MsgTruncated
	// MsgInstalled (local) answers Ready.Install: the snapshot of Zxid and the
	// current epoch are durable.
	MsgInstalled
	// MsgLinkUp (local): a connection of the quorum port is open. From is the
	// leader that Ready.Dial asked for, or NoServer if a learner has dialled us.
	MsgLinkUp
	// MsgLinkDown (local): the connection has ended, also after Ready.Close.
	MsgLinkDown
	// MsgDialFailed (local): the driver gave up Ready.Dial to From.
	MsgDialFailed
	// MsgProgress (local): bytes of a snapshot came over the link, or were taken by
	// its other side.
	MsgProgress
	// MsgLocated (local) answers Ready.Locate: the files prove, without a gap from
	// there to this server's last committed transaction, a history in which Zxid
	// is the greatest that is not above the one asked for. Failed: they do not.
	MsgLocated
	// MsgStreamed (local) answers Ready.Stream: everything up to Zxid has been
	// queued on the link. Failed: nothing was, the files did not hold it.
	MsgStreamed
	// MsgConfirm (local) asks for proof that this server still leads when it is
	// asked: Token, larger than the one before, comes back in Ready.Confirmed.
	MsgConfirm
	// MsgDiverged (local) says that the tree has another digest than the leader's
	// after the same transactions. A learner that serves fetches the leader's (rule
	// R23); a leader's tree counts whatever it is.
	MsgDiverged
)

// NoServer is the From of a peer that has not said who it is.
const NoServer ServerID = -1

// A Message is one input of a [Node] besides time, or one output to a peer. Which
// fields count depends on Type.
type Message struct {
	Type     MessageType
	Link     LinkID
	From     ServerID
	Leader   ServerID
	Zxid     Zxid
	Epoch    Epoch
	HasEpoch bool
	Failed   bool
	Version  int64
	Token    uint64
	Proposal Proposal
	Data     []byte

	Proposals []Proposal // MsgPropose
}

// A Proposal is one transaction on its way through the ensemble. Data is its
// encoding, as the log and a PROPOSAL packet carry it; the node never looks
// inside, and keeps it as long as a learner may need it: it must not change.
type Proposal struct {
	Zxid Zxid
	Data []byte

	// Ensemble, if not nil, says that the transaction is a reconfiguration to it.
	// Its version is Zxid.
	Ensemble *Ensemble
}

// A Vote names a server as the leader-to-be and says why: its current epoch and
// the last transaction of its log (class Vote).
type Vote struct {
	Leader ServerID
	Zxid   Zxid
	Epoch  Epoch
}

// A Notification is a message of the election port (class
// FastLeaderElection.Notification).
type Notification struct {
	From, To ServerID
	State    Role // of the sender
	Vote     Vote
	Round    int64  // the sender's logical clock
	Version  int32  // of the message format, 0 to 2
	NoVote   bool   // an observer's, or of a server that lost its disk: Vote is empty
	Ensemble []byte // text of the sender's committed ensemble; may be empty
}

// A Stream asks the driver to write history to a link, from disk.
type Stream struct {
	Link LinkID

	// Snapshot: write SNAP and the tree as it is once Ready.Committed is applied.
	// Otherwise write PROPOSAL and COMMIT for each transaction of the log behind
	// After, up to Until.
	Snapshot     bool
	After, Until Zxid
}

// A Lookup asks where Zxid stands in the log files (MsgLocated).
type Lookup struct {
	Link LinkID
	Zxid Zxid
}

// An Installation asks the driver to make a received snapshot durable, with the
// transactions that came behind it: apply Committed to its tree (tolerantly, if
// the snapshot is fuzzy), store it as the only state, then set the current epoch.
type Installation struct {
	Link      LinkID
	Committed []Proposal
	Zxid      Zxid // of the result
	Epoch     Epoch

	// Ensemble is the list of servers that came with NEWLEADER, for the node.
	Ensemble *Ensemble
}

// A Closing ends a link; Reason is nil if nobody is to blame.
type Closing struct {
	Link   LinkID
	Peer   ServerID
	Reason error
}

// Ready lists the effects of all input since the last Advance. The driver starts
// each of them in the order of the fields and reports finished disk writes by
// messages. All slices are the node's and valid until Advance; the Data of
// proposals may be kept.
type Ready struct {
	// Role, Phase, Leader and Epoch say what the server is now. Leader is NoServer
	// and Epoch 0 while it is Looking.
	Role   Role
	Phase  Phase
	Leader ServerID
	Epoch  Epoch

	// Reason says why the last role ended; nil before the first one.
	Reason error

	// Ensemble is the configuration in force, LastSeen the newest one that was
	// proposed, or the same. The driver compares the pointers with those before,
	// and writes and connects what has changed.
	Ensemble, LastSeen *Ensemble

	// StoreAccepted and StoreCurrent, if not 0, are to be written to their file
	// and answered by MsgAcceptedStored or MsgCurrentStored.
	StoreAccepted, StoreCurrent Epoch

	// Truncate, if not 0, is to become the last transaction of log and snapshots,
	// and the tree is to be read again (MsgTruncated).
	Truncate Zxid

	// Install, if not nil, is to be done (MsgInstalled).
	Install *Installation

	// Append is to be written to the log, synced, and answered by MsgAppended.
	Append []Proposal

	// Committed is to be delivered to the tree, in order.
	Committed []Proposal

	// Confirmed is the largest Token of a MsgConfirm that is answered.
	Confirmed uint64

	// Dial, if not NoServer, is the leader whose quorum port is to be connected to
	// (MsgLinkUp or MsgDialFailed). A Dial that is under way to another server is
	// given up.
	Dial ServerID

	// Messages are packets for links, Notifications for the election port: a newer
	// one for the same server replaces one that is not sent yet.
	Messages      []Message
	Notifications []Notification

	Locate []Lookup
	Stream []Stream

	// Close is done last.
	Close []Closing
}
