package admin

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab/server"
)

// TestExportedNames lists every metric of the ZooKeeper server and the type
// under which it is exported: renaming one breaks somebody's dashboard.
func TestExportedNames(t *testing.T) {
	zk := startZooKeeper(t, nil)
	h := newAdmin(zk, &fakeSource{}).Handler()
	// Whatever a scraper accepts, the names stay Apache's: OpenMetrics would append
	// _total to them.
	rec := ask(h, "GET", "/metrics", "", header("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"))
	if ct := rec.Header().Get("Content-Type"); !strings.HasPrefix(ct, "text/plain; version=0.0.4") {
		t.Errorf("type %q", ct)
	}
	body, err := io.ReadAll(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	types := prometheusTypes(string(body))
	maps.DeleteFunc(types, func(name, _ string) bool {
		return strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_")
	})
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(types)) {
		fmt.Fprintf(&b, "%s %s\n", name, types[name])
	}
	golden(t, "metrics.txt", b.String())
	for line := range strings.Lines(string(body)) {
		if f := strings.SplitN(strings.TrimSpace(line), " ", 4); f[0] == "#" && f[1] == "HELP" && (len(f) < 4 || len(f[3]) < 4) {
			t.Errorf("no help: %s", line)
		}
	}
	seen := map[string]bool{}
	for _, m := range zk.Metrics() {
		if seen[m.Name] {
			t.Errorf("%s is there twice", m.Name)
		}
		seen[m.Name] = true
		if m.Counter && ours(m.Name) != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("counter %s: ours, and only ours, end with _total", m.Name)
		}
	}
}

func TestSummariesAreExported(t *testing.T) {
	var d server.Distribution
	for v := range int64(1000) {
		d.Record(v*1000, 2)
	}
	sum := d.Summary(started, 1e-3, 0.5, 0.99)
	src := &metricsSource{list: []server.Metric{{Name: "readlatency", Help: "ms", Summary: &sum}}}
	body := ask(newAdmin(nil, src).Handler(), "GET", "/metrics", "", nil).Body.String()
	for _, want := range []string{"# TYPE readlatency summary\n", "readlatency_count 2000\n", "readlatency_sum 999000\n", "readlatency{quantile=\"0.5\"} 507.9", "readlatency{quantile=\"0.99\"} 1015.8"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
}

// metricsSource is an agent with other metrics.
type metricsSource struct {
	fakeSource
	list []server.Metric
}

func (m *metricsSource) Metrics() []server.Metric { return m.list }
