package storage

import (
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// Recovery tells how the state was rebuilt.
type Recovery struct {
	Snapshot     string // the file; "" if there was none
	SnapshotZxid zab.Zxid
	Skipped      []string // newer snapshots that could not be read
	Logs         int      // logs that were read
	Replayed     int      // transactions
	LastZxid     zab.Zxid

	// DroppedBytes is the length of the unfinished write that was cut off the
	// newest log, DroppedFrom its file.
	DroppedBytes int64
	DroppedFrom  string

	// Lost is set if the directory was empty although db.autocreate is off, or if
	// Forget emptied it: the server has forgotten what it acknowledged, perhaps its
	// promises too, and must not vote before it is synced (rule R14).
	Lost bool

	// DigestMismatch is the first transaction from which on the tree's digest was
	// not that of the transactions, up to the last one; 0 if there is none.
	DigestMismatch zab.Zxid

	Took time.Duration
}

// Recovery returns how the last Recover went.
func (s *Store) Recovery() Recovery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recovery
}

// files are the logs and snapshots in order of their zxids.
type files struct {
	logs  []logFile
	snaps []snapFile
}

// between returns the label of a snapshot that proves that entries are missing
// between two which follow each other by their zxids: the first of an epoch
// follows everything before. An installed snapshot leaves such a gap. The label
// of a leader that had begun its epoch and proposed nothing is no transaction.
func (fl *files) between(last, next zab.Zxid) (zab.Zxid, bool) {
	if last.Epoch() == next.Epoch() {
		return 0, false
	}
	for _, sn := range fl.snaps {
		if last < sn.zxid && sn.zxid < next && sn.zxid.Counter() != 0 {
			return sn.zxid, true
		}
	}
	return 0, false
}

type logFile struct {
	name string
	zxid zab.Zxid // in the name
	size int64
}

type snapFile struct {
	name string
	zxid zab.Zxid
	size int64
}

// restorer is one run of Recover. It only reads until repair.
type restorer struct {
	s *Store
	// limit, unless 0, leaves out all that is later: see Truncate.
	limit zab.Zxid

	files files
	mark  mark // zero if there is none or it does not hold
	rec   Recovery

	tree *znode.Tree
	res  znode.Result
	dec  TxnDecoder
	last zab.Zxid
	seen [1024]entryID // the last entries, by counter: see duplicate

	cut     *tail  // to be cut off the newest log
	cutFile string // its name
	remove  []string
	logEnd  int64 // of the newest log with entries
}

type entryID struct {
	zxid zab.Zxid
	sum  uint32
	size int
}

// Recover rebuilds the tree from the newest snapshot that can be read and the
// logs behind it. An unfinished write at the end of the newest log is cut off;
// everything else that is not as it was written is a *DamageError, and the files
// are left as they are (reliability: the table of storage faults). A new
// directory gets an empty snapshot.
//
// Call it once after Open, and again to throw the memory away and go back to
// what is on disk; appended but not synced transactions are then forgotten.
func (s *Store) Recover() (*znode.Tree, error) {
	if err := s.failed(); err != nil {
		return nil, err
	}
	s.filesMu.Lock()
	defer s.filesMu.Unlock()
	if err := s.closeLog(); err != nil {
		return nil, err
	}
	// What the process before has renamed may be nowhere but in memory.
	if err := s.syncNames(); err != nil {
		return nil, err
	}
	if lost, err := s.isLost(); err != nil {
		return nil, err
	} else if lost {
		return s.recoverLost()
	}
	if err := s.finishInstall(); err != nil {
		return nil, err
	}
	return s.recover()
}

func (s *Store) syncNames() error {
	for _, dir := range slices.Compact([]string{s.snapDir, s.logDir}) {
		if err := s.fs.SyncDir(dir); err != nil {
			return s.fail(err)
		}
	}
	return nil
}

