package shell

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab/wire"
)

func TestLinesAreSplitAsZkCliSplitsThem(t *testing.T) {
	for _, tc := range []struct {
		line string
		want []string
	}{
		{"", nil},
		{"   \t ", nil},
		{"ls /", []string{"ls", "/"}},
		{"  create /a  'two words'  ", []string{"create", "/a", "two words"}},
		{`set /a "it's"`, []string{"set", "/a", "it's"}},
		{`set /a ""`, []string{"set", "/a", ""}},
		{`set /a b"c d"`, []string{"set", "/a", `b"c`, `d"`}}, // a quote inside a word is a letter
		{`set /a "open`, []string{"set", "/a", "open"}},
		{`"a""b"`, []string{"a", "b"}},
	} {
		if got := Split(tc.line); !slices.Equal(got, tc.want) {
			t.Errorf("Split(%q) = %q, want %q", tc.line, got, tc.want)
		}
	}
}

func TestOptionsStandAnywhere(t *testing.T) {
	v := &verb{usage: "path", flags: []string{"s", "w"}, values: []string{"v", "file"}, min: 2}
	for _, tc := range []struct {
		line  string
		args  string
		given string
		fault string
	}{
		{"x -s /a", "x /a", "s", ""},
		{"x /a -sw", "x /a", "s w", ""},
		{"x -v 3 /a", "x /a", "v=3", ""},
		{"x -v3 /a -file f", "x /a", "file=f v=3", ""},
		{"x -sv3 /a", "x /a", "s v=3", ""},
		{"x -v -1 /a", "x /a", "v=-1", ""},
		{"x -- -s /a", "x -s /a", "", ""},
		{"x - /a", "x - /a", "", ""},
		{"x -q /a", "", "", "Unrecognized option: -q"},
		{"x /a -1", "", "", "Unrecognized option: -1"},
		{"x /a -v", "", "", "Missing argument for option: v"},
		{"x", "", "", "x path"},
	} {
		c, err := v.parse(Split(tc.line))
		if err != nil {
			if err.Error() != tc.fault {
				t.Errorf("%s: got error %q, want %q", tc.line, err, tc.fault)
			}
			continue
		}
		var given []string
		for f := range c.flags {
			given = append(given, f)
		}
		for o, val := range c.options {
			given = append(given, o+"="+val)
		}
		slices.Sort(given)
		if strings.Join(c.args, " ") != tc.args || strings.Join(given, " ") != tc.given || tc.fault != "" {
			t.Errorf("%s: args %q, options %q, want %q, %q, error %q", tc.line, c.args, given, tc.args, tc.given, tc.fault)
		}
	}
}

func TestPathsAreRefusedInZooKeepersWords(t *testing.T) {
	for _, tc := range []struct{ path, want string }{
		{"/", ""}, {"/a/b", ""}, {"/a/.b", ""}, {"/a/...", ""}, {"/..a", ""},
		{"", "Path length must be > 0"},
		{"a", "Path must start with / character"},
		{"/a/", "Path must not end with / character"},
		{"/a//b", `Invalid path string "/a//b" caused by empty node name specified @3`},
		{"/a/./b", `Invalid path string "/a/./b" caused by relative paths not allowed @3`},
		{"/..", `Invalid path string "/.." caused by relative paths not allowed @2`},
		{"/a\x01", "Invalid path string \"/a\x01\" caused by invalid character @2"},
		{"/a\x00b", "Invalid path string \"/a\x00b\" caused by null character not allowed @2"},
	} {
		got := ""
		if err := checkPath(tc.path); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.path, got, tc.want)
		}
	}
}

