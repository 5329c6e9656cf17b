package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// An Error is one fault of a configuration.
type Error struct {
	// File is where the value stands: a file name, "environment" or "flag".
	// "" is a default.
	File string
	// Line counts from 1; 0 is no line.
	Line int
	// Key is the setting: zab.tick_time, configsync[0].to, tickTime.
	Key string
	Msg string
}

// Error prints file:line: key: message.
func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", e.File, e.Line)
	case e.File != "":
		b.WriteString(e.File + ": ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	return b.String() + e.Msg
}

// Errors are all faults of a configuration, in the order of files and lines.
type Errors []*Error

// Error prints one fault per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As each fault.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, f := range e {
		errs[i] = f
	}
	return errs
}

// err returns the faults sorted, or nil if there are none.
func (e Errors) err() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return e
}

// faults returns the faults in err, wherever it comes from.
func faults(err error, file string) Errors {
	var all Errors
	var one *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &all):
		return all
	case errors.As(err, &one):
		return Errors{one}
	}
	return Errors{{File: file, Msg: err.Error()}}
}
