package registry

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxNameLen bounds the child names that are parsed, in bytes. Real names have
// 300 to 1500, a service with hundreds of methods some 10,000; ZooKeeper's own
// limit for a whole request is 1 MiB.
const MaxNameLen = 64 << 10

// A Provider is a Dubbo URL as it stands, escaped as one string, in the name of a
// child of a category: a provider, a consumer, an override or a route.
type Provider struct {
	// Protocol is the scheme: dubbo, tri, http, consumer, override, …
	Protocol string
	// Username and Password are hardly ever used.
	Username, Password string
	// Host is a name or an address without brackets; a zone (%eth0) stays.
	Host string
	// Port is 0 if the URL has none, as with consumers.
	Port int
	// Path has no leading slash; mostly the interface.
	Path string
	// Params are the parameters, decoded once. A name has one value: Java keeps
	// the last of several, so does ParseProvider.
	Params url.Values
	// Raw is the child name that was parsed, "" for a Provider made by hand. Only
	// this name deletes the znode: writers escape differently, so Encode may give
	// another one.
	Raw string
}

// ParseProvider parses a child name of /providers, /consumers or
// /configurators. It reads what Java's and Go's Dubbo write: the whole URL
// percent-encoded once, parameter values not encoded by themselves.
func ParseProvider(name string) (*Provider, error) {
	if len(name) > MaxNameLen {
		return nil, fmt.Errorf("provider name of %d bytes, more than %d", len(name), MaxNameLen)
	}
	text, err := unescape(name)
	if err != nil {
		return nil, fmt.Errorf("provider name %q: %w", clip(name), err)
	}
	p, err := parseURL(text)
	if err != nil {
		return nil, fmt.Errorf("provider name %q: %w", clip(name), err)
	}
	p.Raw = name
	return p, nil
}

// clip keeps a hostile name from filling the log.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

var (
	errNoProtocol = errors.New("no protocol")
	errNoHost     = errors.New("no host")
	errPort       = errors.New("port is not a number from 1 to 65535")
)

// parseURL follows class URLStrParser: the query begins at the first "?", the
// path at the first "/" behind the protocol, user info ends at the last "@",
// the port begins behind the last ":".
func parseURL(text string) (*Provider, error) {
	body, query, _ := strings.Cut(text, "?")
	protocol, rest, ok := strings.Cut(body, "://")
	protocol = javaTrim(protocol)
	if !ok || protocol == "" || strings.ContainsAny(protocol, "/:@") {
		return nil, errNoProtocol
	}
	p := &Provider{Protocol: protocol}
	hostport, path, _ := strings.Cut(rest, "/")
	p.Path = strings.TrimLeft(path, "/")
	if i := strings.LastIndexByte(hostport, '@'); i >= 0 {
		p.Username, p.Password, _ = strings.Cut(hostport[:i], ":")
		hostport = hostport[i+1:]
	}
	var err error
	if p.Host, p.Port, err = splitHostPort(hostport); err != nil {
		return nil, err
	}
	p.Params = parseParams(query)
	return p, nil
}

