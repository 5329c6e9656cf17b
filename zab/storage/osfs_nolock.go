//go:build !linux && !darwin && !freebsd

package storage

import (
	"errors"
	"os"
)

var errLocked = errors.New("locked")

// flock does nothing: there is no advisory lock in the standard library here.
func flock(*os.File) error { return nil }

func freeBytes(string) (int64, error) { return -1, nil }
