package admin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/wire"
)

// A command is one page below /commands (class Commands). The first name is the
// one that the answer carries.
type command struct {
	names []string
	run   func(s *server.Server, r *http.Request) (object, error)
	flags flags
}

type flags uint8

const (
	// changes something, although it is asked for with GET as at Apache: not for a
	// page of another site.
	changes flags = 1 << iota
	// reveals session ids, which are as good as passwords (the session's password
	// follows from its id), and looks at every session or watch: one at a time, and
	// for other hosts with an Authorization header only, as a snapshot.
	reveals
	// has an answer while the server of an ensemble does not serve.
	always
)

var commands = []command{
	{[]string{"configuration", "conf", "config"}, configuration, 0},
	{[]string{"connections", "cons"}, connections, reveals},
	{[]string{"connection_stat_reset", "crst"}, func(s *server.Server, _ *http.Request) (object, error) {
		s.ResetConnStats()
		return nil, nil
	}, changes},
	{[]string{"dirs"}, func(s *server.Server, _ *http.Request) (object, error) {
		data, logs := s.DiskSizes()
		return object{{"datadir_size", data}, {"logdir_size", logs}}, nil
	}, 0},
	{[]string{"dump"}, dump, reveals},
	{[]string{"environment", "env", "envi"}, environment, always},
	{[]string{"get_trace_mask", "gtmk"}, func(s *server.Server, _ *http.Request) (object, error) {
		return object{{"tracemask", s.TraceMask()}}, nil
	}, always},
	{[]string{"hash"}, digests, 0},
	{[]string{"initial_configuration", "icfg"}, func(s *server.Server, _ *http.Request) (object, error) {
		return object{{"initial_configuration", withoutSecrets(s.Config().InitialConfig)}}, nil
	}, 0},
	{[]string{"is_read_only", "isro"}, func(*server.Server, *http.Request) (object, error) {
		return object{{"read_only", false}}, nil
	}, 0},
	{[]string{"last_snapshot", "lsnp"}, lastSnapshot, 0},
	{[]string{"leader", "lead"}, leader, 0},
	{[]string{"monitor", "mntr"}, monitor, always},
	{[]string{"observer_connection_stat_reset", "orst"}, func(*server.Server, *http.Request) (object, error) { return nil, nil }, changes},
	{[]string{"observers", "obsr"}, observers, 0},
	{[]string{"restore", "rest"}, nil, changes}, // see refuseRestore
	{[]string{"ruok"}, func(*server.Server, *http.Request) (object, error) { return nil, nil }, 0},
	{[]string{"server_stats", "srvr"}, serverStats, 0},
	{[]string{"set_trace_mask", "stmk"}, setTraceMask, changes | always},
	{[]string{"snapshot", "snap"}, nil, changes}, // serves a file: see takeSnapshot
	{[]string{"stat_reset", "srst"}, func(s *server.Server, _ *http.Request) (object, error) {
		s.ResetStats()
		return nil, nil
	}, changes},
	{[]string{"stats", "stat"}, func(s *server.Server, r *http.Request) (object, error) {
		o, err := serverStats(s, r)
		list := []any{}
		for _, c := range s.Connections() {
			list = append(list, connection(c)[:5])
		}
		return append(o, field{"connections", list}, field{"secure_connections", []any{}}), err
	}, 0},
	{[]string{"system_properties", "sysp"}, systemProperties, always},
	{[]string{"voting_view"}, votingView, 0},
	{[]string{"watch_summary", "wchs"}, func(s *server.Server, _ *http.Request) (object, error) {
		w := s.WatchSummary()
		return object{{"num_connections", w.Connections}, {"num_paths", w.Paths}, {"num_total_watches", w.Watches}}, nil
	}, 0},
	{[]string{"watches", "wchc"}, watchesBySession, reveals},
	{[]string{"watches_by_path", "wchp"}, watchesByPath, reveals},
	{[]string{"zabstate"}, zabState, always},
}

func findCommand(name string) *command {
	for i := range commands {
		if slices.Contains(commands[i].names, name) {
			return &commands[i]
		}
	}
	return nil
}

// listCommands names the aliases too, which Apache's list leaves out: most people
// know these.
func (a *Server) listCommands(w http.ResponseWriter, _ *http.Request) {
	var names []string
	for _, c := range commands {
		names = append(names, c.names...)
	}
	slices.Sort(names)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	for _, n := range names {
		fmt.Fprintf(w, "<a href=\"%s/%s\">%s</a>\n<br/>\n", html.EscapeString(a.cfg.CommandURL), n, n)
	}
}

