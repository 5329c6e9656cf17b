package admin

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"html"
	"maps"
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
}

var commands = []command{
	{[]string{"configuration", "conf", "config"}, configuration},
	{[]string{"connections", "cons"}, connections},
	{[]string{"connection_stat_reset", "crst"}, func(s *server.Server, _ *http.Request) (object, error) {
		s.ResetConnStats()
		return nil, nil
	}},
	{[]string{"dirs"}, func(s *server.Server, _ *http.Request) (object, error) {
		data, logs := s.DiskSizes()
		return object{{"datadir_size", data}, {"logdir_size", logs}}, nil
	}},
	{[]string{"dump"}, dump},
	{[]string{"environment", "env", "envi"}, environment},
	{[]string{"get_trace_mask", "gtmk"}, func(s *server.Server, _ *http.Request) (object, error) {
		return object{{"tracemask", s.TraceMask()}}, nil
	}},
	{[]string{"hash"}, digests},
	{[]string{"initial_configuration", "icfg"}, func(s *server.Server, _ *http.Request) (object, error) {
		return object{{"initial_configuration", s.Config().InitialConfig}}, nil
	}},
	{[]string{"is_read_only", "isro"}, func(*server.Server, *http.Request) (object, error) {
		return object{{"read_only", false}}, nil
	}},
	{[]string{"last_snapshot", "lsnp"}, lastSnapshot},
	{[]string{"leader", "lead"}, func(*server.Server, *http.Request) (object, error) {
		return object{}, errors.New("server is not initialized")
	}},
	{[]string{"monitor", "mntr"}, monitor},
	{[]string{"observer_connection_stat_reset", "orst"}, func(*server.Server, *http.Request) (object, error) { return nil, nil }},
	{[]string{"observers", "obsr"}, func(*server.Server, *http.Request) (object, error) {
		return object{{"synced_observers", 0}, {"observers", []any{}}}, nil
	}},
	{[]string{"ruok"}, func(*server.Server, *http.Request) (object, error) { return nil, nil }},
	{[]string{"server_stats", "srvr"}, serverStats},
	{[]string{"set_trace_mask", "stmk"}, func(s *server.Server, r *http.Request) (object, error) {
		mask, err := strconv.ParseInt(r.FormValue("traceMask"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("setTraceMask requires long traceMask argument")
		}
		s.SetTraceMask(mask)
		return object{{"tracemask", mask}}, nil
	}},
	{[]string{"snapshot", "snap"}, nil}, // serves a file: see takeSnapshot
	{[]string{"stat_reset", "srst"}, func(s *server.Server, _ *http.Request) (object, error) {
		s.ResetStats()
		return nil, nil
	}},
	{[]string{"stats", "stat"}, func(s *server.Server, r *http.Request) (object, error) {
		o, err := serverStats(s, r)
		c, _ := connections(s, r)
		return append(o, c...), err
	}},
	{[]string{"system_properties", "sysp"}, systemProperties},
	{[]string{"voting_view"}, func(*server.Server, *http.Request) (object, error) {
		return object{{"current_config", object{}}}, nil
	}},
	{[]string{"watch_summary", "wchs"}, func(s *server.Server, _ *http.Request) (object, error) {
		w := s.WatchSummary()
		return object{{"num_connections", w.Connections}, {"num_paths", w.Paths}, {"num_total_watches", w.Watches}}, nil
	}},
	{[]string{"watches", "wchc"}, watchesBySession},
	{[]string{"watches_by_path", "wchp"}, watchesByPath},
	{[]string{"zabstate"}, zabState},
}

// commandNames lists every name and alias, sorted.
func commandNames() []string {
	var names []string
	for _, c := range commands {
		names = append(names, c.names...)
	}
	slices.Sort(names)
	return names
}

func (a *Server) listCommands(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	for _, n := range commandNames() {
		n = html.EscapeString(n)
		fmt.Fprintf(w, "<a href=\"%s/%s\">%s</a>\n<br/>\n", a.cfg.CommandURL, n, n)
	}
}

func (a *Server) runCommand(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	var out object
	for _, c := range commands {
		if !slices.Contains(c.names, name) {
			continue
		}
		if c.run == nil {
			a.takeSnapshot(w, r)
			return
		}
		if a.cfg.ZooKeeper == nil {
			out = object{{"command", c.names[0]}, {"error", "This ZooKeeper instance is not currently serving requests"}}
			break
		}
		fields, err := c.run(a.cfg.ZooKeeper, r)
		out = append(fields, field{"command", c.names[0]})
		if err != nil {
			out = append(out, field{"error", err.Error()})
		} else {
			out = append(out, field{"error", nil})
		}
		break
	}
	if out == nil {
		// Apache answers 200 here, and tools look at the error member.
		out = object{{"command", name}, {"error", "Unknown command: " + name}}
	}
	var b bytes.Buffer
	appendJackson(&b, out, 0)
	b.WriteByte('\n')
	w.Header().Set("Content-Type", "application/json")
	w.Write(b.Bytes())
}

func hex(id zab.SessionID) string { return id.String() }

func configuration(s *server.Server, _ *http.Request) (object, error) {
	c := s.Config()
	return object{
		{"client_port", s.Port()}, {"data_dir", s.DataDir() + "/version-2"}, {"data_log_dir", s.LogDir() + "/version-2"},
		{"tick_time", c.TickTime.Milliseconds()}, {"max_client_cnxns", max(0, c.MaxClientCnxns)},
		{"min_session_timeout", c.MinSessionTimeout.Milliseconds()}, {"max_session_timeout", c.MaxSessionTimeout.Milliseconds()},
		{"server_id", 0}, {"client_port_listen_backlog", -1},
	}, nil
}

func connections(s *server.Server, _ *http.Request) (object, error) {
	list := []any{}
	for _, c := range s.Connections() {
		list = append(list, object{
			{"remote_socket_address", c.Remote}, {"interest_ops", c.Interest}, {"outstanding_requests", c.Queued},
			{"packets_received", c.Received}, {"packets_sent", c.Sent}, {"session_id", hex(c.Session)},
			{"last_operation", c.LastOp}, {"established", c.Since.UTC().Format(time.RFC3339)},
			{"session_timeout", c.Timeout.Milliseconds()}, {"last_cxid", fmt.Sprintf("0x%x", uint32(c.LastXid))},
			{"last_zxid", c.LastZxid.String()}, {"last_response_time", c.LastReplyMs}, {"last_latency", c.LastLatencyMs},
			{"min_latency", c.MinLatencyMs}, {"avg_latency", c.AvgLatencyMs}, {"max_latency", c.MaxLatencyMs},
		})
	}
	return object{{"connections", list}, {"secure_connections", []any{}}}, nil
}

func dump(s *server.Server, _ *http.Request) (object, error) {
	expiry, owners := object{}, object{}
	for _, e := range s.SessionsByExpiry() {
		ids := []any{}
		for _, id := range e.Sessions {
			ids = append(ids, hex(id))
		}
		expiry = append(expiry, field{strconv.FormatInt(e.At.UnixMilli(), 10), ids})
	}
	for _, o := range s.EphemeralOwners() {
		owners = append(owners, field{hex(o.Session), anys(o.Paths)})
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

func digests(s *server.Server, _ *http.Request) (object, error) {
	list := []any{}
	for _, d := range s.Digests() {
		list = append(list, object{{"zxid", d.Zxid.String()}, {"digest", fmt.Sprintf("%x", d.Tree)}})
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
	for _, m := range s.Metrics() {
		o = append(o, field{m.Name, m.Value})
	}
	return o, nil
}

func serverStats(s *server.Server, _ *http.Request) (object, error) {
	st, c := s.State(), s.Stats()
	low, mean, high := c.Latency()
	data, logs := s.DiskSizes()
	buffers := object{{"last_buffer_size", -1}, {"min_buffer_size", -1}, {"max_buffer_size", -1}}
	return object{
		{"version", s.Config().Version}, {"read_only", false},
		{"server_stats", object{
			{"packets_sent", c.Sent.Load()}, {"packets_received", c.Received.Load()},
			{"fsync_threshold_exceed_count", c.SlowSyncs.Load()}, {"client_response_stats", buffers},
			{"data_dir_size", data}, {"log_dir_size", logs}, {"provider_null", !st.Serving},
			{"last_processed_zxid", int64(st.LastZxid)}, {"server_state", st.Mode}, {"outstanding_requests", st.Outstanding},
			{"avg_latency", mean}, {"max_latency", high}, {"min_latency", low},
			{"num_alive_client_connections", st.Connections}, {"uptime", st.Uptime.Milliseconds()},
			{"auth_failed_count", c.AuthFailed.Load()}, {"non_mtlsremote_conn_count", 0}, {"non_mtlslocal_conn_count", 0},
		}},
		{"client_response", buffers}, {"node_count", st.Znodes},
	}, nil
}

func systemProperties(*server.Server, *http.Request) (object, error) {
	env := map[string]string{}
	for _, kv := range os.Environ() {
		if name, value, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "PADDOCK_") && !secret(name) {
			env[name] = value
		}
	}
	var o object
	for _, name := range slices.Sorted(maps.Keys(env)) {
		o = append(o, field{name, env[name]})
	}
	return o, nil
}

func secret(name string) bool {
	for _, part := range []string{"PASSWORD", "SECRET", "DIGEST", "TOKEN", "KEY", "AUTH"} {
		if strings.Contains(strings.ToUpper(name), part) {
			return true
		}
	}
	return false
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
		o = append(o, field{hex(id), bySession[id]})
	}
	return object{{"session_id_to_watched_paths", o}}, nil
}

func watchesByPath(s *server.Server, _ *http.Request) (object, error) {
	o := object{}
	for _, w := range s.WatchesByPath() {
		ids := []any{}
		for _, id := range w.Sessions {
			ids = append(ids, hex(id))
		}
		o = append(o, field{w.Path, ids})
	}
	return object{{"path_to_session_ids", o}}, nil
}

func zabState(s *server.Server, _ *http.Request) (object, error) {
	z := s.State().LastZxid
	return object{
		{"myid", int64(s.Config().ID)}, {"is_leader", false}, {"quorum_address", ""}, {"election_address", ""},
		{"client_address", s.Addr().String()}, {"voting", false}, {"last_zxid", z.String()},
		{"zab_epoch", int64(z.Epoch())}, {"zab_counter", int64(z.Counter())}, {"zabstate", ""},
	}, nil
}

// takeSnapshot writes a snapshot and, with streaming=true (the default), sends
// the file. Who asks needs an identity that may do everything with the root.
func (a *Server) takeSnapshot(w http.ResponseWriter, r *http.Request) {
	fail := func(status int, text string) {
		var b bytes.Buffer
		appendJackson(&b, object{{"command", "snapshot"}, {"error", text}}, 0)
		b.WriteByte('\n')
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		w.Write(b.Bytes())
	}
	zk := a.cfg.ZooKeeper
	if zk == nil {
		fail(http.StatusServiceUnavailable, "This ZooKeeper instance is not currently serving requests")
		return
	}
	scheme, credentials, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok {
		fail(http.StatusUnauthorized, "Auth info is missing for the command")
		return
	}
	switch code := zk.Authorize(scheme, []byte(credentials), remoteIP(r)); code {
	case wire.OK:
	case wire.ErrAuthFailed:
		fail(http.StatusUnauthorized, "Not authenticated")
		return
	default:
		fail(http.StatusForbidden, "Not authorized")
		return
	}
	if !a.snapshotGate.CompareAndSwap(false, true) {
		fail(http.StatusTooManyRequests, "another snapshot is being taken")
		return
	}
	defer a.snapshotGate.Store(false)
	file, zxid, err := zk.Snapshot(r.Context())
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
	w.Header().Set("last_zxid", zxid.String())
	w.Header().Set("snapshot_size", strconv.FormatInt(info.Size(), 10))
	if cmp.Or(r.FormValue("streaming"), "true") == "true" {
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, f)
	}
}
