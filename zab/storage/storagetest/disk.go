// Package storagetest has a disk in memory that loses power, fails and fills up
// when a test says so.
//
// [Disk] keeps, for each file and directory, what is safe and the changes since
// the last sync. [Disk.Crash] lets each of those survive, vanish or survive in
// part, by the seed, as disks and file systems are allowed to: sectors of one
// write independently of each other, names independently of contents. It knows
// nothing of the order that a real file system keeps by chance. [Disk.Outcomes]
// goes through all that a crash may leave, instead of drawing one.
package storagetest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/paddockio/paddock/zab/storage"
)

// sector is what a disk writes wholly or not at all.
const sector = 512

// ErrCrashed is the error of every operation between a planned crash and Crash.
var ErrCrashed = errors.New("the power is off")

// Disk is a storage.FS in memory. Its methods are safe for concurrent use.
type Disk struct {
	mu       sync.Mutex
	rng      *rand.Rand
	root     *dir
	boot     int // counts crashes: what was opened before one is dead
	locks    map[string]bool
	off      bool
	ops      int // that change something or sync
	crashAt  int
	failAt   int
	failErr  error
	capacity int64
	badReads map[string]error // by the last part of the name
	observe  func(*Disk)
}

// NewDisk returns an empty disk whose crashes are decided by the seed.
func NewDisk(seed uint64) *Disk {
	return &Disk{rng: rand.New(rand.NewPCG(seed, 0)), root: newDir(), locks: map[string]bool{}}
}

// entry is what a name stands for: a file or a directory.
type entry struct {
	file *inode
	dir  *dir
}

type dir struct {
	now     map[string]entry
	safe    map[string]entry
	changes []rename // since the last sync
}

// rename is a change of names that happens wholly or not at all. An empty entry
// removes.
type rename struct {
	op      int // by number: see Disk.Ops
	names   []string
	entries []entry
}

func newDir() *dir { return &dir{now: map[string]entry{}, safe: map[string]entry{}} }

func (d *dir) change(r rename) {
	d.changes = append(d.changes, r)
	r.apply(d.now)
}

func (r *rename) apply(to map[string]entry) {
	for i, n := range r.names {
		if e := r.entries[i]; e == (entry{}) {
			delete(to, n)
		} else {
			to[n] = e
		}
	}
}

type inode struct {
	now     []byte
	safe    []byte
	changes []change // since the last sync
	shared  bool     // the bytes are those of a copy, too: see own
}

// own is called before bytes change.
func (f *inode) own() {
	if f.shared {
		f.now, f.safe, f.shared = slices.Clone(f.now), slices.Clone(f.safe), false
	}
}

// change is one write, or with data nil one change of the size.
type change struct {
	op   int // by number: see Disk.Ops
	off  int64
	data []byte
}

func (c *change) apply(b []byte) []byte {
	if c.data == nil {
		return resize(b, c.off)
	}
	if end := c.off + int64(len(c.data)); end > int64(len(b)) {
		b = resize(b, end)
	}
	copy(b[c.off:], c.data)
	return b
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func (f *inode) sync() {
	if len(f.changes) > 0 {
		f.own()
	}
	for i := range f.changes {
		f.safe = f.changes[i].apply(f.safe)
	}
	f.changes = nil
}

// CrashAt plans a power cut at the nth operation from now that changes or syncs
// something; 0 cancels it. The operation may or may not have begun.
func (d *Disk) CrashAt(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashAt = 0
	if n > 0 {
		d.crashAt = d.ops + n
	}
}

// FailAt makes the nth such operation from now fail with err; 0 cancels it.
func (d *Disk) FailAt(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failAt, d.failErr = 0, err
	if n > 0 {
		d.failAt = d.ops + n
	}
}

// SetCapacity limits the bytes in all files; 0 removes the limit.
func (d *Disk) SetCapacity(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = bytes
}

// FailReads makes reads of files of that name (without directories) fail; nil
// ends it.
func (d *Disk) FailReads(base string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.badReads == nil {
		d.badReads = map[string]error{}
	}
	d.badReads[base] = err
}

// Ops returns how many operations have changed or synced something.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// Crash cuts the power and puts it on again: what was not synced is there, gone
// or there in part. Open files and locks are dead.
func (d *Disk) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.boot++
	d.off, d.crashAt, d.failAt = false, 0, 0
	d.locks = map[string]bool{}
	d.crashDir(d.root, map[*inode]bool{})
}

