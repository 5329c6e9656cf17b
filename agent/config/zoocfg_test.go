package config

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/storage"
)

func TestPropertiesAreReadAsJavaDoes(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"a=1", "a=1@1"},
		{"a : 1 \n  b\t2\nc", "a=1@1 b=2@2 c=@3"},
		{"# x\n! y\n\n \f\na=b=c:d", "a=b=c:d@5"},
		{"a=1\\\n   2\\\r\n3\nb=4", "a=123@1 b=4@4"},
		{"a=1\\\\\nb=2", `a=1\@1 b=2@2`},
		{"# no continuation \\\na=1", "a=1@2"},
		{`a\=b\:c\ d=e\tf`, "a=b:c d=e\tf@1"},
		{`a=\u00e9\uD83D\uDE00 \z`, "a=é😀 z@1"},
		{"a=1\r b=2", "a=1@1 b=2@2"},
		{"a=1\\", "a=1@1"},
		{"a==", "a==@1"},
	} {
		list, errs := parseProperties("f", []byte(tc.text))
		var got []string
		for _, p := range list {
			got = append(got, p.key+"="+p.value+"@"+string(rune('0'+p.line)))
		}
		if strings.Join(got, " ") != tc.want || errs != nil {
			t.Errorf("%q: got %q, %v, want %q", tc.text, got, errs, tc.want)
		}
	}
	for _, tc := range []struct{ text, want string }{
		{"\n=1", `f:2: no key in front of "1"`},
		{`a=\u12`, `f:1: a: \u wants four hex digits in "\\u12"`},
	} {
		if _, errs := parseProperties("f", []byte(tc.text)); errs.Error() != tc.want {
			t.Errorf("%q: got %q, want %q", tc.text, errs.Error(), tc.want)
		}
	}
}

