package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/paddockio/paddock/configsync"
	"github.com/paddockio/paddock/registry/nameserver"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/storage"
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
	v.zab(c.Zab, c.Bootstrap.Cluster != "")
	v.bootstrap(c)
	v.registry(c.Registry)
	v.dns(c.DNS)
	v.targets(c.ConfigSync)
	v.listen("admin.listen", c.Admin.Listen)
	v.require("admin.command_url", strings.HasPrefix(c.Admin.CommandURL, "/") && !strings.HasSuffix(c.Admin.CommandURL, "/") &&
		!strings.ContainsAny(c.Admin.CommandURL, "{} "), "wants a path such as /commands, got %q", c.Admin.CommandURL)
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

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err
}

const maxInt = 1<<31 - 1

// zab checks the server; gossips says that its ensemble may be found by gossip.
func (v *validation) zab(z Zab, gossips bool) {
	v.oneOf("zab.role", string(z.Role), string(RoleAuto), string(RoleVoter), string(RoleObserver), string(RoleClient))
	v.connect(z)
	v.atLeast("zab.session_timeout", z.Client.SessionTimeout, time.Second)
	v.servers(z, gossips)
	v.server(z.Server)
	v.storage(z.Server.Storage)
}

func (v *validation) server(s server.Config) {
	maxID := 254
	if !s.Znode.ExtendedTypes {
		maxID = 255
	}
	v.inRange("zab.id", int(s.ID), 0, maxID)
	v.listen("zab.client_listen", s.Listen)
	v.require("zab.max_client_cnxns", s.MaxClientCnxns > 0 || s.MaxClientCnxns == -1, "wants a number of connections, or -1 for no limit, got %d", s.MaxClientCnxns)
	v.inRange("zab.max_cnxns", s.MaxCnxns, 0, maxInt)
	v.atLeast("zab.tick_time", s.TickTime, time.Millisecond)
	v.inRange("zab.init_limit", s.InitLimit, 1, maxInt)
	v.inRange("zab.sync_limit", s.SyncLimit, 1, maxInt)
	v.inRange("zab.history_count", s.HistoryCount, 1, maxInt)
	v.require("zab.history_bytes", s.HistoryBytes > 0, "wants a number of bytes, got %d", s.HistoryBytes)
	v.atLeast("zab.election_grace", s.ElectionGrace, 0)
	v.sessionTimeouts(s)
	v.inRange("zab.max_buffer", s.MaxBuffer, 64, 1<<30)
	v.atLeast("zab.handshake_timeout", s.HandshakeTimeout, time.Millisecond)
	v.inRange("zab.max_in_flight", s.MaxInFlight, 1, maxInt)
	v.require("zab.max_outstanding_bytes", s.MaxOutstandingBytes > 0, "wants a number of bytes, got %d", s.MaxOutstandingBytes)
	v.inRange("zab.max_reply_bytes", s.MaxReplyBytes, 1, maxInt)
	v.atLeast("zab.stall_timeout", s.StallTimeout, time.Millisecond)
	v.inRange("zab.max_watches", s.MaxWatches, 1, maxInt)
	for key, list := range map[string][]string{"zab.four_letter_words": s.FourLetterWords, "zab.loopback_words": s.LoopbackWords} {
		for i, w := range list {
			v.require(fmt.Sprintf("%s[%d]", key, i), w == "*" || knownWord(w), "%q is no four-letter word", w)
		}
	}
	v.inRange("zab.snap_retain", s.SnapRetain, 3, maxInt)
	v.atLeast("zab.container_interval", s.ContainerInterval, time.Millisecond)
	v.inRange("zab.max_containers_per_minute", s.MaxContainersPerMinute, 1, maxInt)
	v.require("zab.container_max_never_used_ms", s.Znode.ContainerMaxNeverUsedMs >= 0, "wants milliseconds, got %d", s.Znode.ContainerMaxNeverUsedMs)
	if d := s.Znode.SuperDigest; d != "" {
		id, hash, ok := strings.Cut(d, ":")
		raw, err := base64.StdEncoding.DecodeString(hash)
		v.require("zab.super_digest", ok && id != "" && err == nil && len(raw) == 20,
			"wants super: and the base64 of a SHA-1 hash, as DigestAuthenticationProvider makes it")
	}
}

func (v *validation) storage(s storage.Config) {
	v.require("zab.prealloc_bytes", s.PreallocBytes == -1 || 64<<10 <= s.PreallocBytes && s.PreallocBytes <= 4<<30,
		"wants 64KiB to 4GiB, or -1 for none, got %s", formatNumber(s.PreallocBytes))
	v.require("zab.snap_count", 2 <= s.SnapCount && s.SnapCount <= maxInt, "wants a number from 2 to %d, got %d", maxInt, s.SnapCount)
	v.require("zab.snap_size_bytes", s.SnapSizeBytes > 0, "wants a number of bytes, got %d", s.SnapSizeBytes)
	v.require("zab.compression", s.Compression == storage.Plain || s.Compression == storage.Gzip, `wants "" or gz, got %q`, s.Compression)
	v.atLeast("zab.slow_sync", s.SlowSync, 0)
	v.atLeast("zab.mark_interval", s.MarkInterval, time.Millisecond)
}

