package server

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"

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
