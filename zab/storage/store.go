package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/znode"
)

// Config says where a store is and how it works. Only DataDir is required.
type Config struct {
	// DataDir holds version-2 with the snapshots and epoch files. zoo.cfg: dataDir.
	DataDir string

	// LogDir holds version-2 with the transaction logs. Default DataDir. zoo.cfg:
	// dataLogDir.
	LogDir string

	// ServerID is the server that the directory must belong to; 0: not checked.
	// The first store with an ID leaves it in the directory, and the file myid
	// must agree too.
	ServerID zab.ServerID

	// MustExist refuses a data directory that is not there instead of making it:
	// what is left of one whose disk is not mounted. zoo.cfg:
	// datadir.autocreate=false.
	MustExist bool

	// NoAutoCreate makes an empty directory a lost one: the server must not vote
	// before it is synced, unless the file initialize is in LogDir. zoo.cfg:
	// db.autocreate=false.
	NoAutoCreate bool

	// PreallocBytes is how far at most a log is filled with zeros ahead of its
	// entries. A log begins with 1 MiB, and as much as has been written is added
	// ahead. Default 64 MiB; negative: no pre-allocation, every sync then writes
	// the size of the file too. zoo.cfg: preAllocSize, in KiB.
	PreallocBytes int64

	// SnapCount is after how many transactions a snapshot is due. While the newest
	// snapshot is large and the log behind it is not as long, up to ten
	// times as many: writing the tree again would cost more than reading the log.
	// Default 100000. zoo.cfg: snapCount.
	SnapCount int64

	// SnapSizeBytes is after how many bytes of log a snapshot is due, at the
	// latest. Default 4 GiB. zoo.cfg: snapSizeLimitInKb.
	SnapSizeBytes int64

	// Compression is the form of new snapshots: Plain or Gzip. zoo.cfg:
	// snapshot.compression.method.
	Compression Compression

	// NoForceSync acknowledges without fdatasync: a power cut loses acknowledged
	// data. zoo.cfg: forceSync=no.
	NoForceSync bool

	// SlowSync is when a sync is worth a warning. Default 1s. zoo.cfg:
	// fsync.warningthresholdms.
	SlowSync time.Duration

	// NoMark leaves out the file that says how far the log was safe. Without it a
	// log whose last entries were overwritten with zeros cannot be told from a
	// shorter one.
	NoMark bool

	// MarkInterval is how old the mark may be after a power cut. (After the death
	// of the process alone it is exact.) Default 1s.
	MarkInterval time.Duration

	// Znode is the configuration of the trees that Recover returns.
	Znode znode.Config

	// FS is the file system. Default: the real one.
	FS FS

	// Foreground leaves to Sync what a goroutine does beside it otherwise, and Now
	// is the clock by which the mark is due: together they let simulations repeat
	// every operation. Default: time.Now.
	Foreground bool
	Now        func() time.Time

	// Rand returns a number from 0 to n-1. Default: math/rand/v2.
	Rand func(n int64) int64

	// Logger takes what operators should know. Default: nothing is logged.
	Logger *slog.Logger
}

func (c *Config) setDefaults() {
	if c.LogDir == "" {
		c.LogDir = c.DataDir
	}
	c.PreallocBytes = orDefault(c.PreallocBytes, 64<<20)
	c.SnapCount = orDefault(c.SnapCount, 100_000)
	c.SnapSizeBytes = orDefault(c.SnapSizeBytes, 4<<30)
	c.SlowSync = orDefault(c.SlowSync, time.Second)
	c.MarkInterval = orDefault(c.MarkInterval, time.Second)
	if c.NoForceSync {
		c.NoMark = true // it would tell of what is not safe
	}
	if c.FS == nil {
		c.FS = OSFS{}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Int64N
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

func orDefault[T int64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// Validate reports every setting that cannot work.
func (c Config) Validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("DataDir is empty"))
	}
	if c.SnapCount < 0 || c.SnapSizeBytes < 0 || c.SnapCount == 1 {
		errs = append(errs, fmt.Errorf("SnapCount %d, SnapSizeBytes %d: need at least 2", c.SnapCount, c.SnapSizeBytes))
	}
	if c.Compression != Plain && c.Compression != Gzip {
		errs = append(errs, fmt.Errorf("Compression %q: snapshots are written plain or gz", c.Compression))
	}
	return errors.Join(errs...)
}

