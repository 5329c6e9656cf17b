// Watchconfig shows an app that follows its configuration: an agent keeps a file
// equal to a znode, and the app reads it again whenever it was replaced. Beside
// a running
//
//	go run . agent -dev
//
// call
//
//	go run ./examples/watchconfig /tmp/paddock-dev-.../app/app.properties
//
// and change the znode as the agent says. Programs that read their configuration
// once are told by the target's reload command instead.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: watchconfig FILE")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	follow(ctx, os.Args[1], 200*time.Millisecond, os.Stdout)
}

// follow prints the greeting in the file, and each new one, until ctx ends.
//
// The agent replaces the file as a whole, by a rename. So a look at which file
// it is tells whether something changed, what is read is never half a file, and
// a watch on the open file would see nothing.
func follow(ctx context.Context, name string, every time.Duration, out io.Writer) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last os.FileInfo
	for {
		if now, greeting, err := readNew(name, last); err != nil {
			fmt.Fprintf(out, "keeping what I have: %v\n", err)
			last = now
		} else if now != nil {
			fmt.Fprintf(out, "greeting is %s\n", greeting)
			last = now
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// readNew reads the file unless it is the last one, or not there; then now is nil.
func readNew(name string, last os.FileInfo) (now os.FileInfo, greeting string, err error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return last, "", err
	}
	defer f.Close()
	if now, err = f.Stat(); err != nil {
		return last, "", err
	}
	if last != nil && os.SameFile(last, now) && now.ModTime().Equal(last.ModTime()) {
		return nil, "", nil
	}
	greeting, err = read(f)
	return now, greeting, err
}

// read returns the value of greeting in a properties file.
func read(f *os.File) (string, error) {
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "greeting="); ok {
			return value, nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return "", fmt.Errorf("%s: no greeting", f.Name())
}
