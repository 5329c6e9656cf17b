package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
)

// newRequest returns an empty record for the requests of a type; nil if they
// have none, ok false if there are no such requests.
func newRequest(op Op) (r Record, ok bool) {
	switch op {
	case OpCreate, OpCreate2, OpCreateContainer:
		return &CreateRequest{}, true
	case OpCreateTTL:
		return &CreateRequest{HasTTL: true}, true
	case OpDelete, OpCheck:
		return &PathVersion{}, true
	case OpExists, OpGetData, OpGetChildren, OpGetChildren2:
		return &PathWatch{}, true
	case OpSetData:
		return &SetDataRequest{}, true
	case OpGetACL, OpSync, OpGetEphemerals, OpGetAllChildrenNumber, OpDeleteContainer:
		return &PathRecord{}, true
	case OpSetACL:
		return &SetACLRequest{}, true
	case OpMulti, OpMultiRead:
		return &MultiRequest{}, true
	case OpReconfig:
		return &ReconfigRequest{}, true
	case OpCheckWatches, OpRemoveWatches, OpAddWatch:
		return &PathMode{}, true
	case OpAuth:
		return &AuthPacket{}, true
	case OpSetWatches:
		return &SetWatches{}, true
	case OpSetWatches2:
		return &SetWatches{HasPersistent: true}, true
	case OpSASL:
		return &BufferRecord{}, true
	case OpPing, OpWhoAmI, OpCloseSession:
		return nil, true
	}
	return nil, false
}

// newResponse returns an empty record for the answers to a type of request; nil
// if they have none.
func newResponse(op Op) Record {
	switch op {
	case OpCreate, OpSync:
		return &PathRecord{}
	case OpCreate2, OpCreateContainer, OpCreateTTL:
		return &CreateResponse{}
	case OpExists, OpSetData, OpSetACL:
		return &Stat{}
	case OpGetData, OpReconfig:
		return &GetDataResponse{}
	case OpGetChildren, OpGetEphemerals:
		return &PathsRecord{}
	case OpGetChildren2:
		return &GetChildren2Response{}
	case OpGetACL:
		return &GetACLResponse{}
	case OpMulti, OpMultiRead:
		return &MultiResponse{}
	case OpGetAllChildrenNumber, OpAddWatch:
		return &IntRecord{}
	case OpWhoAmI:
		return &WhoAmIResponse{}
	case OpSASL:
		return &BufferRecord{}
	}
	return nil
}

// allOps are all numbers that Apache has used.
func allOps() []Op {
	ops := []Op{OpCreateSession, OpCloseSession, OpFailed}
	for op := Op(0); op <= 22; op++ {
		ops = append(ops, op)
	}
	for op := Op(100); op <= 107; op++ {
		ops = append(ops, op)
	}
	return ops
}

// An exchange is a request and what came back until its reply: frames without
// their length. Requests whose name begins with "connect" have no header.
type exchange struct {
	name    string
	request []byte
	replies [][]byte
}

func readExchanges(t *testing.T, file string) []exchange {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []exchange
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		line := s.Text()
		kind, text, _ := strings.Cut(line, " ")
		text, _, _ = strings.Cut(text, "#")
		frame, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(text))
		switch {
		case line == "" || kind == "#":
		case kind == "C>" && err == nil:
			all[len(all)-1].request = frame
		case kind == "S<" && err == nil:
			all[len(all)-1].replies = append(all[len(all)-1].replies, frame)
		case kind == "C>" || kind == "S<":
			t.Fatalf("%s: %s: %v", file, line, err)
		default:
			all = append(all, exchange{name: line})
		}
	}
	return all
}

