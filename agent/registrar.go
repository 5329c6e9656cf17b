package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/paddockio/paddock/agent/bootstrap"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// registrar reads and changes the list of servers as a client of the ensemble.
// It has no session but while it is asked something.
type registrar struct {
	auth []client.Auth
}

var _ bootstrap.Registrar = (*registrar)(nil)

// Read implements bootstrap.Registrar.
func (r *registrar) Read(ctx context.Context, addrs []string) (*zab.Ensemble, error) {
	var e *zab.Ensemble
	err := r.with(ctx, addrs, func(ctx context.Context, c *client.Client) error {
		if err := c.Sync(ctx, "/zookeeper/config"); err != nil {
			return err
		}
		data, _, err := c.GetConfig(ctx)
		if err != nil {
			return err
		}
		if len(data) == 0 {
			return errors.New("this server is alone: it has no list of servers")
		}
		e, err = zab.ParseEnsemble(string(data))
		return err
	})
	return e, err
}

// Add implements bootstrap.Registrar.
func (r *registrar) Add(ctx context.Context, addrs []string, m zab.Member, version int64) (*zab.Ensemble, error) {
	var e *zab.Ensemble
	err := r.with(ctx, addrs, func(ctx context.Context, c *client.Client) error {
		data, _, err := c.Reconfig(ctx, m.String(), "", "", version)
		switch {
		case errors.Is(err, wire.ErrBadVersion), errors.Is(err, wire.ErrReconfigInProgress):
			return fmt.Errorf("%w: %w", bootstrap.ErrChanged, err)
		case errors.Is(err, wire.ErrNoAuth):
			return fmt.Errorf("%w: set bootstrap.auth_file, or let somebody do it with paddock members add", err)
		case err != nil:
			return err
		}
		e, err = zab.ParseEnsemble(string(data))
		return err
	})
	return e, err
}

// with runs f with a client of the servers at addrs.
func (r *registrar) with(ctx context.Context, addrs []string, f func(context.Context, *client.Client) error) error {
	c, err := client.New(client.Config{Servers: strings.Join(addrs, ","), Auth: r.auth})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			stop(err) // a refused identity: f would wait for its answers
		}
	})
	err = f(ctx, c)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err == nil {
		_ = c.CloseSession(ctx) // else it expires
	}
	stop(nil)
	wg.Wait()
	return err
}
