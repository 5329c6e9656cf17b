package config

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Options say where Load reads.
type Options struct {
	// File is the YAML file; "" is none.
	File string
	// Dev changes the defaults to those of -dev.
	Dev bool
	// Flags are those that AddFlags made, parsed; nil is none.
	Flags *pflag.FlagSet
}

// AddFlags adds a hidden flag for every scalar setting, named as its key.
func AddFlags(fs *pflag.FlagSet) {
	c := Default()
	for _, l := range leaves(reflect.ValueOf(&c).Elem(), "") {
		fs.String(l.key, format(l.value), "see agent.yaml")
		if err := fs.MarkHidden(l.key); err != nil {
			panic(err) // the flag was added one line above
		}
	}
}

// otherEnv are variables with our prefix that are read elsewhere.
var otherEnv = []string{"PADDOCK_CONFIG", "PADDOCK_HTTP", "PADDOCK_SERVER", "PADDOCK_OUTPUT", "PADDOCK_FILE"}

// Load reads, merges and checks all sources. The error is Errors with every
// fault of all of them; the Config is then not usable.
func Load(o Options) (Config, error) {
	c := Default()
	if o.Dev {
		c.dev()
	}
	c.File = o.File
	c.Name, _ = os.Hostname()
	l := loader{viper: viper.New(), from: map[string]position{}, flags: o.Flags}
	l.defaults(&c)
	if o.File != "" {
		l.file(&c, o.File)
	}
	l.environment(&c)
	l.zooCfg(&c, o.File)
	l.merge(&c)
	c.Warnings, c.from = l.warnings, l.from
	c.finish()
	if len(l.errs) > 0 {
		return c, append(l.errs, l.others(place(c.Validate(), l.from))...).err()
	}
	return c, place(c.Validate(), l.from)
}

// others are the faults of sections in which all values could be read: where one
// could not, the default in its place may cause more.
func (l *loader) others(err error) Errors {
	unread := map[string]bool{}
	for _, e := range l.errs {
		unread[section(e.Key)] = true
	}
	return slices.DeleteFunc(faults(err, ""), func(e *Error) bool { return e.File == "" || unread[section(e.Key)] })
}

// section is the first part of the name of a setting, of its flag or of its
// variable.
func section(key string) string {
	name, ok := strings.CutPrefix(key, "PADDOCK_")
	if ok {
		name, _, _ = strings.Cut(strings.ToLower(name), "_")
	}
	name, _, _ = strings.Cut(strings.TrimLeft(name, "-"), ".")
	name, _, _ = strings.Cut(name, "[")
	return name
}

// loader is the state of one Load.
type loader struct {
	viper    *viper.Viper
	flags    *pflag.FlagSet
	from     map[string]position // setting → where its value stands
	warnings []string
	errs     Errors
}

func (l *loader) defaults(c *Config) {
	for _, f := range leaves(reflect.ValueOf(c).Elem(), "") {
		l.viper.SetDefault(f.key, f.value.Interface())
	}
}

// file decodes the YAML file by the types of the fields, since viper neither
// knows lines nor refuses anything, and gives viper the typed values to merge.
func (l *loader) file(c *Config, name string) {
	data, err := readFile(name)
	if err != nil {
		l.errs = append(l.errs, &Error{File: name, Msg: err.Error()})
		return
	}
	values := map[string]any{}
	d := document{file: name, lines: map[string]int{}, leaf: func(key string, v reflect.Value) {
		if !strings.Contains(key, "[") { // elements of lists come with the list
			insert(values, strings.Split(key, "."), v.Interface())
		}
	}}
	scratch := *c
	if root := d.root(data); root != nil {
		d.decode(root, reflect.ValueOf(&scratch).Elem(), "")
	}
	l.errs = append(l.errs, d.errs...)
	c.ConfigSync = scratch.ConfigSync
	c.Text = withoutSecrets(string(data), scratch.Zab.Server.Znode.SuperDigest)
	for key, line := range d.lines {
		l.from[key] = position{name, line, key}
	}
	if err := l.viper.MergeConfigMap(values); err != nil {
		l.errs = append(l.errs, &Error{File: name, Msg: err.Error()})
	}
}

// withoutSecrets returns the text of a file with the lines left out that name a
// secret, or have the super digest in them.
func withoutSecrets(text, superDigest string) string {
	_, hash, _ := strings.Cut(superDigest, ":")
	hash = strings.TrimRight(hash, "=") // which Java's properties may escape
	var b strings.Builder
	for line := range strings.Lines(text) {
		lower := strings.ToLower(line)
		if hash != "" && strings.Contains(line, hash) || slices.ContainsFunc(
			[]string{"superdigest", "super_digest", "password", "secret"}, func(w string) bool { return strings.Contains(lower, w) }) {
			line = "# left out: a secret\n"
		}
		b.WriteString(line)
	}
	if unfolded := strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "", "\\", "").Replace(b.String()); hash != "" && strings.Contains(unfolded, hash) {
		return "" // it goes over several lines
	}
	return b.String()
}

