package client

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/paddockio/paddock/zab/wire"
)

// Get returns the data, which may be nil, and the stat of a znode.
func (c *Client) Get(ctx context.Context, path string) ([]byte, wire.Stat, error) {
	return c.get(ctx, path, nil)
}

// GetW is Get and sets a one-shot watch. The channel gets one event, the next
// change or deletion of the znode or the end of the session, and is closed. It
// stays armed over reconnects; there is no need to read from it. It stays until
// it fires, or RemoveWatches is called.
func (c *Client) GetW(ctx context.Context, path string) ([]byte, wire.Stat, <-chan Event, error) {
	ch := make(chan Event, 1)
	data, stat, err := c.get(ctx, path, ch)
	if err != nil {
		return nil, stat, nil, err
	}
	return data, stat, ch, nil
}

func (c *Client) get(ctx context.Context, path string, ch chan Event) ([]byte, wire.Stat, error) {
	var resp wire.GetDataResponse
	_, err := c.read(ctx, wire.OpGetData, path, &resp, dataWatches, ch)
	if err != nil {
		return nil, wire.Stat{}, err
	}
	return resp.Data, resp.Stat, nil
}

// Exists returns the stat of a znode; a missing one is not an error.
func (c *Client) Exists(ctx context.Context, path string) (stat wire.Stat, found bool, err error) {
	return c.exists(ctx, path, nil)
}

// ExistsW is Exists and sets a one-shot watch as GetW does, which for a missing
// znode fires when it is created.
func (c *Client) ExistsW(ctx context.Context, path string) (stat wire.Stat, found bool, events <-chan Event, err error) {
	ch := make(chan Event, 1)
	stat, found, err = c.exists(ctx, path, ch)
	if err != nil {
		return stat, found, nil, err
	}
	return stat, found, ch, nil
}

func (c *Client) exists(ctx context.Context, path string, ch chan Event) (wire.Stat, bool, error) {
	var stat wire.Stat
	code, err := c.read(ctx, wire.OpExists, path, &stat, dataWatches, ch)
	if code == wire.ErrNoNode {
		return wire.Stat{}, false, nil
	}
	if err != nil {
		return wire.Stat{}, false, err
	}
	return stat, true, nil
}

// Children returns the sorted names, without path, of a znode's children.
func (c *Client) Children(ctx context.Context, path string) ([]string, wire.Stat, error) {
	return c.children(ctx, path, nil)
}

// ChildrenW is Children and sets a one-shot watch as GetW does, which fires when
// a child comes or goes, or the znode is deleted.
func (c *Client) ChildrenW(ctx context.Context, path string) ([]string, wire.Stat, <-chan Event, error) {
	ch := make(chan Event, 1)
	names, stat, err := c.children(ctx, path, ch)
	if err != nil {
		return nil, stat, nil, err
	}
	return names, stat, ch, nil
}

func (c *Client) children(ctx context.Context, path string, ch chan Event) ([]string, wire.Stat, error) {
	var resp wire.GetChildren2Response
	if _, err := c.read(ctx, wire.OpGetChildren2, path, &resp, childWatches, ch); err != nil {
		return nil, wire.Stat{}, err
	}
	slices.Sort(resp.Children)
	return resp.Children, resp.Stat, nil
}

// read carries out a read that can set a one-shot watch.
func (c *Client) read(ctx context.Context, op wire.Op, path string, resp wire.Record, table tableKind, ch chan Event) (wire.Code, error) {
	if err := checkPath(path, false); err != nil {
		return 0, &wire.OpError{Op: op, Path: path, Err: err}
	}
	full := c.full(path)
	k := c.newCall(op, path, &wire.PathWatch{Path: full, Watch: ch != nil}, resp)
	k.retry, k.keep = true, op == wire.OpGetData
	if ch != nil {
		k.watch = &oneShot{table, full, ch}
	}
	return c.do(ctx, k)
}

// Create makes a znode and returns its path, which for sequential modes has the
// number appended. With a nil ACL everybody may do everything. Modes with a TTL
// need CreateTTL.
func (c *Client) Create(ctx context.Context, path string, data []byte, acl []wire.ACL, mode wire.CreateMode) (string, wire.Stat, error) {
	op := wire.OpCreate2
	if mode == wire.Container {
		op = wire.OpCreateContainer
	}
	if !mode.Valid() || mode.IsTTL() {
		return "", wire.Stat{}, &wire.OpError{Op: op, Path: path, Err: wire.ErrBadArguments}
	}
	return c.create(ctx, op, path, &wire.CreateRequest{Data: data, ACL: acl, Mode: mode})
}

