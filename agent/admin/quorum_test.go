package admin

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paddockio/paddock/internal/testport"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/wire"
)

// The golden files quorum*.txt hold what Apache's servers 3.9.5 answered as
// members of an ensemble: the first while it looked for others; then, with three
// voters and an observer, each role.

// quorumNoise comes before the other noise.
var quorumNoise = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`0\.0\.0\.0:\d+`), "WILDCARD"},
	{regexp.MustCompile(`all_ports" : \[ \d+ \]`), `all_ports" : [ PORT ]`},
	{regexp.MustCompile(`(?m)^(election|quorum)Port=\d+`), "${1}Port=PORT"},
	// Ours does not count packets between servers.
	{regexp.MustCompile(`(queued_packets|queued_packets_size|packets_received|packets_sent)" : -?\d+`), `$1" : N`},
	{regexp.MustCompile(`127\.0\.0\.1:\d+:\d+:`), "ADDRESS:PORT:"},
	{regexp.MustCompile(`Proposal sizes last/min/max: \d+/\d+/\d+`), "Proposal sizes last/min/max: N/N/N"},
	// Apache's has sets without a session, where others expired before.
	{regexp.MustCompile(`(?m)^    "\d+" : \[ \](,?)\n`), ""},
}

func quietQuorum(text string) string {
	for _, n := range quorumNoise {
		text = n.re.ReplaceAllString(text, n.with)
	}
	return quiet(text)
}

// quorumRequests are put to each role.
var quorumRequests = []string{
	"leader", "lead", "observers", "voting_view", "zabstate", "configuration", "conf", "is_read_only", "isro", "ruok",
	"connection_stat_reset", "observer_connection_stat_reset", "server_stats", "stats", "connections", "cons", "dirs", "dump", "hash",
	"last_snapshot", "watch_summary", "watches", "watches_by_path", "stat_reset",
	"get_trace_mask", "stmk?traceMask=306", "snapshot", "followers", "peers",
}

var quorumWords = []string{"ruok", "isro", "conf", "srvr", "stat", "dump", "hash", "gtmk", "wchs", "crst", "srst", "dirs", "cons"}

func (p peer) quorum(t *testing.T, role string) string {
	t.Helper()
	var b strings.Builder
	for _, q := range quorumRequests {
		resp, body := p.get(t, "GET", "/commands/"+q, "")
		if q == "last_snapshot" { // which a server has depends on how it got its history
			body = regexp.MustCompile(`"zxid" : "[0-9a-f]+"`).ReplaceAllString(body, `"zxid" : "ZXID"`)
		}
		fmt.Fprintf(&b, "== %s: %s\n%s %s\n%s|\n", role, q, resp.Status, resp.Header.Get("Content-Type"), inOrder(q, quietQuorum(body)))
	}
	for _, w := range quorumWords {
		text := quietQuorum(p.word(t, w))
		if w != "stat" {
			text = inOrder(w, text)
		}
		fmt.Fprintf(&b, "== %s: word %s\n%s|\n", role, w, text)
	}
	return b.String()
}

// quorumForms are the forms of the numbers in mntr and monitor that a server alone
// does not have; those with a server's id in the name are left out.
func quorumForms(t *testing.T, roles map[string]peer) string {
	t.Helper()
	alone := readForms(t, "mntr.txt")
	var b strings.Builder
	for _, role := range slices.Sorted(maps.Keys(roles)) {
		_, body := roles[role].get(t, "GET", "/commands/monitor", "")
		forms := mntrForms(roles[role].word(t, "mntr"))
		if monitor := monitorForms(t, body); !maps.Equal(monitor, forms) {
			t.Errorf("%s: monitor has %v, mntr %v", role, monitor, forms)
		}
		for _, name := range slices.Sorted(maps.Keys(forms)) {
			if alone[name] == "" && !ours(name) && !strings.Contains(name, "_learner_handler_") {
				fmt.Fprintf(&b, "%s: %s %s\n", role, name, forms[name])
			}
		}
	}
	return b.String()
}

// roles are servers 3, 1 and 4 of an ensemble whose first servers were 1 and 3.
var quorumRoles = map[string]int{"leader": 3, "follower": 1, "observer": 4}

// ask plays the scenario: start runs servers one after another, which begin with 1.
func askQuorum(t *testing.T, start func(ids ...int) map[int]peer) (answers, forms string) {
	t.Helper()
	first := start(1)[1]
	answers = first.quorum(t, "looking")
	peers := start(3)
	waitFor(t, "a leader", func() bool {
		text, err := peers[3].ask("srvr")
		return err == nil && strings.Contains(text, "Mode: leader")
	})
	maps.Copy(peers, start(2, 4))
	waitFor(t, "an observer", func() bool {
		text, err := peers[4].ask("srvr")
		_, body := peers[3].get(t, "GET", "/commands/observers", "")
		return err == nil && strings.Contains(text, "Mode: observer") && strings.Contains(body, `"sid" : 4`)
	})
	peers[1] = first
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := client.New(client.Config{Servers: peers[3].zk, SessionTimeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	runCtx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(runCtx) }()
	t.Cleanup(func() { stop(); <-done })
	for path, mode := range map[string]wire.CreateMode{"/a": wire.Persistent, "/e": wire.Ephemeral} {
		if _, _, err := c.Create(ctx, path, []byte("x"), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	roles := map[string]peer{}
	for _, role := range []string{"leader", "follower", "observer"} {
		roles[role] = peers[quorumRoles[role]]
		waitFor(t, "the last write at the "+role, func() bool {
			text, err := roles[role].ask("srvr")
			return err == nil && strings.Contains(text, "Zxid: 0x100000003\n")
		})
		answers += roles[role].quorum(t, role)
	}
	return answers, quorumForms(t, roles)
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// quorumList is the list of three voters and an observer on this host.
func quorumList(t *testing.T) *zab.Ensemble {
	t.Helper()
	ports, list := testport.Ports(t, 8), &zab.Ensemble{}
	for i := range 4 {
		line := fmt.Sprintf("127.0.0.1:%d:%d:%s", ports[2*i], ports[2*i+1], map[bool]string{true: "observer", false: "participant"}[i == 3])
		if err := list.Set(fmt.Sprintf("server.%d", i+1), line); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// startMember runs one of our servers with its HTTP side.
func startMember(t *testing.T, list *zab.Ensemble, id int) (peer, *server.Server) {
	t.Helper()
	zk := startZooKeeper(t, func(c *server.Config) {
		c.ID, c.Ensemble, c.TickTime = zab.ServerID(id), list, 2*time.Second
		c.Storage.ServerID = c.ID
		c.InitialConfig, c.Version = "tickTime=2000\n", "3.9.5-"+strings.Repeat("0", 40)+", built on 2026-01-01 00:00 UTC"
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
	return peer{zk.Addr().String(), a.Addr().String()}, zk
}

// TestMembersAnswerAsApache compares what servers of an ensemble say in each role.
func TestMembersAnswerAsApache(t *testing.T) {
	list := quorumList(t)
	answers, forms := askQuorum(t, func(ids ...int) map[int]peer {
		peers := map[int]peer{}
		for _, id := range ids {
			peers[id], _ = startMember(t, list, id)
		}
		return peers
	})
	for file, got := range map[string]string{"quorum.txt": answers, "quorum-mntr.txt": forms} {
		b, err := os.ReadFile(filepath.Join("testdata", "apache", file))
		if err != nil {
			t.Fatal(err)
		}
		compare(t, file, got, string(b))
	}
}
