package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/paddockio/paddock/internal/durable"
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
	if err := durable.WriteFile(f.path, append(text, '\n'), 0o600); err != nil {
		return err
	}
	f.saved = s.ID
	return nil
}
