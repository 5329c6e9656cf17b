package nameserver

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImports: the name server sees the registry through its interface only,
// and brings in no library but the one for DNS.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Skipf("go list: %v", err)
	}
	for imp := range strings.FieldsSeq(string(out)) {
		first, _, _ := strings.Cut(imp, "/")
		if !strings.Contains(first, ".") { // std
			continue
		}
		switch imp {
		case "github.com/miekg/dns", "github.com/paddockio/paddock/registry":
		default:
			t.Errorf("package nameserver imports %q: answers come from registry.Directory alone", imp)
		}
	}
}
