package shell

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// verbs is the table of commands, with the usage texts of zkCli. It is filled by
// init, since help reads it.
var verbs map[string]*verb

func init() {
	verbs = map[string]*verb{
		"addWatch": {usage: "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE",
			values: []string{"m"}, min: 2, run: addWatch},
		"addauth": {usage: "scheme auth", min: 2, run: addAuth},
		"close":   {local: true, run: closeSession},
		"config":  {usage: "[-c] [-w] [-s]", flags: []string{"s", "w", "c"}, min: 1, run: getConfig},
		"connect": {usage: "host:port", local: true, run: connect},
		"create": {usage: "[-s] [-e] [-c] [-t ttl] path [data] [acl]", flags: []string{"e", "s", "c"}, values: []string{"t"},
			min: 2, run: create},
		"delete":        {usage: "[-v version] path", values: []string{"v"}, min: 2, run: remove},
		"deleteall":     {usage: "path [-b batch size]", values: []string{"b"}, min: 2, run: removeAll},
		"rmr":           {usage: "path", values: []string{"b"}, min: 2, hidden: true, run: removeAll},
		"delquota":      {usage: "[-n|-b|-N|-B] path", flags: []string{"n", "b", "N", "B"}, min: 2, run: delQuota},
		"get":           {usage: "[-s] [-w] [-b] [-x] path", flags: []string{"s", "w", "b", "x"}, min: 2, help: getHelp, run: get},
		"getAcl":        {usage: "[-s] path", flags: []string{"s"}, min: 2, run: getACL},
		"getEphemerals": {usage: "path", min: 1, run: getEphemerals},
		"getAllChildrenNumber": {usage: "path", min: 2, run: func(ctx context.Context, c *call) error {
			if err := checkPath(c.args[1]); err != nil {
				return err
			}
			n, err := c.client.AllChildrenNumber(ctx, c.args[1])
			if err == nil && !c.shell.json(map[string]any{"path": c.args[1], "count": n}) {
				c.shell.printf("%d\n", n)
			}
			return err
		}},
		"help":      {local: true, hidden: true, run: func(_ context.Context, c *call) error { c.shell.printf("%s", usage()); return nil }},
		"history":   {local: true, run: history},
		"listquota": {usage: "path", min: 2, run: listQuota},
		"ls":        {usage: "[-s] [-w] [-R] path", flags: []string{"?", "s", "w", "R"}, min: 2, run: list},
		"ls2":       {usage: "path", flags: []string{"w"}, min: 2, hidden: true, run: list},
		"printwatches": {usage: "on|off", local: true, run: func(_ context.Context, c *call) error {
			s := c.shell
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(c.args) > 1 {
				s.printWatches = c.args[1] == "on"
			} else if s.printWatches {
				fmt.Fprintln(s.out, "printwatches is on")
			} else {
				fmt.Fprintln(s.out, "printwatches is off")
			}
			return nil
		}},
		"quit":     {local: true, run: func(_ context.Context, c *call) error { c.shell.quit = true; c.shell.disconnect(); return nil }},
		"exit":     {local: true, hidden: true, run: func(_ context.Context, c *call) error { c.shell.quit = true; c.shell.disconnect(); return nil }},
		"reconfig": {usage: reconfigUsage, flags: []string{"s"}, values: []string{"v", "file", "members", "add", "remove"}, min: 1, run: reconfig},
		"redo":     {usage: "cmdno", local: true, min: 1, run: redo},
		"removewatches": {usage: "path [-c|-d|-a] [-l]", flags: []string{"c", "d", "p", "r", "a", "l"}, min: 2,
			run: removeWatches},
		"set": {usage: "path data [-s] [-v version] [-b]", flags: []string{"s", "b"}, values: []string{"v"}, min: 3, help: setHelp, run: setData},
		"setAcl": {usage: "[-s] [-v version] [-R] path acl", flags: []string{"s", "R"}, values: []string{"v"}, min: 3,
			run: setACL},
		"setquota": {usage: "-n|-b|-N|-B val path", values: []string{"n", "b", "N", "B"}, min: 2, run: setQuota},
		"stat":     {usage: "[-w] path", flags: []string{"w"}, min: 2, run: stat},
		"sync":     {usage: "path", min: 2, run: syncPath},
		"version": {local: true, run: func(_ context.Context, c *call) error {
			if !c.shell.json(map[string]any{"version": c.shell.cfg.Version}) {
				c.shell.printf("ZooKeeper CLI version: %s\n", c.shell.cfg.Version)
			}
			return nil
		}},
		"whoami": {run: whoAmI},
	}
}

