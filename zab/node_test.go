package zab

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// describe prints the effects in Ready as one line.
func describe(rd *Ready) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v epoch=%d", rd.Role, rd.Epoch)
	if rd.StoreAccepted != 0 {
		fmt.Fprintf(&b, " accepted:=%d", rd.StoreAccepted)
	}
	if rd.StoreCurrent != 0 {
		fmt.Fprintf(&b, " current:=%d", rd.StoreCurrent)
	}
	for _, p := range rd.Append {
		fmt.Fprintf(&b, " append %v", p.Zxid)
	}
	for _, p := range rd.Committed {
		fmt.Fprintf(&b, " commit %v", p.Zxid)
	}
	return b.String()
}

type step struct {
	do   Message
	want string
}

func props(zxids ...Zxid) []Proposal {
	var ps []Proposal
	for _, z := range zxids {
		ps = append(ps, Proposal{Zxid: z})
	}
	return ps
}

func TestNodeScenarios(t *testing.T) {
	for _, tc := range []struct {
		name  string
		cfg   Config
		first string
		steps []step
	}{
		{"a standalone server leads at once, in the epoch of its history",
			Config{ID: 1, LastZxid: 0x300000007}, "LEADING epoch=3", []step{
				{Message{Type: MsgPropose, Proposals: props(0x300000008, 0x300000009)}, "LEADING epoch=3 append 0x300000008 append 0x300000009"},
				{Message{Type: MsgAppended, Zxid: 0x300000008}, "LEADING epoch=3 commit 0x300000008"},
				{Message{Type: MsgAppended, Zxid: 0x300000009}, "LEADING epoch=3 commit 0x300000009"},
			}},
		{"nothing is delivered before the log holds it",
			Config{ID: 1}, "LEADING epoch=0", []step{
				{Message{Type: MsgPropose, Proposals: props(1)}, "LEADING epoch=0 append 0x1"},
				{Message{Type: MsgPropose, Proposals: props(2, 3)}, "LEADING epoch=0 append 0x2 append 0x3"},
				{Message{Type: MsgAppended, Zxid: 1}, "LEADING epoch=0 commit 0x1"},
				{Message{Type: MsgAppended, Zxid: 3}, "LEADING epoch=0 commit 0x2 commit 0x3"},
			}},
		{"at the end of a counter the next epoch begins",
			Config{ID: 1, LastZxid: 0x1fffffffe}, "LEADING epoch=1", []step{
				{Message{Type: MsgPropose, Proposals: props(0x1ffffffff, 0x200000001)}, "LEADING epoch=1 append 0x1ffffffff append 0x200000001"},
				{Message{Type: MsgAppended, Zxid: 0x200000001}, "LEADING epoch=1 commit 0x1ffffffff commit 0x200000001"},
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n, err := NewNode(tc.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(n.Ready()); got != tc.first {
				t.Errorf("at first: %s, want %s", got, tc.first)
			}
			n.Advance()
			for i, s := range tc.steps {
				if err := n.Step(s.do); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				if got := describe(n.Ready()); got != s.want {
					t.Errorf("step %d: %s, want %s", i, got, s.want)
				}
				n.Advance()
				if rd := n.Ready(); !rd.Empty() {
					t.Errorf("step %d: left after Advance: %s", i, describe(rd))
				}
			}
		})
	}
}

func TestNodeRefusesWhatBreaksTheHistory(t *testing.T) {
	lead := func() *Node {
		n, err := NewNode(Config{ID: 1, LastZxid: 5})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	alone := Config{ID: 1, Ensemble: listOf(0, []ServerID{1}, nil), TickTime: 1000, InitLimit: 10, SyncLimit: 5}
	looking, err := NewNode(alone)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		n    *Node
		m    Message
		want error
	}{
		{"a gap in front", lead(), Message{Type: MsgPropose, Proposals: props(7)}, ErrZxidOrder},
		{"a gap inside", lead(), Message{Type: MsgPropose, Proposals: props(6, 8)}, ErrZxidOrder},
		{"durable beyond what was proposed", lead(), Message{Type: MsgAppended, Zxid: 6}, ErrZxidOrder},
		{"durable going back", lead(), Message{Type: MsgAppended, Zxid: 4}, ErrZxidOrder},
		{"a write while looking", looking, Message{Type: MsgPropose, Proposals: props(1)}, ErrNotLeading},
	} {
		if err := tc.n.Step(tc.m); !errors.Is(err, tc.want) {
			t.Errorf("%s: error %v, want %v", tc.name, err, tc.want)
		}
		if tc.n.LastZxid() > 5 {
			t.Errorf("%s: changed the node", tc.name)
		}
	}
	for _, change := range []func(*Config){
		func(c *Config) { c.Hard = HardState{Accepted: 1, Current: 2} },
		func(c *Config) { c.Hard, c.LastZxid = HardState{Accepted: 1, Current: 1}, 0x200000001 },
		func(c *Config) { c.Hard = HardState{Accepted: 1 << 31} },
		func(c *Config) { c.Lost, c.LastZxid = true, 5 },
		func(c *Config) { c.TickTime = 0 },
		func(c *Config) { c.InitLimit = 0 },
	} {
		cfg := alone
		change(&cfg)
		if _, err := NewNode(cfg); err == nil {
			t.Errorf("NewNode(%+v) accepted it", cfg)
		}
	}
}

func TestZxidFollows(t *testing.T) {
	for _, tc := range []struct {
		z, prev Zxid
		want    bool
	}{
		{1, 0, true}, {2, 1, true}, {3, 1, false}, {1, 1, false}, {0x100000001, 0x7, true},
		{0x100000002, 0x7, false}, {0x100000000, 0xffffffff, false}, {0x300000001, 0x100000009, true}, {0x100000001, 0x200000009, false},
	} {
		if got := tc.z.Follows(tc.prev); got != tc.want {
			t.Errorf("%v.Follows(%v) = %v, want %v", tc.z, tc.prev, got, tc.want)
		}
	}
}
