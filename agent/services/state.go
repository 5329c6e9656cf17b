package services

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// stateFile holds the last content without fault of each file.
const stateFile = "services.json"

// maxState bounds what is read at the start.
const maxState = 64 << 20

type state struct {
	Format int               `json:"format"`
	Files  map[string]string `json:"files"`
}

// load remembers what the former process had registered. Damage is a warning:
// the files themselves are there.
func (l *Loader) load() {
	if l.cfg.StateDir == "" {
		return
	}
	s, err := readState(l.cfg.StateDir)
	if err != nil {
		l.log.Warn("last good service files ignored", "err", err)
		return
	}
	for name, text := range s.Files {
		if regs, err := Parse(name, []byte(text)); err == nil {
			l.files[name] = &file{good: []byte(text), regs: regs}
			for _, reg := range regs {
				l.owner[reg.DefaultID()] = name
			}
		}
	}
	l.saved = s.Files
}

func readState(dir string) (s state, err error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	defer root.Close()
	info, err := root.Stat(stateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if info.Size() > maxState {
		return s, fmt.Errorf("%s has %d bytes, more than %d", stateFile, info.Size(), maxState)
	}
	data, err := root.ReadFile(stateFile)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%s: %w", stateFile, err)
	}
	if s.Format != 1 {
		return s, fmt.Errorf("%s has format %d, this agent knows 1", stateFile, s.Format)
	}
	return s, nil
}

// save writes the state if it changed.
func (l *Loader) save() {
	if l.cfg.StateDir == "" {
		return
	}
	s := state{Format: 1, Files: map[string]string{}}
	changed := false
	for name, f := range l.files {
		if f.good != nil {
			s.Files[name] = string(f.good)
			changed = changed || l.saved[name] != s.Files[name]
		}
	}
	if !changed && len(s.Files) == len(l.saved) {
		return
	}
	if err := writeState(l.cfg.StateDir, s); err != nil {
		l.log.Warn("last good service files not saved", "err", err)
		return
	}
	l.saved = s.Files
}

// writeState replaces the file as a whole. 0600: parameters may be secrets.
func writeState(dir string, s state) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	tmp := stateFile + ".tmp"
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, werr := f.Write(data)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := root.Rename(tmp, stateFile); err != nil {
		return err
	}
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
