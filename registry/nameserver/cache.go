package nameserver

import (
	"hash/maphash"
	"sync"
)

// A cache holds answers by name and type. An answer stays when the generation
// moves on: most often it proves to be still true, see [answer.sameView].
type cache struct {
	seed   maphash.Seed
	shards [16]shard
}

type shard struct {
	mu sync.RWMutex // never held while an answer is built
	m  map[string]*answer
	// bytes is about what the answers take. At the limit the shard is emptied,
	// which costs no more than to build again what is still asked for.
	bytes int
}

const (
	shardBytes     = 1 << 20
	answerOverhead = 400
)

func newCache() *cache {
	c := &cache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].m = make(map[string]*answer)
	}
	return c
}

func (c *cache) shard(key []byte) *shard {
	return &c.shards[maphash.Bytes(c.seed, key)%uint64(len(c.shards))]
}

func (c *cache) get(key []byte) *answer {
	s := c.shard(key)
	s.mu.RLock()
	a := s.m[string(key)]
	s.mu.RUnlock()
	return a
}

// put keeps a unless there is an answer of a later generation: a slow worker
// must not bring back what others have seen go.
func (c *cache) put(key []byte, a *answer) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.m[string(key)]; old != nil {
		if old.gen.Load() > a.gen.Load() {
			return
		}
		s.bytes -= old.size()
	}
	if s.bytes += a.size(); s.bytes > shardBytes {
		clear(s.m)
		s.bytes = a.size()
	}
	s.m[string(key)] = a
}

// size is about what the answer takes in memory, with its key. The instances
// are the directory's.
func (a *answer) size() int {
	return answerOverhead + len(a.recs) + 8*len(a.ends) + 4*len(a.weight) + 24*len(a.glue)
}