// recode decodes b and encodes it again, which must give the same bytes.
func recode(t *testing.T, what string, b []byte, r Record) {
	t.Helper()
	for _, d := range []Decoder{NewDecoder(b), NewAliasDecoder(b)} {
		if r.Decode(&d); d.Err() != nil || d.Len() != 0 {
			t.Errorf("%s: %T: %v, %d bytes left of %x", what, r, d.Err(), d.Len(), b)
			return
		}
		if got := r.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%s: %T\n got %x\nwant %x", what, r, got, b)
		}
	}
}

func checkExchange(t *testing.T, x exchange) (req Record, resp []Record) {
	t.Helper()
	if strings.HasPrefix(x.name, "connect") {
		req := &ConnectRequest{}
		recode(t, x.name, x.request, req)
		for _, b := range x.replies {
			r := &ConnectResponse{}
			recode(t, x.name, b, r)
			resp = append(resp, r)
		}
		return req, resp
	}
	d := NewDecoder(x.request)
	var h RequestHeader
	h.Decode(&d)
	req, ok := newRequest(h.Op)
	switch {
	case !ok && d.Len() > 0:
		t.Errorf("%s: a record in a request %v", x.name, h.Op)
	case req != nil:
		recode(t, x.name, d.Rest(), req)
	}
	for _, b := range x.replies {
		d := NewDecoder(b)
		var rh ReplyHeader
		rh.Decode(&d)
		if got := rh.Append(nil); d.Err() != nil || !bytes.Equal(got, b[:d.Offset()]) {
			t.Errorf("%s: reply header %+v of %x: %v", x.name, rh, b, d.Err())
		}
		r := newResponse(h.Op)
		switch {
		case rh.Xid == XidNotification:
			r = &WatcherEvent{}
		case rh.Err != OK:
			r = nil
		}
		if r != nil {
			recode(t, x.name, d.Rest(), r)
		} else if d.Len() != 0 {
			t.Errorf("%s: %d bytes behind the header", x.name, d.Len())
		}
		resp = append(resp, r)
	}
	return req, resp
}

// TestBytesAreApaches decodes and encodes what Apache's server and a client
// said to each other: examples.txt are those of the reference, apache.txt is
// captured by TestCapture.
func TestBytesAreApaches(t *testing.T) {
	seen := map[Op]bool{}
	for _, file := range []string{"testdata/examples.txt", "testdata/apache.txt"} {
		for _, x := range readExchanges(t, file) {
			checkExchange(t, x)
			if !strings.HasPrefix(x.name, "connect") {
				var h RequestHeader
				Unmarshal(x.request, &h)
				seen[h.Op] = true
			}
			if len(x.replies) == 0 {
				t.Errorf("%s: no reply", x.name)
			}
		}
	}
	for _, op := range allOps() {
		// SASL needs Kerberos or a password file; check exists in multi only;
		// deleteContainer is not for clients.
		if _, ok := newRequest(op); ok && !seen[op] && op != OpSASL && op != OpCheck && op != OpDeleteContainer {
			t.Errorf("no example of %v", op)
		}
	}
}

