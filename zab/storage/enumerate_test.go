package storage_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/storage/storagetest"
)

// lives are the scripted histories that are cut off at every operation, each a
// few kilobytes with everything that changes files in it.
var lives = []struct {
	name   string
	config func(*storage.Config)
	steps  func(h *history) []func() error
}{
	{"append, roll and start again", nil, func(h *history) []func() error {
		return []func() error{
			h.open, h.some(1), h.some(3), h.some(2), h.roll, h.some(1), h.some(4), h.close,
			h.open, h.some(2), h.some(2), h.close,
			h.open, h.close, // with nothing to do
			h.open, h.some(1), h.close,
		}
	}},
	{"large batches", nil, func(h *history) []func() error {
		h.size = 1500
		return []func() error{h.open, h.some(5), h.some(9), h.roll, h.some(12), h.close, h.open, h.some(6), h.close}
	}},
	{"without pre-allocation", func(c *storage.Config) { c.PreallocBytes = -1 }, func(h *history) []func() error {
		return []func() error{h.open, h.some(1), h.some(3), h.roll, h.some(4), h.close, h.open, h.some(3), h.close}
	}},
	{"without a mark", func(c *storage.Config) { c.NoMark = true }, func(h *history) []func() error {
		return []func() error{h.open, h.some(1), h.some(1), h.roll, h.some(2), h.snapshot, h.some(1), h.close, h.open, h.some(1), h.close}
	}},
	{"zeros ahead of the log", func(c *storage.Config) { c.PreallocBytes = 4 << 10 }, func(h *history) []func() error {
		return []func() error{h.open, h.some(4), h.some(4), h.some(4), h.close, h.open, h.some(2), h.close}
	}},
	{"epochs", nil, func(h *history) []func() error {
		return []func() error{
			h.open, h.to(1), h.some(2), h.to(2), h.some(2), h.to(2), h.to(7), h.close,
			h.open, h.some(2), h.to(8), h.some(1), h.close,
		}
	}},
	{"snapshots and a purge", nil, func(h *history) []func() error {
		return []func() error{
			h.open, h.to(1), h.some(3), h.snapshot, h.some(3), h.fuzzy, h.some(2), h.snapshot, h.some(2), h.purge,
			h.snapshot, h.some(1), h.purge, h.close, h.open, h.some(2), h.snapshot, h.purge, h.close,
		}
	}},
	{"one directory, gz", func(c *storage.Config) { c.LogDir, c.Compression = "", storage.Gzip }, func(h *history) []func() error {
		return []func() error{h.open, h.to(1), h.some(3), h.snapshot, h.some(3), h.snapshot, h.some(2), h.purge, h.close, h.open, h.some(1), h.close}
	}},
	{"truncate in the newest log", nil, func(h *history) []func() error {
		return []func() error{h.open, h.to(1), h.some(3), h.some(4), h.back(3), h.to(2), h.some(3), h.back(1), h.some(1), h.close, h.open, h.some(1), h.close}
	}},
	{"truncate over logs and snapshots", nil, func(h *history) []func() error {
		return []func() error{
			h.open, h.to(1), h.some(3), h.snapshot, h.some(3), h.snapshot, h.some(2), h.snapshot, h.some(2), h.back(6),
			h.to(2), h.some(3), h.close, h.open, h.back(2), h.some(1), h.close,
		}
	}},
	{"install what is ahead", nil, func(h *history) []func() error {
		return []func() error{
			h.open, h.to(1), h.some(4), h.snapshot, h.some(3), h.received(zab.NewZxid(1, 40), 2), h.some(2),
			h.received(zab.NewZxid(3, 0), 4), h.some(2), h.close, h.open, h.some(2), h.close,
		}
	}},
	{"install what is behind", nil, func(h *history) []func() error {
		return []func() error{
			h.open, h.to(1), h.some(3), h.snapshot, h.some(4), h.roll, h.some(3), h.received(zab.NewZxid(1, 5), 2), h.some(3), h.close,
			h.open, h.received(zab.NewZxid(1, 2), 3), h.some(1), h.close,
		}
	}},
	{"forget, then a log", nil, func(h *history) []func() error {
		return []func() error{
			h.open, h.to(2), h.some(3), h.snapshot, h.some(2), h.promise(3), h.forget, h.some(2), h.some(1), h.to(3), h.some(2), h.close,
			h.open, h.some(2), h.forget, h.close, // it stays lost
		}
	}},
	{"forget, then a snapshot", nil, func(h *history) []func() error {
		return []func() error{
			h.open, h.to(2), h.some(2), h.forget, h.received(zab.NewZxid(4, 9), 5), h.some(2), h.close, h.open, h.some(1), h.close,
		}
	}},
}

