package checker

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// A history as text has this first line and then a line for each entry: call and
// return in nanoseconds, the connection, what, and the fields that are not zero,
// those of the answer behind an arrow.
//
//	0 800 c1 connect server=s1 -> session=0x100000000000001
//	1000 2500 c1 create2 xid=1 path=/a data="x" mode=1 -> zxid=0x100000002 created=/a stat=…
//	2600 - c1 setData xid=2 path=/a data="y" version=-1
//	3000 3000 c1 event type=NodeDeleted path=/a what=2 -> zxid=0x100000003
//	3000 3000 c1 disconnect
const header = "history 1"

// maxDepth bounds the operations within operations.
const maxDepth = 2

// Bytes returns the history as text.
func (h *History) Bytes() []byte {
	b := append([]byte(header), '\n')
	for _, e := range h.Entries {
		b = append(e.appendText(b, false), '\n')
	}
	return b
}

// String is the line of the entry in the text of a history, with long data cut.
func (e *Entry) String() string {
	return fmt.Sprintf("#%d %s", e.Seq, e.appendText(nil, true))
}

var kindNames = [...]string{Connect: "connect", Disconnect: "disconnect", Event: "event", Guarded: "guarded"}

// writer appends fields.
type writer struct {
	b   []byte
	cut bool
}

func (e *Entry) appendText(b []byte, cut bool) []byte {
	b = strconv.AppendInt(b, int64(e.Call), 10)
	b = append(b, ' ')
	if e.Known() {
		b = strconv.AppendInt(b, int64(e.Return), 10)
	} else {
		b = append(b, '-')
	}
	b = append(b, " c"...)
	b = strconv.AppendInt(b, int64(e.Conn), 10)
	b = append(b, ' ')
	w := writer{b, cut}
	if e.Kind == Request {
		w.b = append(w.b, opName(e.Op)...)
		w.int("xid", int64(e.Cxid))
	} else {
		w.b = append(w.b, kindNames[e.Kind]...)
		w.str("server", e.Server)
	}
	if e.Kind == Event {
		w.str("type", e.EventType().String())
	}
	w.args(&e.Args)
	if e.hasAnswer() {
		w.b = append(w.b, " ->"...)
		if e.Kind == Connect || e.Kind == Guarded {
			w.hex("session", int64(e.Session))
		}
		if e.Resolved {
			w.b = append(w.b, " resolved=1"...)
		}
		w.result(&e.Result)
	}
	return w.b
}

// hasAnswer reports whether there is an arrow in the text of the entry.
func (e *Entry) hasAnswer() bool { return (e.Known() || e.Resolved) && e.Kind != Disconnect }

func (w *writer) key(k string) {
	w.b = append(w.b, ' ')
	w.b = append(w.b, k...)
	w.b = append(w.b, '=')
}

func (w *writer) int(k string, v int64) {
	if v != 0 {
		w.key(k)
		w.b = strconv.AppendInt(w.b, v, 10)
	}
}

func (w *writer) hex(k string, v int64) {
	if v != 0 {
		w.key(k)
		w.b = strconv.AppendUint(append(w.b, "0x"...), uint64(v), 16)
	}
}

func (w *writer) str(k, v string) {
	if v != "" {
		w.word(k, v)
	}
}

// word is str for what may be empty: names in a list.
func (w *writer) word(k, v string) {
	w.key(k)
	if isWord(v) {
		w.b = append(w.b, v...)
	} else {
		w.b = strconv.AppendQuote(w.b, v)
	}
}

