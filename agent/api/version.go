package api

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// ZooKeeperVersion is the release of Apache ZooKeeper whose protocols, files and
// texts this build follows. Clients that ask for a version see it.
const ZooKeeperVersion = "3.9.5"

// Version says what this binary was built from; the answer of `version -o json`.
type Version struct {
	Paddock   string `json:"paddock"`
	ZooKeeper string `json:"zookeeper"`
	// Revision is the commit, 40 hex digits, or zeros if the build does not say.
	Revision string `json:"revision"`
	// BuiltOn is the time of the commit, yyyy-MM-dd HH:mm UTC.
	BuiltOn string `json:"built_on"`
	Go      string `json:"go"`
}

// BuildVersion reads what the Go tool wrote into the binary.
func BuildVersion() Version {
	v := Version{
		Paddock: "devel", ZooKeeper: ZooKeeperVersion, Revision: strings.Repeat("0", 40),
		BuiltOn: "1970-01-01 00:00 UTC", Go: runtime.Version(),
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Paddock = m
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				v.BuiltOn = t.UTC().Format("2006-01-02 15:04 UTC")
			}
		}
	}
	return v
}

// ZooKeeperText is the version in the form that ZooKeeper prints and that its
// tools parse: "3.9.5-<40 hex digits>, built on <time>".
func (v Version) ZooKeeperText() string {
	return fmt.Sprintf("%s-%s, built on %s", v.ZooKeeper, v.Revision, v.BuiltOn)
}

// String is the line that `paddock version` prints.
func (v Version) String() string {
	return fmt.Sprintf("paddock %s (%s, %s), compatible with ZooKeeper %s", v.Paddock, v.Revision[:min(12, len(v.Revision))], v.Go, v.ZooKeeper)
}
