package config

import (
	"encoding"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/paddockio/paddock/configsync"
)

// wants says what the text of a type has to be.
var wants = map[reflect.Type]string{
	reflect.TypeFor[time.Duration]():   "a duration such as 2s or 500ms",
	reflect.TypeFor[configsync.Mode](): "file permissions such as 0644",
	reflect.TypeFor[slog.Level]():      "debug, info, warn or error",
	reflect.TypeFor[netip.Addr]():      "an IP address",
	reflect.TypeFor[netip.Prefix]():    "a network such as 10.0.0.0/8",
}

func wanted(t reflect.Type) string {
	if w, ok := wants[t]; ok {
		return w
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	}
	return "text"
}

// units stand behind a number of bytes; without one it is a plain number.
var units = []struct {
	name  string
	shift uint
}{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}}

func parseNumber(s string, bits int) (int64, error) {
	digits, shift := s, uint(0)
	for _, u := range units {
		if d, ok := strings.CutSuffix(s, u.name); ok {
			digits, shift = strings.TrimSpace(d), u.shift
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, bits)
	if high := int64(math.MaxInt64 >> (64 - bits)); err == nil && shift > 0 && (n < 0 || n > high>>shift) {
		err = strconv.ErrRange
	}
	return n << shift, err
}

// formatNumber prints in the largest unit that divides n.
func formatNumber(n int64) string {
	for _, u := range units {
		if n > 0 && n%(1<<u.shift) == 0 {
			return strconv.FormatInt(n>>u.shift, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// parse sets v from text as the environment, flags and the plain scalars of YAML
// give it. The error says what is wanted.
func parse(text string, v reflect.Value) error {
	err := errNoText
	switch u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); {
	case v.Kind() == reflect.Slice: // the environment and flags separate by commas
		list := reflect.MakeSlice(v.Type(), 0, 0)
		for e := range strings.SplitSeq(text, ",") {
			if e = strings.TrimSpace(e); e == "" {
				continue
			}
			elem := reflect.New(v.Type().Elem()).Elem()
			if err := parse(e, elem); err != nil {
				return err
			}
			list = reflect.Append(list, elem)
		}
		v.Set(list)
		return nil
	case ok:
		err = u.UnmarshalText([]byte(text))
	case v.Type() == reflect.TypeFor[time.Duration]():
		var d time.Duration
		d, err = time.ParseDuration(text)
		v.SetInt(int64(d))
	case v.Kind() == reflect.String:
		v.SetString(text)
		return nil
	case v.Kind() == reflect.Bool && (text == "true" || text == "false"):
		v.SetBool(text == "true")
		return nil
	case v.CanInt():
		var n int64
		n, err = parseNumber(text, v.Type().Bits())
		v.SetInt(n)
	}
	if err != nil {
		return fmt.Errorf("wants %s, got %q", wanted(v.Type()), text)
	}
	return nil
}

var errNoText = fmt.Errorf("cannot be set by text")

// format is the reverse of parse, for defaults in help texts and flags.
func format(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case slog.Level:
		return strings.ToLower(x.String())
	case fmt.Stringer:
		return x.String()
	}
	switch {
	case v.Kind() == reflect.Slice:
		list := make([]string, v.Len())
		for i := range list {
			list[i] = format(v.Index(i))
		}
		return strings.Join(list, ",")
	case v.CanInt():
		return formatNumber(v.Int())
	}
	return fmt.Sprint(v.Interface())
}