const getHelp = ` -b   Output data in base64 format
 -s   Print znode stats additionally
 -w   Watch for changes on the znode
 -x   Output data in hexdump format
`

const setHelp = ` -b         Supply data in base64 format
 -s         Print znode stats additionally
 -v <arg>   Set with an expected version
`

const reconfigUsage = "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | " +
	"[-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]"

// wantsWatch is -w, or the second word of release 3.4: get path watch.
func (c *call) wantsWatch(verb, instead string) bool {
	if len(c.args) > 2 {
		c.shell.errorf("'%s path [watch]' has been deprecated. Please use '%s' instead.\n", verb, instead)
		return true
	}
	return c.has("w")
}

func (c *call) version() (int32, error) {
	text, ok := c.options["v"]
	if !ok {
		return -1, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, usageError("-v argument must be an int value")
	}
	return int32(n), nil
}

// getData reads a znode, with a watch if one is wanted and not armed yet.
func (c *call) getData(ctx context.Context, path string, watch bool) ([]byte, wire.Stat, error) {
	key := watchKey{path, 'd'}
	if !watch || c.shell.link.isWatching(key) {
		return c.client.Get(ctx, path)
	}
	data, st, events, err := c.client.GetW(ctx, path)
	if err == nil {
		c.shell.watch(c.shell.link, key, events)
	}
	return data, st, err
}

func (c *call) children(ctx context.Context, path string, watch bool) ([]string, wire.Stat, error) {
	key := watchKey{path, 'c'}
	if !watch || c.shell.link.isWatching(key) {
		return c.client.Children(ctx, path)
	}
	names, st, events, err := c.client.ChildrenW(ctx, path)
	if err == nil {
		c.shell.watch(c.shell.link, key, events)
	}
	return names, st, err
}

func list(ctx context.Context, c *call) error {
	s, path := c.shell, c.args[1]
	watch, withStat := c.wantsWatch(c.args[0], "ls [-w] path"), c.has("s")
	if c.args[0] == "ls2" {
		if !s.cfg.JSON {
			s.errorf("'ls2' has been deprecated. Please use 'ls [-s] path' instead.\n")
		}
		withStat = true
	}
	if c.has("?") {
		s.printf("usage: ls [options] path\n -?   help\n -R   recurse\n -s   stat\n -w   watch\n")
	}
	if err := checkPath(path); err != nil {
		return err
	}
	if c.has("R") {
		if _, _, err := c.getData(ctx, path, watch); err != nil {
			return err
		}
		return c.visit(ctx, path, watch, func(p string) {
			if !s.json(map[string]any{"path": p}) {
				s.printf("%s\n", p)
			}
		})
	}
	names, st, err := c.children(ctx, path, watch)
	if err != nil {
		return err
	}
	if s.cfg.JSON {
		m := map[string]any{"path": path, "children": append([]string{}, names...)}
		if withStat {
			m["stat"] = statJSON(st)
		}
		s.json(m)
		return nil
	}
	text := "[" + strings.Join(names, ", ") + "]\n"
	if withStat {
		text += statText(st)
	}
	s.write([]byte(text))
	return nil
}

// visit calls f for path and everything below it, in the order of zkCli: all
// children of a znode, then what is below each.
func (c *call) visit(ctx context.Context, path string, watch bool, f func(string)) error {
	f(path)
	return c.visitBelow(ctx, path, watch, f)
}

func (c *call) visitBelow(ctx context.Context, path string, watch bool, f func(string)) error {
	names, _, err := c.children(ctx, path, watch)
	if errors.Is(err, wire.ErrNoNode) {
		return nil // gone since it was listed
	}
	if err != nil {
		return err
	}
	for _, n := range names {
		f(join(path, n))
	}
	for _, n := range names {
		if err := c.visitBelow(ctx, join(path, n), watch, f); err != nil {
			return err
		}
	}
	return nil
}

func join(path, name string) string {
	if path == "/" {
		return path + name
	}
	return path + "/" + name
}

