//go:build interop

package interop

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab/interop/peer"
)

// TestApacheShell feeds Apache's shell a script and compares what it prints,
// line by line, with what it printed against Apache's own server.
func TestApacheShell(t *testing.T) {
	for project, version := range map[string]string{"apache": apacheVersion, "zk34": "3.4.14"} {
		t.Run(version, func(t *testing.T) {
			script, err := os.ReadFile(filepath.Join("testdata", "shell", version+".in"))
			if err != nil {
				t.Fatal(err)
			}
			got := runShell(t, project, script)
			for range 2 {
				// An event that was printed into another line is not taken out.
				if strings.Contains(got, "WATCHER::") {
					t.Log("an event tore a line: once more")
					got = runShell(t, project, script)
				}
			}
			golden := filepath.Join("testdata", "shell", version+".out")
			if *update && *tested == peer.KindApache && connectTo == "" {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			b, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(normalizeShell(string(b)), "\n")
			gotLines := strings.Split(got, "\n")
			verbs := 0
			for line := range strings.Lines(string(script)) {
				if strings.TrimSpace(line) != "" {
					verbs++
				}
			}
			// One wrong answer is one line; when lines are missing all is in doubt.
			wrong := 0
			for i := range max(len(want), len(gotLines)) {
				if g, w := lineAt(gotLines, i), lineAt(want, i); g != w {
					t.Errorf("line %d: got %q, want %q", i+1, g, w)
					if wrong++; wrong == 5 || len(want) != len(gotLines) {
						t.Errorf("all of it:\n%s", got)
						wrong = verbs
						break
					}
				}
			}
			for i := range verbs {
				results.add("Apache's Java shell", version, i >= wrong)
			}
		})
	}
}

// runShell runs a script against a fresh server and returns what the shell printed.
func runShell(t *testing.T, project string, script []byte) string {
	t.Helper()
	s := startPeer(t)
	cmd := java(t, project, append(onNewJava(t, project), "org.apache.zookeeper.ZooKeeperMain", "-server", s.host())...)
	cmd.Args = withoutLineEditor(cmd.Args)
	// The 3.9 shell reads its next line while the answer of the last may be on its
	// way, but answers in order; it wants the whole script at once.
	cmd.Stdin = strings.NewReader(string(script) + "\nquit\n")
	stdout, stderr, err := await(t, programLimit, cmd, s)
	if err != nil {
		t.Logf("the shell: %v\n%s", err, tail(stderr, 3000))
	}
	return normalizeShell(string(stdout) + "---- errors\n" + onlyMessages(string(stderr)))
}

func lineAt(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end)"
}

// withoutLineEditor takes jline off the class path: the shell then reads plain
// lines and prints no prompts.
func withoutLineEditor(args []string) []string {
	for i, arg := range args {
		if i > 0 && args[i-1] == "-cp" {
			var keep []string
			for jar := range strings.SplitSeq(arg, ":") {
				if !strings.Contains(filepath.Base(jar), "jline") {
					keep = append(keep, jar)
				}
			}
			args[i] = strings.Join(keep, ":")
		}
	}
	return args
}

var shellNoise = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`(?m)^([cm]time = ).*$`), "${1}TIME"},
	{regexp.MustCompile(`\b0x[0-9a-f]{12,}\b`), "SESSION"},
	{regexp.MustCompile(`(?m)^Connecting to .*$`), "Connecting"},
	{regexp.MustCompile(`localhost:\d+`), "SERVER"},
	// Events come when they come.
	{regexp.MustCompile(`(?m)^\s*\nWATCHER::\s*\n\s*\nWatchedEvent.*\n`), ""},
	{regexp.MustCompile(`(?m)^WATCHER::\s*\n(\s*\n)?WatchedEvent.*\n`), ""},
	{regexp.MustCompile(`(?m)^\s*\n`), ""},
}

// An ensemble's zxids begin with epoch 1, those of a server alone with 0; and its
// configuration has members.
var (
	firstEpoch = regexp.MustCompile(`(?m)(Zxid = 0x)10{4,7}([0-9a-f]+)$`)
	memberLine = regexp.MustCompile(`(?m)^(server\.\d+|version)=.*\n`)
)

// normalizeShell takes out what differs from run to run.
func normalizeShell(out string) string {
	if connectTo != "" {
		out = memberLine.ReplaceAllString(firstEpoch.ReplaceAllString(out, "$1$2"), "")
	}
	for _, n := range shellNoise {
		out = n.re.ReplaceAllString(out, n.with)
	}
	// The 3.4 shell does not wait for the answer to sync.
	syncs := syncAnswer.FindAllString(out, -1)
	out = syncAnswer.ReplaceAllString(out, "") + strings.Join(syncs, "")
	// Servers may list a client's identities, and children, in any order; of the
	// latter only the 3.4 shell shows it.
	out = identities.ReplaceAllStringFunc(out, func(list string) string {
		return strings.Join(slices.Sorted(strings.Lines(list)), "")
	})
	return nameList.ReplaceAllStringFunc(out, func(list string) string {
		names := strings.Split(list[1:len(list)-1], ", ")
		slices.Sort(names)
		return "[" + strings.Join(names, ", ") + "]"
	})
}

var (
	syncAnswer = regexp.MustCompile(`(?m)^Sync returned .*\n`)
	identities = regexp.MustCompile(`(?m)^(?:(?:digest|ip): .*\n)+`)
	nameList   = regexp.MustCompile(`(?m)^\[.+, .+\]$`)
)

// onlyMessages keeps of standard error what the shell says to its user: no log
// lines and stack traces.
func onlyMessages(stderr string) string {
	var keep strings.Builder
	for line := range strings.Lines(stderr) {
		if logLine.MatchString(line) || strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "SLF4J") {
			continue
		}
		keep.WriteString(line)
	}
	return keep.String()
}

var logLine = regexp.MustCompile(`^(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d[.,]\d{3} `)