func isWord(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

// data tells nil from empty.
func (w *writer) data(k string, v []byte) {
	if v == nil {
		return
	}
	w.key(k)
	if w.cut && len(v) > 40 {
		w.b = fmt.Appendf(w.b, "%q…(%d bytes)", v[:32], len(v))
		return
	}
	w.b = strconv.AppendQuote(w.b, string(v))
}

func (w *writer) acl(k string, acl []wire.ACL) {
	for _, a := range acl {
		w.word(k, fmt.Sprintf("%d:%s:%s", int32(a.Perms), a.ID.Scheme, a.ID.ID))
	}
}

func (w *writer) words(k string, list []string) {
	for i, s := range list {
		if w.cut && i == 8 {
			w.b = fmt.Appendf(w.b, " …(%d)", len(list))
			return
		}
		w.word(k, s)
	}
}

func (w *writer) args(a *Args) {
	w.str("path", a.Path)
	w.data("data", a.Data)
	w.acl("acl", a.ACL)
	w.int("mode", int64(a.Mode))
	w.int("ttl", a.TTLMs)
	w.int("version", int64(a.Version))
	if a.Watch {
		w.int("watch", 1)
	}
	w.int("what", int64(a.What))
	for i := range a.Sub {
		w.b = append(w.b, " ( "...)
		w.b = append(w.b, opName(a.Sub[i].Op)...)
		w.args(&a.Sub[i])
		w.b = append(w.b, " )"...)
	}
	if s := a.Rearm; s != nil {
		w.key("since")
		w.b = append(w.b, s.RelativeZxid.String()...)
		w.words("datas", s.Data)
		w.words("exists", s.Exist)
		w.words("children", s.Child)
		w.words("persistent", s.Persistent)
		w.words("recursive", s.PersistentRecursive)
	}
	for _, id := range a.IDs {
		w.word("id", id.Scheme+":"+id.ID)
	}
	w.hex("want", int64(a.Want))
	w.hex("token", int64(a.Token))
}

func (w *writer) result(r *Result) {
	w.hex("zxid", int64(r.Zxid))
	w.int("err", int64(r.Err))
	w.str("created", r.Created)
	if r.Stat != (wire.Stat{}) {
		w.key("stat")
		w.b = appendStat(w.b, &r.Stat)
	}
	w.data("value", r.Value)
	w.acl("list", r.List)
	w.words("child", r.Children)
	w.int("count", int64(r.Count))
	for i := range r.Results {
		w.b = append(w.b, " ("...)
		w.result(&r.Results[i])
		w.b = append(w.b, " )"...)
	}
}

// statFields are the fields of a stat in the order of the text.
func statFields(s *wire.Stat) [11]int64 {
	return [11]int64{
		int64(s.Czxid), int64(s.Mzxid), int64(s.Pzxid), int64(s.EphemeralOwner), s.Ctime, s.Mtime,
		int64(s.Version), int64(s.Cversion), int64(s.Aversion), int64(s.DataLength), int64(s.NumChildren),
	}
}

var statNames = [11]string{
	"czxid", "mzxid", "pzxid", "ephemeralOwner", "ctime", "mtime", "version", "cversion", "aversion", "dataLength", "numChildren",
}

// Of the fields of a stat the first are printed in base 16.
const statHex = 4

func appendStat(b []byte, s *wire.Stat) []byte {
	for i, v := range statFields(s) {
		if i > 0 {
			b = append(b, ',')
		}
		if i < statHex {
			b = strconv.AppendUint(append(b, "0x"...), uint64(v), 16)
		} else {
			b = strconv.AppendInt(b, v, 10)
		}
	}
	return b
}

func opName(op wire.Op) string {
	if _, ok := opByName[op.String()]; ok {
		return op.String()
	}
	return strconv.Itoa(int(op))
}

var opByName = func() map[string]wire.Op {
	m := map[string]wire.Op{}
	for op := wire.OpCloseSession; op <= wire.OpWhoAmI; op++ {
		if name := op.String(); isWord(name) && !strings.HasPrefix(name, "unknown") {
			m[name] = op
		}
	}
	return m
}()

// ErrSyntax says that a text is no history.
var ErrSyntax = errors.New("not a history")

// Parse reads what Bytes wrote. An error wraps ErrSyntax and names the line.
func Parse(text []byte) (*History, error) {
	h := &History{}
	sessions := map[int]zab.SessionID{}
	sc := bufio.NewScanner(bytes.NewReader(text))
	sc.Buffer(nil, len(text)+1)
	for line := 1; sc.Scan(); line++ {
		if line == 1 {
			if sc.Text() != header {
				return nil, fmt.Errorf("%w: line 1 is not %q", ErrSyntax, header)
			}
			continue
		}
		e := &Entry{Seq: line - 1}
		if err := e.parse(sc.Text()); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrSyntax, line, err)
		}
		switch e.Kind {
		case Connect:
			sessions[e.Conn] = e.Session
		case Guarded:
		default:
			e.Session = sessions[e.Conn]
		}
		h.Entries = append(h.Entries, e)
	}
	if sc.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, sc.Err())
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrSyntax)
	}
	return h, nil
}

