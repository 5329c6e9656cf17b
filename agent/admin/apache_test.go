package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/wire"
)

// The golden files hold what Apache's server 3.9.5 answered after the scenario
// below; the interop test writes and checks them. Here our server must answer
// the same.

// A peer is a server under comparison: its client port and its HTTP side.
type peer struct{ zk, http string }

func (p peer) word(t *testing.T, word string) string {
	t.Helper()
	answer, err := p.ask(word)
	if err != nil {
		t.Fatalf("%q: %v", word, err)
	}
	return answer
}

func (p peer) ask(word string) (string, error) {
	c, err := net.Dial("tcp", p.zk)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, word); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

func (p peer) get(t *testing.T, method, path, authorization string) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+p.http+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// play brings a server into the state that the golden files are about: two
// sessions with an ephemeral each, watches, 140 writes to one znode, and a
// request that failed.
func (p peer) play(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var c [2]*client.Client
	for i := range c {
		var err error
		if c[i], err = client.New(client.Config{Servers: p.zk, SessionTimeout: 30 * time.Second}); err != nil {
			t.Fatal(err)
		}
		runCtx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); c[i].Run(runCtx) }()
		t.Cleanup(func() { stop(); <-done })
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	create := func(i int, path string, mode wire.CreateMode) {
		t.Helper()
		_, _, err := c[i].Create(ctx, path, []byte("x"), nil, mode)
		must(err)
	}
	create(0, "/a", wire.Persistent)
	create(0, "/a/b", wire.Persistent)
	create(0, "/e", wire.Ephemeral)
	create(1, "/f", wire.Ephemeral)
	for i := range c {
		_, _, _, err := c[i].GetW(ctx, "/a")
		must(err)
	}
	_, _, _, err := c[0].ExistsW(ctx, "/none")
	must(err)
	_, _, _, err = c[0].ChildrenW(ctx, "/a/b")
	must(err)
	_, _, _, err = c[1].GetW(ctx, "/a/b") // fires
	must(err)
	for i := range 140 {
		_, err := c[0].Set(ctx, "/a/b", fmt.Appendf(nil, "%03d", i), -1)
		must(err)
	}
	for i := range c {
		if _, _, err := c[i].Get(ctx, "/missing"); err == nil {
			t.Fatal("/missing is there")
		}
	}
}