func (v *validation) connect(z Zab) {
	if z.Role != RoleClient {
		v.require("zab.connect", z.Client.Servers == "", "needs role client: this agent has a server of its own")
		return
	}
	if z.Client.Servers == "" {
		v.fail("zab.connect", "is required for role client: host:port of the ensemble")
		return
	}
	hosts, chroot := z.Client.Servers, ""
	if i := strings.IndexByte(hosts, '/'); i >= 0 {
		hosts, chroot = hosts[:i], hosts[i:]
	}
	for h := range strings.SplitSeq(hosts, ",") {
		if !strings.Contains(h, ":") {
			h += ":2181"
		}
		if host, port, err := splitAddr(h); err != nil || host == "" || port == 0 {
			v.fail("zab.connect", "wants host:port,host:port/chroot, got %q", z.Client.Servers)
			return
		}
	}
	if chroot != "" && chroot != "/" {
		if err := checkZnode(chroot); err != nil {
			v.fail("zab.connect", "chroot: %v", err)
		}
	}
}

func (v *validation) sessionTimeouts(z server.Config) {
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

func (v *validation) servers(z Zab, gossips bool) {
	e, err := ParseEnsemble(z.Servers)
	for _, f := range faults(err, "") {
		key := "zab.servers"
		if f.Line > 0 {
			key = fmt.Sprintf("zab.servers[%d]", f.Line-1)
		}
		v.fail(key, "%s", f.Msg)
	}
	if err != nil || len(e.Members) == 0 {
		v.require("zab.role", z.Role != RoleObserver || len(z.Servers) > 0 || z.ZooCfg != "" || gossips,
			"an observer needs zab.servers or bootstrap.cluster: somebody must have a vote")
		return
	}
	if z.Role == RoleClient {
		v.fail("zab.servers", "role client has no server: use zab.connect")
		return
	}
	id := z.Server.ID
	if id == 0 {
		return // myid of the data directory decides, when the server starts
	}
	s, ok := e.Member(id)
	switch {
	case !ok:
		v.require("zab.id", z.Role == RoleObserver, "server %d is not in zab.servers", id)
	case s.Observer && z.Role == RoleVoter:
		v.fail("zab.role", "voter, but server %d is an observer in zab.servers", id)
	case !s.Observer && z.Role == RoleObserver:
		v.fail("zab.role", "observer, but server %d is a participant in zab.servers", id)
	}
}

func (v *validation) bootstrap(c Config) {
	b := c.Bootstrap.Config
	if b.Cluster == "" {
		v.require("bootstrap.join", len(b.Join) == 0, "needs bootstrap.cluster")
		v.require("bootstrap.expect", b.Expect == 0, "needs bootstrap.cluster")
		return
	}
	b.Name, b.DataDir = c.Name, "-" // the directory is checked where it belongs
	for _, err := range unjoin(b.Validate()) {
		name, rest, _ := strings.Cut(err.Error(), " ")
		name, index, isList := strings.Cut(name, "[")
		key := "bootstrap." + snake(name)
		if name == "Name" {
			key = "name"
		}
		if isList {
			key += "[" + index
		}
		v.fail(key, "%s", rest)
	}
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
		v.atLeast("registry.op_timeout", r.OpTimeout, time.Millisecond)
		v.atLeast("registry.save_every", r.SaveEvery, time.Millisecond)
	}
	if r.Advertise != "" {
		addr, err := netip.ParseAddr(r.Advertise)
		v.require("registry.advertise", err != nil || !addr.IsUnspecified(), "%s is no address that others can reach", r.Advertise)
		v.require("registry.advertise", !strings.ContainsAny(r.Advertise, " /@") && (err == nil || !strings.Contains(r.Advertise, ":")),
			"wants a host name or an address without port, got %q", r.Advertise)
	}
}

func (v *validation) dns(d nameserver.Config) {
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
	for i, p := range d.Reverse {
		step := 4
		if p.Addr().Is4() {
			step = 8
		}
		v.require(fmt.Sprintf("dns.reverse[%d]", i), p.IsValid() && p.Bits()%step == 0 && p.Masked() == p,
			"wants a network with a length in whole octets (IPv4) or nibbles (IPv6), got %q", p)
	}
	for i, a := range d.Advertise {
		v.require(fmt.Sprintf("dns.advertise[%d]", i), a.IsValid(), "wants an IP address")
	}
	for _, t := range []struct {
		key string
		d   time.Duration
	}{{"dns.ttl", d.TTL}, {"dns.negative_ttl", d.NegativeTTL}, {"dns.stale_ttl", d.StaleTTL}} {
		v.require(t.key, time.Second <= t.d && t.d <= 7*24*time.Hour, "wants 1s to 168h, got %v", t.d)
	}
	v.atLeast("dns.max_stale", d.MaxStale, 0)
	v.inRange("dns.udp_size", d.UDPSize, 512, 4096)
	v.inRange("dns.udp_workers", d.UDPWorkers, 0, maxInt)
	v.inRange("dns.tcp_conns", d.TCPConns, 1, maxInt)
	v.inRange("dns.tcp_conns_per_client", d.TCPConnsPerClient, 1, maxInt)
	v.atLeast("dns.tcp_idle", d.TCPIdle, time.Millisecond)
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
		{"zab.client_listen", c.Zab.Server.Listen}, {"dns.listen", c.DNS.Listen}, {"admin.listen", c.Admin.Listen}, {"bootstrap.listen", gossipListen(c)},
	} {
		_, port, err := splitAddr(l.addr)
		if err != nil || port == 0 {
			continue
		}
		if other, twice := used[l.addr]; twice {
			v.fail(l.key, "%s is already %s", l.addr, other)
		}
		used[l.addr] = l.key
	}
}

// gossipListen is where gossip listens, "" if it does not.
func gossipListen(c Config) string {
	if c.Bootstrap.Cluster == "" {
		return ""
	}
	return c.Bootstrap.Listen
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