const (
	notServing  = "This ZooKeeper instance is not currently serving requests"
	missingAuth = "Auth info is missing for the command"
)

func (a *Server) runCommand(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	c := findCommand(name)
	if c == nil {
		// Apache answers 200 here, and tools look at the error member.
		writeJackson(w, http.StatusOK, object{{"command", name}, {"error", "Unknown command: " + name}})
		return
	}
	fail := func(status int, text string) {
		shown := c.names[0]
		if status == http.StatusUnauthorized || status == http.StatusForbidden || text == notServing {
			shown = name // whichever was asked for, as at Apache
		}
		writeJackson(w, status, object{{"command", shown}, {"error", text}})
	}
	if c.flags&changes != 0 && crossSite(r) {
		fail(http.StatusForbidden, "a page of another site asked for it")
		return
	}
	zk := a.zooKeeper()
	switch {
	case c.names[0] == "restore":
		// Apache's status for a restore that is switched off.
		fail(http.StatusServiceUnavailable, "restore is not supported: stop the server and put the snapshot into its data directory")
		return
	case zk == nil || c.flags&always == 0 && !zk.State().Serving:
		fail(http.StatusOK, notServing)
		return
	case c.names[0] == "snapshot":
		a.takeSnapshot(zk, w, r, fail)
		return
	}
	if c.flags&reveals != 0 {
		if !remoteIP(r).IsLoopback() {
			if status, text := authorize(zk, r); status != http.StatusOK {
				fail(status, text)
				return
			}
		}
		select {
		case a.costly <- struct{}{}:
			defer func() { <-a.costly }()
		case <-r.Context().Done():
			return
		}
	}
	fields, err := c.run(zk, r)
	if err != nil {
		fields = append(fields, field{"error", err.Error()}, field{"command", c.names[0]})
	} else {
		fields = append(fields, field{"command", c.names[0]}, field{"error", nil})
	}
	writeJackson(w, http.StatusOK, fields)
}

func writeJackson(w http.ResponseWriter, status int, o object) {
	var b bytes.Buffer
	appendJackson(&b, o, 0)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// decimal is a number that has a point, as Java prints a double.
func decimal(f float64) json.Number {
	t := strconv.FormatFloat(math.Round(f*1e4)/1e4, 'f', -1, 64)
	if !strings.Contains(t, ".") {
		t += ".0"
	}
	return json.Number(t)
}

func setTraceMask(s *server.Server, r *http.Request) (object, error) {
	const need = "setTraceMask requires long traceMask argument"
	text := r.FormValue("traceMask")
	if !r.Form.Has("traceMask") {
		return nil, errors.New(need)
	}
	mask, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, errors.New(need + ", got " + text)
	}
	s.SetTraceMask(mask)
	return object{{"tracemask", mask}}, nil
}

func configuration(s *server.Server, _ *http.Request) (object, error) {
	c := s.Config()
	return object{
		{"client_port", s.Port()}, {"data_dir", s.DataDir() + "/version-2"}, {"data_log_dir", s.LogDir() + "/version-2"},
		{"tick_time", c.TickTime.Milliseconds()}, {"max_client_cnxns", max(0, c.MaxClientCnxns)},
		{"min_session_timeout", c.MinSessionTimeout.Milliseconds()}, {"max_session_timeout", c.MaxSessionTimeout.Milliseconds()},
		{"server_id", shownID(s)}, {"client_port_listen_backlog", -1},
	}, nil
}

func connections(s *server.Server, _ *http.Request) (object, error) {
	list := []any{}
	for _, c := range s.Connections() {
		list = append(list, connection(c))
	}
	return object{{"connections", list}, {"secure_connections", []any{}}}, nil
}

// connection describes one connection; its first five fields are all that stats
// shows.
func connection(c server.ConnInfo) object {
	return object{
		{"remote_socket_address", c.Remote}, {"interest_ops", c.Interest}, {"outstanding_requests", c.Queued},
		{"packets_received", c.Received}, {"packets_sent", c.Sent}, {"session_id", int64(c.Session)},
		{"last_operation", c.LastOp}, {"established", c.Since.UnixMilli()}, {"session_timeout", c.Timeout.Milliseconds()},
		{"last_cxid", c.LastXid}, {"last_zxid", int64(c.LastZxid)}, {"last_response_time", c.LastReplyMs},
		{"last_latency", c.LastLatencyMs}, {"min_latency", c.MinLatencyMs}, {"avg_latency", c.AvgLatencyMs},
		{"max_latency", c.MaxLatencyMs},
	}
}

// key is a session id as the name of a member.
func key(id zab.SessionID) string { return strconv.FormatInt(int64(id), 10) }

