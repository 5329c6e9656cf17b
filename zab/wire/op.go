package wire

import "fmt"

// An Op is a request type of the client protocol, and the type of a
// transaction (class ZooDefs.OpCode).
type Op int32

// The operations of ZooKeeper 3.9.
const (
	OpNotification         Op = 0
	OpCreate               Op = 1
	OpDelete               Op = 2
	OpExists               Op = 3
	OpGetData              Op = 4
	OpSetData              Op = 5
	OpGetACL               Op = 6
	OpSetACL               Op = 7
	OpGetChildren          Op = 8
	OpSync                 Op = 9
	OpPing                 Op = 11
	OpGetChildren2         Op = 12
	OpCheck                Op = 13
	OpMulti                Op = 14
	OpCreate2              Op = 15
	OpReconfig             Op = 16
	OpCheckWatches         Op = 17
	OpRemoveWatches        Op = 18
	OpCreateContainer      Op = 19
	OpDeleteContainer      Op = 20
	OpCreateTTL            Op = 21
	OpMultiRead            Op = 22
	OpAuth                 Op = 100
	OpSetWatches           Op = 101
	OpSASL                 Op = 102
	OpGetEphemerals        Op = 103
	OpGetAllChildrenNumber Op = 104
	OpSetWatches2          Op = 105
	OpAddWatch             Op = 106
	OpWhoAmI               Op = 107
	OpCreateSession        Op = -10
	OpCloseSession         Op = -11
	OpFailed               Op = -1
)

var opNames = map[Op]string{
	OpNotification: "notification", OpCreate: "create", OpDelete: "delete", OpExists: "exists",
	OpGetData: "getData", OpSetData: "setData", OpGetACL: "getACL", OpSetACL: "setACL",
	OpGetChildren: "getChildren", OpSync: "sync", OpPing: "ping", OpGetChildren2: "getChildren2",
	OpCheck: "check", OpMulti: "multi", OpCreate2: "create2", OpReconfig: "reconfig",
	OpCheckWatches: "checkWatches", OpRemoveWatches: "removeWatches", OpCreateContainer: "createContainer",
	OpDeleteContainer: "deleteContainer", OpCreateTTL: "createTTL", OpMultiRead: "multiRead", OpAuth: "auth",
	OpSetWatches: "setWatches", OpSASL: "sasl", OpGetEphemerals: "getEphemerals",
	OpGetAllChildrenNumber: "getAllChildrenNumber", OpSetWatches2: "setWatches2", OpAddWatch: "addWatch",
	OpWhoAmI: "whoAmI", OpCreateSession: "createSession", OpCloseSession: "closeSession", OpFailed: "error",
}

// String returns ZooKeeper's name of the operation.
func (o Op) String() string {
	if s, ok := opNames[o]; ok {
		return s
	}
	return fmt.Sprintf("unknown %d", int32(o))
}

// IsWrite reports whether requests of this type go through the transaction
// log: they are ordered by a zxid on every server.
func (o Op) IsWrite() bool {
	switch o {
	case OpCreate, OpCreate2, OpCreateContainer, OpCreateTTL, OpDelete, OpDeleteContainer, OpSetData, OpSetACL,
		OpMulti, OpCheck, OpReconfig, OpCreateSession, OpCloseSession:
		return true
	}
	return false
}

// A Code is a protocol error, sent in ReplyHeader.err (KeeperException.Code).
// As an error it matches itself through every wrapping layer.
type Code int32

// The codes of ZooKeeper 3.9. Those marked "client" never cross the wire.
const (
	OK                              Code = 0
	ErrSystemError                  Code = -1
	ErrRuntimeInconsistency         Code = -2
	ErrDataInconsistency            Code = -3
	ErrConnectionLoss               Code = -4 // client
	ErrMarshalling                  Code = -5
	ErrUnimplemented                Code = -6
	ErrOperationTimeout             Code = -7 // client
	ErrBadArguments                 Code = -8
	ErrUnknownSession               Code = -12
	ErrNewConfigNoQuorum            Code = -13
	ErrReconfigInProgress           Code = -14
	ErrAPIError                     Code = -100
	ErrNoNode                       Code = -101
	ErrNoAuth                       Code = -102
	ErrBadVersion                   Code = -103
	ErrNoChildrenForEphemerals      Code = -108
	ErrNodeExists                   Code = -110
	ErrNotEmpty                     Code = -111
	ErrSessionExpired               Code = -112
	ErrInvalidCallback              Code = -113
	ErrInvalidACL                   Code = -114
	ErrAuthFailed                   Code = -115
	ErrSessionMoved                 Code = -118
	ErrNotReadOnly                  Code = -119
	ErrEphemeralOnLocalSession      Code = -120
	ErrNoWatcher                    Code = -121
	ErrRequestTimeout               Code = -122 // client
	ErrReconfigDisabled             Code = -123
	ErrSessionClosedRequireSASLAuth Code = -124
	ErrQuotaExceeded                Code = -125
	ErrThrottledOp                  Code = -127
)

var codeTexts = map[Code]string{
	OK: "ok", ErrSystemError: "system error", ErrRuntimeInconsistency: "not executed: an earlier operation of the multi failed",
	ErrDataInconsistency: "data inconsistency", ErrConnectionLoss: "connection lost",
	ErrMarshalling: "request could not be decoded", ErrUnimplemented: "operation not supported",
	ErrOperationTimeout: "operation timed out", ErrBadArguments: "bad arguments", ErrUnknownSession: "unknown session",
	ErrNewConfigNoQuorum: "no quorum of the new configuration", ErrReconfigInProgress: "another reconfiguration is in progress",
	ErrAPIError: "api error", ErrNoNode: "no such znode", ErrNoAuth: "not authorized", ErrBadVersion: "version does not match",
	ErrNoChildrenForEphemerals: "an ephemeral znode cannot have children", ErrNodeExists: "znode exists",
	ErrNotEmpty: "znode has children", ErrSessionExpired: "session expired", ErrInvalidCallback: "invalid callback",
	ErrInvalidACL: "invalid acl", ErrAuthFailed: "authentication failed", ErrSessionMoved: "session moved to another server",
	ErrNotReadOnly: "server is read-only", ErrEphemeralOnLocalSession: "ephemeral znode on a local session",
	ErrNoWatcher: "no such watch", ErrRequestTimeout: "request timed out", ErrReconfigDisabled: "reconfiguration is disabled",
	ErrSessionClosedRequireSASLAuth: "session closed: authentication required", ErrQuotaExceeded: "quota exceeded",
	ErrThrottledOp: "request throttled",
}

// Error says what the code means.
func (c Code) Error() string {
	if s, ok := codeTexts[c]; ok {
		return s
	}
	return fmt.Sprintf("error code %d", int32(c))
}

// Err returns c as an error, nil for OK.
func (c Code) Err() error {
	if c == OK {
		return nil
	}
	return c
}

// OpError says which operation on which znode failed.
type OpError struct {
	Op   Op
	Path string
	Err  error // usually a Code
}

func (e *OpError) Error() string {
	if e.Path == "" {
		return e.Op.String() + ": " + e.Err.Error()
	}
	return e.Op.String() + " " + e.Path + ": " + e.Err.Error()
}

// Unwrap gives errors.Is the Code.
func (e *OpError) Unwrap() error { return e.Err }
