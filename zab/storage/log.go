package storage

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/paddockio/paddock/zab"
)

const (
	// firstPrealloc is how much of a new log is filled with zeros before its first
	// entry: a few milliseconds of work.
	firstPrealloc = 1 << 20
	// growChunk is how much is filled with zeros at once behind that. A sync of the
	// log may have to wait for one chunk, and for the file system's commit, which there
	// is one of for each chunk.
	growChunk = 1 << 20
)

// zeros is what the log is filled with.
var zeros = alignedBytes(growChunk)[:growChunk]

// logWriter is the log that is being written.
type logWriter struct {
	f     File
	first zab.Zxid // its name
	off   int64    // behind the last entry that is safe
	grow  *grower
}

// Append adds a serialized transaction to the batch that the next Sync writes.
// It copies payload, does no I/O and allocates nothing once the buffer has
// grown. The zxid must follow the last one (rule R5) and be the payload's.
//
// Append, Sync, Roll, Truncate, Install and Forget belong to one goroutine.
func (s *Store) Append(payload []byte, zxid zab.Zxid) error {
	if err := s.failed(); err != nil {
		return err
	}
	if len(payload) < txnMin || len(payload) > maxRecord || payloadZxid(payload) != zxid {
		return fmt.Errorf("append %v: %d bytes are not this transaction", zxid, len(payload))
	}
	if !zxid.Follows(s.lastAppended) {
		return fmt.Errorf("append %v: does not follow %v", zxid, s.lastAppended)
	}
	if s.batchTxns == 0 {
		s.batchFirst = zxid
	}
	s.batch = appendEntry(withRoom(s.batch, len(payload)+entryExtra+block), payload)
	s.batchTxns++
	s.lastAppended = zxid
	return nil
}

// Sync makes everything appended safe: one write, and one fdatasync if that is not
// part of the write; more only for the first batch of a new log. An error is final: whether the batch is on
// disk is unknown, nothing of it may be acknowledged, and the store refuses all
// further work (rule R2).
func (s *Store) Sync() error {
	if err := s.failed(); err != nil {
		return err
	}
	if s.batchTxns == 0 {
		return nil
	}
	start := time.Now()
	if s.log == nil {
		if err := s.createLog(s.batchFirst); err != nil {
			return s.fail(fmt.Errorf("create %s: %w", logName(s.batchFirst), err))
		}
	}
	l := s.log
	at := l.off - l.off%block
	end := at + int64(len(s.batch))
	blocks := s.batchBlocks()
	l.grow.reserve(at + int64(len(blocks)))
	if _, err := l.f.WriteAt(blocks, at); err != nil {
		return s.fail(fmt.Errorf("write %s: %w", logName(l.first), err))
	}
	if !s.cfg.NoForceSync {
		if err := l.f.Datasync(); err != nil {
			return s.fail(fmt.Errorf("sync %s: %w", logName(l.first), err))
		}
	}
	// The keeper syncs the same file: an error that it saw is ours too.
	if err := s.failed(); err != nil {
		return err
	}
	l.off = end
	s.rollTxns += s.batchTxns
	s.emptyBatch(s.batch[len(s.batch)-int(end%block):])
	s.synced.Store(int64(s.lastAppended))
	s.logEnd.Store(end)
	if err := s.writeMark(); err != nil {
		return err
	}
	if took := time.Since(start); took > s.cfg.SlowSync {
		s.logger.Warn("slow sync of the transaction log", "file", logName(l.first), "took", took)
	}
	s.keep()
	return nil
}

// block is the unit of the log's writes, which go past the page cache if they can
// (see openDirect): a multiple of what disks and file systems ask for then.
const block = 4096

// batchBlocks returns the batch as whole blocks, the last one filled up with
// zeros, as they lie there already. Without pre-allocation nothing is filled up.
func (s *Store) batchBlocks() []byte {
	n := len(s.batch)
	if s.cfg.PreallocBytes <= 0 {
		return s.batch
	}
	padded := s.batch[:wholeBlocks(int64(n))]
	clear(padded[n:])
	return padded
}

// emptyBatch begins a new batch with what the block at the end of the log holds
// already.
func (s *Store) emptyBatch(begun []byte) {
	if cap(s.batch) > maxIdleBatch {
		s.batch = nil
	}
	s.batch = append(withRoom(s.batch[:0], block), begun...)
	s.batchTxns = 0
}

// maxIdleBatch bounds the buffer that is kept after an unusually large batch.
const maxIdleBatch = 4 << 20

// withRoom returns b with a capacity for n more bytes. Its memory begins where a
// block could.
func withRoom(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(alignedBytes(max(2*cap(b), len(b)+n)), b...)
}

