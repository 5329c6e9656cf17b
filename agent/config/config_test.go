package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/paddockio/paddock/configsync"
	"github.com/paddockio/paddock/registry"
)

// write puts a file into a fresh directory.
func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("agent", pflag.ContinueOnError)
	AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestTheSampleFileHasEveryKeyWithItsDefault(t *testing.T) {
	const sample = "../../deploy/agent.yaml"
	want, err := Load(Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(Options{File: sample})
	if err != nil {
		t.Fatal(err)
	}
	got.File, got.ConfigSync, want.ConfigSync = "", nil, nil
	for i, l := range leaves(reflect.ValueOf(&got).Elem(), "") {
		// An empty list in the file is as good as none.
		if w := leaves(reflect.ValueOf(&want).Elem(), "")[i]; format(w.value) != format(l.value) {
			t.Errorf("%s: the sample says %s, the default is %s", l.key, format(l.value), format(w.value))
		}
	}
	text, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	// Commented keys count as well: name has no fixed default, a target none at all.
	d := document{file: sample, lines: map[string]int{}}
	uncommented := strings.NewReplacer("configsync: []\n#", "configsync:\n ", "\n#  ", "\n   ", "\n#name", "\nname").Replace(string(text))
	var c Config
	d.decode(d.root([]byte(uncommented)), reflect.ValueOf(&c).Elem(), "")
	if len(d.errs) > 0 {
		t.Fatalf("with the comments taken away: %v", d.errs)
	}
	for _, l := range leaves(reflect.ValueOf(&c).Elem(), "") {
		if d.lines[l.key] == 0 {
			t.Errorf("%s is not in the sample", l.key)
		}
	}
	var target configsync.Target
	for _, l := range leaves(reflect.ValueOf(&target).Elem(), "configsync[0].") {
		if d.lines[l.key] == 0 {
			t.Errorf("%s is not in the sample", l.key)
		}
	}
	if len(c.ConfigSync) != 1 {
		t.Fatalf("%d targets in the sample, want 1", len(c.ConfigSync))
	}
	if err := c.ConfigSync[0].Validate(); err != nil {
		t.Errorf("the target in the sample: %v", err)
	}
}

func TestSourcesWinInTheirOrder(t *testing.T) {
	zoo := write(t, "zoo.cfg", "dataDir=/data\ntickTime=1111\nmaxCnxns=7\nglobalOutstandingLimit=8\nsnapCount=9\n")
	file := write(t, "agent.yaml", "zab: {zoo_cfg: "+zoo+", max_cnxns: 70, max_in_flight: 80, snap_count: 90}\n")
	t.Setenv("PADDOCK_ZAB_MAX_IN_FLIGHT", "800")
	t.Setenv("PADDOCK_DNS_REVERSE", "10.0.0.0/8, fd00::/16")
	t.Setenv("PADDOCK_ZAB_SNAP_COUNT", "900")
	t.Setenv("PADDOCK_DNS_LISTEN", "")
	t.Setenv("PADDOCK_ZAB_FOUR_LETTER_WORDS", "srvr, ruok")
	c, err := Load(Options{File: file, Flags: flags(t, "--zab.snap_count=9000", "--log.level", "debug")})
	if err != nil {
		t.Fatal(err)
	}
	z := c.Zab.Server
	if z.TickTime != 1111*time.Millisecond || z.MaxCnxns != 70 || z.MaxInFlight != 800 || z.Storage.SnapCount != 9000 {
		t.Errorf("tick %v connections %d in flight %d snap %d, want 1.111s from zoo.cfg, 70 from the file, 800 from the environment, 9000 from the flag",
			z.TickTime, z.MaxCnxns, z.MaxInFlight, z.Storage.SnapCount)
	}
	if c.DNS.Listen != "" {
		t.Errorf("dns.listen = %q: an empty variable must count", c.DNS.Listen)
	}
	if strings.Join(z.FourLetterWords, " ") != "srvr ruok" {
		t.Errorf("words = %q", z.FourLetterWords)
	}
	if len(c.DNS.Reverse) != 2 || c.DNS.Reverse[0].String() != "10.0.0.0/8" {
		t.Errorf("reverse = %v", c.DNS.Reverse)
	}
	if z.Storage.DataDir != "/data" || z.PurgeInterval != never {
		t.Errorf("data %q, purge %v: want those of zoo.cfg", z.Storage.DataDir, z.PurgeInterval)
	}
	for key, want := range map[string]string{
		"zab.tick_time": "tickTime in " + zoo + ":2", "zab.max_cnxns": "zab.max_cnxns in " + file + ":1",
		"zab.max_in_flight": "PADDOCK_ZAB_MAX_IN_FLIGHT", "log.level": "-log.level",
		"dns.domain": "dns.domain in the file, or -dns.domain",
	} {
		if got := c.Where(key); got != want {
			t.Errorf("Where(%s) = %s, want %s", key, got, want)
		}
	}
	if c.Log.Level.String() != "DEBUG" {
		t.Errorf("level %v", c.Log.Level)
	}
}

func TestEveryFaultIsReportedAtOnceWithItsPlace(t *testing.T) {
	file := write(t, "agent.yaml", `name: 7
dta_dir: /x
zab:
  tick_time: 2
  tick_time: 3s
  no_force_sync: yes
  snap_count: many
  servers: ["server.1=h:1:2", 5]
  four_letter_words: srvr
dns:
  - a
configsync:
  - name: a
    mode: "rw"
    colour: red
    in_place: 1
    max_file: 1 MB
    check_timeout: 5
log: {level: loud}
`)
	t.Setenv("PADDOCK_ZAB_MAX_CNXNS", "few")
	_, err := Load(Options{File: file, Flags: flags(t, "--zab.max_watches=x")})
	got := strings.ReplaceAll(err.Error(), file, "agent.yaml")
	want := `agent.yaml:1: name: wants text, got the number 7; write "7"
agent.yaml:2: dta_dir: unknown key; did you mean data_dir?
agent.yaml:4: zab.tick_time: wants a duration such as 2s or 500ms, got the number 2
agent.yaml:5: zab.tick_time: is set twice, first in line 4
agent.yaml:6: zab.no_force_sync: wants true or false, got "yes"
agent.yaml:7: zab.snap_count: wants a whole number, got "many"
agent.yaml:8: zab.servers[1]: wants text, got the number 5; write "5"
agent.yaml:9: zab.four_letter_words: wants a list, got "srvr"
agent.yaml:11: dns: wants keys and values, got a list
agent.yaml:14: configsync[0].mode: wants file permissions such as 0644, got "rw"
agent.yaml:15: configsync[0].colour: unknown key
agent.yaml:16: configsync[0].in_place: wants true or false, got the number 1
agent.yaml:17: configsync[0].max_file: wants a whole number, got "1 MB"
agent.yaml:18: configsync[0].check_timeout: wants a duration such as 2s or 500ms, got the number 5
agent.yaml:19: log.level: wants debug, info, warn or error, got "loud"
environment: PADDOCK_ZAB_MAX_CNXNS: wants a whole number, got "few"
flag: -zab.max_watches: wants a whole number, got "x"`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A value that cannot be read does not hide those that cannot work, but for the
// ones that it may be the reason of.
func TestFaultsOfOtherSectionsAreReportedWithThem(t *testing.T) {
	file := write(t, "agent.yaml", `zab:
  tick_time: 2
  client_listen: nonsense
dns: {listen: nonsense}
registry: 7
configsync:
- {name: a, from: x, to: /y}
`)
	_, err := Load(Options{File: file})
	if err == nil {
		t.Fatal("no error")
	}
	var places []string
	for line := range strings.Lines(strings.ReplaceAll(err.Error(), file, "agent.yaml")) {
		places = append(places, strings.Join(strings.SplitN(line, ": ", 3)[:2], ": "))
	}
	want := []string{"agent.yaml:2: zab.tick_time", "agent.yaml:4: dns.listen", "agent.yaml:5: registry", "agent.yaml:7: configsync[0].from"}
	if !slices.Equal(places, want) {
		t.Errorf("got %q, want %q in\n%v", places, want, err)
	}
}

func TestValuesThatCannotWorkAreReportedWithTheirPlace(t *testing.T) {
	file := write(t, "agent.yaml", `zab:
  role: leader
  id: 300
  connect: h:1
  tick_time: 1s
  min_session_timeout: 1m
  servers:
    - server.1=h:2888:2888
    - what
  client_listen: "2181"
  super_digest: secret
  max_buffer: 5
  max_client_cnxns: 0
  prealloc_bytes: 1KiB
  compression: snappy
registry: {root: dubbo, advertise: 0.0.0.0}
dns: {listen: "localhost:53", domain: "a..b", ttl: 0s, reverse: [10.0.0.0/7], tcp_conns: 0}
configsync:
  - {name: a, from: /a, to: /etc/app/}
  - {name: a, from: b, to: etc/app, delete: maybe, edits: ask, links: follow, max_files: -1, reload_interval: -1s}
  - {name: c, from: /c, to: /etc/app/x}
admin: {listen: "127.0.0.1:99999"}
`)
	t.Setenv("PADDOCK_LOG_FORMAT", "xml")
	_, err := Load(Options{File: file})
	got := strings.ReplaceAll(err.Error(), file, "agent.yaml")
	want := `agent.yaml:2: zab.role: wants one of auto, voter, observer, client, got "leader"
agent.yaml:3: zab.id: wants a number from 0 to 254, got 300
agent.yaml:4: zab.connect: needs role client: this agent has a server of its own
agent.yaml:6: zab.min_session_timeout: 1m0s is more than max_session_timeout, 20s
agent.yaml:8: zab.servers[0]: quorum and election port are both 2888
agent.yaml:9: zab.servers[1]: wants server.N=host:port:port, got "what"
agent.yaml:10: zab.client_listen: wants an address such as 127.0.0.1:2181, got "2181"
agent.yaml:11: zab.super_digest: wants super: and the base64 of a SHA-1 hash, as DigestAuthenticationProvider makes it
agent.yaml:12: zab.max_buffer: wants a number from 64 to 1073741824, got 5
agent.yaml:13: zab.max_client_cnxns: wants a number of connections, or -1 for no limit, got 0
agent.yaml:14: zab.prealloc_bytes: wants 64KiB to 4GiB, or -1 for none, got 1KiB
agent.yaml:15: zab.compression: wants "" or gz, got "snappy"
agent.yaml:16: registry.root: wants a znode path that begins with /, got "dubbo"
agent.yaml:16: registry.advertise: 0.0.0.0 is no address that others can reach
agent.yaml:17: dns.listen: wants an IP address and port such as 127.0.0.1:8600, got "localhost:53"
agent.yaml:17: dns.domain: wants a domain of at most 62 characters such as paddock., got "a..b."
agent.yaml:17: dns.reverse[0]: wants a network with a length in whole octets (IPv4) or nibbles (IPv6), got "10.0.0.0/7"
agent.yaml:17: dns.ttl: wants 1s to 168h, got 0s
agent.yaml:17: dns.tcp_conns: wants a number from 1 to 2147483647, got 0
agent.yaml:20: configsync[1].delete: "maybe": want one of ["keep" "remove"]
agent.yaml:20: configsync[1].edits: "ask": want one of ["restore" "report"]
agent.yaml:20: configsync[1].from: "b" must begin with /
agent.yaml:20: configsync[1].links: "follow": want one of ["refuse" "replace"]
agent.yaml:20: configsync[1].max_files: must not be negative
agent.yaml:20: configsync[1].reload_interval: must not be negative
agent.yaml:20: configsync[1].to: "etc/app" must be the absolute path of a file or a directory
agent.yaml:20: configsync[1].name: configsync[0] is called "a" too
agent.yaml:21: configsync[2].to: /etc/app/x collides with configsync[0], /etc/app/: two targets would overwrite each other
agent.yaml:22: admin.listen: wants an address such as 127.0.0.1:2181, got "127.0.0.1:99999"
environment: PADDOCK_LOG_FORMAT: wants one of text, json, got "xml"`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var one *Error
	if !errors.As(err, &one) || one.Line != 2 {
		t.Errorf("errors.As: %+v", one)
	}
}

func TestBootstrapFaultsAreReportedByKey(t *testing.T) {
	long := strings.Repeat("n", 64)
	file := write(t, "agent.yaml", `name: `+long+`
bootstrap:
  cluster: a b
  listen: here
  join: [10.0.0.1, "h:0"]
  expect: 99
  election_port: 2888
`)
	_, err := Load(Options{File: file})
	got := strings.ReplaceAll(err.Error(), file, "agent.yaml")
	want := `agent.yaml:1: name: wants a name of 1 to 63 bytes without blanks, got "` + long + `"
agent.yaml:3: bootstrap.cluster: wants a name of 1 to 63 bytes without blanks, got "a b"
agent.yaml:4: bootstrap.listen: wants an IP address and port such as 0.0.0.0:7946, got "here"
agent.yaml:5: bootstrap.join[1]: wants host or host:port, got "h:0"
agent.yaml:6: bootstrap.expect: wants a number from 0 to 31, got 99
agent.yaml:7: bootstrap.election_port: 2888 is that of the quorum too`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for text, want := range map[string]string{
		"bootstrap: {expect: 3}": "bootstrap.expect: needs bootstrap.cluster",
		"bootstrap: {join: [h]}": "bootstrap.join: needs bootstrap.cluster",
		"zab: {role: observer}":  "an observer needs zab.servers or bootstrap.cluster",
		"{zab: {role: observer}, bootstrap: {cluster: demo, join: [h]}}":                  "",
		"{zab: {client_listen: \"0.0.0.0:7946\"}, bootstrap: {cluster: demo, expect: 1}}": "is already",
	} {
		_, err := Load(Options{File: write(t, "agent.yaml", text+"\n")})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestDevNeedsNoFileAndNoDataDirectory(t *testing.T) {
	c, err := Load(Options{Dev: true})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Dev || c.DataDir != "" || c.Zab.Server.Storage.DataDir != "" || c.Zab.Role != RoleVoter || c.Zab.Server.Listen != "127.0.0.1:2181" {
		t.Errorf("%+v", c)
	}
}

func TestUnknownVariablesAreWarnings(t *testing.T) {
	for _, v := range os.Environ() { // what the test itself was started with
		if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PADDOCK_") {
			t.Setenv(name, value) // restores it
			os.Unsetenv(name)
		}
	}
	t.Setenv("PADDOCK_SERVICE_HOST", "10.0.0.1") // as Kubernetes sets it
	t.Setenv("PADDOCK_HTTP", "http://x")         // read by the commands
	c, err := Load(Options{})
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "PADDOCK_SERVICE_HOST") {
		t.Errorf("warnings %q, error %v", c.Warnings, err)
	}
}

func TestFilesThatCannotBeReadAreNamed(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"syntax", "a: [1\nb: 2\n", "agent.yaml:1: did not find expected ',' or ']'"},
		{"two documents", "name: a\n---\nname: b\n", "agent.yaml:2: a second document; only one is read"},
		{"alias", "name: &a x\ndata_dir: *a\n", "agent.yaml:2: data_dir: anchors and aliases are not supported: write the value out"},
		{"not a mapping", "- a\n", "agent.yaml:1: wants keys and values, got a list"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := write(t, "agent.yaml", tc.text)
			_, err := Load(Options{File: file})
			if got := strings.ReplaceAll(err.Error(), file, "agent.yaml"); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	if _, err := Load(Options{File: "/nowhere/agent.yaml"}); err == nil || err.Error() != "/nowhere/agent.yaml: no such file or directory" {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Load(Options{File: t.TempDir()}); err == nil || !strings.HasSuffix(err.Error(), ": is not a file") {
		t.Errorf("directory: %v", err)
	}
}

func TestAnEmptyFileIsTheDefault(t *testing.T) {
	for _, text := range []string{"", "\n# nothing\n", "zab:\ndns:\n", "---\n"} {
		if _, err := Load(Options{File: write(t, "agent.yaml", text)}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestNumbersMayHaveUnits(t *testing.T) {
	for _, tc := range []struct {
		text string
		want int64
		ok   bool
	}{
		{"0", 0, true}, {"-1", -1, true}, {"1048575", 1048575, true}, {"64MiB", 64 << 20, true}, {"4 GiB", 4 << 30, true},
		{"-1KiB", 0, false}, {"1.5MiB", 0, false}, {"9999999TiB", 0, false}, {"MiB", 0, false}, {"", 0, false}, {"7B", 0, false},
	} {
		got, err := parseNumber(tc.text, 64)
		if (err == nil) != tc.ok || tc.ok && got != tc.want {
			t.Errorf("parseNumber(%q) = %v, %v", tc.text, got, err)
		}
		if tc.ok {
			if again, err := parseNumber(formatNumber(got), 64); again != got || err != nil {
				t.Errorf("%d prints %q, which reads %v, %v", got, formatNumber(got), again, err)
			}
		}
	}
}

func TestKeysFollowFromNames(t *testing.T) {
	for name, want := range map[string]string{
		"Name": "name", "TickTime": "tick_time", "UDPSize": "udp_size", "ID": "id", "NegativeTTL": "negative_ttl",
		"TCPConnsPerClient": "tcp_conns_per_client", "SkipACL": "skip_acl", "CommandURL": "command_url",
	} {
		if got := snake(name); got != want {
			t.Errorf("snake(%s) = %s, want %s", name, got, want)
		}
	}
	// An exception for a field that was renamed would be without effect.
	used := map[string]bool{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		used[t.String()+".*"] = true
		for i := range t.NumField() {
			f := t.Field(i)
			used[t.String()+"."+f.Name] = true
			if f.Type.Kind() == reflect.Slice {
				f.Type = f.Type.Elem()
			}
			if isSection(f.Type) {
				walk(f.Type)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
	for name := range exceptions {
		if !used[name] {
			t.Errorf("exception for %s, which does not exist", name)
		}
	}
}

func TestDefaultsAreValidForThePackages(t *testing.T) {
	c := Default()
	c.DNS.Directory, c.Zab.Server.Storage.DataDir = struct{ registry.Directory }{}, "zab"
	c.finish()
	for name, err := range map[string]error{
		"server": c.Zab.Server.Validate(), "storage": c.Zab.Server.Storage.Validate(),
		"registry": c.Registry.Config.Validate(), "nameserver": c.DNS.Validate(),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecretsAreNotListed(t *testing.T) {
	c := Default()
	c.Zab.Server.Znode.SuperDigest = "super:hash"
	for _, l := range c.Lines() {
		if strings.Contains(l, "hash") {
			t.Errorf("%q", l)
		}
	}
}

func FuzzAgentYAML(f *testing.F) {
	f.Add("zab: {tick_time: 1s, servers: [a]}\nconfigsync: [{name: x, mode: 0600, check: 'a {file}', reload: [b, c]}]\n")
	f.Add("a: &x [*x]\n")
	f.Add("zab: {max_buffer: 0x10, snap_count: 1_0}\nlog: {level: INFO}\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := Default()
		d := document{file: "f", lines: map[string]int{}}
		if root := d.root([]byte(text)); root != nil {
			d.decode(root, reflect.ValueOf(&c).Elem(), "")
		}
		for _, e := range d.errs {
			if e.Error() == "" || e.File != "f" {
				t.Fatalf("%+v", e)
			}
		}
		if len(d.errs) == 0 {
			c.finish()
			_ = c.Validate() // must not panic
		}
	})
}
