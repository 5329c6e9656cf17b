package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/storage/storagetest"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

func TestStreamReadsBackAndLeavesWhatFollows(t *testing.T) {
	cfg := znode.Config{Digest: true}
	tree := znode.New(cfg)
	var res znode.Result
	for z := zab.Zxid(1); z <= 500; z++ {
		tree.Apply(txnOf(z), &res)
	}
	var out bytes.Buffer
	if err := storage.EncodeStream(&out, tree.Freeze(), new(sync.RWMutex)); err != nil {
		t.Fatal(err)
	}
	stream := bytes.Clone(out.Bytes())
	out.WriteString("next packet")
	got, rest, err := storage.ReadStream(&out, cfg, 500)
	if err != nil {
		t.Fatal(err)
	}
	if string(rest) != "next packet" {
		t.Errorf("rest %q", rest)
	}
	if got.Digest() != tree.Digest() || got.LastZxid() != 500 || got.NodeCount() != tree.NodeCount() {
		t.Errorf("read %d znodes, digest %x, %v; want %d, %x, 500", got.NodeCount(), got.Digest(), got.LastZxid(), tree.NodeCount(), tree.Digest())
	}
	// Not one byte beyond the stream is waited for.
	if _, rest, err := storage.ReadStream(iotest.OneByteReader(bytes.NewReader(stream)), cfg, 500); err != nil || len(rest) != 0 {
		t.Errorf("byte by byte: rest %q, %v", rest, err)
	}
	for _, cut := range []int{0, 3, len(stream) / 2, len(stream) - 1} {
		if _, _, err := storage.ReadStream(bytes.NewReader(stream[:cut]), cfg, 500); err == nil || !strings.Contains(err.Error(), "from the leader") {
			t.Errorf("%d bytes of it: %v", cut, err)
		}
	}
	bad := append(bytes.Clone(stream[:len(stream)-3]), "XXX"...)
	if _, _, err := storage.ReadStream(bytes.NewReader(bad), cfg, 500); err == nil {
		t.Error("a stream with another end was accepted")
	}
}

func TestStreamIsApaches(t *testing.T) {
	var out bytes.Buffer
	if err := storage.EncodeStream(&out, znode.New(znode.Config{}).Freeze(), new(sync.RWMutex)); err != nil {
		t.Fatal(err)
	}
	// No header, no sessions; at the end the mark of the tree and the signature.
	if !bytes.HasPrefix(out.Bytes(), make([]byte, 4)) {
		t.Errorf("begins with % x", out.Bytes()[:8])
	}
	end := wire.AppendString(wire.AppendString(nil, "/"), "BenWasHere")
	if !bytes.HasSuffix(out.Bytes(), end) {
		t.Errorf("ends with %q", out.Bytes()[out.Len()-len(end):])
	}
}

func TestLocate(t *testing.T) {
	disk := storagetest.NewDisk(1)
	s := start(t, storage.Config{DataDir: "/data", FS: disk})
	e, later := zab.NewZxid(1, 1), zab.NewZxid(4, 1)
	log(t, s, e, e+4)
	if err := s.Roll(); err != nil {
		t.Fatal(err)
	}
	log(t, s, later, later+2)
	check := func(z, want zab.Zxid) {
		t.Helper()
		if got, err := s.Locate(z); got != want || err != nil {
			t.Errorf("Locate(%v) = %v, %v; want %v", z, got, err, want)
		}
	}
	check(e, e)
	check(e+3, e+3)
	check(e+9, e+4) // never existed: the last before it
	check(zab.NewZxid(3, 7), e+4)
	check(zab.NewZxid(4, 0), e+4) // the mark of an epoch without a transaction
	check(later+1, later+1)
	check(later+2, later+2)
	check(later+100, later+2)
	if _, err := s.Locate(3); !errors.Is(err, storage.ErrNoHistory) {
		t.Errorf("before the logs: %v", err)
	}
	disk.RemoveFile(version2 + fmt.Sprintf("log.%x", int64(e)))
	check(later+1, later+1)
	if got, err := s.Locate(e + 4); !errors.Is(err, storage.ErrNoHistory) {
		t.Errorf("in the log that is gone: %v, %v", got, err)
	}
}
