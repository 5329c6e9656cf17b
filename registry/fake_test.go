package registry

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// fakeTree is a ZooKeeper in memory: nodes, owners, recursive watches.
type fakeTree struct {
	mu      sync.Mutex
	zxid    zab.Zxid
	nodes   map[string]*fakeNode
	conns   []*fakeConn
	session zab.SessionID // last given
	log     []string      // creates and deletes of child names, for assertions
	deny    map[string]wire.Code
	onRead  func(path string)
}

type fakeNode struct {
	data    []byte
	owner   zab.SessionID
	version int32
}

func newFakeTree() *fakeTree {
	return &fakeTree{nodes: map[string]*fakeNode{"/": {}}, deny: map[string]wire.Code{}, session: 0x100}
}

// connect gives a client with a new session.
func (t *fakeTree) connect() *fakeConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.session++
	return t.connectLocked(t.session)
}

// resume gives a client that takes up a session.
func (t *fakeTree) resume(id zab.SessionID) *fakeConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.connectLocked(id)
}

func (t *fakeTree) connectLocked(id zab.SessionID) *fakeConn {
	c := &fakeConn{tree: t, id: id, up: make(chan struct{})}
	close(c.up)
	t.conns = append(t.conns, c)
	return c
}

func (t *fakeTree) fireLocked(typ wire.EventType, path string) {
	for _, c := range t.conns {
		if !c.isUpLocked() {
			continue
		}
		for _, w := range c.watches {
			if path == w.path || w.path == "/" || strings.HasPrefix(path, w.path+"/") {
				w.ch <- Event{Type: typ, State: wire.StateSyncConnected, Path: path, Zxid: t.zxid}
			}
		}
	}
}

// put creates a node, with parents, as another client would.
func (t *fakeTree) put(path string, owner zab.SessionID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := 1; i < len(path); i++ {
		if path[i] == '/' && t.nodes[path[:i]] == nil {
			t.createLocked(path[:i], nil, 0)
		}
	}
	t.createLocked(path, nil, owner)
}

func (t *fakeTree) createLocked(path string, data []byte, owner zab.SessionID) {
	t.zxid++
	t.nodes[path] = &fakeNode{data: data, owner: owner}
	if strings.Count(path, "/") >= 4 {
		t.log = append(t.log, "create "+path)
	}
	t.fireLocked(wire.EventNodeCreated, path)
}

func (t *fakeTree) remove(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(path)
}

func (t *fakeTree) removeLocked(path string) {
	t.zxid++
	delete(t.nodes, path)
	t.log = append(t.log, "delete "+path)
	t.fireLocked(wire.EventNodeDeleted, path)
}

// takeLog returns the log and empties it.
func (t *fakeTree) takeLog() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.log
	t.log = nil
	return l
}

func (t *fakeTree) children(path string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.childrenLocked(path)
}

func (t *fakeTree) childrenLocked(path string) []string {
	var names []string
	prefix := strings.TrimSuffix(path, "/") + "/"
	for p := range t.nodes {
		if rest, ok := strings.CutPrefix(p, prefix); ok && rest != "" && !strings.Contains(rest, "/") {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names
}

func (t *fakeTree) owner(path string) zab.SessionID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nodes[path].owner
}

// expire ends a session on the server.
func (t *fakeTree) expire(id zab.SessionID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var gone []string
	for p, n := range t.nodes {
		if n.owner == id {
			gone = append(gone, p)
		}
	}
	slices.Sort(gone)
	for _, p := range gone {
		t.removeLocked(p)
	}
}

type fakeConn struct {
	tree    *fakeTree
	id      zab.SessionID // guarded by tree.mu
	up      chan struct{} // closed while connected; guarded by tree.mu
	watches []*fakeWatch
	ops     int
}

func (c *fakeConn) isUpLocked() bool {
	select {
	case <-c.up:
		return true
	default:
		return false
	}
}

// disconnect cuts the connection; events are lost from now on.
func (c *fakeConn) disconnect() {
	c.tree.mu.Lock()
	defer c.tree.mu.Unlock()
	c.up = make(chan struct{})
	c.tellLocked(wire.StateDisconnected)
}

// reconnect brings it back, with another session if fresh.
func (c *fakeConn) reconnect(fresh bool) {
	c.tree.mu.Lock()
	defer c.tree.mu.Unlock()
	if fresh {
		c.tree.session++
		c.id = c.tree.session
		c.tellLocked(wire.StateExpired)
	}
	close(c.up)
	c.tellLocked(wire.StateSyncConnected)
}

func (c *fakeConn) tellLocked(s wire.KeeperState) {
	for _, w := range c.watches {
		w.ch <- Event{Type: wire.EventNone, State: s}
	}
}

// enter waits for the connection, then locks.
func (c *fakeConn) enter(ctx context.Context) error {
	for {
		c.tree.mu.Lock()
		up := c.up
		if c.isUpLocked() {
			c.ops++
			return nil
		}
		c.tree.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-up:
		}
	}
}

