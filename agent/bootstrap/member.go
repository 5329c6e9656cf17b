package bootstrap

import (
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"

	"github.com/paddockio/paddock/zab"
)

// A NodeID is one data directory of one host: random, made with the directory
// and gone with it. A host whose disk was wiped comes back with another one.
type NodeID [16]byte

// String prints the id in hexadecimal.
func (n NodeID) String() string { return hex.EncodeToString(n[:]) }

// MarshalText and UnmarshalText use the form of String.
func (n NodeID) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads what String printed.
func (n *NodeID) UnmarshalText(text []byte) error { return unhex(n[:], text) }

// A ClusterID is one ensemble: the begin of the hash of the list that it was
// formed with. The zero ClusterID is none.
type ClusterID [16]byte

// String prints the id in hexadecimal.
func (c ClusterID) String() string { return hex.EncodeToString(c[:]) }

// MarshalText uses the form of String.
func (c ClusterID) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what String printed.
func (c *ClusterID) UnmarshalText(text []byte) error { return unhex(c[:], text) }

// A Hash is that of a list of servers.
type Hash [32]byte

// String prints the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText uses the form of String.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what String printed.
func (h *Hash) UnmarshalText(text []byte) error { return unhex(h[:], text) }

func unhex(to, text []byte) error {
	if hex.DecodedLen(len(text)) != len(to) {
		return fmt.Errorf("wants %d hexadecimal digits, got %d", hex.EncodedLen(len(to)), len(text))
	}
	_, err := hex.Decode(to, text)
	return err
}

// A Role is what a host wants to be.
type Role uint8

// The roles.
const (
	// RoleAuto votes if it is among the first hosts, and observes otherwise.
	RoleAuto Role = 1 + iota
	// RoleVoter is RoleAuto with a warning if there is no vote for it.
	RoleVoter
	// RoleObserver never votes.
	RoleObserver
	// RoleClient has no server.
	RoleClient
)

var roleNames = [...]string{RoleAuto: "auto", RoleVoter: "voter", RoleObserver: "observer", RoleClient: "client"}

// String returns the word that the configuration has for it, "" for none.
func (r Role) String() string {
	if int(r) >= len(roleNames) {
		return fmt.Sprintf("role %d", uint8(r))
	}
	return roleNames[r]
}

// A State is how far a host has come.
type State uint8

// The states. A host leaves Acknowledged and Holding only for Joining or Member,
// and Member never.
const (
	// Seeking: nothing is stored, nothing is found.
	Seeking State = 1 + iota
	// Proposing: this host would acknowledge the list of Hash if all on it would.
	// Nothing is promised.
	Proposing
	// Acknowledged: the list of Hash is stored, and this host acknowledges no
	// other one.
	Acknowledged
	// Holding: there is data, but it is not known of which ensemble.
	Holding
	// Joining: the ensemble of Cluster is known, a place on its list is not.
	Joining
	// Member: this host belongs to the ensemble of Cluster. Hash is that of the
	// list it has now.
	Member
)

var stateNames = [...]string{
	Seeking: "seeking", Proposing: "proposing", Acknowledged: "acknowledged", Holding: "holding", Joining: "joining", Member: "member",
}

// String returns the name in lower case, "" for none.
func (s State) String() string {
	if int(s) >= len(stateNames) {
		return fmt.Sprintf("state %d", uint8(s))
	}
	return stateNames[s]
}

// A Host is what a host tells all others about itself.
type Host struct {
	Node  NodeID
	Name  string // of the agent
	Role  Role
	State State

	// Expect is how many hosts the first ensemble has; 0: this host takes no part
	// in forming one.
	Expect int
	// ID is that of its server. Before it is a Member it is the one that it was
	// configured with, 0 if it takes any.
	ID zab.ServerID

	// Cluster is zero before the ensemble is known.
	Cluster ClusterID
	// Hash and Version are those of the list that State is about.
	Hash    Hash
	Version int64

	// Addr is where the other servers reach this one; its Host is also where
	// clients do. All of it is empty for a RoleClient.
	Addr zab.MemberAddr
	// ClientAddr is the host:port for clients as the server's line has it, where
	// the host may be 0.0.0.0; "" if it serves none.
	ClientAddr string
}

