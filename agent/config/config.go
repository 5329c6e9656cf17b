// Package config turns a YAML file, the environment, flags and ZooKeeper's own
// zoo.cfg into one typed [Config].
//
// Every setting exists once, as a field of this package or of the package that
// it is for; the file key, the environment variable and the flag follow from
// the field's name: Zab.TickTime is
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

	"github.com/paddockio/paddock/configsync"
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
	DNS        DNS
	ConfigSync []configsync.Target
	Admin      Admin
	Log        Log

	// Dev is set by -dev, not by a key: one voter, a temporary data directory,
	// the sample services and config.
	Dev bool
	// File is the configuration file that was read, "" if none was.
	File string
	// Warnings are about settings that are read but have no effect.
	Warnings []string
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

// Zab is about the ZooKeeper server in the agent. Each field names its key of
// zoo.cfg; durations are in milliseconds there.
type Zab struct {
	// Role defaults to auto. zoo.cfg: peerType, which knows participant and observer.
	Role Role
	// ID is this server's id in the list of servers, 1 to 254. 0, the default:
	// the file myid of the data directory, or 1 for a server alone.
	ID int
	// DataDir holds the directory version-2 with snapshots and, unless LogDir
	// says otherwise, transaction logs. Default: zab under the agent's DataDir.
	// zoo.cfg: dataDir.
	DataDir string
	// LogDir is for transaction logs; a disk of its own makes writes faster.
	// Default: DataDir. zoo.cfg: dataLogDir.
	LogDir string
	// Connect is the connect string of an ensemble elsewhere, with an optional
	// chroot: "h1:2181,h2:2181/apps". Role client needs it, others refuse it.
	Connect string
	// SessionTimeout is that of the agent's own session: how long the services
	// of this host stay registered after the agent or the host died. Default 10s.
	SessionTimeout time.Duration
	// ClientListen is the address for ZooKeeper clients. "": none; port 0: any.
	// Default 0.0.0.0:2181. zoo.cfg: clientPort, clientPortAddress.
	ClientListen string
	// MaxClientConnections is the limit per client address; 0 is no limit.
	// Default 60. zoo.cfg: maxClientCnxns.
	MaxClientConnections int
	// MaxConnections is the limit over all clients; 0, the default, is none.
	// zoo.cfg: maxCnxns.
	MaxConnections int
	// OutstandingLimit is how many requests may wait in the server before it
	// stops reading from clients that already wait for an answer. Default 1000.
	// zoo.cfg: globalOutstandingLimit.
	OutstandingLimit int
	// TickTime is the unit of InitLimit and SyncLimit and the granularity of
	// session expiry. Default 2s (Apache's server: 3s). zoo.cfg: tickTime.
	TickTime time.Duration
	// InitLimit is how many ticks a follower may take to connect and copy the
	// leader's history. Default 10. zoo.cfg: initLimit.
	InitLimit int
	// SyncLimit is how many ticks a follower may be silent. Default 5. zoo.cfg: syncLimit.
	SyncLimit int
	// MinSessionTimeout and MaxSessionTimeout bound what clients ask for. 0, the
	// default: 2 and 20 ticks. zoo.cfg: minSessionTimeout, maxSessionTimeout.
	MinSessionTimeout time.Duration
	MaxSessionTimeout time.Duration
	// JuteMaxBuffer bounds one request and one znode's data; must be equal on
	// all servers and clients. Default 1048575. Java property: jute.maxbuffer.
	JuteMaxBuffer int64
	// Servers are lines as in zoo.cfg: "server.1=10.0.0.1:2888:3888;2181", and
	// group.N and weight.N. Empty, the default: this server is alone.
	Servers []string
	// ZooCfg names a zoo.cfg whose settings stand in for the defaults here.
	ZooCfg string
	// StandaloneEnabled lets a list with one voter run without quorum ports.
	// Default true. zoo.cfg: standaloneEnabled.
	StandaloneEnabled bool
	// ReconfigEnabled permits changes of the list at run time. Default false.
	// zoo.cfg: reconfigEnabled.
	ReconfigEnabled bool
	// QuorumListenOnAllIPs binds 2888 and 3888 on every address instead of that
	// in the list. Default false. zoo.cfg: quorumListenOnAllIPs.
	QuorumListenOnAllIPs bool
	// SyncEnabled makes observers keep a log and snapshots. Default true.
	// zoo.cfg: syncEnabled.
	SyncEnabled bool
	// SnapCount is how many transactions come between two snapshots. Default
	// 100000. zoo.cfg: snapCount.
	SnapCount int
	// SnapSizeLimit takes a snapshot as well after so many bytes of log.
	// Default 4GiB. zoo.cfg: snapSizeLimitInKb.
	SnapSizeLimit int64
	// PreAllocSize is the step in which log files grow on disk. Default 64MiB.
	// zoo.cfg: preAllocSize, in KiB.
	PreAllocSize int64
	// SnapshotCompression is none, gz or snappy. Default none.
	// zoo.cfg: snapshot.compression.method, where none is called checked.
	SnapshotCompression string
	// ForceSync false acknowledges writes before they are on disk: a power cut
	// then loses acknowledged writes. Default true. zoo.cfg: forceSync.
	ForceSync bool
	// FsyncWarning is the time of a sync that is logged. Default 1s.
	// zoo.cfg: fsync.warningthresholdms.
	FsyncWarning time.Duration
	// TrustEmptySnapshot starts on a log without any snapshot, which may be an
	// upgrade from 3.4 or a lost file. Default false. zoo.cfg: snapshot.trust.empty.
	TrustEmptySnapshot bool
	// AutoCreateDB lets a server with an empty directory start with an empty
	// tree. Default true. zoo.cfg: db.autocreate.
	AutoCreateDB bool
	// AutopurgeRetain is how many snapshots a purge leaves, with the logs they
	// need; at least 3. Default 3. zoo.cfg: autopurge.snapRetainCount.
	AutopurgeRetain int
	// AutopurgeInterval is the time between purges, 0 never. Default 1h; a
	// zoo.cfg without autopurge.purgeInterval (hours) means never, as with Apache.
	AutopurgeInterval time.Duration
	// FourLetterWords are the words that every client may ask, * for all; from
	// the loopback address the cheap ones always work. Default [srvr].
	// zoo.cfg: 4lw.commands.whitelist.
	FourLetterWords []string
	// SuperDigest is "super:<base64 sha1>": who has that password passes every
	// ACL. Default "": nobody. zoo.cfg: DigestAuthenticationProvider.superDigest.
	SuperDigest string
	// SkipACL lets everybody do everything. Default false. zoo.cfg: skipACL.
	SkipACL bool
	// EnforceQuota refuses writes over a hard quota. Default false. zoo.cfg: enforceQuota.
	EnforceQuota bool
	// ExtendedTypes permits TTL znodes, which costs the server ids 255 and up.
	// Default true; Apache's and so every zoo.cfg's default is false.
	// zoo.cfg: extendedTypesEnabled.
	ExtendedTypes bool
	// DigestEnabled keeps a digest of the tree, to find servers that differ.
	// Default true. zoo.cfg: digest.enabled.
	DigestEnabled bool
	// ContainerCheckInterval is the time between removals of empty containers
	// and of old TTL znodes. Default 1m. Java property:
	// znode.container.checkIntervalMs.
	ContainerCheckInterval time.Duration
}

