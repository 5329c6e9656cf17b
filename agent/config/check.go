package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/paddockio/paddock/configsync"
)

// words are the four-letter words of ZooKeeper 3.9.
var words = []string{
	"conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr",
	"orst", "ruok", "srst", "srvr", "stat", "stmk", "wchc", "wchp", "wchs", "lead", "obsr", "sysp", "icfg", "lsnp", "tele",
}

func knownWord(w string) bool { return slices.Contains(words, w) }

// Validate reports every setting that cannot work, as Errors whose Key is set.
// It changes nothing and looks at nothing but c.
func (c Config) Validate() error {
	var v validation
	v.require("name", c.Name != "" && !strings.ContainsFunc(c.Name, unicode.IsSpace), "wants a name without blanks, got %q", c.Name)
	v.require("data_dir", c.DataDir != "" || c.Dev, "is required")
	v.zab(c.Zab)
	v.bootstrap(c)
	v.registry(c.Registry)
	v.dns(c.DNS)
	v.targets(c.ConfigSync)
	v.listen("admin.listen", c.Admin.Listen)
	v.require("admin.command_url", strings.HasPrefix(c.Admin.CommandURL, "/"), "wants a path such as /commands, got %q", c.Admin.CommandURL)
	v.oneOf("log.format", c.Log.Format, "text", "json")
	v.ports(c)
	return v.errs.err()
}

type validation struct{ errs Errors }

func (v *validation) fail(key, format string, args ...any) {
	v.errs = append(v.errs, &Error{Key: key, Msg: fmt.Sprintf(format, args...)})
}

func (v *validation) require(key string, ok bool, format string, args ...any) {
	if !ok {
		v.fail(key, format, args...)
	}
}

func (v *validation) oneOf(key, got string, want ...string) {
	v.require(key, slices.Contains(want, got), "wants one of %s, got %q", strings.Join(want, ", "), got)
}

func (v *validation) inRange(key string, got, low, high int) {
	v.require(key, low <= got && got <= high, "wants a number from %d to %d, got %d", low, high, got)
}

func (v *validation) atLeast(key string, got, low time.Duration) {
	v.require(key, got >= low, "wants at least %v, got %v", low, got)
}

// listen checks an address to listen on; "" is fine.
func (v *validation) listen(key, addr string) {
	if addr == "" {
		return
	}
	if _, _, err := splitAddr(addr); err != nil {
		v.fail(key, "%v", err)
	}
}

func splitAddr(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err == nil {
		port, err = parsePort(p)
	}
	if err != nil || strings.ContainsAny(host, " /") {
		return "", 0, fmt.Errorf("wants an address such as 127.0.0.1:2181, got %q", addr)
	}
	return host, port, nil
}

const maxInt = 1<<31 - 1