func insert(m map[string]any, path []string, v any) {
	for _, p := range path[:len(path)-1] {
		sub, ok := m[p].(map[string]any)
		if !ok {
			sub = map[string]any{}
			m[p] = sub
		}
		m = sub
	}
	m[path[len(path)-1]] = v
}

// environment binds variables and flags, and notes what they override.
func (l *loader) environment(c *Config) {
	l.viper.AllowEmptyEnv(true) // PADDOCK_DNS_LISTEN= switches DNS off
	known := map[string]bool{}
	for _, f := range leaves(reflect.ValueOf(c).Elem(), "") {
		known[f.env()] = true
		_ = l.viper.BindEnv(f.key, f.env()) // fails without a key only
		if _, ok := os.LookupEnv(f.env()); ok {
			l.from[f.key] = position{file: "environment", key: f.env()}
		}
		if l.flags == nil {
			continue
		}
		if flag := l.flags.Lookup(f.key); flag != nil && flag.Changed {
			_ = l.viper.BindPFlag(f.key, flag) // fails for a nil flag only
			l.from[f.key] = position{file: "flag", key: "-" + f.key}
		}
	}
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, envPrefix) && !known[name] && !slices.Contains(otherEnv, name) {
			// Not an error: Kubernetes makes variables PADDOCK_… for a service
			// that is called paddock.
			l.warnings = append(l.warnings, "environment: "+name+": no such setting")
		}
	}
	slices.Sort(l.warnings)
}

// zooCfg reads the zoo.cfg that the other sources name, as defaults.
func (l *loader) zooCfg(c *Config, file string) {
	name := l.viper.GetString("zab.zoo_cfg")
	if name == "" {
		return
	}
	at := l.from["zab.zoo_cfg"]
	if !filepath.IsAbs(name) && at.file == file {
		name = filepath.Join(filepath.Dir(file), name)
	}
	z, err := ReadZooCfg(name)
	l.errs = append(l.errs, faults(err, name)...)
	if z == nil {
		return
	}
	l.warnings = append(l.warnings, z.Warnings...)
	for key, v := range z.settings {
		l.viper.SetDefault(key, v)
		if _, ok := l.from[key]; !ok {
			l.from[key] = z.from[key]
		}
	}
}

// merge takes what viper made of it into c.
func (l *loader) merge(c *Config) {
	for _, f := range leaves(reflect.ValueOf(c).Elem(), "") {
		v := l.viper.Get(f.key)
		if v == nil {
			continue
		}
		text, isText := v.(string)
		if isText && f.value.Type() != reflect.TypeFor[string]() {
			if err := parse(text, f.value); err != nil {
				at := l.from[f.key]
				l.errs = append(l.errs, &Error{at.file, at.line, cmp.Or(at.key, f.key), err.Error()})
			}
			continue
		}
		f.value.Set(reflect.ValueOf(v).Convert(f.value.Type()))
	}
}

// finish derives the defaults that depend on other settings.
func (c *Config) finish() {
	if c.DNS.Domain != "" && !strings.HasSuffix(c.DNS.Domain, ".") {
		c.DNS.Domain += "."
	}
}

// place adds to the faults of Validate where each setting was made.
func place(err error, from map[string]position) error {
	errs := faults(err, "")
	for _, e := range errs {
		for key := e.Key; key != ""; key = parentKey(key) {
			at, ok := from[key]
			if !ok {
				continue // a default in a list: its element has a line
			}
			e.File, e.Line = at.file, at.line
			if key == e.Key {
				e.Key = at.key
			}
			break
		}
	}
	return errs.err()
}

func parentKey(key string) string {
	return key[:max(strings.LastIndexByte(key, '.'), strings.LastIndexByte(key, '['), 0)]
}

// Where names a setting as the user knows it, with its place if it has one:
// zab.client_listen, clientPort in zoo.cfg:3.
func (c Config) Where(key string) string {
	at, ok := c.from[key]
	switch {
	case !ok:
		return key + " in the file, or -" + key
	case at.line == 0:
		return at.key
	}
	return fmt.Sprintf("%s in %s:%d", at.key, at.file, at.line)
}

// Lines returns "key=value" for every scalar setting, sorted, for a log or a
// state dump. Secrets are left out.
func (c Config) Lines() []string {
	m := map[string]string{}
	for _, l := range leaves(reflect.ValueOf(&c).Elem(), "") {
		m[l.key] = format(l.value)
	}
	if m["zab.super_digest"] != "" {
		m["zab.super_digest"] = "(set)"
	}
	lines := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, fmt.Sprintf("%s=%s", k, m[k]))
	}
	return lines
}
