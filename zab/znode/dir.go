package znode

import "hash/maphash"

// dir holds the children of one node. Up to leafMax of them are a plain slice,
// with a small hash index once scanning would be slow; more are spread over 16
// dirs by 4 bits of the hash of the name, and so on. So no insert ever moves
// more than leafMax pointers, however many children there are (a flat table
// stops the server for its growth), a child costs about 17 bytes besides its
// node, and a walk can remember its place as a hash while children come and go.
type dir struct {
	n    int // children in here, also below sub
	sub  *[16]*dir
	ents []*node
	idx  []uint16 // open addressing: slotUsed | 7 bits of hash | place in ents
}

const (
	leafMax  = 256 // a place in ents must fit in a byte
	leafScan = 8   // up to this many children need no index
	leafLow  = 64  // fewer than this are gathered in one leaf again
	slotUsed = 0x8000
)

// seed makes it hard to choose names that collide.
var seed = maphash.MakeSeed()

func hashName(name string) uint64 { return maphash.String(seed, name) }

func slotTag(h uint64) uint16 { return slotUsed | uint16(h>>16&0x7f)<<8 }

func (d *dir) get(name string) *node {
	if d.sub == nil && d.idx == nil {
		for _, c := range d.ents {
			if c.name() == name {
				return c
			}
		}
		return nil
	}
	h := hashName(name)
	for shift := 60; d.sub != nil; shift -= 4 {
		if d = d.sub[h>>shift&15]; d == nil {
			return nil
		}
	}
	if at := d.find(name, h); at >= 0 {
		return d.ents[at]
	}
	return nil
}

// find returns the place of a child in a leaf, or -1.
func (d *dir) find(name string, h uint64) int {
	if d.idx == nil {
		for i, c := range d.ents {
			if c.name() == name {
				return i
			}
		}
		return -1
	}
	mask := len(d.idx) - 1
	tag := slotTag(h)
	for i := int(h) & mask; d.idx[i] != 0; i = (i + 1) & mask {
		if s := d.idx[i]; s&0xff00 == tag && d.ents[s&0xff].name() == name {
			return int(s & 0xff)
		}
	}
	return -1
}

// add inserts a child that is not there.
func (d *dir) add(c *node) {
	d.n++
	if d.sub == nil && d.n <= leafScan {
		d.ents = append(d.ents, c)
		d.idx = nil // there is one while a dir shrinks
		return
	}
	h := hashName(c.name())
	shift := 60
	for {
		if d.sub == nil && len(d.ents) >= leafMax && shift >= 0 {
			d.split(shift)
		}
		if d.sub == nil {
			break
		}
		next := &d.sub[h>>shift&15]
		if *next == nil {
			*next = &dir{}
		}
		d = *next
		d.n++
		shift -= 4
	}
	d.ents = append(d.ents, c)
	d.index(h)
}

// index enters the last child into the index of a leaf.
func (d *dir) index(h uint64) {
	switch k := len(d.ents); {
	case k <= leafScan || k > leafMax:
		d.idx = nil
	case len(d.idx) < k*3/2:
		d.reindex()
	default:
		d.enter(h, k-1)
	}
}

func (d *dir) enter(h uint64, at int) {
	mask := len(d.idx) - 1
	i := int(h) & mask
	for d.idx[i] != 0 {
		i = (i + 1) & mask
	}
	d.idx[i] = slotTag(h) | uint16(at)
}

func (d *dir) reindex() {
	size := 16
	for size < len(d.ents)*2 {
		size *= 2
	}
	d.idx = make([]uint16, size)
	for i, c := range d.ents {
		d.enter(hashName(c.name()), i)
	}
}

func (d *dir) split(shift int) {
	d.sub = new([16]*dir)
	for _, c := range d.ents {
		h := hashName(c.name())
		next := &d.sub[h>>shift&15]
		if *next == nil {
			*next = &dir{ents: make([]*node, 0, 2*leafMax/16)}
		}
		(*next).n++
		(*next).ents = append((*next).ents, c)
		(*next).index(h)
	}
	d.ents, d.idx = nil, nil
}

// remove takes a child out; it must be there.
func (d *dir) remove(c *node) {
	d.n--
	var h uint64
	if d.sub != nil || d.idx != nil {
		h = hashName(c.name())
	}
	for shift := 60; d.sub != nil; shift -= 4 {
		if d.n < leafLow {
			ents := d.gather(make([]*node, 0, leafLow+1))
			d.sub, d.ents = nil, ents
			d.reindex()
			break
		}
		d = d.sub[h>>shift&15]
		d.n--
	}
	at := d.find(c.name(), h)
	last := len(d.ents) - 1
	if d.idx != nil {
		d.leave(h, at)
		if at != last {
			d.moved(hashName(d.ents[last].name()), last, at)
		}
	}
	d.ents[at] = d.ents[last]
	d.ents[last] = nil
	d.ents = d.ents[:last]
	if c := cap(d.ents); c > 2*leafScan && last < c/4 {
		d.ents = append(make([]*node, 0, c/2), d.ents...)
		d.idx = nil
		if last > leafScan {
			d.reindex()
		}
	}
}

// slot returns where the index holds the place at.
func (d *dir) slot(h uint64, at int) int {
	mask := len(d.idx) - 1
	i := int(h) & mask
	for d.idx[i] == 0 || int(d.idx[i]&0xff) != at {
		i = (i + 1) & mask
	}
	return i
}

func (d *dir) moved(h uint64, from, to int) {
	i := d.slot(h, from)
	d.idx[i] = d.idx[i]&0xff00 | uint16(to)
}

// leave frees a slot and moves later entries of the run into the hole if their
// search would stop there.
func (d *dir) leave(h uint64, at int) {
	mask := len(d.idx) - 1
	hole := d.slot(h, at)
	for i := (hole + 1) & mask; d.idx[i] != 0; i = (i + 1) & mask {
		home := int(hashName(d.ents[d.idx[i]&0xff].name())) & mask
		if (i-home)&mask >= (i-hole)&mask {
			d.idx[hole] = d.idx[i]
			hole = i
		}
	}
	d.idx[hole] = 0
}

// gather appends all children.
func (d *dir) gather(to []*node) []*node {
	if d.sub == nil {
		return append(to, d.ents...)
	}
	for _, s := range d.sub {
		if s != nil {
			to = s.gather(to)
		}
	}
	return to
}

// part returns the children of the leaf that holds the hash from, and the
// first hash behind that leaf, 0 if it is the last. A child that is there all
// the time is met by a loop over part even if others come and go in between;
// some may be met twice.
func (d *dir) part(from uint64) (ents []*node, next uint64) {
	shift := 64
	for d.sub != nil {
		shift -= 4
		if d = d.sub[from>>shift&15]; d == nil {
			return nil, (from>>shift + 1) << shift
		}
	}
	if shift == 64 {
		return d.ents, 0
	}
	return d.ents, (from>>shift + 1) << shift
}