// Store is the files of one server. See the package comment for which methods
// may run at the same time.
type Store struct {
	cfg     Config
	fs      FS
	logger  *slog.Logger
	snapDir string // version-2 of DataDir
	logDir  string // version-2 of LogDir
	lock    dirLocks

	failure atomic.Pointer[error]

	// Of the goroutine that appends.
	batch        []byte // in whole blocks: begins with what the log's last block holds already
	batchFirst   zab.Zxid
	batchTxns    int64
	lastAppended zab.Zxid
	rollTxns     int64 // synced since the last Roll
	rollAtTxns   int64
	rollAtBytes  int64
	markSynced   time.Time
	closed       bool

	synced atomic.Int64 // zxid
	logEnd atomic.Int64 // offset behind the last safe entry of the log

	snapBytes atomic.Int64 // size of the newest snapshot

	mu       sync.Mutex // guards what follows; never held during I/O
	log      *logWriter // nil until the first Sync after Recover, Roll
	accepted epochState
	current  epochState
	recovery Recovery
	// markEpoch is what the file currentEpoch holds, 0 if there is none.
	markEpoch zab.Epoch
	lost      bool // the file of Forget is there

	markMu  sync.Mutex // guards writes of mark; taken before mu
	mark    *markFile
	markDue atomic.Bool // it was noted and is not safe yet

	filesMu sync.Mutex // one snapshot or purge at a time

	wake       chan struct{}
	background sync.WaitGroup // the keeper
}

// dirLocks are the lock files of the data and the log directory.
type dirLocks []Lock

func (l dirLocks) held() error {
	for _, k := range l {
		if err := k.Held(); err != nil {
			return err
		}
	}
	return nil
}

func (l dirLocks) close() error {
	var errs []error
	for _, k := range l {
		errs = append(errs, k.Close())
	}
	return errors.Join(errs...)
}

// minFree is the least space that a store is opened with: enough for a new log
// and the epoch files.
const minFree = 4 << 20

// Open takes the directories for this process and checks that they can be used.
// Call Recover next.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	s := &Store{
		cfg:     cfg,
		fs:      cfg.FS,
		logger:  cfg.Logger,
		snapDir: filepath.Join(cfg.DataDir, versionDir),
		logDir:  filepath.Join(cfg.LogDir, versionDir),
		wake:    make(chan struct{}, 1), // one wake-up is as good as many
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.lock.close())
	}
	s.background.Go(s.keeper)
	return s, nil
}

func (s *Store) open() error {
	dirs := slices.Compact([]string{s.cfg.DataDir, s.cfg.LogDir})
	for _, dir := range dirs {
		if err := s.makeDirs(dir); err != nil {
			return err
		}
		lock, err := s.fs.Lock(filepath.Join(dir, lockName))
		if err != nil {
			return fmt.Errorf("data directory %s cannot be used: %w", dir, err)
		}
		s.lock = append(s.lock, lock)
		free, err := s.fs.Free(dir)
		if err != nil {
			return err
		}
		if free >= 0 && free < minFree {
			return fmt.Errorf("data directory %s: only %d bytes are free, need %d", dir, free, minFree)
		}
	}
	if err := s.checkOwner(); err != nil {
		return err
	}
	if err := s.removeTemps(); err != nil || s.cfg.NoMark {
		return err
	}
	var err error
	s.mark, err = openMarkFile(s.fs, s.logDir)
	return err
}

