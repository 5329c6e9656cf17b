package bootstrap

import (
	"errors"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
)

func TestLargestMetaFits(t *testing.T) {
	h := Host{
		Node: id("a"), Name: strings.Repeat("n", maxName), Role: RoleVoter, State: Member, Expect: MaxExpect, ID: 254,
		Cluster: ClusterID{1}, Hash: Hash{1}, Version: -1,
		Addr:       zab.MemberAddr{Host: strings.Repeat("h", maxHost), QuorumPort: 65535, ElectionPort: 1},
		ClientAddr: strings.Repeat("c", maxHost) + ":65535",
	}
	b := appendMeta(nil, h)
	if len(b) > maxMeta {
		t.Errorf("%d bytes, limit %d", len(b), maxMeta)
	}
	if got, err := decodeMeta(b); err != nil || got != h {
		t.Errorf("decoded %+v, %v, want %+v", got, err, h)
	}
}

func TestBadMetaIsRefused(t *testing.T) {
	good := appendMeta(nil, voter("a"))
	for name, b := range map[string][]byte{
		"empty":        nil,
		"cut off":      good[:len(good)-1],
		"too long":     append(good[:len(good):len(good)], 0),
		"oversize":     make([]byte, maxMeta+1),
		"no node":      appendMeta(nil, with(voter("a"), func(h *Host) { h.Node = NodeID{} })),
		"role 0":       appendMeta(nil, with(voter("a"), func(h *Host) { h.Role = 0 })),
		"role 9":       appendMeta(nil, with(voter("a"), func(h *Host) { h.Role = 9 })),
		"state 0":      appendMeta(nil, with(voter("a"), func(h *Host) { h.State = 0 })),
		"expect 255":   appendMeta(nil, with(voter("a"), func(h *Host) { h.Expect = 255 })),
		"no list":      appendMeta(nil, with(voter("a"), func(h *Host) { h.State = Acknowledged })),
		"no cluster":   appendMeta(nil, with(voter("a"), func(h *Host) { h.State, h.ID = Member, 1 })),
		"no name":      appendMeta(nil, with(voter("a"), func(h *Host) { h.Name = "" })),
		"control":      appendMeta(nil, with(voter("a"), func(h *Host) { h.Name = "a\x1b[2J" })),
		"not UTF-8":    appendMeta(nil, with(voter("a"), func(h *Host) { h.Name = "\xff" })),
		"line in host": appendMeta(nil, with(voter("a"), func(h *Host) { h.Addr.Host = "a\nserver.9=x" })),
		"semicolon":    appendMeta(nil, with(voter("a"), func(h *Host) { h.Addr.Host = "a;b" })),
		"port 0":       appendMeta(nil, with(voter("a"), func(h *Host) { h.Addr.QuorumPort = 0 })),
		"same ports":   appendMeta(nil, with(voter("a"), func(h *Host) { h.Addr.ElectionPort = 2888 })),
		"client port":  appendMeta(nil, with(voter("a"), func(h *Host) { h.ClientAddr = "a:0" })),
		"client text":  appendMeta(nil, with(voter("a"), func(h *Host) { h.ClientAddr = "a:+1" })),
		"client role":  appendMeta(nil, with(voter("a"), func(h *Host) { h.Role = RoleClient })),
	} {
		if h, err := decodeMeta(b); err == nil {
			t.Errorf("%s: decoded %+v", name, h)
		}
	}
	good[0] = 2
	if _, err := decodeMeta(good); !errors.Is(err, errMetaVersion) {
		t.Errorf("another version: %v", err)
	}
}

// FuzzMeta holds that what is accepted is what appendMeta makes, and that a
// server's line can be made of it.
func FuzzMeta(f *testing.F) {
	f.Add(appendMeta(nil, voter("a")))
	f.Add(appendMeta(nil, with(voter("host-1.example"), func(h *Host) { h.State, h.Hash, h.ID = Acknowledged, Hash{1}, 3 })))
	f.Add(appendMeta(nil, with(voter("::1"), func(h *Host) { h.State, h.Cluster, h.ID, h.ClientAddr = Member, ClusterID{1}, 254, "[::]:2181" })))
	f.Add(appendMeta(nil, Host{Node: id("c"), Name: "c", Role: RoleClient, State: Seeking}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeMeta(b)
		if err != nil {
			return
		}
		if again := appendMeta(nil, h); string(again) != string(b) {
			t.Fatalf("%x was read as %+v and written as %x", b, h, again)
		}
		if strings.ContainsAny(h.Addr.Host+h.ClientAddr, ";|=,\n\r \t") {
			t.Fatalf("address %q %q breaks a server's line", h.Addr.Host, h.ClientAddr)
		}
	})
}
