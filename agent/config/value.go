package config

import (
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/paddockio/paddock/configsync"
)

// A Size is a number of bytes; in files a number, or a number with KiB, MiB, GiB
// or TiB behind it.
type Size int64

var sizeUnits = []struct {
	name  string
	shift uint
}{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}}

// ParseSize reads a size.
func ParseSize(s string) (Size, error) {
	digits, shift := s, uint(0)
	for _, u := range sizeUnits {
		if d, ok := strings.CutSuffix(s, u.name); ok {
			digits, shift = strings.TrimSpace(d), u.shift
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("wants a size in bytes such as 64MiB, got %q", s)
	}
	return Size(n << shift), nil
}

// String prints the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s > 0 && u.shift > 0 && s%(1<<u.shift) == 0 {
			return strconv.FormatInt(int64(s>>u.shift), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// parse sets v, a scalar field, from text as the environment, flags, zoo.cfg and
// the plain scalars of YAML give it. The error says what is wanted.
func parse(text string, v reflect.Value) error {
	switch v.Interface().(type) {
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("wants a duration such as 2s or 500ms, got %q", text)
		}
		v.SetInt(int64(d))
		return nil
	case Size:
		s, err := ParseSize(text)
		v.SetInt(int64(s))
		return err
	case configsync.Mode:
		m, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
		if err != nil || m > 0o777 {
			return fmt.Errorf("wants file permissions such as 0644, got %q", text)
		}
		v.SetUint(m)
		return nil
	case slog.Level:
		for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
			if strings.EqualFold(text, l.String()) {
				v.SetInt(int64(l))
				return nil
			}
		}
		return fmt.Errorf("wants debug, info, warn or error, got %q", text)
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("wants true or false, got %q", text)
		}
		v.SetBool(text == "true")
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("wants a whole number, got %q", text)
		}
		v.SetInt(n)
	case reflect.Slice: // of text: the environment and flags separate by commas
		list := []string{}
		for e := range strings.SplitSeq(text, ",") {
			if e = strings.TrimSpace(e); e != "" {
				list = append(list, e)
			}
		}
		v.Set(reflect.ValueOf(list))
	default:
		return fmt.Errorf("cannot be set by text") // not reached: only leaves get here
	}
	return nil
}

// format is the reverse of parse, for defaults in help texts and flags.
func format(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case []string:
		return strings.Join(x, ",")
	case slog.Level:
		return strings.ToLower(x.String())
	}
	return fmt.Sprint(v.Interface())
}

// A leaf is one setting: a field that is not a struct or a list of structs.
type leaf struct {
	key   string // zab.tick_time
	value reflect.Value
}

// env is the name of the leaf's environment variable.
func (l leaf) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(l.key, ".", "_"))
}

const envPrefix = "PADDOCK_"

// leaves lists the settings below v, a struct, in the order of its fields.
func leaves(v reflect.Value, prefix string) []leaf {
	var list []leaf
	for i := range v.NumField() {
		key := fieldKey(v.Type().Field(i))
		if key == "-" {
			continue
		}
		f := v.Field(i)
		switch {
		case f.Kind() == reflect.Struct:
			list = append(list, leaves(f, prefix+key+".")...)
		case isStructList(f.Type()):
			// Elements have no fixed key: only a file can give them.
		default:
			list = append(list, leaf{prefix + key, f})
		}
	}
	return list
}

func isStructList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}