func (s *Store) makeDirs(dir string) error {
	for _, d := range []string{dir, filepath.Join(dir, versionDir)} {
		fi, err := s.fs.Stat(d)
		if err == nil && !fi.Dir {
			return fmt.Errorf("data directory %s: not a directory", d)
		}
		if err == nil {
			continue
		}
		if !isMissing(err) {
			return fmt.Errorf("data directory %s: %w", d, err)
		}
		if s.cfg.MustExist {
			return fmt.Errorf("data directory %s does not exist: is its disk mounted?", d)
		}
		if err := s.fs.MkdirAll(d); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
		if err := s.fs.SyncDir(filepath.Dir(d)); err != nil {
			return fmt.Errorf("make data directory %s: %w", d, err)
		}
	}
	return nil
}

// checkOwner compares the server with the directory's marks: Apache's myid,
// which people write, and ours, which the first start wrote. A server alone has no
// id and may take any directory; but ours must be readable, or nothing else may be.
func (s *Store) checkOwner() error {
	missing := false
	for _, base := range []string{"myid", idName} {
		if base == "myid" && s.cfg.ServerID == 0 {
			continue
		}
		name := filepath.Join(s.cfg.DataDir, base)
		b, err := readSmall(s.fs, name)
		if isMissing(err) {
			missing = base == idName
			continue
		}
		if err != nil {
			return err
		}
		line, _, _ := strings.Cut(string(b), "\n")
		id, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		switch {
		case err != nil && base == idName:
			return fmt.Errorf("%s: %q is not a server id, though this program wrote the file: check the disk, then write the id of the server that the directory belongs to into it, or delete it", name, line)
		case err != nil:
			return fmt.Errorf("%s: %q is not a server id: write the number of this server into it", name, line)
		case s.cfg.ServerID != 0 && zab.ServerID(id) != s.cfg.ServerID:
			hint := "give each server its own dataDir, or set the id of this one to " + strconv.FormatInt(id, 10)
			if base == idName {
				hint += "; if the directory is a copy that this server is to begin with, delete the file"
			}
			return fmt.Errorf("%s: the directory belongs to server %d, this is server %d: %s", name, id, s.cfg.ServerID, hint)
		}
	}
	missing = missing && s.cfg.ServerID != 0
	if !missing {
		return nil
	}
	b := append(strconv.AppendInt(nil, int64(s.cfg.ServerID), 10), '\n')
	if err := writeWhole(s.fs, s.cfg.DataDir, idName, b); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(s.cfg.DataDir, idName), err)
	}
	return nil
}

// removeTemps deletes what an interrupted write of a snapshot left.
func (s *Store) removeTemps() error {
	list, err := s.fs.List(s.snapDir)
	if err != nil {
		return err
	}
	for _, fi := range list {
		if strings.HasPrefix(fi.Name, tempName) {
			if err := s.fs.Remove(filepath.Join(s.snapDir, fi.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// fail makes err final: every later call returns it. The first one wins.
func (s *Store) fail(err error) error {
	err = &failure{err}
	if s.failure.CompareAndSwap(nil, &err) {
		s.logger.Error("storage failed; this server must not go on", "err", err)
	}
	return *s.failure.Load()
}

func (s *Store) failed() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// Err returns the error that made the store unusable, or nil.
func (s *Store) Err() error { return s.failed() }

// Close syncs what was appended and releases the directories. After a failure
// it only releases. A second Close does nothing.
func (s *Store) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	var err error
	if s.failed() == nil {
		if err = s.Roll(); err == nil && s.mark != nil {
			err = s.mark.f.Datasync()
		}
	}
	close(s.wake)
	s.background.Wait()
	s.mu.Lock()
	l := s.log
	s.log = nil
	s.mu.Unlock()
	if l != nil { // after a failure
		l.grow.close()
		l.f.Close()
	}
	if s.mark != nil {
		err = errors.Join(err, s.mark.f.Close())
	}
	return errors.Join(err, s.lock.close())
}
