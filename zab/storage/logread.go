package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"io"

	"github.com/paddockio/paddock/zab"
)

// window is how much of a file is read at once: large enough that the calls
// do not count, small enough to stay in a CPU's second cache.
const window = 1 << 20

// A badEntry says why the bytes at an offset are no log entry. It is a finding
// about bytes that were read; a failed read is another error.
type badEntry struct {
	off    int64
	reason string
}

func (e *badEntry) Error() string { return fmt.Sprintf("at byte %d: %s", e.off, e.reason) }

// logReader reads the entries of one log in order.
type logReader struct {
	f    io.ReaderAt
	size int64
	buf  []byte // holds the bytes of the file from base on
	base int64
	r, w int // buf[r:w] has been read from the file and not been returned yet
}

// newLogReader checks the header. One that is not whole gives io.EOF: the log
// was being made when its writer died, unless entries follow.
func newLogReader(f io.ReaderAt, size int64) (*logReader, error) {
	l := &logReader{f: f, size: size}
	if err := l.fill(headerSize); err != nil {
		return nil, err
	}
	h := l.buf[l.r:min(l.w, headerSize)]
	good := appendHeader(make([]byte, 0, headerSize), logMagic, 0)
	if !bytes.Equal(h[:min(8, len(h))], good[:8]) { // the rest, a database id, means nothing
		n := 0
		for n < len(h) && h[n] == good[n] {
			n++
		}
		if allZero(h[n:]) {
			return nil, io.EOF
		}
		return nil, &badEntry{0, fmt.Sprintf("header %x is not that of a transaction log", h)}
	}
	if len(h) < headerSize {
		return nil, io.EOF
	}
	l.r += headerSize
	return l, nil
}

// offset is where the next entry begins.
func (l *logReader) offset() int64 { return l.base + int64(l.r) }

// fill reads until n bytes are in the window or the file ends.
func (l *logReader) fill(n int) error {
	if l.w-l.r >= n {
		return nil
	}
	left := l.size - l.base - int64(l.w)
	if left <= 0 {
		return nil
	}
	if need := min(int64(n), int64(l.w-l.r)+left); int64(cap(l.buf)) < need {
		// Never larger than the file, whatever a length field says.
		buf := make([]byte, min(max(need+need/4, window), l.size-l.offset()))
		l.w = copy(buf, l.buf[l.r:l.w])
		l.base += int64(l.r)
		l.buf, l.r = buf, 0
	} else {
		copy(l.buf, l.buf[l.r:l.w])
		l.base += int64(l.r)
		l.w -= l.r
		l.r = 0
	}
	for l.w < n && left > 0 {
		max := min(int64(len(l.buf)), int64(l.w)+left)
		m, err := l.f.ReadAt(l.buf[l.w:max], l.base+int64(l.w))
		l.w += m
		left -= int64(m)
		if err != nil && (!errors.Is(err, io.EOF) || m == 0) {
			if errors.Is(err, io.EOF) { // shorter than its size said: cut meanwhile
				l.size = l.base + int64(l.w)
				return nil
			}
			return fmt.Errorf("at byte %d: %w", l.base+int64(l.w), err)
		}
	}
	return nil
}

// next returns the next entry's bytes, good until the next call, and its offset.
// The end of the entries (zeros or the end of the file) is io.EOF, bytes that are
// no entry a *badEntry; what lies behind them is not looked at.
func (l *logReader) next() (payload []byte, off int64, err error) {
	off = l.offset()
	if err := l.fill(entryHeader); err != nil {
		return nil, off, err
	}
	b := l.buf[l.r:l.w]
	if len(b) < entryHeader {
		if allZero(b) {
			return nil, off, io.EOF
		}
		return nil, off, &badEntry{off, "the file ends inside an entry"}
	}
	sum, n := binary.BigEndian.Uint64(b), int64(int32(binary.BigEndian.Uint32(b[8:])))
	if n == 0 && sum == 0 {
		return nil, off, io.EOF
	}
	if n < txnMin || n > maxRecord {
		return nil, off, &badEntry{off, fmt.Sprintf("length %d of an entry", n)}
	}
	if off+entryExtra+n > l.size {
		return nil, off, &badEntry{off, fmt.Sprintf("the file ends inside an entry of %d bytes", n)}
	}
	if err := l.fill(int(n) + entryExtra); err != nil {
		return nil, off, err
	}
	b = l.buf[l.r:l.w]
	if int64(len(b)) < n+entryExtra {
		return nil, off, &badEntry{off, fmt.Sprintf("the file ends inside an entry of %d bytes", n)}
	}
	payload = b[entryHeader : entryHeader+n]
	if got := uint64(adler32.Checksum(payload)); got != sum {
		return nil, off, &badEntry{off, fmt.Sprintf("checksum %x of an entry of %d bytes, need %x", got, n, sum)}
	}
	if b[entryHeader+n] != entryEnd {
		return nil, off, &badEntry{off, fmt.Sprintf("entry of %d bytes ends in %#x", n, b[entryHeader+n])}
	}
	l.r += int(n) + entryExtra
	return payload, off, nil
}

