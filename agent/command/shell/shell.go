// Package shell is a ZooKeeper shell with the verbs and the texts of Apache's
// zkCli.sh 3.9 (class ZooKeeperMain), and of 3.4 where those are gone.
//
// A [Shell] runs one command or reads commands from a terminal, with history
// and completion, or from a pipe. What it prints goes to the same streams as
// with zkCli: results to standard output, remarks and errors to the other. It
// differs in three ways: the session is closed at the end, so that ephemeral
// znodes of a one-command shell go at once; Java's class names do not appear in
// errors; and with JSON each command prints one line of JSON and nothing else.
package shell

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// Config says what a Shell talks to. Stdin, Stdout and Stderr are required.
type Config struct {
	// Server is a connect string. Default localhost:2181.
	Server string
	// Timeout is the session timeout, and how long a command waits for its
	// answer. Default 30s.
	Timeout time.Duration
	// ReadOnly accepts servers without a quorum.
	ReadOnly bool
	// Dial replaces TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// JSON prints results as JSON, one line each, and no other text.
	JSON bool
	// Version is what the verb version prints.
	Version string

	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// A Shell is one run of the program. Its methods are not for concurrent use.
type Shell struct {
	cfg    Config
	server string // of the present connection
	link   *link  // nil before the first connect

	history []string // every command line, also those that failed
	quit    bool

	mu           sync.Mutex // guards out, errs and what follows; leaf
	out, errs    io.Writer
	printWatches bool
	ending       bool         // the session is closed by nobody's command
	last         client.Event // of a znode: one change may come over several watches
}

// link is one connection: a client and the goroutines around it.
type link struct {
	client *client.Client
	cancel context.CancelFunc
	wg     sync.WaitGroup
	// watching are the one-shot watches that are armed: asking for one twice
	// brings one event, as with zkCli, whose watcher is one object.
	mu       sync.Mutex
	watching map[watchKey]bool

	dialed    chan error    // the outcome of attempts to connect; buffered, lossy
	connected chan struct{} // closed at the first connection
	closed    bool
}

type watchKey struct {
	path string
	kind byte // data, children, exists
}

// Failures that Run and Exec return. Their text is already printed.
var (
	// ErrUsage is a command that cannot be understood.
	ErrUsage = errors.New("wrong use")
	// ErrFailed is a command that could not be carried out.
	ErrFailed = errors.New("failed")
)

// maxLine bounds one line of input: a znode's data and a path.
const maxLine = 2 << 20

// New returns a shell that is not connected yet.
func New(cfg Config) *Shell {
	if cfg.Server == "" {
		cfg.Server = "localhost:2181"
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	return &Shell{cfg: cfg, server: cfg.Server, out: cfg.Stdout, errs: cfg.Stderr, printWatches: true}
}

// Run connects and runs one command, args, or if there is none reads commands
// until quit or the end of the input. It returns the outcome of the last one.
func (s *Shell) Run(ctx context.Context, args []string) error {
	defer s.end()
	if len(args) == 0 {
		return s.interact(ctx)
	}
	// What needs no server does not wait for one.
	if v, ok := verbs[args[0]]; !ok || v.local {
		return s.exec(ctx, args)
	}
	s.begin(ctx)
	return s.exec(ctx, args)
}

// begin makes the first connection, which zkCli announces.
func (s *Shell) begin(ctx context.Context) {
	if !s.cfg.JSON {
		s.printf("Connecting to %s\n", s.cfg.Server)
	}
	s.connect(ctx, s.cfg.Server)
}

func (s *Shell) interact(ctx context.Context) error {
	in, isFile := s.cfg.Stdin.(*os.File)
	if isFile && isTerminal(in) && !s.cfg.JSON {
		return s.runTerminal(ctx, in)
	}
	s.begin(ctx)
	if !s.cfg.JSON {
		s.printf("Welcome to ZooKeeper!\n")
	}
	lines := bufio.NewScanner(s.cfg.Stdin)
	lines.Buffer(nil, maxLine)
	var err error
	for !s.quit && ctx.Err() == nil && lines.Scan() {
		if line := strings.TrimRight(lines.Text(), "\r"); strings.TrimSpace(line) != "" {
			err = s.Line(ctx, line)
		}
	}
	if lines.Err() != nil {
		s.errorf("input: %v\n", lines.Err())
		return ErrFailed
	}
	return err
}

// Line runs one line of input and adds it to the history.
func (s *Shell) Line(ctx context.Context, line string) error {
	s.history = append(s.history, line)
	return s.exec(ctx, Split(line))
}

// exec runs one command and prints why it failed.
func (s *Shell) exec(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return nil
	}
	v, ok := verbs[args[0]]
	if !ok {
		if !s.cfg.JSON {
			s.errorf("%s", usage())
		}
		return s.fail(usageError("Command not found: Command not found " + args[0]))
	}
	c, err := v.parse(args)
	if err != nil {
		return s.fail(err)
	}
	if !v.local && (s.link == nil || s.link.closed) {
		s.printf("Not connected\n")
		return ErrFailed
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if !v.local {
		if err := s.waitConnected(ctx, c); err != nil {
			return s.fail(err)
		}
		c.client = s.link.client
	}
	c.shell = s
	return s.fail(v.run(ctx, c))
}

// usageError is a command that was written wrong; its text is printed alone.
type usageError string

func (e usageError) Error() string { return string(e) }

// fail prints an error as zkCli words it, and says which kind it is.
func (s *Shell) fail(err error) error {
	var u usageError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrFailed):
		return ErrFailed // printed where it happened
	case errors.As(err, &u):
		s.errorf("%s\n", u)
		return ErrUsage
	}
	s.errorf("%s\n", message(err))
	return ErrFailed
}