func (s *Store) recover() (*znode.Tree, error) {
	start := time.Now()
	r := &restorer{s: s}
	if err := r.read(); err != nil {
		return nil, err
	}
	if err := r.repair(); err != nil {
		return nil, err
	}
	if err := s.adopt(r); err != nil {
		return nil, err
	}
	r.rec.Took = time.Since(start)
	s.mu.Lock()
	s.recovery = r.rec
	s.mu.Unlock()
	s.logger.Info("state recovered", "snapshot", r.rec.Snapshot, "zxid", r.last,
		"replayed", r.rec.Replayed, "znodes", r.tree.NodeCount(), "took", r.rec.Took)
	return r.tree, nil
}

// listFiles finds the logs and snapshots.
func (s *Store) listFiles() (files, error) {
	var fl files
	list, err := s.fs.List(s.snapDir)
	if err != nil {
		return fl, err
	}
	logs := list
	separate := s.logDir != s.snapDir
	if separate {
		if logs, err = s.fs.List(s.logDir); err != nil {
			return fl, err
		}
	}
	for _, fi := range list {
		if z, _, ok := parseSnapName(fi.Name); ok && !fi.Dir {
			fl.snaps = append(fl.snaps, snapFile{fi.Name, z, fi.Size})
		}
		if _, ok := parseLogName(fi.Name); ok && separate {
			return fl, fmt.Errorf("%s: a transaction log in the snapshot directory, but logs belong in %s",
				filepath.Join(s.snapDir, fi.Name), s.logDir)
		}
	}
	for _, fi := range logs {
		if z, ok := parseLogName(fi.Name); ok && !fi.Dir {
			fl.logs = append(fl.logs, logFile{fi.Name, z, fi.Size})
		}
		if strings.HasPrefix(fi.Name, "snapshot.") && separate {
			return fl, fmt.Errorf("%s: a snapshot in the log directory, but snapshots belong in %s",
				filepath.Join(s.logDir, fi.Name), s.snapDir)
		}
	}
	sortFiles(&fl)
	return fl, nil
}

const (
	hintCopy = "set the directory aside and start empty to copy the state from the ensemble, or restore a backup"
	hintCut  = "to give up what follows, stop here with `paddock data verify -cut`; in an ensemble " + hintCopy + " instead"
)

func (r *restorer) read() error {
	s := r.s
	var err error
	if r.files, err = s.listFiles(); err != nil {
		return err
	}
	if err := r.readEpochs(); err != nil {
		return err
	}
	if s.mark != nil && s.mark.cur.epoch == s.markEpoch {
		r.mark = s.mark.cur
	}
	if err := r.dropEmptyLogs(); err != nil {
		return err
	}
	if err := r.loadSnapshot(); err != nil {
		return err
	}
	if err := r.replay(); err != nil {
		return err
	}
	return r.check()
}

// dropEmptyLogs leaves out newest logs without an entry: their writer died
// while it made them.
func (r *restorer) dropEmptyLogs() error {
	for n := len(r.files.logs); n > 0; n-- {
		l := r.files.logs[n-1]
		empty, err := r.isEmptyLog(l)
		if err != nil || !empty {
			return err
		}
		r.remove = append(r.remove, l.name)
		r.files.logs = r.files.logs[:n-1]
	}
	return nil
}

func (r *restorer) isEmptyLog(l logFile) (bool, error) {
	path := filepath.Join(r.s.logDir, l.name)
	f, err := r.s.fs.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	rd, err := newLogReader(f, l.size)
	switch {
	case err == io.EOF:
	case err == nil:
		if _, _, err := rd.next(); err != io.EOF {
			return false, nil // an entry, or damage that replay describes
		}
	default:
		return false, nil
	}
	end, err := lastNonZero(f, headerSize, l.size)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return end == headerSize, nil
}

