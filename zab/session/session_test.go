package session

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/paddockio/paddock/zab"
)

func TestPasswordIsThatOfApache(t *testing.T) {
	const id = 0x0100000e2ae70000
	p := Password(id)
	if got, want := hex.EncodeToString(p[:]), "cbe08951fc4964a921b47c9ea5a0fcc6"; got != want {
		t.Errorf("Password(%#x) = %s, want %s", id, got, want)
	}
	if !CheckPassword(id, p[:]) {
		t.Error("CheckPassword refuses the password")
	}
	zero := Password(0)
	for name, ok := range map[string]bool{
		"of another session": CheckPassword(id+1, p[:]),
		"too short":          CheckPassword(id, p[:15]),
		"null":               CheckPassword(id, nil),
		"of session 0":       CheckPassword(0, zero[:]),
	} {
		if ok {
			t.Errorf("CheckPassword accepts a password %s", name)
		}
	}
}

func TestIDsCarryServerAndClock(t *testing.T) {
	g := NewIDs(1, 0x123456789abcdef)
	const want = zab.SessionID(0x01_6789abcdef_0000) // server, 40 bits of clock, counter
	if got := g.Next(); got != want || uint64(got)>>56 != 1 || got&0xffff != 0 {
		t.Errorf("first id %v, want %v", got, want)
	}
	if got := g.Next(); got != want+1 {
		t.Errorf("second id %v, want %v", got, want+1)
	}
	if got := NewIDs(128, 0).Next(); uint64(got) != 1<<63+1 {
		t.Errorf("id %v: must not be the mark of a container", got)
	}
}

func TestSessionsExpireBetweenTheirTimeoutAndATickMore(t *testing.T) {
	for _, tc := range []struct{ now, timeout, expires int64 }{
		{0, 4000, 6000}, // rounded up from an exact multiple as well
		{1, 4000, 6000},
		{1999, 4000, 6000},
		{2000, 4000, 8000},
		{500, 3700, 6000},
	} {
		tr := NewTracker(2000)
		tr.Add(7, int32(tc.timeout), tc.now)
		if got, ok := tr.NextExpiry(); got != tc.expires || !ok {
			t.Errorf("%+v: NextExpiry = %d, %v", tc, got, ok)
		}
		if got := tr.Expire(tc.expires-1, nil); got != nil {
			t.Errorf("%+v: expired at %d", tc, tc.expires-1)
		}
		if got := tr.Expire(tc.expires, nil); !slices.Equal(got, []zab.SessionID{7}) {
			t.Errorf("%+v: at %d expired %v", tc, tc.expires, got)
		}
	}
}

func TestClosingSessionsNeitherLiveNorExpire(t *testing.T) {
	tr := NewTracker(10)
	tr.Add(1, 100, 0)
	tr.Add(2, 100, 0)
	if !tr.Close(1) || tr.Close(1) || tr.Close(9) {
		t.Error("Close must be true once, for a session")
	}
	if tr.Touch(1, 50) || tr.Touch(9, 50) || !tr.Touch(2, 50) {
		t.Error("Touch of a closing or unknown session is false, of another true")
	}
	tr.Add(1, 100, 60) // does not bring it back
	if !tr.Closing(1) || tr.Alive(1) || tr.Closing(2) || !tr.Alive(2) || tr.Closing(9) || tr.Alive(9) {
		t.Error("Closing or Alive is wrong")
	}
	if got := tr.Expire(1000, nil); !slices.Equal(got, []zab.SessionID{2}) {
		t.Errorf("expired %v, want 2 only", got)
	}
	if got := tr.Expire(2000, nil); got != nil || !tr.Closing(2) {
		t.Errorf("expired again: %v", got)
	}
	tr.Remove(1)
	tr.Remove(2)
	tr.Remove(2)
	if got := tr.Expire(3000, nil); got != nil || tr.Len() != 0 || len(tr.buckets) != 0 {
		t.Errorf("%v expired, %d sessions, %d buckets left", got, tr.Len(), len(tr.buckets))
	}
	if _, ok := tr.NextExpiry(); ok {
		t.Error("NextExpiry of no sessions")
	}
}

func TestLazyTouchMovesOnWhatWasHeardOf(t *testing.T) {
	tr := NewTracker(10)
	heard := map[zab.SessionID]int64{2: 95}
	for id := range zab.SessionID(4) {
		tr.Add(id, 100, 0)
	}
	asked := 0
	hear := func(id zab.SessionID) int64 { asked++; return heard[id] }
	if got := tr.Expire(109, hear); got != nil || asked != 0 {
		t.Errorf("before the deadline: expired %v, asked %d times", got, asked)
	}
	if got := tr.Expire(110, hear); !slices.Equal(got, []zab.SessionID{0, 1, 3}) || asked != 4 {
		t.Errorf("expired %v, asked %d times", got, asked)
	}
	if got := tr.Expire(199, hear); got != nil {
		t.Errorf("expired %v", got)
	}
	if got := tr.Expire(200, hear); !slices.Equal(got, []zab.SessionID{2}) {
		t.Errorf("expired %v, want 2: heard of at 95", got)
	}
}

// Every session expires between T and T + tick after it was last heard of, if
// Expire is called each tick, whether it is touched at once or lazily.
func TestExpiryAgainstAModel(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		const tick = 10
		tr := NewTracker(tick)
		type sess struct{ timeout, heard int64 }
		model := map[zab.SessionID]*sess{}
		lazy := map[zab.SessionID]int64{}
		for now := int64(1); now < 3000; now++ {
			id := zab.SessionID(rng.IntN(30))
			switch m := model[id]; rng.IntN(4) {
			case 0:
				if m == nil {
					m = &sess{timeout: 20 + rng.Int64N(200)}
					model[id] = m
					m.heard = now
					tr.Add(id, int32(m.timeout), now)
				}
			case 1:
				if m != nil {
					m.heard = now
					tr.Touch(id, now)
				}
			case 2:
				if m != nil {
					m.heard = now
					lazy[id] = now
				}
			}
			if now%tick != 0 {
				continue
			}
			for _, id := range tr.Expire(now, func(id zab.SessionID) int64 { return lazy[id] }) {
				if m := model[id]; now < m.heard+m.timeout || now > m.heard+m.timeout+tick {
					t.Fatalf("seed %d: %v, heard of at %d, timeout %d, expired at %d", seed, id, m.heard, m.timeout, now)
				}
				tr.Remove(id)
				delete(model, id)
				delete(lazy, id)
			}
			for id, m := range model {
				if now > m.heard+m.timeout+tick {
					t.Fatalf("seed %d: %v, heard of at %d, timeout %d, lives at %d", seed, id, m.heard, m.timeout, now)
				}
			}
		}
	}
}

func BenchmarkExpire(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n, " sessions heard of"), func(b *testing.B) {
			b.ReportAllocs()
			tr := NewTracker(2000)
			for id := range zab.SessionID(n) {
				tr.Add(id, 30000, 0)
			}
			now := int64(0)
			for b.Loop() {
				now += 32000
				tr.Expire(now, func(zab.SessionID) int64 { return now - 1 })
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/session")
		})
	}
}
