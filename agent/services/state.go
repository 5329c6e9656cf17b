package services

import (
	"fmt"
	"path/filepath"

	"github.com/paddockio/paddock/internal/durable"
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
	var s state
	found, err := durable.ReadJSON(filepath.Join(l.cfg.StateDir, stateFile), maxState, &s)
	if found && s.Format != 1 {
		err = fmt.Errorf("%s has format %d, this agent knows 1", stateFile, s.Format)
	}
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
	if err := durable.WriteJSON(filepath.Join(l.cfg.StateDir, stateFile), s); err != nil {
		l.log.Warn("last good service files not saved", "err", err)
		return
	}
	l.saved = s.Files
}