// CreateTTL makes a znode that goes when it has no children and was not changed
// for ttl, which has a resolution of milliseconds. Mode is wire.PersistentTTL or
// wire.PersistentSequentialTTL.
func (c *Client) CreateTTL(ctx context.Context, path string, data []byte, acl []wire.ACL, mode wire.CreateMode, ttl time.Duration) (string, wire.Stat, error) {
	if !mode.IsTTL() || ttl < time.Millisecond {
		return "", wire.Stat{}, &wire.OpError{Op: wire.OpCreateTTL, Path: path, Err: wire.ErrBadArguments}
	}
	return c.create(ctx, wire.OpCreateTTL, path,
		&wire.CreateRequest{Data: data, ACL: acl, Mode: mode, TTLMs: ttl.Milliseconds(), HasTTL: true})
}

func (c *Client) create(ctx context.Context, op wire.Op, path string, req *wire.CreateRequest) (string, wire.Stat, error) {
	if err := checkPath(path, req.Mode.IsSequential()); err != nil {
		return "", wire.Stat{}, &wire.OpError{Op: op, Path: path, Err: err}
	}
	req.Path = c.fullNew(path)
	if req.ACL == nil {
		req.ACL = openACL
	}
	var resp wire.CreateResponse
	if _, err := c.do(ctx, c.newCall(op, path, req, &resp)); err != nil {
		return "", wire.Stat{}, err
	}
	created, _ := c.strip(resp.Path)
	return created, resp.Stat, nil
}

var openACL = wire.OpenACL()

// fullNew is full for a path to be created: "/" is an empty sequential name.
func (c *Client) fullNew(path string) string { return c.chroot + path }

// Set replaces the data of a znode if version is its version or -1.
func (c *Client) Set(ctx context.Context, path string, data []byte, version int32) (wire.Stat, error) {
	var stat wire.Stat
	if err := checkPath(path, false); err != nil {
		return stat, &wire.OpError{Op: wire.OpSetData, Path: path, Err: err}
	}
	req := &wire.SetDataRequest{Path: c.full(path), Data: data, Version: version}
	if _, err := c.do(ctx, c.newCall(wire.OpSetData, path, req, &stat)); err != nil {
		return wire.Stat{}, err
	}
	return stat, nil
}

// Delete deletes a znode without children if version is its version or -1.
func (c *Client) Delete(ctx context.Context, path string, version int32) error {
	if err := checkPath(path, false); err != nil {
		return &wire.OpError{Op: wire.OpDelete, Path: path, Err: err}
	}
	_, err := c.do(ctx, c.newCall(wire.OpDelete, path, &wire.PathVersion{Path: c.full(path), Version: version}, nil))
	return err
}

// GetACL returns who may do what with a znode.
func (c *Client) GetACL(ctx context.Context, path string) ([]wire.ACL, wire.Stat, error) {
	var resp wire.GetACLResponse
	if err := c.readPath(ctx, wire.OpGetACL, path, &resp); err != nil {
		return nil, wire.Stat{}, err
	}
	return resp.ACL, resp.Stat, nil
}

// SetACL replaces the ACL of a znode if version is its aversion or -1.
func (c *Client) SetACL(ctx context.Context, path string, acl []wire.ACL, version int32) (wire.Stat, error) {
	var stat wire.Stat
	if err := checkPath(path, false); err != nil {
		return stat, &wire.OpError{Op: wire.OpSetACL, Path: path, Err: err}
	}
	req := &wire.SetACLRequest{Path: c.full(path), ACL: acl, Version: version}
	if _, err := c.do(ctx, c.newCall(wire.OpSetACL, path, req, &stat)); err != nil {
		return wire.Stat{}, err
	}
	return stat, nil
}

// Sync waits until the connected server knows all that was committed before:
// a read that follows sees it.
func (c *Client) Sync(ctx context.Context, path string) error {
	var resp wire.PathRecord
	return c.readPath(ctx, wire.OpSync, path, &resp)
}

// AllChildrenNumber returns how many znodes are below path, at all depths.
func (c *Client) AllChildrenNumber(ctx context.Context, path string) (int, error) {
	var resp wire.IntRecord
	if err := c.readPath(ctx, wire.OpGetAllChildrenNumber, path, &resp); err != nil {
		return 0, err
	}
	return int(resp.Value), nil
}

