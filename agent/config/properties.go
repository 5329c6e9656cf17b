package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
)

// A property is one key of a Java properties file.
type property struct {
	key, value string
	line       int // where it starts, from 1
}

// parseProperties reads the syntax of java.util.Properties: comments with # and
// !, the separators = and : and blank, continued lines, backslash escapes. Both
// sides are trimmed, as QuorumPeerConfig does. Text is taken as UTF-8, where
// Java reads Latin-1.
func parseProperties(file string, data []byte) (list []property, errs Errors) {
	if len(data) > maxFileBytes {
		return nil, Errors{{File: file, Msg: fmt.Sprintf("has %d bytes, more than %d", len(data), maxFileBytes)}}
	}
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		first := i + 1
		line := strings.TrimLeft(lines[i], " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		var logical strings.Builder
		for continued(line) {
			logical.WriteString(line[:len(line)-1])
			line = ""
			if i++; i < len(lines) {
				line = strings.TrimLeft(lines[i], " \t\f")
			}
		}
		logical.WriteString(line)
		rawKey, rawValue := splitProperty(logical.String())
		key, err := unescape(rawKey)
		if err == nil && strings.TrimSpace(key) == "" {
			err = fmt.Errorf("no key in front of %q", rawValue)
		}
		if err != nil {
			errs = append(errs, &Error{File: file, Line: first, Msg: err.Error()})
			continue
		}
		value, err := unescape(rawValue)
		if err != nil {
			errs = append(errs, &Error{File: file, Line: first, Key: key, Msg: err.Error()})
			continue
		}
		list = append(list, property{strings.TrimSpace(key), strings.TrimSpace(value), first})
	}
	return list, errs
}

// continued reports whether the next line belongs to this one: it ends in an odd
// number of backslashes.
func continued(line string) bool {
	n := 0
	for n < len(line) && line[len(line)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// splitProperty cuts a line at its separator: the first =, : or blank that is not
// escaped; blanks around one = or : belong to it.
func splitProperty(line string) (key, value string) {
	end := 0
	for end < len(line) && !strings.ContainsRune("=: \t\f", rune(line[end])) {
		if line[end] == '\\' {
			end++
		}
		end++
	}
	end = min(end, len(line))
	key, value = line[:end], strings.TrimLeft(line[end:], " \t\f")
	if value != "" && (value[0] == '=' || value[0] == ':') {
		value = strings.TrimLeft(value[1:], " \t\f")
	}
	return key, value
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			r, err := hex4(s, i+1)
			if err != nil {
				return "", err
			}
			i += 4
			if utf16.IsSurrogate(r) && strings.HasPrefix(s[i+1:], `\u`) {
				if low, err := hex4(s, i+3); err == nil {
					if pair := utf16.DecodeRune(r, low); pair != '\uFFFD' {
						r, i = pair, i+6
					}
				}
			}
			b.WriteRune(r)
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}

func hex4(s string, at int) (rune, error) {
	if at+4 <= len(s) {
		if n, err := strconv.ParseUint(s[at:at+4], 16, 16); err == nil {
			return rune(n), nil
		}
	}
	return 0, fmt.Errorf(`\u wants four hex digits in %q`, s)
}
