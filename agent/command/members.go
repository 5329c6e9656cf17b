package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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
	"github.com/paddockio/paddock/zab/wire"
)

func membersCommand() *cobra.Command {
	cmd := addHTTPFlag(addServerFlag(&cobra.Command{
		Use:   "members",
		Short: "List and change the servers of the ensemble",
		Long: `members lists the servers of the ensemble as its configuration has them, and asks
each what it is at the moment. The agent of this host, if it runs, adds which
hosts gossip knows, and which of them are alive; a host without an ID has no
place on the list yet. Its subcommands change the list by a reconfiguration,
which the present voters commit; they refuse if the list was changed since it
was read.

Changes need a user that may write /zookeeper/config: with -auth-file FILE, whose
first line is scheme:auth, such as digest:super:secret. Servers without
reconfigEnabled refuse.`,
		Example: `    paddock members
    paddock members promote 4 -auth-file /etc/paddock/super
    paddock members replace 2 4 -auth-file /etc/paddock/super`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(cmd, func(ctx context.Context, c *client.Client) error {
				e, err := readEnsemble(ctx, c)
				if err != nil {
					return err
				}
				return showMembers(cmd, e)
			})
		},
	}))
	cmd.AddCommand(membersAddCommand(), membersPromoteCommand(), membersDemoteCommand(), membersReplaceCommand(), membersRemoveCommand())
	return cmd
}

// A change makes the arguments of a reconfiguration out of the list as it is.
type change func(e *zab.Ensemble, args []string) (joining, leaving []string, err error)

// reconfigCommand completes a command that changes the list.
func reconfigCommand(cmd *cobra.Command, f change) *cobra.Command {
	var authFile string
	addHTTPFlag(addServerFlag(cmd))
	cmd.Flags().StringVar(&authFile, "auth-file", "", "a `FILE` with scheme:auth of a user that may do this")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		auth, err := config.ReadAuth(authFile)
		if err != nil {
			return err
		}
		return withClient(cmd, func(ctx context.Context, c *client.Client) error {
			for _, a := range auth {
				if err := c.AddAuth(ctx, a.Scheme, a.Data); err != nil {
					return err
				}
			}
			e, err := readEnsemble(ctx, c)
			if err != nil {
				return err
			}
			joining, leaving, err := f(e, args)
			if err != nil {
				return err
			}
			data, _, err := c.Reconfig(ctx, strings.Join(joining, ","), strings.Join(leaving, ","), "", e.Version)
			if err != nil {
				return explainReconfig(err)
			}
			if e, err = zab.ParseEnsemble(string(data)); err != nil {
				return fmt.Errorf("the list was changed, and the answer cannot be read: %w", err)
			}
			return showMembers(cmd, e)
		})
	}
	return cmd
}

func membersAddCommand() *cobra.Command {
	return reconfigCommand(&cobra.Command{
		Use:   "add server.ID=HOST:PORT:PORT:ROLE;PORT...",
		Short: "Put servers on the list",
		Long: `add puts servers on the list, as observers or participants; a server that is on
it gets the new line. An agent that waits for a place finds it there.`,
		Example: `    paddock members add 'server.4=10.0.0.4:2888:3888:observer;2181' -auth-file /etc/paddock/super`,
		Args:    nArgs(1, 254, "server.ID=HOST:PORT:PORT"),
	}, addMembers)
}

func addMembers(_ *zab.Ensemble, args []string) (joining, leaving []string, err error) {
	for _, line := range args {
		number, value, ok := strings.Cut(strings.TrimPrefix(line, "server."), "=")
		id, err := strconv.ParseInt(number, 10, 64)
		if !ok || err != nil || !strings.HasPrefix(line, "server.") {
			return nil, nil, usagef("wants server.ID=HOST:PORT:PORT, got %q", line)
		}
		m, err := zab.ParseMember(zab.ServerID(id), value)
		if err != nil {
			return nil, nil, usagef("%s: %v", line, err)
		}
		joining = append(joining, m.String())
	}
	return joining, nil, nil
}

func membersPromoteCommand() *cobra.Command {
	return reconfigCommand(&cobra.Command{
		Use:   "promote ID...",
		Short: "Give observers a vote",
		Long: `promote makes participants of observers. They must run, and have what the voters
have: else the ensemble refuses.`,
		Args: nArgs(1, 254, "ID"),
	}, func(e *zab.Ensemble, args []string) (joining, leaving []string, err error) {
		return changeRoles(e, args, false)
	})
}

