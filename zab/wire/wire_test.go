package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
)

func TestPrimitivesAsJuteWritesThem(t *testing.T) {
	for _, tc := range []struct {
		name string
		got  []byte
		want string
	}{
		{"true", AppendBool(nil, true), "01"},
		{"false", AppendBool(nil, false), "00"},
		{"int", AppendInt(nil, -2), "fffffffe"},
		{"long", AppendLong(nil, 1<<40), "0000010000000000"},
		{"buffer", AppendBuffer(nil, []byte("ab")), "000000026162"},
		{"empty buffer", AppendBuffer(nil, []byte{}), "00000000"},
		{"null buffer", AppendBuffer(nil, nil), "ffffffff"},
		{"string", AppendString(nil, "é"), "00000002c3a9"},
		{"strings", AppendStrings(nil, []string{"a", ""}), "00000002000000016100000000"},
		{"null strings", AppendStrings(nil, nil), "00000000"},
	} {
		if got := fmt.Sprintf("%x", tc.got); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestDecoder(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   string
		read func(*Decoder) any
		want any
		err  string
	}{
		{"any byte but 0 is true", "07", func(d *Decoder) any { return d.Bool() }, true, ""},
		{"null buffer", "ffffffff", func(d *Decoder) any { return d.Buffer() == nil }, true, ""},
		{"empty buffer is not null", "00000000", func(d *Decoder) any { return d.Buffer() != nil }, true, ""},
		{"negative length", "fffffffe", func(d *Decoder) any { return d.Buffer() }, []byte(nil), "at byte 0: unreasonable length -2"},
		{"buffer longer than the rest", "0000000361", func(d *Decoder) any { return d.Buffer() }, []byte(nil), "at byte 4: need 3 bytes, have 1"},
		{"huge buffer", "7fffffff61", func(d *Decoder) any { return d.Buffer() }, []byte(nil), "truncated"},
		{"string", "0000000161", func(d *Decoder) any { return d.String() }, "a", ""},
		{"null string", "ffffffff", func(d *Decoder) any { return d.String() }, "", "at byte 0: null string"},
		{"allowed null string", "ffffffff", func(d *Decoder) any { return d.NullString() }, "", ""},
		{"short int", "000000", func(d *Decoder) any { return d.Int() }, int32(0), "need 4 bytes, have 3"},
		{"short long", "00000000000000", func(d *Decoder) any { return d.Long() }, int64(0), "need 8 bytes, have 7"},
		{"strings", "00000002000000016100000000", func(d *Decoder) any { return d.Strings() }, []string{"a", ""}, ""},
		{"null strings", "ffffffff", func(d *Decoder) any { return d.Strings() }, []string(nil), "null vector"},
		{"negative count", "fffffff0", func(d *Decoder) any { return d.Strings() }, []string(nil), ""},
		{"more strings than bytes", "0000000200000000", func(d *Decoder) any { return d.Strings() }, []string(nil), "vector of 2 elements in 4 bytes"},
		{"huge count", "7fffffff00000000", func(d *Decoder) any { return d.Strings() }, []string(nil), "vector of 2147483647"},
		{"null string among strings", "00000001ffffffff", func(d *Decoder) any { return d.Strings() }, []string{""}, "null string"},
	} {
		b := make([]byte, len(tc.in)/2)
		fmt.Sscanf(tc.in, "%x", &b)
		d := NewDecoder(b)
		got := tc.read(&d)
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %#v, want %#v", tc.name, got, tc.want)
		}
		switch err := d.Err(); {
		case tc.err == "" && err != nil, tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.err)
		case err != nil && (d.Len() != 0 || d.Long() != 0 || d.Err() != err):
			t.Errorf("%s: the first error does not stick", tc.name)
		}
	}
}

func TestTruncationIsToldApart(t *testing.T) {
	var s Stat
	if err := Unmarshal(make([]byte, 67), &s); !errors.Is(err, ErrTruncated) {
		t.Errorf("67 bytes of 68: %v", err)
	}
	if err := Unmarshal(make([]byte, 69), &s); err != nil {
		t.Errorf("a byte too many: %v", err)
	}
}

func TestStringsAliasOnlyIfAsked(t *testing.T) {
	for _, alias := range []bool{false, true} {
		b := AppendString(nil, "abc")
		d := NewDecoder(b)
		if alias {
			d = NewAliasDecoder(b)
		}
		s := d.String()
		b[4] = 'x'
		if got := s == "xbc"; got != alias {
			t.Errorf("alias decoder %v: string aliases: %v", alias, got)
		}
	}
	// What is appended to a decoded buffer must not run over what follows.
	b := AppendBuffer(AppendBuffer(nil, []byte("ab")), []byte("cd"))
	d := NewDecoder(b)
	_ = append(d.Buffer(), "zzzz"...)
	if got := string(d.Buffer()); got != "cd" {
		t.Errorf("second buffer is %q", got)
	}
}

