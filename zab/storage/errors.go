package storage

import (
	"errors"
	"fmt"
	"strings"

	"github.com/paddockio/paddock/zab"
)

// A DamageError says that a file of the store is not as it was written, and that
// going on without it would lose or invent state. Nothing has been changed.
type DamageError struct {
	File   string
	Offset int64    // where the damage begins; -1 if that makes no sense
	Last   zab.Zxid // the last transaction that is good, as far as the history goes
	Reason string
	Hint   string // what the operator can do
	Err    error  // the cause, if there is one
}

func (e *DamageError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Offset >= 0 {
		fmt.Fprintf(&b, " at byte %d", e.Offset)
	}
	b.WriteString(": " + e.Reason)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	fmt.Fprintf(&b, "; last good zxid %v", e.Last)
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *DamageError) Unwrap() error { return e.Err }

// ErrFailed is what errors.Is finds in the first error of a store that is final,
// and in every later one: what the disk holds is unknown until a new process
// reads the files.
var ErrFailed = errors.New("the store has failed")

// failure is a final error.
type failure struct{ err error }

func (f *failure) Error() string   { return f.err.Error() }
func (f *failure) Unwrap() []error { return []error{f.err, ErrFailed} }

// ErrEpochUnknown says that an epoch file is missing or unreadable although the
// store has a history: a promise may have been forgotten.
var ErrEpochUnknown = errors.New("epoch unknown")

// ErrEpochDamaged is an ErrEpochUnknown: the file is there and holds no epoch. So
// there was a promise, which a missing file may not mean.
var ErrEpochDamaged = fmt.Errorf("it is no epoch: %w", ErrEpochUnknown)
