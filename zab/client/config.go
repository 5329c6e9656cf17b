package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/paddockio/paddock/zab/wire"
)

// Config says which servers to use and how. The zero value of every field but
// Servers is a good default.
type Config struct {
	// Servers is a connect string: "host1:2181,host2:2181/chroot". A port left
	// out is 2181; IPv6 addresses stand in brackets. All paths are below chroot,
	// which must exist. The servers are tried in random order, and names are
	// looked up again at each attempt. With Dial it may be empty or a chroot
	// alone.
	Servers string

	// Dial connects to one server of the list; nil is TCP. It must heed ctx, and
	// the connection must support deadlines: net.Pipe will do.
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	// SessionTimeout is asked for; the servers clamp it (to 2 … 20 ticks by
	// default). Lower finds dead clients sooner and takes slow ones for dead.
	// Default 10s.
	SessionTimeout time.Duration

	// ConnectTimeout bounds one attempt to connect to one server, name look-up
	// included. Default SessionTimeout / number of servers, at least 1s.
	ConnectTimeout time.Duration

	// MaxBackoff is the longest pause between two attempts. The first follows a
	// loss at once, then pauses double from 50ms, with jitter. Default 1s.
	MaxBackoff time.Duration

	// Session is a stored session to take up, or nil for a new one. A session
	// that is expired meanwhile is replaced as any other.
	Session *Session

	// ReadOnly accepts a server that has no quorum, which then answers reads
	// only. The client goes on looking for a full one.
	ReadOnly bool

	// ExitOnExpiry lets Run return wire.ErrSessionExpired, instead of making a
	// new session.
	ExitOnExpiry bool

	// Auth are the identities to begin with. If a server refuses one, Run
	// returns wire.ErrAuthFailed.
	Auth []Auth

	// MaxRequest is the largest request in bytes, the servers' jute.maxbuffer:
	// they close the connection on a larger one, so it is refused here. Default
	// wire.MaxBuffer.
	MaxRequest int

	// MaxReply is the largest reply in bytes. Servers do not limit the list of
	// children of a large znode. A larger reply fails its operation only.
	// Default 64 MiB.
	MaxReply int

	// MaxPending is how many operations may be under way; more wait. Default
	// 4096.
	MaxPending int

	// WatchQueue is how many events wait for the reader of a Watch before it is
	// told that there is a gap. Default 1024.
	WatchQueue int

	// Logger defaults to none.
	Logger *slog.Logger
}

// Auth is an identity: for the scheme "digest" Data is "user:password".
type Auth struct {
	Scheme string
	Data   []byte
}

// Validate reports every setting that cannot work.
func (cfg Config) Validate() error {
	var errs []error
	if _, _, err := parseServers(cfg.Servers, cfg.Dial != nil); err != nil {
		errs = append(errs, err)
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"SessionTimeout", int64(cfg.SessionTimeout)}, {"ConnectTimeout", int64(cfg.ConnectTimeout)},
		{"MaxBackoff", int64(cfg.MaxBackoff)}, {"MaxRequest", int64(cfg.MaxRequest)},
		{"MaxReply", int64(cfg.MaxReply)}, {"MaxPending", int64(cfg.MaxPending)}, {"WatchQueue", int64(cfg.WatchQueue)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("%s %d is negative", f.name, f.value))
		}
	}
	if cfg.SessionTimeout > (1<<31-1)*time.Millisecond {
		errs = append(errs, fmt.Errorf("SessionTimeout %v does not fit into 32 bits of milliseconds", cfg.SessionTimeout))
	}
	for _, a := range cfg.Auth {
		if a.Scheme == "" {
			errs = append(errs, errors.New("an Auth has no scheme"))
		}
	}
	return errors.Join(errs...)
}

func (cfg *Config) setDefaults(servers int) {
	set(&cfg.SessionTimeout, 10*time.Second)
	set(&cfg.ConnectTimeout, max(cfg.SessionTimeout/time.Duration(servers), time.Second))
	set(&cfg.MaxBackoff, time.Second)
	set(&cfg.MaxRequest, wire.MaxBuffer)
	set(&cfg.MaxReply, 64<<20)
	set(&cfg.MaxPending, 4096)
	set(&cfg.WatchQueue, 1024)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = dialTCP
	}
}

func set[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// parseServers splits a connect string. The chroot is "" for none and never
// ends in a slash.
func parseServers(s string, mayBeEmpty bool) (addrs []string, chroot string, err error) {
	list, chroot, _ := strings.Cut(s, "/")
	if chroot != "" {
		chroot = "/" + chroot
		if err := checkPath(chroot, false); err != nil {
			return nil, "", fmt.Errorf("chroot %q: %w", chroot, err)
		}
	}
	if strings.TrimSpace(list) == "" {
		if mayBeEmpty {
			return []string{""}, chroot, nil
		}
		return nil, "", errors.New("no servers given")
	}
	for item := range strings.SplitSeq(list, ",") {
		addr, err := parseServer(strings.TrimSpace(item))
		if err != nil {
			return nil, "", fmt.Errorf("server %q: %w", item, err)
		}
		addrs = append(addrs, addr)
	}
	return addrs, chroot, nil
}

func parseServer(s string) (string, error) {
	host, port := s, "2181"
	switch {
	case s == "":
		return "", errors.New("empty")
	case s[0] == '[' && s[len(s)-1] == ']':
		host = s[1 : len(s)-1]
	case s[0] != '[' && strings.Count(s, ":") > 1:
		return "", errors.New("an IPv6 address needs brackets: [::1]:2181")
	case strings.Contains(s, ":"):
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", errors.New("not host:port")
		}
	}
	if host == "" {
		return "", errors.New("no host")
	}
	if _, err := netip.ParseAddr(host); s[0] == '[' && err != nil {
		return "", errors.New("no IP address in the brackets")
	}
	if strings.ContainsAny(host, "[] \t\r\n") {
		return "", fmt.Errorf("bad host %q", host)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("bad port %q", port)
	}
	return net.JoinHostPort(host, port), nil
}
