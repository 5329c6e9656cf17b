package znode

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/paddockio/paddock/zab/wire"
)

func TestValidPath(t *testing.T) {
	for _, path := range []string{"/", "/a", "/a/b", "/zookeeper/x", "/...", "/.a/a.", "/ü/日本", "/a b", "/\ufff0"[:1] + "x", "/\uf900", "/\uffef", "/\u00a0"} {
		if !ValidPath(path) {
			t.Errorf("%q is refused", path)
		}
	}
	for _, path := range []string{
		"", "a", "a/b", "//", "/a/", "/a//b", "/.", "/..", "/a/./b", "/a/../b", "/a/..", "/\x00", "/\x01", "/\x1f", "/a\x7f",
		"/\u0080", "/\u009f", "/\ue000", "/\uf8ff", "/\ufff0", "/\uffff", "/\ufffd", "/\U0001f600", "/\xff", "/\xed\xa0\x80",
	} {
		if ValidPath(path) {
			t.Errorf("%q is taken", path)
		}
	}
}

func FuzzValidPath(f *testing.F) {
	f.Add("/a/b")
	f.Add("/\xff/..")
	f.Fuzz(func(t *testing.T, path string) {
		if !ValidPath(path) || path == "/" {
			return
		}
		parent, name, ok := splitPath(path)
		if !ok || name == "" || parent != "" && !ValidPath(parent) {
			t.Errorf("%q is valid, its parent %q is not", path, parent)
		}
	})
}

func TestAuthenticate(t *testing.T) {
	// The example of ZooKeeper's documentation of the super user.
	cfg := Config{SuperDigest: "super:UdxDQl4f9v5oITwcAsO9bmWgHSI="}
	addr := netip.MustParseAddr("::ffff:10.0.0.1")
	for _, tc := range []struct{ scheme, auth, want string }{
		{"digest", "super:super123", "[{digest super:UdxDQl4f9v5oITwcAsO9bmWgHSI=} {super }] ok"},
		{"digest", "super:other", "[{digest super:OJ7mKy70aHX060lubjl4JNCVjGs=}] ok"},
		{"digest", "user", "[{digest user:Et6pb+wgWTVmq3VpLJlJWWgzrck=}] ok"},
		{"digest", "u:p:q", "[{digest u:" + DigestID("u:p:q")[2:] + "}] ok"},
		{"ip", "anything", "[{ip 10.0.0.1}] ok"},
		{"world", "anyone", "[] authentication failed"},
		{"super", "", "[] authentication failed"},
		{"sasl", "x", "[] authentication failed"},
		{"", "", "[] authentication failed"},
	} {
		ids, code := cfg.Authenticate(tc.scheme, []byte(tc.auth), addr)
		if got := fmt.Sprint(ids, " ", code); got != tc.want {
			t.Errorf("Authenticate(%s, %s) = %s, want %s", tc.scheme, tc.auth, got, tc.want)
		}
	}
	if ids, _ := (&Config{}).Authenticate("digest", nil, addr); len(ids) != 1 {
		t.Errorf("empty auth without a super user gives %v", ids)
	}
	if got := WhoAmI([]wire.ID{{Scheme: "ip", ID: "::1"}, {Scheme: "digest", ID: "u:hash"}, {Scheme: "super"}}); fmt.Sprint(got) != "[{ip ::1} {digest u} {super }]" {
		t.Errorf("WhoAmI = %v", got)
	}
}

