package configsync

import (
	"context"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// A Client is what the mirror needs of a ZooKeeper client. Operations block
// until there is a connection or ctx ends.
type Client interface {
	Get(ctx context.Context, path string) ([]byte, wire.Stat, error)
	Children(ctx context.Context, path string) ([]string, wire.Stat, error)
	// Sync makes the reads that follow see at least what was committed before it.
	Sync(ctx context.Context, path string) error
	// AddWatch sets a persistent (recursive) watch.
	AddWatch(ctx context.Context, path string, mode int32) (Watch, error)
}

// A Watch is a stream of events. After it lost some (a new connection, or its
// queue was full) it carries an event of type EventNone with the state
// StateSyncConnected, and the watcher reads everything again.
type Watch interface {
	// Events is closed when the watch ended for good.
	Events() <-chan client.Event
	Close() error
}

// FromClient makes a Client of the real one.
func FromClient(c *client.Client) Client { return realClient{c} }

// realClient only turns a struct into an interface, which Go does not do for
// results.
type realClient struct{ *client.Client }

func (c realClient) AddWatch(ctx context.Context, path string, mode int32) (Watch, error) {
	w, err := c.Client.AddWatch(ctx, path, mode)
	if err != nil {
		return nil, err
	}
	return w, nil
}
