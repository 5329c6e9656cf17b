package storage

import (
	"go/build"
	"strings"
	"testing"
)

// The table of who may import whom: the standard library, zab, zab/wire and
// zab/znode.
func TestImports(t *testing.T) {
	const module = "github.com/paddockio/paddock/"
	allowed := map[string]bool{module + "zab": true, module + "zab/wire": true, module + "zab/znode": true}
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, imp := range pkg.Imports {
		if first, _, _ := strings.Cut(imp, "/"); strings.Contains(first, ".") && !allowed[imp] {
			t.Errorf("package storage imports %s: it is below everything but the tree and the wire", imp)
		}
	}
}
