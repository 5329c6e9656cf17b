package nameserver

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/paddockio/paddock/registry"
)

// Config says what a [Server] answers and within which bounds. The zero value
// of every field but Directory means its default.
type Config struct {
	// Directory is asked for every answer. Required.
	Directory registry.Directory

	// Listen is the address for UDP and TCP. Port 0 takes a free port, the
	// same for both. Default "127.0.0.1:8600": a server that others can reach
	// tells them everything that is registered.
	Listen string

	// Domain is the zone. Default "paddock.". Not ".local", which belongs to
	// multicast DNS (RFC 6762).
	Domain string

	// AltDomains are more zones with the same names below them, for a move
	// from one domain to another. An answer stays in the zone of its question.
	AltDomains []string

	// Reverse lists networks whose reverse zones are delegated to this server,
	// with a length in whole octets (IPv4) or nibbles (IPv6): it then answers
	// NXDOMAIN for addresses without an instance. Addresses of instances are
	// answered in any network; all other reverse names are refused.
	Reverse []netip.Prefix

	// Advertise are the addresses of ns.<domain>. Default: the address of
	// Listen if that is not a wildcard, else none.
	Advertise []netip.Addr

	// TTL of positive answers. Default 5s. Resolvers keep a dead provider for
	// this long; some (dnsmasq) do not cache below one second at all, and none
	// counts in less.
	TTL time.Duration

	// NegativeTTL is for how long resolvers may remember that a name or type
	// does not exist (RFC 2308): the TTL and the minimum of the SOA. Default
	// 5s. With a long one a service that starts late stays invisible.
	NegativeTTL time.Duration

	// StaleTTL is the TTL of answers while the registry is out of touch
	// (View.Live is false): they are the last good ones. Default 1s, at most
	// TTL, so that clients come back soon after the registry did.
	StaleTTL time.Duration

	// MaxStale is the age from which the last good answer is replaced by
	// SERVFAIL. Default 0: never, as an old address is better than none.
	MaxStale time.Duration

	// Ready tells whether the directory has been filled since the start. While
	// it returns false a name that is not known is answered with SERVFAIL
	// instead of NXDOMAIN. It must not block. Default: always ready.
	Ready func() bool

	// UDPSize is the largest answer over UDP and what the server tells clients
	// in EDNS. Default 1232, which passes every IPv6 path unfragmented; 512 to
	// 4096.
	UDPSize int

	// KeepPartial leaves as many addresses as fit in an answer that is marked
	// as truncated. By default the record set is left out whole, since the
	// client must come again over TCP anyway. Some never do, musl before 1.2.4
	// for one: for them part of the addresses is better than none.
	KeepPartial bool

	// UDPWorkers is how many UDP queries are worked on at one time; more wait
	// in the buffer of the socket, where the kernel drops what is too much.
	// Default: one per processor.
	UDPWorkers int

	// TCPConns and TCPConnsPerClient bound the connections, in all and per
	// address (loopback excepted). What is above is closed at once. Defaults
	// 256 and 32.
	TCPConns, TCPConnsPerClient int

	// TCPIdle is how long a connection may take for its next query, and how
	// long a client may take to read an answer. Default 10s.
	TCPIdle time.Duration

	// RateLimit is how many UDP answers per second go to one network of
	// clients (/24, /56), which may be the victim of a forged source address.
	// Of the answers above it every second one is sent truncated and empty, so
	// that real clients use TCP, and the others are dropped. Loopback is free.
	// Default 1000; negative: no limit.
	RateLimit int

	// Logger gets start and stop, and names that two services contend for.
	// Queries are logged at debug level. Default: discard.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	num := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:8600"
	}
	if c.Domain == "" {
		c.Domain = "paddock."
	}
	def(&c.TTL, 5*time.Second)
	def(&c.NegativeTTL, 5*time.Second)
	def(&c.StaleTTL, time.Second)
	def(&c.TCPIdle, 10*time.Second)
	num(&c.UDPSize, 1232)
	num(&c.TCPConns, 256)
	num(&c.TCPConnsPerClient, 32)
	num(&c.RateLimit, 1000)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every setting that cannot work.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Directory == nil {
		bad("dns directory: missing")
	}
	if _, err := netip.ParseAddrPort(c.Listen); err != nil {
		bad("dns listen %q: want ADDRESS:PORT with an IP address", c.Listen)
	}
	for _, d := range append([]string{c.Domain}, c.AltDomains...) {
		if err := checkDomain(d); err != nil {
			errs = append(errs, err)
		}
	}
	for _, p := range c.Reverse {
		if step := 4 + 4*b2i(p.Addr().Is4()); !p.IsValid() || p.Bits()%step != 0 || p.Masked() != p {
			bad("dns reverse %v: want a network with a length in whole octets (IPv4) or nibbles (IPv6)", p)
		}
	}
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"ttl", c.TTL}, {"negative ttl", c.NegativeTTL}, {"stale ttl", c.StaleTTL}} {
		// RFC 8767 caps a TTL at 7 days. A TTL of 0 is refused by some caches
		// and asked for by none of our answers.
		if t.d < time.Second || t.d > 7*24*time.Hour {
			bad("dns %s %v: want 1s to 168h", t.name, t.d)
		}
	}
	if c.UDPSize < dns.MinMsgSize || c.UDPSize > dns.DefaultMsgSize {
		bad("dns udp size %d: want %d to %d", c.UDPSize, dns.MinMsgSize, dns.DefaultMsgSize)
	}
	if c.MaxStale < 0 || c.TCPIdle < 0 || c.UDPWorkers < 0 || c.TCPConns < 0 || c.TCPConnsPerClient < 0 {
		bad("dns max stale %v, tcp idle %v, udp workers %d, tcp connections %d, per client %d: negative",
			c.MaxStale, c.TCPIdle, c.UDPWorkers, c.TCPConns, c.TCPConnsPerClient)
	}
	return errors.Join(errs...)
}

// maxDomain leaves 226 octets and the words "service" and "_dubbo._tcp" for a
// Java interface, and keeps every SOA within the smallest UDP message.
const maxDomain = 64

func checkDomain(d string) error {
	wire, err := packName(d)
	switch {
	case err != nil:
		return fmt.Errorf("dns domain %q: %w", d, err)
	case len(wire) == 1:
		return fmt.Errorf("dns domain %q: the root cannot be served", d)
	case len(wire) > maxDomain:
		return fmt.Errorf("dns domain %q: longer than %d octets", d, maxDomain)
	case strings.HasSuffix(dns.CanonicalName("."+d), ".local."):
		return fmt.Errorf("dns domain %q: .local belongs to multicast DNS", d)
	}
	return nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// seconds is d as a TTL.
func seconds(d time.Duration) uint32 { return uint32((d + time.Second - 1) / time.Second) }