func membersDemoteCommand() *cobra.Command {
	return reconfigCommand(&cobra.Command{
		Use:   "demote ID...",
		Short: "Take the vote of servers, which then observe",
		Args:  nArgs(1, 254, "ID"),
	}, func(e *zab.Ensemble, args []string) (joining, leaving []string, err error) {
		return changeRoles(e, args, true)
	})
}

// changeRoles makes observers, or participants, of the servers in args.
func changeRoles(e *zab.Ensemble, args []string, observer bool) (joining, leaving []string, err error) {
	for _, arg := range args {
		m, err := member(e, arg)
		if err != nil {
			return nil, nil, err
		}
		if m.Observer == observer {
			return nil, nil, fmt.Errorf("server %d is %s already", m.ID, memberRole(m))
		}
		m.Observer = observer
		joining = append(joining, m.String())
	}
	return joining, nil, nil
}

func membersReplaceCommand() *cobra.Command {
	return reconfigCommand(&cobra.Command{
		Use:   "replace OLD NEW",
		Short: "Let an observer vote in the place of a server",
		Long: `replace takes the server OLD off the list and gives the observer NEW its vote, in
one step: there is no moment with one voter more or less.`,
		Example: `    paddock members replace 2 4 -auth-file /etc/paddock/super`,
		Args:    nArgs(2, 2, "OLD or NEW"),
	}, replaceMember)
}

func replaceMember(e *zab.Ensemble, args []string) (joining, leaving []string, err error) {
	gone, err := member(e, args[0])
	if err != nil {
		return nil, nil, err
	}
	if gone.Observer {
		return nil, nil, fmt.Errorf("server %d has no vote: use promote and remove", gone.ID)
	}
	joining, _, err = changeRoles(e, args[1:], false)
	return joining, []string{strconv.FormatInt(int64(gone.ID), 10)}, err
}

func membersRemoveCommand() *cobra.Command {
	return reconfigCommand(&cobra.Command{
		Use:   "remove ID...",
		Short: "Take servers off the list",
		Long: `remove takes servers off the list. A voter that is gone for good counts until it
is removed, or replaced.`,
		Args: nArgs(1, 254, "ID"),
	}, removeMembers)
}

func removeMembers(e *zab.Ensemble, args []string) (joining, leaving []string, err error) {
	for _, arg := range args {
		m, err := member(e, arg)
		if err != nil {
			return nil, nil, err
		}
		leaving = append(leaving, strconv.FormatInt(int64(m.ID), 10))
	}
	return nil, leaving, nil
}

// member finds the server that an argument means.
func member(e *zab.Ensemble, arg string) (zab.Member, error) {
	id, err := strconv.ParseInt(arg, 10, 64)
	if err != nil {
		return zab.Member{}, usagef("wants the id of a server, got %q", arg)
	}
	m, ok := e.Member(zab.ServerID(id))
	if !ok {
		return m, fmt.Errorf("server %d is not on the list", id)
	}
	return m, nil
}

// readEnsemble reads the list that is committed now.
func readEnsemble(ctx context.Context, c *client.Client) (*zab.Ensemble, error) {
	if err := c.Sync(ctx, "/zookeeper/config"); err != nil {
		return nil, err
	}
	data, _, err := c.GetConfig(ctx)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, errors.New("this server is alone: it has no list of servers")
	}
	return zab.ParseEnsemble(string(data))
}

// explainReconfig adds to an answer what helps.
func explainReconfig(err error) error {
	switch {
	case errors.Is(err, wire.ErrNoAuth):
		return fmt.Errorf("%w: give a user that may write /zookeeper/config with -auth-file", err)
	case errors.Is(err, wire.ErrReconfigDisabled):
		return fmt.Errorf("%w: reconfigEnabled=true must be set on the servers", err)
	case errors.Is(err, wire.ErrBadVersion):
		return fmt.Errorf("%w: somebody else has changed the list meanwhile", err)
	case errors.Is(err, wire.ErrNewConfigNoQuorum):
		return fmt.Errorf("%w: too many of the voters that would be are not connected, or not up to date", err)
	}
	return err
}

