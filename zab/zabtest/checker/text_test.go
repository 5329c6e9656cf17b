package checker

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// TestHistoriesSurviveAsText writes and reads a run and checks it again.
func TestHistoriesSurviveAsText(t *testing.T) {
	w := newWorld(4, 6, allWorkloads(6))
	w.run(1000)
	h := w.rec.History()
	text, logText := h.Bytes(), LogBytes(w.log)
	again, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range h.Entries {
		if got, want := again.Entries[i].String(), e.String(); got != want {
			t.Fatalf("entry %d is\n%s\nwant\n%s", i, got, want)
		}
	}
	log, err := ParseLog(logText)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Check(h, slices.Values(w.log), w.options())
	if err != nil {
		t.Fatal(err)
	}
	rep2, err := Check(again, slices.Values(log), w.options())
	if err != nil {
		t.Fatal(err)
	}
	rep.Tree, rep2.Tree = nil, nil
	if *rep != *rep2 {
		t.Errorf("the report is %+v, want %+v", *rep2, *rep)
	}
}

func TestWhatIsNoHistoryIsRefused(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "empty"},
		{"another file", "zoo.cfg", "line 1"},
		{"no times", "history 1\nc1", `line 2: "c1" is no number`},
		{"an unknown field", "history 1\n1 2 c1 getData color=red -> zxid=0x1", "color"},
		{"an unknown operation", "history 1\n1 2 c1 fly -> zxid=0x1", "fly"},
		{"no answer", "history 1\n1 2 c1 getData path=/a", "need each other"},
		{"an answer without a return", "history 1\n1 - c1 getData path=/a -> zxid=0x1", "need each other"},
		{"an open multi", "history 1\n1 2 c1 multi ( setData path=/a -> zxid=0x1", "not known"},
		{"too deep", "history 1\n1 2 c1 multi ( multi ( multi ( ) ) ) -> zxid=0x1", "levels"},
		{"a bad stat", "history 1\n1 2 c1 exists path=/a -> stat=1,2", "11 fields"},
		{"a bad quote", "history 1\n1 2 c1 getData path=\"\\q\" -> zxid=0x1", "quoted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.text))
			if !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	w := newWorld(4, 3, allWorkloads(3))
	w.run(60)
	f.Add(w.rec.History().Bytes())
	f.Add([]byte("history 1\n1 - c1 setWatches2 xid=-8 since=0x5 datas=/a exists=\"/b c\" recursive=/\n3 3 c1 disconnect\n"))
	f.Add([]byte("history 1\n1 2 c0 guarded path=/lock token=0x7 -> session=0x1 err=-103\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := Parse(text)
		if err != nil {
			return
		}
		b := h.Bytes()
		again, err := Parse(b)
		if err != nil {
			t.Fatalf("%q is read, but not as it is written:\n%s\n%v", text, b, err)
		}
		if !bytes.Equal(again.Bytes(), b) {
			t.Fatalf("%s\nbecomes\n%s", b, again.Bytes())
		}
		// A check of nonsense says so and does not fall.
		if _, err := Check(h, slices.Values([]*wire.Txn(nil)), Options{}); err == nil && len(h.Entries) > 10 {
			t.Log("accepted")
		}
	})
}

func FuzzParseLog(f *testing.F) {
	w := newWorld(4, 3, allWorkloads(3))
	w.run(60)
	f.Add(LogBytes(w.log))
	f.Fuzz(func(t *testing.T, text []byte) {
		log, err := ParseLog(text)
		if err != nil {
			return
		}
		b := LogBytes(log)
		again, err := ParseLog(b)
		if err != nil || !bytes.Equal(LogBytes(again), b) {
			t.Fatalf("%q becomes %q: %v", b, LogBytes(again), err)
		}
	})
}