func (h *history) some(n int) func() error     { return func() error { return h.batch(n) } }
func (h *history) to(e zab.Epoch) func() error { return func() error { return h.epoch(e) } }
func (h *history) roll() error                 { return h.s.Roll() }
func (h *history) purge() error                { _, err := h.s.Purge(2); return err }
func (h *history) back(n zab.Zxid) func() error {
	return func() error { return h.truncate(h.zxid - n) }
}
func (h *history) received(z zab.Zxid, e zab.Epoch) func() error {
	return func() error { return h.install(z, e) }
}

// promise is an epoch that was accepted and not adopted.
func (h *history) promise(e zab.Epoch) func() error {
	return func() error {
		h.accepted[1] = e
		err := h.s.SetAcceptedEpoch(e)
		h.accepted[0] = e
		return err
	}
}

// fuzzy is a snapshot within a log.
func (h *history) fuzzy() error {
	_, _, err := h.s.WriteSnapshot(h.tree.Freeze(), new(sync.Mutex))
	return err
}

// moment is the disk as it was when an operation began.
type moment struct {
	life string
	op   int
	disk *storagetest.Disk
	cfg  storage.Config
	want expectation
}

// live runs a history, on what wrap makes of its disk, and returns all moments of
// it.
func live(t *testing.T, i int, marks bool, wrap func(*storagetest.Disk) storage.FS) []moment {
	t.Helper()
	h := newHistory(t, uint64(i)*3)
	h.size = 60
	now := time.Unix(1e9, 0)
	h.cfg.PreallocBytes, h.cfg.Foreground = 16<<10, true
	// The mark is made safe with each sync, or hardly ever.
	h.cfg.MarkInterval = time.Second
	h.cfg.Now = func() time.Time {
		if marks {
			now = now.Add(time.Minute)
		}
		return now
	}
	l := lives[i]
	if l.config != nil {
		l.config(&h.cfg)
	}
	h.cfg.FS = wrap(h.disk)
	var moments []moment
	note := func(d *storagetest.Disk) {
		cfg := h.cfg
		cfg.FS = nil
		cfg.Now = nil
		want := h.expectation
		want.allowed = maps.Clone(want.allowed)
		moments = append(moments, moment{l.name, len(moments), d, cfg, want})
	}
	h.disk.Observe(note)
	for n, step := range l.steps(h) {
		if err := step(); err != nil {
			t.Fatalf("%s, step %d: %v", l.name, n, err)
		}
	}
	h.disk.Observe(nil)
	note(h.disk.Clone())
	return moments
}

// enumeration counts what was tried.
type enumeration struct {
	limit                               int // outcomes of one moment
	moments, exhausted, outcomes, twice atomic.Int64
	tried                               sync.Map // what is the same at several moments
}

// full reports whether there is time for everything.
func (e *enumeration) full() bool { return e.limit > quickOutcomes }

// quickOutcomes is the limit of a plain go test.
const quickOutcomes = 6

// run tries the outcomes of a moment and returns the first that is wrong.
func (e *enumeration) run(m moment) error {
	all, outcomes := m.disk.Outcomes(e.limit, uint64(m.op))
	e.moments.Add(1)
	if all {
		e.exhausted.Add(1)
	}
	want := fmt.Sprint(m.life, m.cfg.MarkInterval, m.want)
	for o := range outcomes {
		if _, again := e.tried.LoadOrStore(fmt.Sprint(o.Disk.Sum(), want), true); again {
			continue
		}
		n := e.outcomes.Add(1)
		if err := e.outcome(m, o.Disk, n%4 == 0 || e.full(), n%32 == 0 || e.full() && n%8 == 0); err != nil {
			return fmt.Errorf("%s, operation %d, outcome %q: %w", m.life, m.op, o.Kept, err)
		}
	}
	return nil
}