// loadSnapshot builds the tree from the newest snapshot that can be read.
func (r *restorer) loadSnapshot() error {
	s := r.s
	for i := len(r.files.snaps) - 1; i >= 0; i-- {
		sn := r.files.snaps[i]
		if r.limit != 0 && sn.zxid > r.limit {
			continue
		}
		b := znode.NewBuilder(s.cfg.Znode)
		_, err := loadSnapshot(s.fs, filepath.Join(s.snapDir, sn.name), b)
		if err == nil {
			r.tree, err = b.Finish(sn.zxid)
		}
		if err == nil {
			r.rec.Snapshot, r.rec.SnapshotZxid, r.last = sn.name, sn.zxid, sn.zxid
			s.snapBytes.Store(sn.size)
			return nil
		}
		s.logger.Warn("snapshot cannot be used", "file", sn.name, "err", err)
		r.rec.Skipped = append(r.rec.Skipped, sn.name)
		if i == 0 && !r.completeLogs() {
			return &DamageError{File: filepath.Join(s.snapDir, sn.name), Offset: -1, Reason: "no snapshot can be read", Hint: hintCopy, Err: err}
		}
	}
	if len(r.files.logs) > 0 && !r.completeLogs() {
		return &DamageError{File: s.snapDir, Offset: -1,
			Reason: fmt.Sprintf("there are logs from %s on, but all snapshots are missing", r.files.logs[0].name), Hint: hintCopy}
	}
	r.tree = znode.New(s.cfg.Znode)
	return nil
}

// completeLogs reports whether the logs begin with the first transaction ever.
func (r *restorer) completeLogs() bool {
	if len(r.files.logs) == 0 {
		return false
	}
	z := r.files.logs[0].zxid
	return z == 1 || z == zab.NewZxid(1, 1)
}

// replay applies the logs behind the snapshot.
func (r *restorer) replay() error {
	logs := r.files.logs
	first := 0
	for i, l := range logs {
		if l.zxid <= r.last+1 {
			first = i // may hold what follows the snapshot
		}
	}
	for i := first; i < len(logs); i++ {
		if err := r.replayLog(logs[i], i == len(logs)-1); err != nil {
			return err
		}
		r.rec.Logs++
	}
	return nil
}

