package checker

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// replay applies the log to the reference tree and compares on the way: each
// transaction with what its request means in the state before it, each answer to
// an update with what the transaction came to, each read with the state at its
// zxid (rules Z2, Z3, Z5, S22, S24, S25), and the final trees (Z6).
func (r *run) replay() {
	t := r.opt.Tree
	if t == nil {
		t = znode.New(r.opt.Config)
	}
	first := t.LastZxid()
	order := r.statesSeen(first)
	finals := slices.Clone(r.opt.Finals)
	slices.SortStableFunc(finals, func(a, b Final) int { return cmp.Compare(a.Tree.LastZxid(), b.Tree.LastZxid()) })
	p := &player{run: r, t: t, prep: znode.NewPrep(t), suffixes: map[string]int64{}, sums: map[string]uint64{}}
	for _, b := range r.opt.Banks {
		p.banks = append(p.banks, newLedger(b))
	}
	r.identities()
	r.collectFeeds()

	at := -1
	look := func() {
		for len(order) > 0 && int(r.seen[order[0]]) <= at {
			p.read(int(order[0]))
			order = order[1:]
		}
		var next zab.Zxid = 1<<63 - 1
		if at+1 < len(r.txns) {
			next = r.txns[at+1].Header.Zxid
		}
		for len(finals) > 0 && finals[0].Tree.LastZxid() < next {
			f := finals[0]
			finals = finals[1:]
			if diff := DiffTrees(t, f.Tree); diff != "" {
				r.fail("Z6", f.Tree.LastZxid(), nil, "server %s at %v: %s", f.Server, f.Tree.LastZxid(), diff)
			}
		}
	}
	look()
	for at = 0; at < len(r.txns) && !r.full(); at++ {
		p.apply(at)
		look()
	}
	r.report.Tree = t
}

// statesSeen finds the state that each read shows and lists the reads in the
// order of these states.
func (r *run) statesSeen(first zab.Zxid) []int32 {
	r.seen = make([]int32, len(r.h.Entries))
	counts := make([]int32, len(r.txns)+2)
	n := 0
	for i, e := range r.h.Entries {
		r.seen[i] = unseen
		if e.Kind != Request || !e.Known() || e.Zxid <= 0 || e.Op.IsWrite() {
			continue
		}
		at, ok := r.byZxid[e.Zxid]
		if !ok {
			if e.Zxid != first && e.Zxid.Counter() != 0 {
				r.fail("Z3", e.Zxid, entries(e), "the answer is of %v, which was never committed", e.Zxid)
				continue
			}
			// The state that a new leader began with.
			k, _ := slices.BinarySearchFunc(r.txns, e.Zxid, func(t *wire.Txn, z zab.Zxid) int { return cmp.Compare(t.Header.Zxid, z) })
			at = int32(k) - 1
		}
		r.seen[i] = at
		counts[at+1]++
		n++
	}
	sum := int32(0)
	for i, c := range counts {
		counts[i] = sum
		sum += c
	}
	order := make([]int32, n)
	for i, at := range r.seen {
		if at != unseen {
			order[counts[at+1]] = int32(i)
			counts[at+1]++
		}
	}
	return order
}

// identities finds what each connection is.
func (r *run) identities() {
	conns := map[int][]identity{}
	for _, e := range r.h.Entries {
		switch {
		case e.Kind == Connect && len(e.IDs) > 0:
			conns[e.Conn] = []identity{{e.Seq, slices.Clip(e.IDs)}}
		case e.Kind == Request && e.Op == wire.OpAuth && e.Known() && e.Err == wire.OK:
			list := conns[e.Conn]
			var ids []wire.ID
			if len(list) > 0 {
				ids = list[len(list)-1].ids
			}
			conns[e.Conn] = append(list, identity{e.Seq, slices.Concat(ids, e.IDs)})
		}
	}
	r.ids = conns
}

// identity is what a connection is from an entry on.
type identity struct {
	seq int
	ids []wire.ID
}

