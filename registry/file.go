package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Files in the data directory.
const (
	viewFile          = "registry-view.json"
	registrationsFile = "registrations.json"
)

// maxFile bounds what is loaded: 100,000 providers with long names.
const maxFile = 256 << 20

// replaceFile makes the file hold v as JSON. A reader, also one after a power
// cut, finds the old bytes or the new ones.
func replaceFile(dir, name string, v any) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	tmp := name + ".tmp"
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	werr := json.NewEncoder(f).Encode(v)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := root.Rename(tmp, name); err != nil {
		return err
	}
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// loadFile reads what replaceFile wrote; found is false if there is no file.
func loadFile(dir, name string, v any) (found bool, err error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return false, err
	} else if info.Size() > maxFile {
		return false, fmt.Errorf("%s has %d bytes, more than %d", f.Name(), info.Size(), maxFile)
	}
	if err := json.NewDecoder(io.LimitReader(f, maxFile)).Decode(v); err != nil {
		return false, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return true, nil
}