func ids(list []zab.SessionID) []any {
	out := make([]any, len(list))
	for i, id := range list {
		out[i] = int64(id)
	}
	return out
}

// dump names the time of expiry in ms since 1970. Apache's is of a clock that
// nobody else has.
func dump(s *server.Server, _ *http.Request) (object, error) {
	expiry, owners := object{}, object{}
	for _, e := range s.SessionsByExpiry() {
		expiry = append(expiry, field{strconv.FormatInt(e.At.UnixMilli(), 10), ids(e.Sessions)})
	}
	for _, o := range s.EphemeralOwners() {
		owners = append(owners, field{key(o.Session), anys(o.Paths)})
	}
	return object{{"expiry_time_to_session_ids", expiry}, {"session_id_to_ephemeral_paths", owners}}, nil
}

func anys[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

func environment(s *server.Server, _ *http.Request) (object, error) {
	var o object
	for _, kv := range s.Environment() {
		o = append(o, field{kv[0], kv[1]})
	}
	return o, nil
}

// digestVersion is how a tree's digest is computed (DigestCalculator.DIGEST_VERSION).
const digestVersion = 2

func digests(s *server.Server, _ *http.Request) (object, error) {
	list := []any{}
	for _, d := range s.Digests() {
		list = append(list, object{{"zxid", int64(d.Zxid)}, {"digest", int64(d.Tree)}, {"digest_version", digestVersion}})
	}
	return object{{"digests", list}}, nil
}

func lastSnapshot(s *server.Server, _ *http.Request) (object, error) {
	info, ok := s.LastSnapshot()
	if !ok {
		return object{{"zxid", "-1"}, {"timestamp", -1}}, nil
	}
	return object{{"zxid", strconv.FormatUint(uint64(info.Zxid), 16)}, {"timestamp", info.Time.Unix()}}, nil
}

func monitor(s *server.Server, _ *http.Request) (object, error) {
	o := object{{"version", s.Config().Version}, {"server_state", s.State().Mode}}
	if ms, ok := s.Membership(); ok {
		o = append(o, field{"peer_state", ms.PeerState()})
		if ms.Role == zab.Observing {
			o = append(o, field{"observer_master_id", int64(ms.Leader)})
		}
	}
	for _, m := range s.Metrics() {
		m.Each(func(name, value string) { o = append(o, field{name, json.Number(value)}) })
	}
	return o, nil
}

func serverStats(s *server.Server, _ *http.Request) (object, error) {
	st, c := s.State(), s.Stats()
	low, mean, high := c.Latency()
	data, logs := s.DiskSizes()
	buffers := object{{"last_buffer_size", -1}, {"min_buffer_size", -1}, {"max_buffer_size", -1}}
	o := object{
		{"version", s.Config().Version}, {"read_only", false},
		{"server_stats", object{
			{"packets_sent", c.Sent.Load()}, {"packets_received", c.Received.Load()},
			{"fsync_threshold_exceed_count", c.SlowSyncs.Load()}, {"client_response_stats", buffers},
			{"data_dir_size", data}, {"log_dir_size", logs}, {"provider_null", !st.Serving},
			{"last_processed_zxid", int64(st.LastZxid)}, {"outstanding_requests", st.Outstanding}, {"server_state", st.Mode},
			{"avg_latency", decimal(mean)}, {"max_latency", high}, {"min_latency", low},
			{"num_alive_client_connections", st.Connections}, {"uptime", st.Uptime.Milliseconds()},
			{"auth_failed_count", c.AuthFailed.Load()}, {"non_mtlsremote_conn_count", 0}, {"non_mtlslocal_conn_count", 0},
		}},
		{"client_response", buffers},
	}
	if st.Mode == "leader" {
		last, low, high := s.ProposalSizes()
		o = append(o, field{"proposal_stats", object{{"last_buffer_size", last}, {"min_buffer_size", low}, {"max_buffer_size", high}}})
	}
	return append(o, field{"node_count", st.Znodes}), nil
}

// systemProperties shows the settings that came by the environment, which are to
// paddock what system properties are to Apache's server.
func systemProperties(*server.Server, *http.Request) (object, error) {
	env := map[string]string{}
	for _, kv := range os.Environ() {
		if name, value, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "PADDOCK_") {
			env[name] = value
			if secret(name) {
				env[name] = hidden
			}
		}
	}
	o := object{}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		o = append(o, field{name, env[name]})
	}
	return o, nil
}

// hidden stands for a value that may be a secret.
const hidden = "***"

