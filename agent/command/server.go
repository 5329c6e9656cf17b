package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/zab"
)

func (p Program) serverCommand() *cobra.Command {
	var confDir string
	cmd := &cobra.Command{
		Use:   "server [-config DIR] start|start-foreground|stop|restart|status|print-cmd|version|upgrade [zoo.cfg]",
		Short: "Run a ZooKeeper server as zkServer.sh does",
		Long: `server runs a plain ZooKeeper server from a zoo.cfg, with the words and exit
statuses of Apache's bin/zkServer.sh.

    start             start in the background; the process id goes to
                      zookeeper_server.pid in dataDir, output to
                      zookeeper-$USER-server-$HOSTNAME.out
    start-foreground  run until SIGINT or SIGTERM
    stop              end the one in the background
    restart           stop, start
    status            print the mode: standalone, leader, follower, observer
    print-cmd         print the command line of start
    version           print the version
    upgrade           say whether the data directory has to be converted

zoo.cfg is read from DIR, else $ZOOCFGDIR, ../conf beside the binary or
/etc/zookeeper, unless it is given with a path. ZOOCFG, ZOOPIDFILE, ZOO_LOG_DIR
and ZOO_DATADIR_AUTOCREATE_DISABLE mean what they mean there.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 2 {
				return usagef("unexpected argument %q", args[2])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			z := zkServer{cmd: cmd, run: p.run}
			word := ""
			if len(args) > 0 {
				word = args[0]
			}
			name := ""
			if len(args) > 1 {
				name = args[1]
			}
			verb, ok := z.verbs()[word]
			if !ok {
				fmt.Fprintf(cmd.ErrOrStderr(), "Usage: %s [-config <conf-dir>] {start|start-foreground|stop|version|restart|status|print-cmd|upgrade}\n", cmd.CommandPath())
				return errUsagePrinted
			}
			if word == "version" {
				return verb()
			}
			z.cfgFile = findZooCfg(confDir, name)
			fmt.Fprintf(cmd.ErrOrStderr(), "Using config: %s\n", z.cfgFile)
			return verb()
		},
	}
	cmd.Flags().StringVar(&confDir, "config", "", "the `DIR` of zoo.cfg (ZOOCFGDIR)")
	return cmd
}

// zkServer is one call of the script.
type zkServer struct {
	cmd     *cobra.Command
	cfgFile string
	run     func(*cobra.Command, config.Config) error
}

func (z *zkServer) verbs() map[string]func() error {
	return map[string]func() error{
		"start": z.start, "start-foreground": z.foreground, "stop": z.stop, "restart": z.restart,
		"status": z.status, "print-cmd": z.printCmd, "version": z.version, "upgrade": z.upgrade,
	}
}

// findZooCfg follows zkEnv.sh: a bare name is in the configuration directory,
// a path is a path.
func findZooCfg(confDir, name string) string {
	if confDir == "" {
		confDir = os.Getenv("ZOOCFGDIR")
	}
	if confDir == "" {
		confDir = "/etc/zookeeper"
		if exe, err := os.Executable(); err == nil {
			beside := filepath.Join(filepath.Dir(exe), "..", "conf")
			if info, err := os.Stat(beside); err == nil && info.IsDir() {
				confDir = beside
			}
		}
	}
	if name == "" {
		name = os.Getenv("ZOOCFG")
	}
	if name == "" {
		name = "zoo.cfg"
	}
	if strings.ContainsRune(name, filepath.Separator) {
		return name
	}
	inDir := filepath.Join(confDir, name)
	if _, err := os.Stat(inDir); err != nil {
		if _, err := os.Stat(name); err == nil {
			return name // here is where people look first
		}
	}
	return inDir
}

func (z *zkServer) out(format string, args ...any) { fmt.Fprintf(z.cmd.OutOrStdout(), format, args...) }

// load reads the configuration for the verbs that need it whole.
func (z *zkServer) load() (config.Config, error) {
	cfg, err := config.LoadZooCfg(z.cfgFile)
	if err == nil && os.Getenv("ZOO_DATADIR_AUTOCREATE_DISABLE") != "" {
		for _, d := range []struct{ dir, what string }{{cfg.Zab.Server.Storage.DataDir, "data"}, {cmp.Or(cfg.Zab.Server.Storage.LogDir, cfg.Zab.Server.Storage.DataDir), "txnlog"}} {
			if _, serr := os.Stat(filepath.Join(d.dir, "version-2")); serr != nil {
				z.out("ZooKeeper %s directory is missing at %s fix the path or run initialize\n", d.what, d.dir)
				return cfg, errFailed
			}
		}
	}
	return cfg, err
}

func (z *zkServer) foreground() error {
	cfg, err := z.load()
	if err != nil {
		return err
	}
	return z.run(z.cmd, cfg)
}

func pidFile(dataDir string) string {
	if f := os.Getenv("ZOOPIDFILE"); f != "" {
		return f
	}
	return filepath.Join(dataDir, "zookeeper_server.pid")
}

func outFile(dataDir string) string {
	dir := os.Getenv("ZOO_LOG_DIR")
	if dir == "" {
		dir = dataDir
	}
	host, _ := os.Hostname()
	return filepath.Join(dir, "zookeeper-"+os.Getenv("USER")+"-server-"+host+".out")
}

// command is how start runs start-foreground.
func (z *zkServer) command() (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(exe, "server", "start-foreground", z.cfgFile)
	c.Args[0] = os.Args[0] // a binary may be called by several names
	if !strings.ContainsRune(z.cfgFile, filepath.Separator) {
		c.Args[3] = "." + string(filepath.Separator) + z.cfgFile // else it would be looked for elsewhere
	}
	return c, nil
}

func (z *zkServer) start() error {
	cfg, err := z.load()
	if err != nil {
		return err
	}
	z.out("Starting zookeeper ... ")
	pidFile := pidFile(cfg.DataDir)
	if pid, ok := readPID(pidFile); ok && z.isServer(pid) {
		z.out("already running as process %d.\n", pid)
		return errFailed
	}
	// Else the answers of the one who has the port would be taken for those of
	// the new server.
	if l, err := net.Listen("tcp", cfg.Zab.Server.Listen); cfg.Zab.Server.Listen != "" && err != nil {
		z.out("FAILED TO START\n")
		return fmt.Errorf("%w: see %s", err, cfg.Where("zab.client_listen"))
	} else if l != nil {
		_ = l.Close() // nobody was accepted
	}
	outName := outFile(cfg.DataDir)
	for _, d := range []string{filepath.Dir(pidFile), filepath.Dir(outName)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			z.out("FAILED TO WRITE PID\n")
			return err
		}
	}
	out, err := os.Create(outName)
	if err != nil {
		z.out("FAILED TO START\n")
		return err
	}
	defer out.Close()
	c, err := z.command()
	if err != nil {
		return err
	}
	c.Stdout, c.Stderr = out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives the terminal
	if err := c.Start(); err != nil {
		z.out("SERVER DID NOT START\n")
		return err
	}
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(c.Process.Pid)), 0o644); err != nil {
		z.out("FAILED TO WRITE PID\n")
		_ = c.Process.Kill() // nobody could stop it later
		return err
	}
	ended := make(chan error, 1) // nobody may be left to read it
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		z.out("FAILED TO START\n")
		_ = os.Remove(pidFile) // the process is gone
		if text, rerr := os.ReadFile(outName); rerr == nil {
			_, _ = z.cmd.ErrOrStderr().Write(text)
		}
		return fmt.Errorf("the server ended at once: %v; its output is in %s", err, outName)
	case <-z.serving(cfg.Zab.Server.Listen):
		z.out("STARTED\n")
		return nil
	case <-z.cmd.Context().Done():
		return context.Cause(z.cmd.Context())
	}
}

// serving is closed when the server answers on its client port, however long it
// reads its data before; after five seconds if it has no port that is known.
func (z *zkServer) serving(addr string) <-chan struct{} {
	done := make(chan struct{})
	_, port, err := net.SplitHostPort(addr)
	asks := err == nil && port != "0"
	go func() {
		timeout := time.NewTimer(5 * time.Second)
		defer timeout.Stop()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-z.cmd.Context().Done():
				return
			case <-timeout.C:
				if !asks {
					close(done)
					return
				}
			case <-tick.C:
				// The word may be forbidden for this address: an answer is an answer.
				if !asks {
					continue
				}
				if text, err := fourLetterWord(addr, "srvr"); err == nil && text != "" {
					close(done)
					return
				}
			}
		}
	}()
	return done
}

func readPID(file string) (int, bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	return pid, err == nil && pid > 0
}

// isServer reports whether the process runs, and is a server of this
// configuration: numbers are used again, and stop must not hit a stranger.
// Where there is no /proc every process that runs counts.
func (z *zkServer) isServer(pid int) bool {
	if err := syscall.Kill(pid, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return false
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		_, noProc := os.Stat("/proc/self")
		return noProc != nil
	}
	for arg := range strings.SplitSeq(string(cmdline), "\x00") {
		if arg != "" && filepath.Base(arg) == filepath.Base(z.cfgFile) { // ours and Java's have it as an argument
			return true
		}
	}
	return false
}

func (z *zkServer) stop() error {
	// A server can be stopped although its zoo.cfg has become wrong.
	zoo, err := config.ReadZooCfg(z.cfgFile)
	if zoo == nil || zoo.DataDir == "" {
		return err
	}
	z.out("Stopping zookeeper ... ")
	file := pidFile(zoo.DataDir)
	pid, ok := readPID(file)
	if !ok {
		z.out("no zookeeper to stop (could not find file %s)\n", file)
		return nil
	}
	if !z.isServer(pid) {
		_ = os.Remove(file) // it is of no use to anybody
		z.out("no zookeeper to stop (process %d of file %s is gone)\n", pid, file)
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		z.out("FAILED\n")
		return fmt.Errorf("process %d: %w", pid, err)
	}
	if !z.waitGone(pid, 30*time.Second) {
		z.out("FAILED TO STOP\n")
		return fmt.Errorf("process %d still runs after 30s", pid)
	}
	_ = os.Remove(file) // it is of no use to anybody
	z.out("STOPPED\n")
	return nil
}

func (z *zkServer) waitGone(pid int, limit time.Duration) bool {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for z.isServer(pid) {
		select {
		case <-tick.C:
		case <-timeout.C:
			return false
		case <-z.cmd.Context().Done():
			return false
		}
	}
	return true
}

func (z *zkServer) restart() error {
	if err := z.stop(); err != nil {
		return err
	}
	return z.start()
}

func (z *zkServer) printCmd() error {
	cfg, err := z.load()
	if err != nil {
		return err
	}
	c, err := z.command()
	if err != nil {
		return err
	}
	z.out("%q %q %q %q > %q 2>&1 < /dev/null\n", c.Path, c.Args[1], c.Args[2], c.Args[3], outFile(cfg.DataDir))
	return nil
}

func (z *zkServer) version() error {
	v := api.BuildVersion()
	return show(z.cmd, v, func(w io.Writer) {
		fmt.Fprintf(w, "Apache ZooKeeper, version %s (spoken by %s)\n", v.ZooKeeperText(), v)
	})
}

// status prints the mode as zkServer.sh does, or as JSON.
func (z *zkServer) status() error {
	o, err := outputOf(z.cmd)
	if err != nil || o == "text" {
		return errors.Join(err, z.askMode(z.out, func(string) {}))
	}
	s := struct {
		Config string `json:"config"`
		Mode   string `json:"mode"`  // "" if the server gives none
		Error  string `json:"error"` // why
	}{Config: z.cfgFile}
	var told strings.Builder
	asked := z.askMode(func(format string, args ...any) { told.Reset(); fmt.Fprintf(&told, format, args...) }, func(mode string) { s.Mode = mode })
	if asked != nil {
		s.Error = strings.TrimSpace(told.String())
		if !errors.Is(asked, errFailed) {
			s.Error = asked.Error()
		}
	}
	return errors.Join(show(z.cmd, s, nil), asked)
}

// askMode asks the server for its mode, as zkServer.sh does by the word srvr.
func (z *zkServer) askMode(out func(format string, args ...any), found func(mode string)) error {
	zoo, err := config.ReadZooCfg(z.cfgFile)
	if zoo == nil {
		return err
	}
	host, port := z.clientAddr(zoo, out)
	if port == 0 {
		out("Client port not found. Looking for secureClientPort in the static config.\n")
		if zoo.SecureClientPort == 0 {
			out("Unable to find either secure or unsecure client port in any configs. Terminating.\n")
			return errFailed
		}
		host, port = zoo.SecureClientPortAddress, zoo.SecureClientPort
		if host == "" {
			host = "localhost"
		}
	}
	out("Client port found: %d. Client address: %s. Client SSL: %t.\n", port, host, port == zoo.SecureClientPort)
	text, err := fourLetterWord(net.JoinHostPort(host, strconv.Itoa(port)), "srvr")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "Mode: ") {
			line = strings.TrimSpace(line)
			out("%s\n", line)
			found(strings.TrimPrefix(line, "Mode: "))
			return nil
		}
	}
	out("Error contacting service. It is probably not running.\n")
	if err != nil {
		fmt.Fprintf(z.cmd.ErrOrStderr(), "%v\n", err)
	}
	return errFailed
}

// clientAddr finds the client port: clientPort, or that in the line of this
// server; 0 if there is none.
func (z *zkServer) clientAddr(zoo *config.ZooCfg, out func(format string, args ...any)) (host string, port int) {
	if zoo.ClientPort != 0 {
		host = zoo.ClientPortAddress
		if host == "" {
			host = "localhost"
		}
		return host, zoo.ClientPort
	}
	if zoo.MyID == 0 {
		out("myid could not be determined, will not able to locate clientPort in the server configs.\n")
		return "", 0
	}
	if zoo.DynamicConfigFile != "" {
		out("Client port not found in static config file. Looking in dynamic config file.\n")
	}
	s, _ := zoo.Ensemble.Member(zab.ServerID(zoo.MyID))
	host, text, err := net.SplitHostPort(s.ClientAddr)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil {
		out("Client port not found in the server configs\n")
		return "", 0
	}
	return host, port
}

// fourLetterWord asks a server and returns its answer.
func fourLetterWord(addr, word string) (string, error) {
	const limit = 5 * time.Second
	conn, err := net.DialTimeout("tcp", addr, limit)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	return string(data), err
}

// upgrade was for data of releases before 3.0, whose files lie in dataDir itself.
func (z *zkServer) upgrade() error {
	cfg, err := z.load()
	if err != nil {
		return err
	}
	z.out("upgrading the servers to 3.*\n")
	old, err := filepath.Glob(filepath.Join(cfg.DataDir, "snapshot.*"))
	if err != nil {
		return err
	}
	if len(old) > 0 {
		return fmt.Errorf("%s has files of a release before 3.0 (%s): convert it with ZooKeeper 3.4's zkServer.sh upgrade first",
			cfg.DataDir, filepath.Base(old[0]))
	}
	z.out("Nothing to upgrade: %s is read as it is\n", filepath.Join(cfg.DataDir, "version-2"))
	return nil
}