// outcome recovers what is on a disk, and checks that it is what it may be; if
// further, that it stays that and that the store can go on from there; if twice,
// what a crash in the recovery leaves.
func (e *enumeration) outcome(m moment, disk *storagetest.Disk, further, twice bool) error {
	var during []*storagetest.Disk
	if twice {
		disk.Observe(func(d *storagetest.Disk) { during = append(during, d) })
	}
	f, err := recovered(m, disk, func(s *storage.Store, h *history, f found) error {
		disk.Observe(nil)
		if !further {
			return nil
		}
		// What was found must be found again, after the death of the process, and
		// after that of the machine with as little on the disk as can be.
		_, outcomes := disk.Outcomes(2, 0)
		for o := range outcomes {
			if again, err := recovered(m, o.Disk, nil); err != nil || again != f {
				return fmt.Errorf("recovered %+v, then after a crash (%s) %+v, %w", f, o.Kept, again, err)
			}
		}
		return h.goOnFrom(s, f)
	})
	if err != nil {
		return err
	}
	for i, d := range during {
		_, outcomes := d.Outcomes(max(2, e.limit/128), uint64(i))
		for o := range outcomes {
			e.twice.Add(1)
			if _, err := recovered(m, o.Disk, nil); err != nil {
				return fmt.Errorf("recovered %+v; crashed at operation %d of that, outcome %s: %w", f, i, o.Kept, err)
			}
		}
	}
	return nil
}

// recovered opens a store on a disk, checks what it finds, and lets the caller
// go on with it.
func recovered(m moment, disk *storagetest.Disk, then func(*storage.Store, *history, found) error) (f found, err error) {
	h := &history{disk: disk, cfg: m.cfg, expectation: m.want}
	h.cfg.FS = disk
	s, err := storage.Open(h.cfg)
	if err != nil {
		return f, err
	}
	defer s.Close()
	if h.tree, err = s.Recover(); err != nil {
		return f, err
	}
	if f, err = h.check(s, h.tree); err == nil && then != nil {
		err = then(s, h, f)
	}
	disk.Kill() // Close shall not change what is left of it
	return f, err
}

// goOnFrom appends to a recovered store and recovers that after a crash.
func (h *history) goOnFrom(s *storage.Store, f found) error {
	z := f.zxid + 1
	switch {
	case f.lost:
		z = zab.NewZxid(f.accepted+1, 1)
		if err := s.SetAcceptedEpoch(z.Epoch()); err != nil {
			return err
		}
	case f.current > z.Epoch():
		z = zab.NewZxid(f.current, 1)
	}
	for last := z + 2; z <= last; z++ {
		if err := s.Append(txnOf(z).Append(nil), z); err != nil {
			return err
		}
	}
	if err := s.Sync(); err != nil {
		return err
	}
	if f.lost {
		if err := s.SetCurrentEpoch((z - 1).Epoch()); err != nil {
			return err
		}
	}
	_, outcomes := h.disk.Outcomes(1, 0) // only what is safe
	for o := range outcomes {
		cfg := h.cfg
		cfg.FS = o.Disk
		s, err := storage.Open(cfg)
		if err != nil {
			return fmt.Errorf("after more appends: %w", err)
		}
		defer s.Close()
		tree, err := s.Recover()
		if err != nil {
			return fmt.Errorf("after more appends: %w", err)
		}
		if tree.LastZxid() != z-1 || s.Recovery().Lost {
			return fmt.Errorf("appended up to %v and recovered up to %v, lost %v", z-1, tree.LastZxid(), s.Recovery().Lost)
		}
	}
	return nil
}

// runAll tries the outcomes of all moments, on all processors, and returns the
// first error.
func (e *enumeration) runAll(moments []moment) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(moments) {
					return
				}
				if err := e.run(moments[i]); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// outcomesPerMoment is PADDOCK_CRASH_OUTCOMES: 1024 tries everything where ten
// or less pieces are not safe.
func outcomesPerMoment(t *testing.T) int {
	t.Helper()
	text := os.Getenv("PADDOCK_CRASH_OUTCOMES")
	if text == "" {
		return quickOutcomes
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("PADDOCK_CRASH_OUTCOMES: %v", err)
	}
	return n
}

