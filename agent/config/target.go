package config

import (
	"time"

	"github.com/paddockio/paddock/configsync"
)

// Target is one znode or subtree that is kept as a local file or directory.
type Target struct {
	// Name tells targets apart; required, unique: letters, digits and "._-".
	Name string `key:"name"`
	// From is the znode; required.
	From string `key:"from"`
	// To is the file or directory; required, absolute.
	To string `key:"to"`
	// Tree makes To a directory with a file for every leaf under From. Default
	// false: To is one file with the data of From. To ending in / means true.
	Tree bool `key:"tree"`
	// Mode of the files. Default: that of the file that is there, else 0644.
	Mode configsync.Mode `key:"mode"`
	// Owner and Group are names or numbers. Default: those of the file that is
	// there, else the agent's.
	Owner string `key:"owner"`
	Group string `key:"group"`
	// Delete says what becomes of a file whose znode is deleted: keep, the
	// default, or remove.
	Delete configsync.DeletePolicy `key:"delete"`
	// Check is a command and its arguments, or a script, that must succeed on the
	// staged file {file} before it gets its name.
	Check configsync.Command `key:"check"`
	// Reload is a command and its arguments, or a script, that runs after a change.
	Reload configsync.Command `key:"reload"`
	// Timeout ends Check and Reload. Default 30s.
	Timeout time.Duration `key:"timeout"`
	// Debounce is the quiet time before a change is written. Default 10ms.
	Debounce time.Duration `key:"debounce"`
}

// Sync returns the target as package configsync takes it.
func (t Target) Sync() configsync.Target {
	return configsync.Target{
		Name: t.Name, From: t.From, To: t.To, Tree: t.Tree, Mode: t.Mode, Owner: t.Owner, Group: t.Group, Delete: t.Delete,
		Check: t.Check, CheckTimeout: t.Timeout, Reload: t.Reload, ReloadTimeout: t.Timeout, Debounce: t.Debounce,
	}
}