func (v *validation) zab(z Zab) {
	v.oneOf("zab.role", string(z.Role), string(RoleAuto), string(RoleVoter), string(RoleObserver), string(RoleClient))
	maxID := 254
	if !z.ExtendedTypes {
		maxID = 255
	}
	v.inRange("zab.id", z.ID, 0, maxID)
	v.connect(z)
	v.atLeast("zab.session_timeout", z.SessionTimeout, time.Second)
	v.listen("zab.client_listen", z.ClientListen)
	v.inRange("zab.max_client_connections", z.MaxClientConnections, 0, maxInt)
	v.inRange("zab.max_connections", z.MaxConnections, 0, maxInt)
	v.inRange("zab.outstanding_limit", z.OutstandingLimit, 1, maxInt)
	v.atLeast("zab.tick_time", z.TickTime, time.Millisecond)
	v.inRange("zab.init_limit", z.InitLimit, 1, maxInt)
	v.inRange("zab.sync_limit", z.SyncLimit, 1, maxInt)
	v.sessionTimeouts(z)
	v.require("zab.jute_max_buffer", 1024 <= z.JuteMaxBuffer && z.JuteMaxBuffer <= 1<<30, "wants a size from 1KiB to 1GiB, got %v", z.JuteMaxBuffer)
	v.servers(z)
	v.inRange("zab.snap_count", z.SnapCount, 2, maxInt)
	v.require("zab.pre_alloc_size", 64<<10 <= z.PreAllocSize && z.PreAllocSize <= 4<<30, "wants a size from 64KiB to 4GiB, got %v", z.PreAllocSize)
	v.oneOf("zab.snapshot_compression", z.SnapshotCompression, "none", "gz", "snappy")
	v.atLeast("zab.fsync_warning", z.FsyncWarning, 0)
	v.inRange("zab.autopurge_retain", z.AutopurgeRetain, 3, maxInt)
	v.atLeast("zab.autopurge_interval", z.AutopurgeInterval, 0)
	for i, w := range z.FourLetterWords {
		v.require(fmt.Sprintf("zab.four_letter_words[%d]", i), w == "*" || knownWord(w), "%q is no four-letter word", w)
	}
	if z.SuperDigest != "" {
		id, hash, ok := strings.Cut(z.SuperDigest, ":")
		raw, err := base64.StdEncoding.DecodeString(hash)
		v.require("zab.super_digest", ok && id != "" && err == nil && len(raw) == 20,
			"wants super: and the base64 of a SHA-1 hash, as DigestAuthenticationProvider makes it")
	}
	v.atLeast("zab.container_check_interval", z.ContainerCheckInterval, time.Millisecond)
}

func (v *validation) connect(z Zab) {
	if z.Role != RoleClient {
		v.require("zab.connect", z.Connect == "", "needs role client: this agent has a server of its own")
		return
	}
	if z.Connect == "" {
		v.fail("zab.connect", "is required for role client: host:port of the ensemble")
		return
	}
	hosts, chroot := z.Connect, ""
	if i := strings.IndexByte(hosts, '/'); i >= 0 {
		hosts, chroot = hosts[:i], hosts[i:]
	}
	for h := range strings.SplitSeq(hosts, ",") {
		if !strings.Contains(h, ":") {
			h += ":2181"
		}
		if host, port, err := splitAddr(h); err != nil || host == "" || port == 0 {
			v.fail("zab.connect", "wants host:port,host:port/chroot, got %q", z.Connect)
			return
		}
	}
	if chroot != "" && chroot != "/" {
		if err := checkZnode(chroot); err != nil {
			v.fail("zab.connect", "chroot: %v", err)
		}
	}
}

func (v *validation) sessionTimeouts(z Zab) {
	v.atLeast("zab.min_session_timeout", z.MinSessionTimeout, 0)
	v.atLeast("zab.max_session_timeout", z.MaxSessionTimeout, 0)
	low, high := z.MinSessionTimeout, z.MaxSessionTimeout
	if low == 0 {
		low = 2 * z.TickTime
	}
	if high == 0 {
		high = 20 * z.TickTime
	}
	v.require("zab.min_session_timeout", low <= high, "%v is more than max_session_timeout, %v", low, high)
}

func (v *validation) servers(z Zab) {
	e, err := ParseEnsemble(z.Servers)
	for _, f := range faults(err, "") {
		key := "zab.servers"
		if f.Line > 0 {
			key = fmt.Sprintf("zab.servers[%d]", f.Line-1)
		}
		v.fail(key, "%s", f.Msg)
	}
	if err != nil || len(e.Servers) == 0 {
		v.require("zab.role", z.Role != RoleObserver || len(z.Servers) > 0 || z.ZooCfg != "",
			"an observer needs zab.servers: somebody must have a vote")
		return
	}
	if z.Role == RoleClient {
		v.fail("zab.servers", "role client has no server: use zab.connect")
		return
	}
	if z.ID == 0 {
		return // myid of the data directory decides, when the server starts
	}
	s, ok := e.Server(z.ID)
	switch {
	case !ok:
		v.require("zab.id", z.Role == RoleObserver, "server %d is not in zab.servers", z.ID)
	case s.Observer && z.Role == RoleVoter:
		v.fail("zab.role", "voter, but server %d is an observer in zab.servers", z.ID)
	case !s.Observer && z.Role == RoleObserver:
		v.fail("zab.role", "observer, but server %d is a participant in zab.servers", z.ID)
	}
}

