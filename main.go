// Paddock is a sidecar that runs on every host: service registration, look-up by
// DNS and HTTP, configuration files, and a ZooKeeper that is simply there.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/paddockio/paddock/agent"
	"github.com/paddockio/paddock/agent/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills
	p := command.Program{Run: agent.Run, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	os.Exit(p.Main(ctx, os.Args[1:]))
}
