package checker

import (
	"slices"
	"strconv"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// Bank is a set of znodes that hold numbers whose sum never changes once all of
// them are there (rule S25).
type Bank struct {
	Accounts []string
	Total    int64
}

// ledger follows a bank through the log.
type ledger struct {
	Bank
	balance map[string]int64
	sum     int64
	begun   bool
}

func newLedger(b Bank) *ledger { return &ledger{Bank: b, balance: map[string]int64{}} }

func (l *ledger) follow(r *run, t *znode.Tree, z zab.Zxid, events []znode.Event, names []*Entry) {
	changed := false
	for i := range events {
		path := events[i].Path
		if events[i].Type == wire.EventNodeChildrenChanged || !slices.Contains(l.Accounts, path) {
			continue
		}
		changed = true
		l.sum -= l.balance[path]
		delete(l.balance, path)
		data, _, code := t.Get(path, super)
		if code != wire.OK {
			continue
		}
		n, err := strconv.ParseInt(string(data), 10, 64)
		if err != nil {
			r.fail("S25", z, names, "account %s holds %q after %v", path, short(data), z)
		}
		l.balance[path] = n
		l.sum += n
	}
	l.begun = l.begun || len(l.balance) == len(l.Accounts)
	if changed && l.begun && (l.sum != l.Total || len(l.balance) != len(l.Accounts)) {
		r.fail("S25", z, names, "%d accounts hold %d after %v, must be %d with %d", len(l.balance), l.sum, z, len(l.Accounts), l.Total)
	}
}
