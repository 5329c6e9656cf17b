package znode

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// plant makes a tree of n znodes with names of 10 characters and 100 bytes of
// data below dirs znodes.
func plant(n, dirs int) *Tree {
	tr := New(Config{Digest: true})
	data := bytes.Repeat([]byte{'x'}, 100)
	var r Result
	acl := wire.OpenACL()
	zxid := zab.Zxid(0)
	create := func(path string) {
		zxid++
		tr.Apply(&wire.Txn{
			Header: wire.TxnHeader{Zxid: zxid, Type: wire.OpCreate, TimeMs: 1},
			Body:   &wire.CreateTxn{Type: wire.OpCreate, Path: path, Data: data, ACL: acl, ParentCversion: -1},
		}, &r)
	}
	for i := range dirs {
		create(fmt.Sprintf("/dir%07d", i))
	}
	for i := dirs; i < n; i++ {
		create(fmt.Sprintf("/dir%07d/n%09d", i%dirs, i))
	}
	return tr
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMemory reports the live heap per znode: names of 10 characters and
// 100 bytes of data.
func BenchmarkMemory(b *testing.B) {
	for _, tc := range []struct{ n, dirs int }{{1_000_000, 1}, {1_000_000, 1000}, {1_000_000, 250_000}} {
		b.Run(fmt.Sprintf("%d below %d", tc.n, tc.dirs), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				tr := plant(tc.n, tc.dirs)
				b.ReportMetric(float64(heap()-before)/float64(tc.n), "B/znode")
				runtime.KeepAlive(tr)
			}
		})
	}
}

func TestAZnodeTakesLessThan300Bytes(t *testing.T) {
	const n = 50_000
	before := heap()
	tr := plant(n, 50)
	if got := float64(heap()-before) / n; got > 300 {
		t.Errorf("%.0f bytes of heap per znode", got)
	}
	runtime.KeepAlive(tr)
}

func BenchmarkApply(b *testing.B) {
	const n = 100_000
	data := bytes.Repeat([]byte{'y'}, 100)
	b.Run("setData", func(b *testing.B) {
		tr := plant(n, 100)
		paths := make([]string, 1024)
		for i := range paths {
			paths[i] = fmt.Sprintf("/dir%07d/n%09d", (1000+i)%100, 1000+i)
		}
		body := &wire.SetDataTxn{Data: data}
		txn := &wire.Txn{Header: wire.TxnHeader{Type: wire.OpSetData}, Body: body}
		var r Result
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			txn.Header.Zxid = zab.Zxid(n + i)
			body.Path = paths[i%len(paths)]
			body.Version++
			if tr.Apply(txn, &r); r.Err != wire.OK {
				b.Fatal(r.Err)
			}
		}
	})
	b.Run("create and delete", func(b *testing.B) {
		tr := plant(n, 100)
		create := &wire.Txn{
			Header: wire.TxnHeader{Type: wire.OpCreate},
			Body:   &wire.CreateTxn{Path: "/dir0000001/another", Data: data, ACL: wire.OpenACL(), ParentCversion: -1},
		}
		remove := &wire.Txn{Header: wire.TxnHeader{Type: wire.OpDelete}, Body: &wire.PathRecord{Path: "/dir0000001/another"}}
		var r Result
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			create.Header.Zxid = zab.Zxid(n + 2*i)
			remove.Header.Zxid = zab.Zxid(n + 2*i + 1)
			if tr.Apply(create, &r); r.Err != wire.OK {
				b.Fatal(r.Err)
			}
			if tr.Apply(remove, &r); r.Err != wire.OK {
				b.Fatal(r.Err)
			}
		}
	})
}

