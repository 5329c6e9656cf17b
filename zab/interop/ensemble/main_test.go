//go:build interop

package ensemble

import (
	"os"
	"testing"

	"github.com/paddockio/paddock/zab/interop/peer"
)

func TestMain(m *testing.M) { os.Exit(peer.Main(m)) }

// members are those that a test wants, or those of INTEROP_MEMBERS.
func members(t testing.TB, want string) []peer.Spec {
	t.Helper()
	if all := os.Getenv("INTEROP_MEMBERS"); all != "" {
		want = all
	}
	specs, err := peer.ParseSpecs(want)
	if err != nil {
		t.Fatal(err)
	}
	return specs
}

// ours is the kind of server that Apache's are exchanged for.
func ours(t testing.TB) string {
	t.Helper()
	return members(t, peer.KindPaddock)[0].Kind
}
