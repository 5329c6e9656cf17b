package znode

import (
	"crypto/sha1"
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab/wire"
)

// Authenticate checks what an auth packet carries and returns the identities
// that the connection gains; ErrAuthFailed closes the connection. The schemes
// are digest, whose auth is "user:password", and ip, whose auth is ignored.
// (Classes DigestAuthenticationProvider, IPAuthenticationProvider.)
func (c *Config) Authenticate(scheme string, auth []byte, remote netip.Addr) ([]wire.ID, wire.Code) {
	switch scheme {
	case "digest":
		if c.NoDigestAuth {
			return nil, wire.ErrAuthFailed
		}
		digest := DigestID(string(auth))
		ids := []wire.ID{{Scheme: "digest", ID: digest}}
		if c.SuperDigest != "" && digest == c.SuperDigest {
			ids = append(ids, wire.ID{Scheme: "super"})
		}
		return ids, wire.OK
	case "ip":
		return []wire.ID{IPID(remote)}, wire.OK
	}
	return nil, wire.ErrAuthFailed
}

// IPID is the identity that a connection from remote has from its start.
func IPID(remote netip.Addr) wire.ID {
	return wire.ID{Scheme: "ip", ID: remote.Unmap().WithZone("").String()}
}

// DigestID makes the id of scheme digest from "user:password":
// "user:base64(SHA-1(user:password))". Without a colon all of it is the user.
func DigestID(userPassword string) string {
	user, _, _ := strings.Cut(userPassword, ":")
	sum := sha1.Sum([]byte(userPassword))
	return user + ":" + base64.StdEncoding.EncodeToString(sum[:])
}

// WhoAmI lists identities as the whoAmI request shows them: without hashes.
func WhoAmI(ids []wire.ID) []wire.ID {
	users := make([]wire.ID, len(ids))
	for i, id := range ids {
		if id.Scheme == "digest" {
			id.ID, _, _ = strings.Cut(id.ID, ":")
		}
		users[i] = id
	}
	return users
}

// isAuthenticated reports whether identities of the scheme take part in the
// expansion of "auth" in an ACL.
func isAuthenticated(scheme string) bool {
	return scheme == "digest" || scheme == "x509" || scheme == "sasl" || scheme == "key"
}

// matches reports whether the identity of a connection is the one that an ACL
// names.
func matches(id, acl *wire.ID) bool {
	if id.Scheme != acl.Scheme {
		return false
	}
	switch id.Scheme {
	case "ip":
		return matchesIP(id.ID, acl.ID)
	case "sasl":
		return id.ID == "super" || id.ID == acl.ID
	case "digest", "x509", "key":
		return id.ID == acl.ID
	}
	return false
}

func matchesIP(addr, pattern string) bool {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return false
	}
	p, ok := parseIPPattern(pattern)
	return ok && p.Contains(a)
}

// parseIPPattern reads "address" or "address/bits".
func parseIPPattern(s string) (netip.Prefix, bool) {
	host, bits, hasBits := strings.Cut(s, "/")
	a, err := netip.ParseAddr(host)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	n := a.BitLen()
	if hasBits {
		if n, err = strconv.Atoi(bits); err != nil || n < 0 || n > a.BitLen() {
			return netip.Prefix{}, false
		}
	}
	return netip.PrefixFrom(a, n), true
}

// validACLID reports whether an ACL may name id.
func (c *Config) validACLID(id wire.ID) bool {
	switch id.Scheme {
	case "key":
		return c.KeyAuth
	case "world":
		return id.ID == "anyone"
	case "digest":
		return !c.NoDigestAuth && strings.Count(id.ID, ":") == 1 && id.ID[len(id.ID)-1] != ':'
	case "ip":
		_, ok := parseIPPattern(id.ID)
		return ok
	case "sasl":
		// A Kerberos name, primary[/instance][@realm], or a plain word.
		return id.ID != "" && strings.Count(id.ID, "@") <= 1 && strings.Count(id.ID, "/") <= 1
	case "x509":
		// A distinguished name: key=value, joined by commas.
		key, _, ok := strings.Cut(id.ID, "=")
		return ok && key != ""
	}
	return false
}

// maskACL is an ACL for eyes that have no ADMIN permission: hashes of scheme
// digest are replaced by x.
func maskACL(acl []wire.ACL) []wire.ACL {
	masked := make([]wire.ACL, len(acl))
	for i, a := range acl {
		if a.ID.Scheme == "digest" {
			user, _, _ := strings.Cut(a.ID.ID, ":")
			a.ID.ID = user + ":x"
		}
		masked[i] = a
	}
	return masked
}