// parser reads the tokens of one line.
type parser struct {
	rest string
	err  error
}

func (e *Entry) parse(line string) error {
	p := &parser{rest: line}
	e.Call = Time(p.number(p.token(), 64))
	if ret := p.token(); ret == "-" {
		e.Return = Never
	} else {
		e.Return = Time(p.number(ret, 64))
	}
	conn, ok := strings.CutPrefix(p.token(), "c")
	if !ok {
		p.fail("connection expected")
	}
	e.Conn = int(p.number(conn, 32))
	what := p.token()
	switch what {
	case "connect":
		e.Kind, e.Op = Connect, wire.OpCreateSession
	case "disconnect":
		e.Kind = Disconnect
	case "event":
		e.Kind, e.Op = Event, wire.OpNotification
	case "guarded":
		e.Kind = Guarded
	default:
		e.Op = p.op(what)
	}
	answered := false
	for p.err == nil {
		t := p.token()
		key, value, _ := strings.Cut(t, "=")
		switch {
		case t == "":
			if answered != e.hasAnswer() {
				p.fail("an answer and a time of return need each other")
			}
			return p.err
		case answered && key == "session":
			e.Session = zab.SessionID(p.number(value, 64))
		case answered && key == "resolved":
			e.Resolved = true
		case answered:
			p.result(&e.Result, t, 0)
		case t == "->":
			answered = true
		case key == "xid" && e.Kind == Request:
			e.Cxid = int32(p.number(value, 32))
		case key == "type" && e.Kind == Event:
			// For the reader; what has the number.
		case key == "server" && e.Kind != Request:
			e.Server = p.str(value)
		default:
			p.args(&e.Args, t, 0)
		}
	}
	return p.err
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

// token returns the next word, "" at the end. Spaces within quotes are part of it.
func (p *parser) token() string {
	p.rest = strings.TrimLeft(p.rest, " ")
	quoted := false
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ' ' && !quoted:
			t := p.rest[:i]
			p.rest = p.rest[i:]
			return t
		}
	}
	t := p.rest
	p.rest = ""
	return t
}

// number reads a signed number, or one of base 16 that stands for the bits of a
// signed one.
func (p *parser) number(s string, bits int) int64 {
	if hex, ok := strings.CutPrefix(s, "0x"); ok {
		v, err := strconv.ParseUint(hex, 16, bits)
		if err != nil {
			p.fail("%q is no number", s)
		}
		return int64(v)
	}
	v, err := strconv.ParseInt(s, 10, bits)
	if err != nil {
		p.fail("%q is no number", s)
	}
	return v
}

func (p *parser) str(s string) string {
	if strings.HasPrefix(s, `"`) {
		v, err := strconv.Unquote(s)
		if err != nil {
			p.fail("%s is not quoted well", s)
		}
		return v
	}
	return s
}

func (p *parser) op(name string) wire.Op {
	if op, ok := opByName[name]; ok {
		return op
	}
	return wire.Op(p.number(name, 32))
}

func (p *parser) acl(s string) wire.ACL {
	perms, id, _ := strings.Cut(p.str(s), ":")
	return wire.ACL{Perms: wire.Perms(p.number(perms, 32)), ID: splitID(id)}
}

