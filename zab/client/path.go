package client

import (
	"fmt"
	"strings"

	"github.com/paddockio/paddock/zab/wire"
)

// checkPath refuses what no znode is called, with the reason, which servers do
// not tell. The rules about single characters are left to them. The name of a
// sequential znode may be empty: "/queue/" becomes "/queue/0000000000".
func checkPath(path string, sequential bool) error {
	switch {
	case path == "" || path[0] != '/':
		return fmt.Errorf("path does not begin with a slash: %w", wire.ErrBadArguments)
	case path == "/":
		return nil
	case path[len(path)-1] == '/' && !sequential:
		return fmt.Errorf("path ends in a slash: %w", wire.ErrBadArguments)
	case strings.IndexByte(path, 0) >= 0:
		return fmt.Errorf("path has a null character: %w", wire.ErrBadArguments)
	}
	if sequential {
		path = strings.TrimSuffix(path, "/")
	}
	for name := range strings.SplitSeq(path[1:], "/") {
		if name == "" || name == "." || name == ".." {
			return fmt.Errorf("path has a component %q: %w", name, wire.ErrBadArguments)
		}
	}
	return nil
}

// full returns the server's name of a path.
func (c *Client) full(path string) string {
	switch {
	case c.chroot == "":
		return path
	case path == "/":
		return c.chroot
	}
	return c.chroot + path
}

// strip is the inverse of full; false if the path is not below the chroot.
func (c *Client) strip(path string) (string, bool) {
	if c.chroot == "" {
		return path, true
	}
	rest, ok := strings.CutPrefix(path, c.chroot)
	switch {
	case !ok || rest != "" && rest[0] != '/':
		return path, false
	case rest == "":
		return "/", true
	}
	return rest, true
}

// parent returns the path above path; "" above "/" and what is no path.
func parent(path string) string {
	switch i := strings.LastIndexByte(path, '/'); {
	case i > 0:
		return path[:i]
	case i == 0 && path != "/":
		return "/"
	}
	return ""
}