func splitHostPort(s string) (host string, port int, err error) {
	host = s
	// "::1%en0:1" would be a zone: a colon before the percent sign is the address's.
	if i := strings.LastIndexByte(s, ':'); i >= 0 && i > strings.LastIndexByte(s, '%') && !strings.HasSuffix(s, "]") {
		port, err = strconv.Atoi(s[i+1:])
		if err != nil || port < 0 || port > 65535 || s[i+1] == '+' || s[i+1] == '-' {
			return "", 0, errPort
		}
		host = s[:i]
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	if host == "" || strings.ContainsAny(host, "[]") {
		return "", 0, errNoHost
	}
	return host, port, nil
}

func parseParams(query string) url.Values {
	n := strings.Count(query, "&") + 1
	params := make(url.Values, n)
	one := make([]string, 0, n) // backs all value slices: one allocation, not n
	for part := range strings.SplitSeq(query, "&") {
		k, v, _ := strings.Cut(part, "=")
		if k == "" {
			continue
		}
		one = append(one, javaTrim(v))
		params[k] = one[len(one)-1 : len(one) : len(one)]
	}
	return params
}

// javaTrim is String.trim: it cuts blanks and control characters. Dubbo trims
// every value when it writes a URL.
func javaTrim(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
}

// String returns the URL in plain text, with the parameters in the order in
// which Java writes them (UTF-16 order of the keys). Parameters without a value
// are left out: Dubbo takes group= for something else than no group.
func (p *Provider) String() string {
	var b strings.Builder
	b.Grow(len(p.Raw) + 256)
	b.WriteString(p.Protocol)
	b.WriteString("://")
	if p.Username != "" || p.Password != "" {
		b.WriteString(p.Username)
		if p.Password != "" {
			b.WriteByte(':')
			b.WriteString(p.Password)
		}
		b.WriteByte('@')
	}
	b.WriteString(p.HostPort())
	if p.Path != "" {
		b.WriteByte('/')
		b.WriteString(p.Path)
	}
	sep := byte('?')
	for _, k := range sortedKeys(p.Params) {
		v := javaTrim(p.Params.Get(k))
		if k == "" || v == "" {
			continue
		}
		b.WriteByte(sep)
		b.WriteString(k)
		b.WriteByte('=')
		b.WriteString(v)
		sep = '&'
	}
	return b.String()
}

// HostPort joins host and port, with brackets around an IPv6 address and no
// port if it is 0.
func (p *Provider) HostPort() string {
	host := p.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if p.Port > 0 {
		host += ":" + strconv.Itoa(p.Port)
	}
	return host
}

// Encode returns the child name that Java's Dubbo would write for p.
func (p *Provider) Encode() string { return escape(p.String()) }

// Interface returns the parameter "interface", or else the path.
func (p *Provider) Interface() string {
	if s := p.Params.Get("interface"); s != "" {
		return s
	}
	return p.Path
}

// Equal reports whether p and q are the same but for timestamp and pid, which
// tell when a provider started and nothing about how to call it. (Dubbo's
// consumers do not take a change of these two for a change either.)
func (p *Provider) Equal(q *Provider) bool {
	if p.Protocol != q.Protocol || p.Username != q.Username || p.Password != q.Password ||
		p.Host != q.Host || p.Port != q.Port || p.Path != q.Path {
		return false
	}
	return subset(p.Params, q.Params) && subset(q.Params, p.Params)
}

func subset(a, b url.Values) bool {
	for k := range a {
		if k != "timestamp" && k != "pid" && javaTrim(a.Get(k)) != javaTrim(b.Get(k)) {
			return false
		}
	}
	return true
}

func sortedKeys(m url.Values) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareUTF16)
	return keys
}

// compareUTF16 orders as Java's String.compareTo: by UTF-16 code unit, so that
// characters outside the basic plane come before U+E000.
func compareUTF16(a, b string) int {
	for a != "" && b != "" {
		ra, na := utf8.DecodeRuneInString(a)
		rb, nb := utf8.DecodeRuneInString(b)
		if ra != rb {
			if (ra >= 0x10000) != (rb >= 0x10000) {
				// The first unit of the pair is a surrogate, D800 to DBFF.
				if ra >= 0x10000 {
					ra = 0xD800
				} else {
					rb = 0xD800
				}
			}
			return int(ra) - int(rb)
		}
		a, b = a[na:], b[nb:]
	}
	return len(a) - len(b)
}

// instance makes the Instance of one child of service. Overrides are applied later.
func (p *Provider) instance(service string) *Instance {
	in := &Instance{
		Service:  service,
		App:      p.Params.Get("application"),
		Protocol: p.Protocol,
		Group:    p.Params.Get("group"),
		Version:  p.Params.Get("version"),
		Host:     p.Host,
		Port:     p.Port,
		Params:   p.Params,
		Raw:      p.Raw,
	}
	in.Enabled, in.Weight = callable(p.Params)
	return in
}

// callable reads what decides whether a provider gets calls: disabled wins over
// enabled if it is there at all.
func callable(params url.Values) (enabled bool, weight int) {
	enabled = true
	if v := params.Get("disabled"); v != "" {
		enabled = !strings.EqualFold(v, "true")
	} else if v := params.Get("enabled"); v != "" {
		enabled = strings.EqualFold(v, "true")
	}
	weight = DefaultWeight
	if v := params.Get("weight"); v != "" {
		if n, err := strconv.Atoi(v); err == nil {
			weight = max(n, 0)
		}
	}
	return enabled, weight
}

// DefaultWeight is the weight of a provider that names none.
const DefaultWeight = 100
