package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
)

// sessionFile keeps the agent's session across a restart of the process. Who can
// read it can take the session over, so it is 0600.
type sessionFile struct {
	path    string
	saved   zab.SessionID
	resumed zab.SessionID // that of the process before this one
}

// load returns the stored session, nil if there is none.
func (f *sessionFile) load() (*client.Session, error) {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var s client.Session
	if err := s.UnmarshalText(text); err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	// What the former process saw last is not known exactly, and a standalone
	// server that lost its last batch in a crash would refuse who knows too much.
	s.LastZxid = 0
	f.saved, f.resumed = s.ID, s.ID
	return &s, nil
}

// save stores s if it is another session than the one stored.
func (f *sessionFile) save(s client.Session) error {
	if s.ID == 0 || s.ID == f.saved {
		return nil
	}
	text, err := s.MarshalText()
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.path), ".session-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(text, '\n'))
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), f.path); err != nil {
		return err
	}
	f.saved = s.ID
	return syncDir(filepath.Dir(f.path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