// connect closes the present session, if any, and begins one with server.
func (s *Shell) connect(ctx context.Context, server string) {
	s.disconnect()
	s.server = server
	l := &link{watching: map[watchKey]bool{}, dialed: make(chan error, 1), connected: make(chan struct{})}
	dial := s.cfg.Dial
	if dial == nil {
		dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	c, err := client.New(client.Config{
		Servers: server, SessionTimeout: s.cfg.Timeout, ReadOnly: s.cfg.ReadOnly,
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			conn, err := dial(ctx, addr)
			if err != nil {
				select {
				case l.dialed <- err:
				default: // nobody looks: one failure is enough
				}
			}
			return conn, err
		},
	})
	if err != nil {
		s.errorf("%v\n", err)
		return
	}
	l.client = c
	// Not ctx, whose end is that of one command at times: disconnect ends it.
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	states, stop := c.SessionEvents()
	l.wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			s.errorf("%v\n", err)
		}
	})
	l.wg.Go(func() {
		defer stop()
		first := true
		for e := range states {
			s.event(e)
			if first && (e.State == wire.StateSyncConnected || e.State == wire.StateConnectedReadOnly) {
				close(l.connected)
				first = false
			}
		}
	})
	s.link = l
}

// waitConnected returns when the session has had a connection, or when every
// server of the list could not be reached.
func (s *Shell) waitConnected(ctx context.Context, c *call) error {
	path := ""
	if len(c.args) > 1 {
		path = c.args[1]
	}
	lost := func(why error) error {
		s.errorf("%s: %v\n", s.server, why)
		return &wire.OpError{Path: path, Err: wire.ErrConnectionLoss}
	}
	hosts, _, _ := strings.Cut(s.server, "/")
	for left := 1 + strings.Count(hosts, ","); ; {
		select {
		case <-s.link.connected:
			return nil
		case err := <-s.link.dialed:
			if left--; left == 0 {
				return lost(err)
			}
		case <-ctx.Done():
			return lost(context.Cause(ctx))
		}
	}
}

// end closes the session silently: zkCli leaves it open at the end of its input,
// and scripts take the last line for the result.
func (s *Shell) end() {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	s.disconnect()
}

