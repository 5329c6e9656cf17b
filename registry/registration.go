package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Category is a directory below a service. The zero value means Providers.
type Category string

// The categories that this agent writes.
const (
	Providers Category = "providers"
	Consumers Category = "consumers"
)

// configurators is read, never written.
const configurators Category = "configurators"

// A Registration says what shall stand in the tree for as long as this agent
// runs and the checks pass. It describes one provider, or one consumer, of one
// service.
type Registration struct {
	// ID names the registration on this agent. Default: name:port, followed by
	// :version and :group if they are set; "consumer:" and the same for a consumer.
	ID string `json:"id,omitempty"`
	// Name is the interface, or any plain name for what is not Dubbo.
	Name string `json:"name"`
	// Category is Providers or Consumers. Default Providers.
	Category Category `json:"category,omitempty"`
	// Protocol is dubbo, tri, http, … Default dubbo; consumer for a consumer.
	Protocol string `json:"protocol,omitempty"`
	// Address is a host name or an IP address. Default: what the agent advertises.
	Address string `json:"address,omitempty"`
	// Port is required for providers.
	Port int `json:"port,omitempty"`
	// Path is the path of the URL. Default: Name.
	Path string `json:"path,omitempty"`
	// App is the parameter application. Default: Name.
	App string `json:"application,omitempty"`
	// Group and Version are parameters too; "" leaves them out.
	Group   string `json:"group,omitempty"`
	Version string `json:"version,omitempty"`
	// Params are further parameters of the URL. They win over the defaults that the
	// agent fills in, but may not contradict the fields above.
	Params map[string]string `json:"params,omitempty"`
	// Checks must all pass for the registration to stand. None: always healthy.
	Checks []Check `json:"checks,omitempty"`
	// Passing is the health before the first results of the checks: true registers
	// at once. Default false: what was never seen healthy is not offered. A znode
	// that a former process of this agent left stays until a check fails, either way.
	Passing bool `json:"passing,omitempty"`
	// Origin is for people: the file that says so. A change of it changes nothing.
	Origin string `json:"-"`
}

// A Check probes a service from this host. Exactly one of TCP and HTTP is set.
type Check struct {
	// TCP is host:port; the check passes if a connection can be made.
	TCP string `json:"tcp,omitempty"`
	// HTTP is an http or https URL; any status 200 to 299 passes.
	HTTP string `json:"http,omitempty"`
	// Method and Header of the HTTP request. Default GET.
	Method string            `json:"method,omitempty"`
	Header map[string]string `json:"header,omitempty"`
	// SkipVerify accepts any certificate of an https URL.
	SkipVerify bool `json:"tls_skip_verify,omitempty"`
	// Interval between the starts of two probes. Default 10s, at least 100ms.
	Interval Duration `json:"interval,omitempty"`
	// Timeout of one probe. Default: 10s, or Interval if that is less.
	Timeout Duration `json:"timeout,omitempty"`
	// Rise is how many probes in a row must pass to make a failing check pass, Fall
	// how many must fail to make a passing one fail. Defaults 1 and 3. The first
	// result of all counts at once.
	Rise int `json:"rise,omitempty"`
	Fall int `json:"fall,omitempty"`
}

// Limits and defaults of checks.
const (
	DefaultInterval = 10 * time.Second
	MinInterval     = 100 * time.Millisecond
	DefaultTimeout  = 10 * time.Second
	DefaultRise     = 1
	DefaultFall     = 3
)

// maxServiceName keeps a service addressable by DNS: 225 characters are left
// beside the longest suffix.
const maxServiceName = 225

// A Duration is a time.Duration that reads and writes "2s" in JSON and YAML.
type Duration time.Duration

// String returns "2s".
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration like 500ms or 2s", b)
	}
	*d = Duration(v)
	return nil
}

// A FieldError says what is wrong with one field of a Registration. Field is
// the path in JSON's and YAML's names: "port", "checks[1].interval".
type FieldError struct {
	Field string
	Err   error
}

// Error returns "field: what is wrong".
func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *FieldError) Unwrap() error { return e.Err }

