package ensemble

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/paddockio/paddock/zab"
)

// A write is one that a worker asked for. Only one worker writes a path, and
// asks for the next write to it when it knows how the one before ended, or never
// again.
type write struct {
	path    string // "" if the server gives the name and has not told it
	id      string // tells the writes of sequential znodes apart: their data
	version int32  // of the data when it is done; deleted for a deletion
	owner   zab.SessionID

	call, ret time.Duration // since the beginning of the load
	acked     bool          // else the outcome is unknown, and ret means nothing
	zxid      zab.Zxid      // 0 if the answer tells none
}

const deleted = -1

// A found is what the checker wants to know of a znode.
type found struct {
	id           string // the data
	version      int32
	czxid, mzxid zab.Zxid
	owner        zab.SessionID
}

// checkOrder holds that writes are linearizable: each zxid is one write's (or one
// multi's), and a write that was answered before another one was asked for has
// the smaller zxid.
func checkOrder(writes []write) []error {
	var errs []error
	told := slices.DeleteFunc(slices.Clone(writes), func(w write) bool { return !w.acked || w.zxid == 0 })
	byCall := slices.Clone(told)
	slices.SortFunc(byCall, func(a, b write) int { return int(a.call - b.call) })
	slices.SortFunc(told, func(a, b write) int { return int(a.ret - b.ret) })
	var before write // of those answered so far, the one with the highest zxid
	for _, w := range byCall {
		for len(told) > 0 && told[0].ret < w.call {
			if told[0].zxid > before.zxid {
				before = told[0]
			}
			told = told[1:]
		}
		if w.zxid <= before.zxid {
			errs = append(errs, fmt.Errorf("%s, asked for at %v, has zxid %v: %s, answered at %v, has %v", w.path, w.call, w.zxid, before.path, before.ret, before.zxid))
		}
	}
	seen := map[zab.Zxid]write{}
	for _, w := range byCall {
		if other, ok := seen[w.zxid]; ok && (other.call != w.call || other.ret != w.ret) {
			errs = append(errs, fmt.Errorf("%s and %s have the same zxid %v", other.path, w.path, w.zxid))
		}
		seen[w.zxid] = w
	}
	return errs
}

// checkTree holds that every acknowledged write below root is in the tree,
// unless a later one replaced it, and nothing else than what was asked for.
func checkTree(writes []write, root string, tree map[string]found) []error {
	var errs []error
	paths := map[string][]write{}
	maybe := map[string]bool{} // ids of sequential znodes whose names are not known
	for _, w := range writes {
		if w.path == "" {
			maybe[w.id] = true
			continue
		}
		paths[w.path] = append(paths[w.path], w)
	}
	for path, ws := range paths {
		slices.SortStableFunc(ws, func(a, b write) int { return int(a.call - b.call) })
		possible := map[int32]write{deleted: {}}
		for _, w := range ws {
			if w.acked {
				clear(possible)
			}
			possible[w.version] = w
		}
		z, there := tree[path]
		version := z.version
		if !there {
			version = deleted
		}
		w, ok := possible[version]
		switch {
		case !ok && !there:
			errs = append(errs, fmt.Errorf("%s is lost, %+v", path, ws[len(ws)-1]))
		case !ok:
			errs = append(errs, fmt.Errorf("%s has version %d, last write %+v", path, version, ws[len(ws)-1]))
		case there && (ws[0].acked && ws[0].zxid != z.czxid || w.acked && w.zxid != z.mzxid):
			errs = append(errs, fmt.Errorf("%s was created at %v and changed at %v, first and last write %+v, %+v", path, z.czxid, z.mzxid, ws[0], w))
		case there && z.owner != ws[0].owner:
			errs = append(errs, fmt.Errorf("%s is of session %v, want %v", path, z.owner, ws[0].owner))
		case there && ws[0].id != "" && z.id != ws[0].id:
			errs = append(errs, fmt.Errorf("%s has %q, want %q", path, z.id, ws[0].id))
		}
	}
	for path, z := range tree {
		if strings.HasPrefix(path, root+"/") && paths[path] == nil {
			if !maybe[z.id] {
				errs = append(errs, fmt.Errorf("%s, %+v, was never asked for", path, z))
			}
			delete(maybe, z.id) // once
		}
	}
	return errs
}
