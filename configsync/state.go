package configsync

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/paddockio/paddock/zab"
)

// maxStateBytes bounds what is read back: 10,000 files with long names.
const maxStateBytes = 32 << 20

// A digest is the SHA-256 of a file.
type digest [sha256.Size]byte

// String returns the digest in hexadecimal.
func (d digest) String() string { return hex.EncodeToString(d[:]) }

func (d digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

func (d *digest) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(d) {
		return fmt.Errorf("%q is no SHA-256", text)
	}
	copy(d[:], b)
	return nil
}

// zxidText prints a zxid as people know it; JSON numbers lose the low bits.
type zxidText zab.Zxid

func (z zxidText) MarshalText() ([]byte, error) { return []byte(zab.Zxid(z).String()), nil }

func (z *zxidText) UnmarshalText(text []byte) error {
	n, err := strconv.ParseInt(string(text), 0, 64)
	*z = zxidText(n)
	return err
}

// memory is what a target remembers across restarts, one file in the state
// directory. It is written before the files it speaks of: a crash in between
// leaves a memory of something newer than the file, which the next read
// repairs. The other way round a reload would be forgotten.
type memory struct {
	Version int    `json:"version"` // 1
	From    string `json:"from"`
	To      string `json:"to"`
	// Files by their names below the target's directory.
	Files map[string]fileMemory `json:"files"`
	// Dirs are the directories that the mirror made, which it may remove when
	// they are empty.
	Dirs []string `json:"dirs,omitempty"`
	// ReloadDue says that some file changed since the reload command last
	// succeeded.
	ReloadDue bool `json:"reload_due,omitempty"`
}

type fileMemory struct {
	// Zxid is the mzxid of the znode when it was written: the file never goes
	// back behind it.
	Zxid   zxidText `json:"zxid"`
	SHA256 digest   `json:"sha256"`
	Size   int64    `json:"size"`
	// Written is when the mirror last wrote it; zero if the file was equal when
	// the mirror found it. Only files with a time are ever removed.
	Written time.Time `json:"written,omitzero"`
	// Unfinished is set while the mirror is about to write: the file may still be
	// as it was before, which is no edit.
	Unfinished bool `json:"unfinished,omitempty"`
}

// loadMemory reads the memory of a target from dir (the state directory), with
// what does not belong to the target's present configuration left out. A
// missing file is an empty memory.
func loadMemory(dir directory, tc *Target) (*memory, error) {
	empty := &memory{Version: 1, From: tc.From, To: tc.To, Files: map[string]fileMemory{}}
	b, _, err := dir.read(tc.Name+".json", maxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, err
	}
	m, err := parseMemory(b)
	if err != nil {
		return empty, fmt.Errorf("state file %s.json: %w", tc.Name, err)
	}
	if m.To != tc.To {
		return empty, nil // other files: these are nobody's now
	}
	if m.From != tc.From {
		for name, f := range m.Files {
			f.Zxid = 0 // of another znode: says nothing about this one
			m.Files[name] = f
		}
		m.From = tc.From
	}
	return m, nil
}

func parseMemory(b []byte) (*memory, error) {
	m := &memory{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, err
	}
	if m.Version != 1 {
		return nil, fmt.Errorf("version %d is not known", m.Version)
	}
	for _, name := range m.Dirs {
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%q is not beneath the target", name)
		}
	}
	if m.Files == nil {
		m.Files = map[string]fileMemory{}
	}
	for name := range m.Files {
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%q is not beneath the target", name)
		}
	}
	return m, nil
}

// save replaces the state file.
func (m *memory) save(dir directory, name string) error {
	slices.Sort(m.Dirs)
	m.Dirs = slices.Compact(m.Dirs)
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	tmp, final := name+".json.new", name+".json"
	if err := dir.removeAll(tmp); err != nil {
		return err
	}
	if err := writeNew(dir, tmp, append(b, '\n'), attributes{mode: 0o600, uid: -1, gid: -1}); err != nil {
		return err
	}
	if err := dir.rename(tmp, final); err != nil {
		return err
	}
	return dir.syncDir(".")
}

// attributes are what a file has besides bytes. uid and gid -1 leave what is.
type attributes struct {
	mode     fs.FileMode
	uid, gid int
}

// writeNew creates and syncs a file. It has its owner and mode before its
// first byte.
func writeNew(dir directory, name string, data []byte, a attributes) error {
	f, err := dir.create(name)
	if err != nil {
		return err
	}
	if err := a.set(f); err != nil {
		f.Close()
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// set gives f its owner, then its mode, as a change of owner drops bits.
func (a attributes) set(f file) error {
	if a.uid >= 0 || a.gid >= 0 {
		if err := f.Chown(a.uid, a.gid); err != nil {
			return err
		}
	}
	return f.Chmod(a.mode)
}
