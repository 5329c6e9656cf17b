//go:build interop

package ensemble

import (
	"slices"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/interop/peer"
)

// TestRollingMove moves an ensemble of Apache's servers to ours, one by one and
// under load, and back. Sessions stay, with their ephemerals, and no acknowledged
// write is lost.
func TestRollingMove(t *testing.T) {
	t.Parallel()
	for _, theirs := range []string{peer.KindApache, peer.KindDebian} {
		t.Run(theirs, func(t *testing.T) {
			e := peer.NewEnsemble(t, []peer.Spec{{Kind: theirs}, {Kind: theirs}, {Kind: theirs}})
			e.Start(t)
			all := peer.Servers(e.Members...)
			l := startLoad(t, plan{pace: 10 * time.Millisecond, writers: []string{all, all, all, all}})
			for _, kind := range []string{ours(t), theirs} {
				left := slices.Clone(e.Members)
				for len(left) > 0 {
					l.awaitProgress(e)
					m := left[0]
					if len(left) > 1 && m == e.AwaitLeader(t) {
						m = left[1] // the leader last: one election less
					}
					left = slices.DeleteFunc(left, func(o *peer.Member) bool { return o == m })
					m.Term(t)
					m.Swap(t, kind)
					e.AwaitLeader(t)
					l.awaitProgress(e)
					m.Launch(t)
					leader := e.AwaitLeader(t)
					t.Logf("%5.1fs %v has come back, %v leads", time.Since(l.began).Seconds(), m, leader)
				}
			}
			l.awaitProgress(e)
			l.stop()
			writeSome(t, e, 300)
			l.check(e.States(t))
		})
	}
}
