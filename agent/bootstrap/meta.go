package bootstrap

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/paddockio/paddock/zab"
)

// maxMeta is what the gossip library carries for each host.
const maxMeta = 512

// metaVersion is the first byte. A host that speaks another version is not seen.
const metaVersion = 1

// errMetaVersion says that another host runs another version of this package.
var errMetaVersion = errors.New("gossip of another version")

// appendMeta appends the encoding of a valid h: numbers are big endian, texts
// have their length in one byte in front.
//
//	version 1 | node 16 | role 1 | state 1 | expect 1 | id 1 | cluster 16 | hash 32 | list version 8 |
//	quorum port 2 | election port 2 | name | host | client address
func appendMeta(b []byte, h Host) []byte {
	b = append(b, metaVersion)
	b = append(b, h.Node[:]...)
	b = append(b, byte(h.Role), byte(h.State), byte(h.Expect), byte(h.ID))
	b = append(b, h.Cluster[:]...)
	b = append(b, h.Hash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Version))
	b = binary.BigEndian.AppendUint16(b, uint16(h.Addr.QuorumPort))
	b = binary.BigEndian.AppendUint16(b, uint16(h.Addr.ElectionPort))
	for _, s := range []string{h.Name, h.Addr.Host, h.ClientAddr} {
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	return b
}

// decodeMeta reads what appendMeta made. It accepts nothing else, and keeps
// nothing of b.
func decodeMeta(b []byte) (Host, error) {
	if len(b) > maxMeta {
		return Host{}, fmt.Errorf("%d bytes, limit %d", len(b), maxMeta)
	}
	if len(b) > 0 && b[0] != metaVersion {
		return Host{}, fmt.Errorf("%w: %d", errMetaVersion, b[0])
	}
	const fixed = 1 + 16 + 4 + 16 + 32 + 8 + 2 + 2
	if len(b) < fixed {
		return Host{}, fmt.Errorf("%d bytes are too few", len(b))
	}
	var h Host
	b = b[1+copy(h.Node[:], b[1:]):]
	h.Role, h.State, h.Expect, h.ID = Role(b[0]), State(b[1]), int(b[2]), zab.ServerID(b[3])
	b = b[4:]
	b = b[copy(h.Cluster[:], b):]
	b = b[copy(h.Hash[:], b):]
	h.Version = int64(binary.BigEndian.Uint64(b))
	h.Addr.QuorumPort = int(binary.BigEndian.Uint16(b[8:]))
	h.Addr.ElectionPort = int(binary.BigEndian.Uint16(b[10:]))
	b = b[12:]
	for _, s := range []*string{&h.Name, &h.Addr.Host, &h.ClientAddr} {
		if len(b) == 0 {
			return Host{}, errors.New("a text is missing")
		}
		n := int(b[0])
		if len(b)-1 < n {
			return Host{}, errors.New("a text is cut off")
		}
		*s, b = string(b[1:1+n]), b[1+n:]
	}
	if len(b) > 0 {
		return Host{}, fmt.Errorf("%d bytes too many", len(b))
	}
	if err := h.valid(); err != nil {
		return Host{}, err
	}
	return h, nil
}
