package command

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/paddockio/paddock/zab/zabtest"
)

// simTries bounds how often -minimize plays a seed again, simTail how many lines
// of a trace are shown without -trace.
const (
	simTries = 400
	simTail  = 40
)

// simGarbage has garbage collected rarely: a run keeps little and drops much.
const simGarbage = 800

// simLevels are the values of -faults.
var simLevels = map[string]zabtest.Level{"none": zabtest.None, "default": zabtest.Default, "heavy": zabtest.Heavy}

func simCommand() *cobra.Command {
	var o simOptions
	cmd := &cobra.Command{
		Use:   "sim [-seed N] [-servers N] [-faults none|default|heavy] [-count N] [-seconds N] [-span DURATION]",
		Short: "Play an ensemble in simulated time while everything fails",
		Long: `sim plays whole ensembles with their clients, network, clocks and disks in
memory, from one number each, and checks after every event that nothing that was
promised is lost. The servers run the code of this binary. The same number gives
the same run to the last event, here and everywhere.

It plays -count seeds, -seed first, on all processors, and ends with the first
that breaks a rule: it prints the rule, the faults until then and the end of the
trace, and the exit status is 1. With -minimize it first looks for a shorter run
with fewer faults and clients that breaks the same rule, which takes a while.

With -mistake it puts a known mistake into the servers, to show that it is
found: ` + strings.Join(mistakes(), ", ") + ".",
		Example: `    paddock sim -seed 7 -servers 5 -faults heavy
    paddock sim -seconds 60 -faults heavy -minimize
    paddock sim -count 100000
    paddock sim -seed 7 -trace | less`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.Uint64Var(&o.seed, "seed", 1, "the first seed")
	f.IntVar(&o.servers, "servers", 0, "servers with a vote; 0: each seed draws its own number")
	f.StringVar(&o.faults, "faults", "default", "how much fails: none, default or heavy")
	f.IntVar(&o.count, "count", 1, "how many seeds to play")
	f.IntVar(&o.seconds, "seconds", 0, "play seeds for so long, instead of or at most -count")
	f.DurationVar(&o.span, "span", 0, "simulated time with faults in each seed; 0: each seed draws its own")
	f.BoolVar(&o.trace, "trace", false, "print everything that happens in one seed")
	f.BoolVar(&o.minimize, "minimize", false, "make a run that fails smaller")
	f.StringVar(&o.mistake, "mistake", "", "the `NAME` of a mistake to put into the servers")
	return cmd
}

func mistakes() []string {
	var names []string
	for _, m := range zabtest.Mutations() {
		names = append(names, fmt.Sprintf("%q", m.Name))
	}
	return names
}

// simOptions are the flags.
type simOptions struct {
	seed                    uint64
	servers, count, seconds int
	faults, mistake         string
	span                    time.Duration
	trace, minimize         bool
}

// maxSimServers is above every ensemble that makes sense.
const maxSimServers = 15

func (o *simOptions) check(cmd *cobra.Command) error {
	known := func(m zabtest.Mutation) bool { return m.Name == o.mistake }
	output, err := outputOf(cmd)
	_, level := simLevels[o.faults]
	switch {
	case err != nil:
		return err
	case !level:
		return usagef("-faults wants none, default or heavy, got %q", o.faults)
	case o.servers < 0 || o.servers > maxSimServers:
		return usagef("-servers wants 1 to %d, got %d", maxSimServers, o.servers)
	case o.count < 1:
		return usagef("-count wants a number above 0, got %d", o.count)
	case o.span < 0:
		return usagef("-span wants a duration above 0, got %v", o.span)
	case o.seconds < 0:
		return usagef("-seconds wants a number above 0, got %d", o.seconds)
	case o.mistake != "" && !slices.ContainsFunc(zabtest.Mutations(), known):
		return usagef("-mistake wants one of %s, got %q", strings.Join(mistakes(), ", "), o.mistake)
	case o.trace && (o.count > 1 || o.seconds > 0):
		return usagef("-trace prints one seed: leave out -count and -seconds")
	case o.trace && output == "json":
		return usagef("-trace prints text: leave out -o json")
	}
	if o.seconds > 0 && !cmd.Flags().Changed("count") {
		o.count = int(^uint(0) >> 1)
	}
	return nil
}

// play plays one seed.
func (o *simOptions) play(seed uint64, trace io.Writer) zabtest.Result {
	return zabtest.Run(zabtest.Options{
		Seed: seed, Servers: o.servers, Faulty: o.span, Faults: simLevels[o.faults], Mutation: o.mistake, Trace: trace,
	})
}

// A simReport is what was played, for show.
type simReport struct {
	Seed   uint64 `json:"seed"` // the first
	Played int    `json:"played"`
	// Servers is 0 if each seed drew its own number.
	Servers     int            `json:"servers"`
	Faults      string         `json:"faults"`
	Events      int            `json:"events"`
	Writes      int            `json:"writes"`
	SimulatedMs int64          `json:"simulated_ms"`
	TookMs      int64          `json:"took_ms"`
	ElectionMs  int64          `json:"longest_election_ms"`
	Injected    map[string]int `json:"injected"`
	// Probes are the rare things that happened, Checks how often each rule was
	// looked at.
	Probes map[string]int `json:"probes"`
	Checks map[string]int `json:"checks"`
	// Hash is that of all events, if one seed was played.
	Hash    string      `json:"hash,omitempty"`
	Failure *simFailure `json:"failure,omitempty"`
}

// A simFailure is a run that has broken a rule.
type simFailure struct {
	Seed      uint64   `json:"seed"`
	Rule      string   `json:"rule"`
	AtMs      int64    `json:"at_ms"`
	Text      string   `json:"text"`
	Minimized bool     `json:"minimized"`
	Faults    []string `json:"faults"`
	Clients   int      `json:"clients"`
	Trace     []string `json:"trace"` // its end
}

func (o *simOptions) run(cmd *cobra.Command) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	defer debug.SetGCPercent(debug.SetGCPercent(simGarbage))
	begin := time.Now()
	rep := simReport{Seed: o.seed, Servers: o.servers, Faults: o.faults, Injected: map[string]int{}, Probes: map[string]int{}, Checks: map[string]int{}}
	p := newSimProgress(cmd.ErrOrStderr())
	var failed *zabtest.Result
	note := func(r zabtest.Result) bool {
		rep.add(&r, time.Since(begin))
		p.show(&rep)
		if r.Violation != nil {
			failed = &r
		}
		return failed == nil
	}
	if o.trace {
		w := bufio.NewWriter(cmd.OutOrStdout())
		note(o.play(o.seed, w))
		if err := w.Flush(); err != nil {
			return err
		}
	} else {
		o.playAll(cmd.Context(), note)
	}
	if err := context.Cause(cmd.Context()); err != nil && failed == nil {
		p.clear()
		return err
	}
	if failed != nil {
		r := *failed
		if o.minimize {
			p.print("seed %d has failed: making it smaller", r.Options.Seed)
			r = zabtest.Minimize(r, simTries)
		}
		rep.Failure = describeFailure(r, o.minimize, o.trace)
	}
	p.clear()
	if err := show(cmd, &rep, func(w io.Writer) { o.print(w, &rep) }); err != nil {
		return err
	}
	if failed != nil {
		return errFailed
	}
	return nil
}