func TestErrorsSayWhat(t *testing.T) {
	err := fmt.Errorf("outer: %w", &OpError{Op: OpGetData, Path: "/a", Err: ErrNoNode})
	if got := err.Error(); got != "outer: getData /a: no such znode" || !errors.Is(err, ErrNoNode) {
		t.Errorf("%q", got)
	}
	if got := (&OpError{Op: OpWhoAmI, Err: ErrConnectionLoss}).Error(); got != "whoAmI: connection lost" {
		t.Errorf("%q", got)
	}
	if OK.Err() != nil || ErrNoNode.Err() == nil {
		t.Error("Code.Err")
	}
	for code := range codeTexts {
		if strings.HasPrefix(code.Error(), "error code") {
			t.Errorf("code %d has no text", code)
		}
	}
	if got := Code(-126).Error() + ", " + Op(99).String(); got != "error code -126, unknown 99" {
		t.Errorf("%q", got)
	}
	for _, op := range allOps() {
		if _, ok := newRequest(op); ok && strings.HasPrefix(op.String(), "unknown") {
			t.Errorf("operation %d has no name", op)
		}
	}
}

func TestTxnsOfOlderReleases(t *testing.T) {
	header := func(op Op) []byte {
		return (&TxnHeader{Session: 1, Cxid: 2, Zxid: 3, TimeMs: 4, Type: op}).Append(nil)
	}
	t.Run("closeSession without a list", func(t *testing.T) {
		var txn Txn
		if err := Unmarshal(header(OpCloseSession), &txn); err != nil || txn.Body != nil {
			t.Errorf("%+v, %v", txn, err)
		}
	})
	t.Run("create without parent cversion", func(t *testing.T) {
		b := AppendACL(AppendBuffer(AppendString(header(OpCreate), "/a"), nil), OpenACL())
		var txn Txn
		if err := Unmarshal(AppendBool(b, true), &txn); err != nil {
			t.Fatal(err)
		}
		if c := txn.Body.(*CreateTxn); c.ParentCversion != -1 || !c.Ephemeral || c.Path != "/a" {
			t.Errorf("%+v", c)
		}
	})
	t.Run("digest of version 0 is none", func(t *testing.T) {
		b := AppendLong(AppendInt(AppendInt(header(OpFailed), -101), 0), 99)
		var txn Txn
		if err := Unmarshal(b, &txn); err != nil || txn.Digest != (Digest{}) {
			t.Errorf("%+v, %v", txn, err)
		}
	})
	t.Run("unknown type", func(t *testing.T) {
		var txn Txn
		if err := Unmarshal(header(77), &txn); err == nil || !strings.Contains(err.Error(), "transaction 0x3: unknown type 77") {
			t.Errorf("%v", err)
		}
	})
}

func TestFailedMultiTxn(t *testing.T) {
	for _, tc := range []struct {
		codes []Code
		want  Code
		at    int
	}{
		{nil, OK, -1},
		{[]Code{OK, ErrNoNode, ErrRuntimeInconsistency}, ErrNoNode, 1},
		{[]Code{ErrRuntimeInconsistency}, ErrRuntimeInconsistency, 0},
	} {
		var txn MultiTxn
		for _, c := range tc.codes {
			txn.Txns = append(txn.Txns, SubTxn{OpFailed, &IntRecord{int32(c)}})
		}
		if code, at := txn.Failed(); code != tc.want || at != tc.at {
			t.Errorf("%v: %v at %d, want %v at %d", tc.codes, code, at, tc.want, tc.at)
		}
	}
}

