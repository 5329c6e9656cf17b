package admin

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/wire"
)

func header(pairs ...string) func(*http.Request) {
	return func(r *http.Request) {
		for i := 0; i < len(pairs); i += 2 {
			r.Header.Set(pairs[i], pairs[i+1])
		}
	}
}

func TestOtherSitesChangeNothing(t *testing.T) {
	src := &fakeSource{}
	zk := startZooKeeper(t, nil)
	zk.SetTraceMask(5)
	h := newAdmin(zk, src).Handler()
	for _, tc := range []struct {
		name, method, target string
		change               func(*http.Request)
		status               int
	}{
		{"register", "PUT", "/v1/registrations", header("Sec-Fetch-Site", "cross-site"), 403},
		{"register from an older browser", "PUT", "/v1/registrations", header("Origin", "http://elsewhere.example"), 403},
		{"deregister", "DELETE", "/v1/registrations/demo:1", header("Sec-Fetch-Site", "same-site"), 403},
		{"trace mask in an image", "GET", "/commands/stmk?traceMask=1", header("Sec-Fetch-Site", "cross-site"), 403},
		{"reset in an image", "GET", "/commands/srst", header("Sec-Fetch-Site", "same-site"), 403},
		{"snapshot with credentials", "GET", "/commands/snapshot", header("Sec-Fetch-Site", "cross-site", "Authorization", "digest a:b"), 403},
		{"look at counters", "GET", "/commands/srvr", header("Sec-Fetch-Site", "cross-site"), 200},
		{"reset from our page", "GET", "/commands/srst", header("Sec-Fetch-Site", "same-origin"), 200},
		{"reset from the address line", "GET", "/commands/srst", header("Sec-Fetch-Site", "none"), 200},
		{"register with curl", "PUT", "/v1/registrations", nil, 200},
	} {
		if rec := ask(h, tc.method, tc.target, "service: {}", tc.change); rec.Code != tc.status {
			t.Errorf("%s: status %d, want %d: %s", tc.name, rec.Code, tc.status, rec.Body)
		}
	}
	if m := zk.TraceMask(); m != 5 {
		t.Errorf("trace mask %d, want 5", m)
	}
	if n := len(src.registered); n != 1 {
		t.Errorf("%d registrations, want 1", n)
	}
}

// TestHostNames proves that a page whose name was made to point to this host's
// loopback is not taken for one of ours.
func TestHostNames(t *testing.T) {
	h := newAdmin(nil, &fakeSource{}).Handler()
	for _, tc := range []struct {
		local, host string
		status      int
	}{
		{"127.0.0.1:8080", "localhost:8080", 200},
		{"127.0.0.1:8080", "LOCALHOST", 200},
		{"127.0.0.1:8080", "localhost.", 200},
		{"127.0.0.1:8080", "paddock.localhost:8080", 200},
		{"127.0.0.1:8080", "127.0.0.1:8080", 200},
		{"127.0.0.1:8080", "10.0.0.1", 200},
		{"[::1]:8080", "[::1]:8080", 200},
		{"[::1]:8080", "[::1]", 200},
		{"127.0.0.1:8080", "", 200}, // HTTP/1.0
		{"127.0.0.1:8080", "rebound.example:8080", 421},
		{"127.0.0.1:8080", "notlocalhost", 421},
		{"127.0.0.1:8080", "127.0.0.1.example", 421},
		{"127.0.0.1:8080", "a:b:c", 421},
		{"10.0.0.1:8080", "server-1.example:8080", 200}, // any name may lead here
	} {
		addr, err := net.ResolveTCPAddr("tcp", tc.local)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/livez", nil)
		r.Host = tc.host
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, addr))
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if rec.Code != tc.status {
			t.Errorf("host %q at %s: %d, want %d", tc.host, tc.local, rec.Code, tc.status)
		}
	}
}

