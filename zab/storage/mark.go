package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"

	"github.com/paddockio/paddock/zab"
)

// A mark says how far the log was safe when it was written: everything up to
// zxid, whose entry ends at offset of log.<log>. It is written after the
// fdatasync that it tells of, so that whatever of it survives a crash is true.
//
// It holds for the history of one current epoch: if another server has worked
// on the directory as a follower since, it may have cut the log rightly.
type mark struct {
	seq    uint64
	log    zab.Zxid // the name of the log
	offset int64
	zxid   zab.Zxid
	epoch  zab.Epoch // currentEpoch at that time
}

const (
	markMagic = 0x50444b4d41524b31 // "PDKMARK1"
	markSize  = 48
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (m *mark) append(b []byte) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint64(b, markMagic)
	b = binary.BigEndian.AppendUint64(b, m.seq)
	b = binary.BigEndian.AppendUint64(b, uint64(m.log))
	b = binary.BigEndian.AppendUint64(b, uint64(m.offset))
	b = binary.BigEndian.AppendUint64(b, uint64(m.zxid))
	b = binary.BigEndian.AppendUint32(b, uint32(m.epoch))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

func decodeMark(b []byte) (m mark, ok bool) {
	if len(b) < markSize || binary.BigEndian.Uint64(b) != markMagic ||
		crc32.Checksum(b[:44], castagnoli) != binary.BigEndian.Uint32(b[44:]) {
		return mark{}, false
	}
	return mark{
		seq:    binary.BigEndian.Uint64(b[8:]),
		log:    zab.Zxid(binary.BigEndian.Uint64(b[16:])),
		offset: int64(binary.BigEndian.Uint64(b[24:])),
		zxid:   zab.Zxid(binary.BigEndian.Uint64(b[32:])),
		epoch:  zab.Epoch(binary.BigEndian.Uint32(b[40:])),
	}, true
}

// readMark returns the newer of the two marks in the file; ok is false if there
// is none.
func readMark(fsys FS, name string) (m mark, ok bool, err error) {
	f, err := fsys.Open(name)
	if isMissing(err) {
		return mark{}, false, nil
	}
	if err != nil {
		return mark{}, false, err
	}
	defer f.Close()
	b := make([]byte, sector+markSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return mark{}, false, fmt.Errorf("%s: %w", name, err)
	}
	b = b[:n]
	m, ok = decodeMark(b)
	if n > sector {
		if m2, ok2 := decodeMark(b[sector:]); ok2 && (!ok || m2.seq > m.seq) {
			m, ok = m2, true
		}
	}
	return m, ok, nil
}

// markFile writes marks, in turn to two sectors so that a torn write leaves the
// older one.
type markFile struct {
	f   File
	cur mark // as last written, or as found; seq 0 if there was none
	buf []byte
}

func openMarkFile(fsys FS, dir string) (*markFile, error) {
	name := filepath.Join(dir, markName)
	m, _, err := readMark(fsys, name)
	if err != nil {
		return nil, err
	}
	f, err := fsys.OpenWrite(name)
	if isMissing(err) {
		if f, err = fsys.Create(name); err == nil {
			_, werr := f.WriteAt(make([]byte, 2*sector), 0)
			if err = errors.Join(werr, f.Sync(), fsys.SyncDir(dir)); err != nil {
				f.Close()
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return &markFile{f: f, cur: m}, nil
}

// set writes the mark; sync makes it safe.
func (m *markFile) set(log zab.Zxid, offset int64, zxid zab.Zxid, epoch zab.Epoch) error {
	m.cur = mark{m.cur.seq + 1, log, offset, zxid, epoch}
	m.buf = m.cur.append(m.buf[:0])
	_, err := m.f.WriteAt(m.buf, int64(m.cur.seq%2)*sector)
	return err
}