// playAll plays the seeds on all processors and hands the results to note in the
// order of the seeds, until it returns false.
func (o *simOptions) playAll(ctx context.Context, note func(zabtest.Result) bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := ctx
	if o.seconds > 0 {
		var stop context.CancelFunc
		end, stop = context.WithTimeout(ctx, time.Duration(o.seconds)*time.Second)
		defer stop()
	}
	workers := min(runtime.GOMAXPROCS(0), o.count)
	// One result for each worker waits for those of earlier seeds.
	runs := make(chan chan zabtest.Result, workers)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(runs)
		free := make(chan struct{}, workers)
		for i := range o.count {
			select {
			case <-end.Done():
				return
			case free <- struct{}{}:
			}
			result := make(chan zabtest.Result, 1)
			select {
			case <-end.Done():
				return
			case runs <- result:
			}
			wg.Go(func() {
				result <- o.play(o.seed+uint64(i), nil)
				<-free
			})
		}
	})
	for result := range runs {
		if !note(<-result) {
			break
		}
	}
	cancel()
	for range runs { // the first goroutine may be about to send
	}
	wg.Wait()
}

func (rep *simReport) add(r *zabtest.Result, took time.Duration) {
	rep.Played++
	rep.Events += r.Events
	rep.Writes += r.Stats.Writes
	rep.SimulatedMs += r.Simulated.Milliseconds()
	rep.TookMs = took.Milliseconds()
	rep.ElectionMs = max(rep.ElectionMs, r.Stats.Elected.Milliseconds())
	for kind, n := range r.Stats.Faults {
		rep.Injected[kind.String()] += n
	}
	for name, n := range r.Probes {
		rep.Probes[name] += n
	}
	for rule, n := range r.Checks {
		rep.Checks[rule] += n
	}
	rep.Hash = ""
	if rep.Played == 1 {
		rep.Hash = fmt.Sprintf("%016x", r.Hash)
	}
}

// describeFailure plays the run once more for its trace, of which nothing is shown
// if traced says that it was printed already.
func describeFailure(r zabtest.Result, minimized, traced bool) *simFailure {
	v := r.Violation
	f := &simFailure{
		Seed: r.Options.Seed, Rule: v.Rule, AtMs: v.At.Milliseconds(), Text: v.Text, Minimized: minimized,
		Clients: r.Stats.Clients, Faults: []string{}, Trace: []string{},
	}
	o := r.Options
	t := &traceWriter{}
	o.Trace = t
	zabtest.Run(o)
	f.Faults = append(f.Faults, t.faults...)
	if !traced || minimized {
		f.Trace = t.last()
	}
	return f
}