// TestSessionIDsStayHere: who knows a session's id can take the session over.
func TestSessionIDsStayHere(t *testing.T) {
	zk := startZooKeeper(t, nil)
	peer{zk: zk.Addr().String()}.play(t)
	h := newAdmin(zk, &fakeSource{}).Handler()
	far := func(more ...string) func(*http.Request) {
		return func(r *http.Request) {
			r.RemoteAddr = "192.0.2.7:4000"
			header(more...)(r)
		}
	}
	sessions := zk.SessionTimeouts()
	if len(sessions) != 2 {
		t.Fatalf("%d sessions, want 2", len(sessions))
	}
	for _, c := range commands {
		for _, name := range c.names {
			rec := ask(h, "GET", "/commands/"+name, "", far("X-Forwarded-For", "127.0.0.1", "Forwarded", "for=127.0.0.1"))
			for id := range sessions {
				if body := rec.Body.String(); strings.Contains(body, key(id)) || strings.Contains(body, id.String()) {
					t.Errorf("%s shows session %v to a stranger", name, id)
				}
			}
			if c.flags&reveals != 0 && rec.Code != http.StatusUnauthorized {
				t.Errorf("%s for a stranger: %d", name, rec.Code)
			}
		}
	}
	if rec := ask(h, "GET", "/commands/dump", "", far("Authorization", "digest root:secret")); rec.Code != 200 || !strings.Contains(rec.Body.String(), "/e") {
		t.Errorf("dump with credentials: %d %s", rec.Code, rec.Body)
	}
	if rec := ask(h, "GET", "/v1/status", "", far()); strings.Contains(rec.Body.String(), "0x100abc0000001") || !strings.Contains(rec.Body.String(), `"state": "connected"`) {
		t.Errorf("/v1/status for a stranger: %s", rec.Body)
	}
	if rec := ask(h, "GET", "/v1/status", "", nil); !strings.Contains(rec.Body.String(), "0x100abc0000001") {
		t.Errorf("/v1/status for this host: %s", rec.Body)
	}
	if rec := ask(h, "GET", "/debug/pprof/", "", far()); rec.Code != http.StatusForbidden {
		t.Errorf("profiles for a stranger: %d", rec.Code)
	}
	if rec := ask(h, "GET", "/debug/pprof/", "", nil); rec.Code != 200 {
		t.Errorf("profiles for this host: %d", rec.Code)
	}
}