// noise is what differs between two runs of the same server.
var noise = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\b0x[0-9a-f]{12,15}\b`), "SESSION"},
	{regexp.MustCompile(`"session_id" : \d+`), `"session_id" : ID`},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`"\d{6,}" : \[`), `"ID" : [`},
	{regexp.MustCompile(`\[ \d{12,}(, \d{12,})? \]`), "[ ID$1 ]"},
	{regexp.MustCompile(`ID, \d+`), "ID, ID"},
	{regexp.MustCompile(`3\.9\.5-[0-9a-f]{40}, built on [-0-9]+ [0-9:]+ UTC`), "VERSION"},
	{regexp.MustCompile(`(?m)(zookeeper\.version.*[=:] *"?)3\.9\.5[^"\n]*`), "${1}VERSION"},
	{regexp.MustCompile(`("?version"? : ")3\.9\.5[^"]*`), "${1}VERSION"},
	{regexp.MustCompile(`Zookeeper version: 3\.9\.5.*`), "Zookeeper version: VERSION"},
	{regexp.MustCompile(`expire at \w{3} \w{3} \d\d \d\d:\d\d:\d\d UTC \d{4}:`), "expire at TIME:"},
	{regexp.MustCompile(`(?m)^\d+ expire at TIME:`), "N expire at TIME:"},
	{regexp.MustCompile(`Session Sets \(\d+\)`), "Session Sets (N)"},
	{regexp.MustCompile(`(?m)^ +"ID" : \[ (ID(, ID)*)? ?\],?$`), `    "ID" : [ IDS ]`},
	{regexp.MustCompile(`(est|lresp)=\d+`), "$1=N"},
	{regexp.MustCompile(`(lcxid|lzxid)=0x[0-9a-f]{1,4}\b`), "$1=X"},
	{regexp.MustCompile(`(recved|sent|llat|minlat|avglat|maxlat)=\d+`), "$1=N"},
	{regexp.MustCompile(`(client_port" : |clientPort=)\d+`), "${1}PORT"},
	{regexp.MustCompile(`((?:data|log)dir_size"?(?: :|:)|(?:data|log)_dir_size" :|data(?:Log)?(?:Dir)?Size=) ?\d+`), "$1 SIZE"},
	{regexp.MustCompile(`(data_dir" : "|data_log_dir" : "|dataDir=|dataLogDir=)/.*(/version-2)`), "${1}DIR$2"},
	{regexp.MustCompile(`(established|last_cxid|last_zxid|last_response_time|last_latency|min_latency|max_latency|uptime|packets_received|packets_sent|timestamp|digest|num_alive_client_connections)" : \d+`), `$1" : N`},
	// Not counted here: -1, as before the first reply.
	{regexp.MustCompile(`_buffer_size" : -?\d+`), `_buffer_size" : N`},
	{regexp.MustCompile(`avg_latency" : \d+\.\d+`), `avg_latency" : D`},
	{regexp.MustCompile(`avg_latency" : \d+`), `avg_latency" : N`},
	{regexp.MustCompile(`Latency min/avg/max: \d+/\d+\.\d{1,4}/\d+`), "Latency min/avg/max: N/D/N"},
	{regexp.MustCompile(`(?m)^(Received|Sent|Connections): \d+`), "$1: N"},
	{regexp.MustCompile(`(?m)^80: \d+$`), "80: DIGEST"},
	{regexp.MustCompile(`Connections Sets \(\d+\)/\(\d+\):\n(?:.*\n)*`), "Connections Sets (N)/(N):\nN\n"},
	// An answer has arrived a moment before its writer is back from the write.
	{regexp.MustCompile(`ADDRESS\[5\]\(queued=0,`), "ADDRESS[1](queued=0,"},
	{regexp.MustCompile(`interest_ops" : 5`), `interest_ops" : 1`},
	// The connection that asks, or asked before and is not closed yet: Apache counts
	// its word as a packet and shows it as closing.
	{regexp.MustCompile(`(?m)^ /ADDRESS\[[01]\]\(queued=0,recved=N,sent=N\)\n`), ""},
	{regexp.MustCompile(`initial_configuration" : ".*"`), `initial_configuration" : "TEXT"`},
}

func quiet(text string) string {
	for _, n := range noise {
		text = n.re.ReplaceAllString(text, n.with)
	}
	return text
}

// anyOrder is what Apache prints in the order of a hash table.
var anyOrder = []string{"dump", "wchc", "wchp", "srvr", "server_stats", "stat", "stats", "watches", "watches_by_path"}

func inOrder(name, text string) string {
	if slices.Contains(anyOrder, name) {
		lines := strings.Split(text, "\n")
		for i := range lines {
			lines[i] = strings.TrimSuffix(lines[i], ",")
		}
		slices.Sort(lines)
		if name == "dump" { // the sessions may expire together, or not
			lines = slices.Compact(lines)
		}
		text = strings.Join(lines, "\n")
	}
	return text
}

// words are asked for before the commands, except those that set counters back.
// mntr and envi have tests of their own.
var words = []string{
	"ruok", "ruok\n", "isro", "conf", "srvr", "stat", "cons", "dirs", "dump", "gtmk", "hash", "wchs", "wchc", "wchp", "\xff\xf4\xff\xfd",
	string(binary.BigEndian.AppendUint64([]byte("stmk"), 511)), "gtmk",
}

var resets = []string{"crst", "cons", "srst", "srvr", "stat"}

func (p peer) words(t *testing.T, words []string) string {
	t.Helper()
	var b strings.Builder
	for _, w := range words {
		text := quiet(p.word(t, w))
		if w != "stat" { // its connections look alike
			text = inOrder(w, text)
		}
		fmt.Fprintf(&b, "== %q\n%s|\n", w, text)
	}
	return b.String()
}

// httpRequests are what the golden file of commands holds, in its order: the
// counters are set back at the end.
var httpRequests = []struct{ method, path, authorization string }{
	{"GET", "configuration", ""}, {"GET", "conf", ""}, {"GET", "config", ""},
	{"GET", "connections", ""}, {"GET", "cons", ""}, {"GET", "dirs", ""}, {"GET", "dump", ""},
	{"GET", "get_trace_mask", ""}, {"GET", "gtmk", ""}, {"GET", "hash", ""}, {"GET", "initial_configuration", ""}, {"GET", "icfg", ""},
	{"GET", "is_read_only", ""}, {"GET", "isro", ""}, {"GET", "last_snapshot", ""}, {"GET", "lsnp", ""},
	{"GET", "leader", ""}, {"GET", "lead", ""}, {"GET", "observers", ""}, {"GET", "obsr", ""},
	{"GET", "observer_connection_stat_reset", ""}, {"GET", "orst", ""}, {"GET", "ruok", ""},
	{"GET", "server_stats", ""}, {"GET", "srvr", ""}, {"HEAD", "srvr", ""}, {"GET", "stats", ""}, {"GET", "stat", ""},
	{"GET", "voting_view", ""}, {"GET", "watch_summary", ""}, {"GET", "wchs", ""}, {"GET", "watches", ""}, {"GET", "wchc", ""},
	{"GET", "watches_by_path", ""}, {"GET", "wchp", ""}, {"GET", "zabstate", ""},
	{"GET", "set_trace_mask", ""}, {"GET", "stmk?traceMask=", ""}, {"GET", "stmk?traceMask=x", ""}, {"GET", "stmk?traceMask=77", ""},
	{"GET", "stmk?traceMask=9223372036854775808", ""}, {"GET", "gtmk", ""},
	{"GET", "nonsense", ""}, {"GET", "no%22n%3Cb%3E%20s%C3%A9ns", ""}, {"GET", "srvr/", ""}, {"GET", "srvr/x", ""}, {"GET", "SRVR", ""},
	{"GET", "snapshot", ""}, {"GET", "snap", ""}, {"GET", "snap", "digest"}, {"GET", "snapshot", "digest "}, {"GET", "snapshot", "nonsense x"},
	{"GET", "snapshot?streaming=false", "digest root:secret"}, {"GET", "last_snapshot", ""},
	{"GET", "connection_stat_reset", ""}, {"GET", "crst", ""}, {"GET", "cons", ""}, {"GET", "stat_reset", ""}, {"GET", "srst", ""}, {"GET", "srvr", ""},
}

func (p peer) commands(t *testing.T) string {
	t.Helper()
	// A server may not have noticed yet that those who asked for words are gone.
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, body := p.get(t, "GET", "/commands/connections", "")
		n := strings.Count(body, "remote_socket_address")
		if n == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections, want those of the two sessions: %s", n, body)
		}
	}
	var b strings.Builder
	for _, q := range httpRequests {
		resp, body := p.get(t, q.method, "/commands/"+q.path, q.authorization)
		fmt.Fprintf(&b, "== %s %s %s\n%s %s", q.method, q.path, q.authorization, resp.Status, resp.Header.Get("Content-Type"))
		for _, h := range []string{"last_zxid", "snapshot_size"} {
			if v := resp.Header.Get(h); v != "" {
				fmt.Fprintf(&b, " %s", h)
			}
		}
		// Jetty has its own words for some statuses.
		fmt.Fprintf(&b, "\n%s|\n", inOrder(strings.TrimSuffix(q.path, "/"), quiet(body)))
	}
	return b.String()
}

