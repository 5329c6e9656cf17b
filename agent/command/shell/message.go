package shell

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// codeWords are ZooKeeper's names of its errors (KeeperException.getCodeMessage).
var codeWords = map[wire.Code]string{
	wire.OK: "ok", wire.ErrSystemError: "SystemError", wire.ErrRuntimeInconsistency: "RuntimeInconsistency",
	wire.ErrDataInconsistency: "DataInconsistency", wire.ErrConnectionLoss: "ConnectionLoss",
	wire.ErrMarshalling: "MarshallingError", wire.ErrNewConfigNoQuorum: "NewConfigNoQuorum",
	wire.ErrReconfigInProgress: "ReconfigInProgress", wire.ErrUnimplemented: "Unimplemented",
	wire.ErrOperationTimeout: "OperationTimeout", wire.ErrBadArguments: "BadArguments", wire.ErrAPIError: "APIError",
	wire.ErrNoNode: "NoNode", wire.ErrNoAuth: "NoAuth", wire.ErrBadVersion: "BadVersion",
	wire.ErrNoChildrenForEphemerals: "NoChildrenForEphemerals", wire.ErrNodeExists: "NodeExists",
	wire.ErrInvalidACL: "InvalidACL", wire.ErrAuthFailed: "AuthFailed", wire.ErrNotEmpty: "Directory not empty",
	wire.ErrSessionExpired: "Session expired", wire.ErrInvalidCallback: "Invalid callback",
	wire.ErrSessionMoved: "Session moved", wire.ErrNotReadOnly: "Not a read-only call",
	wire.ErrEphemeralOnLocalSession: "Ephemeral node on local session", wire.ErrNoWatcher: "No such watcher",
	wire.ErrReconfigDisabled:             "Reconfig is disabled",
	wire.ErrSessionClosedRequireSASLAuth: "Session closed because client failed to authenticate",
	wire.ErrQuotaExceeded:                "Quota has exceeded", wire.ErrThrottledOp: "Op throttled due to high load",
}

// pathMessages are the errors that the shell words itself, with the path behind
// (class CliWrapperException).
var pathMessages = map[wire.Code]string{
	wire.ErrNoNode: "Node does not exist: ", wire.ErrNoChildrenForEphemerals: "Ephemerals cannot have children: ",
	wire.ErrNodeExists: "Node already exists: ", wire.ErrNotEmpty: "Node not empty: ",
	wire.ErrNotReadOnly: "Not a read-only call: ", wire.ErrInvalidACL: "Acl is not valid : ",
	wire.ErrNoAuth: "Insufficient permission : ", wire.ErrBadArguments: "Arguments are not valid : ",
	wire.ErrBadVersion: "version No is not valid : ", wire.ErrQuotaExceeded: "Quota has exceeded : ",
}

// message words an error as zkCli does.
func message(err error) string {
	var code wire.Code
	var op *wire.OpError
	path := ""
	if errors.As(err, &op) {
		path = op.Path
	}
	switch {
	case errors.As(err, &code):
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, client.ErrClosed):
		code = wire.ErrConnectionLoss
	default:
		return err.Error()
	}
	if text, ok := pathMessages[code]; ok {
		if path == "" {
			path = "null"
		}
		return text + path
	}
	switch code {
	case wire.ErrReconfigInProgress:
		return "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)"
	case wire.ErrNewConfigNoQuorum:
		return "No quorum of new config is connected and up-to-date with the leader of last commmitted config - try invoking reconfiguration after new servers are connected and synced"
	}
	word, ok := codeWords[code]
	if !ok {
		word = fmt.Sprintf("Unknown error %d", int32(code))
	}
	text := "KeeperErrorCode = " + word
	if path != "" {
		text += " for " + path
	}
	return text
}

// said is an error in ZooKeeper's own words.
type said string

func (e said) Error() string { return string(e) }

// checkPath refuses what cannot be a path, in the words of class PathUtils.
func checkPath(path string) error {
	switch {
	case path == "":
		return said("Path length must be > 0")
	case path[0] != '/':
		return said("Path must start with / character")
	case path == "/":
		return nil
	case strings.HasSuffix(path, "/"):
		return said("Path must not end with / character")
	}
	chars := []rune(path)
	bad := func(reason string, at int) error {
		return said(fmt.Sprintf("Invalid path string \"%s\" caused by %s @%d", path, reason, at))
	}
	end := func(i int) bool { return i == len(chars) || chars[i] == '/' }
	for i := 1; i < len(chars); i++ {
		c, before := chars[i], chars[i-1]
		switch {
		case c == 0:
			return bad("null character not allowed", i)
		case c == '/' && before == '/':
			return bad("empty node name specified", i)
		case c == '.' && before == '.' && chars[i-2] == '/' && end(i+1),
			c == '.' && before == '/' && end(i+1):
			return bad("relative paths not allowed", i)
		case c <= 0x1f, c >= 0x7f && c <= 0x9f, c >= 0xd800 && c <= 0xf8ff, c >= 0xfff0 && c <= 0xffff:
			return bad("invalid character", i)
		}
	}
	return nil
}