// idsAt returns the identities of e's connection when e was answered.
func (r *run) idsAt(e *Entry) []wire.ID {
	list := r.ids[e.Conn]
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].seq <= e.Seq {
			return list[i].ids
		}
	}
	return nil
}

// player is the reference while the log is applied to it.
type player struct {
	*run
	t        *znode.Tree
	prep     *znode.Prep
	res      znode.Result
	judged   wire.Txn
	suffixes map[string]int64 // the last sequence number below a path
	banks    []*ledger

	// sums has the sum of the hashes of the children's names for each path whose
	// children were read, so that long lists need no sorting.
	sums map[string]uint64
}

var nameSeed = maphash.MakeSeed() // sums are only compared with each other

// sameChildren compares a list of names in any order with the tree's.
func (p *player) sameChildren(path string, names []string, st *wire.Stat) bool {
	if len(names) != int(st.NumChildren) {
		return false
	}
	sum, ok := p.sums[path]
	if !ok {
		want, _, _ := p.t.Children(path, super)
		sum = sumNames(want)
		p.sums[path] = sum
	}
	return sum == sumNames(names)
}

func sumNames(names []string) (sum uint64) {
	for _, name := range names {
		sum += maphash.String(nameSeed, name)
	}
	return sum
}

// follow keeps the sums up to date.
func (p *player) follow(events []znode.Event) {
	for i := range events {
		path := events[i].Path
		switch events[i].Type {
		case wire.EventNodeCreated, wire.EventNodeDeleted:
		default:
			continue
		}
		cut := strings.LastIndexByte(path, '/')
		parent := path[:max(cut, 1)]
		sum, ok := p.sums[parent]
		if !ok {
			continue
		}
		hash := maphash.String(nameSeed, path[cut+1:])
		if events[i].Type == wire.EventNodeDeleted {
			delete(p.sums, path)
			hash = -hash
		}
		p.sums[parent] = sum + hash
	}
}

// apply takes the next transaction.
func (p *player) apply(at int) {
	txn := p.txns[at]
	h := &txn.Header
	var e *Entry
	var names []*Entry
	if i := p.owner[at]; i >= 0 {
		e = p.h.Entries[i]
		names = entries(e)
		p.judge(txn, e)
	}
	p.rules(txn, e, names)
	p.t.Apply(txn, &p.res)
	p.prep.Applied(h.Zxid)
	if p.res.Err != wire.OK && h.Type != wire.OpFailed {
		p.fail("Z2", h.Zxid, names, "%v (%v) cannot be carried out: %v", h.Zxid, h.Type, p.res.Err)
	}
	if p.res.DigestMismatch {
		p.fail("S16", h.Zxid, names, "%v carries another digest than the tree has after it", h.Zxid)
	}
	if e != nil && e.Known() {
		p.answer(txn, e)
	}
	p.follow(p.res.Events)
	p.collect(h.Zxid, p.res.Events)
	for _, b := range p.banks {
		b.follow(p.run, p.t, h.Zxid, p.res.Events, names)
	}
}

// refusal returns why a transaction changes nothing; ok is false if it does.
func refusal(txn *wire.Txn) (code wire.Code, ok bool) {
	switch b := txn.Body.(type) {
	case *wire.IntRecord:
		return wire.Code(b.Value), txn.Header.Type == wire.OpFailed
	case *wire.MultiTxn:
		code, at := b.Failed()
		return code, at >= 0
	}
	return wire.OK, false
}

