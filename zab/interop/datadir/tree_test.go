//go:build interop

package datadir

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/interop/peer"
)

// A state is what the server keeps, as far as it tells.
type state struct {
	*peer.State
	sessions []zab.SessionID // without that of the reader
}

func read(t *testing.T, s *peer.Server) *state {
	t.Helper()
	sessions := s.Sessions(t)
	return &state{peer.ReadState(t, s), sessions}
}

// ephemerals returns the paths of a session, in order.
func (st *state) ephemerals(id zab.SessionID) []string {
	var paths []string
	for _, path := range slices.Sorted(maps.Keys(st.Znodes)) {
		if st.Znodes[path].Stat.EphemeralOwner == id {
			paths = append(paths, path)
		}
	}
	return paths
}

// compare reports every difference between two states, up to a few.
func compare(t *testing.T, what string, got, want *state) {
	t.Helper()
	digests := peer.CompareStates(t, what, got.State, want.State)
	if !slices.Equal(got.sessions, want.sessions) {
		t.Errorf("%s: sessions %v, want %v", what, got.sessions, want.sessions)
	}
	t.Logf("%s: %d znodes, %d sessions, %d digests compared", what, len(got.Znodes), len(got.sessions), digests)
}

// trouble finds the lines of a server's log that must not be there.
var trouble = regexp.MustCompile(`(?im)^.*( ERROR |level=ERROR|mismatch|not matching|checksum|CRC |corrupt|Exception|panic:|digest of the tree).*$`)

// checkLog reports the lines of the log, from an offset on, that tell of errors.
func checkLog(t *testing.T, s *peer.Server) {
	t.Helper()
	for _, line := range trouble.FindAllString(s.Output(), 20) {
		if !slices.ContainsFunc(harmless, func(part string) bool { return strings.Contains(line, part) }) {
			t.Errorf("log of %s: %s", s.Kind, line)
		}
	}
	if n := s.Metric(t, "digest_mismatches_count"); n != 0 {
		t.Errorf("%s counts %v digest mismatches", s.Kind, n)
	}
}

// harmless are parts of lines that look like trouble and are none.
var harmless = []string{
	// A four-letter word that came before Apache's server had read its files.
	"Error closing a command socket", `"this.zkDb" is null`,
	// What reconfig is answered.
	"reconfig feature is disabled",
}