// Bootstrap is about the gossip by which agents find each other before the
// ensemble is known.
type Bootstrap struct {
	// Cluster must be equal on all agents of an ensemble; others are ignored.
	Cluster string
	// Listen is the gossip address, UDP and TCP. Default 0.0.0.0:7946.
	Listen string
	// Join are addresses of some agents. Empty, the default: no gossip at all.
	Join []string
	// Expect is the number of voters of the first ensemble; odd. Default 0: no
	// ensemble is formed, Zab.Servers lists it or the server is alone.
	Expect int
}

// Registry is about the services of this host and the picture of all services.
type Registry struct {
	// Root is the znode under which services stand; "" switches the registry
	// off. Default /dubbo.
	Root string
	// ServicesDir is the directory of service files, watched for changes; "" is
	// none. Default /etc/paddock/services.d.
	ServicesDir string
	// Advertise is the address of this host as others reach it. Default "": the
	// one of the interface with the default route.
	Advertise string
	// Settle is how long changes of the tree are collected before the view is
	// read again. Default 10ms.
	Settle time.Duration
	// Resync is how often own registrations are compared with the tree although
	// nothing happened. Default 1m.
	Resync time.Duration
}

// DNS is about the name server.
type DNS struct {
	// Listen is the IP address and port, UDP and TCP; "" switches it off.
	// Default 127.0.0.1:8600.
	Listen string
	// Domain is the zone. Default "paddock.".
	Domain string
	// AltDomains are more zones with the same names, for a move from one domain
	// to another. Default none.
	AltDomains []string
	// Reverse are networks whose reverse zones are delegated to this server,
	// such as 10.0.0.0/8. Default none.
	Reverse []string
	// Advertise are the IP addresses of this name server in its own zone.
	// Default: that of Listen.
	Advertise []string
	// TTL is how long resolvers may keep an answer, NegativeTTL the same for
	// names that do not exist, StaleTTL for answers without a quorum. 1s to
	// 168h. Defaults 5s, 5s and 1s.
	TTL         time.Duration
	NegativeTTL time.Duration
	StaleTTL    time.Duration
	// MaxStale is the age at which the last good answer becomes SERVFAIL.
	// Default 0s: never.
	MaxStale time.Duration
	// UDPSize is the largest answer over UDP, 512 to 4096. Default 1232.
	UDPSize int
	// KeepPartial leaves as many addresses as fit in a truncated answer, for
	// resolvers that do not come again over TCP. Default false.
	KeepPartial bool
	// RateLimit is how many UDP answers a second one network of clients gets;
	// negative is no limit. Default 1000.
	RateLimit int
}