func (v *validation) bootstrap(c Config) {
	b := c.Bootstrap
	v.listen("bootstrap.listen", b.Listen)
	v.inRange("bootstrap.expect", b.Expect, 0, 9)
	if len(b.Join) == 0 {
		v.require("bootstrap.expect", b.Expect <= 1, "%d servers need bootstrap.join to find each other", b.Expect)
		return
	}
	v.require("bootstrap.cluster", b.Cluster != "", "is required with bootstrap.join: it keeps ensembles apart")
	v.require("bootstrap.listen", b.Listen != "", "is required with bootstrap.join")
	v.require("bootstrap.join", len(c.Zab.Servers) == 0, "the ensemble is already listed in zab.servers")
	for i, j := range b.Join {
		host, port := j, 1
		if strings.Contains(j, ":") && !isIP(j) {
			var err error
			if host, port, err = splitAddr(j); err != nil {
				host = ""
			}
		}
		v.require(fmt.Sprintf("bootstrap.join[%d]", i), host != "" && port != 0, "wants a host or host:port, got %q", j)
	}
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func (v *validation) registry(r Registry) {
	if r.Root != "" {
		if err := checkZnode(r.Root); err != nil {
			v.fail("registry.root", "%v", err)
		} else {
			v.require("registry.root", r.Root != "/zookeeper" && !strings.HasPrefix(r.Root, "/zookeeper/"),
				"%s belongs to ZooKeeper", r.Root)
		}
		v.atLeast("registry.settle", r.Settle, time.Millisecond)
		v.atLeast("registry.resync", r.Resync, time.Second)
	}
	if r.Advertise != "" {
		addr, err := netip.ParseAddr(r.Advertise)
		v.require("registry.advertise", err != nil || !addr.IsUnspecified(), "%s is no address that others can reach", r.Advertise)
		v.require("registry.advertise", !strings.ContainsAny(r.Advertise, " /@") && (err == nil || !strings.Contains(r.Advertise, ":")),
			"wants a host name or an address without port, got %q", r.Advertise)
	}
}

func (v *validation) dns(d DNS) {
	if d.Listen == "" {
		return
	}
	if _, err := netip.ParseAddrPort(d.Listen); err != nil {
		v.fail("dns.listen", "wants an IP address and port such as 127.0.0.1:8600, got %q", d.Listen)
	}
	v.domain("dns.domain", d.Domain)
	for i, a := range d.AltDomains {
		v.domain(fmt.Sprintf("dns.alt_domains[%d]", i), a)
	}
	for i, r := range d.Reverse {
		p, err := netip.ParsePrefix(r)
		step := 4
		if err == nil && p.Addr().Is4() {
			step = 8
		}
		v.require(fmt.Sprintf("dns.reverse[%d]", i), err == nil && p.Bits()%step == 0 && p.Masked() == p,
			"wants a network with a length in whole octets (IPv4) or nibbles (IPv6), got %q", r)
	}
	for i, a := range d.Advertise {
		v.require(fmt.Sprintf("dns.advertise[%d]", i), isIP(a), "wants an IP address, got %q", a)
	}
	for _, t := range []struct {
		key string
		d   time.Duration
	}{{"dns.ttl", d.TTL}, {"dns.negative_ttl", d.NegativeTTL}, {"dns.stale_ttl", d.StaleTTL}} {
		v.require(t.key, time.Second <= t.d && t.d <= 7*24*time.Hour, "wants 1s to 168h, got %v", t.d)
	}
	v.atLeast("dns.max_stale", d.MaxStale, 0)
	v.inRange("dns.udp_size", d.UDPSize, 512, 4096)
	v.require("dns.rate_limit", d.RateLimit != 0, "wants a number of answers a second, or -1 for no limit")
}

// domain checks a zone: short enough to leave room for a Java interface.
func (v *validation) domain(key, domain string) {
	name := strings.TrimSuffix(domain, ".")
	ok := name != "" && len(name) <= 62
	for l := range strings.SplitSeq(name, ".") {
		ok = ok && l != "" && len(l) <= 63 && !strings.ContainsFunc(l, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		})
	}
	v.require(key, ok, "wants a domain of at most 62 characters such as paddock., got %q", domain)
	lower := strings.ToLower(name)
	v.require(key, lower != "local" && !strings.HasSuffix(lower, ".local"), ".local belongs to multicast DNS")
}

