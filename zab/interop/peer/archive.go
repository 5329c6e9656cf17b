//go:build interop

package peer

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var archives struct {
	sync.Mutex // held while one is made
	byKind     map[string][]string
}

// archived returns the arguments with which a JVM takes the classes of Apache's
// server from an archive: it then starts with less than half the work. The archive
// is made by a first server, an ensemble of one so that it loads what members
// load, and kept in the user's cache. Where that fails there are no arguments.
func archived(t testing.TB, kind, classpath string) []string {
	t.Helper()
	archives.Lock()
	defer archives.Unlock()
	if args, ok := archives.byKind[kind]; ok {
		return args
	}
	var args []string
	if file, err := archive(t, kind, classpath); err != nil {
		t.Logf("no archive of classes: %v", err)
	} else {
		// A JVM that cannot use it should not say so.
		args = []string{"-Xlog:disable", "-XX:SharedArchiveFile=" + file}
	}
	if archives.byKind == nil {
		archives.byKind = map[string][]string{}
	}
	archives.byKind[kind] = args
	return args
}

func archive(t testing.TB, kind, classpath string) (string, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return "", err
	}
	if java, err = filepath.EvalSymlinks(java); err != nil {
		return "", err
	}
	st, err := os.Stat(java)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %v %s", java, st.ModTime(), classpath))
	file := filepath.Join(cache, "paddock-interop", "peer", fmt.Sprintf("%x.jsa", sum[:8]))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	// Another package's tests may make it at the same time.
	made := fmt.Sprintf("%s.%d", file, os.Getpid())
	defer os.Remove(made)
	s := &Server{Kind: kind, Dir: t.TempDir(), Host: "127.0.0.1", Port: Port(t), Admin: Port(t), archiving: true}
	s.configure(t, []string{
		"-XX:ArchiveClassesAtExit=" + made, "standaloneEnabled=false", "initLimit=10", "syncLimit=5",
		fmt.Sprintf("server.1=127.0.0.1:%d:%d", Port(t), Port(t)),
	})
	if err := os.WriteFile(filepath.Join(s.Data(), "myid"), []byte("1\n"), 0o644); err != nil {
		return "", err
	}
	s.Restart(t)
	s.Term(t)
	return file, os.Rename(made, file)
}
