//go:build interop

package interop

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab/interop/peer"
)

const (
	apacheVersion = "3.9.5"
	factory       = "paddock.interop.ProcessCnxnFactory"
	// expectations holds a line per test of every class that runs, with the
	// outcome of the control run: the same factory launching Apache's own server.
	expectations = "testdata/apache-tests.tsv"
)

// onlyAlone begins the reason of a test that passes against one server and cannot
// pass against a member of an ensemble.
const onlyAlone = "[one server only: "

// ownRace begins the reason of a test that fails at times, against any server, by
// a race within itself. It has two more attempts.
const ownRace = "[a race of its own: "

// A junitCase is one test method of a class (with [n] for the n-th set of
// parameters), and what became of it.
type junitCase struct {
	class, method string
	status        string // PASSED, FAILED or SKIPPED
	reason        string // why not passed
}

// classProperties are for a class that sets a property only after its first
// server has started: enough within one process, too late for another's.
var classProperties = map[string][]string{
	"org.apache.zookeeper.test.BufferSizeTest": {"-Djute.maxbuffer=100"},
}

// longClasses wait for a minute or so, and begin first, so that nothing waits for
// them at the end.
var longClasses = []string{
	"org.apache.zookeeper.RemoveWatchesTest",
	"org.apache.zookeeper.server.ZooKeeperServerMaxCnxnsTest",
	"org.apache.zookeeper.test.ClientHammerTest",
	"org.apache.zookeeper.test.ClientSkipACLTest",
	"org.apache.zookeeper.test.ClientTest",
	"org.apache.zookeeper.test.DisconnectedWatcherTest",
	"org.apache.zookeeper.test.SessionTimeoutTest",
	"org.apache.zookeeper.test.WatcherTest",
}

// TestApachePublishedTests runs the JUnit classes that Apache publishes, as they
// are, against the server under test. Every test that passes against a separate
// process of Apache's server must pass. The others look into the server's
// objects in their own process, or are known to fail: README.md says why.
func TestApachePublishedTests(t *testing.T) {
	t.Parallel()           // it waits more than it works
	classpath(t, "apache") // once, before the parallel part
	control := readExpectations(t)
	results := make(chan []junitCase, len(control))
	slots := make(chan int, 12) // each slot has its own ports
	for slot := range cap(slots) {
		slots <- slot
	}
	t.Run("class", func(t *testing.T) {
		// Of parallel tests the testing package starts the last first.
		classes := slices.SortedFunc(maps.Keys(control), func(a, b string) int {
			return cmp.Or(slices.Index(longClasses, a)-slices.Index(longClasses, b), strings.Compare(a, b))
		})
		for _, class := range classes {
			expected := control[class]
			simple := class[strings.LastIndexByte(class, '.')+1:]
			if *tested == peer.KindPaddock && !slices.ContainsFunc(expected, junitCase.mustPass) {
				continue
			}
			t.Run(simple, func(t *testing.T) {
				t.Parallel()
				slot := <-slots
				defer func() { slots <- slot }()
				results <- runApacheClass(t, class, expected, slot)
			})
		}
	})
	if *update && *tested == peer.KindApache && connectTo == "" {
		close(results)
		for got := range results {
			control[got[0].class] = mergeReasons(got, control[got[0].class])
		}
		writeExpectations(t, control)
	}
}

func (c junitCase) passed() bool { return c.status == "PASSED" }

// mustPass reports whether a test of the expectations must pass: its control run
// did, and with a server as it is here.
func (c junitCase) mustPass() bool {
	return c.passed() && (connectTo == "" || !strings.HasPrefix(c.reason, onlyAlone))
}

// runApacheClass runs one class and reports what should pass and does not.
func runApacheClass(t *testing.T, class string, expected []junitCase, slot int) []junitCase {
	var leftOut []string
	if *tested == peer.KindPaddock {
		for _, c := range expected {
			if !c.mustPass() {
				method, _, _ := strings.Cut(c.method, "[")
				if !slices.ContainsFunc(expected, func(d junitCase) bool {
					return d.mustPass() && strings.HasPrefix(d.method, method+"[")
				}) {
					leftOut = append(leftOut, "-"+method)
				}
			}
		}
	}
	got := runJUnit(t, slot, append(leftOut, class)...)
	if *tested == peer.KindApache && connectTo == "" {
		return got // it is what is expected
	}
	for _, want := range expected {
		if !want.mustPass() {
			continue
		}
		c := outcome(got, want)
		for range 2 {
			if !c.passed() && strings.HasPrefix(want.reason, ownRace) {
				t.Logf("%s once more, %s: %s", want.method, c.status, c.reason)
				c = outcome(runJUnit(t, slot, class+"#"+want.method), want)
			}
		}
		results.add("Apache's published tests", apacheVersion, c.passed())
		if !c.passed() {
			t.Errorf("%s %s: %s", want.method, c.status, c.reason)
		}
	}
	return got
}

