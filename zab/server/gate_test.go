package server

import (
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// A client of an Apache leader that has not written anything yet has seen the
// first zxid of the epoch, which no transaction has.
func TestTheBeginningOfAnEpochIsNotTheFuture(t *testing.T) {
	e := newEnsemble(t, 3, 0, nil)
	e.start(1, 2, 3)
	e.leader()
	for id, m := range e.servers {
		if z := m.State().LastZxid; z != zab.NewZxid(1, 0) {
			t.Errorf("server %d shows %v before the first transaction, want 0x100000000", id, z)
		}
	}
	for _, m := range e.servers {
		c := dialRaw(t, m.Server)
		c.send((&wire.ConnectRequest{LastZxidSeen: zab.NewZxid(1, 0), TimeoutMs: 10000}).Append(nil))
		var r wire.ConnectResponse
		if err := wire.Unmarshal(c.recv(), &r); err != nil || r.SessionID == 0 {
			t.Errorf("connect: %+v, %v", r, err)
		}
	}
}
