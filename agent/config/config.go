// Package config turns a YAML file, the environment, flags and ZooKeeper's own
// zoo.cfg into one typed [Config].
//
// Every setting exists once, as a field of this package or of the package that
// it is for; the file key, the environment variable and the flag follow from
// the field's name: TickTime of the server is
// zab.tick_time in the file, PADDOCK_ZAB_TICK_TIME in the environment and
// -zab.tick_time on the command line. A flag wins over the environment, that
// over the file, that over a zoo.cfg the file names, that over the default.
//
// Reading is strict. Unknown keys, values of the wrong type and values that
// cannot work are all reported at once, as [Errors] with file, line and key.
// The result is a value: nothing reads settings later, nothing changes them.
//
// deploy/agent.yaml lists every key with its default.
package config

import (
	"log/slog"
	"time"

	"github.com/paddockio/paddock/agent/admin"
	"github.com/paddockio/paddock/agent/bootstrap"
	"github.com/paddockio/paddock/agent/services"
	"github.com/paddockio/paddock/configsync"
	"github.com/paddockio/paddock/registry"
	"github.com/paddockio/paddock/registry/nameserver"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// A Config holds every setting of an agent. Lists and maps in it are shared by
// its copies and must not be modified.
type Config struct {
	// Name tells agents apart in logs and in the API. Default: the host name.
	Name string
	// DataDir holds everything the agent keeps. Only one agent can use it at a
	// time. Default /var/lib/paddock; "" with Dev: a temporary one.
	DataDir string

	Zab        Zab
	Bootstrap  Bootstrap
	Registry   Registry
	DNS        nameserver.Config
	ConfigSync []configsync.Target
	Admin      admin.Config
	Log        Log

	// Dev is set by -dev, not by a key: one voter, a temporary data directory,
	// the sample services and config.
	Dev bool
	// File is the configuration file that was read, "" if none was.
	File string
	// Text is what is in it, for show: without secrets.
	Text string
	// Warnings are about settings that are read but have no effect.
	Warnings []string

	from map[string]position // setting → where its value stands
}

// A Role says what part an agent takes in its ensemble.
type Role string

// The roles.
const (
	// RoleAuto is decided at the start: voter if the list of servers has this
	// one or is empty, otherwise observer.
	RoleAuto Role = "auto"
	// RoleVoter leads or follows; an ensemble of one voter is standalone.
	RoleVoter Role = "voter"
	// RoleObserver has a full replica and no vote.
	RoleObserver Role = "observer"
	// RoleClient has no replica: Zab.Connect says which ensemble is used.
	RoleClient Role = "client"
)

// Zab is about the ZooKeeper server in the agent, or the one elsewhere that it
// uses.
type Zab struct {
	// Role defaults to auto. zoo.cfg: peerType, which knows participant and observer.
	Role Role
	// Servers are lines as in zoo.cfg: "server.1=10.0.0.1:2888:3888;2181", and
	// group.N and weight.N. Empty, the default: this server is alone.
	Servers []string
	// ZooCfg names a zoo.cfg whose settings stand in for the defaults here.
	ZooCfg string
	// Client is for role client only, but for the session timeout.
	Client client.Config
	// Server has, other than its package, no id by default: the file myid of the
	// data directory says it, and a server alone needs none.
	Server server.Config
}

// Bootstrap is about finding the other hosts.
type Bootstrap struct {
	// An empty Cluster switches gossip off.
	bootstrap.Config
	// AuthFile has, in its first line, scheme:auth of a user that may change the
	// list of servers, as ReadAuth reads it: a host that comes later puts itself on
	// the list. Default none.
	AuthFile string
}

// Registry is about the services of this host and the picture of all services.
type Registry struct {
	// An empty Root switches the registry off.
	registry.Config
	// Services says where the service files are; no directory is none.
	Services services.Config
}

// Log is about the agent's log, which goes to standard error.
type Log struct {
	// Level is debug, info, warn or error. Default info.
	Level slog.Level
	// Format is text or json. Default text.
	Format string
}

// Default returns the settings of an agent whose file is empty, but for Name,
// whose default is the host name. An address to listen on that is empty here is
// not the default of its package but off.
func Default() Config {
	return Config{
		DataDir: "/var/lib/paddock",
		Zab: Zab{
			Role:   RoleAuto,
			Client: client.Config{SessionTimeout: 10 * time.Second},
			Server: server.Config{
				Listen: "0.0.0.0:2181", TickTime: 2 * time.Second, InitLimit: 10, SyncLimit: 5,
				HistoryCount: 10_000, HistoryBytes: 32 << 20,
				MaxClientCnxns: 60, MaxBuffer: wire.MaxBuffer, HandshakeTimeout: 10 * time.Second,
				MaxInFlight: 1000, MaxOutstandingBytes: 256 << 20, MaxReplyBytes: 16 << 20, StallTimeout: 30 * time.Second,
				MaxWatches: 100_000, FourLetterWords: []string{"srvr"},
				LoopbackWords: []string{"ruok", "srvr", "stat", "mntr", "conf", "isro"},
				SnapRetain:    3, PurgeInterval: time.Hour, ContainerInterval: time.Minute, MaxContainersPerMinute: 10_000,
				Storage: storage.Config{
					PreallocBytes: 64 << 20, SnapCount: 100_000, SnapSizeBytes: 4 << 30, SlowSync: time.Second, MarkInterval: time.Second,
				},
				Znode: znode.Config{ExtendedTypes: true, Digest: true},
			},
		},
		Bootstrap: Bootstrap{Config: bootstrap.Config{Listen: "0.0.0.0:7946", QuorumPort: 2888, ElectionPort: 3888}},
		Registry: Registry{
			Config: registry.Config{
				Root: "/dubbo", Settle: 10 * time.Millisecond, Resync: time.Minute, OpTimeout: 10 * time.Second, SaveEvery: 5 * time.Second,
			},
			Services: services.Config{Dir: "/etc/paddock/services.d"},
		},
		DNS: nameserver.Config{
			Listen: "127.0.0.1:8600", Domain: "paddock.", TTL: 5 * time.Second, NegativeTTL: 5 * time.Second, StaleTTL: time.Second,
			UDPSize: 1232, TCPConns: 256, TCPConnsPerClient: 32, TCPIdle: 10 * time.Second, RateLimit: 1000,
		},
		Admin: admin.Config{Listen: "127.0.0.1:8080", CommandURL: "/commands"},
		Log:   Log{Level: slog.LevelInfo, Format: "text"},
	}
}

// dev changes the defaults to those of -dev.
func (c *Config) dev() {
	c.Dev = true
	c.DataDir = ""
	c.Zab.Role = RoleVoter
	c.Zab.Server.Listen = "127.0.0.1:2181"
	c.Registry.Services.Dir = ""
	c.Registry.Advertise = "127.0.0.1"
	c.Log.Level = slog.LevelWarn // what -dev prints is to be seen
}
