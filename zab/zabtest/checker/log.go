package checker

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// Committed finds out what an ensemble committed, from the transactions on the
// disk of each of its voters, each in the order of the file, after a run whose end
// was quiet. quorum is how many voters decide.
//
// The last committed transaction is the last that a quorum has. From there it goes
// back: before a transaction comes the one that stands before it in a log. A log
// may begin late or, where its server was given a snapshot, have a hole, so it is
// the latest of these; what a server logged and nobody else, it cut off before it
// logged anything later, or it is behind the end. It is an error if two logs have
// different bytes for one zxid, or if no log has what must come before.
func Committed(quorum int, logs ...[]*wire.Txn) ([]*wire.Txn, error) {
	type place struct {
		txn    *wire.Txn
		before zab.Zxid // the largest that a log has before it; 0 if there is none
		first  bool     // a log begins with it
		logs   int
	}
	places := map[zab.Zxid]*place{}
	var last zab.Zxid
	for _, log := range logs {
		before := zab.Zxid(0)
		for i, txn := range log {
			z := txn.Header.Zxid
			if z <= before {
				return nil, fmt.Errorf("a log has %v behind %v", z, before)
			}
			p := places[z]
			if p == nil {
				p = &place{txn: txn}
				places[z] = p
			} else if p.txn = sameTxn(p.txn, txn); p.txn == nil {
				return nil, fmt.Errorf("two logs have different transactions %v", z)
			}
			p.logs++
			if p.logs >= quorum {
				last = max(last, z)
			}
			if z.Follows(before) && i > 0 {
				p.before = max(p.before, before)
			} else if i == 0 {
				p.first = true
			}
			before = z
		}
	}
	if last == 0 {
		return nil, nil
	}
	var back []*wire.Txn
	for z := last; ; {
		p := places[z]
		if p == nil {
			return nil, fmt.Errorf("no log has %v", z)
		}
		back = append(back, p.txn)
		switch {
		case p.before != 0:
			z = p.before
		case p.first && z.Counter() == 1: // nothing was before, as far as anybody knows
			for i, j := 0, len(back)-1; i < j; i, j = i+1, j-1 {
				back[i], back[j] = back[j], back[i]
			}
			return back, nil
		case z.Counter() > 1:
			z--
		default:
			return nil, fmt.Errorf("no log has what was before %v", z)
		}
	}
}

// sameTxn returns one of two transactions if they are the same, nil otherwise.
//
// A multi that was refused may look different in the log of a leader of Apache's:
// applying it makes errors of all its operations, in the object that another
// thread is yet to write to the log (class DataTree). The bytes behind are still
// those of the operation, so the code is nonsense. The one that is as it was sent
// has fewer errors.
func sameTxn(a, b *wire.Txn) *wire.Txn {
	if bytes.Equal(a.Append(nil), b.Append(nil)) {
		return a
	}
	ma, ok := a.Body.(*wire.MultiTxn)
	mb, ok2 := b.Body.(*wire.MultiTxn)
	if !ok || !ok2 || a.Header != b.Header || a.Digest != b.Digest || len(ma.Txns) != len(mb.Txns) {
		return nil
	}
	na, nb := 0, 0
	for i := range ma.Txns {
		if ma.Txns[i].Type == wire.OpFailed {
			na++
		}
		if mb.Txns[i].Type == wire.OpFailed {
			nb++
		}
	}
	switch {
	case na == 0 || nb == 0 || na == nb:
		return nil
	case na < nb:
		return a
	}
	return b
}

// LogBytes returns transactions as text: a line for each with what is for the
// reader, and the bytes of the transaction in base 16.
func LogBytes(log []*wire.Txn) []byte {
	var b []byte
	for _, txn := range log {
		h := &txn.Header
		b = fmt.Appendf(b, "%v %v %d %v ", h.Zxid, h.Session, h.Cxid, opName(h.Type))
		b = append(hex.AppendEncode(b, txn.Append(nil)), '\n')
	}
	return b
}

// ParseLog reads what LogBytes wrote.
func ParseLog(text []byte) ([]*wire.Txn, error) {
	var log []*wire.Txn
	sc := bufio.NewScanner(bytes.NewReader(text))
	sc.Buffer(nil, len(text)+1)
	for line := 1; sc.Scan(); line++ {
		f := bytes.Fields(sc.Bytes())
		if len(f) != 5 {
			return nil, fmt.Errorf("line %d of a log: 5 fields expected", line)
		}
		b, err := hex.DecodeString(string(f[4]))
		txn := &wire.Txn{}
		if err == nil {
			err = wire.Unmarshal(b, txn)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d of a log: %w", line, err)
		}
		log = append(log, txn)
	}
	return log, sc.Err()
}