// judge prepares the request again, in the state before the transaction.
func (p *player) judge(txn *wire.Txn, e *Entry) {
	h := &txn.Header
	if code, ok := refusal(txn); ok && undecided(code) {
		return
	}
	switch e.Op {
	case wire.OpReconfig, wire.OpCreateSession, wire.OpDeleteContainer:
		return
	}
	p.prep.Prepare(&znode.Request{Session: h.Session, Cxid: h.Cxid, Op: e.Op, Body: e.Request(), IDs: p.idsAt(e)}, h.Zxid, h.TimeMs, &p.judged)
	p.prep.Applied(h.Zxid)
	if diff := diffTxn(&p.judged, txn); diff != "" {
		rule := "Z2"
		if h.Type == wire.OpFailed || p.judged.Header.Type == wire.OpFailed {
			rule = "Z5"
		}
		p.fail(rule, h.Zxid, entries(e), "%v is not what the request means in the state before it: %s", h.Zxid, diff)
	}
}

// diffTxn says what is not as it must be, "" if nothing. Who a failed multi would
// have changed does not matter.
func diffTxn(want, got *wire.Txn) string {
	if want.Header.Type != got.Header.Type {
		return fmt.Sprintf("%s, must be %s", nameTxn(got), nameTxn(want))
	}
	return diffBody(want.Body, got.Body)
}

func nameTxn(t *wire.Txn) string {
	if t.Header.Type == wire.OpFailed {
		return "refused (" + wire.Code(t.Body.(*wire.IntRecord).Value).Error() + ")"
	}
	return t.Header.Type.String()
}

func diffBody(want, got wire.Record) string {
	differ := func(what string, w, g any) string { return fmt.Sprintf("%s is %v, must be %v", what, g, w) }
	switch w := want.(type) {
	case *wire.IntRecord:
		if g, ok := got.(*wire.IntRecord); !ok || g.Value != w.Value {
			return differ("the code", w, got)
		}
	case *wire.CreateTxn:
		g, ok := got.(*wire.CreateTxn)
		switch {
		case !ok:
			return differ("the change", want, got)
		case g.Path != w.Path:
			return differ("the path", w.Path, g.Path)
		case !bytes.Equal(g.Data, w.Data):
			return fmt.Sprintf("the data of %s are other ones", w.Path)
		case g.Ephemeral != w.Ephemeral:
			return differ("ephemeral", w.Ephemeral, g.Ephemeral)
		case g.ParentCversion != w.ParentCversion && g.ParentCversion != -1:
			return differ("the parent's cversion", w.ParentCversion, g.ParentCversion)
		case g.TTLMs != w.TTLMs:
			return differ("the ttl", w.TTLMs, g.TTLMs)
		case !slices.Equal(g.ACL, w.ACL):
			return differ("the acl", w.ACL, g.ACL)
		}
	case *wire.SetDataTxn:
		g, ok := got.(*wire.SetDataTxn)
		switch {
		case !ok:
			return differ("the change", want, got)
		case g.Path != w.Path:
			return differ("the path", w.Path, g.Path)
		case g.Version != w.Version:
			return differ("the version of "+w.Path, w.Version, g.Version)
		case !bytes.Equal(g.Data, w.Data):
			return fmt.Sprintf("the data of %s are other ones", w.Path)
		}
	case *wire.SetACLTxn:
		g, ok := got.(*wire.SetACLTxn)
		if !ok || g.Path != w.Path || g.Version != w.Version || !slices.Equal(g.ACL, w.ACL) {
			return differ("the change", want, got)
		}
	case *wire.PathRecord:
		if g, ok := got.(*wire.PathRecord); !ok || g.Path != w.Path {
			return differ("the change", want, got)
		}
	case *wire.PathVersion:
		if g, ok := got.(*wire.PathVersion); !ok || g.Path != w.Path {
			return differ("the check", want, got)
		}
	case *wire.PathsRecord:
		if g, ok := got.(*wire.PathsRecord); ok { // old leaders have no list
			have := slices.Sorted(slices.Values(g.Paths))
			if !slices.Equal(have, w.Paths) {
				return differ("what goes with the session", w.Paths, have)
			}
		}
	case *wire.MultiTxn:
		g, ok := got.(*wire.MultiTxn)
		if !ok || len(g.Txns) != len(w.Txns) {
			return differ("the change", want, got)
		}
		wc, wi := w.Failed()
		gc, gi := g.Failed()
		if wc != gc || wi != gi {
			return fmt.Sprintf("the multi is %s, must be %s", nameMulti(gc, gi), nameMulti(wc, wi))
		}
		if wi >= 0 {
			return ""
		}
		for i := range w.Txns {
			if w.Txns[i].Type != g.Txns[i].Type {
				return fmt.Sprintf("operation %d is %v, must be %v", i, g.Txns[i].Type, w.Txns[i].Type)
			}
			if d := diffBody(w.Txns[i].Body, g.Txns[i].Body); d != "" {
				return fmt.Sprintf("operation %d: %s", i, d)
			}
		}
	}
	return ""
}

