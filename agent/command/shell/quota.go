package shell

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// Where quotas stand (class Quotas).
const (
	quotaRoot  = "/zookeeper/quota"
	limitsNode = "zookeeper_limits"
	statsNode  = "zookeeper_stats"
)

func limitPath(path string) string { return quotaRoot + path + "/" + limitsNode }
func statPath(path string) string  { return quotaRoot + path + "/" + statsNode }

// track is the data of a limits or stats znode (class StatsTrack); what is not
// in it is -1.
type track map[string]int64

func (t track) get(key string) int64 {
	if v, ok := t[key]; ok {
		return v
	}
	return -1
}

// String prints count and bytes first, then the rest behind an odd "=" that
// keeps parsers of old releases from reading on.
func (t track) String() string {
	text := fmt.Sprintf("count=%d,bytes=%d", t.get("count"), t.get("bytes"))
	more := "="
	for _, k := range slices.Sorted(maps.Keys(t)) {
		if k != "count" && k != "bytes" {
			more += fmt.Sprintf(";%s=%d", k, t[k])
		}
	}
	if more != "=" {
		text += more
	}
	return text
}

func parseTrack(data []byte) (track, error) {
	t := track{}
	for pair := range strings.FieldsFuncSeq(string(data), func(r rune) bool { return r == ',' || r == ';' }) {
		kv := strings.Split(pair, "=")
		if len(kv) < 2 || kv[1] == "" {
			t[kv[0]] = -1
			continue
		}
		n, err := strconv.ParseInt(kv[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("quota data %q: %q is no number", data, kv[1])
		}
		t[kv[0]] = n
	}
	return t, nil
}

// quotaOptions maps the letters of setquota and delquota.
var quotaOptions = []struct{ letter, key, what string }{
	{"n", "count", "num"}, {"b", "bytes", "bytes"}, {"N", "countHardLimit", "num"}, {"B", "byteHardLimit", "bytes"},
}

func readTrack(ctx context.Context, c *client.Client, path string) (track, error) {
	data, _, err := c.Get(ctx, path)
	if err != nil {
		return nil, err
	}
	return parseTrack(data)
}

func setQuota(ctx context.Context, c *call) error {
	s, path := c.shell, c.args[1]
	if strings.HasPrefix(path, quotaRoot) {
		s.errorf("cannot set a quota under the path: %s\n", quotaRoot)
		return ErrFailed
	}
	quota := track{"count": -1, "bytes": -1, "countHardLimit": -1, "byteHardLimit": -1}
	given := 0
	for _, o := range quotaOptions {
		if !c.has(o.letter) {
			continue
		}
		given++
		n, err := strconv.ParseInt(c.options[o.letter], 10, 64)
		switch {
		case err != nil:
			s.errorf("NumberFormatException happens when parsing the option value\n")
			return ErrFailed
		case o.what == "num" && n <= 0:
			s.errorf("the num quota must be greater than zero\n")
			return ErrFailed
		case n < 0:
			s.errorf("the bytes quota must be greater than or equal to zero\n")
			return ErrFailed
		}
		quota[o.key] = n
	}
	if given != 1 {
		return usageError(verbs["setquota"].usageText("setquota"))
	}
	if err := checkPath(path); err != nil {
		return err
	}
	if _, found, err := c.client.Exists(ctx, path); err != nil {
		return err
	} else if !found {
		return said(path + " does not exist.")
	}
	if err := c.otherQuota(ctx, path); err != nil {
		return err
	}
	return c.putQuota(ctx, path, quota)
}

// otherQuota refuses a quota above or below one that exists: servers would
// count for the longer one only.
func (c *call) otherQuota(ctx context.Context, path string) error {
	var walk func(p string) error
	walk = func(p string) error {
		names, _, err := c.client.Children(ctx, p)
		if errors.Is(err, wire.ErrNoNode) {
			return nil
		}
		if err != nil {
			return err
		}
		if p != quotaRoot+path && slices.Contains(names, limitsNode) {
			return fmt.Errorf("%s has a child %s which has a quota", path, p[len(quotaRoot):])
		}
		for _, n := range names {
			if n != limitsNode && n != statsNode {
				if err := walk(p + "/" + n); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk(strings.TrimSuffix(quotaRoot+path, "/")); err != nil {
		return err
	}
	for i := 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		above := quotaRoot + path[:i]
		names, _, err := c.client.Children(ctx, above)
		if errors.Is(err, wire.ErrNoNode) {
			return nil
		}
		if err != nil {
			return err
		}
		if slices.Contains(names, limitsNode) {
			return fmt.Errorf("%s has a parent %s which has a quota", path, path[:i])
		}
	}
	return nil
}

func (c *call) putQuota(ctx context.Context, path string, quota track) error {
	old, err := readTrack(ctx, c.client, limitPath(path))
	switch {
	case errors.Is(err, wire.ErrNoNode):
		at := quotaRoot
		for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
			if name == "" {
				continue // of the path "/"
			}
			at += "/" + name
			if _, _, err := c.client.Create(ctx, at, nil, nil, wire.Persistent); err != nil && !errors.Is(err, wire.ErrNodeExists) {
				return err
			}
		}
		// Limits first: they make servers count, stats shows the count.
		if _, _, err := c.client.Create(ctx, at+"/"+limitsNode, []byte(quota.String()), nil, wire.Persistent); err != nil {
			return err
		}
		stats := track{"count": 0, "bytes": 0}
		if _, _, err := c.client.Create(ctx, at+"/"+statsNode, []byte(stats.String()), nil, wire.Persistent); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		for k, v := range quota {
			if v >= 0 {
				old[k] = v
			}
		}
		if _, err := c.client.Set(ctx, limitPath(path), []byte(old.String()), -1); err != nil {
			return err
		}
		quota = old
	}
	now, err := readTrack(ctx, c.client, statPath(path))
	if err != nil {
		return err
	}
	under := func(key, hard string) bool {
		return quota.get(key) > -1 && quota.get(key) < now.get(key) || quota.get(hard) > -1 && quota.get(hard) < now.get(key)
	}
	if under("count", "countHardLimit") {
		c.shell.printf("[Warning]: the count quota you create is less than the existing count:%d\n", now.get("count"))
	}
	if under("bytes", "byteHardLimit") {
		c.shell.printf("[Warning]: the bytes quota you create is less than the existing bytes:%d\n", now.get("bytes"))
	}
	return nil
}

func listQuota(ctx context.Context, c *call) error {
	s, path := c.shell, c.args[1]
	if !s.cfg.JSON {
		s.errorf("absolute path is %s\n", limitPath(path))
	}
	limits, err := readTrack(ctx, c.client, limitPath(path))
	var stats track
	if err == nil {
		stats, err = readTrack(ctx, c.client, statPath(path))
	}
	if errors.Is(err, wire.ErrNoNode) {
		s.errorf("quota for %s does not exist.\n", path)
		return ErrFailed
	}
	if err != nil {
		return err
	}
	if !s.json(map[string]any{"path": path, "limits": limits, "stats": stats}) {
		s.printf("Output quota for %s %v\nOutput stat for %s %v\n", path, limits, path, stats)
	}
	return nil
}

func delQuota(ctx context.Context, c *call) error {
	s, path := c.shell, c.args[1]
	limits, err := readTrack(ctx, c.client, limitPath(path))
	if errors.Is(err, wire.ErrNoNode) {
		s.printf("Quota does not exist for %s\n", path)
		return nil
	}
	if err != nil {
		return err
	}
	some := false
	for _, o := range quotaOptions {
		if c.has(o.letter) {
			limits[o.key], some = -1, true
		}
	}
	if some {
		_, err := c.client.Set(ctx, limitPath(path), []byte(limits.String()), -1)
		return err
	}
	for _, n := range []string{limitsNode, statsNode} {
		if err := c.client.Delete(ctx, quotaRoot+path+"/"+n, -1); err != nil && !errors.Is(err, wire.ErrNoNode) {
			return err
		}
	}
	// The znodes above go as far as nobody else needs them.
	for at := quotaRoot + path; at != quotaRoot; at = at[:strings.LastIndexByte(at, '/')] {
		err := c.client.Delete(ctx, at, -1)
		if errors.Is(err, wire.ErrNotEmpty) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
