package command

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/paddockio/paddock/agent/api"
)

func statusCommand() *cobra.Command {
	var wait time.Duration
	cmd := addHTTPFlag(&cobra.Command{
		Use:   "status",
		Short: "Say how the agent is",
		Long: `status prints one line for each part of the agent of this host. The exit
status is 1 if the agent is not ready, or not there. With -wait it asks again
until the agent is ready, as long as that may take.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := askStatus(cmd, wait)
			if err != nil {
				return err
			}
			if err := show(cmd, st, func(w io.Writer) { printStatus(w, st) }); err != nil {
				return err
			}
			if !st.Ready {
				return errFailed
			}
			return nil
		},
	})
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait so long for a ready agent")
	return cmd
}

// askStatus asks until the agent is ready or wait has passed.
func askStatus(cmd *cobra.Command, wait time.Duration) (st api.Status, err error) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		st = api.Status{}
		err = ask(cmd, "GET", "/v1/status", nil, &st)
		if err == nil && st.Ready || wait == 0 {
			return st, err
		}
		select {
		case <-tick.C:
		case <-timeout.C:
			return st, err
		case <-cmd.Context().Done():
			return st, context.Cause(cmd.Context())
		}
	}
}

func printStatus(out io.Writer, st api.Status) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	ready := "ready"
	if !st.Ready {
		ready = "not ready: " + strings.Join(st.NotReady, "; ")
	}
	up := (time.Duration(st.UptimeMs) * time.Millisecond).Round(time.Second)
	fmt.Fprintf(w, "agent\t%s, %s, up %v, pid %d, %s\n", st.Name, ready, up, st.PID, st.Version)
	if z := st.Zab; z != nil {
		fmt.Fprintf(w, "zookeeper\t%s, %s %d at %s, zxid %s, %s, %s, %s\n", mode(z), z.Role, z.ID, z.ClientAddr, z.Zxid,
			count(z.Znodes, "znode"), count(z.Sessions, "session"), count(z.Connections, "connection"))
		if e := z.Ensemble; e != nil {
			printEnsemble(w, e)
		}
	}
	if s := st.Session; s != nil {
		resumed := ""
		if s.Resumed {
			resumed = ", taken up again"
		}
		fmt.Fprintf(w, "session\t%s %s%s, timeout %v\n", s.ID, s.State, resumed, time.Duration(s.TimeoutMs)*time.Millisecond)
	}
	if r := st.Registry; r != nil {
		fmt.Fprintf(w, "registry\t%s: %s, %s, %s\n", r.Root, count(int64(r.Services), "service"), count(int64(r.Instances), "instance"), freshness(r.Live, r.AsOf))
		fmt.Fprintf(w, "this host\t%d of %s in place\n", r.Passing, count(int64(r.Registrations), "registration"))
		for _, e := range r.FileErrors {
			fmt.Fprintf(w, "\t%s\n", e)
		}
	}
	if d := st.DNS; d != nil {
		fmt.Fprintf(w, "dns\t%s at %s, %d queries, %d failed\n", d.Domain, d.Listen, d.Queries, d.Failed)
	}
	if c := st.ConfigSync; c != nil {
		fmt.Fprintf(w, "config\t%d of %s current, %d failing\n", c.Current, count(int64(c.Targets), "target"), c.Failing)
	}
	if a := st.Admin; a != nil {
		fmt.Fprintf(w, "http\t%s\n", a.Listen)
	}
}

// mode is what the server is in the ensemble.
func mode(z *api.ZabStatus) string {
	switch e := z.Ensemble; {
	case e == nil:
		return z.State
	case !e.Serving:
		return "does not serve"
	case z.State == "leader":
		return fmt.Sprintf("leader of epoch %d", z.Epoch)
	}
	return fmt.Sprintf("%s of server %d in epoch %d", z.State, z.LeaderID, z.Epoch)
}

// printEnsemble prints the list of servers in a line, and one for everything that
// somebody should know.
func printEnsemble(w io.Writer, e *api.EnsembleStatus) {
	var voters, observers int64
	for _, m := range e.Members {
		if m.Role == "observer" {
			observers++
		} else {
			voters++
		}
	}
	text := count(voters, "voter")
	if observers > 0 {
		text += ", " + count(observers, "observer")
	}
	if e.Changing {
		text += ", the list is being changed"
	}
	fmt.Fprintf(w, "ensemble\t%s\n", text)
	for _, list := range [][]string{e.Why, e.Problems} {
		for _, line := range list {
			fmt.Fprintf(w, "\t%s\n", line)
		}
	}
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// freshness says how old an answer is.
func freshness(live bool, asOf time.Time) string {
	if live {
		return "live"
	}
	if asOf.IsZero() {
		return "not read yet"
	}
	return "the last good answer, of " + asOf.Local().Format(time.DateTime)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which build this is",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := api.BuildVersion()
			return show(cmd, v, func(w io.Writer) { fmt.Fprintln(w, v) })
		},
	}
}