// Kill is what the death of the process does: nothing is lost, but open files
// and locks are dead.
func (d *Disk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.boot++
	d.off, d.crashAt, d.failAt = false, 0, 0
	d.locks = map[string]bool{}
}

func (d *Disk) crashDir(x *dir, done map[*inode]bool) {
	keep := d.chance()
	for i := range x.changes {
		if keep() {
			x.changes[i].apply(x.safe)
		}
	}
	x.changes = nil
	x.now = maps.Clone(x.safe)
	// In order, so that a seed always gives the same crash.
	for _, name := range slices.Sorted(maps.Keys(x.now)) {
		e := x.now[name]
		if e.dir != nil {
			d.crashDir(e.dir, done)
		} else if !done[e.file] {
			done[e.file] = true
			d.crashFile(e.file)
		}
	}
}

// chance returns a coin: always, never, or half of the time.
func (d *Disk) chance() func() bool {
	switch d.rng.IntN(3) {
	case 0:
		return func() bool { return true }
	case 1:
		return func() bool { return false }
	}
	return func() bool { return d.rng.IntN(2) == 0 }
}

func (d *Disk) crashFile(f *inode) {
	d.settle(f)
	f.now = slices.Clone(f.safe)
}

// settle decides which of the changes of a file reach the disk.
func (d *Disk) settle(f *inode) {
	f.own()
	keep := d.chance()
	for _, c := range f.changes {
		if c.data == nil {
			if keep() {
				f.safe = c.apply(f.safe)
			}
			continue
		}
		for _, part := range sectors(c) {
			if keep() {
				f.safe = part.apply(f.safe)
			}
		}
	}
	f.changes = nil
}

// sectors cuts a write where sectors of the disk begin.
func sectors(c change) []change {
	var parts []change
	for len(c.data) > 0 {
		n := min(int64(len(c.data)), sector-c.off%sector)
		parts = append(parts, change{c.op, c.off, c.data[:n:n]})
		c = change{c.op, c.off + n, c.data[n:]}
	}
	return parts
}

// begin counts an operation and says how it goes: an error is final, maybe says
// that a crash at this moment may have begun it.
func (d *Disk) begin(boot int) (maybe bool, err error) {
	if d.off || boot != d.boot {
		return false, ErrCrashed
	}
	if d.observe != nil {
		d.observe(d.clone())
	}
	d.ops++
	if d.ops == d.crashAt {
		d.off = true
		return d.rng.IntN(2) == 0, ErrCrashed
	}
	if d.ops == d.failAt {
		return false, d.failErr
	}
	return false, nil
}

func split(name string) []string {
	name = strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/")
	if name == "." || name == "" {
		return nil
	}
	return strings.Split(name, "/")
}

