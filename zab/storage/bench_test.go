package storage

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

func BenchmarkAppend(b *testing.B) {
	w := open0(b, Config{DataDir: b.TempDir()})
	defer w.close()
	payload := createTxn(1, "/bench/znode-0000000001", make([]byte, 100))
	z := zab.Zxid(0)
	n := 0
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		z++
		putZxid(payload, z)
		if err := w.s.Append(payload, z); err != nil {
			b.Fatal(err)
		}
		if n++; n == 1000 {
			b.StopTimer()
			w.sync()
			n = 0
			b.StartTimer()
		}
	}
}

// BenchmarkSync writes batches of so many transactions.
func BenchmarkSync(b *testing.B) {
	for _, size := range []int{1, 10, 100, 1000} {
		for _, mark := range []bool{true, false} {
			b.Run(fmt.Sprintf("txns=%d/mark=%v", size, mark), func(b *testing.B) {
				w := open0(b, Config{DataDir: b.TempDir(), NoMark: !mark})
				defer w.close()
				payload := createTxn(1, "/bench/znode-0000000001", make([]byte, 100))
				z := zab.Zxid(0)
				b.ReportAllocs()
				for b.Loop() {
					for range size {
						z++
						putZxid(payload, z)
						if err := w.s.Append(payload, z); err != nil {
							b.Fatal(err)
						}
					}
					w.sync()
				}
				b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "txns/s")
			})
		}
	}
}

func putZxid(payload []byte, z zab.Zxid) {
	binary.BigEndian.PutUint64(payload[12:], uint64(z))
}

// bigTree has n znodes of 100 bytes, a thousand below each parent.
func bigTree(n int) *znode.Tree {
	t := znode.New(znode.Config{})
	var res znode.Result
	txn := &wire.Txn{Header: wire.TxnHeader{Type: wire.OpCreate, TimeMs: 1}}
	c := &wire.CreateTxn{Type: wire.OpCreate, ACL: wire.OpenACL()}
	txn.Body = c
	data := make([]byte, 100)
	for i := range n {
		if i%1000 == 0 {
			c.Path, c.Data = fmt.Sprintf("/parent-%04d", i/1000), nil
			txn.Header.Zxid++
			t.Apply(txn, &res)
		}
		c.Path, c.Data = fmt.Sprintf("/parent-%04d/znode-%06d", i/1000, i), data
		txn.Header.Zxid++
		t.Apply(txn, &res)
	}
	return t
}

const million = 1_000_000

func BenchmarkSnapshotWrite(b *testing.B) {
	w := open0(b, Config{DataDir: b.TempDir()})
	defer w.close()
	t := bigTree(million)
	for b.Loop() {
		_, n, err := w.s.WriteSnapshot(t.Freeze(), noLock{})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n)
	}
}

func BenchmarkSnapshotLoad(b *testing.B) {
	for _, c := range []Compression{Plain, Gzip} {
		b.Run("form="+string(c), func(b *testing.B) {
			w := open0(b, Config{DataDir: b.TempDir(), Compression: c})
			defer w.close()
			path, n, err := w.s.WriteSnapshot(bigTree(million).Freeze(), noLock{})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(n)
			b.ReportAllocs()
			for b.Loop() {
				bu := znode.NewBuilder(znode.Config{})
				if _, err := loadSnapshot(OSFS{}, path, bu); err != nil {
					b.Fatal(err)
				}
				if t, err := bu.Finish(1); err != nil || t.NodeCount() < million {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReplay recovers from logs with a million transactions.
func BenchmarkReplay(b *testing.B) {
	dir := b.TempDir()
	w := open0(b, Config{DataDir: dir})
	c := &wire.SetDataTxn{Path: "/a", Data: make([]byte, 100)}
	w.add(createTxn(1, "/a", nil))
	for z := zab.Zxid(2); z <= million; z++ {
		c.Version = int32(z)
		t := wire.Txn{Header: wire.TxnHeader{Zxid: z, TimeMs: 1, Type: wire.OpSetData}, Body: c}
		w.add(t.Append(nil))
		if z%1000 == 0 {
			w.sync()
		}
	}
	w.close()
	b.ReportAllocs()
	for b.Loop() {
		w := open0(b, Config{DataDir: dir})
		if got := w.tree.LastZxid(); got != million {
			b.Fatal(got)
		}
		w.close()
	}
	b.ReportMetric(million*float64(b.N)/b.Elapsed().Seconds(), "txns/s")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkStartEmpty(b *testing.B) {
	top := b.TempDir()
	n := 0
	for b.Loop() {
		n++
		w := open0(b, Config{DataDir: filepath.Join(top, fmt.Sprint(n))})
		w.add(createTxn(1, "/a", nil))
		w.sync()
		w.close()
	}
}
