package bootstrap

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/paddockio/paddock/internal/durable"
	"github.com/paddockio/paddock/zab"
)

// Config says who this host is and whom it looks for.
type Config struct {
	// Cluster names the ensemble, at most 63 bytes. Gossip of other names is
	// dropped, so that several ensembles can share hosts and ports. Required.
	Cluster string
	// Listen is the IP address and port for gossip, UDP and TCP. Default
	// 0.0.0.0:7946.
	Listen string
	// Advertise is the name or address at which the others reach this host, for
	// gossip and for its server. A name survives a change of the address.
	// Default: the address that packets to the join list leave from.
	Advertise string
	// Join are hosts, with :port if it is not 7946, to begin with; a name may have
	// several addresses. They are tried for ever. It should be the same on all
	// hosts and name all voters; this host may be among them. The voters at these
	// addresses are in the first ensemble for sure: without them it is not formed,
	// and that is what keeps the two halves of a network from forming one each.
	Join []string
	// Expect is how many voters the first ensemble has, equal on all of them, 3 or
	// 5 as a rule. Once it is formed this means nothing. 0, the default: this host
	// only joins an ensemble that is there.
	Expect int
	// KeyFile has the gossip key, 16, 24 or 32 bytes as base64; of several lines
	// the first encrypts and all decrypt. Default none: then everybody who can
	// send packets to these hosts takes part, until the first ensemble is formed.
	KeyFile string
	// QuorumPort and ElectionPort are where the other servers reach the one of
	// this host. Default 2888 and 3888.
	QuorumPort, ElectionPort int

	// Name is that of the agent, unique among the hosts: ids are given in the
	// order of names. Required.
	Name string
	// Role defaults to RoleAuto.
	Role Role
	// ID is the id of the server if it shall have a certain one; 0: one is given.
	ID zab.ServerID
	// ClientAddr is the host:port for ZooKeeper clients, "" for none.
	ClientAddr string
	// DataDir is that of the server, where FileName is kept too; LogDir, default
	// DataDir, is where it keeps its logs. A RoleClient needs DataDir as well.
	DataDir, LogDir string
	// MustExist refuses a DataDir that is not there: its disk may not be mounted.
	MustExist bool
	// Ensemble, if not nil, is a list that is configured: with ID it is where this
	// host belongs, and gossip is for show.
	Ensemble *zab.Ensemble
	// Registrar puts this host on the list of an ensemble that runs. Without one
	// it can be a member of the first ensemble only.
	Registrar Registrar

	// Pace is how often to look for hosts at first. Default 1s; failure detection
	// and gossip are derived from it.
	Pace time.Duration
	// Logger defaults to none.
	Logger *slog.Logger
}

// ErrChanged says that the list of servers is not the one that was read, or is
// being changed.
var ErrChanged = errors.New("the list of servers was changed meanwhile")

// A Registrar reads and changes the list of servers of an ensemble that runs, as
// a client of it. Its methods are not called at the same time.
type Registrar interface {
	// Read returns the list in force, as it is committed, from one of the servers
	// at addrs.
	Read(ctx context.Context, addrs []string) (*zab.Ensemble, error)
	// Add puts an observer on the list if version is still in force, and returns
	// the list with it. The error is ErrChanged if it is not.
	Add(ctx context.Context, addrs []string, m zab.Member, version int64) (*zab.Ensemble, error)
}

const defaultPort = 7946

// Validate reports every setting that cannot work. Each error begins with the
// name of the setting.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(validName(c.Cluster) == nil, "Cluster wants a name of 1 to %d bytes without blanks, got %q", maxName, c.Cluster)
	check(validName(c.Name) == nil, "Name wants a name of 1 to %d bytes without blanks, got %q", maxName, c.Name)
	if c.Listen != "" {
		_, err := netip.ParseAddrPort(c.Listen)
		check(err == nil, "Listen wants an IP address and port such as 0.0.0.0:%d, got %q", defaultPort, c.Listen)
	}
	if c.Advertise != "" {
		ip, err := netip.ParseAddr(c.Advertise)
		check(validHost(c.Advertise) == nil && (err != nil || !ip.IsUnspecified()), "Advertise wants a name or an address that others can reach, got %q", c.Advertise)
	}
	check(len(c.Join) <= maxJoin, "Join has %d hosts, %d are possible", len(c.Join), maxJoin)
	for i, j := range c.Join {
		_, _, err := splitJoin(j)
		check(err == nil, "Join[%d] wants host or host:port, got %q", i, j)
	}
	check(0 <= c.Expect && c.Expect <= MaxExpect, "Expect wants a number from 0 to %d, got %d", MaxExpect, c.Expect)
	check(0 <= c.ID && c.ID <= maxID, "ID wants a number from 0 to %d, got %d", maxID, c.ID)
	for _, p := range []struct {
		name string
		port int
	}{{"QuorumPort", c.QuorumPort}, {"ElectionPort", c.ElectionPort}} {
		check(0 <= p.port && p.port <= 65535, "%s wants a number from 1 to 65535, got %d", p.name, p.port)
	}
	c.setDefaults()
	check(c.QuorumPort != c.ElectionPort, "ElectionPort %d is that of the quorum too", c.ElectionPort)
	if c.Role != RoleClient && c.ClientAddr != "" {
		err := validAddr(zab.MemberAddr{Host: "h", QuorumPort: 1, ElectionPort: 2}, c.ClientAddr)
		check(err == nil, "ClientAddr: %v", err)
	}
	check(c.DataDir != "", "DataDir is required")
	check(c.Ensemble == nil || c.Role == RoleClient || c.ID != 0, "Ensemble needs an ID")
	check(c.Pace > 0, "Pace %v is negative", c.Pace)
	return errors.Join(errs...)
}

const maxJoin = 64

func (c *Config) setDefaults() {
	if c.Listen == "" {
		c.Listen = "0.0.0.0:" + strconv.Itoa(defaultPort)
	}
	if c.QuorumPort == 0 {
		c.QuorumPort = 2888
	}
	if c.ElectionPort == 0 {
		c.ElectionPort = 3888
	}
	if c.Role == 0 {
		c.Role = RoleAuto
	}
	if c.LogDir == "" {
		c.LogDir = c.DataDir
	}
	if c.Pace == 0 {
		c.Pace = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// splitJoin reads an element of the join list.
func splitJoin(s string) (host string, port uint16, err error) {
	host, text := s, strconv.Itoa(defaultPort)
	if _, err := netip.ParseAddr(s); err != nil && strings.Contains(s, ":") {
		if host, text, err = net.SplitHostPort(s); err != nil {
			return "", 0, err
		}
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err == nil && n == 0 {
		err = errors.New("port 0")
	}
	return host, uint16(n), errors.Join(err, validHost(host))
}

// maxKeyFile is room for a few keys with line ends.
const maxKeyFile = 4096

// readKeys reads the gossip keys; no file is none.
func readKeys(path string) ([][]byte, error) {
	if path == "" {
		return nil, nil
	}
	text, err := durable.ReadFile(path, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	for line := range strings.FieldsSeq(string(text)) {
		key, err := base64.StdEncoding.DecodeString(line)
		if n := len(key); err != nil || n != 16 && n != 24 && n != 32 {
			// The text is not shown: it may be most of a key.
			return nil, fmt.Errorf("gossip key %d in %s: wants 16, 24 or 32 bytes as base64", len(keys)+1, path)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: no gossip key in it", path)
	}
	return keys, nil
}

// prepare makes sure that the data directory can be used.
func (c *Config) prepare() error {
	if !c.MustExist {
		return nil
	}
	if _, err := os.Stat(c.DataDir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}
