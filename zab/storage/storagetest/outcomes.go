package storagetest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"iter"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
)

// Observe calls f with a copy of the disk at the beginning of each operation that
// changes or syncs something; nil ends it. f must not use the disk itself.
func (d *Disk) Observe(f func(*Disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.observe = f
}

// Clone returns a copy of the disk, with everything that is not safe yet. It is
// a disk after a crash: nothing is open or locked, and no fault is planned.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.clone()
}

func (d *Disk) clone() *Disk {
	c := copier{dirs: map[*dir]*dir{}, files: map[*inode]*inode{}}
	n := NewDisk(0)
	n.root, n.ops = c.dir(d.root), d.ops
	return n
}

// copier copies directories and files, each once.
type copier struct {
	dirs  map[*dir]*dir
	files map[*inode]*inode
}

func (c *copier) entry(e entry) entry {
	switch {
	case e.dir != nil:
		return entry{dir: c.dir(e.dir)}
	case e.file != nil:
		return entry{file: c.file(e.file)}
	}
	return e
}

func (c *copier) dir(x *dir) *dir {
	if n := c.dirs[x]; n != nil {
		return n
	}
	n := newDir()
	c.dirs[x] = n
	for name, e := range x.now {
		n.now[name] = c.entry(e)
	}
	for name, e := range x.safe {
		n.safe[name] = c.entry(e)
	}
	for _, r := range x.changes {
		entries := make([]entry, len(r.entries))
		for i, e := range r.entries {
			entries[i] = c.entry(e)
		}
		n.changes = append(n.changes, rename{r.op, r.names, entries})
	}
	return n
}

func (c *copier) file(f *inode) *inode {
	n := c.files[f]
	if n == nil {
		f.shared = true
		n = &inode{f.now, f.safe, slices.Clone(f.changes), true}
		c.files[f] = n
	}
	return n
}

// An Outcome is one way in which a power cut can leave a disk.
type Outcome struct {
	Disk *Disk
	// Kept says, for each thing that was not safe, in the order in which they were
	// done, whether it is there: '+' or '-'.
	Kept string
}

