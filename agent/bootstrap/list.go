package bootstrap

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab"
)

// A List is who forms the first ensemble. Equal lists have equal hashes, others
// do not: node ids are in it, so the hash is also one of a kind.
type List struct {
	Cluster string // the name that all of them are configured with
	Seats   []Seat // sorted by ID
}

// A Seat is the place of one host in a List.
type Seat struct {
	Node       NodeID
	Name       string
	ID         zab.ServerID
	Addr       zab.MemberAddr
	ClientAddr string
}

// newList gives every host its seat. Hosts with an id of their own keep it; the
// others get the lowest free ones in the order of their names.
func newList(cluster string, hosts []Host) (*List, error) {
	hosts = slices.SortedFunc(slices.Values(hosts), func(a, b Host) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Node[:], b.Node[:]))
	})
	taken := map[zab.ServerID]bool{}
	for _, h := range hosts {
		if h.ID != 0 {
			taken[h.ID] = true
		}
	}
	l := &List{Cluster: cluster}
	free := zab.ServerID(1)
	for _, h := range hosts {
		id := h.ID
		if id == 0 {
			for taken[free] {
				free++
			}
			id, taken[free] = free, true
		}
		l.Seats = append(l.Seats, Seat{h.Node, h.Name, id, h.Addr, h.ClientAddr})
	}
	slices.SortFunc(l.Seats, func(a, b Seat) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Name, b.Name)) })
	return l, l.valid()
}

// valid reports why the list cannot be one of an ensemble.
func (l *List) valid() error {
	if len(l.Seats) == 0 || len(l.Seats) > MaxExpect {
		return fmt.Errorf("a list of %d hosts, 1 to %d are possible", len(l.Seats), MaxExpect)
	}
	nodes, names, addrs := map[NodeID]bool{}, map[string]bool{}, map[string]string{}
	for i, s := range l.Seats {
		if s.ID < 1 || s.ID > maxID {
			return fmt.Errorf("%s has the server id %d", s.Name, s.ID)
		}
		if i > 0 && l.Seats[i-1].ID == s.ID {
			return fmt.Errorf("%s and %s both want the server id %d", l.Seats[i-1].Name, s.Name, s.ID)
		}
		if i > 0 && l.Seats[i-1].ID > s.ID {
			return errors.New("the list is not sorted")
		}
		if nodes[s.Node] || s.Node == (NodeID{}) {
			return fmt.Errorf("two hosts have the node id %v: a data directory was copied", s.Node)
		}
		if names[s.Name] {
			return fmt.Errorf("two hosts are called %s: is one of them gone, or was its disk wiped?", s.Name)
		}
		nodes[s.Node], names[s.Name] = true, true
		if err := errors.Join(validName(s.Name), validAddr(s.Addr, s.ClientAddr)); err != nil {
			return err
		}
		for _, port := range []int{s.Addr.QuorumPort, s.Addr.ElectionPort} {
			at := net.JoinHostPort(s.Addr.Host, strconv.Itoa(port))
			if other, twice := addrs[at]; twice {
				return fmt.Errorf("%s and %s both have the address %s", other, s.Name, at)
			}
			addrs[at] = s.Name
		}
	}
	return nil
}

// Hash returns the same for equal lists only.
func (l *List) Hash() Hash {
	text := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	b := text(nil, "paddock first ensemble 1")
	b = text(b, l.Cluster)
	for _, s := range l.Seats {
		b = append(b, s.Node[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(s.ID))
		b = binary.BigEndian.AppendUint32(b, uint32(s.Addr.QuorumPort))
		b = binary.BigEndian.AppendUint32(b, uint32(s.Addr.ElectionPort))
		for _, t := range []string{s.Name, s.Addr.Host, s.ClientAddr} {
			b = text(b, t)
		}
	}
	return sha256.Sum256(b)
}

// ClusterID returns the id of the ensemble that is formed with this list.
func (l *List) ClusterID() ClusterID {
	h := l.Hash()
	return ClusterID(h[:16])
}

// Ensemble returns the list as the servers take it.
func (l *List) Ensemble() *zab.Ensemble {
	e := &zab.Ensemble{}
	for _, s := range l.Seats {
		e.Members = append(e.Members, zab.Member{ID: s.ID, Addrs: []zab.MemberAddr{s.Addr}, ClientAddr: s.ClientAddr})
	}
	return e
}

// seat returns the place of a node.
func (l *List) seat(n NodeID) (Seat, bool) {
	i := slices.IndexFunc(l.Seats, func(s Seat) bool { return s.Node == n })
	if i < 0 {
		return Seat{}, false
	}
	return l.Seats[i], true
}

// ensembleHash tells lists of running ensembles apart.
func ensembleHash(e *zab.Ensemble) Hash {
	return sha256.Sum256([]byte(strings.Join(slices.Sorted(slices.Values(e.Lines())), "\n")))
}