func get(ctx context.Context, c *call) error {
	s, path := c.shell, c.args[1]
	watch := c.wantsWatch("get", "get [-s] [-w] path")
	if err := checkPath(path); err != nil {
		return err
	}
	data, st, err := c.getData(ctx, path, watch)
	if err != nil {
		return err
	}
	if s.cfg.JSON {
		m := map[string]any{"path": path}
		if data == nil {
			m["data"] = nil
		} else {
			putData(m, data)
		}
		if c.has("s") {
			m["stat"] = statJSON(st)
		}
		s.json(m)
		return nil
	}
	c.printData(data, st)
	return nil
}

func (c *call) printData(data []byte, st wire.Stat) {
	if data == nil {
		data = []byte("null")
	}
	switch {
	case c.has("x"):
		data = []byte(hexDump(data))
	case c.has("b"):
		data = []byte(base64.StdEncoding.EncodeToString(data))
	}
	text := append(slices.Clip(data), '\n')
	if c.has("s") {
		text = append(text, statText(st)...)
	}
	c.shell.write(text)
}

func stat(ctx context.Context, c *call) error {
	s, path := c.shell, c.args[1]
	watch := c.wantsWatch("stat", "stat [-w] path")
	if err := checkPath(path); err != nil {
		return err
	}
	var st wire.Stat
	var found bool
	var err error
	// One key for both tables: a missing znode is watched for its creation.
	if key := (watchKey{path, 'e'}); !watch || s.link.isWatching(key) {
		st, found, err = c.client.Exists(ctx, path)
	} else {
		var events <-chan client.Event
		if st, found, events, err = c.client.ExistsW(ctx, path); err == nil {
			s.watch(s.link, key, events)
		}
	}
	if err == nil && !found {
		err = &wire.OpError{Op: wire.OpExists, Path: path, Err: wire.ErrNoNode}
	}
	if err != nil {
		return err
	}
	if !s.json(map[string]any{"path": path, "stat": statJSON(st)}) {
		s.write([]byte(statText(st)))
	}
	return nil
}

const maxTTL = 0xffffffffff // ms; 40 bits of the ephemeral owner

func (c *call) createMode() (mode wire.CreateMode, ttl time.Duration, err error) {
	e, seq, cont := c.has("e"), c.has("s"), c.has("c")
	text, hasTTL := c.options["t"]
	ms := int64(1)
	if hasTTL {
		ms, err = strconv.ParseInt(text, 10, 64)
	}
	switch {
	case cont && (e || seq):
		return 0, 0, usageError("-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.")
	case err != nil:
		return 0, 0, usageError("-t argument must be a long value")
	case hasTTL && e:
		return 0, 0, usageError("TTLs cannot be used with Ephemeral znodes")
	case hasTTL && cont:
		return 0, 0, usageError("TTLs cannot be used with Container znodes")
	case ms > maxTTL || ms <= 0:
		return 0, 0, usageError(fmt.Sprintf("ttl must be positive and cannot be larger than: %d", int64(maxTTL)))
	case hasTTL && seq:
		return wire.PersistentSequentialTTL, time.Duration(ms) * time.Millisecond, nil
	case hasTTL:
		return wire.PersistentTTL, time.Duration(ms) * time.Millisecond, nil
	case e && seq:
		return wire.EphemeralSequential, 0, nil
	case e:
		return wire.Ephemeral, 0, nil
	case seq:
		return wire.PersistentSequential, 0, nil
	case cont:
		return wire.Container, 0, nil
	}
	return wire.Persistent, 0, nil
}

func create(ctx context.Context, c *call) error {
	s, path := c.shell, c.args[1]
	mode, ttl, err := c.createMode()
	if err != nil {
		return err
	}
	var data []byte
	if len(c.args) > 2 {
		data = []byte(c.args[2])
	}
	var acl []wire.ACL
	if len(c.args) > 3 {
		acl = s.parseACL(c.args[3])
	}
	checked := path
	if mode.IsSequential() {
		checked += "1"
	}
	if err := checkPath(checked); err != nil {
		return err
	}
	var made string
	var st wire.Stat
	if mode.IsTTL() {
		made, st, err = c.client.CreateTTL(ctx, path, data, acl, mode, ttl)
	} else {
		made, st, err = c.client.Create(ctx, path, data, acl, mode)
	}
	switch {
	case err == nil:
		if !s.json(map[string]any{"path": made, "stat": statJSON(st)}) {
			s.errorf("Created %s\n", made)
		}
	case errors.Is(err, wire.ErrEphemeralOnLocalSession):
		s.errorf("Unable to create ephemeral node on a local session\n")
	case errors.Is(err, wire.ErrInvalidACL):
		s.errorf("KeeperErrorCode = InvalidACL for %s\n", path)
	}
	return err
}

