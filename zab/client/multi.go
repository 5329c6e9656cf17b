package client

import (
	"context"

	"github.com/paddockio/paddock/zab/wire"
)

// CreateOp is a create for Multi; its result is a wire.PathRecord, or with a
// container a wire.CreateResponse. With a nil ACL everybody may do everything.
func CreateOp(path string, data []byte, acl []wire.ACL, mode wire.CreateMode) wire.MultiOp {
	// Not create2: followers of release 3.8 leave out a multi that holds one.
	op := wire.OpCreate
	if mode == wire.Container {
		op = wire.OpCreateContainer
	}
	return wire.MultiOp{Op: op, Record: &wire.CreateRequest{Path: path, Data: data, ACL: acl, Mode: mode, TTLMs: -1}}
}

// SetOp is a setData for Multi.
func SetOp(path string, data []byte, version int32) wire.MultiOp {
	return wire.MultiOp{Op: wire.OpSetData, Record: &wire.SetDataRequest{Path: path, Data: data, Version: version}}
}

// DeleteOp is a delete for Multi.
func DeleteOp(path string, version int32) wire.MultiOp {
	return wire.MultiOp{Op: wire.OpDelete, Record: &wire.PathVersion{Path: path, Version: version}}
}

// CheckOp lets a Multi fail unless the znode has this version, or exists for -1.
func CheckOp(path string, version int32) wire.MultiOp {
	return wire.MultiOp{Op: wire.OpCheck, Record: &wire.PathVersion{Path: path, Version: version}}
}

// GetOp is a getData for MultiRead.
func GetOp(path string) wire.MultiOp {
	return wire.MultiOp{Op: wire.OpGetData, Record: &wire.PathWatch{Path: path}}
}

// ChildrenOp is a getChildren for MultiRead.
func ChildrenOp(path string) wire.MultiOp {
	return wire.MultiOp{Op: wire.OpGetChildren, Record: &wire.PathWatch{Path: path}}
}

// Multi carries out all the operations or none. If one fails, the error is about
// that one, and the results say which it was: wire.OK before it,
// wire.ErrRuntimeInconsistency behind it.
func (c *Client) Multi(ctx context.Context, ops ...wire.MultiOp) ([]wire.MultiResult, error) {
	results, err := c.multi(ctx, wire.OpMulti, ops)
	if err != nil {
		return nil, err
	}
	for i, r := range results {
		if r.Op == wire.OpFailed && r.Err != wire.OK && r.Err != wire.ErrRuntimeInconsistency {
			err := &wire.OpError{Op: wire.OpMulti, Err: r.Err}
			if i < len(ops) {
				err.Op, err.Path = ops[i].Op, multiPath(ops[i].Record)
			}
			return results, err
		}
	}
	return results, nil
}

// MultiRead carries out reads at one state of the tree. Each result has its own
// code; those are not errors of MultiRead.
func (c *Client) MultiRead(ctx context.Context, ops ...wire.MultiOp) ([]wire.MultiResult, error) {
	return c.multi(ctx, wire.OpMultiRead, ops)
}

func (c *Client) multi(ctx context.Context, op wire.Op, ops []wire.MultiOp) ([]wire.MultiResult, error) {
	req := wire.MultiRequest{Ops: make([]wire.MultiOp, len(ops))}
	for i, o := range ops {
		r, err := c.multiRecord(op, o)
		if err != nil {
			return nil, &wire.OpError{Op: o.Op, Path: multiPath(o.Record), Err: err}
		}
		req.Ops[i] = wire.MultiOp{Op: o.Op, Record: r}
	}
	var resp wire.MultiResponse
	k := c.newCall(op, "", &req, &resp)
	k.retry, k.keep = op == wire.OpMultiRead, op == wire.OpMultiRead
	if _, err := c.do(ctx, k); err != nil {
		return nil, err
	}
	for _, r := range resp.Results {
		switch r := r.Record.(type) {
		case *wire.PathRecord:
			r.Path, _ = c.strip(r.Path)
		case *wire.CreateResponse:
			r.Path, _ = c.strip(r.Path)
		}
	}
	return resp.Results, nil
}

// multiRecord returns the record with the server's path. A record of the wrong
// type would be answered with a code that helps nobody.
func (c *Client) multiRecord(multi wire.Op, o wire.MultiOp) (wire.Record, error) {
	switch r := o.Record.(type) {
	case *wire.CreateRequest:
		ttl := o.Op == wire.OpCreateTTL
		if multi == wire.OpMulti && (ttl || o.Op == wire.OpCreate || o.Op == wire.OpCreate2 || o.Op == wire.OpCreateContainer) &&
			r.HasTTL == ttl && r.Mode.IsTTL() == ttl {
			full := *r
			full.Path = c.fullNew(r.Path)
			if r.ACL == nil {
				full.ACL = openACL
			}
			return &full, checkPath(r.Path, r.Mode.IsSequential())
		}
	case *wire.PathVersion:
		if multi == wire.OpMulti && (o.Op == wire.OpDelete || o.Op == wire.OpCheck) {
			return &wire.PathVersion{Path: c.full(r.Path), Version: r.Version}, checkPath(r.Path, false)
		}
	case *wire.SetDataRequest:
		if multi == wire.OpMulti && o.Op == wire.OpSetData {
			return &wire.SetDataRequest{Path: c.full(r.Path), Data: r.Data, Version: r.Version}, checkPath(r.Path, false)
		}
	case *wire.PathWatch:
		if multi == wire.OpMultiRead && (o.Op == wire.OpGetData || o.Op == wire.OpGetChildren) {
			return &wire.PathWatch{Path: c.full(r.Path)}, checkPath(r.Path, false)
		}
	}
	return nil, wire.ErrBadArguments
}

func multiPath(r wire.Record) string {
	switch r := r.(type) {
	case *wire.CreateRequest:
		return r.Path
	case *wire.PathVersion:
		return r.Path
	case *wire.SetDataRequest:
		return r.Path
	case *wire.PathWatch:
		return r.Path
	}
	return ""
}