func splitID(s string) wire.ID {
	scheme, id, _ := strings.Cut(s, ":")
	return wire.ID{Scheme: scheme, ID: id}
}

func (p *parser) args(a *Args, t string, depth int) {
	if t == "(" {
		if depth == maxDepth {
			p.fail("too many levels")
			return
		}
		sub := Args{Op: p.op(p.token())}
		for t := p.token(); t != ")" && p.err == nil; t = p.token() {
			p.args(&sub, t, depth+1)
		}
		a.Sub = append(a.Sub, sub)
		return
	}
	key, v, _ := strings.Cut(t, "=")
	switch key {
	case "path":
		a.Path = p.str(v)
	case "data":
		a.Data = []byte(p.str(v))
	case "acl":
		a.ACL = append(a.ACL, p.acl(v))
	case "mode":
		a.Mode = wire.CreateMode(p.number(v, 32))
	case "ttl":
		a.TTLMs = p.number(v, 64)
	case "version":
		a.Version = int32(p.number(v, 32))
	case "watch":
		a.Watch = true
	case "what":
		a.What = int32(p.number(v, 32))
	case "since":
		a.Rearm = &wire.SetWatches{RelativeZxid: zab.Zxid(p.number(v, 64)), HasPersistent: a.Op == wire.OpSetWatches2}
	case "datas", "exists", "children", "persistent", "recursive":
		p.rearm(a, key, p.str(v))
	case "id":
		a.IDs = append(a.IDs, splitID(p.str(v)))
	case "want":
		a.Want = zab.SessionID(p.number(v, 64))
	case "token":
		a.Token = zab.Zxid(p.number(v, 64))
	default:
		p.fail("field %q is not known", t)
	}
}

func (p *parser) rearm(a *Args, key, path string) {
	s := a.Rearm
	if s == nil {
		p.fail("%s before since", key)
		return
	}
	switch key {
	case "datas":
		s.Data = append(s.Data, path)
	case "exists":
		s.Exist = append(s.Exist, path)
	case "children":
		s.Child = append(s.Child, path)
	case "persistent":
		s.Persistent = append(s.Persistent, path)
	case "recursive":
		s.PersistentRecursive = append(s.PersistentRecursive, path)
	}
}

func (p *parser) result(r *Result, t string, depth int) {
	if t == "(" {
		if depth == maxDepth {
			p.fail("too many levels")
			return
		}
		var sub Result
		for t := p.token(); t != ")" && p.err == nil; t = p.token() {
			p.result(&sub, t, depth+1)
		}
		r.Results = append(r.Results, sub)
		return
	}
	key, v, _ := strings.Cut(t, "=")
	switch key {
	case "zxid":
		r.Zxid = zab.Zxid(p.number(v, 64))
	case "err":
		r.Err = wire.Code(p.number(v, 32))
	case "created":
		r.Created = p.str(v)
	case "stat":
		p.stat(&r.Stat, v)
	case "value":
		r.Value = []byte(p.str(v))
	case "list":
		r.List = append(r.List, p.acl(v))
	case "child":
		r.Children = append(r.Children, p.str(v))
	case "count":
		r.Count = int32(p.number(v, 32))
	default:
		p.fail("field %q is not known", t)
	}
}

func (p *parser) stat(s *wire.Stat, text string) {
	f := strings.Split(text, ",")
	if len(f) != len(statNames) {
		p.fail("a stat has %d fields", len(statNames))
		return
	}
	var v [11]int64
	for i := range v {
		bits := 64
		if i >= 6 {
			bits = 32
		}
		v[i] = p.number(f[i], bits)
	}
	*s = wire.Stat{
		Czxid: zab.Zxid(v[0]), Mzxid: zab.Zxid(v[1]), Pzxid: zab.Zxid(v[2]), EphemeralOwner: zab.SessionID(v[3]),
		Ctime: v[4], Mtime: v[5], Version: int32(v[6]), Cversion: int32(v[7]), Aversion: int32(v[8]),
		DataLength: int32(v[9]), NumChildren: int32(v[10]),
	}
}
