package server

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/wire"
)

// The formats here are those of Apache's server 3.9.5; that its answers to every
// word are the same is tested in agent/admin, against golden files of its own.

func say(s *Server, name, args string) string {
	return string(s.runWord(fourLetterWord(name), []byte(args), netip.MustParseAddr("127.0.0.1")))
}

func TestWordsOnAFreshServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, _ := start(t, dir, func(c *Config) {
		c.FourLetterWords, c.Version = []string{"*"}, "3.9.5-test"
	})
	size := func(data bool) int64 {
		d, l := s.DiskSizes()
		if data {
			return d
		}
		return l
	}
	version2 := filepath.Join(dir, "version-2")
	for _, tc := range []struct{ word, args, want string }{
		{"ruok", "", "imok"},
		{"isro", "", "rw"},
		{"gtmk", "", "306"},
		{"stmk", "\x00\x00\x00\x00\x00\x00\x01\xff", "511"},
		{"gtmk", "", "511"},
		{"stmk", "\xff\xff\xff\xff\xff\xff\xff\xff", "-1"},
		{"crst", "", "Connection stats reset.\n"},
		{"srst", "", "Server stats reset.\n"},
		{"wchs", "", "0 connections watching 0 paths\nTotal watches:0\n"},
		{"wchc", "", "\n"},
		{"wchp", "", "\n"},
		{"cons", "", "\n"},
		{"hash", "", ""},
		{telnetClose, "", ""},
		{"dump", "", "SessionTracker dump:\nSession Sets (0)/(0):\nephemeral nodes dump:\nSessions with Ephemerals (0):\nConnections dump:\nConnections Sets (0)/(0):\n"},
		{"srvr", "", "Zookeeper version: 3.9.5-test\nLatency min/avg/max: 0/0.0/0\nReceived: 0\nSent: 0\nConnections: 0\nOutstanding: 0\nZxid: 0x0\nMode: standalone\nNode count: 5\n"},
		{"stat", "", "Zookeeper version: 3.9.5-test\nClients:\n\nLatency min/avg/max: 0/0.0/0\nReceived: 0\nSent: 0\nConnections: 0\nOutstanding: 0\nZxid: 0x0\nMode: standalone\nNode count: 5\n"},
		{"dirs", "", fmt.Sprintf("datadir_size: %d\nlogdir_size: %d\n", size(true), size(false))},
		{"conf", "", fmt.Sprintf("clientPort=%d\nsecureClientPort=-1\ndataDir=%s\ndataDirSize=%d\ndataLogDir=%s\ndataLogSize=%d\ntickTime=2000\n"+
			"maxClientCnxns=0\nminSessionTimeout=4000\nmaxSessionTimeout=40000\nclientPortListenBacklog=-1\nserverId=0\n",
			s.Port(), version2, size(true), version2, size(false))},
	} {
		if got := say(s, tc.word, tc.args); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.word, got, tc.want)
		}
	}
}

func TestWordsNeedPermission(t *testing.T) {
	const refused = "is not executed because it is not in the whitelist.\n"
	s := &Server{cfg: Config{FourLetterWords: []string{"ruok"}, LoopbackWords: []string{"isro"}}}
	all := &Server{cfg: Config{FourLetterWords: []string{"*"}}}
	none := &Server{cfg: Config{LoopbackWords: []string{"*"}}}
	for _, tc := range []struct {
		s          *Server
		word, from string
		want       string
	}{
		{s, "ruok", "192.0.2.1", "imok"},
		{s, "isro", "192.0.2.1", "isro " + refused},
		{s, "isro", "127.0.0.1", "rw"},
		{s, "isro", "::1", "rw"},
		{s, "wchp", "127.0.0.1", "wchp " + refused},
		{s, telnetClose, "192.0.2.1", ""},
		{all, "ruok", "192.0.2.1", "imok"},
		{none, "ruok", "192.0.2.1", "ruok " + refused},
		{none, "ruok", "127.0.0.1", "imok"},
	} {
		if got := string(tc.s.runWord(fourLetterWord(tc.word), nil, netip.MustParseAddr(tc.from))); got != tc.want {
			t.Errorf("%s from %s: %q, want %q", tc.word, tc.from, got, tc.want)
		}
	}
}

