package nameserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/paddockio/paddock/registry"
)

// A Server answers DNS queries. Make one with [New], then call [Server.Run].
type Server struct {
	cfg Config // with defaults
	dir registry.Directory
	log *slog.Logger

	zones                      []*zone // the first is Domain's, reverse zones included
	ttl, staleTTL, negativeTTL uint32

	services, apps *index
	cache          *cache
	reverses       reverseCache
	limit          *limiter
	count          counters

	conns connTable

	mu  sync.Mutex // guards what follows
	udp *net.UDPConn
	tcp *net.TCPListener
	// addr is copied out of the sockets, since answers about ns need it.
	addr netip.AddrPort
}

// New returns a server; it does not open anything yet.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if cfg.UDPWorkers == 0 {
		cfg.UDPWorkers = runtime.GOMAXPROCS(0)
	}
	s := &Server{
		cfg: cfg, dir: cfg.Directory, log: cfg.Logger,
		ttl:         seconds(cfg.TTL),
		staleTTL:    seconds(cfg.StaleTTL),
		negativeTTL: seconds(cfg.NegativeTTL),
		services:    newIndex(cfg.Logger),
		apps:        newIndex(cfg.Logger),
		cache:       newCache(),
		limit:       newLimiter(cfg.RateLimit),
		conns:       connTable{max: cfg.TCPConns, maxPerClient: cfg.TCPConnsPerClient},
	}
	for _, d := range append([]string{cfg.Domain}, cfg.AltDomains...) {
		wire, err := packName(d)
		if err != nil {
			return nil, fmt.Errorf("dns domain %q: %w", d, err)
		}
		s.zones = append(s.zones, newZone(wire))
	}
	for _, p := range cfg.Reverse {
		s.zones = append(s.zones, reverseZone(p))
	}
	return s, nil
}

// Domain returns the zone's name as in a zone file.
func (s *Server) Domain() string { return presentation(s.zones[0].wire) }

// portTries is how often a free TCP port is tried whose UDP twin is taken.
const portTries = 20

// udpBuffer holds some thousand queries while all workers are busy.
const udpBuffer = 4 << 20

// Listen opens the sockets. Run does so if it has not been done; to call it
// before tells the caller at once whether the address can be had, and which port
// was taken for port 0.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.udp != nil {
		return nil
	}
	want := netip.MustParseAddrPort(s.cfg.Listen) // validated
	family := ""                                  // "[::]" takes both
	if want.Addr().Is4() {
		family = "4" // "0.0.0.0" would take both, too
	}
	var err error
	for range portTries {
		var tcp *net.TCPListener
		if tcp, err = net.ListenTCP("tcp"+family, net.TCPAddrFromAddrPort(want)); err != nil {
			break
		}
		have := netip.AddrPortFrom(want.Addr(), tcp.Addr().(*net.TCPAddr).AddrPort().Port())
		var udp *net.UDPConn
		if udp, err = net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(have)); err == nil {
			udp.SetReadBuffer(udpBuffer) // as much of it as the system grants
			if err = prepareUDP(udp); err == nil {
				s.tcp, s.udp, s.addr = tcp, udp, have
				return nil
			}
			udp.Close()
		}
		tcp.Close()
		if want.Port() != 0 {
			break
		}
	}
	return fmt.Errorf("dns listen: %w", err)
}

// Addr returns the address that the server listens on; it is not valid before
// Listen.
func (s *Server) Addr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Run serves until ctx ends, which is a clean stop and returns nil, or until a
// socket breaks. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := context.AfterFunc(ctx, func() {
		s.udp.Close()
		s.tcp.Close()
		s.conns.closeAll()
	})
	defer stopped()

	s.log.Info("dns server started", "addr", s.Addr(), "domain", s.Domain())
	var wg sync.WaitGroup
	part := func(run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	for range s.cfg.UDPWorkers {
		part(s.serveUDP)
	}
	part(s.serveTCP)
	wg.Wait()
	s.log.Info("dns server stopped", "addr", s.Addr())
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("dns server: %w", err)
	}
	return nil
}

// maxReadErrors is how many reads in a row may fail before the socket is taken
// for broken. Single failures are reports about other people's packets.
const maxReadErrors = 100

// serveUDP is one of the workers on the socket. Whether one socket is enough is
// answered in DESIGN.md.
func (s *Server) serveUDP(ctx context.Context) error {
	w := s.newWorker()
	sock := newUDPSocket(s.udp)
	in := make([]byte, dns.DefaultMsgSize)
	out := make([]byte, 0, dns.DefaultMsgSize)
	start := time.Now()
	failed := 0
	for {
		n, client, err := sock.read(in)
		if err != nil {
			if failed++; ctx.Err() != nil {
				return nil
			}
			if failed == maxReadErrors || errors.Is(err, net.ErrClosed) {
				return err
			}
			continue
		}
		failed = 0
		tr := overUDP
		switch s.limit.check(client.Addr(), int64(time.Since(start))) {
		case drop:
			s.count.rateLimited.Add(1)
			continue
		case slip:
			s.count.rateLimited.Add(1)
			tr = overUDPSlip
		}
		out = w.reply(out[:0], in[:n], client, tr)
		if len(out) == 0 {
			continue
		}
		if err := sock.write(out, client); err != nil {
			s.count.writeErrors.Add(1)
		}
	}
}