func fail(op wire.Op, path string, code wire.Code) error {
	return &wire.OpError{Op: op, Path: path, Err: code}
}

func (c *fakeConn) Create(ctx context.Context, path string, data []byte, _ []wire.ACL, mode wire.CreateMode) (string, wire.Stat, error) {
	if err := c.enter(ctx); err != nil {
		return "", wire.Stat{}, err
	}
	defer c.tree.mu.Unlock()
	parent := path[:max(strings.LastIndexByte(path, '/'), 1)]
	if code := c.tree.deny[path]; code != 0 {
		return "", wire.Stat{}, fail(wire.OpCreate2, path, code)
	}
	if c.tree.nodes[parent] == nil {
		return "", wire.Stat{}, fail(wire.OpCreate2, path, wire.ErrNoNode)
	}
	if c.tree.nodes[path] != nil {
		return "", wire.Stat{}, fail(wire.OpCreate2, path, wire.ErrNodeExists)
	}
	var owner zab.SessionID
	if mode.IsEphemeral() {
		owner = c.id
	}
	c.tree.createLocked(path, data, owner)
	return path, wire.Stat{EphemeralOwner: owner}, nil
}

func (c *fakeConn) Delete(ctx context.Context, path string, version int32) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	defer c.tree.mu.Unlock()
	if c.tree.nodes[path] == nil {
		return fail(wire.OpDelete, path, wire.ErrNoNode)
	}
	c.tree.removeLocked(path)
	return nil
}

func (c *fakeConn) Get(ctx context.Context, path string) ([]byte, wire.Stat, error) {
	if err := c.enter(ctx); err != nil {
		return nil, wire.Stat{}, err
	}
	defer c.tree.mu.Unlock()
	n := c.tree.nodes[path]
	if n == nil {
		return nil, wire.Stat{}, fail(wire.OpGetData, path, wire.ErrNoNode)
	}
	return n.data, wire.Stat{EphemeralOwner: n.owner, Version: n.version}, nil
}

func (c *fakeConn) Children(ctx context.Context, path string) ([]string, wire.Stat, error) {
	if err := c.enter(ctx); err != nil {
		return nil, wire.Stat{}, err
	}
	if c.tree.onRead != nil {
		c.tree.onRead(path)
	}
	defer c.tree.mu.Unlock()
	if code := c.tree.deny[path]; code != 0 {
		return nil, wire.Stat{}, fail(wire.OpGetChildren2, path, code)
	}
	if c.tree.nodes[path] == nil {
		return nil, wire.Stat{}, fail(wire.OpGetChildren2, path, wire.ErrNoNode)
	}
	return c.tree.childrenLocked(path), wire.Stat{}, nil
}

func (c *fakeConn) Ephemerals(ctx context.Context, prefix string) ([]string, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	defer c.tree.mu.Unlock()
	var paths []string
	for p, n := range c.tree.nodes {
		if n.owner == c.id && strings.HasPrefix(p, prefix) {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

func (c *fakeConn) SessionID() zab.SessionID {
	c.tree.mu.Lock()
	defer c.tree.mu.Unlock()
	return c.id
}

func (c *fakeConn) Watch(ctx context.Context, path string) (Watch, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	defer c.tree.mu.Unlock()
	w := &fakeWatch{conn: c, path: path, ch: make(chan Event, 1<<16)}
	c.watches = append(c.watches, w)
	return w, nil
}

type fakeWatch struct {
	conn *fakeConn
	path string
	ch   chan Event
}

func (w *fakeWatch) Events() <-chan Event { return w.ch }

func (w *fakeWatch) Close() error {
	w.conn.tree.mu.Lock()
	defer w.conn.tree.mu.Unlock()
	w.conn.watches = slices.DeleteFunc(w.conn.watches, func(o *fakeWatch) bool { return o == w })
	return nil
}

// end closes the stream, as a client does that gives up.
func (w *fakeWatch) end() {
	w.Close()
	close(w.ch)
}

func byID(list []Status, id string) Status {
	i := slices.IndexFunc(list, func(s Status) bool { return s.ID == id })
	if i < 0 {
		return Status{}
	}
	return list[i]
}

func states(list []Status) string {
	var b strings.Builder
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.ID, b.ID) })
	for _, s := range list {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s.ID + "=" + string(s.State))
	}
	return b.String()
}
