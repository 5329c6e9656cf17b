package client_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// A mirror of one znode that survives everything but its own end.
func ExampleClient_AddWatch() {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	c, err := client.New(client.Config{Servers: "127.0.0.1:2181/config"})
	if err != nil {
		fmt.Println(err)
		return
	}
	go c.Run(ctx)
	watch, err := c.AddWatch(ctx, "/app", wire.WatchPersistent)
	if err != nil {
		fmt.Println(err)
		return
	}
	for show := true; show; _, show = <-watch.Events() { // a change, or a gap: read again
		data, stat, err := c.Get(ctx, "/app")
		fmt.Println(string(data), stat.Mzxid, err)
	}
}

// The session, and its ephemeral znodes, outlive the process.
func ExampleConfig_session() {
	var stored client.Session
	if text, err := os.ReadFile("session"); err == nil {
		if err := stored.UnmarshalText(text); err != nil {
			fmt.Println(err)
		}
	}
	c, err := client.New(client.Config{Servers: "127.0.0.1:2181", Session: &stored})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	if err := c.Run(ctx); err != nil {
		fmt.Println(err)
	}
	text, _ := c.Session().MarshalText()
	if err := os.WriteFile("session", text, 0o600); err != nil {
		fmt.Println(err)
	}
}
