// Election starts five servers one after the other, listens to whom each of them
// votes for, and prints it: 1 and 2 stay LOOKING, for two of five are
// no majority; 3 leads, because with it there is one, and its id is the highest;
// 4 and 5 come too late and follow.
//
//	go run ./examples/election
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paddockio/paddock/examples/local"
	"github.com/paddockio/paddock/zab/wire"
)

func main() {
	apache := flag.String("apache", "", "run Apache's server from this class path, such as "+local.DebianClasspath)
	flag.Parse()
	local.Main("election", func(ctx context.Context, dir string) error {
		if *apache != "" {
			return run(ctx, dir, local.Apache(*apache), os.Stdout)
		}
		binary, err := local.Build(ctx, dir)
		if err != nil {
			return err
		}
		return run(ctx, dir, local.Paddock(binary), os.Stdout)
	})
}

// witness is the id of this program: a voter whose vote has no weight. The others
// tell it what they propose, and it changes nothing.
const witness = 6

var members = []string{
	fmt.Sprintf("server.%d=127.0.0.1:1:2", witness),
	fmt.Sprintf("weight.%d=0", witness),
	"group.1=1:2:3:4:5:6",
}

func run(ctx context.Context, dir string, program local.Program, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	servers, err := local.Ensemble(dir, 5, members...)
	if err != nil {
		return err
	}
	votes := make([]atomic.Int64, len(servers))
	for i, s := range servers {
		if err := s.Start(program); err != nil {
			return err
		}
		defer s.Kill()
		wg.Go(func() { listen(ctx, s.Election, &votes[i]) })
		lines, err := settled(ctx, servers[:i+1], votes)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "start %d: %s\n", s.ID, strings.Join(lines, ", "))
	}
	return nil
}

// settled waits until nothing changes any more: the servers have a leader, or
// all want the same one, and are not enough for it.
func settled(ctx context.Context, servers []*local.Server, votes []atomic.Int64) ([]string, error) {
	for {
		var looking, serving []string
		leader, same := 0, true
		for i, s := range servers {
			vote := votes[i].Load()
			looking = append(looking, fmt.Sprintf("%d is LOOKING and votes for %d", s.ID, vote))
			same = same && vote == votes[0].Load() && vote == int64(len(servers))
			switch s.Mode() {
			case "leader":
				leader = s.ID
				serving = append(serving, fmt.Sprintf("%d is LEADING", s.ID))
			case "follower":
				serving = append(serving, fmt.Sprintf("%d is FOLLOWING", s.ID))
			}
		}
		if leader != 0 && len(serving) == len(servers) {
			return serving, nil
		}
		if same && len(servers) < 3 {
			return looking, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no agreement: %v, %v: %w", looking, serving, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// listen takes what a server tells the witness about its vote. Of two servers the
// one with the higher id connects, and the other uses that connection.
func listen(ctx context.Context, addr string, vote *atomic.Int64) {
	for ctx.Err() == nil {
		_ = receive(ctx, addr, vote) // the server is not there yet, or no more
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func receive(ctx context.Context, addr string, vote *atomic.Int64) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	hello := wire.InitialMessage{Server: witness, Addrs: []string{"127.0.0.1:2"}}
	if _, err := conn.Write(hello.Append(nil)); err != nil {
		return err
	}
	for {
		var size uint32
		if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
			return err
		}
		if size > wire.MaxNotification {
			return fmt.Errorf("message of %d bytes", size)
		}
		message := make([]byte, size)
		if _, err := io.ReadFull(conn, message); err != nil {
			return err
		}
		n, err := wire.DecodeNotification(message)
		if err != nil {
			return err
		}
		vote.Store(int64(n.Vote.Leader))
	}
}