// disconnect closes the session, if there is one, and waits for the goroutines.
func (s *Shell) disconnect() {
	if s.link == nil || s.link.client == nil || s.link.closed {
		return
	}
	l := s.link
	l.closed = true
	select {
	case <-l.connected:
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		// An error leaves the session to its timeout, as zkCli always does.
		_ = l.client.CloseSession(ctx)
		cancel()
	default:
	}
	l.cancel()
	l.wg.Wait()
}

// state is the word for the prompt (class ZooKeeper.States).
func (s *Shell) state() string {
	if s.link == nil || s.link.closed {
		return "CLOSED"
	}
	switch s.link.client.State() {
	case wire.StateSyncConnected:
		return "CONNECTED"
	case wire.StateConnectedReadOnly:
		return "CONNECTEDREADONLY"
	case wire.StateClosed:
		return "CLOSED"
	}
	return "CONNECTING"
}

func (s *Shell) prompt() string {
	return "[zk: " + s.server + "(" + s.state() + ") " + strconv.Itoa(len(s.history)) + "] "
}

// event prints what a watcher of zkCli prints.
func (s *Shell) event(e client.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.printWatches || s.ending && e.Type == wire.EventNone {
		return
	}
	path, zxid := e.Path, int64(e.Zxid)
	if e.Type == wire.EventNone {
		path, zxid = "null", -1
	} else if zxid > 0 && e == s.last {
		return
	} else {
		s.last = e
	}
	if zxid == 0 {
		zxid = -1
	}
	if s.cfg.JSON {
		if e.Type != wire.EventNone {
			s.jsonLocked(map[string]any{"event": e.Type.String(), "state": e.State.String(), "path": e.Path, "zxid": zxidText(zxid)})
		}
		return
	}
	fmt.Fprintf(s.out, "\nWATCHER::\n\nWatchedEvent state:%v type:%v path:%s zxid: %d\n", e.State, e.Type, path, zxid)
}

// watch prints the event of a one-shot watch when it comes.
func (s *Shell) watch(l *link, key watchKey, events <-chan client.Event) {
	l.mu.Lock()
	l.watching[key] = true
	l.mu.Unlock()
	l.wg.Go(func() {
		for e := range events {
			l.mu.Lock()
			delete(l.watching, key)
			l.mu.Unlock()
			if e.Type != wire.EventNone {
				s.event(e)
			}
		}
	})
}

func (l *link) isWatching(key watchKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.watching[key]
}

func (s *Shell) printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, format, args...)
}

func (s *Shell) errorf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.errs, format, args...)
}

func (s *Shell) write(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.out.Write(b) // a reader that went away is no error of the command
}

// json prints v as one line. It reports whether JSON is wanted at all.
func (s *Shell) json(v any) bool {
	if !s.cfg.JSON {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jsonLocked(v)
	return true
}

func (s *Shell) jsonLocked(v any) {
	enc := json.NewEncoder(s.out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // only maps, structs, texts and numbers get here
}

// Split cuts a line into words. A word that begins with a quote goes to the
// next such quote; there are no escapes (class MyCommandOptions).
func Split(line string) []string {
	var words []string
	for {
		line = strings.TrimLeft(line, " \t\r\n\f\v")
		if line == "" {
			return words
		}
		if q := line[0]; q == '"' || q == '\'' {
			end := strings.IndexByte(line[1:], q)
			if end < 0 {
				line = line[1:] // an open quote is ignored
				continue
			}
			words = append(words, line[1:1+end])
			line = line[2+end:]
			continue
		}
		end := strings.IndexAny(line, " \t\r\n\f\v")
		if end < 0 {
			end = len(line)
		}
		words = append(words, line[:end])
		line = line[end:]
	}
}

// Verbs lists the verbs, sorted.
func Verbs() []string {
	var names []string
	for name, v := range verbs {
		if !v.hidden {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// usage is the list that zkCli prints when it does not know a command.
func usage() string {
	var b strings.Builder
	b.WriteString("ZooKeeper -server host:port -client-configuration properties-file cmd args\n")
	for _, name := range Verbs() {
		b.WriteString("\t" + name + " " + verbs[name].usage + "\n")
	}
	return b.String()
}