// Validate reports everything that keeps r from being registered, as joined
// [FieldError]s. It does not change r.
func (r Registration) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{field, fmt.Errorf(format, args...)})
	}
	switch {
	case r.Name == "":
		bad("name", "is missing")
	case len(r.Name) > maxServiceName:
		bad("name", "has %d bytes, more than %d", len(r.Name), maxServiceName)
	case strings.ContainsFunc(r.Name, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		bad("name", "%q has a blank or a control character", r.Name)
	case strings.ContainsAny(r.Name, "/?&%"):
		bad("name", "%q has one of / ? & %%", r.Name)
	case strings.HasPrefix(r.Name, ".") || strings.HasSuffix(r.Name, ".") || strings.Contains(r.Name, ".."):
		bad("name", "%q has an empty segment", r.Name)
	case reserved[r.Name]:
		bad("name", "%q is a directory of Dubbo's own", r.Name)
	}
	consumer := r.Category == Consumers
	switch r.Category {
	case "", Providers, Consumers:
	default:
		bad("category", "%q is neither providers nor consumers", string(r.Category))
	}
	if len(r.ID) > 512 || strings.ContainsFunc(r.ID, func(c rune) bool { return c <= ' ' || c == '/' || c == 0x7f }) {
		bad("id", "%q is too long or has a slash, a blank or a control character", clip(r.ID))
	}
	if strings.ContainsFunc(r.Protocol, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("+-._", c))
	}) {
		bad("protocol", "%q has a character that no protocol name has", r.Protocol)
	}
	if consumer && r.Protocol != "" && r.Protocol != "consumer" {
		bad("protocol", "of a consumer is always consumer")
	}
	switch {
	case r.Port == 0 && !consumer:
		bad("port", "is missing")
	case r.Port < 0 || r.Port > 65535:
		bad("port", "%d is not from 1 to 65535", r.Port)
	}
	if r.Address != "" {
		if err := checkHost(r.Address); err != nil {
			bad("address", "%w", err)
		}
	}
	for _, f := range [...]struct{ key, value string }{
		{"path", r.Path}, {"application", r.App}, {"group", r.Group}, {"version", r.Version},
	} {
		if err := checkValue(f.value); err != nil {
			bad(f.key, "%w", err)
		}
	}
	if strings.Contains(r.Path, "?") {
		bad("path", "%q has a question mark", r.Path)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Params)) {
		v := r.Params[k]
		field := "params." + k
		if k == "" || strings.ContainsAny(k, "&=?") || checkValue(k) != nil {
			bad(field, "the name %q is empty or has one of & = ?", k)
			continue
		}
		if javaTrim(v) == "" {
			bad(field, "is empty; Dubbo would take that for a value, leave it out")
			continue
		}
		if err := checkValue(v); err != nil {
			bad(field, "%w", err)
		}
		for _, f := range [...]struct{ key, value string }{
			{"interface", r.Name}, {"application", r.App}, {"group", r.Group}, {"version", r.Version},
		} {
			if k == f.key && f.value != "" && v != f.value {
				bad(field, "%q contradicts %q of the service itself", v, f.value)
			}
		}
		if k == "dynamic" && v != "true" {
			bad(field, "must be true: the znode goes with the agent's session")
		}
		if k == "category" && v != string(r.category()) {
			bad(field, "%q contradicts the category", v)
		}
	}
	for i, c := range r.Checks {
		for _, err := range c.validate() {
			errs = append(errs, &FieldError{fmt.Sprintf("checks[%d].%s", i, err.Field), err.Err})
		}
	}
	if len(errs) == 0 {
		if n := len(r.node("255.255.255.255", time.Now()).Encode()); n > MaxNameLen {
			bad("params", "the encoded URL has %d bytes, more than %d", n, MaxNameLen)
		}
	}
	return errors.Join(errs...)
}

func checkValue(v string) error {
	if strings.ContainsRune(v, '&') {
		return fmt.Errorf("%q has an ampersand, which no reader of the URL can tell from the next parameter", v)
	}
	if strings.ContainsFunc(v, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\uFFFD' }) {
		return fmt.Errorf("%q has a control character or is not UTF-8", v)
	}
	return nil
}

func checkHost(host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		if a.IsUnspecified() {
			return fmt.Errorf("%q is no address that others can connect to", host)
		}
		return nil
	}
	if len(host) > 253 || strings.ContainsFunc(host, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-._", c))
	}) {
		return fmt.Errorf("%q is neither an IP address nor a host name", host)
	}
	return nil
}

func (c Check) validate() (errs []*FieldError) {
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{field, fmt.Errorf(format, args...)})
	}
	switch {
	case c.TCP == "" && c.HTTP == "":
		bad("tcp", "or http is missing: what shall be checked?")
	case c.TCP != "" && c.HTTP != "":
		bad("http", "and tcp exclude each other: write two checks")
	case c.TCP != "":
		host, port, err := net.SplitHostPort(c.TCP)
		if n, perr := strconv.Atoi(port); err != nil || perr != nil || host == "" || n < 1 || n > 65535 {
			bad("tcp", "%q is not host:port", c.TCP)
		}
		if c.Method != "" || len(c.Header) > 0 || c.SkipVerify {
			bad("tcp", "does not go with method, header or tls_skip_verify")
		}
	default:
		u, err := url.Parse(c.HTTP)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			bad("http", "%q is not an http or https URL", c.HTTP)
		}
		if strings.ContainsFunc(c.Method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
			bad("method", "%q is not a method", c.Method)
		}
	}
	if c.Interval != 0 && time.Duration(c.Interval) < MinInterval {
		bad("interval", "%v is less than %v", c.Interval, MinInterval)
	}
	if c.Timeout < 0 {
		bad("timeout", "%v is negative", c.Timeout)
	}
	if c.Rise < 0 {
		bad("rise", "%d is negative", c.Rise)
	}
	if c.Fall < 0 {
		bad("fall", "%d is negative", c.Fall)
	}
	return errs
}