func nameMulti(code wire.Code, at int) string {
	if at < 0 {
		return "carried out"
	}
	return fmt.Sprintf("refused for its operation %d (%v)", at, code)
}

// rules checks what must be true of any transaction, without asking Prep: it is
// the code of the servers (rules S21, S22, S24, S25).
func (p *player) rules(txn *wire.Txn, e *Entry, names []*Entry) {
	h := &txn.Header
	open := h.Session == 0
	if life := p.life[h.Session]; life != nil {
		at := p.byZxid[h.Zxid]
		open = life.opened <= at && (life.closed < 0 || life.closed >= at)
	}
	if !open && p.opt.Config.LocalSessions {
		open = true
	}
	check := func(op wire.Op, body wire.Record, args *Args) {
		switch b := body.(type) {
		case *wire.CreateTxn:
			if !open {
				p.fail("S21", h.Zxid, names, "%v makes %s for session %v, which is not open", h.Zxid, b.Path, h.Session)
			}
			if args != nil && args.Mode.IsSequential() {
				p.sequence(h.Zxid, b.Path, args.Path, names)
			}
		case *wire.SetDataTxn:
			st, code := p.t.Exists(b.Path, super)
			switch {
			case !open && op != wire.OpReconfig:
				p.fail("S21", h.Zxid, names, "%v writes %s for session %v, which is not open", h.Zxid, b.Path, h.Session)
			case code == wire.OK && b.Version != st.Version+1 && op != wire.OpReconfig && h.Type != wire.OpMulti:
				p.fail("S24", h.Zxid, names, "%v sets version %d of %s behind %d", h.Zxid, b.Version, b.Path, st.Version)
			}
		case *wire.SetACLTxn:
			if !open {
				p.fail("S21", h.Zxid, names, "%v changes the acl of %s for session %v, which is not open", h.Zxid, b.Path, h.Session)
			}
		case *wire.PathRecord:
			if !open && op != wire.OpDeleteContainer {
				p.fail("S21", h.Zxid, names, "%v deletes %s for session %v, which is not open", h.Zxid, b.Path, h.Session)
			}
			delete(p.suffixes, b.Path)
			if st, code := p.t.Exists(b.Path, super); code == wire.OK && st.NumChildren > 0 && h.Type != wire.OpMulti {
				p.fail("S24", h.Zxid, names, "%v deletes %s, which has %d children", h.Zxid, b.Path, st.NumChildren)
			}
		}
	}
	if m, ok := txn.Body.(*wire.MultiTxn); ok {
		if _, failed := m.Failed(); failed >= 0 {
			return
		}
		for i, sub := range m.Txns {
			var args *Args
			if e != nil && i < len(e.Sub) {
				args = &e.Sub[i]
			}
			check(sub.Type, sub.Body, args)
		}
		return
	}
	var args *Args
	if e != nil {
		args = &e.Args
	}
	check(h.Type, txn.Body, args)
}

// super may read everything.
var super = []wire.ID{{Scheme: "super"}}