// TestRequestsSurviveAsArgs compares records of the wire with what is recorded.
func TestRequestsSurviveAsArgs(t *testing.T) {
	acl := []wire.ACL{{Perms: 3, ID: wire.ID{Scheme: "digest", ID: "a:b"}}}
	for _, tc := range []struct {
		op   wire.Op
		body wire.Record
	}{
		{wire.OpCreate, &wire.CreateRequest{Path: "/a", Data: []byte("x"), ACL: acl, Mode: wire.Ephemeral, TTLMs: -1}},
		{wire.OpCreate2, &wire.CreateRequest{Path: "/a", ACL: wire.OpenACL(), Mode: wire.PersistentSequential, TTLMs: -1}},
		{wire.OpCreateTTL, &wire.CreateRequest{Path: "/a", ACL: acl, Mode: wire.PersistentTTL, TTLMs: 5, HasTTL: true}},
		{wire.OpDelete, &wire.PathVersion{Path: "/a", Version: 3}},
		{wire.OpSetData, &wire.SetDataRequest{Path: "/a", Data: []byte{}, Version: -1}},
		{wire.OpSetACL, &wire.SetACLRequest{Path: "/a", ACL: acl, Version: 1}},
		{wire.OpGetChildren2, &wire.PathWatch{Path: "/a", Watch: true}},
		{wire.OpSync, &wire.PathRecord{Path: "/a"}},
		{wire.OpAddWatch, &wire.PathMode{Path: "/a", Mode: 1}},
		{wire.OpMulti, &wire.MultiRequest{Ops: []wire.MultiOp{{Op: wire.OpCheck, Record: &wire.PathVersion{Path: "/a", Version: 1}}}}},
		{wire.OpSetWatches2, &wire.SetWatches{RelativeZxid: 5, Child: []string{"/a"}, HasPersistent: true}},
	} {
		a := ArgsOf(tc.op, tc.body)
		if got := a.Request(); !reflect.DeepEqual(got, tc.body) {
			t.Errorf("%v: %+v becomes %+v", tc.op, tc.body, got)
		}
	}
}

// TestRecorderIsSafeForConcurrentUse is for the race detector, and counts.
func TestRecorderIsSafeForConcurrentUse(t *testing.T) {
	var now Time
	r := NewRecorder(func() Time { now++; return now })
	g := NewGuard(r, "/lock")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c := r.Connect("s1", 0)
			c.Connected(zab.SessionID(i + 1))
			for x := range int32(100) {
				e := c.Call(x+1, get("/a", true))
				if x%3 > 0 {
					c.Return(e, Result{Zxid: 1})
				}
				c.Event(wire.EventNodeDataChanged, "/a", 1)
				g.Write(1, zab.Zxid(x))
				if x%20 == 0 {
					r.History()
				}
			}
			c.Close()
			c.Close()
			c.Return(c.Call(101, get("/a", false)), Result{})
			c.Event(wire.EventNodeDataChanged, "/a", 1)
		})
	}
	wg.Wait()
	h := r.History()
	if got, want := len(h.Entries), 8*(1+100+100+100+1+1); got != want {
		t.Errorf("%d entries, want %d", got, want)
	}
	for i, e := range h.Entries {
		if e.Seq != i+1 || e.Known() && e.Return < e.Call {
			t.Fatalf("entry %d is %v", i, e)
		}
	}
}

// TestAnOpenHistoryHasNoOutcomes looks at a recorder in the middle of a run.
func TestAnOpenHistoryHasNoOutcomes(t *testing.T) {
	r := NewRecorder(func() Time { return 5 })
	c := r.Connect("s1", 0)
	c.Connected(1)
	e := c.Call(1, get("/a", false))
	h := r.History()
	if len(h.Entries) != 2 || h.Entries[1].Known() {
		t.Fatalf("%s", h.Bytes())
	}
	c.Return(e, Result{Zxid: 1})
	if h.Entries[1].Known() || !r.History().Entries[1].Known() {
		t.Error("the copy has changed, or the next one has not")
	}
}
