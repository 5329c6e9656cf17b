//go:build interop

package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/paddockio/paddock/examples/local"
)

func TestThreeAgentsFormOneEnsemble(t *testing.T) {
	binary, err := local.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, t.TempDir(), binary, w)
		w.Close()
		done <- err
	}()
	var printed strings.Builder
	for lines := bufio.NewScanner(r); lines.Scan(); {
		printed.WriteString(lines.Text() + "\n")
		if lines.Text() == "stop with ^C" {
			cancel()
		}
	}
	if err := <-done; err != nil {
		t.Fatalf("%v\n%s", err, printed.String())
	}
	if strings.Count(printed.String(), " is leader: ") != 1 || strings.Count(printed.String(), " is follower: ") != 2 ||
		!strings.Contains(printed.String(), "\nwritten through host-1, read through host-3: hello from host-1\n") {
		t.Errorf("it prints\n%s", printed.String())
	}
}
