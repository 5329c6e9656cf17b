package client

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/wire"
)

// TestOperationsBelowAChroot plays every operation once: what is asked of the
// server, with the chroot, and what the caller gets, without.
func TestOperationsBelowAChroot(t *testing.T) {
	stat := wire.Stat{Version: 3, Mzxid: 9}
	acl := []wire.ACL{{Perms: wire.PermRead, ID: wire.ID{Scheme: "ip", ID: "10.0.0.1"}}}
	open := wire.OpenACL()
	list := func(v ...any) []any { return v }
	for _, tc := range []struct {
		name string
		call func(context.Context, *Client) ([]any, error)
		op   wire.Op
		req  wire.Record // nil: none
		resp wire.Record
		want []any
	}{
		{
			"get", func(ctx context.Context, c *Client) ([]any, error) {
				data, stat, err := c.Get(ctx, "/a")
				return list(data, stat), err
			},
			wire.OpGetData, &wire.PathWatch{Path: "/app/a"}, &wire.GetDataResponse{Data: []byte("x"), Stat: stat}, list([]byte("x"), stat),
		},
		{
			"get null data of the root", func(ctx context.Context, c *Client) ([]any, error) {
				data, stat, err := c.Get(ctx, "/")
				return list(data, stat), err
			},
			wire.OpGetData, &wire.PathWatch{Path: "/app"}, &wire.GetDataResponse{Stat: stat}, list([]byte(nil), stat),
		},
		{
			"exists", func(ctx context.Context, c *Client) ([]any, error) {
				stat, found, err := c.Exists(ctx, "/a")
				return list(stat, found), err
			},
			wire.OpExists, &wire.PathWatch{Path: "/app/a"}, &stat, list(stat, true),
		},
		{
			"children, sorted", func(ctx context.Context, c *Client) ([]any, error) {
				names, stat, err := c.Children(ctx, "/a")
				return list(names, stat), err
			},
			wire.OpGetChildren2, &wire.PathWatch{Path: "/app/a"},
			&wire.GetChildren2Response{Children: []string{"b", "a"}, Stat: stat}, list([]string{"a", "b"}, stat),
		},
		{
			"create", func(ctx context.Context, c *Client) ([]any, error) {
				path, stat, err := c.Create(ctx, "/a", []byte("x"), nil, wire.Ephemeral)
				return list(path, stat), err
			},
			wire.OpCreate2, &wire.CreateRequest{Path: "/app/a", Data: []byte("x"), ACL: open, Mode: wire.Ephemeral, TTLMs: -1},
			&wire.CreateResponse{Path: "/app/a", Stat: stat}, list("/a", stat),
		},
		{
			"create of a sequential znode without a name", func(ctx context.Context, c *Client) ([]any, error) {
				path, stat, err := c.Create(ctx, "/", nil, acl, wire.PersistentSequential)
				return list(path, stat), err
			},
			wire.OpCreate2, &wire.CreateRequest{Path: "/app/", ACL: acl, Mode: wire.PersistentSequential, TTLMs: -1},
			&wire.CreateResponse{Path: "/app/0000000000", Stat: stat}, list("/0000000000", stat),
		},
		{
			"create of a container", func(ctx context.Context, c *Client) ([]any, error) {
				path, stat, err := c.Create(ctx, "/a", nil, nil, wire.Container)
				return list(path, stat), err
			},
			wire.OpCreateContainer, &wire.CreateRequest{Path: "/app/a", ACL: open, Mode: wire.Container, TTLMs: -1},
			&wire.CreateResponse{Path: "/app/a", Stat: stat}, list("/a", stat),
		},
		{
			"create with TTL", func(ctx context.Context, c *Client) ([]any, error) {
				path, stat, err := c.CreateTTL(ctx, "/a", nil, nil, wire.PersistentTTL, 2*time.Second)
				return list(path, stat), err
			},
			wire.OpCreateTTL, &wire.CreateRequest{Path: "/app/a", ACL: open, Mode: wire.PersistentTTL, TTLMs: 2000, HasTTL: true},
			&wire.CreateResponse{Path: "/app/a", Stat: stat}, list("/a", stat),
		},
		{
			"set", func(ctx context.Context, c *Client) ([]any, error) {
				stat, err := c.Set(ctx, "/a", []byte{}, 2)
				return list(stat), err
			},
			wire.OpSetData, &wire.SetDataRequest{Path: "/app/a", Data: []byte{}, Version: 2}, &stat, list(stat),
		},
		{
			"delete", func(ctx context.Context, c *Client) ([]any, error) { return nil, c.Delete(ctx, "/a", 2) },
			wire.OpDelete, &wire.PathVersion{Path: "/app/a", Version: 2}, nil, nil,
		},
		{
			"get acl", func(ctx context.Context, c *Client) ([]any, error) {
				acl, stat, err := c.GetACL(ctx, "/a")
				return list(acl, stat), err
			},
			wire.OpGetACL, &wire.PathRecord{Path: "/app/a"}, &wire.GetACLResponse{ACL: acl, Stat: stat}, list(acl, stat),
		},
		{
			"set acl", func(ctx context.Context, c *Client) ([]any, error) {
				stat, err := c.SetACL(ctx, "/a", acl, 1)
				return list(stat), err
			},
			wire.OpSetACL, &wire.SetACLRequest{Path: "/app/a", ACL: acl, Version: 1}, &stat, list(stat),
		},
		{
			"sync", func(ctx context.Context, c *Client) ([]any, error) { return nil, c.Sync(ctx, "/a") },
			wire.OpSync, &wire.PathRecord{Path: "/app/a"}, &wire.PathRecord{Path: "/app/a"}, nil,
		},
		{
			"all children", func(ctx context.Context, c *Client) ([]any, error) {
				n, err := c.AllChildrenNumber(ctx, "/")
				return list(n), err
			},
			wire.OpGetAllChildrenNumber, &wire.PathRecord{Path: "/app"}, &wire.IntRecord{Value: 7}, list(7),
		},
		{
			"ephemerals, but none beside the chroot", func(ctx context.Context, c *Client) ([]any, error) {
				paths, err := c.Ephemerals(ctx, "/")
				return list(paths), err
			},
			wire.OpGetEphemerals, &wire.PathRecord{Path: "/app/"},
			&wire.PathsRecord{Paths: []string{"/app/b", "/apple", "/app/a"}}, list([]string{"/a", "/b"}),
		},
		{
			"who am I", func(ctx context.Context, c *Client) ([]any, error) {
				ids, err := c.WhoAmI(ctx)
				return list(ids), err
			},
			wire.OpWhoAmI, nil, &wire.WhoAmIResponse{Users: []wire.ID{{Scheme: "ip", ID: "::1"}}}, list([]wire.ID{{Scheme: "ip", ID: "::1"}}),
		},
		{
			"check watches", func(ctx context.Context, c *Client) ([]any, error) {
				ok, err := c.CheckWatches(ctx, "/a", wire.WatcherAny)
				return list(ok), err
			},
			wire.OpCheckWatches, &wire.PathMode{Path: "/app/a", Mode: wire.WatcherAny}, nil, list(true),
		},
		{
			"config, above the chroot", func(ctx context.Context, c *Client) ([]any, error) {
				data, stat, err := c.GetConfig(ctx)
				return list(data, stat), err
			},
			wire.OpGetData, &wire.PathWatch{Path: "/zookeeper/config"}, &wire.GetDataResponse{Data: []byte("v"), Stat: stat}, list([]byte("v"), stat),
		},
		{
			"reconfig", func(ctx context.Context, c *Client) ([]any, error) {
				data, stat, err := c.Reconfig(ctx, "server.4=d:1:2;3", "1", "", 5)
				return list(data, stat), err
			},
			wire.OpReconfig, &wire.ReconfigRequest{Joining: "server.4=d:1:2;3", Leaving: "1", ConfigID: 5},
			&wire.GetDataResponse{Data: []byte("v"), Stat: stat}, list([]byte("v"), stat),
		},
		{
			"multi", func(ctx context.Context, c *Client) ([]any, error) {
				res, err := c.Multi(ctx, CreateOp("/a", nil, nil, wire.Persistent), SetOp("/b", nil, 1), CheckOp("/c", 2), DeleteOp("/", 3),
					CreateOp("/box", nil, acl, wire.Container))
				return list(res[0].Record.(*wire.PathRecord).Path, len(res)), err
			},
			wire.OpMulti, &wire.MultiRequest{Ops: []wire.MultiOp{
				{Op: wire.OpCreate, Record: &wire.CreateRequest{Path: "/app/a", ACL: open, TTLMs: -1}},
				{Op: wire.OpSetData, Record: &wire.SetDataRequest{Path: "/app/b", Version: 1}},
				{Op: wire.OpCheck, Record: &wire.PathVersion{Path: "/app/c", Version: 2}},
				{Op: wire.OpDelete, Record: &wire.PathVersion{Path: "/app", Version: 3}},
				{Op: wire.OpCreateContainer, Record: &wire.CreateRequest{Path: "/app/box", ACL: acl, Mode: wire.Container, TTLMs: -1}},
			}},
			&wire.MultiResponse{Results: []wire.MultiResult{
				{Op: wire.OpCreate, Record: &wire.PathRecord{Path: "/app/a"}}, {Op: wire.OpSetData, Record: &stat},
				{Op: wire.OpCheck}, {Op: wire.OpDelete}, {Op: wire.OpCreate2, Record: &wire.CreateResponse{Path: "/app/box"}},
			}}, list("/a", 5),
		},
		{
			"multiRead", func(ctx context.Context, c *Client) ([]any, error) {
				res, err := c.MultiRead(ctx, GetOp("/a"), ChildrenOp("/b"))
				return list(string(res[0].Record.(*wire.GetDataResponse).Data), res[1].Err), err
			},
			wire.OpMultiRead, &wire.MultiRequest{Ops: []wire.MultiOp{
				{Op: wire.OpGetData, Record: &wire.PathWatch{Path: "/app/a"}}, {Op: wire.OpGetChildren, Record: &wire.PathWatch{Path: "/app/b"}},
			}},
			&wire.MultiResponse{Results: []wire.MultiResult{
				{Op: wire.OpGetData, Record: &wire.GetDataResponse{Data: []byte("x")}}, {Op: wire.OpFailed, Err: wire.ErrNoNode},
			}}, list("x", wire.ErrNoNode),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, Config{Servers: "x/app"}, func(t *testing.T, c *Client, s *fakeServer) {
				conn := s.welcome(1)
				var got []any
				done := goDo(func() (err error) {
					got, err = tc.call(t.Context(), c)
					return err
				})
				var req wire.Record
				if tc.req != nil {
					req = reflect.New(reflect.TypeOf(tc.req).Elem()).Interface().(wire.Record)
					if r, ok := req.(*wire.CreateRequest); ok {
						r.HasTTL = tc.op == wire.OpCreateTTL
					}
				}
				xid := conn.request(tc.op, req)
				if !reflect.DeepEqual(req, tc.req) {
					t.Errorf("asked for %+v, want %+v", req, tc.req)
				}
				conn.reply(xid, 9, wire.OK, tc.resp)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, tc.want) {
					t.Errorf("got %+v, want %+v", got, tc.want)
				}
			})
		})
	}
}

