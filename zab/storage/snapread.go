package storage

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/adler32"
	"io"
	"unsafe"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// SnapshotInfo is what a snapshot says of itself besides its znodes.
type SnapshotInfo struct {
	Zxid        zab.Zxid // from the name of the file; zero for a stream
	Sessions    int
	ACLs        int
	Nodes       int
	Bytes       int64 // uncompressed
	Compression Compression

	// HasDigest and HasLastZxid tell which of the sections behind the first seal
	// are there.
	HasDigest   bool
	DigestZxid  zab.Zxid
	Digest      wire.Digest
	HasLastZxid bool
	LastZxid    zab.Zxid
}

// A SnapshotHandler takes the parts of a snapshot in their order: sessions, ACL
// lists, znodes with parents before children. Path and data are good until the
// call returns; lists may be kept.
type SnapshotHandler interface {
	AddSession(id zab.SessionID, timeoutMs int32)
	AddACL(key int64, acl []wire.ACL)
	AddNode(path string, data []byte, aclKey int64, stat *wire.StatPersisted) error
}

// snapReader reads a snapshot from a stream. Memory is bounded by its longest
// record, and grows only as bytes arrive, never by a length alone.
type snapReader struct {
	src    io.Reader
	buf    []byte
	r, w   int
	base   int64 // stream offset of buf[0]
	summed int   // buf[:summed] is in sum
	sum    hash.Hash32
}

func newSnapReader(src io.Reader) *snapReader {
	// The window grows to its size with the stream: most snapshots are small.
	return &snapReader{src: src, buf: make([]byte, 32<<10), sum: adler32.New()}
}

// unpack returns the bytes inside a file of the given form.
func unpack(src io.Reader, c Compression) (io.Reader, error) {
	switch c {
	case Gzip:
		return gzip.NewReader(bufio.NewReaderSize(src, 256<<10))
	case Snappy:
		return newSnappyReader(bufio.NewReaderSize(src, 256<<10)), nil
	}
	return src, nil
}

// state reads sessions, ACL lists and znodes.
func (s *snapReader) state(info *SnapshotInfo, h SnapshotHandler) error {
	if err := s.sessions(info, h); err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	if err := s.acls(info, h); err != nil {
		return fmt.Errorf("ACL lists: %w", err)
	}
	if err := s.nodes(info, h); err != nil {
		return fmt.Errorf("znode %d: %w", info.Nodes, err)
	}
	return nil
}

func (s *snapReader) offset() int64 { return s.base + int64(s.r) }

