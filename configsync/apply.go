package configsync

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/paddockio/paddock/zab"
)

// A sight is a file as it was last looked at.
type sight struct {
	exists bool
	info   fs.FileInfo // nil if it does not exist
	ctime  time.Time
	racy   bool   // it may have changed since without a trace
	sum    digest // of a regular file no larger than was asked about, else zero
}

func (s sight) same(o fs.FileInfo) bool {
	return s.exists && !s.racy && os.SameFile(s.info, o) && s.info.Size() == o.Size() && s.info.Mode() == o.Mode() &&
		s.info.ModTime().Equal(o.ModTime()) && s.ctime.Equal(ctime(o))
}

func (s sight) is(m fs.FileMode) bool { return s.exists && s.info.Mode()&fs.ModeType == m }

// inspect looks at a file, and reads it only if it may have changed. A regular
// file of another size than asked for differs anyway, and keeps a zero sum.
func (t *target) inspect(dir directory, name string, size int64) (sight, error) {
	info, err := dir.lstat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		t.seen[name] = sight{}
		return sight{}, nil
	}
	if err != nil {
		return sight{}, err
	}
	s := t.seen[name]
	if s.same(info) && s.sum != (digest{}) {
		return s, nil
	}
	s = sight{exists: true, info: info, ctime: ctime(info)}
	if info.Mode().IsRegular() && info.Size() == size {
		data, at, err := dir.read(name, size)
		if err != nil {
			return sight{}, err
		}
		s.info, s.ctime, s.sum = at, ctime(at), sha256.Sum256(data)
		// The clock of file times stands still for some milliseconds at a time.
		s.racy = time.Since(s.ctime) < racyWindow
	}
	t.seen[name] = s
	return s, nil
}

// racyWindow is longer than any file system's clock needs to move on.
const racyWindow = 2 * time.Second

// differs reports whether some file is not as it was last seen.
func (t *target) differs() bool {
	dir, err := t.m.disk.open(t.root, 0, false)
	if err != nil {
		return slices.ContainsFunc(slices.Collect(maps.Values(t.seen)), func(s sight) bool { return s.exists })
	}
	defer dir.Close()
	for name, s := range t.seen {
		info, err := dir.lstat(name)
		if err != nil {
			if s.exists {
				return true
			}
			continue
		}
		if s.same(info) {
			continue
		}
		if !s.racy || s.sum == (digest{}) {
			return true
		}
		now, err := t.inspect(dir, name, s.info.Size())
		if err != nil || now.sum != s.sum || now.info.Mode() != s.info.Mode() || !sameOwner(now.info, s.info) {
			return true
		}
	}
	return false
}

func sameOwner(a, b fs.FileInfo) bool {
	au, ag := owner(a)
	bu, bg := owner(b)
	return au == bu && ag == bg
}

// A change is one file to be written.
type change struct {
	name    string
	node    *node
	was     sight
	attr    attributes
	restore bool // the znode is as before: somebody changed the file
}

// errRefused is why nothing was written: the check said no.
var errRefused = errors.New("check refused the new contents")

// apply makes the files equal to the znodes. It is the one way in which files
// change: for news, for edits to be undone, and after a crash.
func (t *target) apply(ctx context.Context) (err error) {
	p := t.plan()
	t.lastApply = time.Now()
	defer func() {
		t.notes = p.notes
		if err == nil {
			t.forget = false // once, but not used up by a round that came to nothing
		}
	}()
	if len(p.wants) == 0 && len(t.mem.Files) == 0 {
		return nil
	}
	dir, err := t.m.disk.open(t.root, fs.FileMode(t.tc.DirMode), len(p.wants) > 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing is wanted and nothing is there
	}
	if err != nil {
		return err
	}
	defer dir.Close()

	gone := t.removals(dir, p)
	changes, err := t.changes(dir, p, gone)
	if err != nil {
		return err
	}
	for name := range t.seen {
		if _, known := t.mem.Files[name]; !known && p.wants[name] == nil {
			delete(t.seen, name)
		}
	}
	if len(changes) == 0 && len(gone) == 0 {
		return t.saveIfDirty()
	}
	if len(t.applied) == paceBurst {
		t.applied = t.applied[1:]
	}
	t.applied = append(slices.Clip(t.applied), time.Now())

	if err := t.stage(dir, changes, gone, p); err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	defer t.unstage(dir)
	if err := t.check(ctx, changes, gone); err != nil {
		return err
	}
	return t.install(dir, changes, gone)
}

