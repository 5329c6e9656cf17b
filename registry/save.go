package registry

import (
	"context"
	"path/filepath"
	"time"

	"github.com/paddockio/paddock/internal/durable"
)

// Files in the data directory.
const (
	viewFile          = "registry-view.json"
	registrationsFile = "registrations.json"
)

// maxFile bounds what is loaded: 100,000 providers with long names.
const maxFile = 256 << 20

// savedView is the file of the last good view. Raw names are enough: everything
// else is parsed from them again.
type savedView struct {
	Format     int                     `json:"format"`
	Root       string                  `json:"root"`
	AsOf       time.Time               `json:"as_of"`
	Generation uint64                  `json:"generation"`
	Services   map[string]savedService `json:"services"`
}

type savedService struct {
	Providers     []string `json:"providers"`
	Configurators []string `json:"configurators,omitempty"`
}

// load takes over the saved view. A file that cannot be used costs nothing but
// the answers until the first read.
func (v *views) load() {
	if v.cfg.Dir == "" {
		return
	}
	var f savedView
	found, err := durable.ReadJSON(filepath.Join(v.cfg.Dir, viewFile), maxFile, &f)
	if err != nil {
		v.log.Warn("saved view ignored", "err", err)
		return
	}
	if !found || f.Format != 1 || f.Root != v.cfg.Root {
		return
	}
	changed := map[string]bool{}
	for name, saved := range f.Services {
		s := &service{name: name, overrides: saved.Configurators}
		s.rules = parseOverrides(saved.Configurators, v.bad)
		s.parse(saved.Providers, v.bad)
		s.build()
		v.services[escape(name)] = s
		changed[name] = true
	}
	s := *v.current.Load()
	s.generation = max(s.generation, f.Generation+1)
	s.asOf = f.AsOf
	v.index(&s, changed)
	v.current.Store(&s)
	v.log.Info("saved view loaded", "services", len(f.Services), "as_of", f.AsOf)
}

// saver writes the view after changes, at most each SaveEvery, and once more
// at the end.
func (v *views) saver(ctx context.Context) {
	if v.cfg.Dir == "" {
		return
	}
	for {
		select {
		case <-ctx.Done():
			v.save(v.current.Load())
			return
		case <-v.changes:
			// What changes meanwhile is in the next one, and this one is then too old.
			v.save(v.current.Load())
			sleep(ctx, v.cfg.SaveEvery)
		}
	}
}

func (v *views) save(s *snapshot) {
	view := s.dated(View{})
	if view.AsOf.IsZero() {
		return // nothing was ever read
	}
	f := savedView{
		Format: 1, Root: v.cfg.Root, AsOf: view.AsOf, Generation: s.generation,
		Services: make(map[string]savedService, len(s.services)),
	}
	for name, sv := range s.services {
		saved := savedService{Providers: make([]string, len(sv.view.Instances)), Configurators: sv.overrides}
		for i, in := range sv.view.Instances {
			saved.Providers[i] = in.Raw
		}
		f.Services[name] = saved
	}
	if err := durable.WriteJSON(filepath.Join(v.cfg.Dir, viewFile), f); err != nil {
		v.log.Warn("view could not be saved", "err", err)
	}
}