// lastNonZero returns the offset behind the last byte from off on that is not
// zero, or off.
func lastNonZero(f io.ReaderAt, off, size int64) (int64, error) {
	buf := make([]byte, min(window, max(0, size-off)))
	for end := size; end > off; {
		start := max(off, end-window)
		b := buf[:end-start]
		if _, err := f.ReadAt(b, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("at byte %d: %w", start, err)
		}
		if !allZero(b) {
			for i := len(b); ; i-- {
				if b[i-1] != 0 {
					return start + int64(i), nil
				}
			}
		}
		end = start
	}
	return off, nil
}

// A tail describes what lies behind the last good entry of a log.
type tail struct {
	off    int64 // where it begins
	end    int64 // behind its last byte that is not zero; off if all are zero
	reason string
	// follows is set if a whole entry lies further behind: then the bytes at off
	// were not the last ones written.
	follows int64 // its offset, or 0
	// torn is set if the bytes look like an unfinished write: the file ends inside
	// the entry, or a sector that it should fill has never been written.
	torn bool
}

// examineTail looks behind the last good entry, whose zxid is last. bad is nil
// if the entries ended in zeros or with the file.
func examineTail(f io.ReaderAt, size, off int64, last zab.Zxid, bad *badEntry) (tail, error) {
	t := tail{off: off}
	var err error
	if t.end, err = lastNonZero(f, off, size); err != nil || t.end == off {
		return t, err
	}
	t.reason = "bytes behind the zeros that end the entries"
	if bad != nil {
		t.reason = bad.reason
	}
	if t.end-off > maxRecord {
		// More than any batch: no torn write leaves that much.
		t.follows = off
		return t, nil
	}
	// The bytes up to the end of the last sector, to tell a sector without a byte
	// that is not zero from one that the file does not have.
	b := make([]byte, min(size, (t.end/sector+2)*sector)-off)
	if _, err := f.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
		return t, fmt.Errorf("at byte %d: %w", off, err)
	}
	used := int(t.end - off)
	t.follows = findEntry(b[:used], off, last)
	t.torn = isTorn(b, off, used, size)
	return t, nil
}

// findEntry looks for a whole entry with a later zxid in b, which was read from
// offset off, at any place but the first, and returns its offset or 0.
func findEntry(b []byte, off int64, last zab.Zxid) int64 {
	// Crafted bytes could make every place look like an entry; past this much
	// work the answer is yes, which refuses the file.
	work := 1 << 30
	for i := 1; i+entryExtra+txnMin <= len(b); i++ {
		h := b[i:]
		if binary.BigEndian.Uint32(h) != 0 { // high half of the checksum
			continue
		}
		n := int(int32(binary.BigEndian.Uint32(h[8:])))
		if n < txnMin || n > len(h)-entryExtra || h[entryHeader+n] != entryEnd {
			continue
		}
		payload := h[entryHeader : entryHeader+n]
		if payloadZxid(payload) <= last {
			continue
		}
		if work -= n; work < 0 || adler32.Checksum(payload) == binary.BigEndian.Uint32(h[4:]) {
			return off + int64(i)
		}
	}
	return 0
}

// isTorn reports whether the entry at the start of b (read from offset off of a
// file of size bytes, used of them up to the last that is not zero) shows a
// sector that was never written.
func isTorn(b []byte, off int64, used int, size int64) bool {
	// Where the entry should end, as far as is known.
	end := max(used, entryExtra+txnMin)
	if used >= entryHeader {
		sum, n := binary.BigEndian.Uint64(b), int64(int32(binary.BigEndian.Uint32(b[8:])))
		if n >= txnMin && n <= maxRecord {
			if b[used-1] == entryEnd && used > entryExtra &&
				uint64(adler32.Checksum(b[entryHeader:used-1])) == sum {
				return false // whole but for its length: no unfinished write does that
			}
			end = entryExtra + int(n)
		}
	}
	if off+int64(end) > size && size-off-int64(used) < sector {
		return true // bytes up to the end of the file: it was growing
	}
	end = min(end, len(b))
	// The parts of the sectors that the entry should fill.
	for i := 0; i < end; {
		j := min(end, i+int(sector-(off+int64(i))%sector))
		// The first four bytes of an entry are zero anyway.
		if allZero(b[i:j]) && (i > 0 || j > 4) {
			return true
		}
		i = j
	}
	return false
}
