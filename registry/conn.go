package registry

import (
	"context"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// A Conn is the part of a ZooKeeper client that the registry needs. Operations
// block until the client is connected or ctx ends; errors wrap a [wire.Code],
// wire.ErrConnectionLoss if the outcome is not known. Safe for concurrent use.
// [Over] makes one of a client.
type Conn interface {
	Create(ctx context.Context, path string, data []byte, acl []wire.ACL, mode wire.CreateMode) (string, wire.Stat, error)
	Delete(ctx context.Context, path string, version int32) error
	Get(ctx context.Context, path string) ([]byte, wire.Stat, error)
	Children(ctx context.Context, path string) ([]string, wire.Stat, error)
	// Ephemerals lists the znodes of the session below prefix.
	Ephemerals(ctx context.Context, prefix string) ([]string, error)
	// SessionID is the session of now; 0 before the first connect.
	SessionID() zab.SessionID
	// Watch sets a persistent recursive watch.
	Watch(ctx context.Context, path string) (Watch, error)
}

// A Watch is a stream of events. Events of znodes come in order and without
// loss between two events of type EventNone; such a one tells a state, and after
// StateSyncConnected everything has to be read again.
type Watch interface {
	// Events is closed when the watch ends.
	Events() <-chan Event
	Close() error
}

// An Event is a change of a znode, or with Type EventNone of the connection.
type Event = client.Event

// Over makes a Conn of a client. The client's owner runs it.
func Over(c *client.Client) Conn { return conn{c} }

type conn struct{ *client.Client }

func (c conn) SessionID() zab.SessionID { return c.Session().ID }

func (c conn) Watch(ctx context.Context, path string) (Watch, error) {
	w, err := c.AddWatch(ctx, path, wire.WatchPersistentRecursive)
	if err != nil {
		return nil, err // not w: a nil *client.Watch is a Watch that is not nil
	}
	return w, nil
}