// sequence checks that the number in a name is larger than all before below the
// same parent.
func (p *player) sequence(z zab.Zxid, path, asked string, names []*Entry) {
	digits, ok := strings.CutPrefix(path, asked)
	num, err := strconv.ParseInt(digits, 10, 32)
	if !ok || err != nil || len(digits) < 10 {
		p.fail("S24", z, names, "%v makes %s from %s", z, path, asked)
		return
	}
	parent := path[:strings.LastIndexByte(path, '/')]
	if last, ok := p.suffixes[parent]; ok && num <= last && last-num < 1<<31 {
		p.fail("S24", z, names, "%v makes %s, but number %d was given below %s/ before", z, path, last, parent)
	}
	p.suffixes[parent] = num
}

// answer compares the answer to an update with what the transaction came to.
func (p *player) answer(txn *wire.Txn, e *Entry) {
	h := &txn.Header
	if h.Type == wire.OpFailed {
		if code := wire.Code(txn.Body.(*wire.IntRecord).Value); e.Err != code {
			p.fail("Z5", h.Zxid, entries(e), "the answer is %v, the transaction was refused: %v", e.Err, code)
		}
		p.report.Refused++
		return
	}
	if e.Op == wire.OpMulti {
		p.multi(h.Zxid, e)
		return
	}
	if e.Err != wire.OK {
		p.fail("Z5", h.Zxid, entries(e), "the answer is %v, but the change was committed as %v", e.Err, h.Zxid)
		return
	}
	if diff := diffUpdate(e.Op, &e.Result, p.res.Path, &p.res.Stat); diff != "" {
		p.fail("Z2", h.Zxid, entries(e), "after %v %s", h.Zxid, diff)
	}
}

// diffUpdate compares the answer to an update that was carried out.
func diffUpdate(op wire.Op, got *Result, path string, st *wire.Stat) string {
	switch op {
	case wire.OpCreate:
		if got.Created != path {
			return fmt.Sprintf("the path is %s, must be %s", got.Created, path)
		}
	case wire.OpCreate2, wire.OpCreateContainer, wire.OpCreateTTL:
		if got.Created != path {
			return fmt.Sprintf("the path is %s, must be %s", got.Created, path)
		}
		return diffStat(&got.Stat, st)
	case wire.OpSetData, wire.OpSetACL:
		return diffStat(&got.Stat, st)
	}
	return ""
}

// multi compares the answers to the operations of a multi, which was carried out
// or refused as a whole.
func (p *player) multi(z zab.Zxid, e *Entry) {
	want := p.res.Multi
	if len(want) != len(e.Results) || len(want) != len(e.Sub) {
		p.fail("Z2", z, entries(e), "%d answers to a multi of %d operations", len(e.Results), len(want))
		return
	}
	for i := range want {
		got := &e.Results[i]
		if got.Err != want[i].Err {
			p.fail("Z5", z, entries(e), "operation %d is answered with %v, must be %v", i, got.Err, want[i].Err)
			return
		}
		var path string
		var st wire.Stat
		switch w := want[i].Record.(type) {
		case *wire.PathRecord:
			path = w.Path
		case *wire.CreateResponse:
			path, st = w.Path, w.Stat
		case *wire.Stat:
			st = *w
		default:
			continue
		}
		if diff := diffUpdate(e.Sub[i].Op, got, path, &st); diff != "" {
			p.fail("Z2", z, entries(e), "operation %d: after %v %s", i, z, diff)
			return
		}
	}
	if len(want) > 0 && want[0].Op == wire.OpFailed {
		p.report.Refused++
	}
}