func (c *Client) readPath(ctx context.Context, op wire.Op, path string, resp wire.Record) error {
	if err := checkPath(path, false); err != nil {
		return &wire.OpError{Op: op, Path: path, Err: err}
	}
	k := c.newCall(op, path, &wire.PathRecord{Path: c.full(path)}, resp)
	k.retry = true
	_, err := c.do(ctx, k)
	return err
}

// Ephemerals returns the sorted paths of this session's ephemeral znodes that
// begin with prefix: a string, not a path.
func (c *Client) Ephemerals(ctx context.Context, prefix string) ([]string, error) {
	var resp wire.PathsRecord
	k := c.newCall(wire.OpGetEphemerals, prefix, &wire.PathRecord{Path: c.chroot + prefix}, &resp)
	k.retry = true
	if _, err := c.do(ctx, k); err != nil {
		return nil, err
	}
	paths := resp.Paths[:0]
	for _, p := range resp.Paths {
		if p, ok := c.strip(p); ok && strings.HasPrefix(p, prefix) {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// WhoAmI returns the identities of the connection.
func (c *Client) WhoAmI(ctx context.Context) ([]wire.ID, error) {
	var resp wire.WhoAmIResponse
	k := c.newCall(wire.OpWhoAmI, "", nil, &resp)
	k.retry = true
	if _, err := c.do(ctx, k); err != nil {
		return nil, err
	}
	return resp.Users, nil
}

// AddAuth adds an identity, which is repeated on every later connection. A
// refusal, wire.ErrAuthFailed, costs the connection.
func (c *Client) AddAuth(ctx context.Context, scheme string, auth []byte) error {
	auth = bytes.Clone(auth)
	k := c.newCall(wire.OpAuth, scheme, &wire.AuthPacket{Scheme: scheme, Auth: auth}, nil)
	k.retry, k.auth = true, Auth{scheme, auth}
	_, err := c.do(ctx, k)
	return err
}

// CheckWatches reports whether this client has a watch of the kind, a
// wire.Watcher… constant, on path at the connected server.
func (c *Client) CheckWatches(ctx context.Context, path string, kind int32) (bool, error) {
	if err := checkPath(path, false); err != nil {
		return false, &wire.OpError{Op: wire.OpCheckWatches, Path: path, Err: err}
	}
	k := c.newCall(wire.OpCheckWatches, path, &wire.PathMode{Path: c.full(path), Mode: kind}, nil)
	k.retry = true
	code, err := c.do(ctx, k)
	if code == wire.ErrNoWatcher {
		return false, nil
	}
	return err == nil, err
}

// RemoveWatches removes all watches of the kind, a wire.Watcher… constant, that
// this client has on path. Their channels get an event that says so and are
// closed. Without one the error is wire.ErrNoWatcher.
func (c *Client) RemoveWatches(ctx context.Context, path string, kind int32) error {
	if err := checkPath(path, false); err != nil {
		return &wire.OpError{Op: wire.OpRemoveWatches, Path: path, Err: err}
	}
	full := c.full(path)
	k := c.newCall(wire.OpRemoveWatches, path, &wire.PathMode{Path: full, Mode: kind}, nil)
	k.retry, k.full, k.kind = true, full, kind
	_, err := c.do(ctx, k)
	return err
}

// GetConfig returns the ensemble's configuration, /zookeeper/config, which no
// chroot hides.
func (c *Client) GetConfig(ctx context.Context) ([]byte, wire.Stat, error) {
	const path = "/zookeeper/config"
	var resp wire.GetDataResponse
	k := c.newCall(wire.OpGetData, path, &wire.PathWatch{Path: path}, &resp)
	k.retry, k.keep = true, true
	if _, err := c.do(ctx, k); err != nil {
		return nil, wire.Stat{}, err
	}
	return resp.Data, resp.Stat, nil
}

// Reconfig changes the ensemble, either by joining and leaving servers or by
// the whole list, and returns the new configuration. A configID other than -1
// must be the version of the present one.
func (c *Client) Reconfig(ctx context.Context, joining, leaving, newMembers string, configID int64) ([]byte, wire.Stat, error) {
	var resp wire.GetDataResponse
	req := &wire.ReconfigRequest{Joining: joining, Leaving: leaving, NewMembers: newMembers, ConfigID: configID}
	k := c.newCall(wire.OpReconfig, "", req, &resp)
	k.keep = true
	if _, err := c.do(ctx, k); err != nil {
		return nil, wire.Stat{}, err
	}
	return resp.Data, resp.Stat, nil
}