func setData(ctx context.Context, c *call) error {
	s, path, data := c.shell, c.args[1], []byte(c.args[2])
	version, err := c.version()
	if err != nil {
		return err
	}
	if len(c.args) > 3 { // release 3.4: set path data version
		n, err := strconv.ParseInt(c.args[3], 10, 32)
		if err != nil {
			return usageError(verbs["set"].usageText("set"))
		}
		s.errorf("'set path data [version]' has been deprecated. Please use 'set [-s] [-v version] path data' instead.\n")
		version = int32(n)
	}
	if c.has("b") {
		if data, err = base64.StdEncoding.DecodeString(c.args[2]); err != nil {
			return usageError("-b data must be base64")
		}
	}
	if err := checkPath(path); err != nil {
		return err
	}
	st, err := c.client.Set(ctx, path, data, version)
	if err == nil && !s.json(map[string]any{"path": path, "stat": statJSON(st)}) && c.has("s") {
		s.write([]byte(statText(st)))
	}
	return err
}

func remove(ctx context.Context, c *call) error {
	version, err := c.version()
	if err != nil {
		return err
	}
	if len(c.args) > 2 {
		n, err := strconv.ParseInt(c.args[2], 10, 32)
		if err != nil {
			return usageError(verbs["delete"].usageText("delete"))
		}
		c.shell.errorf("'delete path [version]' has been deprecated. Please use 'delete [-v version] path' instead.\n")
		version = int32(n)
	}
	if err := checkPath(c.args[1]); err != nil {
		return err
	}
	return c.client.Delete(ctx, c.args[1], version)
}

func removeAll(ctx context.Context, c *call) error {
	s, path := c.shell, c.args[1]
	if c.args[0] == "rmr" {
		s.errorf("The command 'rmr' has been deprecated. Please use 'deleteall' instead.\n")
	}
	batch := 1000
	if text, ok := c.options["b"]; ok {
		n, err := strconv.Atoi(text)
		if err != nil {
			return usageError("-b argument must be an int value")
		}
		batch = n
	}
	if err := checkPath(path); err != nil {
		return err
	}
	failed, err := removeTree(ctx, c.client, path, batch)
	if err != nil {
		return err
	}
	if failed {
		s.errorf("Failed to delete some node(s) in the subtree!\n")
		return ErrFailed
	}
	return nil
}

// removeTree deletes path and all below it, in multis of at most batch
// deletions. failed is true if some were refused, because somebody else works
// on the same znodes.
func removeTree(ctx context.Context, c *client.Client, path string, batch int) (failed bool, err error) {
	tree := []string{path}
	for i := 0; i < len(tree); i++ {
		names, _, err := c.Children(ctx, tree[i])
		if errors.Is(err, wire.ErrNoNode) && i > 0 {
			continue
		}
		if err != nil {
			return false, err
		}
		for _, n := range names {
			tree = append(tree, join(tree[i], n))
		}
	}
	slices.Reverse(tree) // leaves first
	if batch <= 0 {
		batch = math.MaxInt
		for _, p := range tree {
			if err := c.Delete(ctx, p, -1); err != nil {
				return false, err
			}
		}
		return false, nil
	}
	for chunk := range slices.Chunk(tree, batch) {
		ops := make([]wire.MultiOp, len(chunk))
		for i, p := range chunk {
			ops[i] = client.DeleteOp(p, -1)
		}
		if _, err := c.Multi(ctx, ops...); err != nil {
			if ctx.Err() != nil || errors.Is(err, wire.ErrConnectionLoss) {
				return false, err
			}
			failed = true
		}
	}
	return failed, nil
}

func getACL(ctx context.Context, c *call) error {
	s, path := c.shell, c.args[1]
	if err := checkPath(path); err != nil {
		return err
	}
	acl, st, err := c.client.GetACL(ctx, path)
	if err != nil {
		return err
	}
	if s.cfg.JSON {
		list := []map[string]any{}
		for _, a := range acl {
			list = append(list, map[string]any{"scheme": a.ID.Scheme, "id": a.ID.ID, "perms": permText(a.Perms)})
		}
		m := map[string]any{"path": path, "acl": list}
		if c.has("s") {
			m["stat"] = statJSON(st)
		}
		s.json(m)
		return nil
	}
	var b strings.Builder
	for _, a := range acl {
		// The line feed is that of the generated class Id.
		fmt.Fprintf(&b, "'%s,'%s\n: %s\n", a.ID.Scheme, a.ID.ID, permText(a.Perms))
	}
	if c.has("s") {
		b.WriteString(statText(st))
	}
	s.write([]byte(b.String()))
	return nil
}

