package server

import "sync/atomic"

// rarely is a warning that clients cause: it is logged once a second at most, or
// they could fill the disk with it.
type rarely struct {
	next    atomic.Int64 // nanos
	skipped atomic.Int64
}

// warn logs, or only counts; the next line says how many were left out.
func (r *rarely) warn(s *Server, msg string, args ...any) {
	now, next := s.nanos(), r.next.Load()
	if now < next || !r.next.CompareAndSwap(next, now+1e9) {
		r.skipped.Add(1)
		return
	}
	s.log.Warn(msg, append(args, "skipped", r.skipped.Swap(0))...)
}