// memoryOf returns how many bytes fn allocates.
func memoryOf(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// memoryBound is what decoding n bytes may allocate. The densest record is a
// list of empty strings: 16 bytes of memory for 4 on the wire; lists that grow
// take some times that.
func memoryBound(n int) uint64 { return 64<<10 + 64*uint64(n) }

func TestLengthsAreNotTrusted(t *testing.T) {
	huge := AppendInt(nil, 1<<31-1)
	for name, fn := range map[string]func(d *Decoder){
		"buffer":         func(d *Decoder) { d.Buffer() },
		"strings":        func(d *Decoder) { d.Strings() },
		"acl":            func(d *Decoder) { DecodeACL(d) },
		"whoAmI":         func(d *Decoder) { new(WhoAmIResponse).Decode(d) },
		"multi txn":      func(d *Decoder) { new(MultiTxn).Decode(d) },
		"multi request":  func(d *Decoder) { new(MultiRequest).Decode(d) },
		"multi response": func(d *Decoder) { new(MultiResponse).Decode(d) },
	} {
		b := append(huge[:4:4], make([]byte, 1000)...)
		d := NewDecoder(b)
		if got := memoryOf(func() { fn(&d) }); got > memoryBound(len(b)) {
			t.Errorf("%s: %d bytes for %d", name, got, len(b))
		}
	}
}

// checkStable decodes b and, if that works, demands that what is encoded from it
// decodes to the same and encodes to the same bytes.
func checkStable(t *testing.T, b []byte, fresh func() Record) {
	t.Helper()
	r := fresh()
	input := bytes.Clone(b)
	d := NewDecoder(b)
	if mem := memoryOf(func() { r.Decode(&d) }); mem > memoryBound(len(b)) {
		t.Errorf("%T took %d bytes of memory for %x", r, mem, b)
	}
	aliased := fresh()
	ad := NewAliasDecoder(b)
	aliased.Decode(&ad)
	if (d.Err() == nil) != (ad.Err() == nil) {
		t.Errorf("%T: the two decoders differ: %v, %v", r, d.Err(), ad.Err())
	}
	if d.Err() != nil {
		return
	}
	if !reflect.DeepEqual(r, aliased) {
		t.Errorf("%T: the two decoders differ: %+v, %+v", r, r, aliased)
	}
	enc := r.Append(nil)
	again := fresh()
	d = NewDecoder(enc)
	again.Decode(&d)
	if d.Err() != nil || d.Len() != 0 || !reflect.DeepEqual(again, r) {
		t.Errorf("%T: %+v became %+v, %v, %d bytes left\nfrom %x\nthen %x", r, r, again, d.Err(), d.Len(), b, enc)
	}
	if enc2 := again.Append(nil); !bytes.Equal(enc2, enc) {
		t.Errorf("%T: encodes to\n%x, then to\n%x", r, enc, enc2)
	}
	if !bytes.Equal(b, input) {
		t.Errorf("%T: decoding changed its input", r)
	}
}

func seedExchanges(f *testing.F, add func(op Op, request []byte, replies [][]byte)) {
	for _, file := range []string{"testdata/examples.txt", "testdata/apache.txt"} {
		t := new(testing.T)
		for _, x := range readExchanges(t, file) {
			var h RequestHeader
			if strings.HasPrefix(x.name, "connect") || Unmarshal(x.request, &h) != nil {
				continue
			}
			var bodies [][]byte
			for _, r := range x.replies {
				bodies = append(bodies, r[16:])
			}
			add(h.Op, x.request[8:], bodies)
		}
	}
}

func FuzzRequest(f *testing.F) {
	seedExchanges(f, func(op Op, request []byte, _ [][]byte) { f.Add(int32(op), request) })
	f.Fuzz(func(t *testing.T, op int32, b []byte) {
		checkStable(t, b, func() Record { return &ConnectRequest{} })
		if r, ok := newRequest(Op(op)); ok && r != nil {
			checkStable(t, b, func() Record {
				r, _ := newRequest(Op(op))
				return r
			})
		}
	})
}

func FuzzReply(f *testing.F) {
	seedExchanges(f, func(op Op, _ []byte, replies [][]byte) {
		for _, r := range replies {
			f.Add(int32(op), r)
		}
	})
	f.Fuzz(func(t *testing.T, op int32, b []byte) {
		checkStable(t, b, func() Record { return &ConnectResponse{} })
		checkStable(t, b, func() Record { return &WatcherEvent{} })
		checkStable(t, b, func() Record { return &ReplyHeader{} })
		if newResponse(Op(op)) != nil {
			checkStable(t, b, func() Record { return newResponse(Op(op)) })
		}
	})
}

func FuzzMulti(f *testing.F) {
	seedExchanges(f, func(op Op, request []byte, replies [][]byte) {
		if op == OpMulti || op == OpMultiRead {
			f.Add(request)
			f.Add(replies[len(replies)-1])
		}
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		checkStable(t, b, func() Record { return &MultiRequest{} })
		checkStable(t, b, func() Record { return &MultiResponse{} })
		checkStable(t, b, func() Record { return &MultiTxn{} })
	})
}

// sampleTxns has one transaction of every type.
func sampleTxns() []*Txn {
	header := func(op Op) TxnHeader { return TxnHeader{0x100000e2ae70000, 7, 0x100000002, 1700000000000, op} }
	create := func(op Op) *CreateTxn {
		return &CreateTxn{Type: op, Path: "/a", Data: []byte("x"), ACL: OpenACL(), ParentCversion: 3}
	}
	ttl := create(OpCreateTTL)
	ttl.TTLMs = 5
	bodies := []struct {
		op   Op
		body Record
	}{
		{OpCreateSession, &IntRecord{10000}},
		{OpCloseSession, &PathsRecord{[]string{"/e", "/f"}}},
		{OpCloseSession, nil},
		{OpCreate, create(OpCreate)},
		{OpCreate2, create(OpCreate2)},
		{OpCreateContainer, create(OpCreateContainer)},
		{OpCreateTTL, ttl},
		{OpDelete, &PathRecord{"/a"}},
		{OpDeleteContainer, &PathRecord{"/box"}},
		{OpSetData, &SetDataTxn{"/a", nil, 4}},
		{OpReconfig, &SetDataTxn{"/zookeeper/config", []byte("version=1"), -1}},
		{OpSetACL, &SetACLTxn{"/a", OpenACL(), 1}},
		{OpFailed, &IntRecord{int32(ErrNoNode)}},
		{OpMulti, &MultiTxn{[]SubTxn{
			{OpCreate, create(OpCreate)}, {OpSetData, &SetDataTxn{"/a", []byte("y"), 1}},
			{OpCheck, &PathVersion{"/a", 1}}, {OpDelete, &PathRecord{"/a"}}, {OpFailed, &IntRecord{-101}},
		}}},
	}
	var txns []*Txn
	for _, b := range bodies {
		txn := &Txn{Header: header(b.op), Body: b.body}
		if b.body != nil {
			txn.Digest = Digest{DigestVersion, 0x51c6d660}
		}
		txns = append(txns, txn)
	}
	return txns
}

func TestEveryTxnComesBack(t *testing.T) {
	for _, txn := range sampleTxns() {
		var got Txn
		b := txn.Append(nil)
		if err := Unmarshal(b, &got); err != nil || !reflect.DeepEqual(&got, txn) {
			t.Errorf("%v: %+v, %v\nwant %+v", txn.Header.Type, got, err, txn)
		}
		for n := range len(b) {
			if err := Unmarshal(b[:n], new(Txn)); err == nil && n < 32 {
				t.Errorf("%v: %d of %d bytes are enough", txn.Header.Type, n, len(b))
			}
		}
	}
}

func FuzzTxn(f *testing.F) {
	for _, txn := range sampleTxns() {
		f.Add(txn.Append(nil))
	}
	recorded, err := os.ReadFile("../znode/testdata/apache-3.8.0-txns.hex") // of a log of Apache's
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.FieldsSeq(string(recorded)) {
		b, err := hex.DecodeString(line)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkStable(t, b, func() Record { return &Txn{} })
	})
}

