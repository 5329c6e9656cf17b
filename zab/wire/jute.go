package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"
)

// MaxBuffer is ZooKeeper's default jute.maxbuffer: the largest payload of one
// frame from a client, in bytes.
const MaxBuffer = 0xfffff

// ErrTruncated says that a record ends before its last field.
var ErrTruncated = errors.New("record is truncated")

// A Record is one jute record. Append adds its encoding to b and returns the
// longer slice; Decode reads the fields in order and leaves the first fault in
// d.Err.
type Record interface {
	Append(b []byte) []byte
	Decode(d *Decoder)
}

// AppendBool appends a boolean: one byte.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendInt appends a 32-bit big-endian int.
func AppendInt(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }

// AppendLong appends a 64-bit big-endian long.
func AppendLong(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }

// AppendBuffer appends a length and the bytes; nil is length -1, which is not
// the same as empty.
func AppendBuffer(b, v []byte) []byte {
	if v == nil {
		return AppendInt(b, -1)
	}
	return append(AppendInt(b, int32(len(v))), v...)
}

// AppendString appends a length and the bytes of s as they are.
func AppendString(b []byte, s string) []byte {
	return append(AppendInt(b, int32(len(s))), s...)
}

// appendNullString writes "" as Java's null string.
func appendNullString(b []byte, s string) []byte {
	if s == "" {
		return AppendInt(b, -1)
	}
	return AppendString(b, s)
}

// AppendStrings appends a vector of strings; nil is written as an empty one.
func AppendStrings(b []byte, v []string) []byte {
	b = AppendInt(b, int32(len(v)))
	for _, s := range v {
		b = AppendString(b, s)
	}
	return b
}

// A Decoder reads jute fields from a byte slice. The first fault sticks: every
// later read returns the zero value, so that a record is decoded without a check
// at each field and Err is asked once at the end. Nothing is allocated from a
// length that the remaining bytes cannot hold.
type Decoder struct {
	buf    []byte
	off    int
	err    error
	unsafe bool
}

// NewDecoder returns a decoder of b. Strings are copied, buffers alias b.
func NewDecoder(b []byte) Decoder { return Decoder{buf: b} }

// NewAliasDecoder is like NewDecoder, but strings alias b too: the caller keeps
// b unchanged for as long as any decoded value is in use.
func NewAliasDecoder(b []byte) Decoder { return Decoder{buf: b, unsafe: true} }

// Err returns the first fault, or nil.
func (d *Decoder) Err() error { return d.err }

// Len returns the number of bytes not read yet.
func (d *Decoder) Len() int { return len(d.buf) - d.off }

// Offset returns the number of bytes read.
func (d *Decoder) Offset() int { return d.off }

// Rest returns the bytes not read yet; they alias the input.
func (d *Decoder) Rest() []byte { return d.buf[d.off:] }

// Fail records err unless an earlier fault is recorded.
func (d *Decoder) Fail(err error) {
	if d.err == nil {
		d.err = err
		d.off = len(d.buf)
	}
}

func (d *Decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n > len(d.buf)-d.off {
		d.Fail(fmt.Errorf("at byte %d: need %d bytes, have %d: %w", d.off, n, d.Len(), ErrTruncated))
		return nil
	}
	v := d.buf[d.off : d.off+n : d.off+n]
	d.off += n
	return v
}

// Byte reads one byte.
func (d *Decoder) Byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

// Bool reads a boolean; any byte but 0 is true.
func (d *Decoder) Bool() bool { return d.Byte() != 0 }

// Int reads a 32-bit int.
func (d *Decoder) Int() int32 {
	if v := d.take(4); v != nil {
		return int32(binary.BigEndian.Uint32(v))
	}
	return 0
}

// Long reads a 64-bit long.
func (d *Decoder) Long() int64 {
	if v := d.take(8); v != nil {
		return int64(binary.BigEndian.Uint64(v))
	}
	return 0
}

// Buffer reads a buffer, which aliases the input. Null is nil, empty is not.
func (d *Decoder) Buffer() []byte {
	n := d.Int()
	switch {
	case d.err != nil || n == -1:
		return nil
	case n < 0:
		d.Fail(fmt.Errorf("at byte %d: unreasonable length %d", d.off-4, n))
		return nil
	case n == 0:
		return []byte{}
	}
	return d.take(int(n))
}

// String reads a string. Null reads as "" and ok false.
func (d *Decoder) nullString() (s string, ok bool) {
	b := d.Buffer()
	if b == nil {
		return "", false
	}
	if d.unsafe {
		return unsafe.String(unsafe.SliceData(b), len(b)), true
	}
	return string(b), true
}

// String reads a string and refuses null.
func (d *Decoder) String() string {
	s, ok := d.nullString()
	if !ok {
		d.Fail(fmt.Errorf("at byte %d: null string", d.off-4))
	}
	return s
}

// NullString reads a string that may be null, which reads as "".
func (d *Decoder) NullString() string {
	s, _ := d.nullString()
	return s
}

// Count reads the length of a vector whose elements take at least size bytes
// each, so that the result can safely size an allocation. Null (-1) and every
// other negative count read as 0 with null true only for -1.
func (d *Decoder) Count(size int) (n int, null bool) {
	c := d.Int()
	if c < 0 {
		return 0, c == -1
	}
	if int(c) > d.Len()/size {
		d.Fail(fmt.Errorf("at byte %d: vector of %d elements in %d bytes: %w", d.off-4, c, d.Len(), ErrTruncated))
		return 0, false
	}
	return int(c), false
}

// Strings reads a vector of strings; null is refused.
func (d *Decoder) Strings() []string {
	n, null := d.Count(4)
	if null {
		d.Fail(fmt.Errorf("at byte %d: null vector", d.off-4))
	}
	if d.err != nil || n == 0 {
		return nil
	}
	v := make([]string, n)
	for i := range v {
		v[i] = d.String()
	}
	return v
}

// Unmarshal decodes one record from the start of b and ignores what follows it,
// as ZooKeeper does. Strings are copied, buffers alias b.
func Unmarshal(b []byte, r Record) error {
	d := NewDecoder(b)
	r.Decode(&d)
	return d.err
}