func setACL(ctx context.Context, c *call) error {
	s, path := c.shell, c.args[1]
	version, err := c.version()
	if err != nil {
		return err
	}
	acl := s.parseACL(c.args[2])
	if err := checkPath(path); err != nil {
		return err
	}
	if c.has("R") {
		if _, _, err := c.client.Get(ctx, path); err != nil {
			return err
		}
		refused := false
		err := c.visit(ctx, path, false, func(p string) {
			if _, err := c.client.SetACL(ctx, p, acl, version); err != nil {
				refused = true
				s.errorf("%s\n", message(err))
			}
		})
		if err == nil && refused {
			err = ErrFailed
		}
		return err
	}
	st, err := c.client.SetACL(ctx, path, acl, version)
	if err == nil && !s.json(map[string]any{"path": path, "stat": statJSON(st)}) && c.has("s") {
		s.write([]byte(statText(st)))
	}
	return err
}

func addAuth(ctx context.Context, c *call) error {
	var auth []byte
	if len(c.args) > 2 {
		auth = []byte(c.args[2])
	}
	return c.client.AddAuth(ctx, c.args[1], auth)
}

func addWatch(ctx context.Context, c *call) error {
	if len(c.args) != 2 {
		return usageError(verbs["addWatch"].usageText("addWatch"))
	}
	mode := wire.WatchPersistentRecursive
	if text, ok := c.options["m"]; ok {
		switch strings.ToUpper(text) {
		case "PERSISTENT":
			mode = wire.WatchPersistent
		case "PERSISTENT_RECURSIVE":
		default:
			return usageError(verbs["addWatch"].usageText("addWatch"))
		}
	}
	if err := checkPath(c.args[1]); err != nil {
		return err
	}
	w, err := c.client.AddWatch(ctx, c.args[1], mode)
	if err != nil {
		return err
	}
	s := c.shell
	s.link.wg.Go(func() {
		for e := range w.Events() { // closed when the client's Run ends
			if e.Type != wire.EventNone { // those come over SessionEvents
				s.event(e)
			}
		}
	})
	return nil
}

func removeWatches(ctx context.Context, c *call) error {
	kind := wire.WatcherAny
	for _, k := range []struct {
		letter string
		kind   int32
	}{{"c", wire.WatcherChildren}, {"d", wire.WatcherData}, {"p", wire.WatcherPersistent}, {"r", wire.WatcherPersistentRecursive}} {
		if c.has(k.letter) {
			kind = k.kind
			break
		}
	}
	if err := checkPath(c.args[1]); err != nil {
		return err
	}
	return c.client.RemoveWatches(ctx, c.args[1], kind)
}

func getEphemerals(ctx context.Context, c *call) error {
	prefix := "/"
	if len(c.args) > 1 {
		prefix = c.args[1]
		if err := checkPath(prefix); err != nil {
			return err
		}
	}
	paths, err := c.client.Ephemerals(ctx, prefix)
	if err == nil && !c.shell.json(map[string]any{"ephemerals": append([]string{}, paths...)}) {
		c.shell.printf("[%s]\n", strings.Join(paths, ", "))
	}
	return err
}

func syncPath(ctx context.Context, c *call) error {
	if err := checkPath(c.args[1]); err != nil {
		return err
	}
	err := c.client.Sync(ctx, c.args[1])
	var code wire.Code
	switch {
	case err == nil:
		if !c.shell.json(map[string]any{"path": c.args[1], "ok": true}) {
			c.shell.printf("Sync is OK\n")
		}
	case errors.As(err, &code) && !c.shell.cfg.JSON:
		c.shell.printf("Sync has failed. rc=%d\n", int32(code))
		return ErrFailed
	}
	return err
}