// What a caller keeps must not change when the next reply comes in.
func TestResultsDoNotShareTheReadBuffer(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		go s.welcome(1).serveReads()
		first, _, err := c.Get(t.Context(), "/first")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3000 { // more than the buffer holds
			if _, _, err := c.Get(t.Context(), fmt.Sprintf("/%06d", i)); err != nil {
				t.Fatal(err)
			}
		}
		if string(first) != "/first" {
			t.Errorf("first result became %q", first)
		}
	})
}

func TestFailedMultiNamesTheOperation(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		var results []wire.MultiResult
		done := goDo(func() (err error) {
			results, err = c.Multi(t.Context(), CheckOp("/a", 1), DeleteOp("/b", -1), CheckOp("/c", 1))
			return err
		})
		conn.reply(conn.request(wire.OpMulti, nil), 1, wire.OK, &wire.MultiResponse{Results: []wire.MultiResult{
			{Op: wire.OpFailed}, {Op: wire.OpFailed, Err: wire.ErrNotEmpty}, {Op: wire.OpFailed, Err: wire.ErrRuntimeInconsistency},
		}})
		err := <-done
		var opErr *wire.OpError
		if !errors.As(err, &opErr) || *opErr != (wire.OpError{Op: wire.OpDelete, Path: "/b", Err: wire.ErrNotEmpty}) || len(results) != 3 {
			t.Errorf("%v, %v", results, err)
		}
	})
}

func TestNoWatchIsNoError(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		found := true
		done := goDo(func() (err error) {
			found, err = c.CheckWatches(t.Context(), "/a", wire.WatcherData)
			return err
		})
		conn.reply(conn.request(wire.OpCheckWatches, nil), 1, wire.ErrNoWatcher, nil)
		if err := <-done; err != nil || found {
			t.Errorf("%v, %v", found, err)
		}
	})
}