// changes finds what differs from what is wanted, puts right modes and owners
// of files that differ in nothing else, and notes in p what cannot be written.
func (t *target) changes(dir directory, p plan, gone []removal) ([]change, error) {
	var out []change
	parents := map[string]error{".": nil}
	for _, name := range slices.Sorted(maps.Keys(p.wants)) {
		n := p.wants[name]
		fail := func(reason string) { p.notes[name] = problem{StateFailing, reason, t.znodeOf(name)} }
		rec, had := t.mem.Files[name]
		if had && n.mzxid < zab.Zxid(rec.Zxid) && !t.forget {
			fail(fmt.Sprintf("the znode's last transaction %v is older than %v, which the file has; if the ensemble was restored or replaced, let the target forget",
				n.mzxid, zab.Zxid(rec.Zxid)))
			continue
		}
		if err := t.checkParents(dir, filepath.Dir(name), parents, gone); err != nil {
			fail(err.Error())
			continue
		}
		was, err := t.inspect(dir, name, int64(len(n.data)))
		if err != nil {
			fail(err.Error())
			continue
		}
		switch {
		case was.is(fs.ModeSymlink) && t.tc.Links == LinksRefuse:
			fail("is a symbolic link; name its target in `to`, or set links: replace")
			continue
		case was.is(fs.ModeDir) && !slices.ContainsFunc(gone, func(r removal) bool { return beneath(r.name, name) }):
			fail("is a directory")
			continue
		case was.exists && !was.is(0) && !was.is(fs.ModeSymlink) && !was.is(fs.ModeDir):
			fail("is not a regular file")
			continue
		}
		c := change{name: name, node: n, was: was, attr: t.attributes(was)}
		if was.is(0) && was.sum == n.sum && int64(len(n.data)) == was.info.Size() {
			if err := t.settle(dir, &c, had, rec, p); err != nil {
				fail(err.Error())
			}
			continue
		}
		if had && rec.SHA256 == n.sum && !rec.Unfinished {
			if t.tc.Edits == EditsReport {
				p.notes[name] = problem{StateEdited, "was changed by somebody else", t.znodeOf(name)}
				continue
			}
			c.restore = true
		}
		out = append(out, c)
	}
	return out, nil
}

// settle is for a file whose bytes are right.
func (t *target) settle(dir directory, c *change, had bool, rec fileMemory, p plan) error {
	uid, gid := owner(c.was.info)
	wrong := c.was.info.Mode().Perm() != c.attr.mode || c.attr.uid >= 0 && c.attr.uid != uid || c.attr.gid >= 0 && c.attr.gid != gid
	switch {
	case wrong && t.tc.Edits == EditsReport && had:
		p.notes[c.name] = problem{StateEdited, "mode or owner was changed by somebody else", t.znodeOf(c.name)}
	case wrong:
		f, err := dir.attributes(c.name)
		if err != nil {
			return err
		}
		if err := errors.Join(c.attr.set(f), f.Close()); err != nil {
			return err
		}
		delete(t.seen, c.name)
		if _, err := t.inspect(dir, c.name, c.was.info.Size()); err != nil {
			return err
		}
		t.log.Info("mode and owner set", "file", filepath.Join(t.root, c.name))
	}
	now := fileMemory{Zxid: zxidText(c.node.mzxid), SHA256: c.node.sum, Size: int64(len(c.node.data)), Written: rec.Written}
	if !had || now != rec {
		t.mem.Files[c.name] = now
		t.memDirty = true
	}
	return nil
}

