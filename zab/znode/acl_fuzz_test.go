package znode

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab/wire"
)

// FuzzACL sets an ACL of one entry for a connection with some credentials: what is
// accepted can be set again as it was stored, no hash is shown to those who may
// not see it, and nobody gains a permission that the entry does not give.
func FuzzACL(f *testing.F) {
	for _, id := range [][2]string{
		{"world", "anyone"}, {"auth", ""}, {"digest", "u:h"}, {"digest", ":"}, {"ip", "10.0.0.0/8"}, {"ip", "::1/129"}, {"ip", "/"},
		{"sasl", "a/b@C"}, {"x509", "CN=x"}, {"key", ""}, {"", ""},
	} {
		f.Add(int32(31), id[0], id[1], "digest", "u:p", "10.1.2.3")
	}
	f.Fuzz(func(t *testing.T, perms int32, scheme, id, authScheme, auth, remote string) {
		addr, err := netip.ParseAddr(remote)
		if err != nil {
			addr = netip.IPv6Loopback()
		}
		c := &Config{}
		ids := []wire.ID{IPID(addr)}
		gained, code := c.Authenticate(authScheme, []byte(auth), addr)
		if code == wire.OK {
			ids = append(ids, gained...)
		}
		for _, u := range WhoAmI(ids) {
			if u.Scheme == "digest" && strings.Contains(u.ID, ":") {
				t.Errorf("whoAmI shows %q", u.ID)
			}
		}
		entry := wire.ACL{Perms: wire.Perms(perms), ID: wire.ID{Scheme: scheme, ID: id}}
		fixed, code := c.fixACL([]wire.ACL{entry}, ids)
		if code != wire.OK {
			return
		}
		if again, code := c.fixACL(fixed, nil); code != wire.OK || !slices.Equal(again, fixed) {
			t.Errorf("%+v is stored as %+v, and that as %+v: %v", entry, fixed, again, code)
		}
		for _, a := range maskACL(fixed) {
			if user, hash, _ := strings.Cut(a.ID.ID, ":"); a.ID.Scheme == "digest" && hash != "x" {
				t.Errorf("the hash of %q is shown", user)
			}
		}
		for _, p := range []wire.Perms{wire.PermRead, wire.PermWrite, wire.PermCreate, wire.PermDelete, wire.PermAdmin} {
			if Allowed(fixed, p, ids) && entry.Perms&p == 0 {
				t.Errorf("%+v gives %v", entry, p)
			}
		}
	})
}
