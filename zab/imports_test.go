package zab

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/paddockio/paddock/"

// TestImportsPointDownwards holds the layers of the module: who may import whom,
// and which package alone may import a library.
func TestImportsPointDownwards(t *testing.T) {
	imports := goList(t)
	// Packages of this module that each package may import; "zab/" allows the
	// whole subtree.
	allowed := map[string][]string{
		"zab":                 {},
		"zab/wire":            {"zab"},
		"zab/znode":           {"zab", "zab/wire"},
		"zab/session":         {"zab", "zab/wire"},
		"zab/watch":           {"zab", "zab/wire"},
		"zab/storage":         {"zab", "zab/wire", "zab/znode"},
		"zab/transport":       {"zab", "zab/wire"},
		"zab/client":          {"zab", "zab/wire"},
		"zab/server":          {"zab", "zab/wire", "zab/znode", "zab/session", "zab/watch", "zab/storage", "zab/transport"},
		"registry":            {"zab", "zab/wire", "zab/client", "internal/durable"},
		"registry/nameserver": {"registry"},
		"configsync":          {"zab", "zab/wire", "zab/client", "configsync/dirwatch"},
		"configsync/dirwatch": {},
		"internal/durable":    {},
		"internal/testport":   {},
		"agent/services":      {"registry", "configsync/dirwatch", "internal/durable"},
		"agent/api":           {},
		"agent/bootstrap":     {"zab", "internal/durable"},
	}
	checked := 0
	for pkg, want := range allowed {
		deps, ok := imports[pkg]
		if !ok {
			continue
		}
		checked++
		for _, dep := range deps {
			if rel, ours := strings.CutPrefix(dep, module); ours && !slices.Contains(want, rel) {
				t.Errorf("package %s imports %s: not a layer below it", pkg, rel)
			}
		}
	}
	if checked < 4 {
		t.Errorf("only %d packages checked: the list does not match the module", checked)
	}

	banned := map[string]string{
		"time": "the core must stay replayable", "os": "the core does no I/O", "net": "the core does no I/O",
		"io": "the core does no I/O", "sync": "the core has no locks", "context": "the core does not wait",
		"math/rand": "randomness comes from the Config", "math/rand/v2": "randomness comes from the Config",
	}
	for _, dep := range imports["zab"] {
		if why := banned[dep]; why != "" {
			t.Errorf("package zab imports %q: %s", dep, why)
		}
	}
	for _, pkg := range []string{"zab/znode", "zab/session", "zab/watch"} {
		for _, dep := range imports[pkg] {
			if dep == "time" || dep == "os" || dep == "context" {
				t.Errorf("package %s imports %q: replicated state must not depend on this host", pkg, dep)
			}
		}
	}

	only := map[string]string{
		"github.com/hashicorp/memberlist": "agent/bootstrap", "github.com/spf13/viper": "agent/config",
		"github.com/fsnotify/fsnotify": "configsync/dirwatch", "github.com/miekg/dns": "registry/nameserver",
	}
	for pkg, deps := range imports {
		for lib, owner := range only {
			if slices.Contains(deps, lib) && pkg != owner {
				t.Errorf("package %s imports %s: only %s may", pkg, lib, owner)
			}
		}
	}
}

// goList returns the imports of every package of the module, tests left out.
func goList(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		imports[strings.TrimPrefix(f[0], module)] = f[1:]
	}
	return imports
}