func whoAmI(ctx context.Context, c *call) error {
	ids, err := c.client.WhoAmI(ctx)
	if err != nil {
		return err
	}
	if c.shell.cfg.JSON {
		list := []map[string]any{}
		for _, id := range ids {
			list = append(list, map[string]any{"scheme": id.Scheme, "id": id.ID})
		}
		c.shell.json(map[string]any{"ids": list})
		return nil
	}
	text := "Auth scheme: User\n"
	for _, id := range ids {
		text += id.Scheme + ": " + id.ID + "\n"
	}
	c.shell.write([]byte(text))
	return nil
}

const configPath = "/zookeeper/config"

func getConfig(ctx context.Context, c *call) error {
	s := c.shell
	var data []byte
	var st wire.Stat
	var err error
	if c.has("w") && !strings.Contains(s.server, "/") { // with a chroot it cannot be watched by its path
		data, st, err = c.getData(ctx, configPath, true)
	} else {
		data, st, err = c.client.GetConfig(ctx)
	}
	if err != nil {
		return err
	}
	text := string(data)
	if data == nil {
		text = "null"
	}
	if c.has("c") {
		text = clientAddrs(text)
	}
	if s.cfg.JSON {
		m := map[string]any{"config": text}
		if c.has("s") {
			m["stat"] = statJSON(st)
		}
		s.json(m)
		return nil
	}
	text += "\n"
	if c.has("s") {
		text += statText(st)
	}
	s.write([]byte(text))
	return nil
}

// clientAddrs is "version host:port,host:port" of a configuration.
func clientAddrs(config string) string {
	version, addrs := "", []string{}
	for line := range strings.Lines(config) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "version" {
			version = value
		}
		if _, addr, ok := strings.Cut(value, ";"); ok && strings.HasPrefix(key, "server.") {
			if !strings.Contains(addr, ":") {
				addr = "0.0.0.0:" + addr
			}
			addrs = append(addrs, addr)
		}
	}
	return version + " " + strings.Join(addrs, ",")
}

func reconfig(ctx context.Context, c *call) error {
	full := c.has("file") || c.has("members")
	step := c.has("add") || c.has("remove")
	version := int64(-1)
	switch {
	case !full && !step:
		return usageError(verbs["reconfig"].usageText("reconfig"))
	case full && step:
		return usageError("Can't use -file or -members together with -add or -remove (mixing incremental and non-incremental modes is not allowed)")
	case c.has("file") && c.has("members"):
		return usageError("Can't use -file and -members together (conflicting non-incremental modes)")
	case c.has("v"):
		v, err := strconv.ParseInt(c.options["v"], 16, 64)
		if err != nil {
			return usageError("-v must be followed by a long (configuration version)")
		}
		version = v
	}
	members := strings.ToLower(c.options["members"])
	if c.has("file") {
		data, err := os.ReadFile(c.options["file"])
		if err != nil {
			return usageError("Error processing " + err.Error())
		}
		members = string(data)
	}
	config, st, err := c.client.Reconfig(ctx, strings.ToLower(c.options["add"]), strings.ToLower(c.options["remove"]), members, version)
	if err != nil {
		return err
	}
	if !c.shell.json(map[string]any{"config": string(config), "stat": statJSON(st)}) {
		text := "Committed new configuration:\n" + string(config) + "\n"
		if c.has("s") {
			text += statText(st)
		}
		c.shell.write([]byte(text))
	}
	return nil
}

func connect(ctx context.Context, c *call) error {
	server := c.shell.server
	if len(c.args) > 1 {
		server = c.args[1]
	}
	c.shell.connect(ctx, server)
	return nil
}

func closeSession(_ context.Context, c *call) error {
	if c.shell.link == nil || c.shell.link.closed {
		c.shell.printf("Not connected\n")
		return nil
	}
	c.shell.disconnect()
	return nil
}

func history(_ context.Context, c *call) error {
	s := c.shell
	for i := max(0, len(s.history)-11); i < len(s.history); i++ {
		s.printf("%d - %s\n", i, s.history[i])
	}
	return nil
}

func redo(ctx context.Context, c *call) error {
	s := c.shell
	if len(c.args) < 2 {
		return nil
	}
	i, err := strconv.ParseInt(c.args[1], 0, 32)
	if err != nil || i < 0 || int(i) >= len(s.history)-1 {
		return usageError("Command index out of range")
	}
	line := s.history[i]
	words := Split(line)
	if len(words) > 0 && words[0] == "redo" {
		return usageError("No redoing redos")
	}
	s.history[len(s.history)-1] = line
	return s.exec(ctx, words)
}