// environment returns the keys of envi and of its JSON form.
func (p peer) environment(t *testing.T) string {
	t.Helper()
	_, body := p.get(t, "GET", "/commands/environment", "")
	keys := regexp.MustCompile(`(?m)^  "(.*?)" : ("?)`).ReplaceAllString(body, "$1 $2 ")
	var b strings.Builder
	for line := range strings.Lines(p.word(t, "envi") + "\n" + keys) {
		name, _, _ := strings.Cut(line, "=")
		name, _, _ = strings.Cut(name, " ")
		b.WriteString(strings.TrimSpace(name) + "\n")
	}
	return b.String()
}

// start runs our server with an HTTP side.
func startPeer(t *testing.T) peer {
	t.Helper()
	zk := startZooKeeper(t, func(c *server.Config) {
		c.Znode.ExtendedTypes = true
		c.InitialConfig = "tickTime=2000\n"
		c.Version = "3.9.5-" + strings.Repeat("0", 40) + ", built on 2026-01-01 00:00 UTC"
	})
	a, err := Listen(Config{Listen: "127.0.0.1:0", Source: &fakeSource{}, ZooKeeper: zk})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- a.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
	return peer{zk.Addr().String(), a.Addr().String()}
}

// TestAnswersAsApache compares every word and every command with what Apache's
// server answered.
func TestAnswersAsApache(t *testing.T) {
	p := startPeer(t)
	p.play(t)
	for _, tc := range []struct{ file, got string }{
		{"words.txt", p.words(t, words)},
		{"commands.txt", p.commands(t)},
		{"resets.txt", p.words(t, resets)},
		{"environment.txt", p.environment(t)},
	} {
		b, err := os.ReadFile(filepath.Join("testdata", "apache", tc.file))
		if err != nil {
			t.Fatal(err)
		}
		compare(t, tc.file, tc.got, string(b))
	}
	// What a tool looks for, and the form of every number that Apache prints too.
	forms := readForms(t, "mntr.txt")
	got := mntrForms(p.word(t, "mntr"))
	for _, name := range slices.Concat([]string{"version", "server_state"}, lookedFor) {
		if got[name] == "" {
			t.Errorf("mntr lacks zk_%s, which tools look for", name)
		}
		if forms[name] == "" {
			t.Errorf("Apache's mntr lacks zk_%s", name)
		}
	}
	compareForms(t, "mntr", got, forms)
	_, body := p.get(t, "GET", "/commands/monitor", "")
	compareForms(t, "monitor", monitorForms(t, body), forms)
	_, body = p.get(t, "GET", "/metrics", "")
	compareForms(t, "metrics", prometheusTypes(body), readForms(t, "metrics.txt"))
}

