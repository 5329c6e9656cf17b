//go:build interop

package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/paddockio/paddock/examples/local"
)

var numbers = regexp.MustCompile(`\n[1-9]\d* writes acknowledged, none lost; \d+ of unknown outcome; the session lives\n$`)

func TestTheMoveLosesNothing(t *testing.T) {
	if _, err := os.Stat(local.DebianClasspath); err != nil && os.Getenv("CI") != "true" {
		t.Skip("Debian's package libzookeeper-java is not installed")
	}
	binary, err := local.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), t.TempDir(), local.Apache(local.DebianClasspath), local.Paddock(binary), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if strings.Count(out.String(), " runs paddock\n") != 3 || strings.Count(out.String(), " runs Apache ZooKeeper\n") != 3 || !numbers.MatchString(out.String()) {
		t.Errorf("it prints\n%s", out.String())
	}
}