// diffStat names the fields that are not as they must be.
func diffStat(got, want *wire.Stat) string {
	if *got == *want {
		return ""
	}
	var b strings.Builder
	g, w := statFields(got), statFields(want)
	for i := range g {
		if g[i] == w[i] {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		format := "%s is %d, must be %d"
		if i < statHex {
			format = "%s is %#x, must be %#x"
		}
		fmt.Fprintf(&b, format, statNames[i], g[i], w[i])
	}
	return b.String()
}

// read compares a read with the tree, which is as it was at the zxid of the
// answer.
func (p *player) read(i int) {
	e := p.h.Entries[i]
	if e.Err != wire.OK && undecided(e.Err) {
		return
	}
	switch e.Op {
	case wire.OpSetWatches, wire.OpSetWatches2:
		p.rearm(i, e)
		return
	case wire.OpMultiRead:
		p.report.Reads++
		p.multiRead(e)
		return
	}
	diff, ok := p.diffRead(&e.Args, &e.Result, p.idsAt(e), e.Session)
	if ok {
		p.report.Reads++
	}
	if diff != "" {
		p.fail("Z3", e.Zxid, entries(e), "at %v %s", e.Zxid, diff)
	}
}

func (p *player) multiRead(e *Entry) {
	if e.Err != wire.OK {
		return
	}
	if len(e.Results) != len(e.Sub) {
		p.fail("Z3", e.Zxid, entries(e), "%d answers to a multi of %d operations", len(e.Results), len(e.Sub))
		return
	}
	for i := range e.Sub {
		if diff, _ := p.diffRead(&e.Sub[i], &e.Results[i], p.idsAt(e), e.Session); diff != "" {
			p.fail("Z3", e.Zxid, entries(e), "operation %d: at %v %s", i, e.Zxid, diff)
			return
		}
	}
}

// diffRead says what is wrong with the answer to a read; ok is false if it is
// nothing that a tree could answer.
func (p *player) diffRead(a *Args, got *Result, ids []wire.ID, session zab.SessionID) (diff string, ok bool) {
	var st wire.Stat
	var code wire.Code
	switch a.Op {
	case wire.OpExists:
		st, code = p.t.Exists(a.Path, ids)
	case wire.OpGetData:
		var data []byte
		data, st, code = p.t.Get(a.Path, ids)
		if code == wire.OK && got.Err == wire.OK && !bytes.Equal(data, got.Value) {
			return fmt.Sprintf("the data are %q, must be %q", short(got.Value), short(data)), true
		}
	case wire.OpGetACL:
		var acl []wire.ACL
		acl, st, code = p.t.GetACL(a.Path, ids)
		if code == wire.OK && got.Err == wire.OK && !slices.Equal(acl, got.List) {
			return fmt.Sprintf("the acl is %v, must be %v", got.List, acl), true
		}
	case wire.OpGetChildren, wire.OpGetChildren2:
		// What may be read of the data may be read of the children.
		if st, code = p.t.Exists(a.Path, ids); code == wire.OK && got.Err == wire.OK && !p.sameChildren(a.Path, got.Children, &st) {
			names, _, _ := p.t.Children(a.Path, ids)
			return diffNames(got.Children, names), true
		}
		if a.Op == wire.OpGetChildren {
			st = got.Stat
		}
	case wire.OpGetAllChildrenNumber:
		var n int32
		n, code = p.t.AllChildrenNumber(a.Path, ids)
		if code == wire.OK && got.Err == wire.OK && n != got.Count {
			return fmt.Sprintf("the count is %d, must be %d", got.Count, n), true
		}
		st = got.Stat
	case wire.OpGetEphemerals:
		st = got.Stat
		if diff := diffNames(got.Children, p.t.Ephemerals(session, a.Path)); diff != "" {
			return diff, true
		}
	default:
		return "", false
	}
	if got.Err != code {
		return fmt.Sprintf("the answer is %q, must be %q", got.Err.Error(), code.Error()), true
	}
	if code != wire.OK {
		return "", true
	}
	return diffStat(&got.Stat, &st), true
}

func short(b []byte) []byte { return b[:min(len(b), 64)] }

// diffNames compares a list in any order with a sorted one.
func diffNames(got, want []string) string {
	if !slices.IsSorted(got) {
		got = slices.Sorted(slices.Values(got))
	}
	if slices.Equal(got, want) {
		return ""
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	name := func(list []string) string {
		if i < len(list) {
			return strconv.Quote(list[i])
		}
		return "none"
	}
	return fmt.Sprintf("%d names, must be %d; in order, number %d is %s, must be %s", len(got), len(want), i, name(got), name(want))
}
