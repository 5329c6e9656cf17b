package bootstrap

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/paddockio/paddock/internal/durable"
	"github.com/paddockio/paddock/zab"
)

// FileName is the file with what a host must not forget, in the data directory
// of its server, where an Apache server does not look at it.
const FileName = "bootstrap.json"

// initializeName is the file that allows an empty server to vote, as Apache's
// db.autocreate=false has it. The server deletes it with its first snapshot.
const initializeName = "initialize"

const (
	stateVersion = 1
	maxState     = 1 << 20
)

// stateFile is the contents of the file.
type stateFile struct {
	Version    int
	Node       NodeID
	Cluster    string
	Seen       *ClusterID      `json:",omitempty"`
	List       *List           `json:",omitempty"`
	ListHash   *Hash           `json:",omitempty"`
	Membership *membershipFile `json:",omitempty"`
}

type membershipFile struct {
	Cluster ClusterID
	ID      zab.ServerID
	Servers string // as the znode /zookeeper/config has it
}

// A disk is the part of the data directory that belongs to this package.
type disk struct {
	dir    string // of the server: myid, version-2
	logDir string // where the server looks for initialize
}

// load returns what is stored, for a cluster of this name. On a new disk it makes
// a node id and stores that. A file that cannot be read is an error and never a
// new disk: a promise may be in it.
func (d disk) load(cluster string) (Stored, error) {
	path := filepath.Join(d.dir, FileName)
	data, err := durable.ReadFile(path, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		st := Stored{Cluster: cluster}
		_, _ = rand.Read(st.Node[:]) // never fails
		return st, d.save(st)
	}
	if err != nil {
		return Stored{}, err
	}
	st, err := parseState(data)
	if err != nil {
		return Stored{}, fmt.Errorf("%s: %w", path, err)
	}
	if st.Cluster != cluster {
		return Stored{}, fmt.Errorf("%s is of the cluster %q, and bootstrap.cluster is %q", path, st.Cluster, cluster)
	}
	return st, nil
}

// parseState reads what formatState made.
func parseState(data []byte) (Stored, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var f stateFile
	if err := dec.Decode(&f); err != nil {
		return Stored{}, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return Stored{}, errors.New("there is something behind the end")
	}
	switch {
	case f.Version != stateVersion:
		return Stored{}, fmt.Errorf("version %d, this program knows %d", f.Version, stateVersion)
	case f.Node == NodeID{}:
		return Stored{}, errors.New("no node id")
	case (f.List == nil) != (f.ListHash == nil):
		return Stored{}, errors.New("a list and its hash must stand together")
	}
	if f.List != nil {
		if err := f.List.valid(); err != nil {
			return Stored{}, err
		}
		if f.List.Hash() != *f.ListHash {
			return Stored{}, errors.New("the hash is not that of the list")
		}
	}
	st := Stored{Node: f.Node, Cluster: f.Cluster, List: f.List}
	if m := f.Membership; m != nil {
		if (m.Cluster == ClusterID{}) || m.ID < 1 || m.ID > maxID {
			return Stored{}, errors.New("the membership has no cluster or no id")
		}
		e, err := zab.ParseEnsemble(m.Servers)
		if err != nil {
			return Stored{}, fmt.Errorf("the list of servers: %w", err)
		}
		st.Membership = &Membership{m.Cluster, m.ID, e}
	}
	if f.Seen != nil {
		st.Seen = *f.Seen
	}
	return st, nil
}

func formatState(st Stored) ([]byte, error) {
	f := stateFile{Version: stateVersion, Node: st.Node, Cluster: st.Cluster, List: st.List}
	if m := st.Membership; m != nil {
		f.Membership = &membershipFile{m.Cluster, m.ID, m.Ensemble.String()}
	}
	if st.Seen != (ClusterID{}) {
		f.Seen = &st.Seen
	}
	if st.List != nil {
		h := st.List.Hash()
		f.ListHash = &h
	}
	b, err := json.MarshalIndent(f, "", " ")
	return append(b, '\n'), err
}

// save stores st. When it returns, a power cut does not lose it.
func (d disk) save(st Stored) error {
	data, err := formatState(st)
	if err == nil && len(data) > maxState {
		err = fmt.Errorf("%d bytes, limit %d", len(data), maxState)
	}
	if err == nil {
		err = os.MkdirAll(d.dir, 0o700)
	}
	if err == nil {
		err = durable.WriteFile(filepath.Join(d.dir, FileName), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", filepath.Join(d.dir, FileName), err)
	}
	return nil
}

// allowVote lets the server begin to vote with an empty directory.
func (d disk) allowVote() error {
	if err := os.MkdirAll(d.logDir, 0o700); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(d.logDir, initializeName), nil, 0o600)
}

// forbidVote takes back what allowVote did.
func (d disk) forbidVote() error {
	err := os.Remove(filepath.Join(d.logDir, initializeName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, durable.SyncDir(d.logDir))
}

// mayVote reports whether the server may vote with an empty directory.
func (d disk) mayVote() bool {
	_, err := os.Stat(filepath.Join(d.logDir, initializeName))
	return err == nil
}

// hasData reports whether a server has ever worked in the directories.
func (d disk) hasData() (bool, error) {
	for _, dir := range []string{d.dir, d.logDir} {
		entries, err := os.ReadDir(filepath.Join(dir, "version-2"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		for _, e := range entries {
			for _, prefix := range []string{"snapshot.", "log.", "acceptedEpoch", "currentEpoch"} {
				if strings.HasPrefix(e.Name(), prefix) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// lost reports whether the server must be synced before it may vote (rule R14).
func (d disk) lost() (bool, error) {
	data, err := d.hasData()
	return !data && !d.mayVote(), err
}

// join stores a place on the list of an ensemble that runs. Without data the
// server must not vote before it is synced, whatever was to be before.
func (d disk) join(st Stored, m Membership) (Stored, error) {
	st.Membership = &m
	return st, errors.Join(d.forbidVote(), d.save(st))
}

// form stores the place on the first list. The right to vote comes first: after
// a crash between the two the list is still only acknowledged.
func (d disk) form(st Stored) (Stored, error) {
	seat, ok := st.List.seat(st.Node)
	if !ok {
		return st, fmt.Errorf("%s: the stored list has no place for this host", filepath.Join(d.dir, FileName))
	}
	if err := d.allowVote(); err != nil {
		return st, err
	}
	st.Membership = &Membership{st.List.ClusterID(), seat.ID, st.List.Ensemble()}
	return st, d.save(st)
}

// newer stores a list that the server has got to know.
func (d disk) newer(st Stored, e *zab.Ensemble) (Stored, error) {
	m := *st.Membership
	m.Ensemble = e
	st.Membership = &m
	return st, d.save(st)
}