// TestExamplesMeanWhatTheReferenceSays checks values, so that two errors that
// cancel out are found.
func TestExamplesMeanWhatTheReferenceSays(t *testing.T) {
	var password [16]byte
	hex.Decode(password[:], []byte("cbe08951fc4964a921b47c9ea5a0fcc6"))
	stat := func(zxid zab.Zxid, version, length int32) Stat {
		return Stat{Czxid: zxid, Mzxid: zxid, Ctime: 0x1a202cfae6a, Mtime: 0x1a202cfae6a, Version: version, DataLength: length, Pzxid: zxid}
	}
	open := []ACL{{PermAll, ID{"world", "anyone"}}}
	mStat := stat(6, 1, 1)
	want := map[string][]Record{
		"connect, new session": {
			&ConnectRequest{TimeoutMs: 10000, Password: make([]byte, 16), HasReadOnly: true},
			&ConnectResponse{TimeoutMs: 10000, SessionID: 0x0100000e2ae70000, Password: password, HasReadOnly: true},
		},
		"connect, refused": {
			&ConnectRequest{TimeoutMs: 10000, SessionID: 5, Password: make([]byte, 16), HasReadOnly: true},
			&ConnectResponse{HasReadOnly: true},
		},
		"create": {&CreateRequest{Path: "/a", Data: []byte("hi"), ACL: open, TTLMs: -1}, &PathRecord{"/a"}},
		"create2": {
			&CreateRequest{Path: "/c2", Data: []byte{}, ACL: open, Mode: PersistentSequential, TTLMs: -1},
			&CreateResponse{"/c20000000003", stat(8, 0, 0)},
		},
		"getData":           {&PathWatch{Path: "/a"}, &GetDataResponse{[]byte("x"), stat(3, 0, 1)}},
		"getData, no znode": {&PathWatch{Path: "/a"}, nil},
		"ping":              {nil, nil},
		"auth":              {&AuthPacket{0, "digest", []byte("u:p")}, nil},
		"whoAmI":            {nil, &WhoAmIResponse{[]ID{{"ip", "127.0.0.1"}, {"digest", "u"}}}},
		"unknown operation": {nil, nil},
		"multi": {
			&MultiRequest{[]MultiOp{
				{OpCreate, &CreateRequest{Path: "/m", Data: []byte("x"), ACL: open, TTLMs: -1}},
				{OpSetData, &SetDataRequest{"/m", []byte("y"), 0}},
				{OpCheck, &PathVersion{"/m", 1}},
				{OpDelete, &PathVersion{"/m", -1}},
			}},
			&MultiResponse{[]MultiResult{
				{OpCreate, OK, &PathRecord{"/m"}}, {OpSetData, OK, &mStat}, {Op: OpCheck}, {Op: OpDelete},
			}},
		},
		"multi that fails": {
			&MultiRequest{[]MultiOp{
				{OpCreate, &CreateRequest{Path: "/m", Data: []byte("x"), ACL: open, TTLMs: -1}},
				{OpDelete, &PathVersion{"/none", -1}},
				{OpCheck, &PathVersion{"/m", 1}},
			}},
			&MultiResponse{[]MultiResult{
				{Op: OpFailed}, {Op: OpFailed, Err: ErrNoNode}, {Op: OpFailed, Err: ErrRuntimeInconsistency},
			}},
		},
		"multiRead": {
			&MultiRequest{[]MultiOp{{OpGetData, &PathWatch{Path: "/a"}}, {OpGetChildren, &PathWatch{Path: "/nope"}}}},
			&MultiResponse{[]MultiResult{{OpGetData, OK, &GetDataResponse{[]byte("x"), stat(3, 0, 1)}}, {Op: OpFailed, Err: ErrNoNode}}},
		},
		"setWatches2": {
			&SetWatches{Data: []string{"/a"}, HasPersistent: true},
			&WatcherEvent{EventNodeDataChanged, StateSyncConnected, "/a"}, nil,
		},
	}
	for _, x := range readExchanges(t, "testdata/examples.txt") {
		req, resp := checkExchange(t, x)
		got := append([]Record{req}, resp...)
		if !reflect.DeepEqual(got, want[x.name]) {
			t.Errorf("%s:\n got %s\nwant %s", x.name, show(got), show(want[x.name]))
		}
		delete(want, x.name)
	}
	for name := range want {
		t.Errorf("no example %q", name)
	}
}

func show(records []Record) string {
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "\n\t%+v", r)
		if m, ok := r.(*MultiRequest); ok {
			for _, op := range m.Ops {
				fmt.Fprintf(&b, "\n\t\t%v %+v", op.Op, op.Record)
			}
		}
		if m, ok := r.(*MultiResponse); ok {
			for _, res := range m.Results {
				fmt.Fprintf(&b, "\n\t\t%v %v %+v", res.Op, res.Err, res.Record)
			}
		}
	}
	return b.String()
}
