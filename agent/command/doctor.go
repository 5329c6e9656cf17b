package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
)

func doctorCommand() *cobra.Command {
	var file string
	cmd := addHTTPFlag(&cobra.Command{
		Use:   "doctor [-config FILE] [zoo.cfg]",
		Short: "Look for what keeps a server from working",
		Long: `doctor checks the configuration of the agent, or of a plain server with a
zoo.cfg, and what it needs: myid, the data directory and its disk, the clock,
the ports of this host, whether the other servers can be reached and have the
same list of servers. If the agent runs it is asked too. Nothing is changed but
for a file in the data directory that is written and removed.

The exit status is 1 if something is bad; a warning is worth a look.`,
		Example: `    paddock doctor
    paddock doctor /etc/zookeeper/zoo.cfg`,
		Args: nArgs(0, 1, "zoo.cfg"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d := &doctor{cmd: cmd}
			d.examine(file, args)
			v := map[string]any{"findings": d.findings}
			if err := show(cmd, v, d.print); err != nil {
				return err
			}
			if slices.ContainsFunc(d.findings, func(f finding) bool { return f.State == isBad }) {
				return errFailed
			}
			return nil
		},
	})
	cmd.Flags().StringVar(&file, "config", os.Getenv("PADDOCK_CONFIG"), "the configuration `FILE` of the agent (PADDOCK_CONFIG)")
	return cmd
}

// A finding is the result of one check.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"` // ok, warning, bad, skipped
	Text  string `json:"text"`
}

const (
	isOK      = "ok"
	isWarning = "warning"
	isBad     = "bad"
	isSkipped = "skipped"
)

// doctor is one examination.
type doctor struct {
	cmd      *cobra.Command
	cfg      config.Config
	list     zab.Ensemble
	id       zab.ServerID
	dataDir  string
	runs     bool // the agent, or the server with its client port
	findings []finding
}

func (d *doctor) note(check, state, format string, args ...any) {
	d.findings = append(d.findings, finding{check, state, fmt.Sprintf(format, args...)})
}

func (d *doctor) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range d.findings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Check, f.State, f.Text)
	}
	w.Flush()
}

func (d *doctor) examine(file string, args []string) {
	begin, wall := time.Now(), time.Now().Round(0)
	if !d.load(file, args) {
		return
	}
	d.agent(len(args) > 0)
	d.myID()
	d.disk()
	d.ports()
	d.peers()
	// The wall clock has gone as far as the one that nobody sets, or was set.
	if jump := time.Now().Round(0).Sub(wall) - time.Since(begin); jump.Abs() > 100*time.Millisecond {
		d.note("clock", isBad, "was set by %v while this command ran", jump.Round(time.Millisecond))
	}
	d.clock()
}

// load reads the configuration as the commands agent and server do.
func (d *doctor) load(file string, args []string) bool {
	var err error
	switch {
	case len(args) > 0:
		file = args[0]
		d.cfg, err = config.LoadZooCfg(file)
	default:
		if _, serr := os.Stat(defaultConfig); file == "" && serr == nil {
			file = defaultConfig
		}
		d.cfg, err = config.Load(config.Options{File: file})
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			d.note("configuration", isBad, "%s", strings.TrimSpace(line))
		}
		return false
	}
	d.note("configuration", isOK, "%s", cmp.Or(file, "the defaults: no file is named"))
	for _, w := range d.cfg.Warnings {
		d.note("configuration", isWarning, "%s", w)
	}
	if e := d.cfg.Zab.Server.Ensemble; e != nil {
		d.list = *e
	} else if d.list, err = config.ParseEnsemble(d.cfg.Zab.Servers); err != nil {
		d.note("configuration", isBad, "%s: %v", d.cfg.Where("zab.servers"), err)
		return false
	}
	d.dataDir = cmp.Or(d.cfg.Zab.Server.Storage.DataDir, filepath.Join(d.cfg.DataDir, "zab"))
	return true
}

