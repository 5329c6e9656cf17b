package command

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/agent/command/shell"
)

// defaultServer is the client port if nothing else is said.
func defaultServer(otherwise string) string {
	if s := os.Getenv("PADDOCK_SERVER"); s != "" {
		return s
	}
	return otherwise
}

func (p Program) cliCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cli [-server HOST:PORT[,HOST:PORT...][/CHROOT]] [-timeout MS] [-r] [-o json] [COMMAND ARG...]",
		Short: "ZooKeeper shell with zkCli's commands",
		Long: `cli runs one COMMAND, or reads commands: from the terminal, with history (arrow
keys) and completion of commands and paths (tab), or from a pipe.

Commands and output are those of Apache's zkCli.sh 3.9; ls2, rmr and the old
forms with [watch] and [version] work too. Results go to standard output, the
rest to standard error; with -o json each command prints one line of JSON and
nothing else. Unlike zkCli the session is closed at the end: an ephemeral znode
that one COMMAND creates is gone when it returns.

    -server           connect string, default localhost:2181 (PADDOCK_SERVER)
    -timeout          of the session and of each command, in ms, default 30000
    -r                accept a server without quorum, for reading

    ` + strings.Join(shell.Verbs(), " "),
		Example: `    paddock cli
    paddock cli -server 10.0.0.1:2181 ls /dubbo
    paddock cli -o json get -s /config/app`,
		DisableFlagParsing: true, // options behind the command are the shell's
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg := shell.Config{
				Server: defaultServer("localhost:2181"), Version: api.BuildVersion().ZooKeeperText(),
				Stdin: cmd.InOrStdin(), Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(),
			}
			output, err := cmd.Root().PersistentFlags().GetString("output")
			if err != nil {
				return err
			}
			rest, help, err := cliOptions(&cfg, &output, args)
			switch {
			case err != nil:
				return err
			case help:
				return cmd.Help()
			case output != "text" && output != "json":
				return usagef("-o wants text or json, got %q", output)
			}
			cfg.JSON = output == "json"
			switch err := shell.New(cfg).Run(cmd.Context(), rest); {
			case errors.Is(err, shell.ErrUsage):
				return errUsagePrinted
			case err != nil:
				return errFailed
			}
			return nil
		},
	}
}

// cliOptions reads the options in front of the command, as zkCli does.
func cliOptions(cfg *shell.Config, output *string, args []string) (rest []string, help bool, err error) {
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		if !strings.HasPrefix(name, "-") {
			return args[i:], false, nil
		}
		take := func() string {
			if joined {
				return value
			}
			if i++; i == len(args) {
				err = usagef("no argument found for option %s", name)
				return ""
			}
			return args[i]
		}
		switch "-" + strings.TrimLeft(name, "-") {
		case "-server":
			cfg.Server = take()
		case "-timeout":
			ms, perr := strconv.ParseUint(take(), 10, 31)
			if err == nil && (perr != nil || ms == 0) {
				err = usagef("-timeout wants milliseconds")
			}
			cfg.Timeout = time.Duration(ms) * time.Millisecond
		case "-r":
			cfg.ReadOnly = true
		case "-o", "-output":
			*output = take()
		case "-waitforconnection": // always
		case "-client-configuration":
			if file := take(); err == nil {
				err = fmt.Errorf("-client-configuration %s: settings of Java clients are not supported", file)
			}
		case "-h", "-help":
			return nil, true, nil
		default:
			err = usagef("unknown option %s", name)
		}
		if err != nil {
			return nil, false, err
		}
	}
	return nil, false, nil
}
