package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes bounds every file that is read here.
const maxFileBytes = 1 << 20

// document is one YAML file while it is being decoded.
type document struct {
	file  string
	lines map[string]int // key → line, of every key that was read
	errs  Errors
	// leaf, if not nil, is called for every setting that was read.
	leaf func(key string, v reflect.Value)
}

func (d *document) fail(n *yaml.Node, key, format string, args ...any) {
	d.errs = append(d.errs, &Error{d.file, n.Line, key, fmt.Sprintf(format, args...)})
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// root parses data and returns its only document, nil if there is none.
func (d *document) root(data []byte) *yaml.Node {
	if len(data) > maxFileBytes {
		d.errs = append(d.errs, &Error{File: d.file, Msg: fmt.Sprintf("has %d bytes, more than %d", len(data), maxFileBytes)})
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if err == nil {
		if err2 := dec.Decode(&second); err2 == nil {
			d.fail(&second, "", "a second document; only one is read")
		} else if !errors.Is(err2, io.EOF) {
			err = err2
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		e := &Error{File: d.file, Msg: strings.TrimPrefix(err.Error(), "yaml: ")}
		if m := yamlLine.FindStringSubmatch(e.Msg); m != nil {
			e.Line, _ = strconv.Atoi(m[1])
			e.Msg = strings.Replace(e.Msg, m[0], "", 1)
		}
		d.errs = append(d.errs, e)
		return nil
	}
	if len(doc.Content) == 0 || isNull(doc.Content[0]) {
		return nil
	}
	return doc.Content[0]
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// decode sets v from n, and reports what does not fit.
func (d *document) decode(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind == yaml.AliasNode {
		d.fail(n, key, "anchors and aliases are not supported: write the value out")
		return
	}
	_, isText := v.Addr().Interface().(encoding.TextUnmarshaler)
	switch {
	case isSection(v.Type()):
		d.decodeSection(n, v, key)
	case v.Kind() == reflect.Slice && !(isText && n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str"):
		d.decodeList(n, v, key)
	default:
		d.decodeScalar(n, v, key)
	}
}

func (d *document) decodeSection(n *yaml.Node, v reflect.Value, key string) {
	if isNull(n) {
		return // "zab:" with every line under it commented out
	}
	known := map[string]reflect.Value{}
	for _, f := range fields(v) {
		known[f.key] = f.value
	}
	d.pairs(n, key, func(k, value *yaml.Node, full string) {
		if f, ok := known[k.Value]; ok {
			d.lines[full] = k.Line
			d.decode(value, f, full)
			return
		}
		msg := "unknown key"
		if near := nearest(k.Value, known); near != "" {
			msg += "; did you mean " + near + "?"
		}
		d.fail(k, full, "%s", msg)
	})
}

// pairs calls f for each key of n, a mapping.
func (d *document) pairs(n *yaml.Node, key string, f func(k, value *yaml.Node, full string)) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, key, "wants keys and values, got %s", describe(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			d.fail(k, key, "a key must be plain text")
			continue
		}
		full := k.Value
		if key != "" {
			full = key + "." + k.Value
		}
		if line, ok := seen[k.Value]; ok {
			d.fail(k, full, "is set twice, first in line %d", line)
			continue
		}
		seen[k.Value] = k.Line
		f(k, value, full)
	}
}

func (d *document) decodeList(n *yaml.Node, v reflect.Value, key string) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(n, key, "wants a list, got %s", describe(n))
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, e := range n.Content {
		full := fmt.Sprintf("%s[%d]", key, i)
		d.lines[full] = e.Line
		d.decode(e, list.Index(i), full)
	}
	v.Set(list)
	d.read(key, v)
}

func (d *document) decodeScalar(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.fail(n, key, "wants %s, got %s", wanted(v.Type()), describe(n))
		return
	}
	if v.Kind() == reflect.String && n.ShortTag() != "!!str" {
		d.fail(n, key, "wants text, got %s; write %q", describe(n), n.Value)
		return
	}
	if err := parse(n.Value, v); err != nil {
		d.fail(n, key, "wants %s, got %s", wanted(v.Type()), describe(n))
		return
	}
	d.read(key, v)
}

func (d *document) read(key string, v reflect.Value) {
	if d.leaf != nil {
		d.leaf(key, v)
	}
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return "the truth value " + n.Value
	case "!!timestamp":
		return "the date " + n.Value
	}
	return fmt.Sprintf("%q", n.Value)
}

// nearest returns the field that was probably meant by key, or "".
func nearest(key string, fields map[string]reflect.Value) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(s))
	}
	best, bestCost := "", 3 // at most two edits away
	for f := range fields {
		if cost := distance(plain(key), plain(f)); cost < bestCost || cost == bestCost && best != "" && f < best {
			best, bestCost = f, cost
		}
	}
	return best
}

// distance is the number of single-character edits between two short texts.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
