package configsync

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

const (
	// stagingName is the directory beside the files where new ones are made. It
	// is hidden so that no "include *.conf" finds what is in it.
	stagingName = ".paddock"
	// dataName holds the data of a znode that has children: its own name is a
	// directory's.
	dataName = "_data"

	maxNameBytes = 255  // NAME_MAX of every file system we care for
	maxRelBytes  = 2048 // leaves room for the target's own path in PATH_MAX
	maxDepth     = 64
)

// checkName reports why a znode's name cannot be a file's name.
func checkName(name string) error {
	switch {
	case name == "", name == ".", name == "..":
		return fmt.Errorf("name %q is no file name", name)
	case len(name) > maxNameBytes:
		return fmt.Errorf("name of %d bytes is longer than %d", len(name), maxNameBytes)
	case name == stagingName, name == dataName:
		return fmt.Errorf("name %q is used by the mirror itself", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("name %q is not UTF-8", name)
	}
	for _, r := range name {
		// Control characters are legal on most file systems and a trap in every
		// tool that prints or splits names.
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '/' || r == filepath.Separator {
			return fmt.Errorf("name %q has a character that file names must not have", name)
		}
	}
	return nil
}

// fileName maps the path of a znode below a tree's root ("a/b", "" is the root
// itself) to the path of the file below the target's directory. A znode with
// children (inner) is a directory, and its data the file _data in it. Different
// znodes have different files, and no file is outside the directory.
func fileName(rel string, inner bool) (string, error) {
	if rel == "" {
		// A root without children counts as a tree that is empty, so that only an
		// inner root has a file.
		return dataName, nil
	}
	parts := strings.Split(rel, "/")
	if len(parts) > maxDepth {
		return "", fmt.Errorf("%d levels are more than %d", len(parts), maxDepth)
	}
	for _, p := range parts {
		if err := checkName(p); err != nil {
			return "", err
		}
	}
	name := filepath.Join(parts...)
	if inner {
		name = filepath.Join(name, dataName)
	}
	if len(name) > maxRelBytes {
		return "", fmt.Errorf("path of %d bytes is longer than %d", len(name), maxRelBytes)
	}
	if !filepath.IsLocal(name) {
		return "", errors.New("path leads out of the directory") // device names of other systems
	}
	return name, nil
}

// checkZnodePath reports why from cannot be mirrored.
func checkZnodePath(from string) error {
	switch {
	case !strings.HasPrefix(from, "/"):
		return fmt.Errorf("from %q must begin with /", from)
	case from == "/", from == "/zookeeper", strings.HasPrefix(from, "/zookeeper/"):
		return fmt.Errorf("from %q holds ZooKeeper's own znodes", from)
	case strings.HasSuffix(from, "/"):
		return fmt.Errorf("from %q must not end with /; a tree is chosen by `to` or by tree: true", from)
	case strings.ContainsRune(from, 0), !utf8.ValidString(from):
		return fmt.Errorf("from %q is no path of a znode", from)
	}
	for p := range strings.SplitSeq(from[1:], "/") {
		if p == "" || p == "." || p == ".." {
			return fmt.Errorf("from %q is no path of a znode", from)
		}
	}
	return nil
}