// attributes tells what mode and owner a file is to have.
func (t *target) attributes(was sight) attributes {
	a := attributes{mode: 0o644, uid: t.uid, gid: t.gid}
	if was.is(0) {
		a.mode = was.info.Mode().Perm()
		uid, gid := owner(was.info)
		if a.uid < 0 {
			a.uid = uid
		}
		if a.gid < 0 {
			a.gid = gid
		}
	}
	if t.tc.Mode != 0 {
		a.mode = fs.FileMode(t.tc.Mode)
	}
	return a
}

// checkParents reports why name cannot be a directory. Links are not followed,
// not even those that stay inside the target.
func (t *target) checkParents(dir directory, name string, done map[string]error, gone []removal) error {
	if err, ok := done[name]; ok {
		return err
	}
	err := t.checkParents(dir, filepath.Dir(name), done, gone)
	if err == nil {
		info, serr := dir.lstat(name)
		switch {
		case errors.Is(serr, fs.ErrNotExist), errors.Is(serr, syscall.ENOTDIR):
		case serr != nil:
			err = serr
		case info.Mode()&fs.ModeSymlink != 0:
			err = fmt.Errorf("%s is a symbolic link where a directory is wanted", name)
		case !info.IsDir() && !slices.ContainsFunc(gone, func(r removal) bool { return r.name == name }):
			err = fmt.Errorf("%s is a file where a directory is wanted", name)
		}
	}
	done[name] = err
	return err
}

// stagingDir is where the target's new files are made.
func (t *target) stagingDir() string { return filepath.Join(stagingName, t.tc.Name) }

