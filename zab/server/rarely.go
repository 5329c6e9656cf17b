package server

import "sync"

// rarely is a warning that clients cause: it is logged once a second at most for
// each kind of reason, or they could fill the disk with it.
type rarely struct {
	mu    sync.Mutex
	kinds map[string]*quiet // as many as there are in this package
}

type quiet struct{ next, skipped int64 } // nanos; lines

// warn logs, or only counts; the next line of the kind, which is a constant, says how
// many were left out.
func (r *rarely) warn(s *Server, kind, msg string, args ...any) {
	now := s.nanos()
	r.mu.Lock()
	q := r.kinds[kind]
	if q == nil {
		if r.kinds == nil {
			r.kinds = map[string]*quiet{}
		}
		q = &quiet{}
		r.kinds[kind] = q
	}
	if now < q.next {
		q.skipped++
		r.mu.Unlock()
		return
	}
	skipped := q.skipped
	q.next, q.skipped = now+1e9, 0
	r.mu.Unlock()
	s.log.Warn(msg, append(args, "skipped", skipped)...)
}
