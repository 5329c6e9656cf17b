package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/paddockio/paddock/zab/wire"
)

// echoServer answers every getData with 100 bytes, as fast as it can, so that
// the client is what is measured.
func echoServer(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				br, bw := bufio.NewReaderSize(nc, 64<<10), bufio.NewWriterSize(nc, 64<<10)
				var frame [256]byte
				resp := (&wire.GetDataResponse{Data: make([]byte, 100)}).Append(nil)
				for first := true; ; first = false {
					if _, err := io.ReadFull(br, frame[:4]); err != nil {
						return
					}
					n := binary.BigEndian.Uint32(frame[:])
					if _, err := io.ReadFull(br, frame[:n]); err != nil {
						return
					}
					var out []byte
					if first {
						out = (&wire.ConnectResponse{TimeoutMs: 10000, SessionID: 1, HasReadOnly: true}).Append(make([]byte, 4, 128))
					} else {
						out = (&wire.ReplyHeader{Xid: int32(binary.BigEndian.Uint32(frame[:])), Zxid: 1}).Append(make([]byte, 4, 256))
						out = append(out, resp...)
					}
					binary.BigEndian.PutUint32(out, uint32(len(out)-4))
					bw.Write(out)
					if br.Buffered() == 0 {
						bw.Flush()
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func benchmarkGet(b *testing.B, workers int) {
	c, err := New(Config{Servers: echoServer(b)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	defer wg.Wait()
	defer stop()
	if _, _, err := c.Get(ctx, "/warm"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetParallelism(workers)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, err := c.Get(ctx, "/some/path"); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
}

func BenchmarkGetOneAtATime(b *testing.B) {
	c, err := New(Config{Servers: echoServer(b)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	defer wg.Wait()
	defer stop()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := c.Get(ctx, "/some/path"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGetPipelined(b *testing.B) { benchmarkGet(b, 128) }
