package services

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/paddockio/paddock/configsync/dirwatch"
	"github.com/paddockio/paddock/registry"
)

// Source is the name under which the loader registers; registry.Config.Sources
// must hold it.
const Source = "services"

// A Registry is what the loader needs of [registry.Registry].
type Registry interface {
	Replace(source string, regs []registry.Registration) error
}

// Config says where the service files are.
type Config struct {
	// Dir holds the files: *.yaml, *.yml and *.json. It need not exist.
	Dir string
	// Settle and Poll are those of [dirwatch.Config].
	Settle, Poll time.Duration
	// StateDir keeps the last content without fault of each file over a restart of
	// the agent, so that a file that is bad just then takes nothing out of the tree.
	// Default: nothing is kept.
	StateDir string
	// Logger; nil discards.
	Logger *slog.Logger
}

// A Loader keeps the registry equal to the files of a directory.
type Loader struct {
	cfg Config
	reg Registry
	log *slog.Logger

	files map[string]*file  // owned by Run
	owner map[string]string // id -> file that has it; owned by Run
	saved map[string]string // what the state file holds; owned by Run

	mu   sync.Mutex // guards errs
	errs []error
}

// A file is what is known of one.
type file struct {
	data []byte                  // as last looked at; nil: not in this process
	good []byte                  // the last content without fault
	regs []registry.Registration // of the last content without fault
	err  error                   // of the content as it is now
	told string                  // the last error in the log
}

// New returns a Loader; Run does the work.
func New(reg Registry, cfg Config) *Loader {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Loader{cfg: cfg, reg: reg, log: cfg.Logger, files: map[string]*file{}, owner: map[string]string{}}
	l.load()
	return l
}

// Run loads the files, and again after each change, until ctx ends. It leaves
// the registrations as they are then.
func (l *Loader) Run(ctx context.Context) error {
	w := dirwatch.New(dirwatch.Config{
		Dir: l.cfg.Dir, Settle: l.cfg.Settle, Poll: l.cfg.Poll, Logger: l.cfg.Logger,
		Match: func(name string) bool { return isServiceFile(name) },
	})
	if err := w.Run(ctx, l.apply); err != nil {
		return fmt.Errorf("service files: %w", err)
	}
	return nil
}

func isServiceFile(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return !dirwatch.Ignored(name)
	}
	return false
}

// Errors returns the faults of the files as they are now.
func (l *Loader) Errors() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.errs)
}

// apply takes a complete listing.
func (l *Loader) apply(files []dirwatch.File) {
	now := make(map[string]*file, len(files))
	for _, f := range files {
		if isServiceFile(f.Name) {
			now[f.Name] = l.read(f)
		}
	}
	for name := range l.files {
		if now[name] == nil {
			l.log.Info("service file removed", "file", name)
		}
	}
	l.files = now

	regs, errs := l.merge()
	for _, err := range unjoin(l.reg.Replace(Source, regs)) {
		var re *registry.RegistrationError
		if errors.As(err, &re) && l.owner[re.ID] != "" {
			err = &Error{File: l.owner[re.ID], Key: re.ID, Err: re.Err}
		}
		errs = append(errs, err)
	}
	l.tell(errs)
	l.save() // at the end: an fsync takes longer than a registration
}

// read parses a file if it is not the one that was there before.
func (l *Loader) read(f dirwatch.File) *file {
	old := l.files[f.Name]
	if old == nil {
		old = &file{}
	}
	if f.Err != nil {
		return &file{good: old.good, regs: old.regs, told: old.told, err: &Error{File: f.Name, Err: f.Err}}
	}
	if old.data != nil && bytes.Equal(old.data, f.Data) {
		return old
	}
	data := f.Data
	if data == nil {
		data = []byte{}
	}
	regs, err := Parse(f.Name, data)
	if err != nil {
		return &file{data: data, good: old.good, regs: old.regs, told: old.told, err: err}
	}
	l.log.Info("service file loaded", "file", f.Name, "services", len(regs))
	return &file{data: data, good: data, regs: regs}
}

// merge joins the registrations of all files. Where two have the same id, it
// stays with the file that had it, so that a new file displaces nothing.
func (l *Loader) merge() (regs []registry.Registration, errs []error) {
	names := make([]string, 0, len(l.files))
	for name := range l.files {
		names = append(names, name)
	}
	slices.Sort(names)
	owner := map[string]string{}
	for _, name := range names {
		for _, reg := range l.files[name].regs {
			if id := reg.DefaultID(); l.owner[id] == name {
				owner[id] = name
			}
		}
	}
	for _, name := range names {
		f := l.files[name]
		if f.err != nil {
			errs = append(errs, unjoin(f.err)...)
		}
		for _, reg := range f.regs {
			id := reg.DefaultID()
			if owner[id] == "" {
				owner[id] = name
			}
			if owner[id] != name {
				errs = append(errs, &Error{File: name, Key: "id", Err: fmt.Errorf("%q is used in %s", id, owner[id])})
				continue
			}
			regs = append(regs, reg)
		}
	}
	l.owner = owner
	return regs, errs
}

// tell keeps the errors and logs what is new among them.
func (l *Loader) tell(errs []error) {
	byFile := map[string][]string{}
	for _, err := range errs {
		var e *Error
		name := ""
		if errors.As(err, &e) {
			name = e.File
		}
		byFile[name] = append(byFile[name], err.Error())
	}
	for name, f := range l.files {
		text := strings.Join(byFile[name], "; ")
		if text != "" && text != f.told {
			l.log.Error("service file has faults; what it said before stays in force", "file", name, "err", text)
		}
		f.told = text
	}
	for _, text := range byFile[""] {
		l.log.Error("service not registered", "err", text)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = errs
}
