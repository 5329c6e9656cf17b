package znode

import (
	"os"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab/wire"
)

// FuzzApply applies whatever decodes as transactions, as a replay of a log that
// somebody wrote by hand would: it must not panic, and the indexes and the
// digest must stay true. What is then walked and loaded is the same tree.
func FuzzApply(f *testing.F) {
	if b, err := os.ReadFile("testdata/apache-3.8.0-txns.hex"); err == nil {
		var all []byte
		for line := range strings.FieldsSeq(string(b)) {
			var txn []byte
			for i := 0; i+1 < len(line); i += 2 {
				txn = append(txn, unhex(line[i])<<4|unhex(line[i+1]))
			}
			all = wire.AppendBuffer(all, txn)
		}
		f.Add(all)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tr := New(Config{Digest: true, ExtendedTypes: true})
		var r Result
		d := wire.NewAliasDecoder(b)
		for d.Len() > 0 && d.Err() == nil {
			one := wire.NewAliasDecoder(d.Buffer())
			var txn wire.Txn
			if txn.Decode(&one); one.Err() == nil {
				tr.Apply(&txn, &r)
			}
		}
		before := dump(t, tr)
		var chunks []byte
		frozen := tr.Freeze()
		if err := frozen.Walk(&hookLock{before: func() {}}, func(b []byte) error { chunks = append(chunks, b...); return nil }); err != nil {
			t.Fatal(err)
		}
		// Loading counts quotas anew.
		after := dump(t, load(t, tr.cfg, frozen, chunks))
		for path := range before {
			if strings.HasSuffix(path, "/"+statsName) {
				delete(before, path)
				delete(after, path)
			}
		}
		diffDumps(t, "loaded", after, before)
	})
}

func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// FuzzBuilder loads whatever decodes as nodes of a snapshot.
func FuzzBuilder(f *testing.F) {
	tr := New(Config{})
	var seed []byte
	if err := tr.Freeze().Walk(&hookLock{before: func() {}}, func(b []byte) error { seed = append(seed, b...); return nil }); err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		builder := NewBuilder(Config{Digest: true, ExtendedTypes: true})
		builder.AddACL(1, wire.OpenACL())
		d := wire.NewAliasDecoder(b)
		for d.Len() > 0 {
			path, data, key := d.String(), d.Buffer(), d.Long()
			var st wire.StatPersisted
			if st.Decode(&d); d.Err() != nil {
				break
			}
			if builder.AddNode(path, data, key, &st) != nil {
				return
			}
		}
		if tr, err := builder.Finish(1); err == nil {
			dump(t, tr)
		}
	})
}
