package command

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/paddockio/paddock/agent/config"
)

// defaultConfig is read if no other file is named and it exists.
const defaultConfig = "/etc/paddock/agent.yaml"

func (p Program) agentCommand() *cobra.Command {
	var file string
	var dev, check bool
	cmd := &cobra.Command{
		Use:   "agent [-config FILE] [-dev] [-KEY VALUE ...]",
		Short: "Run the agent of this host",
		Long: `agent runs until it gets SIGINT or SIGTERM. It keeps its session: started
again within zab.session_timeout, nobody notices.

The configuration is FILE, by default ` + defaultConfig + ` if that exists.
Every key of it is also an environment variable (zab.tick_time is
PADDOCK_ZAB_TICK_TIME) and a flag (-zab.tick_time 1s); a flag wins over the
environment, that over the file. deploy/agent.yaml of the source has all keys
with their defaults. Everything that is wrong is reported at once.

With -dev it is one voter with a temporary data directory that listens on
127.0.0.1 and serves sample services and a sample config file.`,
		Example: `    paddock agent -dev
    paddock agent -config agent.yaml -log.level debug
    paddock agent -config agent.yaml -check`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" && !dev {
				if _, err := os.Stat(defaultConfig); err == nil {
					file = defaultConfig
				}
			}
			cfg, err := config.Load(config.Options{File: file, Dev: dev, Flags: cmd.Flags()})
			if err != nil {
				return err
			}
			if check {
				return showConfig(cmd, cfg)
			}
			return p.run(cmd, cfg)
		},
	}
	cmd.Flags().StringVar(&file, "config", os.Getenv("PADDOCK_CONFIG"), "the configuration `FILE` (PADDOCK_CONFIG)")
	cmd.Flags().BoolVar(&dev, "dev", false, "one voter, temporary data, sample services and config")
	cmd.Flags().BoolVar(&check, "check", false, "check the configuration, print every setting and end")
	config.AddFlags(cmd.Flags())
	return cmd
}

func (p Program) run(cmd *cobra.Command, cfg config.Config) error {
	if p.Run == nil {
		return errors.New("this build has no agent")
	}
	calmThreads()
	return p.Run(cmd.Context(), cfg, cmd.OutOrStdout())
}

func showConfig(cmd *cobra.Command, cfg config.Config) error {
	v := map[string]any{"file": cfg.File, "settings": cfg.Lines(), "targets": len(cfg.ConfigSync), "warnings": append([]string{}, cfg.Warnings...)}
	for _, w := range cfg.Warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", w)
	}
	return show(cmd, v, func(w io.Writer) {
		for _, l := range cfg.Lines() {
			fmt.Fprintln(w, l)
		}
	})
}
