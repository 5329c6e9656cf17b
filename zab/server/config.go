package server

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/transport"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// Config describes one server. Zero values mean the default.
type Config struct {
	// ID is the server's id, the high byte of the session ids that it gives.
	// Default 1.
	ID zab.ServerID

	// Listen is the client address, for example ":2181"; port 0 picks one. Empty:
	// no client port, only Dial reaches the server. zoo.cfg: clientPort,
	// clientPortAddress.
	Listen string

	// Ensemble is the list of servers that this one is in. Nil: it is alone. zoo.cfg:
	// server.N and the like, or the file of dynamicConfigFile.
	Ensemble *zab.Ensemble

	// InitLimit is how many ticks a learner may take to connect to the leader and to
	// copy its history without any progress, SyncLimit for how many ticks another
	// server may be silent. Too low, and a large snapshot never arrives, or a short
	// pause of a peer costs an election. Defaults 10 and 5. zoo.cfg: initLimit,
	// syncLimit.
	InitLimit, SyncLimit int

	// ReconfigEnabled allows that clients change the list of servers. zoo.cfg:
	// reconfigEnabled.
	ReconfigEnabled bool

	// StandaloneDisabled allows a reconfiguration to one voter. zoo.cfg:
	// standaloneEnabled=false.
	StandaloneDisabled bool

	// OnEnsemble, if not nil, is told of each configuration that comes into force, in
	// order: it is to be stored for the next start. An error ends the server.
	OnEnsemble func(*zab.Ensemble) error

	// QuorumListenOnAllIPs opens quorum and election port on all addresses of the
	// host, not only on those in the list. zoo.cfg: quorumListenOnAllIPs.
	QuorumListenOnAllIPs bool

	// HistoryCount and HistoryBytes bound the recent transactions that a server of an
	// ensemble keeps in memory for learners that were away; older ones are read from
	// the log. Defaults 10000 and 32 MiB. Java property zookeeper.commitLogCount.
	HistoryCount int
	HistoryBytes int64

	// ElectionGrace is how long connections of clients stay open, and new ones wait,
	// while the ensemble has no leader. Too low, and every election makes all clients
	// connect again at once; too high, and clients wait at a server that is cut off.
	// Default half a tick, and at least 500ms.
	ElectionGrace time.Duration

	// PeerNet makes the connections between servers. Default: TCP.
	PeerNet transport.Net

	// TickTime is the unit of session expiry: a session ends between its timeout
	// and one tick later. Default 2s. zoo.cfg: tickTime, in milliseconds.
	TickTime time.Duration

	// MinSessionTimeout and MaxSessionTimeout bound what clients ask for.
	// Defaults 2 and 20 ticks. zoo.cfg: minSessionTimeout, maxSessionTimeout.
	MinSessionTimeout, MaxSessionTimeout time.Duration

	// MaxClientCnxns is the number of connections from one address, -1 for no
	// limit. Default 60. zoo.cfg: maxClientCnxns (0 there is -1 here).
	MaxClientCnxns int

	// MaxCnxns is the number of connections in all. Default 0: no limit.
	MaxCnxns int

	// MaxBuffer is the largest request in bytes, up to 64 MiB; a transaction may
	// have twice as many. Default wire.MaxBuffer. Java property jute.maxbuffer.
	MaxBuffer int

	// HandshakeTimeout is how long a connection may take to send its connect
	// request. Default 10s. Java property zookeeper.nio.sessionlessCnxnTimeout.
	HandshakeTimeout time.Duration

	// MaxInFlight is how many requests of one connection may be under way; then
	// the server stops reading from it. Default 1000.
	MaxInFlight int

	// MaxOutstandingBytes is how many bytes of requests may be under way in all
	// before connections that already have one are not read. Default 256 MiB.
	MaxOutstandingBytes int64

	// MaxReplyBytes is how much may wait for a client that does not read, in bytes
	// beyond one reply; then its connection is closed. A read whose reply alone
	// would be longer is refused with -5, which spares the client a connection
	// that breaks each time. (Java clients take replies up to their own
	// jute.maxbuffer, 1 MiB by default; like Apache's server, this one does not
	// know it.) Default 16 MiB.
	MaxReplyBytes int

	// StallTimeout is how long one write to a client may make no progress before
	// the connection is closed. Default 30s.
	StallTimeout time.Duration

	// MaxWatches bounds the watches of one connection. Default 100000.
	MaxWatches int

	// FourLetterWords are the allowed four-letter words, "*" for all. Default
	// srvr. zoo.cfg: 4lw.commands.whitelist.
	FourLetterWords []string

	// LoopbackWords are allowed in addition from loopback addresses. Default
	// ruok, srvr, stat, mntr, conf, isro.
	LoopbackWords []string

	// EnsembleAuth adds the scheme ensemble, by which a client says which ensemble
	// it means. With another name than one of EnsembleNames its connection is closed,
	// so that it tries another server; no names is any name. zoo.cfg:
	// authProvider.N=…EnsembleAuthenticationProvider, ensembleAuthName.
	EnsembleAuth  bool
	EnsembleNames []string

	// SnapRetain is how many snapshots a purge leaves, PurgeInterval how often it
	// runs (0: after each snapshot; negative: never). Default 3. zoo.cfg:
	// autopurge.snapRetainCount, autopurge.purgeInterval.
	SnapRetain    int
	PurgeInterval time.Duration

	// ContainerInterval is how often containers and TTL znodes are looked at, and
	// MaxContainersPerMinute how many may go. Defaults 1m and 10000. Java
	// properties znode.container.checkIntervalMs, znode.container.maxPerMinute.
	ContainerInterval      time.Duration
	MaxContainersPerMinute int

	// Version is the first line of srvr. The words "3.9.5-" at its beginning tell
	// ZooKeeper's tools which commands to expect.
	Version string

	// InitialConfig is the text of the configuration file, which the AdminServer
	// shows.
	InitialConfig string

	// Storage and Znode configure the parts. Storage.Znode is set from Znode.
	Storage storage.Config
	Znode   znode.Config

	// Logger gets what happens. Default: nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	def := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
	}
	defInt := func(p *int, n int) {
		if *p == 0 {
			*p = n
		}
	}
	if c.ID == 0 && c.Ensemble == nil {
		c.ID = 1
	}
	def(&c.TickTime, 2*time.Second)
	def(&c.MinSessionTimeout, 2*c.TickTime)
	def(&c.MaxSessionTimeout, 20*c.TickTime)
	defInt(&c.InitLimit, 10)
	defInt(&c.SyncLimit, 5)
	defInt(&c.HistoryCount, 10_000)
	if c.HistoryBytes == 0 {
		c.HistoryBytes = 32 << 20
	}
	def(&c.ElectionGrace, max(minElectionGrace, c.TickTime/2))
	defInt(&c.MaxClientCnxns, 60)
	defInt(&c.MaxBuffer, wire.MaxBuffer)
	def(&c.HandshakeTimeout, 10*time.Second)
	defInt(&c.MaxInFlight, 1000)
	if c.MaxOutstandingBytes == 0 {
		c.MaxOutstandingBytes = 256 << 20
	}
	defInt(&c.MaxReplyBytes, 16<<20)
	def(&c.StallTimeout, 30*time.Second)
	defInt(&c.MaxWatches, 100_000)
	if c.FourLetterWords == nil {
		c.FourLetterWords = []string{"srvr"}
	}
	if c.LoopbackWords == nil {
		c.LoopbackWords = []string{"ruok", "srvr", "stat", "mntr", "conf", "isro"}
	}
	defInt(&c.SnapRetain, 3)
	def(&c.ContainerInterval, time.Minute)
	defInt(&c.MaxContainersPerMinute, 10_000)
	if c.Version == "" {
		c.Version = "3.9.5-paddock, built on 2026-01-01 00:00 UTC"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Znode.MaxTxnBytes == 0 {
		c.Znode.MaxTxnBytes = 2 * c.MaxBuffer // jute.maxbuffer and its extra size
	}
	c.Storage.Znode = c.Znode
	if c.Storage.Logger == nil {
		c.Storage.Logger = c.Logger
	}
	return c
}