func (o *simOptions) print(out io.Writer, rep *simReport) {
	servers := "servers as drawn"
	if rep.Servers > 0 {
		servers = count(int64(rep.Servers), "server")
	}
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "played\t%s from %d, %s, faults %s\n", count(int64(rep.Played), "seed"), rep.Seed, servers, rep.Faults)
	fmt.Fprintf(w, "time\t%v simulated in %v, %.0f to 1\n", ms(rep.SimulatedMs).Round(time.Second), ms(rep.TookMs),
		float64(rep.SimulatedMs)/float64(max(1, rep.TookMs)))
	fmt.Fprintf(w, "work\t%s, %s, longest election %v\n", count(int64(rep.Events), "event"), count(int64(rep.Writes), "write"), ms(rep.ElectionMs))
	fmt.Fprintf(w, "faults\t%s\n", listOf(rep.Injected))
	if rep.Played > 1 {
		fmt.Fprintf(w, "probes\t%s\n", listOf(rep.Probes))
		fmt.Fprintf(w, "rules\t%s\n", listOf(rep.Checks))
	}
	if rep.Hash != "" {
		fmt.Fprintf(w, "hash\t%s\n", rep.Hash)
	}
	f := rep.Failure
	if f == nil {
		fmt.Fprintf(w, "result\tevery rule held\n")
		w.Flush()
		return
	}
	fmt.Fprintf(w, "result\tseed %d breaks %s at %v: %s\n", f.Seed, f.Rule, ms(f.AtMs), f.Text)
	w.Flush()
	if f.Minimized {
		fmt.Fprintf(out, "\nthe smallest run that was found has %s\n", count(int64(f.Clients), "client"))
	}
	fmt.Fprintf(out, "\nits faults (seconds, server, what fails):\n")
	if len(f.Faults) == 0 {
		fmt.Fprintln(out, "    none")
	}
	for _, l := range f.Faults {
		fmt.Fprintf(out, "    %s\n", l)
	}
	if len(f.Trace) > 0 {
		fmt.Fprintf(out, "\nthe end of its trace:\n    %s\n", strings.Join(f.Trace, "\n    "))
	}
	if !o.trace {
		fmt.Fprintf(out, "\nall of it: %s\n", o.again(f.Seed))
	}
}

// listOf prints counts by their names.
func listOf(counts map[string]int) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return cmp.Or(strings.Join(list, ", "), "none")
}

// again is the command that prints the whole trace of a seed.
func (o *simOptions) again(seed uint64) string {
	s := fmt.Sprintf("paddock sim -seed %d -faults %s -trace", seed, o.faults)
	if o.servers > 0 {
		s += fmt.Sprintf(" -servers %d", o.servers)
	}
	if o.span > 0 {
		s += fmt.Sprintf(" -span %v", o.span)
	}
	if o.mistake != "" {
		s += fmt.Sprintf(" -mistake %q", o.mistake)
	}
	return s
}

// A traceWriter keeps of a trace the faults, and at least the last simTail lines.
type traceWriter struct {
	faults, tail []string
	rest         []byte // of a line that has not ended
}

func (t *traceWriter) Write(b []byte) (int, error) {
	n := len(b)
	for {
		part, rest, ok := bytes.Cut(b, []byte{'\n'})
		t.rest = append(t.rest, part...)
		if !ok {
			return n, nil
		}
		t.line(strings.TrimSpace(string(t.rest)))
		t.rest, b = t.rest[:0], rest
	}
}

func (t *traceWriter) line(l string) {
	if len(t.tail) == 2*simTail { // dropped by the half, not one by one
		t.tail = slices.Delete(t.tail, 0, simTail)
	}
	t.tail = append(t.tail, l)
	if f := strings.Fields(l); len(f) > 2 && f[2] == "FAULT" {
		t.faults = append(t.faults, l)
	}
}

func (t *traceWriter) last() []string { return t.tail[max(0, len(t.tail)-simTail):] }

// simProgress is one line on a terminal that is written over; elsewhere, say in a
// file of a long run, a new line now and then.
type simProgress struct {
	out   io.Writer
	begin string // of each line
	end   string
	every time.Duration
	last  time.Time
}

func newSimProgress(errOut io.Writer) *simProgress {
	if f, ok := errOut.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &simProgress{out: errOut, begin: "\r\x1b[K", every: 200 * time.Millisecond}
	}
	return &simProgress{out: errOut, end: "\n", every: time.Minute, last: time.Now()}
}

func (p *simProgress) show(rep *simReport) {
	if now := time.Now(); now.Sub(p.last) >= p.every {
		p.last = now
		p.print("%d seeds, %v simulated, %d events", rep.Played, (time.Duration(rep.SimulatedMs) * time.Millisecond).Round(time.Second), rep.Events)
	}
}

func (p *simProgress) print(format string, args ...any) {
	fmt.Fprintf(p.out, p.begin+format+p.end, args...)
}

// clear takes the line off the terminal.
func (p *simProgress) clear() {
	if p.begin != "" {
		p.print("")
	}
}