// checkSnapshotStream takes a snapshot over HTTP; the last one was a while ago.
func checkSnapshotStream(t *testing.T, p peer) {
	t.Helper()
	resp, body := p.get(t, "GET", "/commands/snapshot", "digest root:secret")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/octet-stream" || !strings.HasPrefix(body, "ZKSN") {
		t.Errorf("snapshot: %s %v %.20q", resp.Status, resp.Header, body)
	}
	if zxid := resp.Header.Get("last_zxid"); !strings.HasPrefix(zxid, "0x") {
		t.Errorf("last_zxid %q", zxid)
	}
	if size := resp.Header.Get("snapshot_size"); size != fmt.Sprint(len(body)) {
		t.Errorf("snapshot_size %s, but %d bytes came", size, len(body))
	}
}

func TestSnapshotStream(t *testing.T) {
	p := startPeer(t)
	p.play(t)
	checkSnapshotStream(t, p)
}

func TestSnapshotsAreNotTooFrequent(t *testing.T) {
	a := newAdmin(startZooKeeper(t, nil), &fakeSource{})
	take := func() *httptest.ResponseRecorder {
		return ask(a.Handler(), "GET", "/commands/snapshot?streaming=false", "", header("Authorization", "ip x"))
	}
	a.snapshotAt = time.Now().Add(time.Hour)
	if rec := take(); rec.Code != http.StatusTooManyRequests {
		t.Errorf("too early: %d %s", rec.Code, rec.Body)
	}
	a.snapshotAt = time.Time{}
	if rec := take(); rec.Code != http.StatusOK {
		t.Errorf("in time: %d %s", rec.Code, rec.Body)
	}
	a.snapshotGate.Lock()
	if rec := take(); rec.Code != http.StatusTooManyRequests {
		t.Errorf("while another is made: %d %s", rec.Code, rec.Body)
	}
}

// lookedFor are the metrics that known tools read (zookeeper.md §4.1).
var lookedFor = strings.Fields(`avg_latency max_latency min_latency packets_received packets_sent num_alive_connections
	outstanding_requests znode_count watch_count ephemerals_count approximate_data_size open_file_descriptor_count
	max_file_descriptor_count uptime global_sessions local_sessions connection_drop_probability auth_failed_count`)

// ours reports whether a name is not meant to be one of Apache's.
func ours(name string) bool {
	for _, prefix := range []string{"paddock_", "go_", "process_", "promhttp_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func compareForms(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	n := 0
	for name, form := range got {
		if ours(name) {
			continue
		}
		n++
		if want[name] != form {
			t.Errorf("%s: %s is %q, at Apache %q", what, name, form, want[name])
		}
	}
	if n < 20 {
		t.Errorf("%s: only %d names", what, n)
	}
}

func readForms(t *testing.T, file string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "apache", file))
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, form, _ := strings.Cut(strings.TrimSpace(line), " ")
		forms[name] = form
	}
	return forms
}

// form is how a number is printed.
func form(v string) string {
	switch {
	case regexp.MustCompile(`^-?\d+$`).MatchString(v):
		return "whole"
	case regexp.MustCompile(`^\d+\.\d{1,4}$`).MatchString(v):
		return "decimal"
	}
	return "text"
}

func mntrForms(text string) map[string]string {
	forms := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if name = strings.TrimPrefix(name, "zk_"); !strings.Contains(name, "_per_namespace") {
			forms[name] = form(value)
		}
	}
	return forms
}

// monitorForms also checks that the document is JSON and ends as every answer.
func monitorForms(t *testing.T, body string) map[string]string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	var all map[string]any
	if err := d.Decode(&all); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(body, ",\n  \"command\" : \"monitor\",\n  \"error\" : null\n}") {
		t.Errorf("monitor ends with %q", body[max(0, len(body)-80):])
	}
	forms := map[string]string{}
	for name, v := range all {
		if name != "command" && name != "error" && !strings.Contains(name, "_per_namespace") {
			forms[name] = form(fmt.Sprint(v))
		}
	}
	return forms
}

func prometheusTypes(text string) map[string]string {
	types := map[string]string{}
	s := bufio.NewScanner(bytes.NewReader([]byte(text)))
	for s.Scan() {
		if f := strings.Fields(s.Text()); len(f) == 4 && f[1] == "TYPE" && !strings.HasPrefix(f[2], "jvm_") {
			types[f[2]] = f[3]
		}
	}
	return types
}
