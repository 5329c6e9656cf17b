//go:build interop

package interop

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/paddockio/paddock/zab/interop/peer"
)

var (
	update = flag.Bool("update", false, "write the results into README.md and, with -peer=apache, the control results into testdata")
	tested = flag.String("peer", peer.KindPaddock, "the server under test: paddock, or apache for a control run")
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == launchWord {
		if err := launchEnsemble(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	code := peer.Main(m)
	fmt.Print(results.table())
	if *update && *tested == peer.KindPaddock && code == 0 {
		if err := results.paste("README.md"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// results collects what ran, for the table in README.md.
var results = &report{rows: map[[2]string]*row{}}

type report struct {
	mu   sync.Mutex // guards rows
	rows map[[2]string]*row
}

type row struct{ cases, passed int }

// add counts one case of a client at a version.
func (r *report) add(client, version string, passed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := [2]string{client, version}
	if r.rows[key] == nil {
		r.rows[key] = &row{}
	}
	r.rows[key].cases++
	if passed {
		r.rows[key].passed++
	}
}

func (r *report) table() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for key, row := range r.rows {
		lines = append(lines, fmt.Sprintf("| %s | %s | %d | %d |\n", key[0], key[1], row.cases, row.passed))
	}
	slices.Sort(lines)
	return "| client | version | cases | passed |\n| --- | --- | ---: | ---: |\n" + strings.Join(lines, "")
}

// columns are those of the table in README.md: what clients were connected to.
var columns = []string{"", "follower", "observer"}

// paste puts what passed into the column of connectTo in the table between the two
// marks of the file, whose other columns stay.
func (r *report) paste(file string) error {
	const begin, end = "<!-- results begin -->\n", "<!-- results end -->"
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(b), begin)
	table, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no marks for the results", file)
	}
	cells := map[[2]string][]string{}
	for line := range strings.Lines(table) {
		if f := strings.Split(strings.TrimSpace(line), " | "); len(f) == 2+len(columns) {
			f[0], f[len(f)-1] = strings.TrimPrefix(f[0], "| "), strings.TrimSuffix(f[len(f)-1], " |")
			cells[[2]string{f[0], f[1]}] = f[2:]
		}
	}
	const title = "| client | version | one server | follower | observer |\n| --- | --- | ---: | ---: | ---: |\n"
	delete(cells, [2]string{"client", "version"})
	delete(cells, [2]string{"---", "---"})
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, row := range r.rows {
		if cells[key] == nil {
			cells[key] = make([]string, len(columns))
		}
		cells[key][slices.Index(columns, connectTo)] = fmt.Sprint(row.passed)
	}
	var lines []string
	for key, row := range cells {
		lines = append(lines, fmt.Sprintf("| %s | %s | %s |\n", key[0], key[1], strings.Join(row, " | ")))
	}
	slices.Sort(lines)
	return os.WriteFile(file, []byte(head+begin+title+strings.Join(lines, "")+end+tail), 0o644)
}

// run is t.Run for a case that counts in the table.
func run(t *testing.T, client, version, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		defer func() {
			if !t.Skipped() {
				results.add(client, version, !t.Failed())
			}
		}()
		f(t)
	})
}

// need looks up programs and ends the test when one is missing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			peer.Missing(t, "%s is not on this machine", p)
		}
	}
}

// cacheDir is a folder that is kept between runs, outside the repository.
func cacheDir(t *testing.T, elem ...string) string {
	t.Helper()
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	dir := filepath.Join(append([]string{base, "paddock-interop"}, elem...)...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tail is the end of a long output, where the failure usually is.
func tail(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	return append([]byte("…"), b[len(b)-n:]...)
}