func TestErrorsAreWordedAsZkCliDoes(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{&wire.OpError{Op: wire.OpGetData, Path: "/a", Err: wire.ErrNoNode}, "Node does not exist: /a"},
		{&wire.OpError{Op: wire.OpSetData, Path: "/a", Err: wire.ErrBadVersion}, "version No is not valid : /a"},
		{&wire.OpError{Op: wire.OpGetData, Path: "/a", Err: wire.ErrConnectionLoss}, "KeeperErrorCode = ConnectionLoss for /a"},
		{wire.ErrReconfigDisabled, "KeeperErrorCode = Reconfig is disabled"},
		{wire.ErrNoNode, "Node does not exist: null"},
		{wire.Code(-999), "KeeperErrorCode = Unknown error -999"},
	} {
		if got := message(tc.err); got != tc.want {
			t.Errorf("%v: got %q, want %q", tc.err, got, tc.want)
		}
	}
}

func TestHexDumpIsNettys(t *testing.T) {
	if got := hexDump(nil); got != "" {
		t.Errorf("no bytes: %q", got)
	}
	got := hexDump([]byte("0123456789abcdef\x00\x7f~"))
	want := `         +-------------------------------------------------+
         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |
+--------+-------------------------------------------------+----------------+
|00000000| 30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66 |0123456789abcdef|
|00000010| 00 7f 7e                                        |..~             |
+--------+-------------------------------------------------+----------------+`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestQuotaData(t *testing.T) {
	for _, tc := range []struct{ data, want string }{
		{"", "count=-1,bytes=-1"},
		{"count=5,bytes=6", "count=5,bytes=6"},
		{"count=5,bytes=6=;byteHardLimit=7;countHardLimit=8", "count=5,bytes=6=;byteHardLimit=7;countHardLimit=8"},
		{"bytes=,count", "count=-1,bytes=-1"},
	} {
		got, err := parseTrack([]byte(tc.data))
		if err != nil || got.String() != tc.want {
			t.Errorf("%q: got %v, %v, want %q", tc.data, got, err, tc.want)
		}
	}
	if _, err := parseTrack([]byte("count=x")); err == nil {
		t.Error("count=x is taken for a quota")
	}
}

func TestACLs(t *testing.T) {
	var errs bytes.Buffer
	s := New(Config{Stdout: &errs, Stderr: &errs})
	got := s.parseACL("world:anyone:cdrwa,digest:u:hash=:r,ip:::1:w,bad,x:y:qr,")
	want := []wire.ACL{
		{Perms: wire.PermAll, ID: wire.ID{Scheme: "world", ID: "anyone"}},
		{Perms: wire.PermRead, ID: wire.ID{Scheme: "digest", ID: "u:hash="}},
		{Perms: wire.PermWrite, ID: wire.ID{Scheme: "ip", ID: "::1"}},
		{Perms: wire.PermRead, ID: wire.ID{Scheme: "x", ID: "y"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if text := errs.String(); text != "bad does not have the form scheme:id:perm\nUnknown perm type: q\n" {
		t.Errorf("remarks %q", text)
	}
	if got := permText(wire.PermAll); got != "cdrwa" {
		t.Errorf("all permissions print %q", got)
	}
}

func TestClientAddressesOfAConfiguration(t *testing.T) {
	got := clientAddrs("server.1=h:1:2:participant;10.0.0.1:2181\nserver.2=h:3:4:observer;2182\nserver.3=h:5:6\nversion=1a")
	if want := "1a 10.0.0.1:2181,0.0.0.0:2182"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCompletionExtendsVerbs(t *testing.T) {
	s := New(Config{})
	for _, tc := range []struct {
		line string
		want string
		ok   bool
		list string
	}{
		{"qu", "quit ", true, ""},
		{"getE", "getEphemerals ", true, ""},
		{"set", "", false, "set  setAcl  setquota\n"},
		{"nothing", "", false, ""},
		{"ls /", "", false, ""}, // not connected
		{"ls x", "", false, ""},
	} {
		var screen bytes.Buffer
		got, pos, ok := s.complete(t.Context(), &screen, tc.line, len(tc.line))
		if got != tc.want || ok != tc.ok || ok && pos != len(got) || screen.String() != tc.list {
			t.Errorf("%q: got %q at %d, %v, listed %q", tc.line, got, pos, ok, screen.String())
		}
	}
}
