package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/paddockio/paddock/configsync"
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
	switch {
	case v.Kind() == reflect.Struct:
		d.decodeStruct(n, v, key)
	case isStructList(v.Type()):
		d.decodeList(n, v, key)
	case v.Type() == reflect.TypeFor[configsync.Command]() && n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str":
		v.Set(reflect.ValueOf(configsync.ShellCommand(n.Value)))
	case v.Kind() == reflect.Slice:
		d.decodeTexts(n, v, key)
	default:
		d.decodeScalar(n, v, key)
	}
}

func (d *document) decodeStruct(n *yaml.Node, v reflect.Value, key string) {
	if isNull(n) {
		return // "zab:" with every line under it commented out
	}
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		if k := fieldKey(v.Type().Field(i)); k != "-" {
			fields[k] = v.Field(i)
		}
	}
	d.pairs(n, key, func(k, value *yaml.Node, full string) {
		if f, ok := fields[k.Value]; ok {
			d.lines[full] = k.Line
			d.decode(value, f, full)
			return
		}
		msg := "unknown key"
		if near := nearest(k.Value, fields); near != "" {
			msg += "; did you mean " + near + "?"
		}
		d.fail(k, full, "%s", msg)
	})
}

// fieldKey is the key of a field, "-" for one that no source sets.
func fieldKey(f reflect.StructField) string { return f.Tag.Get("key") }

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
		elem := list.Index(i)
		d.lines[fmt.Sprintf("%s[%d]", key, i)] = e.Line
		d.decode(e, elem, fmt.Sprintf("%s[%d]", key, i))
	}
	v.Set(list)
	d.read(key, v)
}

func (d *document) decodeTexts(n *yaml.Node, v reflect.Value, key string) {
	list := []string{}
	if !isNull(n) {
		if n.Kind != yaml.SequenceNode {
			d.fail(n, key, "wants a list, got %s", describe(n))
			return
		}
		for i, e := range n.Content {
			if e.Kind != yaml.ScalarNode || e.ShortTag() != "!!str" {
				d.fail(e, fmt.Sprintf("%s[%d]", key, i), "wants text, got %s", describe(e))
				continue
			}
			d.lines[fmt.Sprintf("%s[%d]", key, i)] = e.Line
			list = append(list, e.Value)
		}
	}
	v.Set(reflect.ValueOf(list).Convert(v.Type()))
	d.read(key, v)
}

func (d *document) decodeScalar(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.fail(n, key, "wants %s, got %s", kindOf(v), describe(n))
		return
	}
	tag := n.ShortTag()
	fits := true
	switch kindOf(v) {
	case "text":
		fits = tag == "!!str"
	case "true or false":
		fits = tag == "!!bool" && (n.Value == "true" || n.Value == "false")
	case "a whole number":
		fits = tag == "!!int"
	case "a duration such as 2s":
		fits = tag == "!!str" || n.Value == "0"
	}
	if !fits {
		hint := ""
		if kindOf(v) == "text" {
			hint = fmt.Sprintf("; write %q", n.Value)
		}
		d.fail(n, key, "wants %s, got %s%s", kindOf(v), describe(n), hint)
		return
	}
	if err := parse(n.Value, v); err != nil {
		d.fail(n, key, "%v", err)
		return
	}
	d.read(key, v)
}

func (d *document) read(key string, v reflect.Value) {
	if d.leaf != nil {
		d.leaf(key, v)
	}
}

func kindOf(v reflect.Value) string {
	switch t := v.Type().String(); {
	case t == "time.Duration":
		return "a duration such as 2s"
	case t == "config.Size":
		return "a size such as 64MiB"
	case t == "configsync.Mode":
		return "file permissions such as 0644"
	case t == "slog.Level":
		return "debug, info, warn or error"
	}
	switch v.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	}
	return "text"
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