// makeStaging makes the directory that is shared by all targets of one
// directory, readable by the agent alone.
func (t *target) makeStaging(dir directory) error {
	err := dir.mkdir(stagingName, 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := dir.lstat(stagingName)
	if err != nil {
		return err
	}
	uid, _ := owner(info)
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || uid >= 0 && uid != os.Geteuid() {
		return fmt.Errorf("%s is there already and is not a directory of the agent alone", filepath.Join(t.root, stagingName))
	}
	return nil
}

// stage writes the new files, synced and with their attributes, into the
// staging directory. For the check of a tree all other files are put beside.
func (t *target) stage(dir directory, changes []change, gone []removal, p plan) error {
	if len(changes) == 0 && len(t.tc.Check) == 0 {
		return nil
	}
	if err := t.makeStaging(dir); err != nil {
		return err
	}
	if err := dir.removeAll(t.stagingDir()); err != nil {
		return err
	}
	if err := dir.mkdir(t.stagingDir(), 0o700); err != nil {
		return err
	}
	made := map[string]bool{".": true}
	write := func(name string, f func(staged string) error) error {
		if err := t.stageParents(dir, filepath.Dir(name), made); err != nil {
			return err
		}
		return f(filepath.Join(t.stagingDir(), name))
	}
	staged := map[string]bool{}
	for _, c := range changes {
		staged[c.name] = true
		err := write(c.name, func(to string) error {
			if err := writeNew(dir, to, c.node.data, c.attr); err != nil {
				return err
			}
			return t.laterThan(dir, to, c.was)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if !t.tc.Tree || len(t.tc.Check) == 0 {
		return nil
	}
	for _, r := range gone {
		staged[r.name] = true
	}
	for name := range t.mem.Files {
		if staged[name] {
			continue
		}
		data, _, err := dir.read(name, t.tc.MaxFile)
		if err != nil {
			continue // edited or gone: not the mirror's, and not what the check is about
		}
		if err := write(name, func(to string) error { return copyTo(dir, to, data) }); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (t *target) stageParents(dir directory, name string, made map[string]bool) error {
	if made[name] {
		return nil
	}
	if err := t.stageParents(dir, filepath.Dir(name), made); err != nil {
		return err
	}
	made[name] = true
	return dir.mkdir(filepath.Join(t.stagingDir(), name), 0o700)
}

// copyTo writes a file that only the check will read.
func copyTo(dir directory, name string, data []byte) error {
	f, err := dir.create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// laterThan gives a staged file a later time than the file it replaces: some
// programs look at nothing else.
func (t *target) laterThan(dir directory, name string, was sight) error {
	if !was.is(0) {
		return nil
	}
	info, err := dir.lstat(name)
	if err != nil || info.ModTime().After(was.info.ModTime()) {
		return err
	}
	return dir.chtimes(name, was.info.ModTime().Add(time.Millisecond))
}

// unstage removes what is left of a round.
func (t *target) unstage(dir directory) {
	if err := dir.removeAll(t.stagingDir()); err != nil {
		t.log.Debug("staging directory not cleaned", "err", err)
	}
}

// clean removes what an earlier process left; at the end of this one also the
// staging directory, if no other target has something in it.
func (t *target) clean(end bool) error {
	dir, err := t.m.disk.open(t.root, 0, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if _, err := dir.lstat(stagingName); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := t.makeStaging(dir); err != nil {
		return err
	}
	if err := dir.removeAll(t.stagingDir()); err != nil {
		return err
	}
	if !end {
		return nil // not to be taken away from another target that is about to use it
	}
	if err := dir.remove(stagingName); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}

// check runs the operator's check on what is staged.
func (t *target) check(ctx context.Context, changes []change, gone []removal) error {
	if len(t.tc.Check) == 0 {
		return nil
	}
	staged := filepath.Join(t.root, t.stagingDir())
	if !t.tc.Tree {
		if len(changes) == 0 {
			return nil // the file is removed: there is nothing to look at
		}
		staged = filepath.Join(staged, t.single)
	}
	var newest zab.Zxid
	h := sha256.New()
	for _, c := range changes {
		newest = max(newest, c.node.mzxid)
		fmt.Fprintf(h, "%q%x", c.name, c.node.sum)
	}
	for _, r := range gone {
		fmt.Fprintf(h, "-%q", r.name)
	}
	s := try(ctx, t.m.run, t.tc.Check.stagedFile(staged), t.tc.CheckTimeout, commandEnv([]string{t.tc.Name}, staged, newest))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.Command = t.tc.Check.String()
	again := bytes.Equal(h.Sum(nil), t.refused[:])
	t.statusMu.Lock()
	if again && t.status.Check != nil {
		s.Attempt = t.status.Check.Attempt + 1
	}
	t.status.Check = s
	if !s.OK && !again {
		t.status.Refused++
	}
	t.statusMu.Unlock()
	if s.OK {
		t.refused = digest{}
		return nil
	}
	h.Sum(t.refused[:0])
	return fmt.Errorf("%w: %s", errRefused, s.Error)
}

// install gives the staged files their names.
func (t *target) install(dir directory, changes []change, gone []removal) error {
	now := time.Now()
	before := maps.Clone(t.mem.Files)
	for _, c := range changes {
		t.mem.Files[c.name] = fileMemory{zxidText(c.node.mzxid), c.node.sum, int64(len(c.node.data)), now, true}
	}
	due := t.mem.ReloadDue
	t.mem.ReloadDue = t.reloader != nil
	if err := t.save(); err != nil {
		t.mem.Files, t.mem.ReloadDue = before, due
		return fmt.Errorf("state of %s: %w", t.tc.Name, err)
	}
	t.memDirty = true // Unfinished is to go

	touched := map[string]bool{}
	var errs []error
	for _, r := range gone {
		if r.blocks {
			errs = append(errs, t.remove(dir, r.name, touched))
		}
	}
	written, restored := 0, 0
	for _, c := range changes {
		if err := t.put(dir, c, touched); err != nil {
			// What was there before stays, and is remembered.
			if old, had := before[c.name]; had {
				t.mem.Files[c.name] = old
			} else {
				delete(t.mem.Files, c.name)
			}
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
			continue
		}
		rec := t.mem.Files[c.name]
		rec.Unfinished = false
		t.mem.Files[c.name] = rec
		written++
		if c.restore {
			restored++
		}
		t.log.Info("file written", "file", filepath.Join(t.root, c.name), "zxid", c.node.mzxid, "bytes", len(c.node.data), "restored", c.restore)
	}
	for _, r := range gone {
		if !r.blocks {
			errs = append(errs, t.remove(dir, r.name, touched))
		}
	}
	for _, d := range slices.Sorted(maps.Keys(touched)) {
		if err := dir.syncDir(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("sync %s: %w", d, err))
		}
	}
	if restored > 0 {
		t.noteRestored(now)
	}
	if t.dirsChanged != nil {
		t.dirsChanged() // a directory may be another one now under the same name
	}
	t.statusMu.Lock()
	t.status.Writes += uint64(written)
	t.status.Restores += uint64(restored)
	if written > 0 {
		t.status.Written = now
	}
	t.statusMu.Unlock()
	if t.reloader != nil && (written > 0 || len(gone) > 0) {
		t.wants++
		t.reloader.want(t, t.zxid(), t.wants)
	}
	errs = append(errs, t.saveIfDirty())
	return errors.Join(errs...)
}

// put renames one staged file over its target. touched collects the directories
// to be synced.
func (t *target) put(dir directory, c change, touched map[string]bool) error {
	if err := t.makeParents(dir, filepath.Dir(c.name), touched); err != nil {
		return err
	}
	staged := filepath.Join(t.stagingDir(), c.name)
	info, err := dir.lstat(staged)
	if err != nil {
		return err
	}
	err = dir.rename(staged, c.name)
	switch {
	case err == nil:
		touched[filepath.Dir(c.name)] = true
		delete(t.inPlace, c.name)
	case errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV):
		if !t.tc.InPlace {
			return fmt.Errorf("is a mount point of its own and cannot be replaced; mount its directory instead, or set in_place: %w", err)
		}
		if err := t.overwrite(dir, c); err != nil {
			return err
		}
		t.inPlace[c.name] = true
	default:
		return err
	}
	delete(t.seen, c.name)
	at, err := dir.lstat(c.name)
	if err == nil && os.SameFile(at, info) && at.Size() == info.Size() && at.ModTime().Equal(info.ModTime()) {
		t.seen[c.name] = sight{exists: true, info: at, ctime: ctime(at), racy: true, sum: c.node.sum}
		return nil
	}
	// Written in place, or edited already: look at what is there.
	_, err = t.inspect(dir, c.name, int64(len(c.node.data)))
	return err
}

// overwrite is the last resort, where readers may see half a file.
func (t *target) overwrite(dir directory, c change) error {
	f, err := dir.truncate(c.name)
	if err != nil {
		return err
	}
	if _, err = f.Write(c.node.data); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = c.attr.set(f)
	}
	return errors.Join(err, f.Close())
}

func (t *target) makeParents(dir directory, name string, touched map[string]bool) error {
	if name == "." {
		return nil
	}
	info, err := dir.lstat(name)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", name)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	up := filepath.Dir(name)
	if err := t.makeParents(dir, up, touched); err != nil {
		return err
	}
	if err := dir.mkdir(name, fs.FileMode(t.tc.DirMode)); err != nil {
		return err
	}
	touched[up] = true
	t.mem.Dirs = append(t.mem.Dirs, name)
	return nil
}

// remove removes a file, and the directories around it that the mirror made if
// nothing is left in them.
func (t *target) remove(dir directory, name string, touched map[string]bool) error {
	if err := dir.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	delete(t.mem.Files, name)
	delete(t.seen, name)
	t.log.Info("file removed", "file", filepath.Join(t.root, name))
	touched[filepath.Dir(name)] = true
	for d := filepath.Dir(name); d != "." && slices.Contains(t.mem.Dirs, d); d = filepath.Dir(d) {
		if dir.remove(d) != nil {
			break // not empty
		}
		t.mem.Dirs = slices.DeleteFunc(t.mem.Dirs, func(n string) bool { return n == d })
		delete(touched, d)
		touched[filepath.Dir(d)] = true
	}
	return nil
}

// noteRestored makes the mirror slower to restore the more often somebody edits.
func (t *target) noteRestored(now time.Time) {
	if now.Sub(t.restored) < 2*t.editWait {
		t.editWait = min(2*t.editWait, retryMax)
	} else {
		t.editWait = editBackoff
	}
	t.restored = now
}

func (t *target) saveIfDirty() error {
	if !t.memDirty {
		return nil
	}
	if err := t.save(); err != nil {
		return fmt.Errorf("state of %s: %w", t.tc.Name, err)
	}
	t.memDirty = false
	return nil
}

// report publishes the target's state; err is why the last round as a whole
// went wrong.
func (t *target) report(err error) {
	st := TargetStatus{State: StateCurrent, Zxid: t.zxid().String()}
	worst := func(s string) {
		if severity(s) > severity(st.State) {
			st.State = s
		}
	}
	if !t.known {
		worst(StateWaiting)
	}
	if !t.connected {
		worst(StateStale)
		if !t.known {
			st.State = StateWaiting
		}
	}
	if err != nil {
		st.Error = err.Error()
		worst(StateFailing)
	}
	listed := map[string]bool{}
	for name, rec := range t.mem.Files {
		listed[name] = true
		f := FileStatus{Path: filepath.Join(t.root, name), Znode: t.znodeOf(name), State: StateCurrent,
			Zxid: zab.Zxid(rec.Zxid).String(), SHA256: rec.SHA256.String(), Size: rec.Size, Written: rec.Written, InPlace: t.inPlace[name]}
		if n, noted := t.notes[name]; noted {
			f.State, f.Reason = n.state, n.reason
		}
		worst(f.State)
		st.Files = append(st.Files, f)
	}
	for name, n := range t.notes {
		if listed[name] {
			continue
		}
		f := FileStatus{Znode: n.znode, State: n.state, Reason: n.reason}
		if name != n.znode {
			f.Path = filepath.Join(t.root, name)
		}
		worst(f.State)
		st.Files = append(st.Files, f)
	}
	slices.SortFunc(st.Files, func(a, b FileStatus) int {
		if len(st.Files) > maxFileStatus { // the worst must not be cut off
			if d := severity(b.State) - severity(a.State); d != 0 {
				return d
			}
		}
		return strings.Compare(a.Path+"\x00"+a.Znode, b.Path+"\x00"+b.Znode)
	})
	st.FileCount = len(st.Files)
	st.Files = st.Files[:min(len(st.Files), maxFileStatus)]

	dirs := map[string]bool{t.root: true}
	for name := range t.mem.Files {
		if len(dirs) >= maxWatchDirs {
			break
		}
		dirs[filepath.Join(t.root, filepath.Dir(name))] = true
	}
	sorted := slices.Sorted(maps.Keys(dirs))

	t.statusMu.Lock()
	s := &t.status
	moved := s.State != st.State || s.Error != st.Error
	if s.State != st.State {
		s.Since = time.Now()
	}
	s.State, s.Error, s.Zxid, s.Files, s.FileCount = st.State, st.Error, st.Zxid, st.Files, st.FileCount
	if s.Files == nil {
		s.Files = []FileStatus{}
	}
	if t.reloader != nil && t.mem.ReloadDue {
		r := CommandStatus{Command: t.tc.Reload.String()}
		if s.Reload != nil {
			r = *s.Reload
		}
		r.Pending = true
		s.Reload = &r
	}
	rewatch := !slices.Equal(t.dirs, sorted)
	t.dirs = sorted
	t.statusMu.Unlock()
	if rewatch && t.dirsChanged != nil {
		t.dirsChanged()
	}
	if moved {
		t.tell(st)
	}
}

// tell logs a new state, with the first reason for it.
func (t *target) tell(st TargetStatus) {
	switch st.State {
	case StateCurrent:
		t.log.Info("target is current", "zxid", st.Zxid)
	case StateWaiting, StateStale:
		t.log.Info("target is "+st.State, "err", st.Error)
	default:
		reason, path := st.Error, t.tc.To
		for _, f := range st.Files {
			if reason == "" && f.State == st.State {
				reason, path = f.Reason, f.Znode
			}
		}
		t.log.Warn("target is "+st.State, "path", path, "err", reason)
	}
}

func severity(state string) int {
	return slices.Index([]string{StateCurrent, StateKept, StateEdited, StateWaiting, StateStale, StateFailing}, state)
}

func (t *target) snapshot() TargetStatus {
	t.statusMu.Lock()
	defer t.statusMu.Unlock()
	s := t.status
	s.Files = slices.Clone(s.Files)
	if s.Files == nil {
		s.Files = []FileStatus{}
	}
	return s
}
