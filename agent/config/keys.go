package config

import (
	"encoding"
	"reflect"
	"strings"
	"unicode"
)

// exceptions are the fields that are not called as [snake] makes it of their
// name: "" is a struct whose fields belong to the section it stands in, "-" is
// no setting. A * stands for all fields of a struct that are not named.
var exceptions = map[string]string{
	"config.Config.ConfigSync": "configsync",
	"config.Config.Dev":        "-",
	"config.Config.File":       "-",
	"config.Config.Text":       "-",
	"config.Config.Warnings":   "-",

	"config.Zab.Client":            "",
	"client.Config.*":              "-",
	"client.Config.Servers":        "connect",
	"client.Config.SessionTimeout": "session_timeout",

	"config.Zab.Server":                  "",
	"server.Config.Listen":               "client_listen",
	"server.Config.Version":              "-",
	"server.Config.InitialConfig":        "-",
	"server.Config.Storage":              "",
	"storage.Config.ServerID":            "-", // the id of the server
	"storage.Config.Znode":               "-", // that of the server
	"storage.Config.Foreground":          "-", // for simulations
	"server.Config.QuorumListenOnAllIPs": "quorum_listen_on_all_ips",
	"server.Config.Znode":                "",
	"znode.Config.LocalSessions":         "-", // only in an ensemble
	"znode.Config.MaxTxnBytes":           "-", // follows from max_buffer

	"config.Bootstrap.Config":     "",
	"bootstrap.Config.Name":       "-", // that of the agent
	"bootstrap.Config.Role":       "-", // zab.role
	"bootstrap.Config.ID":         "-", // zab.id
	"bootstrap.Config.ClientAddr": "-", // zab.client_listen
	"bootstrap.Config.DataDir":    "-", // those of the server
	"bootstrap.Config.LogDir":     "-",
	"bootstrap.Config.MustExist":  "-",
	"bootstrap.Config.Pace":       "-", // for tests

	"config.Registry.Config":   "",
	"registry.Config.Dir":      "-",
	"registry.Config.Agent":    "-", // the name of the agent
	"registry.Config.Sources":  "-",
	"config.Registry.Services": "",
	"services.Config.*":        "-",
	"services.Config.Dir":      "services_dir",
}

// A field is a place for a setting, or for a section of them.
type field struct {
	key   string
	value reflect.Value
}

// fields lists what v, a struct, has for a source to set, in its order. What
// only code can give (functions, interfaces, pointers) is no setting.
func fields(v reflect.Value) []field {
	var list []field
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		key, ok := exceptions[t.String()+"."+f.Name]
		if !ok {
			key, ok = exceptions[t.String()+".*"]
		}
		switch {
		case ok && key == "":
			list = append(list, fields(v.Field(i))...)
			continue
		case key == "-" || !f.IsExported():
			continue
		case !ok:
			key = snake(f.Name)
		}
		switch f.Type.Kind() {
		case reflect.Func, reflect.Interface, reflect.Pointer:
		default:
			list = append(list, field{key, v.Field(i)})
		}
	}
	return list
}

// snake makes a key of a name: TickTime is tick_time, UDPSize is udp_size.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			before, after := rune(name[i-1]), rune(0)
			if i+1 < len(name) {
				after = rune(name[i+1])
			}
			if unicode.IsLower(before) || unicode.IsLower(after) {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// A leaf is one setting: a field that is not a section or a list of sections.
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
	for _, f := range fields(v) {
		switch {
		case isSection(f.value.Type()):
			list = append(list, leaves(f.value, prefix+f.key+".")...)
		case isSectionList(f.value.Type()):
			// Elements have no fixed key: only a file can give them.
		default:
			list = append(list, leaf{prefix + f.key, f.value})
		}
	}
	return list
}

// isSection reports whether a type is keys and values in a file, not one text.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func isSectionList(t reflect.Type) bool { return t.Kind() == reflect.Slice && isSection(t.Elem()) }