func TestAllowed(t *testing.T) {
	entry := func(perms wire.Perms, scheme, id string) wire.ACL {
		return wire.ACL{Perms: perms, ID: wire.ID{Scheme: scheme, ID: id}}
	}
	id := func(scheme, id string) wire.ID { return wire.ID{Scheme: scheme, ID: id} }
	for _, tc := range []struct {
		acl  []wire.ACL
		perm wire.Perms
		ids  []wire.ID
		want bool
	}{
		{nil, wire.PermWrite, nil, true},
		{[]wire.ACL{entry(1, "world", "anyone")}, wire.PermRead, nil, true},
		{[]wire.ACL{entry(1, "world", "anyone")}, wire.PermWrite, nil, false},
		{[]wire.ACL{entry(1, "world", "anyone")}, wire.PermRead | wire.PermAdmin, nil, true},
		{[]wire.ACL{entry(0, "world", "anyone")}, wire.PermRead, []wire.ID{id("super", "")}, true},
		{[]wire.ACL{entry(31, "digest", "u:h")}, wire.PermRead, []wire.ID{id("digest", "u:h")}, true},
		{[]wire.ACL{entry(31, "digest", "u:h")}, wire.PermRead, []wire.ID{id("digest", "u:i"), id("ip", "u:h")}, false},
		{[]wire.ACL{entry(31, "world", "x")}, wire.PermRead, []wire.ID{id("world", "x")}, false},
		{[]wire.ACL{entry(31, "ip", "10.1.0.0/16")}, wire.PermRead, []wire.ID{id("ip", "10.1.2.3")}, true},
		{[]wire.ACL{entry(31, "ip", "10.1.0.0/16")}, wire.PermRead, []wire.ID{id("ip", "10.2.2.3")}, false},
		{[]wire.ACL{entry(31, "ip", "10.1.2.3")}, wire.PermRead, []wire.ID{id("ip", "10.1.2.3")}, true},
		{[]wire.ACL{entry(31, "ip", "10.1.2.3")}, wire.PermRead, []wire.ID{id("ip", "10.1.2.4")}, false},
		{[]wire.ACL{entry(31, "ip", "0.0.0.0/0")}, wire.PermRead, []wire.ID{id("ip", "::1")}, false},
		{[]wire.ACL{entry(31, "ip", "fe80::/10")}, wire.PermRead, []wire.ID{id("ip", "fe81::1")}, true},
		{[]wire.ACL{entry(31, "ip", "fe80::/10")}, wire.PermRead, []wire.ID{id("ip", "garbage")}, false},
		{[]wire.ACL{entry(31, "sasl", "bob")}, wire.PermRead, []wire.ID{id("sasl", "bob")}, true},
		{[]wire.ACL{entry(31, "x509", "CN=bob")}, wire.PermRead, []wire.ID{id("x509", "CN=eve")}, false},
	} {
		if got := Allowed(tc.acl, tc.perm, tc.ids); got != tc.want {
			t.Errorf("Allowed(%v, %d, %v) = %v", tc.acl, tc.perm, tc.ids, got)
		}
	}
	if tr := New(Config{SkipACL: true}); !tr.Allowed([]wire.ACL{entry(0, "world", "anyone")}, wire.PermWrite, nil) {
		t.Error("SkipACL does not skip")
	}
}

func TestACLFixUp(t *testing.T) {
	ids := []wire.ID{{Scheme: "ip", ID: "1.2.3.4"}, {Scheme: "digest", ID: "u:h"}, {Scheme: "super"}, {Scheme: "digest", ID: "v:i"}}
	entry := func(perms wire.Perms, scheme, id string) wire.ACL {
		return wire.ACL{Perms: perms, ID: wire.ID{Scheme: scheme, ID: id}}
	}
	for _, tc := range []struct {
		acl  []wire.ACL
		ids  []wire.ID
		want string
	}{
		{[]wire.ACL{entry(1, "world", "anyone"), entry(1, "world", "anyone")}, nil, "[{1 {world anyone}}] ok"},
		{[]wire.ACL{entry(1, "world", "anyone"), entry(2, "world", "anyone")}, nil, "[{1 {world anyone}} {2 {world anyone}}] ok"},
		{[]wire.ACL{entry(3, "auth", "x"), entry(1, "world", "anyone")}, ids, "[{3 {digest u:h}} {3 {digest v:i}} {1 {world anyone}}] ok"},
		{[]wire.ACL{entry(3, "auth", "")}, ids[:1], "[] invalid acl"},
		{[]wire.ACL{entry(3, "auth", ""), entry(3, "auth", "")}, ids[:2], "[{3 {digest u:h}}] ok"},
		{nil, ids, "[] invalid acl"},
		{[]wire.ACL{entry(64, "digest", "u:h")}, nil, "[{64 {digest u:h}}] ok"},
		{[]wire.ACL{entry(1, "digest", "u:h:i")}, nil, "[] invalid acl"},
		{[]wire.ACL{entry(1, "digest", "u")}, nil, "[] invalid acl"},
		{[]wire.ACL{entry(1, "digest", "u:")}, nil, "[] invalid acl"},
		{[]wire.ACL{entry(1, "ip", "1.2.3.4/33")}, nil, "[] invalid acl"},
		{[]wire.ACL{entry(1, "ip", "1.2.3.4/-1")}, nil, "[] invalid acl"},
		{[]wire.ACL{entry(1, "ip", "1.2.3")}, nil, "[] invalid acl"},
		{[]wire.ACL{entry(1, "ip", "")}, nil, "[] invalid acl"},
		{[]wire.ACL{entry(1, "ip", "::1/128"), entry(1, "ip", "1.2.3.4/0")}, nil, "[{1 {ip ::1/128}} {1 {ip 1.2.3.4/0}}] ok"},
		{[]wire.ACL{entry(1, "sasl", "")}, nil, "[] invalid acl"},
		{[]wire.ACL{entry(1, "sasl", "zk/host@REALM"), entry(1, "x509", "CN=a, O=b")}, nil, "[{1 {sasl zk/host@REALM}} {1 {x509 CN=a, O=b}}] ok"},
		{[]wire.ACL{entry(1, "x509", "nonsense")}, nil, "[] invalid acl"},
	} {
		fixed, code := new(Config).fixACL(tc.acl, tc.ids)
		if got := fmt.Sprint(fixed, " ", code); got != tc.want {
			t.Errorf("fixACL(%v) = %s, want %s", tc.acl, got, tc.want)
		}
	}
}