func TestWordsAboutSessions(t *testing.T) {
	s, _ := start(t, filepath.Join(t.TempDir(), "data"), func(c *Config) { c.FourLetterWords = []string{"*"} })
	c := connect(t, s, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i, path := range []string{"/a", "/e"} {
		if _, _, err := c.Create(ctx, path, nil, nil, []wire.CreateMode{wire.Persistent, wire.Ephemeral}[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, _, err := c.GetW(ctx, "/a"); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := c.ChildrenW(ctx, "/e"); err != nil { // not in the data table
		t.Fatal(err)
	}
	id := c.Session().ID.String()
	match := func(name, pattern string) {
		t.Helper()
		if got := say(s, name, ""); !regexp.MustCompile("^" + strings.ReplaceAll(pattern, "SESSION", id) + "$").MatchString(got) {
			t.Errorf("%s: %q does not match %q", name, got, pattern)
		}
	}
	match("wchs", "1 connections watching 1 paths\nTotal watches:1\n")
	match("wchc", "SESSION\n\t/a\n\n")
	match("wchp", "/a\n\tSESSION\n\n")
	const numbers = `llat=\d+,minlat=\d+,avglat=\d+,maxlat=\d+`
	match("cons", ` /127\.0\.0\.1:\d+\[[15]\]\(queued=0,recved=\d+,sent=\d+,sid=SESSION,lop=GETC,est=\d{13},to=10000,lcxid=0x[0-9a-f]{1,8},lzxid=0x3,lresp=\d+,`+numbers+`\)`+"\n\n")
	match("dump", "SessionTracker dump:\nSession Sets \\(1\\)/\\(1\\):\n1 expire at [A-Z][a-z]{2} [A-Z][a-z]{2} \\d\\d \\d\\d:\\d\\d:\\d\\d UTC \\d{4}:\n\tSESSION\n"+
		"ephemeral nodes dump:\nSessions with Ephemerals \\(1\\):\nSESSION:\n\t/e\n"+
		"Connections dump:\nConnections Sets \\(1\\)/\\(1\\):\n1 expire at .* UTC \\d{4}:\n\tip: /127\\.0\\.0\\.1:\\d+ sessionId: SESSION\n")
	match("stat", `(?s)Zookeeper version: .*`+"\nClients:\n"+` /127\.0\.0\.1:\d+\[[15]\]\(queued=0,recved=\d+,sent=\d+\)`+"\n\nLatency min/avg/max: .*")
	match("mntr", `(?s)zk_version\t.*`+"\nzk_server_state\tstandalone\nzk_avg_latency\t"+`\d+\.\d{1,4}`+"\n.*zk_ephemerals_count\t1\n.*")
	say(s, "crst", "")
	match("cons", ` /127\.0\.0\.1:\d+\[[15]\]\(queued=0,recved=0,sent=0,sid=SESSION,lop=NA,est=\d{13},to=10000,lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0\)`+"\n\n")
}

func TestDecimals(t *testing.T) {
	for v, want := range map[float64]string{0: "0.0", 5: "5.0", 2.97892: "2.9789", 0.25: "0.25", 1e9: "1000000000.0", 0.00001: "0.0"} {
		if got := decimal(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestMetricLines(t *testing.T) {
	lines := func(m Metric) string {
		var b bytes.Buffer
		m.Each(func(name, value string) { fmt.Fprintf(&b, "%s %s\n", name, value) })
		return b.String()
	}
	sum := &Summary{Count: 3, Sum: 4, Min: 0.4, Max: 2.5, Quantiles: []Quantile{{0.5, 1.2}, {0.9, 7}, {0.95, 2}, {0.99, 2.4}, {0.999, math.NaN()}}}
	for _, tc := range []struct {
		m    Metric
		want string
	}{
		{Metric{Name: "n", Value: 12345678901}, "n 12345678901\n"},
		{Metric{Name: "n", Value: -1}, "n -1\n"},
		{Metric{Name: "n", Decimal: true}, "n 0.0\n"},
		{Metric{Name: "n", Summary: sum}, "avg_n 1.3333\nmin_n 0\nmax_n 3\ncnt_n 3\nsum_n 4\np50_n 1\np95_n 2\np99_n 2\np999_n 0\n"},
		{Metric{Name: "n", Summary: &Summary{Quantiles: []Quantile{{0.5, math.NaN()}}}}, "avg_n 0.0\nmin_n 0\nmax_n 0\ncnt_n 0\nsum_n 0\n"},
	} {
		if got := lines(tc.m); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.m, got, tc.want)
		}
	}
}

func TestDistribution(t *testing.T) {
	for _, v := range []int64{-5, 0, 1, 7, 8, 15, 16, 17, 1000, 999_999, 1 << 40, math.MaxInt64} {
		i := bucketOf(v)
		if i < 0 || i >= distributionBuckets {
			t.Fatalf("%d is in bucket %d of %d", v, i, distributionBuckets)
		}
		if low, high := bucketLow(i), bucketLow(i+1)-1; v >= 0 && (v < low || v > high || float64(high-low) > 0.125*float64(low)) {
			t.Errorf("%d is in bucket %d, %d to %d", v, i, low, high)
		}
	}
	var d Distribution
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(after time.Duration) Summary { return d.Summary(now.Add(after), 1e-3, 0.5, 0.99) }
	if s := at(0); s.Count != 0 || s.Min != 0 || s.Max != 0 || !math.IsNaN(s.Quantiles[0].Value) {
		t.Errorf("empty: %+v", s)
	}
	d.Record(2000, 98)
	d.Add(100_000)
	d.Add(100_000)
	near := func(got, want float64) bool { return math.Abs(got-want) <= 0.125*want }
	for range 3 { // asking changes nothing
		if s := at(time.Second); s.Count != 100 || s.Sum != 396 || !near(s.Min, 2) || !near(s.Max, 100) || !near(s.Quantiles[0].Value, 2) || !near(s.Quantiles[1].Value, 100) {
			t.Errorf("%+v", s)
		}
	}
	at(time.Minute)
	d.Record(50_000, 10)
	if s := at(90 * time.Second); !near(s.Quantiles[0].Value, 2) {
		t.Errorf("within the window: %+v", s)
	}
	at(2 * time.Minute)
	if s := at(2*time.Minute + 1); s.Count != 110 || !near(s.Quantiles[0].Value, 50) {
		t.Errorf("the quantiles have not forgotten the first minute: %+v", s)
	}
	at(3 * time.Minute)
	if s := at(4 * time.Minute); s.Count != 110 || !math.IsNaN(s.Quantiles[0].Value) || !near(s.Max, 100) {
		t.Errorf("idle: %+v", s)
	}
	if n := testing.AllocsPerRun(100, func() { d.Record(5, 64) }); n != 0 {
		t.Errorf("recording allocates %v times", n)
	}
}

func TestLatencyStartsAgainWithSrst(t *testing.T) {
	var s Stats
	check := func(low int64, mean float64, high int64) {
		t.Helper()
		if l, m, h := s.Latency(); l != low || m != mean || h != high {
			t.Errorf("latency %d/%v/%d, want %d/%v/%d", l, m, h, low, mean, high)
		}
	}
	check(0, 0, 0)
	s.answered(&s.ReadMicros, 2000, 3)
	s.answered(&s.UpdateMicros, 6000, 1)
	check(2, 3, 6)
	s.reset()
	check(0, 0, 0)
	s.answered(&s.ReadMicros, 8000, 2)
	check(8, 8, 8)
}

func TestMetricNamesAreUnique(t *testing.T) {
	s, _ := start(t, filepath.Join(t.TempDir(), "data"), nil)
	var names []string
	for _, m := range s.Metrics() {
		m.Each(func(name, _ string) { names = append(names, name) })
	}
	slices.Sort(names)
	if n := len(names); len(slices.Compact(names)) != n {
		t.Errorf("a name is there twice: %v", names)
	}
}
