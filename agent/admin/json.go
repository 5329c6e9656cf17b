package admin

import (
	"bytes"
	"encoding/json"
	"strings"
)

// A field is one member of a JSON object whose order matters.
type field struct {
	name  string
	value any // object, []any, or what encoding/json writes on one line
}

type object []field

// appendJackson writes v as Apache's AdminServer does: two spaces, " : " behind
// names, [ ] and { } for what is empty. Tools that compare text find it equal.
func appendJackson(b *bytes.Buffer, v any, depth int) {
	pad := strings.Repeat("  ", depth)
	switch v := v.(type) {
	case object:
		if len(v) == 0 {
			b.WriteString("{ }")
			return
		}
		b.WriteString("{\n")
		for i, f := range v {
			b.WriteString(pad + "  ")
			writeValue(b, f.name)
			b.WriteString(" : ")
			appendJackson(b, f.value, depth+1)
			if i < len(v)-1 {
				b.WriteByte(',')
			}
			b.WriteByte('\n')
		}
		b.WriteString(pad + "}")
	case []any:
		if len(v) == 0 {
			b.WriteString("[ ]")
			return
		}
		b.WriteString("[ ")
		for i, e := range v {
			appendJackson(b, e, depth)
			if i < len(v)-1 {
				b.WriteString(", ")
			}
		}
		b.WriteString(" ]")
	default:
		writeValue(b, v)
	}
}

func writeValue(b *bytes.Buffer, v any) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		b.WriteString("null") // only ever strings, numbers and booleans
		return
	}
	b.Truncate(b.Len() - 1) // the line feed
}