// TestEveryOutcomeOfACrash cuts the power at every operation of every life, goes
// through what the disk may hold then, and recovers it: a state between the last
// that was acknowledged and the last that was written, no epoch going back, the
// same again in a second recovery, and a store that works. The recovery is cut
// off as well.
func TestEveryOutcomeOfACrash(t *testing.T) {
	e := enumeration{limit: outcomesPerMoment(t)}
	for i, l := range lives {
		for _, marks := range []bool{i%2 == 0, i%2 != 0} {
			if marks != (i%2 == 0) && !e.full() {
				continue // every other way of marks is enough
			}
			if err := e.runAll(live(t, i, marks, func(d *storagetest.Disk) storage.FS { return d })); err != nil {
				t.Errorf("%s, marks %v: %v", l.name, marks, err)
			}
		}
	}
	t.Logf("%d moments (%d with all outcomes tried), %d outcomes, %d of crashes in a recovery",
		e.moments.Load(), e.exhausted.Load(), e.outcomes.Load(), e.twice.Load())
}

// careless is a disk that does not do some of what makes things safe.
type careless struct {
	*storagetest.Disk
	skip    func(op, name, renamed string) bool
	renamed string // what the last Rename made
}

func (c *careless) Rename(oldname, newname string) error {
	c.renamed = filepath.Base(newname)
	return c.Disk.Rename(oldname, newname)
}

func (c *careless) SyncDir(dir string) error {
	if c.skip("SyncDir", dir, c.renamed) {
		return nil
	}
	return c.Disk.SyncDir(dir)
}

func (c *careless) Create(name string) (storage.File, error) {
	return c.file(name)(c.Disk.Create(name))
}

func (c *careless) OpenWrite(name string) (storage.File, error) {
	return c.file(name)(c.Disk.OpenWrite(name))
}

func (c *careless) file(name string) func(storage.File, error) (storage.File, error) {
	return func(f storage.File, err error) (storage.File, error) {
		if err != nil {
			return nil, err
		}
		return &carelessFile{f, c, filepath.Base(name)}, nil
	}
}

type carelessFile struct {
	storage.File
	c    *careless
	name string
}

func (f *carelessFile) Sync() error {
	if f.c.skip("Sync", f.name, "") {
		return nil
	}
	return f.File.Sync()
}

func (f *carelessFile) Datasync() error {
	if f.c.skip("Datasync", f.name, "") {
		return nil
	}
	return f.File.Datasync()
}

// TestEnumerationFindsMissingSyncs leaves out one kind of sync after the other:
// the enumeration must find an outcome for each that is wrong.
func TestEnumerationFindsMissingSyncs(t *testing.T) {
	is := func(op, prefix string) func(string, string, string) bool {
		return func(o, name, _ string) bool { return o == op && strings.HasPrefix(name, prefix) }
	}
	after := func(name string) func(string, string, string) bool {
		return func(op, _, renamed string) bool { return op == "SyncDir" && strings.HasPrefix(renamed, name) }
	}
	for _, tc := range []struct {
		name string
		life string // whose outcomes show it
		skip func(op, name, renamed string) bool
	}{
		{"the log after a batch", "append, roll and start again", is("Datasync", "log.")},
		{"a new log", "large batches", is("Sync", "log.")},
		{"the names of logs", "append, roll and start again", is("SyncDir", "/logs")},
		{"the names of snapshots and epochs", "epochs", is("SyncDir", "/data/version-2")},
		{"the bytes of an epoch", "epochs", is("Sync", "acceptedEpoch")},
		{"the bytes of an adopted epoch", "epochs", is("Sync", "currentEpoch")},
		{"the name of an epoch", "epochs", after("acceptedEpoch")},
		{"the bytes of a snapshot", "snapshots and a purge", is("Sync", "paddock.tmp")},
		{"the note of an installation", "install what is ahead", is("Sync", "paddock.install")},
		{"the name of that note", "install what is behind", after("paddock.install")},
		{"the note that the history is lost", "forget, then a log", after("paddock.lost")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wrap := func(d *storagetest.Disk) storage.FS { return &careless{Disk: d, skip: tc.skip} }
			for i, l := range lives {
				if l.name != tc.life {
					continue
				}
				e := enumeration{limit: 64}
				found := e.runAll(live(t, i, true, wrap))
				if found == nil {
					t.Errorf("not found in %d outcomes", e.outcomes.Load())
				}
				t.Logf("found after %d outcomes: %v", e.outcomes.Load(), found)
			}
		})
	}
}