// withDefaults fills in what is zero.
func (c Check) withDefaults() Check {
	if c.Interval == 0 {
		c.Interval = Duration(DefaultInterval)
	}
	if c.Timeout == 0 {
		c.Timeout = min(Duration(DefaultTimeout), c.Interval)
	}
	if c.Rise == 0 {
		c.Rise = DefaultRise
	}
	if c.Fall == 0 {
		c.Fall = DefaultFall
	}
	if c.HTTP != "" && c.Method == "" {
		c.Method = "GET"
	}
	return c
}

// name describes the target of the check.
func (c Check) name() string {
	if c.HTTP != "" {
		return c.HTTP
	}
	return "tcp://" + c.TCP
}

func (r Registration) category() Category {
	if r.Category == "" {
		return Providers
	}
	return r.Category
}

// withID fills in the default ID.
func (r Registration) withID() Registration {
	r.ID = r.DefaultID()
	return r
}

// filled returns r with the defaults of all fields that have one.
func (r Registration) filled(advertise string) Registration {
	p := r.node(advertise, time.Time{})
	r.ID, r.Category, r.Protocol, r.Address = r.DefaultID(), r.category(), p.Protocol, p.Host
	r.Path, r.App = p.Path, p.Params.Get("application")
	for i := range r.Checks {
		if i == 0 {
			r.Checks = slices.Clone(r.Checks)
		}
		r.Checks[i] = r.Checks[i].withDefaults()
	}
	return r
}

// DefaultID returns the ID, or what it is if none is given.
func (r Registration) DefaultID() string {
	if r.ID != "" {
		return r.ID
	}
	id := r.Name
	if r.Port != 0 {
		id += ":" + strconv.Itoa(r.Port)
	}
	for _, s := range [...]string{r.Version, r.Group} {
		if s != "" {
			id += ":" + strings.Map(func(c rune) rune {
				if c <= ' ' || c == '/' {
					return '_'
				}
				return c
			}, s)
		}
	}
	if r.category() == Consumers {
		id = "consumer:" + id
	}
	return id
}

// release is what this agent writes as parameter release and dubbo: the
// framework's name and the version of the Dubbo protocol that its readers know.
const (
	release      = "paddock"
	dubboVersion = "2.0.2"
)

// node returns the URL that shall stand in the tree. now becomes the parameter
// timestamp unless the registration has one.
func (r Registration) node(advertise string, now time.Time) *Provider {
	p := &Provider{
		Protocol: r.Protocol,
		Host:     r.Address,
		Port:     r.Port,
		Path:     strings.TrimLeft(r.Path, "/"),
		Params:   url.Values{},
	}
	if p.Host == "" {
		p.Host = advertise
	}
	if p.Path == "" {
		p.Path = r.Name
	}
	app := r.App
	if app == "" {
		app = r.Name
	}
	set := func(k, v string) {
		if v != "" {
			p.Params.Set(k, v)
		}
	}
	set("interface", r.Name)
	set("application", app)
	set("group", r.Group)
	set("version", r.Version)
	set("release", release)
	set("dubbo", dubboVersion)
	set("timestamp", strconv.FormatInt(now.UnixMilli(), 10))
	if r.category() == Consumers {
		p.Protocol = "consumer"
		set("side", "consumer")
		set("category", string(Consumers))
		set("check", "false")
	} else {
		if p.Protocol == "" {
			p.Protocol = "dubbo"
		}
		set("side", "provider")
		set("dynamic", "true")
		set("methods", "*")
	}
	for k, v := range r.Params {
		set(k, javaTrim(v))
	}
	return p
}

// equal reports whether r and o want the same.
func (r Registration) equal(o Registration) bool {
	a, errA := json.Marshal(r)
	b, errB := json.Marshal(o)
	return errA == nil && errB == nil && string(a) == string(b)
}

// OutgoingAddr returns the address of this host that others most likely reach:
// the source address of packets that leave it, or else the first address of an
// interface that is up, or else 127.0.0.1. Nothing is sent.
func OutgoingAddr() string {
	// 192.0.2.1 is reserved for documentation; connecting a UDP socket only asks
	// the routing table.
	if c, err := net.Dial("udp4", "192.0.2.1:9"); err == nil {
		defer c.Close()
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok && !a.IP.IsLoopback() && !a.IP.IsUnspecified() {
			return a.IP.String()
		}
	}
	addrs, _ := net.InterfaceAddrs()
	for _, v4 := range [...]bool{true, false} {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && (n.IP.To4() != nil) == v4 {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}