// A memberRow is one server, or one host, for show.
type memberRow struct {
	ID   int64  `json:"id,omitempty"`
	Name string `json:"name,omitempty"` // of the host, if gossip knows it
	// Alive is yes or no for a host that gossip knows.
	Alive   string `json:"alive,omitempty"`
	Role    string `json:"role,omitempty"` // participant, observer; "" for a host that is not on the list
	Address string `json:"address,omitempty"`
	Client  string `json:"client,omitempty"`
	// Mode is what the server says it is: leader, follower, observer, standalone,
	// "not serving" or "no answer"; "" if it has no client port to ask.
	Mode string `json:"mode,omitempty"`
}

func memberRole(m zab.Member) string {
	if m.Observer {
		return "observer"
	}
	return "participant"
}

// askTime is how long a server may take to say what it is.
const askTime = 2 * time.Second

func showMembers(cmd *cobra.Command, e *zab.Ensemble) error {
	var known api.MemberList
	if err := ask(cmd, "GET", "/v1/members", nil, &known); err != nil {
		known = api.MemberList{} // no agent, no names
	}
	rows := memberRows(e, known)
	var wg sync.WaitGroup
	for i := range rows {
		if rows[i].Client != "" && rows[i].Role != "" {
			wg.Go(func() { rows[i].Mode = askMode(cmd.Context(), rows[i].Client) })
		}
	}
	wg.Wait()
	v := map[string]any{"version": fmt.Sprintf("%x", uint64(e.Version)), "members": rows}
	return show(cmd, v, func(out io.Writer) {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tNAME\tALIVE\tROLE\tADDRESS\tCLIENT\tMODE")
		for _, r := range rows {
			id := "-"
			if r.ID != 0 {
				id = strconv.FormatInt(r.ID, 10)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", id, orDash(r.Name), orDash(r.Alive), orDash(r.Role), orDash(r.Address), orDash(r.Client), orDash(r.Mode))
		}
		w.Flush()
	})
}

// memberRows are the servers of a list with what an agent knows of their hosts,
// and then the hosts without a place on the list. The agent may belong to another
// ensemble: a host is that of a server if the address is the same too.
func memberRows(e *zab.Ensemble, known api.MemberList) []memberRow {
	var rows []memberRow
	ours, placed := false, map[int]bool{}
	for _, m := range e.Members {
		r := memberRow{ID: int64(m.ID), Role: memberRole(m), Client: clientOf(m)}
		var addrs []string
		for _, a := range m.Addrs {
			quorum := net.JoinHostPort(a.Host, strconv.Itoa(a.QuorumPort))
			addrs = append(addrs, quorum+":"+strconv.Itoa(a.ElectionPort))
			for i, h := range known.Members {
				if h.ID == r.ID && h.Address == quorum && (h.Alive || r.Name == "") {
					r.Name, r.Alive, ours = h.Name, yesNo(h, known.Gossip), true
					placed[i] = true
				}
			}
		}
		r.Address = strings.Join(addrs, "|")
		rows = append(rows, r)
	}
	for i, h := range known.Members {
		if ours && !placed[i] && h.Name != "" {
			rows = append(rows, memberRow{Name: h.Name, Alive: yesNo(h, known.Gossip), Address: h.Address, Client: h.Client})
		}
	}
	return rows
}

// yesNo says whether gossip reaches a host, "" if it does not know it.
func yesNo(h api.Member, gossip bool) string {
	switch {
	case !gossip || h.Name == "":
		return ""
	case h.Alive:
		return "yes"
	}
	return "no"
}

// clientOf returns where clients reach a server, "" if its line does not say.
func clientOf(m zab.Member) string {
	host, port, err := net.SplitHostPort(m.ClientAddr)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = m.Addrs[0].Host
	}
	return net.JoinHostPort(host, port)
}

// askMode asks a server with the word srvr what it is.
func askMode(ctx context.Context, addr string) string {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "no answer"
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // a connection that cannot have one fails below
	}
	if _, err := io.WriteString(conn, "srvr"); err != nil {
		return "no answer"
	}
	lines := bufio.NewScanner(io.LimitReader(conn, 64<<10))
	for lines.Scan() {
		if mode, ok := strings.CutPrefix(lines.Text(), "Mode: "); ok {
			return mode
		}
		if strings.Contains(lines.Text(), "not currently serving requests") {
			return "not serving"
		}
	}
	return "no answer"
}
