package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/paddockio/paddock/internal/durable"
	"github.com/paddockio/paddock/zab"
)

// StoreEnsemble keeps a list of servers that has come into force, for the next
// start of server id with this zoo.cfg: the list goes to the file
// zoo.cfg.dynamic.VERSION, and zoo.cfg names that instead of what it says of
// servers itself (QuorumPeerConfig.editStaticConfig). Comments and everything else
// stay as they are. The first time the old zoo.cfg is kept as zoo.cfg.bak.
func StoreEnsemble(file string, id zab.ServerID, e *zab.Ensemble) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	data, err := readFile(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	z, _ := ParseZooCfg(file, data) // as far as it goes
	dynamic := fmt.Sprintf("%s.dynamic.%x", file, uint64(e.Version))
	if z.DynamicConfigFile == dynamic {
		return nil
	}
	lines := e.Lines()
	slices.Sort(lines)
	if err := replaceFile(dynamic, []byte(strings.Join(lines, "\n"))); err != nil {
		return err
	}
	if z.DynamicConfigFile == "" {
		if err := replaceFile(file+".bak", data); err != nil {
			return err
		}
	}
	me, _ := e.Member(id)
	return replaceFile(file, withDynamic(data, dynamic, me.ClientAddr != ""))
}

// withDynamic returns the text of a zoo.cfg that names a dynamic file. Where
// clients connect is left out if the dynamic file says it.
func withDynamic(data []byte, dynamic string, dropClientPort bool) []byte {
	drop := func(key string) bool {
		switch key {
		case "dynamicConfigFile", "peerType", "version":
			return true
		case "clientPort", "clientPortAddress":
			return dropClientPort
		}
		return zab.IsEnsembleKey(key)
	}
	var out strings.Builder
	var whole string // a line with those that continue it
	for line := range strings.Lines(string(data)) {
		whole += line
		if text := strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t\f"); continued(text) && !strings.HasPrefix(text, "#") && !strings.HasPrefix(text, "!") {
			continue
		}
		if props, _ := parseProperties("", []byte(whole)); len(props) == 0 || !drop(props[0].key) {
			out.WriteString(whole)
		}
		whole = ""
	}
	if text := out.String(); text != "" && !strings.HasSuffix(text, "\n") {
		out.WriteByte('\n')
	}
	// A backslash begins an escape there.
	fmt.Fprintf(&out, "dynamicConfigFile=%s\n", strings.ReplaceAll(dynamic, `\`, `/`))
	return []byte(out.String())
}

// replaceFile writes a file so that a crash leaves the old or the new one, with
// the permissions of the old one.
func replaceFile(name string, data []byte) error {
	mode := os.FileMode(0o644)
	if st, err := os.Stat(name); err == nil {
		mode = st.Mode().Perm()
	}
	return durable.WriteFile(name, data, mode)
}
