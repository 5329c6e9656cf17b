package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The stream of xerial's snappy-java: a header (magic, version, oldest version
// that can read it), then blocks, each a length and that many bytes of snappy's
// block format. Reading is all that is needed: we write plain or gzip.

const (
	xerialMagic  = "\x82SNAPPY\x00"
	xerialHeader = 16
	// maxBlock is far above what snappy-java writes (32 KiB of data at once).
	maxBlock = 64 << 20
)

var errSnappy = errors.New("damaged snappy block")

type snappyReader struct {
	src     io.Reader
	started bool
	block   []byte
	out     []byte // unpacked and not read yet: out[at:]
	at      int
	err     error
}

func newSnappyReader(src io.Reader) *snappyReader { return &snappyReader{src: src} }

// Read implements io.Reader.
func (s *snappyReader) Read(p []byte) (int, error) {
	for s.err == nil && s.at == len(s.out) {
		s.err = s.nextBlock()
	}
	n := copy(p, s.out[s.at:])
	s.at += n
	if n == 0 && len(p) > 0 {
		return 0, s.err
	}
	return n, nil
}

func (s *snappyReader) nextBlock() error {
	s.out, s.at = s.out[:0], 0
	var h [xerialHeader]byte
	if !s.started {
		if _, err := io.ReadFull(s.src, h[:]); err != nil {
			return noEOF(err)
		}
		if string(h[:8]) != xerialMagic {
			return fmt.Errorf("header %x is not that of snappy-java", h)
		}
		s.started = true
	}
	if _, err := io.ReadFull(s.src, h[:4]); err != nil {
		return err // io.EOF here is the end
	}
	n := int(int32(binary.BigEndian.Uint32(h[:])))
	if string(h[:4]) == xerialMagic[:4] {
		// Streams may be joined: another header, and blocks again.
		_, err := io.ReadFull(s.src, h[4:])
		return noEOF(err)
	}
	if n < 0 || n > maxBlock {
		return fmt.Errorf("snappy block of %d bytes", n)
	}
	var err error
	if s.block, err = readGrowing(s.src, s.block[:0], n); err != nil {
		return err
	}
	s.out, err = unsnap(s.out, s.block)
	return err
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readGrowing appends n bytes of r to b without trusting n: memory grows as the
// bytes arrive.
func readGrowing(r io.Reader, b []byte, n int) ([]byte, error) {
	for len(b) < n {
		at := len(b)
		step := min(n-at, max(at, 64<<10))
		b = append(b, make([]byte, step)...)
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return b, noEOF(err)
		}
	}
	return b, nil
}

// unsnap appends what a block of snappy's format holds: the length of the
// result, then literals and copies of earlier bytes.
func unsnap(dst, src []byte) ([]byte, error) {
	size, k := binary.Uvarint(src)
	// A copy makes at most 64 bytes of 3: a length beyond that is a lie.
	if k <= 0 || size > uint64(len(src))*32 {
		return dst, errSnappy
	}
	src = src[k:]
	if cap(dst) < int(size) {
		dst = make([]byte, 0, size)
	}
	for len(src) > 0 {
		tag := src[0]
		src = src[1:]
		if tag&3 == 0 {
			n := int(tag >> 2)
			if n >= 60 { // the length is in the next 1 to 4 bytes
				k := n - 59
				if len(src) < k {
					return dst, errSnappy
				}
				n = 0
				for i := range k {
					n |= int(src[i]) << (8 * i)
				}
				src = src[k:]
			}
			n++
			if n > len(src) || n > int(size)-len(dst) {
				return dst, errSnappy
			}
			dst = append(dst, src[:n]...)
			src = src[n:]
			continue
		}
		var n, back int
		switch k := [...]int{1: 1, 2: 2, 3: 4}[tag&3]; {
		case len(src) < k:
			return dst, errSnappy
		case k == 1:
			n, back = 4+int(tag>>2&7), int(tag>>5)<<8|int(src[0])
			src = src[1:]
		case k == 2:
			n, back = 1+int(tag>>2), int(binary.LittleEndian.Uint16(src))
			src = src[2:]
		default:
			n, back = 1+int(tag>>2), int(binary.LittleEndian.Uint32(src))
			src = src[4:]
		}
		if back == 0 || back > len(dst) || n > int(size)-len(dst) {
			return dst, errSnappy
		}
		// Byte by byte: the copy may overlap itself to repeat a pattern.
		for at := len(dst) - back; n > 0; n-- {
			dst = append(dst, dst[at])
			at++
		}
	}
	if len(dst) != int(size) {
		return dst, errSnappy
	}
	return dst, nil
}
