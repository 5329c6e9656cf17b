package server

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// benchPipelined sends frame over one connection, inFlight at a time. What it
// reports covers the server, both ends of the socket, and a client that does no
// more than count.
func benchPipelined(b *testing.B, inFlight int, frame []byte) {
	s, err := Open(Config{
		Listen: "127.0.0.1:0", MaxInFlight: 2 * inFlight,
		Znode: znode.Config{Digest: true}, Storage: storage.Config{DataDir: b.TempDir()},
	})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(b.Context()) }()
	nc, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	in := bufio.NewReaderSize(nc, 1<<16)
	buf := make([]byte, 1<<16)
	recv := func() {
		if _, err := io.ReadFull(in, buf[:4]); err != nil {
			b.Fatal(err)
		}
		n := int(binary.BigEndian.Uint32(buf))
		if _, err := io.ReadFull(in, buf[:n]); err != nil {
			b.Fatal(err)
		}
	}
	nc.Write(framed(connectFrame(0, 10000, nil)))
	recv()
	nc.Write(framed(createReq(1, "/bench", "")))
	recv()
	one := framed(frame)
	var batch []byte
	for range inFlight {
		batch = append(batch, one...)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(one)))
	left := 0
	for b.Loop() {
		if left == 0 {
			if _, err := nc.Write(batch); err != nil {
				b.Fatal(err)
			}
			left = inFlight
		}
		recv()
		left--
	}
}

func BenchmarkServer(b *testing.B) {
	data := make([]byte, 100)
	for _, inFlight := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("get/inflight=%d", inFlight), func(b *testing.B) {
			benchPipelined(b, inFlight, req(7, wire.OpGetData, &wire.PathWatch{Path: "/bench"}))
		})
		b.Run(fmt.Sprintf("set/inflight=%d", inFlight), func(b *testing.B) {
			benchPipelined(b, inFlight, req(7, wire.OpSetData, &wire.SetDataRequest{Path: "/bench", Data: data, Version: -1}))
		})
	}
}

// BenchmarkEnsemble writes over five connections to each of three servers in this
// process, 16 requests of each in flight.
func BenchmarkEnsemble(b *testing.B) {
	const conns, inFlight = 15, 16
	e := newEnsemble(b, 3, 0, func(c *Config) { c.TickTime, c.Storage.NoForceSync, c.Logger = 2*time.Second, false, nil })
	e.start(1, 2, 3)
	e.leader()
	one := framed(req(7, wire.OpSetData, &wire.SetDataRequest{Path: "/bench", Data: make([]byte, 100), Version: -1}))
	next := make(chan int) // how many requests to send
	results := make(chan error, conns)
	for i := range conns {
		nc, err := net.Dial("tcp", e.servers[zab.ServerID(1+i%3)].Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer nc.Close()
		in := bufio.NewReaderSize(nc, 1<<16)
		recv := func() error {
			var head [4]byte
			if _, err := io.ReadFull(in, head[:]); err != nil {
				return err
			}
			_, err := in.Discard(int(binary.BigEndian.Uint32(head[:])))
			return err
		}
		nc.Write(framed(connectFrame(0, 10000, nil)))
		if err := recv(); err != nil {
			b.Fatal(err)
		}
		if i == 0 {
			nc.Write(framed(createReq(1, "/bench", "")))
			if err := recv(); err != nil {
				b.Fatal(err)
			}
		}
		go func() {
			for n := range next {
				var batch []byte
				for range n {
					batch = append(batch, one...)
				}
				_, err := nc.Write(batch)
				for range n {
					err = cmp.Or(err, recv())
				}
				results <- err
			}
		}()
	}
	b.ReportAllocs()
	for left, busy := b.N, 0; left > 0 || busy > 0; {
		to := next
		n := min(inFlight, left)
		if n == 0 {
			to = nil
		}
		select {
		case to <- n:
			left, busy = left-n, busy+1
		case err := <-results:
			if busy--; err != nil {
				b.Fatal(err)
			}
		}
	}
	close(next)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}