// wholeBlocks returns how many bytes the blocks have that hold n bytes.
func wholeBlocks(n int64) int64 { return (n + block - 1) &^ (block - 1) }

// alignedBytes allocates memory that direct writes accept.
func alignedBytes(size int) []byte {
	b := make([]byte, size+block)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (block - 1)
	return b[skip : skip : skip+size]
}

// LastAppended returns the zxid of the last Append, or after Recover that of the
// history. It is not safe before the next Sync. Only the goroutine of Append may
// call it.
func (s *Store) LastAppended() zab.Zxid { return s.lastAppended }

// LastSynced returns the last zxid that is safe on disk.
func (s *Store) LastSynced() zab.Zxid { return zab.Zxid(s.synced.Load()) }

// createLog makes the log that begins with zxid: header and zeros, both safe
// before the first entry, so that recovery can tell a place that was never
// written from one that lost its bytes.
func (s *Store) createLog(zxid zab.Zxid) (err error) {
	if err := s.lock.held(); err != nil {
		return err
	}
	name := filepath.Join(s.logDir, logName(zxid))
	f, err := s.fs.Create(name)
	if err != nil {
		return err
	}
	size := int64(headerSize)
	if s.cfg.PreallocBytes > 0 {
		size = min(firstPrealloc, s.cfg.PreallocBytes)
		size = max(wholeBlocks(size), int64(len(s.batchBlocks())))
	}
	for at := int64(headerSize); at < size && err == nil; at += growChunk {
		_, err = f.WriteAt(zeros[:min(growChunk, size-at)], at)
	}
	if err == nil {
		_, err = f.WriteAt(logHeader, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.fs.SyncDir(s.logDir)
	}
	g := &grower{max: s.cfg.PreallocBytes}
	g.end.Store(size)
	if err == nil && g.max > 0 {
		if g.f = s.openDirect(name, true); g.f == nil {
			g.f, err = s.fs.OpenWrite(name)
		} else if direct := s.openDirect(name, true); direct != nil {
			err = f.Close()
			f = direct
		}
	}
	if err != nil {
		return errors.Join(err, g.close(), f.Close())
	}
	s.mu.Lock()
	s.log = &logWriter{f: f, first: zxid, off: headerSize, grow: g}
	s.mu.Unlock()
	s.logEnd.Store(headerSize)
	// A mark of this log lets recovery tell an unfinished batch from damage.
	if err := s.syncMark(); err != nil {
		return err
	}
	s.logger.Debug("new transaction log", "file", name)
	return nil
}

// logHeader is what every log begins with.
var logHeader = appendHeader(nil, logMagic, 0)

// Roll ends the current log; the next Sync begins a new one. It syncs first, so
// that only the newest log can ever have an unfinished end.
func (s *Store) Roll() error {
	if err := s.Sync(); err != nil {
		return err
	}
	return s.closeLog()
}

// closeLog ends the current log, if there is one; what was appended and not synced
// is forgotten.
func (s *Store) closeLog() error {
	s.emptyBatch(logHeader)
	s.rollTxns = 0
	s.drawThresholds()
	l := s.log
	if l == nil {
		return nil
	}
	s.mu.Lock()
	s.log = nil
	s.mu.Unlock()
	gerr := l.grow.close()
	// The zeros have done their work: nothing will be written here any more.
	terr := l.f.Truncate(l.off)
	serr := l.f.Sync()
	if err := errors.Join(gerr, terr, serr, l.f.Close()); err != nil {
		return s.fail(fmt.Errorf("close %s: %w", logName(l.first), err))
	}
	return nil
}

// maxSnapFactor is how many times SnapCount may pass before a snapshot that is
// large beside its log.
const maxSnapFactor = 10

// ShouldSnapshot reports whether enough has been logged since the last Roll. The
// threshold is random between half of and the whole configured one, so that the
// servers of an ensemble do not all write snapshots at once (class
// SyncRequestProcessor).
func (s *Store) ShouldSnapshot() bool {
	size := int64(0)
	if s.log != nil {
		size = s.log.off
	}
	switch {
	case size > s.rollAtBytes || s.rollTxns > maxSnapFactor*s.rollAtTxns:
		return true
	case s.rollTxns <= s.rollAtTxns:
		return false
	}
	return size > s.snapBytes.Load()
}

func (s *Store) drawThresholds() {
	half := func(n int64) int64 { return n/2 + s.cfg.Rand(max(1, n/2)) }
	s.rollAtTxns, s.rollAtBytes = half(s.cfg.SnapCount), half(s.cfg.SnapSizeBytes)
}

// writeMark notes how far the log is safe. The note itself becomes safe a little
// later (keeper), or with the page cache if only the process dies.
func (s *Store) writeMark() error {
	if s.mark == nil {
		return nil
	}
	s.markMu.Lock()
	defer s.markMu.Unlock()
	s.mu.Lock()
	m := s.mark.cur
	if s.log != nil {
		m.log, m.offset, m.zxid = s.log.first, s.logEnd.Load(), s.LastSynced()
	}
	m.epoch = s.markEpoch
	s.mu.Unlock()
	if err := s.mark.set(m.log, m.offset, m.zxid, m.epoch); err != nil {
		return s.fail(fmt.Errorf("write %s: %w", markName, err))
	}
	return nil
}

// syncMark writes the mark and waits until it is safe.
func (s *Store) syncMark() error {
	if err := s.writeMark(); err != nil || s.mark == nil {
		return err
	}
	if err := s.mark.f.Datasync(); err != nil {
		return s.fail(fmt.Errorf("sync %s: %w", markName, err))
	}
	return nil
}

// keep has the keeper do what nobody needs to wait for, if there is any: make the
// mark safe some time after it was noted, and fill the log with zeros ahead of its
// entries.
func (s *Store) keep() {
	noted := s.mark != nil && !s.markDue.Swap(true)
	if s.cfg.Foreground {
		if now := s.cfg.Now(); s.mark != nil && now.Sub(s.markSynced) >= s.cfg.MarkInterval {
			s.markSynced = now
			s.keepMark()
		}
		s.keepLog()
		return
	}
	if noted || s.log.grow.wants(s.log.off) {
		select {
		case s.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// keeper works until wake is closed.
func (s *Store) keeper() {
	interval := time.NewTimer(s.cfg.MarkInterval)
	interval.Stop()
	defer interval.Stop()
	noted := false
	for {
		select {
		case _, more := <-s.wake:
			if !more {
				return
			}
			if s.markDue.Load() && !noted {
				noted = true
				interval.Reset(s.cfg.MarkInterval)
			}
			s.keepLog()
		case <-interval.C:
			noted = false
			s.keepMark()
		}
	}
}

// keepMark makes the mark safe and looks after the directory.
func (s *Store) keepMark() {
	s.markDue.Store(false) // what is noted from now on comes next time
	if err := s.mark.f.Datasync(); err != nil {
		s.fail(fmt.Errorf("sync %s: %w", markName, err))
	}
	if err := s.lock.held(); err != nil {
		s.fail(err)
	}
}

func (s *Store) keepLog() {
	s.mu.Lock()
	var g *grower
	if s.log != nil {
		g = s.log.grow
	}
	s.mu.Unlock()
	if g != nil {
		if err := g.run(&s.logEnd); err != nil {
			s.fail(fmt.Errorf("pre-allocate: %w", err))
		}
	}
}

// grower fills a log with zeros ahead of its entries. It writes at or behind
// end, the log's entries go before it, so the two never meet. It has its own
// file descriptor: the kernel reports a failed write-back once to each, and the
// error must not be swallowed here.
type grower struct {
	max  int64
	end  atomic.Int64 // entries may be written up to here without a lock; where a block ends
	busy atomic.Bool

	mu sync.Mutex // guards f and writes of zeros
	f  File
}

// ahead is how many zeros should lie in front: as much as has been written, so
// that a quiet server keeps a small file.
func (g *grower) ahead(off int64) int64 { return min(g.max, max(firstPrealloc, off)) }

func (g *grower) wants(off int64) bool {
	return g.max > 0 && g.end.Load()-off < g.ahead(off)/2 && !g.busy.Load()
}

// reserve lets entries be written up to end.
func (g *grower) reserve(end int64) {
	if end <= g.end.Load() {
		return
	}
	g.mu.Lock()
	g.end.Store(max(end, g.end.Load()))
	g.mu.Unlock()
}

// run fills in chunks until enough lies in front. Lack of space only stops it:
// the log's own writes will find that out.
func (g *grower) run(off *atomic.Int64) error {
	g.busy.Store(true)
	defer g.busy.Store(false)
	for {
		g.mu.Lock()
		end := g.end.Load()
		if o := off.Load(); g.f == nil || end-o >= g.ahead(o) {
			g.mu.Unlock()
			return nil
		}
		f := g.f
		chunk := min(growChunk, wholeBlocks(g.max))
		_, werr := f.WriteAt(zeros[:chunk], end)
		if werr == nil {
			g.end.Store(end + chunk)
		}
		g.mu.Unlock()
		if werr != nil {
			return nil
		}
		g.mu.Lock()
		var err error
		if g.f != nil {
			err = g.f.Datasync()
		}
		g.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (g *grower) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.f == nil {
		return nil
	}
	f := g.f
	g.f = nil
	return f.Close()
}
