package znode

// The stored ephemeralOwner of a znode says what ends its life (class
// EphemeralType).
const (
	ownerPersistent int64  = 0
	ownerContainer  int64  = -1 << 63
	ownerTTL        uint64 = 0xff << 56
	// MaxTTLMs is the longest TTL of a znode in ms: about 35 years.
	MaxTTLMs = 1<<40 - 1
)

type kind uint8

const (
	kindPersistent kind = iota
	kindEphemeral
	kindContainer
	kindTTL
)

// ownerKind reads a stored owner. Without extended types the TTL marker is a
// session id like any other.
func ownerKind(owner int64, extended bool) kind {
	switch {
	case owner == ownerPersistent:
		return kindPersistent
	case owner == ownerContainer:
		return kindContainer
	case extended && uint64(owner)>>56 == 0xff:
		return kindTTL
	}
	return kindEphemeral
}

func ttlOwner(ttlMs int64) int64 { return int64(ownerTTL | uint64(ttlMs)&MaxTTLMs) }

// ttlOf returns the TTL in a marker, 0 if it is of a feature that we do not
// know: such a znode never ends.
func ttlOf(owner int64) int64 {
	if uint64(owner)>>40&0xffff != 0 {
		return 0
	}
	return owner & MaxTTLMs
}