// Outcomes yields the ways in which a power cut now can leave the disk, each
// once, and leaves the disk as it is. What is not safe survives piece by piece:
// each change of names, each change of a size and each sector of a write, except
// that a run of zeros behind the end of a file counts as two pieces. If there are
// at most limit ways, all are tried, and all is true; else limit of them: none
// and all of the pieces, prefixes, one missing, one alone, and random ones, by
// the seed.
func (d *Disk) Outcomes(limit int, seed uint64) (all bool, seq iter.Seq[Outcome]) {
	d = d.Clone() // what is yielded must not change when the disk does
	pieces := d.pieces()
	n := len(pieces)
	all = n < 30 && 1<<n <= limit
	return all, func(yield func(Outcome) bool) {
		seen := map[uint64]bool{}
		try := func(keep []bool) bool {
			o := d.settled(pieces, keep)
			if sum := o.Sum(); seen[sum] {
				return true
			} else {
				seen[sum] = true
			}
			kept := make([]byte, n)
			for i, k := range keep {
				kept[i] = "-+"[btoi(k)]
			}
			return yield(Outcome{o, string(kept)})
		}
		if all {
			for bits := range 1 << n {
				keep := make([]bool, n)
				for i := range keep {
					keep[i] = bits>>i&1 == 1
				}
				if !try(keep) {
					return
				}
			}
			return
		}
		for _, keep := range sample(n, limit, seed) {
			if !try(keep) {
				return
			}
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// sample returns limit of the subsets of n pieces.
func sample(n, limit int, seed uint64) [][]bool {
	set := func(in func(i int) bool) []bool {
		keep := make([]bool, n)
		for i := range keep {
			keep[i] = in(i)
		}
		return keep
	}
	list := [][]bool{set(func(int) bool { return false }), set(func(int) bool { return true })}
	for at := range n {
		list = append(list,
			set(func(i int) bool { return i < at }),
			set(func(i int) bool { return i != at }),
			set(func(i int) bool { return i == at }))
	}
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	rest := list[2:]
	rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	// A third is left to chance.
	list = list[:min(len(list), max(2, limit-limit/3))]
	for len(list) < limit {
		p := rng.Float64()
		list = append(list, set(func(int) bool { return rng.Float64() < p }))
	}
	return list
}

// piece is something that survives a power cut wholly or not at all.
type piece struct {
	op     int
	dir    *dir
	rename rename
	file   *inode
	parts  []change
}

// pieces returns what is not safe, in the order in which it was done. What would
// make no difference is left out.
func (d *Disk) pieces() []piece {
	var list []piece
	dirs, files := map[*dir]bool{}, map[*inode]bool{}
	var visit func(x *dir)
	visit = func(x *dir) {
		if dirs[x] {
			return
		}
		dirs[x] = true
		known := slices.Collect(maps.Values(x.safe))
		for _, r := range x.changes {
			list = append(list, piece{op: r.op, dir: x, rename: r})
			known = append(known, r.entries...)
		}
		for _, e := range known {
			if e.dir != nil {
				visit(e.dir)
			} else if e.file != nil && !files[e.file] {
				files[e.file] = true
				list = append(list, e.file.pieces()...)
			}
		}
	}
	visit(d.root)
	// One operation changes one file or directory, so the order is total.
	slices.SortStableFunc(list, func(a, b piece) int { return cmp.Compare(a.op, b.op) })
	return list
}

func (f *inode) pieces() []piece {
	resized := slices.ContainsFunc(f.changes, func(c change) bool { return c.data == nil })
	if resized && !slices.ContainsFunc(f.changes, func(c change) bool { return c.data != nil || c.off != int64(len(f.safe)) }) {
		return nil
	}
	// The sectors that some write changes.
	differs := map[int64]bool{}
	for _, c := range f.changes {
		for _, p := range sectors(c) {
			end := p.off + int64(len(p.data))
			if resized || end > int64(len(f.safe)) || !bytes.Equal(p.data, f.safe[p.off:end]) {
				differs[p.off/sector] = true
			}
		}
	}
	var list []piece
	for _, c := range f.changes {
		if c.data == nil {
			list = append(list, piece{op: c.op, file: f, parts: []change{c}})
			continue
		}
		var zeros []change
		for _, p := range sectors(c) {
			switch {
			case p.off >= int64(len(f.safe)) && !slices.ContainsFunc(p.data, func(b byte) bool { return b != 0 }):
				zeros = append(zeros, p)
			case differs[p.off/sector]:
				list = append(list, piece{op: c.op, file: f, parts: []change{p}})
			}
		}
		for _, half := range [][]change{zeros[:len(zeros)/2], zeros[len(zeros)/2:]} {
			if len(half) > 0 {
				list = append(list, piece{op: c.op, file: f, parts: half})
			}
		}
	}
	return list
}

// settled returns a disk on which some of the pieces are safe and the rest is
// lost.
func (d *Disk) settled(pieces []piece, keep []bool) *Disk {
	renames, parts := map[*dir][]rename{}, map[*inode][]change{}
	for i, p := range pieces {
		switch {
		case !keep[i]:
		case p.dir != nil:
			renames[p.dir] = append(renames[p.dir], p.rename)
		default:
			parts[p.file] = append(parts[p.file], p.parts...)
		}
	}
	files := map[*inode]*inode{}
	var settle func(x *dir) *dir
	settle = func(x *dir) *dir {
		names := maps.Clone(x.safe)
		for _, r := range renames[x] {
			r.apply(names)
		}
		n := newDir()
		for name, e := range names {
			if e.dir != nil {
				e = entry{dir: settle(e.dir)}
			} else {
				f := files[e.file]
				if f == nil {
					// Nobody writes to d, so its bytes can be shared.
					f = &inode{safe: e.file.safe, shared: true}
					if len(parts[e.file]) > 0 {
						f.safe = slices.Clone(f.safe)
					}
					for _, c := range parts[e.file] {
						f.safe = c.apply(f.safe)
					}
					f.now = f.safe
					files[e.file] = f
				}
				e = entry{file: f}
			}
			n.now[name], n.safe[name] = e, e
		}
		return n
	}
	o := NewDisk(0)
	o.root = settle(d.root)
	return o
}

var sumSeed = maphash.MakeSeed()

// Sum tells disks apart by all that is in their files. It is another one in each
// process.
func (d *Disk) Sum() uint64 {
	var h maphash.Hash
	h.SetSeed(sumSeed)
	var size [8]byte
	for name, b := range d.Files() {
		h.WriteString(name)
		h.WriteByte(0)
		binary.BigEndian.PutUint64(size[:], uint64(len(b)))
		h.Write(size[:])
		h.Write(b)
	}
	return h.Sum64()
}

// Files yields the directories and files by their whole names, in order. The
// bytes are nil for a directory, never for a file; they must not be changed.
func (d *Disk) Files() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		var walk func(at string, x *dir) bool
		walk = func(at string, x *dir) bool {
			for _, name := range slices.Sorted(maps.Keys(x.now)) {
				e, path := x.now[name], filepath.Join(at, name)
				if e.dir != nil {
					if !yield(path, nil) || !walk(path, e.dir) {
						return false
					}
					continue
				}
				b := e.file.now
				if b == nil {
					b = []byte{}
				}
				if !yield(path, b) {
					return false
				}
			}
			return true
		}
		walk("/", d.root)
	}
}