// need makes n more bytes available at s.buf[s.r:].
func (s *snapReader) need(n int) error {
	if s.w-s.r >= n {
		return nil
	}
	if n > maxRecord {
		return fmt.Errorf("record of %d bytes", n)
	}
	s.checkpoint()
	copy(s.buf, s.buf[s.r:s.w])
	s.base += int64(s.r)
	s.w -= s.r
	s.r, s.summed = 0, 0
	full := s.base > int64(len(s.buf)) && len(s.buf) < window
	for s.w < n {
		if s.w == len(s.buf) || full {
			full = false
			s.buf = append(s.buf, make([]byte, len(s.buf))...)
		}
		m, err := s.src.Read(s.buf[s.w:])
		s.w += m
		if err != nil && s.w < n {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// checkpoint adds everything consumed to the checksum.
func (s *snapReader) checkpoint() {
	s.sum.Write(s.buf[s.summed:s.r])
	s.summed = s.r
}

func (s *snapReader) long() (int64, error) {
	if err := s.need(8); err != nil {
		return 0, err
	}
	v := int64(binary.BigEndian.Uint64(s.buf[s.r:]))
	s.r += 8
	return v, nil
}

func (s *snapReader) int() (int32, error) {
	if err := s.need(4); err != nil {
		return 0, err
	}
	v := int32(binary.BigEndian.Uint32(s.buf[s.r:]))
	s.r += 4
	return v, nil
}

// seal checks the checksum of all bytes so far and the mark behind it. atEnd
// reports that the stream ends where an optional section could begin.
func (s *snapReader) seal() error {
	s.checkpoint()
	want := s.sum.Sum32()
	got, err := s.long()
	if err != nil {
		return err
	}
	if uint64(got) != uint64(want) {
		return fmt.Errorf("checksum %x, need %x", got, want)
	}
	if err := s.need(5); err != nil {
		return err
	}
	if string(s.buf[s.r:s.r+5]) != "\x00\x00\x00\x01/" {
		return fmt.Errorf("seal ends in %x", s.buf[s.r:s.r+5])
	}
	s.r += 5
	return nil
}

// atEnd reports whether no byte is left.
func (s *snapReader) atEnd() (bool, error) {
	err := s.need(1)
	if errors.Is(err, io.ErrUnexpectedEOF) && s.w == s.r {
		return true, nil
	}
	return false, err
}

// readSnapshot reads a whole snapshot. h may be nil to check it only. An error
// names the offset in the unpacked stream.
func readSnapshot(src io.Reader, h SnapshotHandler) (info SnapshotInfo, err error) {
	s := newSnapReader(src)
	defer func() {
		info.Bytes = s.offset()
		if err != nil {
			err = fmt.Errorf("at byte %d: %w", s.offset(), err)
		}
	}()
	if err := s.need(headerSize); err != nil {
		return info, err
	}
	if hd := s.buf[s.r:]; binary.BigEndian.Uint32(hd) != snapMagic || binary.BigEndian.Uint32(hd[4:]) != version {
		return info, fmt.Errorf("header %x is not that of a snapshot", hd[:headerSize])
	}
	s.r += headerSize
	if err := s.state(&info, h); err != nil {
		return info, err
	}
	if err := s.seal(); err != nil {
		return info, fmt.Errorf("first seal: %w", err)
	}
	return info, s.sections(&info)
}

func (s *snapReader) sessions(info *SnapshotInfo, h SnapshotHandler) error {
	n, err := s.int()
	if err != nil {
		return err
	}
	for range n {
		id, err := s.long()
		if err != nil {
			return err
		}
		timeout, err := s.int()
		if err != nil {
			return err
		}
		info.Sessions++
		if h != nil {
			h.AddSession(zab.SessionID(id), timeout)
		}
	}
	return nil
}

func (s *snapReader) acls(info *SnapshotInfo, h SnapshotHandler) error {
	n, err := s.int()
	if err != nil {
		return err
	}
	for range n {
		key, err := s.long()
		if err != nil {
			return err
		}
		size, err := s.aclSize()
		if err != nil {
			return err
		}
		d := wire.NewDecoder(s.buf[s.r : s.r+size])
		acl := wire.DecodeACL(&d)
		if d.Err() != nil {
			return d.Err()
		}
		s.r += size
		info.ACLs++
		if h != nil {
			h.AddACL(key, acl)
		}
	}
	return nil
}

// aclSize finds the length of the ACL list that comes next and makes it
// available.
func (s *snapReader) aclSize() (int, error) {
	if err := s.need(4); err != nil {
		return 0, err
	}
	n := int32(binary.BigEndian.Uint32(s.buf[s.r:]))
	at := 4
	for range n {
		at += 4 // permissions
		for range 2 {
			if err := s.need(at + 4); err != nil {
				return 0, err
			}
			l := int32(binary.BigEndian.Uint32(s.buf[s.r+at:]))
			if l > maxRecord {
				return 0, fmt.Errorf("string of %d bytes", l)
			}
			at += 4 + max(0, int(l))
		}
	}
	return at, s.need(at)
}

// nodeTail is what follows the data of a znode: ACL key and stat.
const nodeTail = 8 + 60

func (s *snapReader) nodes(info *SnapshotInfo, h SnapshotHandler) error {
	var st wire.StatPersisted
	for {
		if err := s.need(4); err != nil {
			return err
		}
		n := int(int32(binary.BigEndian.Uint32(s.buf[s.r:])))
		if n < 0 || n > maxRecord {
			return fmt.Errorf("path of %d bytes", n)
		}
		if err := s.need(4 + n); err != nil {
			return err
		}
		if n == 1 && s.buf[s.r+4] == '/' {
			s.r += 5
			return nil
		}
		if err := s.need(4 + n + 4); err != nil {
			return err
		}
		l := int(int32(binary.BigEndian.Uint32(s.buf[s.r+4+n:])))
		if l < -1 || l > maxRecord {
			return fmt.Errorf("data of %d bytes", l)
		}
		size := 4 + n + 4 + max(0, l) + nodeTail
		if err := s.need(size); err != nil {
			return err
		}
		b := s.buf[s.r : s.r+size]
		path := unsafe.String(unsafe.SliceData(b[4:]), n)
		var data []byte
		if at := 8 + n; l >= 0 {
			data = b[at : at+l : at+l]
		}
		t := b[size-nodeTail:]
		st = wire.StatPersisted{
			Czxid:          zab.Zxid(binary.BigEndian.Uint64(t[8:])),
			Mzxid:          zab.Zxid(binary.BigEndian.Uint64(t[16:])),
			Ctime:          int64(binary.BigEndian.Uint64(t[24:])),
			Mtime:          int64(binary.BigEndian.Uint64(t[32:])),
			Version:        int32(binary.BigEndian.Uint32(t[40:])),
			Cversion:       int32(binary.BigEndian.Uint32(t[44:])),
			Aversion:       int32(binary.BigEndian.Uint32(t[48:])),
			EphemeralOwner: int64(binary.BigEndian.Uint64(t[52:])),
			Pzxid:          zab.Zxid(binary.BigEndian.Uint64(t[60:])),
		}
		if n > 0 && path[0] != '/' {
			return fmt.Errorf("path %q", path)
		}
		if h != nil {
			if err := h.AddNode(path, data, int64(binary.BigEndian.Uint64(t)), &st); err != nil {
				return err
			}
		}
		s.r += size
		info.Nodes++
	}
}

// sections reads the parts behind the first seal, each of which may be missing:
// servers before 3.6 write none, those before 3.9 the digest only.
func (s *snapReader) sections(info *SnapshotInfo) error {
	if end, err := s.atEnd(); end || err != nil {
		return err
	}
	if err := s.need(8 + 4 + 8); err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	d := wire.NewDecoder(s.buf[s.r : s.r+20])
	z := zab.Zxid(d.Long())
	info.Digest.Version = d.Int()
	if info.Digest.Version >= wire.DigestVersion {
		info.HasDigest, info.DigestZxid, info.Digest.Tree = true, z, uint64(d.Long())
		s.r += 20
	} else if err := s.oldDigest(); err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	if err := s.seal(); err != nil {
		return fmt.Errorf("seal of the digest: %w", err)
	}
	if end, err := s.atEnd(); end || err != nil {
		return err
	}
	last, err := s.long()
	if err != nil {
		return fmt.Errorf("last zxid: %w", err)
	}
	info.HasLastZxid, info.LastZxid = true, zab.Zxid(last)
	if err := s.seal(); err != nil {
		return fmt.Errorf("seal of the last zxid: %w", err)
	}
	if end, err := s.atEnd(); err != nil || end {
		return err
	}
	return errors.New("bytes behind the last seal")
}

// oldDigest skips the digest of the pre-releases of 3.6: zxid, version, a string.
func (s *snapReader) oldDigest() error {
	n := int32(binary.BigEndian.Uint32(s.buf[s.r+12:]))
	if n < 0 || n > 64 {
		return fmt.Errorf("string of %d bytes", n)
	}
	if err := s.need(16 + int(n)); err != nil {
		return err
	}
	s.r += 16 + int(n)
	return nil
}