func (v *validation) targets(list []configsync.Target) {
	names, files := map[string]int{}, map[string]int{}
	tree := func(t configsync.Target) bool { return t.Tree || strings.HasSuffix(t.To, "/") }
	for i, t := range list {
		key := fmt.Sprintf("configsync[%d]", i)
		for _, err := range unjoin(t.Validate()) {
			v.targetFault(key, err.Error())
		}
		if first, twice := names[t.Name]; twice && t.Name != "" {
			v.fail(key+".name", "configsync[%d] is called %q too", first, t.Name)
		}
		names[t.Name] = i
		to := filepath.Clean(t.To)
		for other, first := range files {
			if other == to || strings.HasPrefix(other, to+"/") && tree(t) || strings.HasPrefix(to, other+"/") && tree(list[first]) {
				v.fail(key+".to", "%s collides with configsync[%d], %s: two targets would overwrite each other", t.To, first, list[first].To)
				break
			}
		}
		files[to] = i
	}
}

// targetFault gives a fault of a target, which begins with the name of the
// setting, its key.
func (v *validation) targetFault(key, text string) {
	word, rest, _ := strings.Cut(text, " ")
	word = strings.TrimSuffix(word, ":")
	for _, f := range fields(reflect.ValueOf(&configsync.Target{}).Elem()) {
		if f.key == word {
			v.fail(key+"."+word, "%s", rest)
			return
		}
	}
	v.fail(key, "%s", text)
}

// unjoin takes apart what errors.Join made.
func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// ports refuses two listeners on one TCP address.
func (v *validation) ports(c Config) {
	used := map[string]string{}
	for _, l := range []struct{ key, addr string }{
		{"zab.client_listen", c.Zab.ClientListen}, {"dns.listen", c.DNS.Listen},
		{"admin.listen", c.Admin.Listen}, {"bootstrap.listen", c.Bootstrap.Listen},
	} {
		_, port, err := splitAddr(l.addr)
		if err != nil || port == 0 || l.key == "bootstrap.listen" && len(c.Bootstrap.Join) == 0 {
			continue
		}
		if other, twice := used[l.addr]; twice {
			v.fail(l.key, "%s is already %s", l.addr, other)
		}
		used[l.addr] = l.key
	}
}

// checkZnode reports why a path cannot be a znode's (class PathUtils).
func checkZnode(path string) error {
	if path == "/" {
		return nil
	}
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("wants a znode path that begins with /, got %q", path)
	}
	for part := range strings.SplitSeq(path[1:], "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%q is no znode path: a part of it is %q", path, part)
		}
		for _, r := range part {
			if r <= 0x1f || r >= 0x7f && r <= 0x9f || r >= 0xd800 && r <= 0xf8ff || r >= 0xfff0 && r <= 0xffff {
				return fmt.Errorf("%q is no znode path: the character %U is not allowed", path, r)
			}
		}
	}
	return nil
}
