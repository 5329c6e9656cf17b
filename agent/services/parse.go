package services

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/paddockio/paddock/registry"
)

// An Error is one fault of a service file.
type Error struct {
	File string
	Line int    // from 1; 0: the file as a whole
	Key  string // services[1].checks[0].interval; "" if no key is at fault
	Err  error
}

// Error returns "file:line: key: what is wrong".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		b.WriteString(":" + strconv.Itoa(e.Line))
	}
	if e.Key != "" {
		b.WriteString(": " + e.Key)
	}
	b.WriteString(": " + e.Err.Error())
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Parse reads a service file, YAML or JSON: one "service" or a list of
// "services". file is its name, for errors. The result is complete and valid, or
// err joins an [Error] for each fault.
func Parse(file string, data []byte) ([]registry.Registration, error) {
	p := &parser{file: file}
	regs := p.document(data)
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return regs, nil
}

type parser struct {
	file string
	errs []error
}

func (p *parser) bad(line int, key, format string, args ...any) {
	p.errs = append(p.errs, &Error{p.file, line, key, fmt.Errorf(format, args...)})
}

func (p *parser) document(data []byte) []registry.Registration {
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc yaml.Node
	err := dec.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF) || err == nil && (doc.Kind == 0 || len(doc.Content) == 0):
		p.bad(0, "", "is empty; to deregister its services remove the file")
		return nil
	case err != nil:
		line, text := syntaxError(err, strings.Count(strings.TrimSuffix(string(data), "\n"), "\n")+1)
		p.bad(line, "", "%s", text)
		return nil
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		p.bad(second.Line, "", "holds more than one document")
		return nil
	}
	var regs []registry.Registration
	var lines []int
	add := func(n *yaml.Node, key string) {
		if reg, ok := p.service(n, key); ok {
			regs = append(regs, reg)
			lines = append(lines, n.Line)
		}
	}
	seen := ""
	p.mapping(doc.Content[0], "", map[string]func(*yaml.Node, string){
		"service": func(n *yaml.Node, key string) {
			seen += "s"
			add(n, key)
		},
		"services": func(n *yaml.Node, key string) {
			seen += "s"
			p.sequence(n, key, add)
		},
	})
	switch {
	case len(p.errs) > 0:
	case seen == "":
		p.bad(doc.Content[0].Line, "", "has neither service nor services; to deregister its services remove the file")
	case len(seen) > 1:
		p.bad(doc.Content[0].Line, "services", "and service exclude each other")
	}
	first := map[string]int{}
	for i, reg := range regs {
		id := reg.DefaultID()
		if line, ok := first[id]; ok {
			p.bad(lines[i], "id", "%q is that of line %d too; give one of them another id", id, line)
			continue
		}
		first[id] = lines[i]
	}
	return regs
}

// syntaxError takes the line out of "yaml: line 3: …". The parser, not the
// scanner, of the library counts lines from 0; its messages begin alike.
func syntaxError(err error, lines int) (line int, text string) {
	text = strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if n, msg, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(n); err == nil {
				if strings.HasPrefix(msg, "did not find expected") {
					line++
				}
				return min(line, lines), msg
			}
		}
	}
	return 0, text
}

// mapping calls the function of each key and refuses unknown and repeated ones.
func (p *parser) mapping(n *yaml.Node, key string, fields map[string]func(n *yaml.Node, key string)) {
	if n.Kind != yaml.MappingNode {
		p.bad(n.Line, key, "must be a mapping, is %s", kind(n))
		return
	}
	p.each(n, key, func(k, v *yaml.Node, key string) {
		f := fields[k.Value]
		if f == nil {
			p.bad(k.Line, key, "is no known key%s", guess(k.Value, fields))
			return
		}
		f(v, key)
	})
}

// each calls f for each pair of a mapping.
func (p *parser) each(n *yaml.Node, key string, f func(k, v *yaml.Node, key string)) {
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			p.bad(k.Line, key, "has a key that is %s", kind(k))
			continue
		}
		name := k.Value
		if key != "" {
			name = key + "." + name
		}
		if line, ok := lines[k.Value]; ok {
			p.bad(k.Line, name, "stands on line %d too", line)
			continue
		}
		lines[k.Value] = k.Line
		f(k, v, name)
	}
}

func (p *parser) sequence(n *yaml.Node, key string, f func(n *yaml.Node, key string)) {
	if n.Kind != yaml.SequenceNode {
		p.bad(n.Line, key, "must be a list, is %s", kind(n))
		return
	}
	for i, e := range n.Content {
		f(e, fmt.Sprintf("%s[%d]", key, i))
	}
}

// kind names what a node is, for errors. Aliases are refused everywhere: a few
// bytes of them can mean gigabytes.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias, which service files cannot have"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return "the boolean " + n.Value
	}
	return strconv.Quote(n.Value)
}

// guess proposes the known key that is meant, if one is near.
func guess(k string, fields map[string]func(*yaml.Node, string)) string {
	flat := func(s string) string {
		return strings.TrimSuffix(strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s)), "s")
	}
	for f := range fields {
		if flat(f) == flat(k) {
			return "; " + f + "?"
		}
	}
	return ""
}