// outcome is what became of a test.
func outcome(got []junitCase, of junitCase) junitCase {
	if i := slices.IndexFunc(got, func(c junitCase) bool { return c.method == of.method }); i >= 0 {
		return got[i]
	}
	return junitCase{status: "MISSING", reason: "did not run"}
}

// runJUnit runs a class, or one method of it, in a JVM of its own. The last of
// the arguments for RunTests names it.
func runJUnit(t *testing.T, slot int, what ...string) []junitCase {
	dir := t.TempDir()
	file := filepath.Join(dir, "results.tsv")
	launch := serverCommand(t, *tested, "@jvm")
	class, _, _ := strings.Cut(what[len(what)-1], "#")
	// PortAssignment cuts 11221–32767 into test.junit.threads ranges: 56 to 67 of
	// 107 are 22276–24687.
	args := []string{
		"-Dzookeeper.serverCnxnFactory=" + factory,
		"-Dinterop.server=" + strings.Join(launch, "\t"),
		"-Dinterop.logs=" + dir,
		"-Djava.io.tmpdir=" + dir,
		"-Dbuild.test.dir=" + dir,
		"-Dtest.junit.threads=107",
		"-Dzookeeper.admin.enableServer=false",
		// as Apache's own build sets it
		"-Dzookeeper.DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
	}
	args = append(args, classProperties[class]...)
	args = append(args, "paddock.interop.RunTests", file, fmt.Sprintf("threadid=%d", 56+slot))
	cmd := java(t, "apache", append(args, what...)...)
	cmd.Dir = dir
	out, errs, err := await(t, suiteLimit, cmd)
	printed := slices.Concat(out, errs)
	keepLogs(t, dir, class, printed)
	if errors.Is(err, errHung) {
		t.Errorf("the servers of %s:\n%s", class, launchedLogs(filepath.Join(dir, "server-*.log")))
	} else if err != nil {
		t.Errorf("java: %v\n%s", err, tail(printed, 4000))
	}
	got := parseCases(t, file)
	if len(got) == 0 {
		t.Fatalf("%s ran no test\n%s", class, tail(printed, 4000))
	}
	return got
}

// keepLogs copies what the class and its servers wrote to INTEROP_LOGS, if set.
func keepLogs(t *testing.T, dir, class string, printed []byte) {
	to := os.Getenv("INTEROP_LOGS")
	if to == "" {
		return
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	logs, _ := filepath.Glob(filepath.Join(dir, "server-*.log"))
	for _, log := range logs {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		printed = fmt.Appendf(printed, "\n==== %s\n%s", filepath.Base(log), b)
	}
	if err := os.WriteFile(filepath.Join(to, class+".log"), printed, 0o644); err != nil {
		t.Fatal(err)
	}
}

// parseCases reads the lines of RunTests.
func parseCases(t *testing.T, file string) []junitCase {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var cases []junitCase
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); len(f) == 5 {
			cases = append(cases, junitCase{f[0], f[1], f[2], f[4]})
		}
	}
	return cases
}

// readExpectations reads class, method, status and reason, separated by tabs. A
// class without tests is one that the next control run adds.
func readExpectations(t *testing.T) map[string][]junitCase {
	t.Helper()
	b, err := os.ReadFile(expectations)
	if err != nil {
		t.Fatal(err)
	}
	byClass := map[string][]junitCase{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) == 1 {
			byClass[f[0]] = nil
			continue
		}
		c := junitCase{class: f[0], method: f[1], status: f[2]}
		if len(f) > 3 {
			c.reason = f[3]
		}
		byClass[c.class] = append(byClass[c.class], c)
	}
	return byClass
}

// mergeReasons keeps a reason that was written by hand: one in brackets.
func mergeReasons(got, old []junitCase) []junitCase {
	for i, c := range got {
		j := slices.IndexFunc(old, func(o junitCase) bool { return o.method == c.method })
		if j >= 0 && strings.HasPrefix(old[j].reason, "[") {
			got[i].reason = old[j].reason
			if old[j].status == "FAILED" {
				got[i].status = "FAILED" // passes at times
			}
		}
	}
	return got
}

func writeExpectations(t *testing.T, byClass map[string][]junitCase) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Apache's published tests against a separate process of Apache " + apacheVersion + ":\n" +
		"# class, test, outcome, and for what did not pass the failure, or in [brackets] the reason as we know it.\n" +
		"# " + onlyAlone + "…] is what passes, and cannot in an ensemble; " + ownRace + "…] has three attempts.\n" +
		"# Written by: go test -tags interop ./zab/interop -run ApachePublishedTests -peer apache -update\n")
	for _, class := range slices.Sorted(maps.Keys(byClass)) {
		slices.SortFunc(byClass[class], func(a, b junitCase) int { return cmp.Compare(a.method, b.method) })
		for _, c := range byClass[class] {
			line := strings.Join([]string{c.class, c.method, c.status, c.reason}, "\t")
			b.WriteString(strings.TrimRight(line, "\t") + "\n")
		}
	}
	if err := os.WriteFile(expectations, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