func BenchmarkPrepareAndApply(b *testing.B) {
	data := bytes.Repeat([]byte{'y'}, 100)
	for _, op := range []wire.Op{wire.OpSetData, wire.OpCreate} {
		b.Run(op.String(), func(b *testing.B) {
			tr := plant(1000, 10)
			apply(tr, 2000, wire.OpCreateSession, &wire.IntRecord{Value: 1})
			p := NewPrep(tr)
			req := &Request{Session: 7, Op: op, Body: &wire.SetDataRequest{Path: "/dir0000001/n000000011", Data: data, Version: -1}}
			if op == wire.OpCreate {
				req.Body = &wire.CreateRequest{Path: "/dir0000001/n", Data: data, ACL: wire.OpenACL(), Mode: wire.PersistentSequential}
			}
			var txn wire.Txn
			var r Result
			zxid := zab.Zxid(3000)
			b.ReportAllocs()
			for b.Loop() {
				zxid++
				p.Prepare(req, zxid, 1, &txn)
				if tr.Apply(&txn, &r); r.Err != wire.OK || r.DigestMismatch {
					b.Fatal(r.Err)
				}
				p.Applied(zxid)
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	tr := plant(1_000_000, 1000)
	ids := []wire.ID{{Scheme: "ip", ID: "127.0.0.1"}}
	paths := make([]string, 1<<16)
	for i := range paths {
		k := 1000 + i*15
		paths[i] = fmt.Sprintf("/dir%07d/n%09d", k%1000, k)
	}
	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, _, code := tr.Get(paths[i%len(paths)], ids); code != wire.OK {
				b.Fatal(code)
			}
		}
	})
	b.Run("Exists", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, code := tr.Exists(paths[7], ids); code != wire.OK {
				b.Fatal(code)
			}
		}
	})
	b.Run("AppendChildren of 999", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			buf, _, _ = tr.AppendChildren(buf[:0], "/dir0000001", ids)
		}
	})
}

// timedLock notes how long it is held.
type timedLock struct {
	sync.Mutex
	since time.Time
	held  []time.Duration
}

func (l *timedLock) Lock()   { l.Mutex.Lock(); l.since = time.Now() }
func (l *timedLock) Unlock() { l.held = append(l.held, time.Since(l.since)); l.Mutex.Unlock() }

// BenchmarkWalk reports how long a walk holds the lock at a time, besides its
// speed.
func BenchmarkWalk(b *testing.B) {
	tr := plant(1_000_000, 1000)
	b.ReportAllocs()
	var lock timedLock
	for b.Loop() {
		size := 0
		if err := tr.Freeze().Walk(&lock, func(chunk []byte) error { size += len(chunk); return nil }); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(size))
	}
	slices.Sort(lock.held)
	b.ReportMetric(float64(lock.held[len(lock.held)/2].Microseconds()), "µs-held-p50")
	b.ReportMetric(float64(lock.held[len(lock.held)*99/100].Microseconds()), "µs-held-p99")
}

func TestReadsAndWritesAllocateNoMoreThanTheTreeKeeps(t *testing.T) {
	tr := plant(1000, 10)
	ids := []wire.ID{{Scheme: "ip", ID: "127.0.0.1"}}
	const path = "/dir0000001/n000000011"
	buf := make([]byte, 0, 1<<16)
	var r Result
	zxid := zab.Zxid(5000)
	set := &wire.Txn{Header: wire.TxnHeader{Type: wire.OpSetData}, Body: &wire.SetDataTxn{Path: path, Data: make([]byte, 100)}}
	create := &wire.Txn{Header: wire.TxnHeader{Type: wire.OpCreate}, Body: &wire.CreateTxn{Path: "/dir0000001/x", ACL: wire.OpenACL(), Data: make([]byte, 100), ParentCversion: -1}}
	remove := &wire.Txn{Header: wire.TxnHeader{Type: wire.OpDelete}, Body: &wire.PathRecord{Path: "/dir0000001/x"}}
	do := func(txn *wire.Txn) {
		zxid++
		txn.Header.Zxid = zxid
		if tr.Apply(txn, &r); r.Err != wire.OK {
			t.Fatal(r.Err)
		}
	}
	for name, tc := range map[string]struct {
		most float64
		f    func()
	}{
		"Get":               {0, func() { tr.Get(path, ids) }},
		"Exists":            {0, func() { tr.Exists(path, ids) }},
		"GetACL":            {0, func() { tr.GetACL(path, ids) }},
		"AppendChildren":    {0, func() { tr.AppendChildren(buf, "/dir0000001", ids) }},
		"CatchUp":           {0, func() { tr.CatchUp(1, path, CatchUpData) }},
		"setData":           {1, func() { do(set) }},
		"create and delete": {2, func() { do(create); do(remove) }},
	} {
		if got := testing.AllocsPerRun(200, tc.f); got > tc.most {
			t.Errorf("%s: %v allocations, want at most %v", name, got, tc.most)
		}
	}
}
