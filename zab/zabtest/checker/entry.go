package checker

import (
	"math"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// Time is nanoseconds since the start of a run, by one monotonic or virtual clock.
type Time int64

// Never is the Return of an entry that has none: nobody knows what came of it.
const Never Time = math.MaxInt64

// Kind says what an Entry is.
type Kind uint8

// The kinds of entries.
const (
	Request    Kind = iota // a request and its reply
	Connect                // a connection, with the session it asked for and got
	Disconnect             // the end of a connection
	Event                  // a notification of a watch
	Guarded                // a write to a Guard, which is not a server
)

// Entry is one line of a history. The order of entries is that in which things
// became known: replies, events and ends of connections as they came in, requests
// without an outcome when their connection ended.
type Entry struct {
	Kind    Kind
	Seq     int           // place in the history, from 1; names the entry in messages
	Conn    int           // number of the connection in the history, from 1; 0 for Guarded
	Session zab.SessionID // of the connection; 0 if it got none
	Server  string        // Connect: where to

	// Call and Return enclose the moment at which it happened. They are the same for
	// Event and Disconnect.
	Call, Return Time

	// Resolved says of an entry without Return that the log has its transaction:
	// see Resolve.
	Resolved bool

	Cxid int32 // Request: the xid
	Args
	Result
}

// Args is what was asked for.
type Args struct {
	Op      wire.Op // Connect: OpCreateSession, Event: OpNotification
	Path    string
	Data    []byte
	ACL     []wire.ACL      // create, setACL; nil: everybody may do everything
	Mode    wire.CreateMode // create
	TTLMs   int64           // createTTL
	Version int32           // setData, delete, check, setACL
	Watch   bool            // reads: set a watch
	What    int32           // addWatch: the mode; removeWatches, checkWatches: the kind; Event: the type
	Sub     []Args          // multi, multiRead

	// Rearm are the watches of setWatches and setWatches2.
	Rearm *wire.SetWatches

	// IDs are the identities that a Connect begins with, or that auth adds.
	IDs []wire.ID

	// Want is the session that a Connect asked for; 0 is a new one.
	Want zab.SessionID

	// Token is the fencing token of a Guarded write.
	Token zab.Zxid
}

// Result is what the answer said.
type Result struct {
	Zxid     zab.Zxid  // of the header; 0 if not known
	Err      wire.Code // of the header; Connect: ErrSessionExpired
	Created  string    // create: the path
	Stat     wire.Stat // not of create, delete and getChildren, whose answers have none
	Value    []byte    // getData
	List     []wire.ACL
	Children []string // getChildren; getEphemerals: paths
	Count    int32    // getAllChildrenNumber
	Results  []Result // multi, multiRead
}

// Known reports whether an answer came.
func (e *Entry) Known() bool { return e.Return != Never }

// EventType is the type of an Event.
func (e *Entry) EventType() wire.EventType { return wire.EventType(e.What) }

// isUpdate reports whether the entry is a request that takes a zxid.
func (e *Entry) isUpdate() bool { return e.Kind == Request && e.Op.IsWrite() }

// A History is what a run looked like to its clients.
type History struct{ Entries []*Entry }

// Request returns the record that asks for a; nil for what has none.
func (a *Args) Request() wire.Record {
	switch a.Op {
	case wire.OpCreate, wire.OpCreate2, wire.OpCreateContainer, wire.OpCreateTTL:
		acl := a.ACL
		if acl == nil {
			acl = openACL
		}
		r := &wire.CreateRequest{Path: a.Path, Data: a.Data, ACL: acl, Mode: a.Mode, TTLMs: -1}
		if a.Op == wire.OpCreateTTL {
			r.TTLMs, r.HasTTL = a.TTLMs, true
		}
		return r
	case wire.OpDelete, wire.OpCheck:
		return &wire.PathVersion{Path: a.Path, Version: a.Version}
	case wire.OpSetData:
		return &wire.SetDataRequest{Path: a.Path, Data: a.Data, Version: a.Version}
	case wire.OpSetACL:
		acl := a.ACL
		if acl == nil {
			acl = openACL
		}
		return &wire.SetACLRequest{Path: a.Path, ACL: acl, Version: a.Version}
	case wire.OpExists, wire.OpGetData, wire.OpGetChildren, wire.OpGetChildren2:
		return &wire.PathWatch{Path: a.Path, Watch: a.Watch}
	case wire.OpSync, wire.OpGetACL, wire.OpGetEphemerals, wire.OpGetAllChildrenNumber, wire.OpDeleteContainer:
		return &wire.PathRecord{Path: a.Path}
	case wire.OpAddWatch, wire.OpRemoveWatches, wire.OpCheckWatches:
		return &wire.PathMode{Path: a.Path, Mode: a.What}
	case wire.OpMulti, wire.OpMultiRead:
		m := &wire.MultiRequest{Ops: make([]wire.MultiOp, len(a.Sub))}
		for i := range a.Sub {
			m.Ops[i] = wire.MultiOp{Op: a.Sub[i].Op, Record: a.Sub[i].Request()}
		}
		return m
	case wire.OpSetWatches, wire.OpSetWatches2:
		return a.Rearm
	}
	return nil
}

var openACL = wire.OpenACL()

// ArgsOf returns what a request asks for. Data and paths are kept. An op whose
// requests the checkers do not look at has Args without fields.
func ArgsOf(op wire.Op, body wire.Record) Args {
	a := Args{Op: op}
	switch b := body.(type) {
	case *wire.CreateRequest:
		a.Path, a.Data, a.ACL, a.Mode = b.Path, b.Data, b.ACL, b.Mode
		if b.HasTTL {
			a.TTLMs = b.TTLMs
		}
		if isOpen(a.ACL) {
			a.ACL = nil
		}
	case *wire.PathVersion:
		a.Path, a.Version = b.Path, b.Version
	case *wire.SetDataRequest:
		a.Path, a.Data, a.Version = b.Path, b.Data, b.Version
	case *wire.SetACLRequest:
		a.Path, a.ACL, a.Version = b.Path, b.ACL, b.Version
		if isOpen(a.ACL) {
			a.ACL = nil
		}
	case *wire.PathWatch:
		a.Path, a.Watch = b.Path, b.Watch
	case *wire.PathRecord:
		a.Path = b.Path
	case *wire.PathMode:
		a.Path, a.What = b.Path, b.Mode
	case *wire.MultiRequest:
		for _, op := range b.Ops {
			a.Sub = append(a.Sub, ArgsOf(op.Op, op.Record))
		}
	case *wire.SetWatches:
		a.Rearm = b
	}
	return a
}

func isOpen(acl []wire.ACL) bool { return len(acl) == 1 && acl[0] == openACL[0] }

// ReplyRecord returns an empty record of the kind that answers op successfully;
// nil if the answer has none, or none that the checkers look at.
func ReplyRecord(op wire.Op) wire.Record {
	switch op {
	case wire.OpCreate, wire.OpSync:
		return &wire.PathRecord{}
	case wire.OpCreate2, wire.OpCreateContainer, wire.OpCreateTTL:
		return &wire.CreateResponse{}
	case wire.OpSetData, wire.OpSetACL, wire.OpExists:
		return &wire.Stat{}
	case wire.OpGetData:
		return &wire.GetDataResponse{}
	case wire.OpGetACL:
		return &wire.GetACLResponse{}
	case wire.OpGetChildren, wire.OpGetEphemerals:
		return &wire.PathsRecord{}
	case wire.OpGetChildren2:
		return &wire.GetChildren2Response{}
	case wire.OpGetAllChildrenNumber:
		return &wire.IntRecord{}
	case wire.OpMulti, wire.OpMultiRead:
		return &wire.MultiResponse{}
	}
	return nil
}

// ResultOf returns what an answer says. body is nil if there is none; data and
// paths of it are kept.
func ResultOf(zxid zab.Zxid, code wire.Code, body wire.Record) Result {
	r := Result{Zxid: zxid, Err: code}
	switch b := body.(type) {
	case *wire.PathRecord:
		r.Created = b.Path
	case *wire.CreateResponse:
		r.Created, r.Stat = b.Path, b.Stat
	case *wire.Stat:
		r.Stat = *b
	case *wire.GetDataResponse:
		r.Value, r.Stat = b.Data, b.Stat
	case *wire.GetACLResponse:
		r.List, r.Stat = b.ACL, b.Stat
	case *wire.PathsRecord:
		r.Children = b.Paths
	case *wire.GetChildren2Response:
		r.Children, r.Stat = b.Children, b.Stat
	case *wire.IntRecord:
		r.Count = b.Value
	case *wire.MultiResponse:
		r.Results = subResults(b.Results)
	}
	return r
}

func subResults(multi []wire.MultiResult) []Result {
	list := make([]Result, len(multi))
	for i := range multi {
		list[i] = ResultOf(0, multi[i].Err, multi[i].Record)
	}
	return list
}
