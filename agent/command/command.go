// Package command is the command line: subcommands, flags, help, exit status.
//
// A command parses its flags, calls one package and prints. Results go to
// standard output, as text or with -o json as JSON; errors go to standard error.
// The exit status is 0 for done, 1 for failed, 2 for wrong use. Long flags may
// be written with one dash, as in the documentation of ZooKeeper and Consul, or
// with two.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/paddockio/paddock/agent/config"
)

// Program is the binary with its surroundings.
type Program struct {
	// Run runs an agent until ctx ends. What a user should know at the start
	// goes to out.
	Run            func(ctx context.Context, cfg config.Config, out io.Writer) error
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// errFailed is a failure whose reason is already printed.
var errFailed = errors.New("failed")

// errUsagePrinted is wrong use that is already explained.
var errUsagePrinted = errors.New("wrong use")

// usageError is a command line that cannot be carried out as it is written.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// Main runs the command that args, without the program's name, ask for, and
// returns the exit status.
func (p Program) Main(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(doubleDashes(root, args))
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errFailed):
		return exitFailed
	case errors.Is(err, errUsagePrinted):
		return exitUsage
	case errors.As(err, &usage):
		fmt.Fprintf(p.Stderr, "%s: %v\nTry: %s -help\n", cmd.CommandPath(), err, cmd.CommandPath())
		return exitUsage
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(p.Stderr, "%s: %s\n", cmd.CommandPath(), strings.TrimSuffix(line, "\n"))
	}
	return exitFailed
}

func (p Program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "paddock",
		Short: "Service registration, discovery and configuration for every host",
		Long: `paddock runs on every host. It registers the services of the host, answers
look-ups by DNS and HTTP, keeps configuration in local files, and is a
ZooKeeper server that every ZooKeeper client can use.

To see it work:

    paddock agent -dev`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args:              noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help() // to standard output, which takes what it is given
			return usagef("a command is missing")
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			_, err := outputOf(cmd)
			return err
		},
	}
	output := os.Getenv("PADDOCK_OUTPUT")
	if output == "" {
		output = "text"
	}
	root.PersistentFlags().StringP("output", "o", output, "print as text or json (PADDOCK_OUTPUT)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.SetHelpTemplate(helpTemplate)
	root.SetUsageTemplate(helpTemplate)
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"}, &cobra.Group{ID: "ask", Title: "Ask the agent of this host:"},
		&cobra.Group{ID: "tree", Title: "Look into the tree and the files:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", p.agentCommand(), p.serverCommand(), simCommand())
	add("ask", statusCommand(), doctorCommand(), membersCommand(), servicesCommand(), lookupCommand(), registerCommand(), deregisterCommand(), registrationsCommand(), dnsCommand())
	add("tree", p.cliCommand(), configCommand(), dataCommand())
	root.AddCommand(versionCommand())
	return root
}

// helpTemplate prints a command as a short manual page.
const helpTemplate = `{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}{{if .Runnable}}Usage:
    {{.UseLine}}
{{end}}{{if .HasAvailableSubCommands}}{{$cmds := .Commands}}{{if .Groups}}{{range $group := .Groups}}
{{.Title}}
{{range $cmds}}{{if (and (eq .GroupID $group.ID) .IsAvailableCommand)}}    {{rpad .Name .NamePadding}}  {{.Short}}
{{end}}{{end}}{{end}}
Others:
{{range $cmds}}{{if (and (eq .GroupID "") .IsAvailableCommand)}}    {{rpad .Name .NamePadding}}  {{.Short}}
{{end}}{{end}}{{else}}
Commands:
{{range $cmds}}{{if .IsAvailableCommand}}    {{rpad .Name .NamePadding}}  {{.Short}}
{{end}}{{end}}{{end}}{{end}}{{if .HasExample}}
Examples:
{{.Example | trimTrailingWhitespaces}}
{{end}}{{if .HasAvailableLocalFlags}}
Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{end}}{{if .HasAvailableInheritedFlags}}
Flags of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}
{{end}}`

// noArgs and nArgs are cobra's checks with the exit status of wrong use.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		if cmd.HasAvailableSubCommands() {
			return usagef("unknown command %q", args[0])
		}
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

func nArgs(low, high int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < low:
			return usagef("%s is missing", what)
		case len(args) > high:
			return usagef("unexpected argument %q", args[high])
		}
		return nil
	}
}

// group is a command that only has subcommands.
func group(use, short, long string, cmds ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		_ = cmd.Help() // to standard output, which takes what it is given
		return usagef("a command is missing")
	}}
	c.AddCommand(cmds...)
	return c
}

// outputOf returns text or json.
func outputOf(cmd *cobra.Command) (string, error) {
	o, err := cmd.Flags().GetString("output")
	if err == nil && o != "text" && o != "json" {
		err = usagef("-o wants text or json, got %q", o)
	}
	return o, err
}

// show prints v as JSON if that is wanted, else calls text.
func show(cmd *cobra.Command, v any, text func(w io.Writer)) error {
	o, err := outputOf(cmd)
	if err != nil {
		return err
	}
	if o == "text" {
		text(cmd.OutOrStdout())
		return nil
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// doubleDashes gives long flags with one dash, -config, their second one, which
// pflag wants. Behind cli everything is the shell's, and behind -- nothing is a flag.
func doubleDashes(root *cobra.Command, args []string) []string {
	long := map[string]bool{"help": true}
	var collect func(c *cobra.Command)
	collect = func(c *cobra.Command) {
		for _, set := range []*pflag.FlagSet{c.Flags(), c.PersistentFlags()} {
			set.VisitAll(func(f *pflag.Flag) { long[f.Name] = true })
		}
		for _, sub := range c.Commands() {
			collect(sub)
		}
	}
	collect(root)
	out := make([]string, 0, len(args))
	for i, a := range args {
		if a == "--" || a == "cli" && commandAt(args[:i]) {
			return append(out, args[i:]...)
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "-"), "=")
		if strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && len(name) > 1 && long[name] {
			a = "-" + a
		}
		out = append(out, a)
	}
	return out
}

// commandAt reports whether the next word is the command: only root flags came
// before it.
func commandAt(before []string) bool {
	for i := 0; i < len(before); i++ {
		switch a := before[i]; {
		case a == "-o" || a == "-output" || a == "--output":
			i++
		case !strings.HasPrefix(a, "-"):
			return false
		}
	}
	return true
}