func TestSnapshotNeedsAllPermissionsOnTheRoot(t *testing.T) {
	zk := startZooKeeper(t, func(c *server.Config) { c.Znode.SuperDigest = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=" }) // super:test
	if code := zk.Authorize("digest", []byte("a:b"), remoteIP(httptest.NewRequest("GET", "/", nil))); code != wire.OK {
		t.Fatalf("the root is not open: %v", code)
	}
	h := newAdmin(zk, &fakeSource{}).Handler()
	for _, tc := range []struct {
		authorization, want string
		status              int
	}{
		{"", "Auth info is missing for the command", 401},
		{"digest", "Not authenticated", 401},
		{"digest ", "Not authenticated", 401},
		{"Basic dXNlcjpwYXNz", "Not authenticated", 401},
		{"ip 10.0.0.1", "", 200}, // ip ignores what is claimed
	} {
		rec := ask(h, "GET", "/commands/snapshot?streaming=false", "", header("Authorization", tc.authorization))
		if rec.Code != tc.status || !strings.Contains(rec.Body.String(), tc.want) {
			t.Errorf("%q: %d %s, want %d %s", tc.authorization, rec.Code, rec.Body, tc.status, tc.want)
		}
		if strings.Contains(rec.Body.String(), "dXNl") {
			t.Errorf("the answer repeats the credentials: %s", rec.Body)
		}
	}
}

func TestSecretsAreHidden(t *testing.T) {
	const plain = "tickTime=2000\ndataDir=/data\n# a password here\n\nserver.1=a:1:2\nzab:\n  data_dir: /data\n"
	for _, tc := range []struct{ text, want string }{
		{"", ""},
		{plain, plain},
		{"ssl.keyStore.password=hunter2", "ssl.keyStore.password= ***\n"},
		{"a=1\n superDigest = super:hunter2\nb=2\n", "a=1\n superDigest = ***\nb=2\n"},
		{"zab:\n  super_digest: super:hunter2\n  id: 1\n", "zab:\n  super_digest: ***\n  id: 1\n"},
		{"auth:\n  - digest hunter2\n\n  - b\nid: 1\n", "auth: ***\nid: 1\n"},
		{"auth:\n- hunter2\n- b\nid: 1\n", "auth: ***\nid: 1\n"},
		{"gossip_key: |\n  hunter2\n  hunter2\nid: 1\n", "gossip_key: ***\nid: 1\n"},
		{"zab: {super_digest: hunter2}\n", "zab: ***\n"},
		{"session_auth hunter2\n", "***\n"},
	} {
		got := withoutSecrets(tc.text)
		if got != tc.want || strings.Contains(got, "hunter2") {
			t.Errorf("%q becomes %q, want %q", tc.text, got, tc.want)
		}
	}
	for _, kv := range os.Environ() {
		if name, value, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "PADDOCK_") {
			t.Setenv(name, value) // so that it comes back
			os.Unsetenv(name)
		}
	}
	t.Setenv("PADDOCK_ZAB_SUPER_DIGEST", "hunter2")
	t.Setenv("PADDOCK_GOSSIP_KEY", "hunter2")
	t.Setenv("PADDOCK_LOG_LEVEL", "info")
	t.Setenv("OTHER_VARIABLE", "hunter2")
	zk := startZooKeeper(t, func(c *server.Config) {
		c.InitialConfig = "super_digest: hunter2\ndata_dir: x\n"
		c.Znode.SuperDigest = "super:hunter2"
	})
	h := newAdmin(zk, &fakeSource{}).Handler()
	for _, c := range commands {
		if body := ask(h, "GET", "/commands/"+c.names[0], "", nil).Body.String(); strings.Contains(body, "hunter2") {
			t.Errorf("%s shows a secret: %s", c.names[0], body)
		}
	}
	want := "{\n  \"PADDOCK_GOSSIP_KEY\" : \"***\",\n  \"PADDOCK_LOG_LEVEL\" : \"info\",\n  \"PADDOCK_ZAB_SUPER_DIGEST\" : \"***\",\n"
	if body := ask(h, "GET", "/commands/sysp", "", nil).Body.String(); !strings.HasPrefix(body, want) {
		t.Errorf("system properties: %s", body)
	}
}

func TestRestoreIsRefused(t *testing.T) {
	h := newAdmin(startZooKeeper(t, nil), &fakeSource{}).Handler()
	for _, method := range []string{"GET", "POST"} {
		rec := ask(h, method, "/commands/restore", "ZKSN", header("Authorization", "digest root:secret"))
		if rec.Code != 503 || !strings.Contains(rec.Body.String(), `"command" : "restore"`) {
			t.Errorf("%s: %d %s", method, rec.Code, rec.Body)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "TRACE", "PATCH"} {
		if rec := ask(h, method, "/commands/srvr", "", nil); rec.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s srvr: %d", method, rec.Code)
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lim := newLimited(l, 2)
	defer lim.Close()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := lim.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, second := <-accepted, <-accepted
	select {
	case <-accepted:
		t.Error("a third connection was accepted")
	default:
	}
	first.Close()
	first.Close() // only counts once
	third := <-accepted
	if len(lim.slots) != 2 {
		t.Errorf("%d slots taken, want 2", len(lim.slots))
	}
	lim.Close()
	if c, open := <-accepted; open {
		t.Errorf("accepted %v after the end", c.RemoteAddr())
	}
	second.Close()
	third.Close()
}

// TestRunEnds proves that Run returns although clients hold connections.
func TestRunEnds(t *testing.T) {
	a, err := Listen(Config{Listen: "127.0.0.1:0", Source: &fakeSource{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Config{Listen: a.Addr().String(), Source: &fakeSource{}}); err == nil || !strings.Contains(err.Error(), "http port") {
		t.Errorf("a taken port: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- a.Run(ctx) }()
	c, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-result; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := net.Dial("tcp", a.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
}

// watchedSource is a source that counts what it is asked to change.
type watchedSource struct {
	*fakeSource
	count atomic.Int64
}

func (c *watchedSource) Register(ctx context.Context, file []byte) (api.RegisterResult, error) {
	c.count.Add(1)
	return c.fakeSource.Register(ctx, file)
}

func (c *watchedSource) Deregister(ctx context.Context, id string) (bool, error) {
	c.count.Add(1)
	return c.fakeSource.Deregister(ctx, id)
}

// FuzzRequests sends anything to the routes: no panic, JSON where JSON is
// promised, and no change by the page of another site, nor by anybody to the
// tree: registrations, trace mask and zxid stay.
func FuzzRequests(f *testing.F) {
	for _, s := range [][4]string{
		{"GET", "/v1/services/demo?group=%zz", "", ""},
		{"PUT", "/v1/registrations", "", "service: {name: a}"},
		{"DELETE", "/v1/registrations/%2e%2e", "", ""},
		{"DELETE", "/v1/registrations/demo:1", "", ""},
		{"GET", "/commands/stmk?traceMask=99999999999999999999", "", ""},
		{"GET", "/commands/stmk?traceMask=3", "", ""},
		{"GET", "/commands/\"\x00\xff", "", ""},
		{"GET", "/commands/snapshot?streaming=false", "digest a:b", ""},
		{"POST", "/commands/restore", "ip", "ZKSN"},
		{"GET", "/metrics", "", ""},
		{"GET", "/", "", ""},
	} {
		for from := range uint8(4) {
			f.Add(s[0], s[1], s[2], s[3], from)
		}
	}
	zk := startZooKeeper(f, nil)
	src := &watchedSource{fakeSource: &fakeSource{}}
	h := newAdmin(zk, src).Handler()
	f.Fuzz(func(t *testing.T, method, target, authorization, body string, from uint8) {
		r, err := http.NewRequest(method, "http://localhost"+target, strings.NewReader(body))
		if err != nil || strings.HasPrefix(r.URL.Path, "/debug/") {
			return
		}
		r.RemoteAddr = "127.0.0.1:9"
		r.Header.Set("Authorization", authorization)
		stranger := true
		switch from % 4 {
		case 1:
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		case 2:
			r.Header.Set("Origin", "http://elsewhere.example")
			stranger = method != "GET" // without Sec-Fetch-Site a GET is not known to come from a page
		case 3:
			r.Header.Set("Sec-Fetch-Site", "same-site")
		default:
			stranger = false
		}
		mask, count, zxid := zk.TraceMask(), src.count.Load(), zk.State().LastZxid
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if stranger && (zk.TraceMask() != mask || src.count.Load() != count) {
			t.Errorf("%s %q from elsewhere: changed, status %d", method, target, rec.Code)
		}
		if z := zk.State().LastZxid; z != zxid {
			t.Errorf("%s %q: zxid %v, then %v", method, target, zxid, z)
		}
		if rec.Code >= 300 && rec.Code < 400 {
			return // the mux cleans a path
		}
		if ct := rec.Header().Get("Content-Type"); ct == "application/json" && !json.Valid(rec.Body.Bytes()) {
			t.Errorf("%s %q: %d, not JSON: %q", method, target, rec.Code, rec.Body)
		}
	})
}

func FuzzJackson(f *testing.F) {
	f.Add("name", "value", int64(3))
	f.Add("\"\\\n", "<\u2028\xff>", int64(-1))
	f.Fuzz(func(t *testing.T, name, text string, n int64) {
		rec := httptest.NewRecorder()
		writeJackson(rec, 200, object{{name, text}, {"n", n}, {"list", []any{n, text, object{{name, []any{}}}}}, {"o", object{}}, {"d", decimal(float64(n))}})
		if !json.Valid(rec.Body.Bytes()) {
			t.Errorf("not JSON: %q", rec.Body)
		}
	})
}

func FuzzWithoutSecrets(f *testing.F) {
	f.Add("a: 1\nkey: |\n  x\nb=2")
	f.Fuzz(func(t *testing.T, text string) {
		out := withoutSecrets(text)
		if again := withoutSecrets(out); !secret(text) && out != text {
			t.Errorf("%q became %q, then %q", text, out, again)
		}
	})
}

func TestJackson(t *testing.T) {
	rec := httptest.NewRecorder()
	writeJackson(rec, 200, object{
		{"a", "<b>&\"\u00e9"}, {"n", int64(-1)}, {"nil", nil}, {"d", decimal(1)}, {"e", decimal(0.93548)}, {"none", []any{}}, {"o", object{}},
		{"list", []any{1, 2}}, {"objects", []any{object{{"x", 1}}, object{{"y", []any{object{}}}}}},
	})
	want := "{\n  \"a\" : \"<b>&\\\"\u00e9\",\n  \"n\" : -1,\n  \"nil\" : null,\n  \"d\" : 1.0,\n  \"e\" : 0.9355,\n  \"none\" : [ ],\n  \"o\" : { },\n" +
		"  \"list\" : [ 1, 2 ],\n  \"objects\" : [ {\n    \"x\" : 1\n  }, {\n    \"y\" : [ { } ]\n  } ]\n}"
	if got := rec.Body.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
