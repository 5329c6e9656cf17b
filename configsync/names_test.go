package configsync

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNamesOfZnodesAndFiles(t *testing.T) {
	for _, tc := range []struct {
		rel   string
		inner bool
		want  string // "" is refused
	}{
		{"a", false, "a"},
		{"a/b.conf", false, "a/b.conf"},
		{"a", true, "a/_data"},
		{"", true, "_data"},
		{"org.x.DemoService:1.0.0:blue.configurators", false, "org.x.DemoService:1.0.0:blue.configurators"},
		{"a*b", false, "a*b"},
		{".hidden", false, ".hidden"},
		{"größe", false, "größe"},
		{"..", false, ""},
		{"a/../b", false, ""},
		{"a/./b", false, ""},
		{"/a", false, ""},
		{"a//b", false, ""},
		{"a\x00b", false, ""},
		{"a\nb", false, ""},
		{"\u0085", false, ""},
		{"\xff", false, ""},
		{"_data", false, ""},
		{"a/_data", false, ""},
		{".paddock", false, ""},
		{strings.Repeat("a", 255), false, strings.Repeat("a", 255)},
		{strings.Repeat("a", 256), false, ""},
		{strings.Repeat("a/", 63) + "a", false, strings.Repeat("a/", 63) + "a"},
		{strings.Repeat("a/", 64) + "a", false, ""},
		{strings.Repeat(strings.Repeat("a", 200)+"/", 11) + "a", false, ""},
	} {
		got, err := fileName(tc.rel, tc.inner)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("fileName(%.50q, %v) = %.50q, %v; want %.50q", tc.rel, tc.inner, got, err, tc.want)
		}
	}
}

// FuzzFileName checks that every znode's file is beneath the directory, that
// no two have the same, and that the way back leads to the znode.
func FuzzFileName(f *testing.F) {
	f.Add("a/b", "a/_data", false, true)
	f.Add("../x", "..", false, false)
	f.Add("a", "a/b", true, false)
	f.Add("", "_data", true, false)
	f.Fuzz(func(t *testing.T, rel, other string, inner, otherInner bool) {
		name, err := fileName(rel, inner)
		if err != nil {
			return
		}
		if !filepath.IsLocal(name) || filepath.Clean(name) != name || !utf8.ValidString(name) || strings.ContainsAny(name, "\x00\n") {
			t.Fatalf("fileName(%q, %v) = %q", rel, inner, name)
		}
		if strings.Contains("/"+name+"/", "/"+stagingName+"/") {
			t.Fatalf("fileName(%q, %v) = %q is in the staging directory", rel, inner, name)
		}
		tree := &target{tc: Target{Tree: true, From: "/f"}}
		if back := tree.relOf(name); back != rel {
			t.Fatalf("fileName(%q, %v) = %q leads back to %q", rel, inner, name, back)
		}
		if o, err := fileName(other, otherInner); err == nil && o == name && other != rel {
			t.Fatalf("%q and %q both are %q", rel, other, name)
		}
	})
}

// FuzzTreeStaysBeneath writes whatever names there are into a directory with
// planted links, and looks whether anything outside has changed.
func FuzzTreeStaysBeneath(f *testing.F) {
	f.Add("link/x", "up/y", "a")
	f.Add("../outside", "a/../../outside", "dir/x")
	f.Add("abs", "up", "link")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if len(a)+len(b)+len(c) > 4000 {
			return // all the parents of such names only take time
		}
		base := t.TempDir()
		root := filepath.Join(base, "root")
		outside := filepath.Join(base, "outside")
		must(t, errors.Join(os.Mkdir(root, 0o755), os.Mkdir(outside, 0o755), os.WriteFile(outside+"/file", []byte("safe"), 0o644),
			os.Symlink("../outside", root+"/up"), os.Symlink(outside, root+"/abs"), os.Symlink("dir", root+"/link"), os.Mkdir(root+"/dir", 0o755)))
		m := &Mirror{cfg: Config{StateDir: filepath.Join(base, "state")}, disk: &crashDisk{}, run: execute}
		m.log = discard
		tg, err := newTarget(m, Target{Name: "t", From: "/f", To: root, Tree: true, Links: LinksReplace}.withDefaults())
		must(t, err)
		for _, rel := range []string{a, b, c} {
			for rel != "" { // parents too, as a real tree has them
				tg.src.nodes[rel] = &node{data: []byte("evil"), mzxid: 1}
				rel = parentOf(rel)
			}
		}
		tg.src.nodes[""] = &node{}
		_ = tg.apply(t.Context()) // whatever is wrong is told in the status
		tg.report(nil)
		var seen []string
		_ = filepath.WalkDir(base, func(p string, d fs.DirEntry, err error) error {
			if rel, _ := filepath.Rel(base, p); err == nil && !strings.HasPrefix(rel, "root") && !strings.HasPrefix(rel, "state") {
				seen = append(seen, rel)
			}
			return nil
		})
		if got := strings.Join(seen, " "); got != ". outside outside/file" {
			t.Fatalf("outside there is %q", got)
		}
		if data, _ := os.ReadFile(outside + "/file"); string(data) != "safe" {
			t.Fatalf("outside/file has %q", data)
		}
	})
}

func FuzzParseMemory(f *testing.F) {
	f.Add([]byte(`{"version":1,"from":"/a","to":"/b","files":{"x":{"zxid":"0x1","sha256":"` + strings.Repeat("ab", 32) + `","size":3}},"dirs":["d"]}`))
	f.Add([]byte(`{"version":1,"files":{"../x":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMemory(b)
		if err != nil {
			return
		}
		for name := range m.Files {
			if !filepath.IsLocal(name) {
				t.Fatalf("file %q accepted", name)
			}
		}
		dir := t.TempDir()
		d, err := (&crashDisk{}).open(dir, 0, false)
		must(t, err)
		defer d.Close()
		must(t, m.save(d, "t"))
		if again, err := loadMemory(d, &Target{Name: "t", From: m.From, To: m.To}); err != nil || len(again.Files) != len(m.Files) {
			t.Fatalf("read back: %+v, %v; was %+v", again, err, m)
		}
	})
}
