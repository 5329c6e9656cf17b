package storage

import (
	"bytes"
	"errors"
	"hash/adler32"
	"io"
	"os"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

func golden(f *testing.F, names ...string) {
	f.Helper()
	for _, name := range names {
		b, err := os.ReadFile("testdata/apache/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// An entry that is read is what was written: encoding it again gives the same
// bytes at the same place. Nothing behind the first fault is looked at, and the
// tail is judged without a panic.
func FuzzLogReader(f *testing.F) {
	golden(f, "plain/version-2/log.1", "plain/version-2/log.33")
	f.Add(appendHeader(nil, logMagic, 0))
	f.Add([]byte{})
	var dec TxnDecoder
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := newLogReader(bytes.NewReader(b), int64(len(b)))
		end := int64(0)
		var last zab.Zxid
		for err == nil {
			var payload []byte
			var off int64
			if payload, off, err = r.next(); err != nil {
				break
			}
			e := appendEntry(nil, payload)
			if !bytes.Equal(b[off:off+int64(len(e))], e) || end != 0 && off != end {
				t.Fatalf("entry at byte %d is not what the file holds", off)
			}
			end, last = off+int64(len(e)), payloadZxid(payload)
			decodeBoth(t, &dec, payload)
		}
		var bad *badEntry
		if err != io.EOF && !errors.As(err, &bad) {
			t.Fatal(err)
		}
		tl, err := examineTail(bytes.NewReader(b), int64(len(b)), min(end, int64(len(b))), last, bad)
		if err != nil || tl.end < tl.off || tl.end > int64(len(b)) {
			t.Fatalf("tail %+v, %v", tl, err)
		}
	})
}

// decodeBoth compares the decoder of replay, which uses its records again, with
// that of package wire.
func decodeBoth(t *testing.T, dec *TxnDecoder, payload []byte) {
	got, err := dec.Decode(payload)
	var want wire.Txn
	d := wire.NewDecoder(payload)
	want.Decode(&d)
	bare := len(payload) == txnMin+12 && want.Header.Type == wire.OpCloseSession // the exception
	if bare {
		return
	}
	if (err == nil) != (d.Err() == nil) {
		t.Fatalf("%x: %v, package wire says %v", payload, err, d.Err())
	}
	if err == nil && !bytes.Equal(got.Append(nil), want.Append(nil)) {
		t.Fatalf("%x reads as %+v, package wire says %+v", payload, got, want)
	}
}

func FuzzTxnDecoder(f *testing.F) {
	r := mustLog(f, "testdata/apache/plain/version-2/log.1")
	for {
		payload, _, err := r.next()
		if err != nil {
			break
		}
		f.Add(bytes.Clone(payload))
	}
	var dec TxnDecoder
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= txnMin {
			decodeBoth(t, &dec, b)
		}
	})
}

func mustLog(f *testing.F, name string) *logReader {
	b, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	r, err := newLogReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// A snapshot that is read gives a tree that, written again, reads as the same.
func FuzzSnapshotReader(f *testing.F) {
	golden(f, "plain/version-2/snapshot.0", "plain/version-2/snapshot.32")
	cfg := znode.Config{Digest: true, ExtendedTypes: true}
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, info, err := NewTree(bytes.NewReader(b), cfg, 1)
		if err != nil {
			return
		}
		if info.Bytes != int64(len(b)) {
			t.Fatalf("%d of %d bytes were read", info.Bytes, len(b))
		}
		var out bytes.Buffer
		if err := EncodeSnapshot(&out, tree.Freeze(), noLock{}); err != nil {
			t.Fatal(err)
		}
		again, _, err := NewTree(&out, cfg, 1)
		if err != nil || again.Digest() != tree.Digest() || again.NodeCount() != tree.NodeCount() {
			t.Fatalf("written again it reads as another tree: %v", err)
		}
	})
}

// The checksum keeps random changes from getting far; here it is made right.
func FuzzSnapshotBody(f *testing.F) {
	for _, name := range []string{"snapshot.0", "snapshot.32"} {
		b, err := os.ReadFile("testdata/apache/plain/version-2/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:len(b)-3*13-20-8])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var out bytes.Buffer
		w := &snapWriter{w: &out, sum: adler32.New()}
		w.write(body)
		w.seal()
		NewTree(&out, znode.Config{Digest: true}, 1)
	})
}

// What a leader sends has no checksum at all.
func FuzzStream(f *testing.F) {
	b, err := os.ReadFile("testdata/apache/plain/version-2/snapshot.32")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(b[headerSize:len(b)-3*13-20-8], "\x00\x00\x00\x0aBenWasHere"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, rest, err := ReadStream(bytes.NewReader(b), znode.Config{Digest: true}, 7)
		if err != nil {
			return
		}
		if !bytes.HasSuffix(b, rest) {
			t.Fatalf("rest %q is not the end of the input", rest)
		}
		if tree.LastZxid() != 7 {
			t.Fatalf("tree of %v", tree.LastZxid())
		}
	})
}

func FuzzSnappy(f *testing.F) {
	golden(f, "snappy/version-2/snapshot.32.snappy")
	f.Add([]byte(xerialMagic + "\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x05\x03\x08abc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := io.Copy(io.Discard, newSnappyReader(bytes.NewReader(b)))
		if err == nil && n > int64(len(b))*32 {
			t.Fatalf("%d bytes of %d", n, len(b))
		}
	})
}

func FuzzMark(f *testing.F) {
	m := mark{1, 2, 3, 4, 5}
	f.Add(m.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := decodeMark(b); ok && !bytes.Equal(m.append(nil), b[:markSize]) {
			t.Fatalf("%x reads as %+v", b, m)
		}
	})
}