func notExist(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// find returns the directory that holds name, and the last part of name.
func (d *Disk) find(op, name string) (*dir, string, error) {
	parts := split(name)
	if len(parts) == 0 {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	at := d.root
	for _, p := range parts[:len(parts)-1] {
		if at = at.now[p].dir; at == nil {
			return nil, "", notExist(op, name)
		}
	}
	return at, parts[len(parts)-1], nil
}

func (d *Disk) findDir(op, name string) (*dir, error) {
	at := d.root
	for _, p := range split(name) {
		if at = at.now[p].dir; at == nil {
			return nil, notExist(op, name)
		}
	}
	return at, nil
}

// Open implements storage.FS.
func (d *Disk) Open(name string) (storage.File, error) { return d.open("open", name, false) }

// OpenWrite implements storage.FS.
func (d *Disk) OpenWrite(name string) (storage.File, error) { return d.open("open", name, true) }

func (d *Disk) open(op, name string, write bool) (storage.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return nil, ErrCrashed
	}
	in, base, err := d.find(op, name)
	if err != nil {
		return nil, err
	}
	f := in.now[base].file
	if f == nil {
		return nil, notExist(op, name)
	}
	return &file{d: d, in: f, boot: d.boot, name: name, write: write}, nil
}

// Create implements storage.FS.
func (d *Disk) Create(name string) (storage.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in, base, err := d.find("create", name)
	if err != nil {
		return nil, err
	}
	maybe, err := d.begin(d.boot)
	if err == nil || maybe {
		if f := in.now[base].file; f != nil {
			f.now = nil
			f.changes = append(f.changes, change{op: d.ops, off: 0})
		} else {
			in.change(rename{d.ops, []string{base}, []entry{{file: &inode{}}}})
		}
	}
	if err != nil {
		return nil, err
	}
	return &file{d: d, in: in.now[base].file, boot: d.boot, name: name, write: true}, nil
}

// Rename implements storage.FS.
func (d *Disk) Rename(oldname, newname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, oldBase, err := d.find("rename", oldname)
	if err != nil {
		return err
	}
	to, newBase, err := d.find("rename", newname)
	if err != nil {
		return err
	}
	if from != to {
		return &fs.PathError{Op: "rename", Path: newname, Err: errors.ErrUnsupported}
	}
	e, ok := from.now[oldBase]
	if !ok {
		return notExist("rename", oldname)
	}
	maybe, err := d.begin(d.boot)
	if err == nil || maybe {
		from.change(rename{d.ops, []string{oldBase, newBase}, []entry{{}, e}})
	}
	return err
}

// Remove implements storage.FS.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	in, base, err := d.find("remove", name)
	if err != nil {
		return err
	}
	if _, ok := in.now[base]; !ok {
		return notExist("remove", name)
	}
	maybe, err := d.begin(d.boot)
	if err == nil || maybe {
		in.change(rename{d.ops, []string{base}, []entry{{}}})
	}
	return err
}

// MkdirAll implements storage.FS.
func (d *Disk) MkdirAll(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.root
	for _, p := range split(name) {
		e, ok := at.now[p]
		if !ok {
			maybe, err := d.begin(d.boot)
			if err == nil || maybe {
				at.change(rename{d.ops, []string{p}, []entry{{dir: newDir()}}})
			}
			if err != nil {
				return err
			}
			e = at.now[p]
		}
		if e.dir == nil {
			return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
		}
		at = e.dir
	}
	return nil
}

func info(name string, e entry) storage.FileInfo {
	if e.dir != nil {
		return storage.FileInfo{Name: name, Dir: true}
	}
	return storage.FileInfo{Name: name, Size: int64(len(e.file.now))}
}

// List implements storage.FS.
func (d *Disk) List(name string) ([]storage.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return nil, ErrCrashed
	}
	x, err := d.findDir("list", name)
	if err != nil {
		return nil, err
	}
	var list []storage.FileInfo
	for n, e := range x.now {
		list = append(list, info(n, e))
	}
	slices.SortFunc(list, func(a, b storage.FileInfo) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Stat implements storage.FS.
func (d *Disk) Stat(name string) (storage.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return storage.FileInfo{}, ErrCrashed
	}
	if len(split(name)) == 0 {
		return storage.FileInfo{Name: "/", Dir: true}, nil
	}
	in, base, err := d.find("stat", name)
	if err != nil {
		return storage.FileInfo{}, err
	}
	e, ok := in.now[base]
	if !ok {
		return storage.FileInfo{}, notExist("stat", name)
	}
	return info(base, e), nil
}

// SyncDir implements storage.FS.
func (d *Disk) SyncDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, err := d.findDir("sync", name)
	if err != nil {
		return err
	}
	maybe, err := d.begin(d.boot)
	if err == nil || maybe {
		for i := range x.changes {
			x.changes[i].apply(x.safe)
		}
		x.changes = nil
	}
	return err
}

// Free implements storage.FS.
func (d *Disk) Free(string) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.capacity == 0 {
		return -1, nil
	}
	return d.capacity - d.used(d.root), nil
}

