//go:build interop

package interop

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/paddockio/paddock/zab/interop/peer"
)

// javaFlags keep many short-lived JVMs cheap on a small machine.
var javaFlags = []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"}

var classpaths struct {
	sync.Mutex // held while Maven and javac run: one project is made at a time
	byProject  map[string]string
}

// moreSources are folders beside a project whose sources it shares.
var moreSources = map[string][]string{"apache": {"client"}, "zk34": {"client"}, "curator": {"client/paddock/interop/Cases.java"}}

// classpath returns the class path of a project in java/: its compiled sources,
// kept in the cache under a hash of them, its logging configuration, and the jars
// that its pom.xml names.
func classpath(t *testing.T, project string) string {
	t.Helper()
	need(t, "java", "javac", "mvn")
	classpaths.Lock()
	defer classpaths.Unlock()
	if cp, ok := classpaths.byProject[project]; ok {
		return cp
	}
	sum := sha256.New()
	var sources []string
	for _, folder := range append([]string{project}, moreSources[project]...) {
		err := filepath.WalkDir(filepath.Join("java", folder), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			fmt.Fprintf(sum, "%s %d\n%s", path, len(b), b)
			if strings.HasSuffix(path, ".java") {
				sources = append(sources, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := cacheDir(t, "java", fmt.Sprintf("%s-%x", project, sum.Sum(nil)[:8]))
	classes := filepath.Join(dir, "classes")
	abs, err := filepath.Abs(filepath.Join("java", project))
	if err != nil {
		t.Fatal(err)
	}
	cp := strings.Join([]string{classes, abs, peer.Jars(t, abs)}, ":")
	if _, err := os.Stat(filepath.Join(dir, "compiled")); err != nil && len(sources) > 0 {
		output(t, exec.Command("javac", append([]string{"-nowarn", "-d", classes, "-cp", cp}, sources...)...))
		if err := os.WriteFile(filepath.Join(dir, "compiled"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if classpaths.byProject == nil {
		classpaths.byProject = map[string]string{}
	}
	classpaths.byProject[project] = cp
	return cp
}

// java is a command that runs a class of a project.
func java(t *testing.T, project string, args ...string) *exec.Cmd {
	t.Helper()
	cp := classpath(t, project)
	return exec.Command("java", append(append([]string{"-Xmx512m", "-cp", cp}, javaFlags...), args...)...)
}

// apacheServer is the argument list that starts Apache's server; the path of a
// zoo.cfg is to be added.
func apacheServer(t *testing.T) []string {
	t.Helper()
	return append([]string{"-Xmx512m", "-cp", classpath(t, "apache")},
		append(javaFlags, "org.apache.zookeeper.server.quorum.QuorumPeerMain")...)
}

// runProgram runs a program that prints "PASS name" or "FAIL name: reason" per
// case, and reports each as a test of its own. The program works against s.
func runProgram(t *testing.T, client, version string, s *server, cmd *exec.Cmd) {
	t.Helper()
	out, stderr, err := await(t, programLimit, cmd, s)
	cases := 0
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "PASS "); ok {
			cases++
			run(t, client, version, name, func(*testing.T) {})
		} else if rest, ok := strings.CutPrefix(line, "FAIL "); ok {
			cases++
			name, reason, _ := strings.Cut(rest, ": ")
			run(t, client, version, name, func(t *testing.T) { t.Error(reason) })
		}
	}
	if cases == 0 || err != nil {
		t.Errorf("%s: %v\n%s\n%s", cmd.Args[0], err, tail(out, 2000), tail(stderr, 4000))
	}
}

// onNewJava are settings that let the 3.4 client run on a Java since 14, which
// prints an unresolved address in a form the client then takes for a host name:
// no look-up of the server's name for Kerberos, and a hosts file with that form.
func onNewJava(t *testing.T, project string) []string {
	if project != "zk34" {
		return nil
	}
	hosts, err := filepath.Abs(filepath.Join("java", project, "hosts"))
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-Dzookeeper.sasl.client=false", "-Djdk.net.hosts.file=" + hosts}
}

func TestApacheJavaClient(t *testing.T) {
	for project, version := range map[string]string{"apache": apacheVersion, "zk34": "3.4.14"} {
		t.Run(version, func(t *testing.T) {
			s := startPeer(t)
			runProgram(t, "Apache's Java client", version, s,
				java(t, project, append(onNewJava(t, project), "paddock.interop.ClientProgram", s.host())...))
		})
	}
}

func TestCurator(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := startPeer(t)
	runProgram(t, "Curator", "5.9.0", s, java(t, "curator", "paddock.interop.CuratorProgram", s.addr()))
}