func TestEnsemblesThatCannotWorkAreRefused(t *testing.T) {
	for _, tc := range []struct{ lines, want string }{
		{"server.1=a:1:2 server.1=b:1:2", "server.1: server 1 is listed twice"},
		{"server.1=a:1:2 server.300=b:1:2", "server.300: wants an id from 0 to 255 behind the dot, got 300"},
		{"server.1=a:1:2 server.2=a:2:3", "servers 1 and 2 both have the address a:2"},
		{"server.1=a:1:2:observer", "the list has observers only; at least one participant is needed"},
		{"server.1=a:1:2 group.1=1:2", "group.1 names server 2, which is not listed"},
		{"server.1=a:1:2 server.2=b:1:2 group.1=1", "server 2 is in no group"},
		{"server.1=a:1:2 group.1=1 group.2=1", "server 1 is in group 1 and in group 2"},
		{"server.1=a:1:2 weight.3=1", "weight.3: server 3 is not listed"},
		{"server.x=a:1:2", `server.x: wants a number behind the dot, got "x"`},
		{"tickTime=2000", "tickTime: is not server.N, group.N or weight.N"},
	} {
		_, err := ParseEnsemble(strings.Fields(tc.lines))
		if err == nil {
			t.Errorf("%s: no error", tc.lines)
			continue
		}
		if got := err.Error(); !strings.HasSuffix(got, tc.want) {
			t.Errorf("%s: got %q, want %q", tc.lines, got, tc.want)
		}
	}
	e, err := ParseEnsemble(strings.Fields("server.2=b:1:2:observer server.1=a:1:2 group.1=1 weight.1=3"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseEnsemble(e.Lines())
	if err != nil || !e.Equal(&again) {
		t.Errorf("%+v prints %q, which reads %+v, %v", e, e.Lines(), again, err)
	}
}

func TestAZooCfgOfAMemberBecomesAConfig(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "zoo.cfg")
	text := `# the usual
tickTime=2000
initLimit=10
syncLimit=5
dataDir=` + dir + `
dataLogDir=/log
clientPort=2181
clientPortAddress=127.0.0.1
maxSessionTimeout=-1
minSessionTimeout=5000
autopurge.purgeInterval=24
autopurge.snapRetainCount=1
4lw.commands.whitelist=srvr, mntr, nonsense
forceSync=no
preAllocSize=1024
maxClientCnxns=0
jute.maxbuffer=0x100000
reconfigEnabled=false
admin.serverPort=9090
snapCount=5000
DigestAuthenticationProvider.superDigest=super:g9oN2HttPfn8MMWJZ2r45Np/LIA=
maxResponseCacheSize=400
metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider
server.1=10.0.0.1:2888:3888
server.2=10.0.0.2:2888:3888:observer
`
	mustWrite(t, file, text)
	mustWrite(t, filepath.Join(dir, "myid"), "2\n")
	c, err := LoadZooCfg(file)
	if err != nil {
		t.Fatal(err)
	}
	z := c.Zab.Server
	if z.TickTime != 2*time.Second || z.Storage.DataDir != dir || z.Storage.LogDir != "/log" ||
		z.Listen != "127.0.0.1:2181" || z.MaxSessionTimeout != 0 || z.MinSessionTimeout != 5*time.Second || z.MaxClientCnxns != -1 ||
		z.PurgeInterval != 24*time.Hour || z.SnapRetain != 3 || !z.Storage.NoForceSync || z.Storage.SnapCount != 5000 ||
		z.Storage.PreallocBytes != 1<<20 || z.ID != 2 || c.Zab.Role != RoleObserver || z.Znode.ExtendedTypes ||
		strings.Join(z.FourLetterWords, ",") != "srvr,mntr" || z.Znode.SuperDigest == "" || z.MaxBuffer != 1<<20 {
		t.Errorf("%+v", z)
	}
	if strings.Contains(c.Text, "g9oN2") || !strings.Contains(c.Text, "snapCount=5000\n# left out: a secret\n") {
		t.Errorf("text %q", c.Text)
	}
	if c.Admin.Listen != "0.0.0.0:9090" || c.DNS.Listen != "" || c.Registry.Root != "" {
		t.Errorf("admin %+v dns %+v registry %+v", c.Admin, c.DNS, c.Registry)
	}
	if len(c.Warnings) != 2 {
		t.Errorf("warnings %q, want one for a word and one for metricsProvider", c.Warnings)
	}
	e, err := ParseEnsemble(c.Zab.Servers)
	if err != nil || len(e.Members) != 2 || len(e.Voters()) != 1 {
		t.Errorf("ensemble %+v, %v", e, err)
	}
}

func mustWrite(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAStandaloneZooCfgNeedsTwoKeys(t *testing.T) {
	c, err := LoadZooCfg(write(t, "zoo.cfg", "dataDir=/data\nclientPort=2181\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Zab.Server.TickTime != 3*time.Second || c.Zab.Server.Listen != "0.0.0.0:2181" || c.Admin.Listen != "0.0.0.0:8080" ||
		c.Zab.Server.ID != 0 || c.Zab.Role != RoleVoter {
		t.Errorf("%+v", c)
	}
}

func TestADynamicFileGivesServersAndClientPort(t *testing.T) {
	dir := t.TempDir()
	dyn := filepath.Join(dir, "zoo.cfg.dynamic.1a")
	mustWrite(t, dyn, "server.1=127.0.0.1:2888:3888:participant;127.0.0.1:2181\n")
	mustWrite(t, filepath.Join(dir, "myid"), "1")
	file := filepath.Join(dir, "zoo.cfg")
	mustWrite(t, file, "dataDir="+dir+"\ndynamicConfigFile="+dyn+"\nstandaloneEnabled=false\ninitLimit=1\nsyncLimit=1\n")
	z, err := ReadZooCfg(file)
	if err != nil {
		t.Fatal(err)
	}
	if z.Ensemble.Version != 0x1a || !z.Quorum() || z.MyID != 1 {
		t.Errorf("%+v", z)
	}
	c, err := LoadZooCfg(file)
	if err != nil || c.Zab.Server.Listen != "127.0.0.1:2181" {
		t.Errorf("%+v, %v", c.Zab, err)
	}
	mustWrite(t, dyn, "server.1=127.0.0.1:2888:3888\nversion=1a\ntickTime=2\nserver.2=h\n")
	_, err = LoadZooCfg(file)
	want := `zoo.cfg.dynamic.1a:2: version: must not stand in a file whose name ends in a version
zoo.cfg.dynamic.1a:3: tickTime: is not server.N, group.N, weight.N or version
zoo.cfg.dynamic.1a:4: server.2: wants host:port:port[:participant|:observer][;[host:]port], got "h"`
	if got := strings.ReplaceAll(err.Error(), dir+"/", ""); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFaultsOfAZooCfgNameTheLine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "zoo.cfg")
	mustWrite(t, file, `tickTime=2s
syncEnabled=yes
quorumListenOnAllIPs=TRUE
clientPortAddress=10.0.0.1
electionAlg=0
peerType=leader
sslQuorum=true
secureClientPort=2281
preAllocSize=-1
snapshot.compression.method=zip
server.1=h:1
server.5=h:1:2
maxClientCnxns=99999999999
dataDir=`+dir+`
snapCount=1
server.300=h:1:2
`)
	_, err := LoadZooCfg(file)
	want := `zoo.cfg:1: tickTime: wants a whole number, got "2s"
zoo.cfg:2: syncEnabled: wants true or false, got "yes"
zoo.cfg:3: quorumListenOnAllIPs: wants true or false, got "TRUE"
zoo.cfg:4: clientPortAddress: is set but clientPort is not
zoo.cfg:5: electionAlg: wants 3, the only algorithm left, got "0"
zoo.cfg:6: peerType: wants participant or observer, got "leader"
zoo.cfg:7: sslQuorum: is not supported by this server, which refuses to run without the protection that it asks for
zoo.cfg:8: secureClientPort: is not supported by this server: it has no TLS on the client port
zoo.cfg:9: preAllocSize: wants a number of KiB, got "-1"
zoo.cfg:10: snapshot.compression.method: wants gz, snappy or checked, got "zip"
zoo.cfg:11: server.1: wants host:port:port[:participant|:observer][;[host:]port], got "h:1"
zoo.cfg:13: maxClientCnxns: wants a whole number, got "99999999999"
zoo.cfg:16: server.300: wants an id from 0 to 255 behind the dot, got 300`
	got := strings.ReplaceAll(err.Error(), dir+"/", "")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	mustWrite(t, file, "dataDir="+dir+"\nclientPort=2181\nsnapCount=1\ntickTime=0\n")
	_, err = LoadZooCfg(file)
	want = "zoo.cfg:3: snapCount: wants a number from 2 to 2147483647, got 1\nzoo.cfg:4: tickTime: wants at least 1ms, got 0s"
	if got := strings.ReplaceAll(err.Error(), dir+"/", ""); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSnappyIsReplacedWithAWarning(t *testing.T) {
	z, err := ParseZooCfg("zoo.cfg", []byte("dataDir=/d\nclientPort=2181\nsnapshot.compression.method=snappy\n"))
	want := "zoo.cfg:3: snapshot.compression.method: snappy is read here, not written: snapshots are written with gz"
	if err != nil || len(z.Warnings) != 1 || z.Warnings[0] != want || z.settings["zab.compression"] != storage.Gzip {
		t.Errorf("%v, warnings %q, error %v", z.settings["zab.compression"], z.Warnings, err)
	}
}

func TestMyID(t *testing.T) {
	dir := t.TempDir()
	zoo := filepath.Join(dir, "zoo.cfg")
	mustWrite(t, zoo, "dataDir="+dir+"\ninitLimit=1\nsyncLimit=1\nclientPort=1\nserver.1=a:1:2\nserver.2=b:1:2\n")
	for _, tc := range []struct{ text, want string }{
		{"", "myid: is required, since servers are listed"},
		{"x\n", `myid:1: myid: wants a number from 0 to 255, got "x"`},
		{"256", `myid:1: myid: wants a number from 0 to 255, got "256"`},
		{"9", "myid:1: myid: server 9 is not listed in zoo.cfg"},
		{" 2 \nrest", ""},
	} {
		if tc.text != "" {
			mustWrite(t, filepath.Join(dir, "myid"), tc.text)
		}
		_, err := ReadZooCfg(zoo)
		got := ""
		if err != nil {
			got = strings.ReplaceAll(err.Error(), dir+"/", "")
		}
		if !strings.HasSuffix(got, tc.want) || (tc.want == "") != (got == "") {
			t.Errorf("myid %q: got %q, want %q", tc.text, got, tc.want)
		}
	}
}

func TestAServerAloneNeedsNoMyID(t *testing.T) {
	dir := t.TempDir()
	zoo := filepath.Join(dir, "zoo.cfg")
	mustWrite(t, zoo, "dataDir="+dir+"\nclientPort=2181\n")
	mustWrite(t, filepath.Join(dir, "myid"), "replace this text\n")
	c, err := LoadZooCfg(zoo)
	if err != nil || c.Zab.Server.ID != 0 || len(c.Warnings) != 1 {
		t.Errorf("id %d, warnings %q, error %v", c.Zab.Server.ID, c.Warnings, err)
	}
}

func FuzzZooCfg(f *testing.F) {
	f.Add("dataDir=/d\nclientPort=2181\nserver.1=a:1:2;3\ngroup.1=1\nweight.1=2\n")
	f.Add("dynamicConfigFile=x\nserver.1=[::1]:1:2|b:3:4:observer;[::]:1\n4lw.commands.whitelist=*,srvr\n")
	f.Add("a\\u0041\\\n b : c\\")
	f.Fuzz(func(t *testing.T, text string) {
		z, err := ParseZooCfg("z", []byte(text))
		if z == nil {
			t.Fatal("no result")
		}
		if err != nil {
			return
		}
		e, err := ParseEnsemble(z.Ensemble.Lines())
		if err != nil {
			t.Fatalf("%q prints %q: %v", text, z.Ensemble.Lines(), err)
		}
		if !e.Equal(&z.Ensemble) {
			t.Fatalf("%+v prints %q, which reads %+v", z.Ensemble, z.Ensemble.Lines(), e)
		}
	})
}

// FuzzReadMyID: a file myid is a number from 0 to 255 in its first line, or an error
// that names the file.
func FuzzReadMyID(f *testing.F) {
	for _, s := range []string{"", "1\n", " 7 \r\nx", "-1", "256", "0x1", "+3", "1_0", "\x00"} {
		f.Add([]byte(s))
	}
	file := filepath.Join(f.TempDir(), "myid")
	f.Fuzz(func(t *testing.T, b []byte) {
		mustWrite(t, file, string(b))
		id, err := ReadMyID(file)
		if err != nil {
			if !strings.Contains(err.Error(), file) {
				t.Errorf("%q: the error does not name the file: %v", b, err)
			}
			return
		}
		line, _, _ := strings.Cut(string(b), "\n")
		if n, err := strconv.Atoi(strings.TrimSpace(line)); err != nil || n != id || id < 0 || id > 255 {
			t.Errorf("%q was read as %d", b, id)
		}
	})
}
