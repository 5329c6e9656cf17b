package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
)

func TestAListOfServersIsStoredBesideZooCfg(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	os.Mkdir(data, 0o755)
	os.WriteFile(filepath.Join(data, "myid"), []byte("2\n"), 0o644)
	file := filepath.Join(dir, "zoo.cfg")
	before := "# ours\ntickTime=2000\ndataDir=" + data + "\nclientPort=2181\nserver.1=h1:1:2\nserver.2 = h2\\\n  :1:2\n! server.3=comment\\\nreconfigEnabled=true\nmetricsProvider.x=\\\n y"
	os.WriteFile(file, []byte(before), 0o600)

	e, err := zab.ParseEnsemble("server.1=h1:1:2:participant\nserver.2=h2:1:2:participant\nserver.3=h3:1:2:observer\nversion=100000005")
	if err != nil {
		t.Fatal(err)
	}
	store := func() (zoo, dynamic string) {
		t.Helper()
		if err := StoreEnsemble(file, 2, e); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		z, err := ReadZooCfg(file)
		if err != nil || !z.Ensemble.Equal(e) || z.Ensemble.Version != e.Version {
			t.Errorf("read back %v: %v %v", e, z.Ensemble.String(), err)
		}
		d, err := os.ReadFile(z.DynamicConfigFile)
		if err != nil {
			t.Fatal(err)
		}
		return string(b), string(d)
	}
	zoo, dynamic := store()
	name := file + ".dynamic.100000005"
	want := "# ours\ntickTime=2000\ndataDir=" + data + "\nclientPort=2181\n! server.3=comment\\\nreconfigEnabled=true\nmetricsProvider.x=\\\n y\ndynamicConfigFile=" + name + "\n"
	if zoo != want {
		t.Errorf("zoo.cfg is\n%s\nwant\n%s", zoo, want)
	}
	if dynamic != strings.Join(e.Lines(), "\n") {
		t.Errorf("dynamic file %q", dynamic)
	}
	if b, _ := os.ReadFile(file + ".bak"); string(b) != before {
		t.Errorf("the old file is kept as %q", b)
	}
	if st, _ := os.Stat(file); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}

	// The next list says where clients connect.
	e, err = zab.ParseEnsemble("server.1=h1:1:2:participant\nserver.2=h2:1:2:participant;0.0.0.0:2182\nversion=200000001")
	if err != nil {
		t.Fatal(err)
	}
	if zoo, _ = store(); strings.Contains(zoo, "clientPort") || !strings.HasSuffix(zoo, "dynamicConfigFile="+file+".dynamic.200000001\n") || strings.Count(zoo, "dynamicConfigFile") != 1 {
		t.Errorf("zoo.cfg is\n%s", zoo)
	}
	list, _ := filepath.Glob(filepath.Join(dir, "*tmp*"))
	if len(list) > 0 {
		t.Errorf("left behind: %v", list)
	}
}
