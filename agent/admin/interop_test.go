//go:build interop

package admin

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/paddockio/paddock/internal/testport"
)

// missing ends a test whose peer is not on this machine: skipped with the reason
// on a developer's, failed in CI, where nothing may be missing.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// apacheClasspath lets Maven fetch what testdata/apache/pom.xml names.
func apacheClasspath(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, "%s is not on this machine", program)
		}
	}
	jars := filepath.Join(t.TempDir(), "jars")
	out, err := exec.Command("mvn", "-q", "-B", "-f", filepath.Join("testdata", "apache", "pom.xml"),
		"dependency:build-classpath", "-Dmdep.outputFile="+jars).CombinedOutput()
	if err != nil {
		missing(t, "mvn: %v\n%s", err, out)
	}
	b, err := os.ReadFile(jars)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// launchApache starts a server with a configuration. It ends with the test; done
// is closed when it has ended.
func launchApache(t *testing.T, classpath, dir, cfg string) (logFile string, done chan struct{}) {
	t.Helper()
	for name, text := range map[string]string{"zoo.cfg": cfg, "logback.xml": "<configuration/>"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-cp", dir+":"+classpath,
		"org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(dir, "zoo.cfg"))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	// A server must not outlive a test binary that was killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done = make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-done })
	return log.Name(), done
}

// startApache starts Apache's server with an AdminServer. With prometheus it also
// returns the address of its metrics.
func startApache(t *testing.T, classpath string, prometheus bool) (p peer, metrics string) {
	t.Helper()
	dir, ports := t.TempDir(), testport.Ports(t, 3)
	cfg := fmt.Sprintf("tickTime=2000\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\n4lw.commands.whitelist=*\n"+
		"admin.serverPort=%d\nadmin.serverAddress=127.0.0.1\nextendedTypesEnabled=true\n", filepath.Join(dir, "data"), ports[0], ports[1])
	if prometheus {
		cfg += fmt.Sprintf("metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\n"+
			"metricsProvider.httpHost=127.0.0.1\nmetricsProvider.httpPort=%d\n", ports[2])
	}
	log, done := launchApache(t, classpath, dir, cfg)

	at := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
	p = peer{at(ports[0]), at(ports[1])}
	await := func(what string, ready func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !ready(); time.Sleep(50 * time.Millisecond) {
			var ended bool
			select {
			case <-done:
				ended = true
			default:
			}
			if ended || time.Now().After(deadline) {
				b, _ := os.ReadFile(log)
				t.Fatalf("Apache's server has no %s, ended: %v\n%s", what, ended, b)
			}
		}
	}
	await("client port", func() bool {
		// An open port is not enough: a session asked for too early is never answered.
		answer, err := p.ask("srvr")
		return err == nil && strings.Contains(answer, "Mode: ")
	})
	for _, port := range ports[1:] {
		if port == ports[2] && !prometheus {
			continue
		}
		await("port "+fmt.Sprint(port), func() bool {
			c, err := net.Dial("tcp", at(port))
			if err != nil {
				return false
			}
			c.Close()
			return true
		})
	}
	return p, at(ports[2])
}

// TestApacheAnswersSo checks the golden files against a running Apache server;
// TestAnswersAsApache checks our server against the golden files. With -update it
// writes them.
func TestApacheAnswersSo(t *testing.T) {
	classpath := apacheClasspath(t)
	t.Run("words and commands", func(t *testing.T) {
		t.Parallel()
		p, _ := startApache(t, classpath, false)
		p.play(t)
		golden(t, "apache/words.txt", p.words(t, words))
		golden(t, "apache/commands.txt", p.commands(t))
		golden(t, "apache/resets.txt", p.words(t, resets))
		golden(t, "apache/environment.txt", p.environment(t))
		golden(t, "apache/mntr.txt", formsText(mntrForms(p.word(t, "mntr"))))
	})
	t.Run("metrics", func(t *testing.T) {
		t.Parallel()
		p, metrics := startApache(t, classpath, true)
		p.play(t)
		_, body := peer{"", metrics}.get(t, "GET", "/metrics", "")
		types := prometheusTypes(body)
		maps.DeleteFunc(types, func(name, _ string) bool { return ours(name) })
		golden(t, "apache/metrics.txt", formsText(types))
		checkSnapshotStream(t, p)
	})
}

func formsText(forms map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(forms)) {
		fmt.Fprintf(&b, "%s %s\n", name, forms[name])
	}
	return b.String()
}

// TestApacheMembersAnswerSo checks the golden files of an ensemble.
func TestApacheMembersAnswerSo(t *testing.T) {
	classpath, list := apacheClasspath(t), quorumList(t)
	answers, forms := askQuorum(t, func(ids ...int) map[int]peer {
		peers := map[int]peer{}
		for _, id := range ids {
			dir, ports := t.TempDir(), testport.Ports(t, 2)
			data := filepath.Join(dir, "data")
			if err := os.Mkdir(data, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(data, "myid"), fmt.Append(nil, id), 0o644); err != nil {
				t.Fatal(err)
			}
			cfg := fmt.Sprintf("tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\n"+
				"4lw.commands.whitelist=*\nadmin.serverPort=%d\nadmin.serverAddress=127.0.0.1\n%s\n", data, ports[0], ports[1],
				strings.Join(list.Lines(), "\n"))
			if id == 4 {
				cfg += "peerType=observer\n"
			}
			launchApache(t, classpath, dir, cfg)
			p := peer{fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])}
			waitFor(t, "the ports of Apache's server", func() bool {
				text, err := p.ask("ruok")
				c, herr := net.Dial("tcp", p.http)
				if herr == nil {
					c.Close()
				}
				return err == nil && text == "imok" && herr == nil
			})
			peers[id] = p
		}
		return peers
	})
	golden(t, "apache/quorum.txt", answers)
	golden(t, "apache/quorum-mntr.txt", forms)
}
