package configsync

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// A node is one znode as it was last read.
type node struct {
	data                []byte
	sum                 digest // of data
	czxid, mzxid, pzxid zab.Zxid
	parent              bool  // it had children when it was read
	bad                 error // why data is not to be used
}

// A source is the mirror's picture of the znodes of a target, by path below
// from; "" is from itself. It is owned by the target's goroutine.
type source struct {
	client Client
	tc     *Target
	nodes  map[string]*node
	parent *node // of from, read when from is missing: the witness of its deletion
}

// parallelReads is how many reads of one tree are on their way at a time.
const parallelReads = 16

// abs returns the znode's path.
func (s *source) abs(rel string) string {
	if rel == "" {
		return s.tc.From
	}
	return s.tc.From + "/" + rel
}

// rel is the reverse of abs; ok is false for paths that are not below from.
func (s *source) rel(p string) (rel string, ok bool) {
	if p == s.tc.From {
		return "", true
	}
	return strings.CutPrefix(p, s.tc.From+"/")
}

// readAll reads everything anew. The picture changes only when all could be read.
func (s *source) readAll(ctx context.Context) error {
	// A server may be behind the one that was read from before, and it must not
	// look as if znodes had been deleted.
	if err := s.sync(ctx); err != nil {
		return err
	}
	next := &source{client: s.client, tc: s.tc, nodes: map[string]*node{}}
	var total int64
	for level := []string{""}; len(level) > 0; {
		answers, err := s.readMany(ctx, level, s.tc.Tree)
		if err != nil {
			return err
		}
		level = level[:0]
		for _, a := range answers {
			if a.node == nil {
				continue
			}
			next.nodes[a.rel] = a.node
			total += int64(len(a.node.data))
			for _, name := range a.children {
				level = append(level, path.Join(a.rel, name))
			}
		}
		if err := s.tc.within(len(next.nodes)+len(level), total); err != nil {
			return err
		}
	}
	if err := next.witness(ctx); err != nil {
		return err
	}
	s.nodes, s.parent = next.nodes, next.parent
	return nil
}

func (s *source) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return s.client.Sync(ctx, s.tc.From)
}

// An answer is what was read of one znode; node is nil if it does not exist.
type answer struct {
	rel      string
	node     *node
	children []string
}

// readMany reads znodes side by side.
func (s *source) readMany(ctx context.Context, rels []string, children bool) ([]answer, error) {
	if len(rels) == 1 {
		a, err := s.read(ctx, rels[0], children)
		return []answer{a}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	answers := make([]answer, len(rels))
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(parallelReads, len(rels)) {
		wg.Go(func() {
			for i := range next {
				var err error
				if answers[i], err = s.read(ctx, rels[i], children); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range rels {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return answers, context.Cause(ctx)
}

// within reports when a tree is larger than the target allows.
func (t *Target) within(nodes int, bytes int64) error {
	if nodes > t.MaxFiles+1 {
		return fmt.Errorf("tree has more than %d znodes (max_files)", t.MaxFiles)
	}
	if bytes > t.MaxTotal {
		return fmt.Errorf("tree has more than %d bytes (max_total)", t.MaxTotal)
	}
	return nil
}

// read reads one znode and, if wanted, the names of its children. err is a
// reason to try again; what is wrong with the znode for good is in the node.
func (s *source) read(ctx context.Context, rel string, children bool) (answer, error) {
	// While it waits for a connection, edits of files go unseen.
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	a := answer{rel: rel}
	data, st, err := s.client.Get(ctx, s.abs(rel))
	switch {
	case errors.Is(err, wire.ErrNoNode):
		return a, nil
	case errors.Is(err, wire.ErrNoAuth):
		a.node = &node{bad: err}
		return a, nil
	case err != nil:
		return a, err
	}
	n := &node{data: data, czxid: st.Czxid, mzxid: st.Mzxid, pzxid: st.Pzxid, parent: st.NumChildren > 0,
		sum: sha256.Sum256(data)}
	if int64(len(data)) > s.tc.MaxFile {
		n.data, n.bad = nil, fmt.Errorf("%d bytes are more than %d (max_file)", len(data), s.tc.MaxFile)
	}
	a.node = n
	if !children || st.NumChildren == 0 {
		return a, nil
	}
	names, st, err := s.client.Children(ctx, s.abs(rel))
	if errors.Is(err, wire.ErrNoNode) {
		return answer{rel: rel}, nil // deleted in between
	}
	if err != nil {
		return a, err
	}
	n.pzxid, a.children = st.Pzxid, names
	return a, nil
}

// refresh reads the znodes again that events were about, and the parents of
// those that came or went: their pzxid is the proof.
func (s *source) refresh(ctx context.Context, dirty map[string]bool) error {
	var rels []string
	for rel := range dirty {
		if rel == "" || s.tc.Tree {
			rels = append(rels, rel)
		}
	}
	answers, err := s.readMany(ctx, rels, false)
	if err != nil {
		return err
	}
	up := map[string]bool{}
	for _, a := range answers {
		if (a.node == nil || s.nodes[a.rel] == nil) && a.rel != "" && !dirty[parentOf(a.rel)] {
			up[parentOf(a.rel)] = true
		}
	}
	if len(up) > 0 {
		parents, err := s.readMany(ctx, slices.Collect(maps.Keys(up)), false)
		if err != nil {
			return err
		}
		answers = append(answers, parents...)
	}
	// The picture changes as a whole, or not at all.
	next := &source{client: s.client, tc: s.tc, nodes: maps.Clone(s.nodes)}
	// The gone ones first: what was made again beneath them is among the others.
	for _, a := range answers {
		if a.node != nil {
			continue
		}
		maps.DeleteFunc(next.nodes, func(rel string, _ *node) bool {
			return rel == a.rel || a.rel == "" || strings.HasPrefix(rel, a.rel+"/")
		})
	}
	for _, a := range answers {
		if a.node != nil {
			next.nodes[a.rel] = a.node
		}
	}
	var total int64
	for _, n := range next.nodes {
		total += int64(len(n.data))
	}
	if err := s.tc.within(len(next.nodes), total); err != nil {
		return err
	}
	if err := next.witness(ctx); err != nil {
		return err
	}
	s.nodes, s.parent = next.nodes, next.parent
	return nil
}

// witness reads the parent of from if from is missing.
func (s *source) witness(ctx context.Context) error {
	s.parent = nil
	if s.nodes[""] != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	up := path.Dir(s.tc.From)
	_, st, err := s.client.Get(ctx, up)
	switch {
	case errors.Is(err, wire.ErrNoNode), errors.Is(err, wire.ErrNoAuth):
		return nil
	case err != nil:
		return err
	}
	s.parent = &node{pzxid: st.Pzxid}
	return nil
}

// deletedAfter reports whether it is certain that the znode rel was deleted
// after z: an ancestor that exists has lost or gained children since. A tree of
// an older history, as a server shows that lags or was set up anew, does not
// pass for one where files were deleted.
func (s *source) deletedAfter(rel string, z zab.Zxid) bool {
	for {
		if n := s.nodes[rel]; n != nil {
			return n.pzxid > z
		}
		if rel == "" {
			return s.parent != nil && s.parent.pzxid > z
		}
		rel = parentOf(rel)
	}
}

// parentOf returns the path of the parent below from, "" for a child of from.
func parentOf(rel string) string {
	if i := strings.LastIndexByte(rel, '/'); i >= 0 {
		return rel[:i]
	}
	return ""
}