// agent asks the one that runs, if there is one.
func (d *doctor) agent(plain bool) {
	if plain {
		if text, err := fourLetterWord(reachable(d.cfg.Zab.Server.Listen), "srvr"); err == nil && text != "" {
			d.runs = true
			first, _, _ := strings.Cut(text, "\n")
			if _, mode, ok := strings.Cut(text, "\nMode: "); ok {
				first, _, _ = strings.Cut(mode, "\n")
			}
			d.note("server", isOK, "answers at %s: %s", d.cfg.Zab.Server.Listen, first)
			return
		}
		d.note("server", isSkipped, "does not run")
		return
	}
	var st api.Status
	if err := ask(d.cmd, "GET", "/v1/status", nil, &st); err != nil {
		d.note("agent", isSkipped, "%v", err)
		return
	}
	d.runs = true
	if st.Ready {
		d.note("agent", isOK, "%s is ready", st.Name)
	}
	for _, why := range st.NotReady {
		d.note("agent", isBad, "%s", why)
	}
	if st.Zab == nil || st.Zab.Ensemble == nil {
		return
	}
	for _, why := range st.Zab.Ensemble.Why {
		d.note("ensemble", isBad, "%s", why)
	}
	for _, p := range st.Zab.Ensemble.Problems {
		d.note("ensemble", isWarning, "%s", p)
	}
}

// reachable is where a listener on all addresses can be asked.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}

func (d *doctor) myID() {
	file := filepath.Join(d.dataDir, "myid")
	id, err := config.ReadMyID(file)
	set := d.cfg.Zab.Server.ID
	switch {
	case len(d.list.Members) == 0:
		return
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		d.note("myid", isBad, "%v", err)
		return
	case err != nil && set == 0:
		d.note("myid", isBad, "%s is missing: write into it which of the servers this one is", file)
		return
	case err == nil && set != 0 && set != zab.ServerID(id):
		d.note("myid", isBad, "%s says %d, %s says %d", file, id, d.cfg.Where("zab.id"), set)
		return
	}
	d.id = cmp.Or(set, zab.ServerID(id))
	if m, ok := d.list.Member(d.id); ok {
		d.note("myid", isOK, "server %d, %s", d.id, memberRole(m))
	} else {
		d.note("myid", isBad, "server %d is not on the list of servers", d.id)
	}
}

// How slow a disk may be, and how full.
const (
	slowSync     = 20 * time.Millisecond
	syncTries    = 11
	fewBytes     = 1 << 30
	futureLimit  = time.Minute
	doctorsFile  = ".doctor"
	bytesOfTries = 4096
)

// disk writes as the transaction log is written.
func (d *doctor) disk() {
	for _, dir := range slices.Compact([]string{d.dataDir, cmp.Or(d.cfg.Zab.Server.Storage.LogDir, d.dataDir)}) {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			d.note("disk", isSkipped, "%s is made at the first start", dir)
			continue
		}
		took, err := syncTime(dir)
		switch {
		case err != nil:
			d.note("disk", isBad, "%v", err)
			continue
		case took > slowSync:
			d.note("disk", isWarning, "%s: a sync takes %v, and every write waits for one", dir, took.Round(time.Microsecond))
		default:
			d.note("disk", isOK, "%s: a sync takes %v", dir, took.Round(time.Microsecond))
		}
		if free, ok := freeBytes(dir); ok && free < fewBytes {
			d.note("disk", isWarning, "%s: only %d MiB are free", dir, free>>20)
		}
		d.future(dir)
	}
}