// secret reports whether the value of a setting is better not shown. It may hide
// too much.
func secret(name string) bool {
	for _, part := range []string{"PASS", "SECRET", "DIGEST", "TOKEN", "KEY", "AUTH", "CRED"} {
		if strings.Contains(strings.ToUpper(name), part) {
			return true
		}
	}
	return false
}

// withoutSecrets hides values in the text of a configuration file, properties or
// YAML. What stands below a secret's name, as a list or a block, goes too.
func withoutSecrets(text string) string {
	var out strings.Builder
	below := -1 // indentation of the secret whose lines are being dropped
	for line := range strings.Lines(text) {
		body := strings.TrimLeft(line, " \t")
		indent := len(line) - len(body)
		if below >= 0 && (strings.TrimSpace(body) == "" || indent > below || indent == below && strings.HasPrefix(body, "-")) {
			continue
		}
		below = -1
		if strings.HasPrefix(body, "#") || !secret(body) {
			out.WriteString(line)
			continue
		}
		below = indent
		name := ""
		if at := strings.IndexAny(body, "=:"); at >= 0 {
			name = body[:at+1] + " "
		}
		out.WriteString(line[:indent] + name + hidden + "\n")
	}
	return out.String()
}

func watchesBySession(s *server.Server, _ *http.Request) (object, error) {
	bySession := map[zab.SessionID][]any{}
	for _, w := range s.WatchesByPath() {
		for _, id := range w.Sessions {
			bySession[id] = append(bySession[id], w.Path)
		}
	}
	o := object{}
	for _, id := range slices.Sorted(maps.Keys(bySession)) {
		o = append(o, field{key(id), bySession[id]})
	}
	return object{{"session_id_to_watched_paths", o}}, nil
}

func watchesByPath(s *server.Server, _ *http.Request) (object, error) {
	o := object{}
	for _, w := range s.WatchesByPath() {
		o = append(o, field{w.Path, ids(w.Sessions)})
	}
	return object{{"path_to_session_ids", o}}, nil
}

// authorize looks for an identity that may do everything with the root.
func authorize(zk *server.Server, r *http.Request) (status int, text string) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return http.StatusUnauthorized, missingAuth
	}
	scheme, credentials, _ := strings.Cut(header, " ")
	if credentials == "" {
		return http.StatusUnauthorized, "Not authenticated"
	}
	// The address of the socket: a header such as X-Forwarded-For is anybody's word.
	switch zk.Authorize(scheme, []byte(credentials), remoteIP(r)) {
	case wire.OK:
		return http.StatusOK, ""
	case wire.ErrAuthFailed:
		return http.StatusUnauthorized, "Not authenticated"
	}
	return http.StatusForbidden, "Not authorized"
}

// snapshotInterval is how long after a snapshot the next one may be asked for.
const snapshotInterval = 300 * time.Millisecond

// takeSnapshot writes a snapshot and, with streaming=true (the default), sends
// the file. Who asks needs an identity that may do everything with the root.
func (a *Server) takeSnapshot(zk *server.Server, w http.ResponseWriter, r *http.Request, fail func(status int, text string)) {
	if status, text := authorize(zk, r); status != http.StatusOK {
		fail(status, text)
		return
	}
	if !a.snapshotGate.TryLock() {
		fail(http.StatusTooManyRequests, "another snapshot is being taken")
		return
	}
	defer a.snapshotGate.Unlock()
	if time.Since(a.snapshotAt) < snapshotInterval {
		fail(http.StatusTooManyRequests, "another snapshot was taken just now")
		return
	}
	file, zxid, err := zk.Snapshot(r.Context())
	a.snapshotAt = time.Now()
	if err != nil {
		fail(http.StatusInternalServerError, err.Error())
		return
	}
	f, err := os.Open(file)
	if err != nil {
		fail(http.StatusInternalServerError, err.Error())
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		fail(http.StatusInternalServerError, err.Error())
		return
	}
	// Not Header.Set, which would change the case of the names.
	w.Header()["last_zxid"] = []string{zxid.String()}
	w.Header()["snapshot_size"] = []string{strconv.FormatInt(info.Size(), 10)}
	if !strings.EqualFold(cmp.Or(r.FormValue("streaming"), "true"), "true") {
		writeJackson(w, http.StatusOK, object{{"command", "snapshot"}, {"error", nil}})
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	if r.Method != http.MethodHead {
		io.Copy(patientWriter{w, http.NewResponseController(w)}, f)
	}
}

// A patientWriter gives every piece of a long answer the time of a whole short
// one.
type patientWriter struct {
	w  io.Writer
	rc *http.ResponseController
}

func (p patientWriter) Write(b []byte) (int, error) {
	// An error means that there is no deadline to move.
	p.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	return p.w.Write(b)
}
