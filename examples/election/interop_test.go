//go:build interop

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/paddockio/paddock/examples/local"
)

const want = `start 1: 1 is LOOKING and votes for 1
start 2: 1 is LOOKING and votes for 2, 2 is LOOKING and votes for 2
start 3: 1 is FOLLOWING, 2 is FOLLOWING, 3 is LEADING
start 4: 1 is FOLLOWING, 2 is FOLLOWING, 3 is LEADING, 4 is FOLLOWING
start 5: 1 is FOLLOWING, 2 is FOLLOWING, 3 is LEADING, 4 is FOLLOWING, 5 is FOLLOWING
`

func TestTheThirdOfFiveLeads(t *testing.T) {
	t.Run("paddock", func(t *testing.T) {
		binary, err := local.Build(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		elect(t, local.Paddock(binary))
	})
	t.Run("Apache", func(t *testing.T) {
		if _, err := os.Stat(local.DebianClasspath); err != nil && os.Getenv("CI") != "true" {
			t.Skip("Debian's package libzookeeper-java is not installed")
		}
		elect(t, local.Apache(local.DebianClasspath))
	})
}

func elect(t *testing.T, program local.Program) {
	t.Helper()
	var out strings.Builder
	if err := run(t.Context(), t.TempDir(), program, &out); err != nil {
		t.Errorf("%v", err)
	}
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