func TestGetACLHidesHashesFromWhoMayNotChangeIt(t *testing.T) {
	acl := []wire.ACL{{Perms: wire.PermAll, ID: wire.ID{Scheme: "digest", ID: "u:h"}}, {Perms: wire.PermRead, ID: wire.ID{Scheme: "world", ID: "anyone"}}}
	tr := New(Config{})
	apply(tr, 1, wire.OpCreate, &wire.CreateTxn{Path: "/a", ACL: acl})
	apply(tr, 2, wire.OpCreate, &wire.CreateTxn{Path: "/b", ACL: acl[:1]})
	for _, tc := range []struct {
		path string
		ids  []wire.ID
		want string
	}{
		{"/a", nil, "[{31 {digest u:x}} {1 {world anyone}}] ok"},
		{"/a", []wire.ID{{Scheme: "digest", ID: "u:h"}}, "[{31 {digest u:h}} {1 {world anyone}}] ok"},
		{"/b", nil, "[] not authorized"},
		{"/none", nil, "[] no such znode"},
	} {
		got, _, code := tr.GetACL(tc.path, tc.ids)
		if got := fmt.Sprint(got, " ", code); got != tc.want {
			t.Errorf("GetACL(%s, %v) = %s, want %s", tc.path, tc.ids, got, tc.want)
		}
	}
}

func TestReadsDoNotJudgePaths(t *testing.T) {
	tr := New(Config{})
	apply(tr, 1, wire.OpCreate, &wire.CreateTxn{Path: "/a"})
	for path, want := range map[string]wire.Code{
		"": wire.OK, "/": wire.OK, "/a": wire.OK, "/a/": wire.ErrNoNode, "a": wire.ErrNoNode, "//": wire.ErrNoNode, "//a": wire.ErrNoNode,
		"/a//": wire.ErrNoNode, "/.": wire.ErrNoNode, "/a\x00": wire.ErrNoNode,
	} {
		if _, _, code := tr.Get(path, nil); code != want {
			t.Errorf("Get(%q): %v, want %v", path, code, want)
		}
	}
	if _, code := tr.Exists("/a\x00", nil); code != wire.ErrBadArguments {
		t.Errorf("Exists with U+0000: %v", code)
	}
	apply(tr, 2, wire.OpCreate, &wire.CreateTxn{Path: "/s", ACL: []wire.ACL{{ID: wire.ID{Scheme: "world", ID: "anyone"}}}})
	if _, code := tr.Exists("/s", nil); code != wire.ErrNoAuth {
		t.Errorf("Exists without permission: %v", code)
	}
}

func TestSchemesThatAreSwitched(t *testing.T) {
	tree := New(Config{NoDigestAuth: true, KeyAuth: true})
	if _, code := tree.Authenticate("digest", []byte("u:p"), netip.Addr{}); code != wire.ErrAuthFailed {
		t.Errorf("digest although it is off: %v", code)
	}
	digest := []wire.ACL{{Perms: wire.PermAll, ID: wire.ID{Scheme: "digest", ID: DigestID("u:p")}}}
	if _, code := tree.cfg.fixACL(digest, nil); code != wire.ErrInvalidACL {
		t.Errorf("digest in an ACL although it is off: %v", code)
	}
	if ids, code := tree.Authenticate("key", []byte("any"), netip.Addr{}); code != wire.OK || len(ids) != 1 {
		t.Errorf("before there is a key: %v %v", ids, code)
	}
	var r Result
	tree.Apply(&wire.Txn{Header: wire.TxnHeader{Zxid: 1, Type: wire.OpCreate},
		Body: &wire.CreateTxn{Type: wire.OpCreate, Path: "/key", Data: []byte("5"), ACL: wire.OpenACL(), ParentCversion: 1}}, &r)
	for auth, want := range map[string]wire.Code{"25": wire.OK, "0": wire.OK, "7": wire.ErrAuthFailed, "": wire.ErrAuthFailed, "x": wire.ErrAuthFailed} {
		ids, code := tree.Authenticate("key", []byte(auth), netip.Addr{})
		if code != want || code == wire.OK && ids[0] != (wire.ID{Scheme: "key"}) {
			t.Errorf("key %q: %v %v, want %v", auth, ids, code, want)
		}
	}
	if _, code := New(Config{}).Authenticate("key", []byte("5"), netip.Addr{}); code != wire.ErrAuthFailed {
		t.Errorf("key although it is off: %v", code)
	}
}
