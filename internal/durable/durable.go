// Package durable keeps small files of which a power cut must leave the old bytes or
// the new ones, never a mixture and never none.
package durable

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces the file name by data, with the given permissions: see Write.
func WriteFile(name string, data []byte, mode fs.FileMode) error {
	return Write(name, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Write replaces the file name by what write puts out, with the given permissions.
// Others see the old file or the new one, whole, and so does who comes after a power
// cut; when Write has returned without an error, that is the new one. After an error
// before the very end the old file is still there. A symbolic link of that name is
// replaced, not followed. The directory must exist. One goroutine writes a file at a
// time: what it was doing when the process was killed is removed by the next one.
func Write(name string, mode fs.FileMode, write func(io.Writer) error) error {
	dir := filepath.Dir(name)
	unfinished := filepath.Join(dir, "."+filepath.Base(name)+".tmp")
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp, err := os.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = write(tmp)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(unfinished, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(unfinished))
	}
	return SyncDir(dir)
}

// WriteJSON replaces the file name by v as JSON, readable by its owner only, and makes
// its directory if need be: see Write.
func WriteJSON(name string, v any) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return Write(name, 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(v) })
}

// ReadJSON reads what WriteJSON wrote into v; found is false if there is no file.
func ReadJSON(name string, max int64, v any) (found bool, err error) {
	data, err := ReadFile(name, max)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	return true, nil
}

// ReadFile reads a file of at most max bytes; a larger one is an error.
func ReadFile(name string, max int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(data)) > max {
		err = fmt.Errorf("%s: more than %d bytes", name, max)
	}
	return data, err
}

// SyncDir makes the names in a directory safe.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
