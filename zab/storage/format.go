package storage

import (
	"encoding/binary"
	"hash/adler32"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab"
)

// The numbers of the files; FORMAT.md draws them.
const (
	logMagic   = 0x5a4b4c47 // "ZKLG"
	snapMagic  = 0x5a4b534e // "ZKSN"
	version    = 2
	headerSize = 16

	entryHeader = 12  // checksum, length
	entryEnd    = 'B' // behind the bytes of an entry
	entryExtra  = entryHeader + 1
	txnMin      = 32 // a TxnHeader

	// maxRecord is the longest entry or znode that is believed. Apache's limit is
	// jute.maxbuffer, which operators raise.
	maxRecord = 256 << 20
)

// sector is the unit that a disk writes wholly or not at all.
const sector = 512

// versionDir is the directory in the data and the log directory that holds the
// files, named after the version of their format.
const versionDir = "version-2"

// The side files that Apache does not know. No name may begin as one of
// Apache's does, or it would take the file for its own.
const (
	lockName = "paddock.lock"    // in the data and the log directory: flock and pid
	idName   = "paddock.id"      // in the data directory: whose it is
	markName = "paddock.mark"    // in version-2 of the log directory
	noteName = "paddock.install" // in version-2 of the data directory: see Install
	tempName = "paddock.tmp."    // begins names of unfinished files
)

func appendHeader(b []byte, magic uint32, dbid int64) []byte {
	b = binary.BigEndian.AppendUint32(b, magic)
	b = binary.BigEndian.AppendUint32(b, version)
	return binary.BigEndian.AppendUint64(b, uint64(dbid))
}

// appendEntry appends a log entry that holds a serialized transaction.
func appendEntry(b, payload []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(adler32.Checksum(payload)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	return append(b, entryEnd)
}

// payloadZxid returns the zxid in a serialized transaction.
func payloadZxid(payload []byte) zab.Zxid {
	return zab.Zxid(binary.BigEndian.Uint64(payload[12:]))
}

// A Compression says how the bytes of a snapshot file are packed.
type Compression string

// The forms that Apache reads and writes; this package writes the first two.
const (
	Plain  Compression = ""
	Gzip   Compression = "gz"
	Snappy Compression = "snappy" // in the blocks of xerial's snappy-java
)

func logName(z zab.Zxid) string { return "log." + strconv.FormatUint(uint64(z), 16) }

func snapName(z zab.Zxid, c Compression) string {
	name := "snapshot." + strconv.FormatUint(uint64(z), 16)
	if c != Plain {
		name += "." + string(c)
	}
	return name
}

// parseLogName returns the zxid in the name of a log.
func parseLogName(name string) (zab.Zxid, bool) {
	rest, ok := strings.CutPrefix(filepath.Base(name), "log.")
	if !ok {
		return 0, false
	}
	z, err := strconv.ParseUint(rest, 16, 64)
	return zab.Zxid(z), err == nil
}

// parseSnapName returns the zxid and the form in the name of a snapshot.
func parseSnapName(name string) (z zab.Zxid, c Compression, ok bool) {
	rest, ok := strings.CutPrefix(filepath.Base(name), "snapshot.")
	if !ok {
		return 0, Plain, false
	}
	rest, ext, _ := strings.Cut(rest, ".")
	switch c = Compression(ext); c {
	case Plain, Gzip, Snappy:
	default:
		return 0, Plain, false
	}
	n, err := strconv.ParseUint(rest, 16, 64)
	return zab.Zxid(n), c, err == nil
}

// allZero reports whether b holds zero bytes only.
func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.NativeEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
