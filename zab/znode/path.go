package znode

import (
	"strings"
	"unicode/utf8"
)

// ValidPath reports whether a znode may have this path (class PathUtils):
// absolute, no slash at the end, no empty component, no "." or "..", only
// characters that ZooKeeper allows. It judges UTF-16 code units as Java does,
// so characters outside the basic plane are refused.
func ValidPath(path string) bool {
	if path == "/" {
		return true
	}
	if path == "" || path[0] != '/' {
		return false
	}
	start := 1
	for i := 1; i < len(path); i++ {
		switch c := path[i]; {
		case c == '/':
			if !validName(path[start:i]) {
				return false
			}
			start = i + 1
		case c < 0x20 || c == 0x7f:
			return false
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(path[i:])
			if !validRune(r, size) {
				return false
			}
			i += size - 1
		}
	}
	return validName(path[start:])
}

func validName(name string) bool { return name != "" && name != "." && name != ".." }

// validRune: Java decodes broken UTF-8 to U+FFFD, which is refused as well.
func validRune(r rune, size int) bool {
	switch {
	case r == utf8.RuneError && size <= 1,
		r >= 0x80 && r <= 0x9f,
		r >= 0xd800 && r <= 0xf8ff,
		r >= 0xfff0:
		return false
	}
	return true
}

// isSpecial reports whether path is one that cannot be deleted.
func isSpecial(path string) bool {
	switch path {
	case "/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config":
		return true
	}
	return false
}

func hasNUL(path string) bool { return strings.IndexByte(path, 0) >= 0 }
