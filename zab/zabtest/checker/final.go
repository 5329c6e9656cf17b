package checker

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// DiffTrees says in what got is not as want, at the first place in the order of
// the paths; "" if they are the same: znodes with data, stat and ACL, and
// sessions. /zookeeper/config is each server's own.
func DiffTrees(want, got *znode.Tree) string {
	if w, g := want.Sessions(), got.Sessions(); !slices.Equal(w, g) {
		for _, s := range w {
			if _, ok := got.SessionTimeout(s.ID); !ok {
				return fmt.Sprintf("session %v is missing", s.ID)
			}
		}
		for _, s := range g {
			if _, ok := want.SessionTimeout(s.ID); !ok {
				return fmt.Sprintf("session %v must not be there", s.ID)
			}
		}
		return "a session has another timeout"
	}
	return diffBelow(want, got, "/")
}

func diffBelow(want, got *znode.Tree, path string) string {
	wd, ws, _ := want.Get(path, super)
	gd, gs, code := got.Get(path, super)
	wa, _, _ := want.GetACL(path, super)
	ga, _, _ := got.GetACL(path, super)
	wn, _, _ := want.Children(path, super)
	gn, _, _ := got.Children(path, super)
	switch own := path == "/zookeeper/config"; {
	case code != wire.OK:
		return fmt.Sprintf("%s: %v", path, code)
	case own:
	case !slices.Equal(wn, gn):
		return fmt.Sprintf("children of %s: %s", path, diffNames(gn, wn))
	case !bytes.Equal(wd, gd):
		return fmt.Sprintf("%s: the data are %q, must be %q", path, short(gd), short(wd))
	case ws != gs:
		return fmt.Sprintf("%s: %s", path, diffStat(&gs, &ws))
	case !slices.Equal(wa, ga):
		return fmt.Sprintf("%s: the acl is %v, must be %v", path, ga, wa)
	}
	for _, name := range wn {
		child := path + "/" + name
		if path == "/" {
			child = path + name
		}
		if diff := diffBelow(want, got, child); diff != "" {
			return diff
		}
	}
	return ""
}
