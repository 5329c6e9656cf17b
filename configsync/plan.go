package configsync

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/paddockio/paddock/zab"
)

// A plan is what the znodes say the files should be.
type plan struct {
	wants map[string]*node   // by file name
	notes map[string]problem // by file name, or by znode path for those that have none
}

// plan maps the picture of the znodes to files.
func (t *target) plan() plan {
	p := plan{wants: map[string]*node{}, notes: map[string]problem{}}
	if !t.tc.Tree {
		t.planSingle(&p)
		return p
	}
	inner := map[string]bool{}
	for rel := range t.src.nodes {
		if rel != "" {
			inner[parentOf(rel)] = true
		}
	}
	blocked := map[string]bool{} // znodes whose name is no file name: nothing below them is a file
	for _, rel := range slices.Sorted(maps.Keys(t.src.nodes)) {
		n := t.src.nodes[rel]
		if rel == "" && !inner[""] {
			if len(n.data) > 0 {
				p.notes[t.src.abs("")] = problem{StateFailing, "the znode has data but no children: it is no tree", t.src.abs("")}
			}
			continue
		}
		if rel != "" && blocked[parentOf(rel)] {
			blocked[rel] = true
			continue
		}
		name, err := fileName(rel, inner[rel])
		if err != nil {
			blocked[rel] = true
			p.notes[t.src.abs(rel)] = problem{StateFailing, err.Error(), t.src.abs(rel)}
			continue
		}
		t.want(&p, name, rel, n, inner[rel])
	}
	t.dropClashes(&p)
	return p
}

func (t *target) planSingle(p *plan) {
	n := t.src.nodes[""]
	if n == nil {
		if _, had := t.mem.Files[t.single]; !had {
			p.notes[t.single] = problem{StateKept, "there is no such znode", t.tc.From}
		}
		return
	}
	if len(n.data) == 0 && n.parent && t.tc.Empty == EmptyKeep {
		p.notes[t.single] = problem{StateFailing,
			"the znode has children and no data; for a tree end `to` with / or set tree: true", t.tc.From}
		return
	}
	t.want(p, t.single, "", n, false)
}

// want adds one file, if its znode has what a file can be made of.
func (t *target) want(p *plan, name, rel string, n *node, inner bool) {
	_, had := t.mem.Files[name]
	switch {
	case n.bad != nil:
		p.notes[name] = problem{StateFailing, n.bad.Error(), t.src.abs(rel)}
	case len(n.data) > 0, t.tc.Empty == EmptyWrite && !inner:
		p.wants[name] = n
	case had, !t.tc.Tree:
		// Never an empty file because the source became empty. An empty leaf that
		// never was a file is the usual way to prepare a directory.
		p.notes[name] = problem{StateKept, "the znode is empty", t.src.abs(rel)}
	}
}

// dropClashes leaves out names that the file system takes for the same as
// another one. The older znode wins, so that a new one cannot push it out.
func (t *target) dropClashes(p *plan) {
	byFold := map[string][]string{}
	for name := range p.wants {
		f := strings.ToLower(name)
		byFold[f] = append(byFold[f], name)
	}
	for _, names := range byFold {
		if len(names) < 2 || !t.foldsCase() {
			continue
		}
		slices.SortFunc(names, func(a, b string) int {
			return cmp.Or(cmp.Compare(p.wants[a].czxid, p.wants[b].czxid), strings.Compare(a, b))
		})
		for _, name := range names[1:] {
			delete(p.wants, name)
			p.notes[name] = problem{StateFailing, fmt.Sprintf("the file system takes it for the same name as %q", names[0]), t.znodeOf(name)}
		}
	}
}

// foldsCase reports whether the file system of the target ignores case. It is
// asked only when that matters.
func (t *target) foldsCase() bool {
	if t.foldCase != nil {
		return *t.foldCase
	}
	folds := false
	if dir, err := t.m.disk.open(t.root, 0, false); err == nil {
		defer dir.Close()
		if t.makeStaging(dir) == nil {
			_, err := dir.lstat(strings.ToUpper(stagingName))
			folds = err == nil
		}
	}
	t.foldCase = &folds
	return folds
}

// A removal is a file that the mirror wrote and whose znode is deleted.
type removal struct {
	name   string
	blocks bool // something wanted needs its place: it goes first
}

// removals decides about the files that the mirror remembers and the znodes no
// longer ask for. What stays is noted in p.
func (t *target) removals(dir directory, p plan) []removal {
	var out []removal
	for _, name := range slices.Sorted(maps.Keys(t.mem.Files)) {
		if p.wants[name] != nil {
			continue
		}
		if _, noted := p.notes[name]; noted {
			continue
		}
		rec := t.mem.Files[name]
		keep := func(state, reason string) { p.notes[name] = problem{state, reason, t.znodeOf(name)} }
		s, err := t.inspect(dir, name, rec.Size)
		switch {
		case err != nil:
			keep(StateFailing, err.Error())
		case !s.exists:
			delete(t.mem.Files, name) // somebody was quicker
			delete(t.seen, name)
			t.memDirty = true
		case t.src.nodes[""] == nil && t.tc.Tree:
			keep(StateKept, "the source "+t.tc.From+" is gone")
		case len(p.wants) == 0 && t.tc.Tree:
			keep(StateKept, "the source "+t.tc.From+" is empty")
		case t.tc.Delete != DeleteRemove:
			keep(StateKept, "the znode is gone")
		case !t.src.deletedAfter(t.relOf(name), zab.Zxid(rec.Zxid)):
			keep(StateKept, "the znode is gone, but nothing proves that it was deleted after the file was written")
		case rec.Written.IsZero():
			keep(StateKept, "the znode is gone, but the file was not written by the mirror")
		case s.sum != rec.SHA256:
			keep(StateEdited, "the znode is gone, but the file was changed by somebody else")
		default:
			out = append(out, removal{name, blocks(name, p.wants)})
		}
	}
	return out
}

// blocks reports whether a file stands where a directory is wanted, or in a
// directory where a file is wanted.
func blocks(name string, wants map[string]*node) bool {
	for d := filepath.Dir(name); d != "."; d = filepath.Dir(d) {
		if wants[d] != nil {
			return true
		}
	}
	for w := range wants {
		if beneath(w, name) {
			return true
		}
	}
	return false
}