// ClientDial returns where to connect to as a client, "" if nobody can.
func (h Host) ClientDial() string {
	host, port, err := net.SplitHostPort(h.ClientAddr)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = h.Addr.Host
	}
	return net.JoinHostPort(host, port)
}

// candidate reports whether the host may get a place in the first ensemble.
func (h Host) candidate() bool {
	return (h.Role == RoleAuto || h.Role == RoleVoter) && h.Expect > 0 &&
		(h.State == Seeking || h.State == Proposing || h.State == Acknowledged)
}

// Bounds of what a host may say; together they keep it within the 512 bytes that
// gossip carries.
const (
	maxName   = 63
	maxHost   = 160
	maxClient = maxHost + 6
	maxID     = 255
	// MaxExpect bounds Config.Expect.
	MaxExpect = 31
)

// valid reports the first reason why nobody could use h.
func (h Host) valid() error {
	switch {
	case h.Node == NodeID{}:
		return fmt.Errorf("no node id")
	case h.Role < RoleAuto || h.Role > RoleClient:
		return fmt.Errorf("unknown role %d", h.Role)
	case h.State < Seeking || h.State > Member:
		return fmt.Errorf("unknown state %d", h.State)
	case h.Expect < 0 || h.Expect > MaxExpect:
		return fmt.Errorf("expects %d hosts, %d are possible", h.Expect, MaxExpect)
	case h.ID < 0 || h.ID > maxID:
		return fmt.Errorf("server id %d is not within 0 to %d", h.ID, maxID)
	case h.State == Member && (h.Cluster == ClusterID{} || h.Role != RoleClient && h.ID == 0):
		return fmt.Errorf("member without a cluster or an id")
	case (h.State == Proposing || h.State == Acknowledged) && h.Hash == Hash{}:
		return fmt.Errorf("%v without a list", h.State)
	}
	if err := validName(h.Name); err != nil {
		return err
	}
	if h.Role == RoleClient {
		if h.Addr != (zab.MemberAddr{}) || h.ClientAddr != "" {
			return fmt.Errorf("role client with the address of a server")
		}
		return nil
	}
	return validAddr(h.Addr, h.ClientAddr)
}

func validName(name string) error {
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool {
		return r == unicode.ReplacementChar || !unicode.IsGraphic(r) || unicode.IsSpace(r)
	}) {
		return fmt.Errorf("wants a name of at most %d bytes without blanks, got %q", maxName, name)
	}
	return nil
}

func validAddr(a zab.MemberAddr, client string) error {
	if err := validHost(a.Host); err != nil {
		return err
	}
	for _, port := range []int{a.QuorumPort, a.ElectionPort} {
		if port < 1 || port > 65535 {
			return fmt.Errorf("port %d of %s is not within 1 to 65535", port, a.Host)
		}
	}
	if a.QuorumPort == a.ElectionPort {
		return fmt.Errorf("quorum and election port of %s are both %d", a.Host, a.QuorumPort)
	}
	if client == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(client)
	if err != nil || net.JoinHostPort(host, port) != client {
		return fmt.Errorf("wants host:port for clients, got %q", client)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("wants host:port for clients, got %q", client)
	}
	return validHost(host)
}

// validHost accepts what can stand in a server's line: a name or an address
// without brackets and without a zone.
func validHost(host string) error {
	if host == "" || len(host) > maxHost {
		return fmt.Errorf("wants a host of 1 to %d bytes, got %d bytes", maxHost, len(host))
	}
	if strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return fmt.Errorf("%q is no host", host)
	}
	for _, r := range host {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '.', r == '_', r == ':':
		default:
			return fmt.Errorf("%q is no host", host)
		}
	}
	return nil
}