var sink []byte

func BenchmarkEncodeCreate(b *testing.B) {
	req := &CreateRequest{Path: "/dubbo/org.demo.Greeter/providers/x", Data: make([]byte, 100), ACL: OpenACL(), TTLMs: -1}
	b.ReportAllocs()
	for b.Loop() {
		sink = req.Append(sink[:0])
	}
}

func BenchmarkDecodeCreate(b *testing.B) {
	in := (&CreateRequest{Path: "/dubbo/org.demo.Greeter/providers/x", Data: make([]byte, 100), ACL: OpenACL(), TTLMs: -1}).Append(nil)
	for _, alias := range []bool{false, true} {
		b.Run(fmt.Sprintf("alias=%v", alias), func(b *testing.B) {
			b.ReportAllocs()
			var req CreateRequest
			for b.Loop() {
				d := NewDecoder(in)
				if alias {
					d = NewAliasDecoder(in)
				}
				if req.Decode(&d); d.Err() != nil {
					b.Fatal(d.Err())
				}
			}
		})
	}
}

func BenchmarkEncodeGetDataReply(b *testing.B) {
	h, resp := &ReplyHeader{Xid: 1, Zxid: zab.Zxid(5)}, &GetDataResponse{Data: make([]byte, 100)}
	b.ReportAllocs()
	for b.Loop() {
		sink = resp.Append(h.Append(sink[:0]))
	}
}

func BenchmarkTxn(b *testing.B) {
	txn := &Txn{
		Header: TxnHeader{Session: 1, Zxid: 5, Type: OpSetData},
		Body:   &SetDataTxn{"/dubbo/org.demo.Greeter/providers/x", make([]byte, 100), 3},
		Digest: Digest{DigestVersion, 1},
	}
	in := txn.Append(nil)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sink = txn.Append(sink[:0])
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		var out Txn
		for b.Loop() {
			d := NewAliasDecoder(in)
			if out.Decode(&d); d.Err() != nil {
				b.Fatal(d.Err())
			}
		}
	})
}