func (d *Disk) used(x *dir) (sum int64) {
	for _, e := range x.now {
		if e.dir != nil {
			sum += d.used(e.dir)
		} else {
			sum += int64(len(e.file.now))
		}
	}
	return sum
}

// Lock implements storage.FS.
func (d *Disk) Lock(name string) (storage.Lock, error) {
	f, err := d.Create(name)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locks[name] {
		return nil, &storage.InUseError{Path: name, PID: 1}
	}
	d.locks[name] = true
	return &lock{d, name, f.(*file).in, d.boot}, nil
}

type lock struct {
	d    *Disk
	name string
	in   *inode
	boot int
}

func (l *lock) Held() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.d.off || l.boot != l.d.boot {
		return ErrCrashed
	}
	in, base, err := l.d.find("stat", l.name)
	if err != nil || in.now[base].file != l.in {
		return fmt.Errorf("%s is not the file that was locked", l.name)
	}
	return nil
}

func (l *lock) Close() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.boot == l.d.boot {
		delete(l.d.locks, l.name)
	}
	return nil
}

// ReadFile returns what a file holds now.
func (d *Disk) ReadFile(name string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in, base, err := d.find("read", name)
	if err != nil {
		return nil, err
	}
	f := in.now[base].file
	if f == nil {
		return nil, notExist("read", name)
	}
	return slices.Clone(f.now), nil
}

// WriteFile puts a file on the disk, safe at once: damage, or what another
// program left.
func (d *Disk) WriteFile(name string, b []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	in, base, err := d.find("write", name)
	if err != nil {
		return err
	}
	e := entry{file: &inode{now: slices.Clone(b), safe: slices.Clone(b)}}
	in.now[base], in.safe[base] = e, e
	return nil
}

// RemoveFile takes a file off the disk, safe at once.
func (d *Disk) RemoveFile(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	in, base, err := d.find("remove", name)
	if err != nil {
		return err
	}
	delete(in.now, base)
	delete(in.safe, base)
	return nil
}

type file struct {
	d     *Disk
	in    *inode
	boot  int
	name  string
	write bool
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.off || f.boot != f.d.boot {
		return 0, ErrCrashed
	}
	if err := f.d.badReads[filepath.Base(f.name)]; err != nil {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: err}
	}
	if off >= int64(len(f.in.now)) {
		return 0, io.EOF
	}
	n := copy(p, f.in.now[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if !f.write {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: fs.ErrPermission}
	}
	maybe, err := f.d.begin(f.boot)
	if err != nil && !maybe {
		return 0, err
	}
	if more := off + int64(len(p)) - int64(len(f.in.now)); f.d.capacity > 0 && more > 0 &&
		f.d.used(f.d.root)+more > f.d.capacity {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	if len(p) > 0 {
		c := change{f.d.ops, off, written(p)}
		f.in.own()
		f.in.now = c.apply(f.in.now)
		f.in.changes = append(f.in.changes, c)
	}
	return len(p), err
}

// zeros are what logs are filled with ahead of their entries: one copy is enough.
var zeros [256 << 10]byte

// written returns a copy of what is written.
func written(p []byte) []byte {
	if len(p) <= len(zeros) && bytes.Equal(p, zeros[:len(p)]) {
		return zeros[:len(p):len(p)]
	}
	return slices.Clone(p)
}

func (f *file) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	maybe, err := f.d.begin(f.boot)
	if err == nil || maybe {
		c := change{op: f.d.ops, off: size}
		f.in.own()
		f.in.now = c.apply(f.in.now)
		f.in.changes = append(f.in.changes, c)
	}
	return err
}

func (f *file) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.off || f.boot != f.d.boot {
		return 0, ErrCrashed
	}
	return int64(len(f.in.now)), nil
}

// Sync implements storage.File. A sync that fails leaves the changes neither
// safe nor waiting for the next one: Linux marks the pages clean.
func (f *file) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	maybe, err := f.d.begin(f.boot)
	switch {
	case err == nil || maybe:
		f.in.sync()
	case err != ErrCrashed:
		f.d.settle(f.in)
	}
	return err
}

func (f *file) Datasync() error { return f.Sync() }

func (f *file) Close() error { return nil }
