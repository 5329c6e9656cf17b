//go:build interop

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/paddockio/paddock/examples/local"
)

const want = `Apache and the agent: server 3 leads
two of Apache and the agent: server 3 leads
the agent's service on server 1: http://127.0.0.1:9000
without the agent: server 2 leads
its service on server 2, as its session lives: http://127.0.0.1:9000
the agent is back: server 2 leads
server 2 is killed: server 3 leads
`

func TestAnAgentIsAMemberLikeAnyOther(t *testing.T) {
	if _, err := os.Stat(local.DebianClasspath); err != nil && os.Getenv("CI") != "true" {
		t.Skip("Debian's package libzookeeper-java is not installed")
	}
	binary, err := local.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), t.TempDir(), local.Apache(local.DebianClasspath), binary, &out); err != nil {
		t.Errorf("%v", err)
	}
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