// Validate reports every setting that cannot work.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	bad := func(when bool, format string, args ...any) {
		if when {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.InitLimit < 1, "init limit %d: must be at least one tick", c.InitLimit)
	bad(c.SyncLimit < 1, "sync limit %d: must be at least one tick", c.SyncLimit)
	bad(c.HistoryCount < 1 || c.HistoryBytes < 1, "history of %d transactions, %d bytes: must be at least 1", c.HistoryCount, c.HistoryBytes)
	bad(c.ElectionGrace < time.Millisecond, "election grace %v: must be at least 1ms", c.ElectionGrace)
	if c.Ensemble != nil {
		if err := c.Ensemble.Check(); err != nil {
			errs = append(errs, fmt.Errorf("list of servers: %w", err))
		}
	}
	bad(c.ID < 0 || c.ID > 255, "server id %d: must be 0 to 255", c.ID)
	bad(c.Znode.ExtendedTypes && c.ID == 255, "server id 255: not with extended ephemeral types, whose owner begins with 0xff")
	bad(c.TickTime < time.Millisecond, "tick time %v: must be at least 1ms", c.TickTime)
	bad(c.MinSessionTimeout > c.MaxSessionTimeout, "session timeouts: minimum %v is above maximum %v", c.MinSessionTimeout, c.MaxSessionTimeout)
	bad(c.MaxBuffer < 64 || c.MaxBuffer > 64<<20, "largest request of %d bytes: must be 64 to 64 MiB", c.MaxBuffer)
	for name, d := range map[string]time.Duration{"handshake": c.HandshakeTimeout, "stall": c.StallTimeout, "container check": c.ContainerInterval} {
		bad(d < time.Millisecond, "%s interval %v: must be at least 1ms", name, d)
	}
	bad(c.MinSessionTimeout < time.Millisecond, "smallest session timeout %v: must be at least 1ms", c.MinSessionTimeout)
	bad(c.MaxSessionTimeout > math.MaxInt32*time.Millisecond, "largest session timeout %v: must fit in 31 bits of milliseconds", c.MaxSessionTimeout)
	bad(c.MaxInFlight < 1, "requests of a connection under way %d: must be at least 1", c.MaxInFlight)
	bad(c.MaxOutstandingBytes < 1, "bytes of requests under way %d: must be at least 1", c.MaxOutstandingBytes)
	bad(c.MaxReplyBytes < 4<<10, "bytes of replies %d: must be at least 4096", c.MaxReplyBytes)
	bad(c.SnapRetain < 3, "snapshots to retain %d: must be at least 3", c.SnapRetain)
	for _, w := range append(append([]string(nil), c.FourLetterWords...), c.LoopbackWords...) {
		bad(w != "*" && fourLetterWord(w) == nil, "four-letter word %q is not known", w)
	}
	return errors.Join(errs...)
}