// text stores a string. Any also takes numbers and booleans as they are
// written: version: 1.0 is a number to YAML, and not to whoever wrote it.
func (p *parser) text(dst *string, any bool) func(*yaml.Node, string) {
	return func(n *yaml.Node, key string) {
		switch {
		case n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" || n.ShortTag() != "!!str" && !any:
			p.bad(n.Line, key, "must be a string, is %s", kind(n))
		case n.Value == "":
			p.bad(n.Line, key, "is an empty string; leave the key out")
		default:
			*dst = n.Value
		}
	}
}

func (p *parser) number(dst *int) func(*yaml.Node, string) {
	return func(n *yaml.Node, key string) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || n.Decode(dst) != nil {
			p.bad(n.Line, key, "must be a whole number, is %s", kind(n))
		}
	}
}

func (p *parser) boolean(dst *bool) func(*yaml.Node, string) {
	return func(n *yaml.Node, key string) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(dst) != nil {
			p.bad(n.Line, key, "must be true or false, is %s", kind(n))
		}
	}
}

func (p *parser) duration(dst *registry.Duration) func(*yaml.Node, string) {
	return func(n *yaml.Node, key string) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
			p.bad(n.Line, key, "must be a duration like 500ms or 2s, is %s", kind(n))
			return
		}
		if err := dst.UnmarshalText([]byte(n.Value)); err != nil {
			p.bad(n.Line, key, "%w", err)
		} else if *dst == 0 {
			p.bad(n.Line, key, "is zero")
		}
	}
}

func (p *parser) texts(dst *map[string]string) func(*yaml.Node, string) {
	return func(n *yaml.Node, key string) {
		if n.Kind != yaml.MappingNode {
			p.bad(n.Line, key, "must be a mapping, is %s", kind(n))
			return
		}
		m := map[string]string{}
		p.each(n, key, func(k, v *yaml.Node, key string) {
			var s string
			p.text(&s, true)(v, key)
			m[k.Value] = s
		})
		*dst = m
	}
}

// service reads one service and reports whether it is without fault.
func (p *parser) service(n *yaml.Node, key string) (registry.Registration, bool) {
	before := len(p.errs)
	lines := map[string]int{} // of fields, for what Validate finds
	var reg registry.Registration
	var category string
	note := func(name string, f func(*yaml.Node, string)) func(*yaml.Node, string) {
		return func(n *yaml.Node, key string) {
			lines[name] = n.Line
			f(n, key)
		}
	}
	fields := map[string]func(*yaml.Node, string){
		"id":          p.text(&reg.ID, false),
		"name":        p.text(&reg.Name, false),
		"category":    p.text(&category, false),
		"protocol":    p.text(&reg.Protocol, false),
		"address":     p.text(&reg.Address, false),
		"port":        p.number(&reg.Port),
		"path":        p.text(&reg.Path, false),
		"application": p.text(&reg.App, false),
		"group":       p.text(&reg.Group, true),
		"version":     p.text(&reg.Version, true),
		"params":      p.texts(&reg.Params),
		"passing":     p.boolean(&reg.Passing),
		"checks": func(n *yaml.Node, key string) {
			p.sequence(n, key, func(n *yaml.Node, key string) {
				reg.Checks = append(reg.Checks, p.check(n, key, len(reg.Checks), lines))
			})
		},
	}
	for name, f := range fields {
		fields[name] = note(name, f)
	}
	p.mapping(n, key, fields)
	reg.Category = registry.Category(category)
	reg.Origin = p.file
	if len(p.errs) > before {
		return reg, false
	}
	if n.Kind == yaml.MappingNode {
		noteParams(n, lines)
	}
	for _, err := range unjoin(reg.Validate()) {
		var f *registry.FieldError
		if !errors.As(err, &f) {
			p.bad(n.Line, key, "%w", err)
			continue
		}
		line, ok := lines[f.Field]
		if !ok {
			line = n.Line
		}
		p.bad(line, key+"."+f.Field, "%w", f.Err)
	}
	return reg, len(p.errs) == before
}

// noteParams adds the lines of the parameters.
func noteParams(service *yaml.Node, lines map[string]int) {
	for i := 0; i+1 < len(service.Content); i += 2 {
		if service.Content[i].Value != "params" {
			continue
		}
		params := service.Content[i+1].Content
		for j := 0; j+1 < len(params); j += 2 {
			lines["params."+params[j].Value] = params[j].Line
		}
	}
}

func (p *parser) check(n *yaml.Node, key string, i int, lines map[string]int) registry.Check {
	var c registry.Check
	prefix := fmt.Sprintf("checks[%d]", i)
	fields := map[string]func(*yaml.Node, string){
		"tcp":             p.text(&c.TCP, false),
		"http":            p.text(&c.HTTP, false),
		"method":          p.text(&c.Method, false),
		"header":          p.texts(&c.Header),
		"tls_skip_verify": p.boolean(&c.SkipVerify),
		"interval":        p.duration(&c.Interval),
		"timeout":         p.duration(&c.Timeout),
		"rise":            p.number(&c.Rise),
		"fall":            p.number(&c.Fall),
	}
	for name, f := range fields {
		lines[prefix+"."+name] = n.Line
		fields[name] = func(v *yaml.Node, key string) {
			lines[prefix+"."+name] = v.Line
			f(v, key)
		}
	}
	p.mapping(n, key, fields)
	return c
}

// unjoin takes errors.Join apart.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}