// Admin is about the HTTP API.
type Admin struct {
	// Listen is the address; "" switches it off; if it is taken, the agent runs
	// without. Default 127.0.0.1:8080. zoo.cfg: admin.serverAddress,
	// admin.serverPort, admin.enableServer.
	Listen string
	// CommandURL is the path of Apache's commands. Default /commands.
	// zoo.cfg: admin.commandURL.
	CommandURL string
	// Pprof serves Go profiles under /debug/pprof. Default false.
	Pprof bool
}

// Log is about the agent's log, which goes to standard error.
type Log struct {
	// Level is debug, info, warn or error. Default info.
	Level slog.Level
	// Format is text or json. Default text.
	Format string
}

// Default returns the settings of an agent whose file is empty, but for Name,
// whose default is the host name.
func Default() Config {
	return Config{
		DataDir: "/var/lib/paddock",
		Zab: Zab{
			Role: RoleAuto, SessionTimeout: 10 * time.Second,
			ClientListen: "0.0.0.0:2181", MaxClientConnections: 60, OutstandingLimit: 1000,
			TickTime: 2 * time.Second, InitLimit: 10, SyncLimit: 5,
			JuteMaxBuffer: 0xfffff, StandaloneEnabled: true, SyncEnabled: true,
			SnapCount: 100_000, SnapSizeLimit: 4 << 30, PreAllocSize: 64 << 20,
			SnapshotCompression: "none", ForceSync: true, FsyncWarning: time.Second, AutoCreateDB: true,
			AutopurgeRetain: 3, AutopurgeInterval: time.Hour, FourLetterWords: []string{"srvr"},
			ExtendedTypes: true, DigestEnabled: true, ContainerCheckInterval: time.Minute,
		},
		Bootstrap: Bootstrap{Listen: "0.0.0.0:7946"},
		Registry:  Registry{Root: "/dubbo", ServicesDir: "/etc/paddock/services.d", Settle: 10 * time.Millisecond, Resync: time.Minute},
		DNS: DNS{
			Listen: "127.0.0.1:8600", Domain: "paddock.", TTL: 5 * time.Second, NegativeTTL: 5 * time.Second,
			StaleTTL: time.Second, UDPSize: 1232, RateLimit: 1000,
		},
		Admin: Admin{Listen: "127.0.0.1:8080", CommandURL: "/commands"},
		Log:   Log{Level: slog.LevelInfo, Format: "text"},
	}
}

// dev changes the defaults to those of -dev.
func (c *Config) dev() {
	c.Dev = true
	c.DataDir = ""
	c.Zab.Role = RoleVoter
	c.Zab.ClientListen = "127.0.0.1:2181"
	c.Registry.ServicesDir = ""
	c.Registry.Advertise = "127.0.0.1"
}