func (r *restorer) replayLog(l logFile, newest bool) error {
	path := filepath.Join(r.s.logDir, l.name)
	f, err := r.s.fs.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	rd, err := newLogReader(f, l.size)
	var bad *badEntry
	if errors.As(err, &bad) || err == io.EOF {
		reason := "the log has no header"
		if bad != nil {
			reason = bad.reason
		}
		return &DamageError{File: path, Offset: 0, Last: r.last, Reason: reason, Hint: hintCopy}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for {
		payload, off, err := rd.next()
		if err == nil {
			if err := r.entry(payload); err != nil {
				return &DamageError{File: path, Offset: off, Last: r.last, Reason: "entry " + payloadZxid(payload).String(), Hint: hintCut, Err: err}
			}
			continue
		}
		if err != io.EOF && !errors.As(err, &bad) {
			return fmt.Errorf("%s: %w", path, err)
		}
		if newest {
			r.logEnd = off
		}
		return r.endOfLog(l, f, off, bad, newest)
	}
}

// entry applies one transaction, unless the snapshot has it.
func (r *restorer) entry(payload []byte) error {
	z := payloadZxid(payload)
	if z <= r.rec.SnapshotZxid || r.limit != 0 && z > r.limit {
		return nil
	}
	if !z.Follows(r.last) {
		if r.duplicate(z, payload) {
			return nil
		}
		return fmt.Errorf("does not follow %v", r.last)
	}
	if s, ok := r.files.between(r.last, z); ok {
		return fmt.Errorf("does not follow %v directly: %v, of which there is a snapshot, came between", r.last, s)
	}
	txn, err := r.dec.Decode(payload)
	if err != nil {
		return err
	}
	r.tree.Apply(txn, &r.res)
	if r.res.DigestMismatch {
		if r.rec.DigestMismatch == 0 {
			r.rec.DigestMismatch = z
		}
	} else if txn.Digest.Version == wire.DigestVersion {
		r.rec.DigestMismatch = 0
	}
	r.last = z
	r.rec.Replayed++
	r.remember(z, payload)
	return nil
}

func (r *restorer) remember(z zab.Zxid, payload []byte) {
	r.seen[uint(z)%uint(len(r.seen))] = entryID{z, adler32.Checksum(payload), len(payload)}
}

// duplicate reports whether an entry repeats one of the last ones: Apache's
// learners write a proposal again that they get twice.
func (r *restorer) duplicate(z zab.Zxid, payload []byte) bool {
	return r.seen[uint(z)%uint(len(r.seen))] == entryID{z, adler32.Checksum(payload), len(payload)}
}

// endOfLog judges what lies behind the last good entry, which ends at off.
func (r *restorer) endOfLog(l logFile, f File, off int64, bad *badEntry, newest bool) error {
	path := filepath.Join(r.s.logDir, l.name)
	t, err := examineTail(f, l.size, off, r.last, bad)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if t.end == t.off {
		return nil
	}
	marked := r.mark.seq != 0 && r.mark.log == l.zxid
	dmg := &DamageError{File: path, Offset: t.off, Last: r.last, Reason: t.reason, Hint: hintCut}
	switch {
	case !newest:
		dmg.Reason += "; a later log follows"
	case marked && t.off < r.mark.offset:
		dmg.Reason += fmt.Sprintf("; everything up to byte %d (zxid %v) had been synced", r.mark.offset, r.mark.zxid)
	case t.follows != 0 && !(marked && t.torn):
		dmg.Reason += fmt.Sprintf("; a whole entry follows at byte %d", t.follows)
	case !t.torn:
		dmg.Reason += "; it is not an unfinished write"
	default:
		r.cut, r.cutFile = &t, l.name
		r.rec.DroppedBytes, r.rec.DroppedFrom = t.end-t.off, l.name
		return nil
	}
	return dmg
}

// check compares the end of the history with what else is known of it.
func (r *restorer) check() error {
	s := r.s
	if n := len(r.files.snaps); n > 0 {
		if z := r.files.snaps[n-1].zxid; r.last < z {
			return &DamageError{File: filepath.Join(s.snapDir, r.files.snaps[n-1].name), Offset: -1, Last: r.last,
				Reason: fmt.Sprintf("the snapshot cannot be read, and the logs end before its zxid %v", z), Hint: hintCopy}
		}
	}
	if r.mark.seq != 0 && r.last < r.mark.zxid {
		off := int64(-1)
		if n := len(r.files.logs); n > 0 && r.files.logs[n-1].zxid == r.mark.log {
			off = r.logEnd
		}
		return &DamageError{File: filepath.Join(s.logDir, logName(r.mark.log)), Offset: off, Last: r.last,
			Reason: fmt.Sprintf("the history ends here, but %v had been synced (at byte %d of %s)", r.mark.zxid, r.mark.offset, logName(r.mark.log)),
			Hint:   hintCut}
	}
	return nil
}

// repair removes empty logs, cuts off the unfinished write, and makes safe what
// was read: the process before may have died between a write and its sync, or
// because the sync failed.
func (r *restorer) repair() error {
	s := r.s
	for _, name := range r.remove {
		if err := s.fs.Remove(filepath.Join(s.logDir, name)); err != nil {
			return s.fail(err)
		}
	}
	if len(r.remove) > 0 {
		if err := s.fs.SyncDir(s.logDir); err != nil {
			return s.fail(err)
		}
	}
	if n := len(r.files.logs); n > 0 {
		if err := r.settleLog(r.files.logs[n-1]); err != nil {
			return s.fail(fmt.Errorf("make %s safe: %w", r.files.logs[n-1].name, err))
		}
	}
	return s.settleEpochFiles()
}

// settleLog makes the newest log safe up to its last entry; the older ones were,
// before a newer one was begun. Behind the mark the entries are written again:
// after a sync that failed the system takes their pages for clean, and another
// sync alone would do nothing.
func (r *restorer) settleLog(l logFile) (err error) {
	s := r.s
	path := filepath.Join(s.logDir, l.name)
	f, err := s.fs.OpenWrite(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if r.cut != nil {
		s.logger.Warn("unfinished write cut off the newest transaction log", "file", r.cutFile,
			"bytes", r.rec.DroppedBytes, "offset", r.cut.off, "zxid", r.last, "reason", r.cut.reason)
	}
	// Also if nothing is behind the entries here: there may be on the disk.
	if err := f.Truncate(r.logEnd); err != nil {
		return err
	}
	at := int64(0)
	if r.mark.seq != 0 && r.mark.log == l.zxid {
		at = r.mark.offset
	}
	buf := make([]byte, min(growChunk, max(0, r.logEnd-at)))
	for at < r.logEnd {
		part := buf[:min(int64(len(buf)), r.logEnd-at)]
		if _, err := f.ReadAt(part, at); err != nil && err != io.EOF {
			return err
		}
		if _, err := f.WriteAt(part, at); err != nil {
			return err
		}
		at += int64(len(part))
	}
	return f.Sync()
}

// adopt makes the result of a restorer the state of the store.
func (s *Store) adopt(r *restorer) error {
	empty := len(r.files.snaps) == 0 && len(r.files.logs) == 0
	r.rec.LastZxid = r.last
	if empty {
		if err := s.startEmpty(r); err != nil {
			return err
		}
	}
	s.lastAppended = r.last
	s.synced.Store(int64(r.last))
	if r.rec.DigestMismatch != 0 {
		s.logger.Warn("the digest of the tree is not that of its transactions", "from", r.rec.DigestMismatch, "zxid", r.last)
	}
	s.settleEpochs(r, empty)
	var log zab.Zxid
	if n := len(r.files.logs); n > 0 {
		log = r.files.logs[n-1].zxid
	}
	if err := s.setMark(log, r.logEnd, r.last); err != nil {
		return s.fail(fmt.Errorf("write %s: %w", markName, err))
	}
	return nil
}

// startEmpty makes the files of a new server, or notes that the directory of an
// old one is lost.
func (s *Store) startEmpty(r *restorer) error {
	marker := filepath.Join(s.cfg.LogDir, "initialize")
	_, err := s.fs.Stat(marker)
	initialize := err == nil
	if !initialize && s.cfg.NoAutoCreate {
		r.rec.Lost = true
		return s.markLost()
	}
	if err := s.writeEmptySnapshot(r.tree); err != nil {
		return err
	}
	r.rec.Snapshot = snapName(0, s.cfg.Compression)
	if initialize {
		// Last: a crash before the snapshot was safe must find the marker again.
		if err := errors.Join(s.fs.Remove(marker), s.fs.SyncDir(s.cfg.LogDir)); err != nil {
			return err
		}
	}
	return nil
}

// writeEmptySnapshot writes what every history begins with.
func (s *Store) writeEmptySnapshot(tree *znode.Tree) error {
	name := snapName(0, s.cfg.Compression)
	f := tree.Freeze()
	digest := f.Digest
	_, err := s.writeTemp(name, f, noLock{}, false)
	if err == nil {
		err = s.publish(name, digest)
	}
	if err != nil {
		return fmt.Errorf("data directory %s cannot be written: %w", s.snapDir, err)
	}
	return nil
}

// noLock is the lock of a tree that nobody else has yet.
type noLock struct{}

func (noLock) Lock()   {}
func (noLock) Unlock() {}

func (r *restorer) readEpochs() error {
	s := r.s
	accepted, err := readEpoch(s.fs, s.snapDir, acceptedName)
	if err != nil {
		return err
	}
	current, err := readEpoch(s.fs, s.snapDir, currentName)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.accepted, s.current = accepted, current
	s.markEpoch = current.epoch
	s.mu.Unlock()
	return nil
}

// settleEpochs brings the epochs in line with the history: accepted ≥ current ≥
// epoch of the last transaction. What is missing is known to be 0 only for a
// server without a transaction, which may have been stopped before its first
// promise, or between that and its first history.
func (s *Store) settleEpochs(r *restorer, empty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, c := &s.accepted, &s.current
	if (empty || r.last == 0) && !r.rec.Lost {
		a.known, c.known = a.known || !a.found, c.known || !c.found
	}
	if a.known && c.known && a.epoch < c.epoch {
		s.logger.Warn("acceptedEpoch is below currentEpoch: a promise is lost", "accepted", a.epoch, "current", c.epoch)
		a.known = false
	}
	c.epoch = max(c.epoch, r.last.Epoch())
	a.epoch = max(a.epoch, c.epoch)
}
