package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/internal/testport"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/transport"
)

// heardLog keeps the lines of a log.
type heardLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *heardLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *heardLog) lines(word string) int {
	return strings.Count(l.text(), word)
}

func (l *heardLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestAServerWithTheIDOfAnother: the one that was there follows on, and the leader
// says once in its log, and in its state, what is wrong.
func TestAServerWithTheIDOfAnother(t *testing.T) {
	logs := map[zab.ServerID]*heardLog{1: {}, 2: {}, 3: {}}
	e := newEnsemble(t, 3, 0, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(logs[c.ID], nil)) })
	e.start(1, 2)
	leader := e.leader()
	e.start(3)
	follower := e.servers[3] // whom others let dial, so that they listen to its twin
	e.leader()
	c := connect(t, leader.Server, nil)
	mustCreate(t, c, "/before", "x")
	links := func() []zab.LinkID {
		var ids []zab.LinkID
		ms, _ := leader.Membership()
		for _, l := range ms.Quorum.Links {
			if l.Peer != zab.NoServer && slices.ContainsFunc(ms.Learners, func(k zab.LearnerStatus) bool { return k.Link == l.ID && k.UpToDate }) {
				ids = append(ids, l.ID)
			}
		}
		slices.Sort(ids)
		return ids
	}
	before := links()

	twin := newEnsemble(t, 0, 0, nil)
	twin.list = &zab.Ensemble{Version: e.list.Version, Members: slices.Clone(e.list.Members)}
	for i := range twin.list.Members {
		if m := &twin.list.Members[i]; m.ID == follower.cfg.ID {
			m.Addrs = []zab.MemberAddr{{Host: "127.0.0.1", QuorumPort: testport.Port(t), ElectionPort: testport.Port(t)}}
		}
	}
	twin.start(follower.cfg.ID)
	count := func() (n uint64) {
		ms, _ := leader.Membership()
		for _, f := range ms.Quorum.Faults {
			if f.Kind == transport.ErrDuplicateID {
				n = f.Count
			}
		}
		return n
	}
	eventually(t, "the twin to be refused some times", func() bool { return count() >= 6 })
	began, first := time.Now(), count()
	eventually(t, "the twin to be refused again", func() bool { return count() >= first+3 })
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("refused three times more in %v: it does not wait", took)
	}
	if after := links(); !slices.Equal(before, after) || len(after) != 2 {
		t.Errorf("links of the leader %v, before %v", after, before)
	}
	if n := logs[leader.cfg.ID].lines("two servers use one id"); n == 0 || n > 2 { // of either port
		t.Errorf("the leader's log has %d lines", n)
	}
	if twin.servers[follower.cfg.ID].State().Serving {
		t.Error("the twin serves")
	}
	for i := range 10 {
		mustCreate(t, c, fmt.Sprintf("/after%d", i), "x")
	}
	e.same()
}