// syncTime is the median of some small writes with a sync.
func syncTime(dir string) (took time.Duration, err error) {
	f, err := os.CreateTemp(dir, doctorsFile)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	var times []time.Duration
	for range syncTries {
		begin := time.Now()
		if _, err := f.Write(make([]byte, bytesOfTries)); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// future finds files that are newer than now: the clock was set back.
func (d *doctor) future(dir string) {
	entries, err := os.ReadDir(filepath.Join(dir, "version-2"))
	if err != nil {
		return // a new directory has none
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Until(info.ModTime()) > futureLimit {
			d.note("clock", isWarning, "was set back: %s was written at %s", e.Name(), info.ModTime().Format(time.DateTime))
			return
		}
	}
}

func (d *doctor) clock() {
	switch synced, ok := clockSynced(); {
	case !ok:
		d.note("clock", isSkipped, "this system does not say whether it is set by a time server")
	case synced:
		d.note("clock", isOK, "is set by a time server")
	default:
		d.note("clock", isWarning, "is set by nobody (no NTP): ages of znodes and certificates go by it; sessions and elections do not")
	}
}

// ports finds who has the ports that this server needs.
func (d *doctor) ports() {
	type port struct{ what, network, addr string }
	ports := []port{{"client port", "tcp", d.cfg.Zab.Server.Listen}, {"http", "tcp", d.cfg.Admin.Listen}, {"dns", "udp", d.cfg.DNS.Listen}}
	if m, ok := d.list.Member(d.id); ok {
		for _, a := range m.Addrs {
			host := a.Host
			if d.cfg.Zab.Server.QuorumListenOnAllIPs {
				host = ""
			}
			ports = append(ports, port{"quorum port", "tcp", net.JoinHostPort(host, strconv.Itoa(a.QuorumPort))},
				port{"election port", "tcp", net.JoinHostPort(host, strconv.Itoa(a.ElectionPort))})
		}
	}
	if d.runs {
		d.note("ports", isSkipped, "the server that runs has them")
		return
	}
	for _, p := range ports {
		if p.addr == "" {
			continue
		}
		if err := tryListen(d.cmd.Context(), p.network, p.addr); err != nil {
			d.note("ports", isBad, "%s: %v", p.what, err)
		} else {
			d.note("ports", isOK, "%s: %s is free", p.what, p.addr)
		}
	}
}

func tryListen(ctx context.Context, network, addr string) error {
	var lc net.ListenConfig
	if network == "udp" {
		c, err := lc.ListenPacket(ctx, network, addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := lc.Listen(ctx, network, addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// peers asks the others for their list of servers and, while this server does not
// run and could say it itself, whether their election ports can be reached.
func (d *doctor) peers() {
	found := make([][]finding, len(d.list.Members))
	var wg sync.WaitGroup
	for i, m := range d.list.Members {
		if m.ID != d.id {
			wg.Go(func() { found[i] = d.peer(m) })
		}
	}
	wg.Wait()
	d.findings = append(d.findings, slices.Concat(found...)...)
}

func (d *doctor) peer(m zab.Member) (found []finding) {
	name := fmt.Sprintf("server %d", m.ID)
	ctx, cancel := context.WithTimeout(d.cmd.Context(), 2*askTime)
	defer cancel()
	if !d.runs {
		for _, a := range m.Addrs {
			addr := net.JoinHostPort(a.Host, strconv.Itoa(a.ElectionPort))
			conn, err := (&net.Dialer{Timeout: askTime}).DialContext(ctx, "tcp", addr)
			if err != nil {
				found = append(found, finding{name, isWarning, fmt.Sprintf("election port: %v", err)})
				continue
			}
			_ = conn.Close() // nothing was said
			found = append(found, finding{name, isOK, "election port: " + addr + " can be reached"})
		}
	}
	addr := clientOf(m)
	if addr == "" {
		return found
	}
	list, err := listAt(ctx, addr)
	if err != nil {
		return append(found, finding{name, isWarning, fmt.Sprintf("list of servers: %v", err)})
	}
	diff := d.list.Diff(list)
	for _, line := range diff {
		text := "has " + strings.TrimPrefix(line, "+")
		if here, ok := strings.CutPrefix(line, "-"); ok {
			text = "lacks " + here
		}
		found = append(found, finding{name, isBad, "list of servers: " + text})
	}
	if len(diff) == 0 {
		found = append(found, finding{name, isOK, "list of servers: is the same"})
	}
	return found
}

// listAt reads the list of servers that one of them has.
func listAt(ctx context.Context, addr string) (*zab.Ensemble, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c, err := client.New(client.Config{
		Servers: addr, SessionTimeout: 2 * askTime,
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				cancel(err) // there is no other to try
			}
			return conn, err
		},
	})
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) }) // GetConfig fails too
	defer wg.Wait()
	data, _, err := c.GetConfig(ctx)
	cancel(nil)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			err = cause
		}
		return nil, err
	}
	return zab.ParseEnsemble(string(data))
}
