package nameserver

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/paddockio/paddock/registry"
)

// The words under the domain.
const (
	serviceWord = "service"
	appWord     = "app"
	addrWord    = "addr"
	nsWord      = "ns"
)

// The longest label and name on the wire (RFC 1035 section 2.3.4).
const (
	maxLabel = 63
	maxName  = 255
)

// ServiceNames are the names under which a service is found. All are fully
// qualified, in lower case and escaped as in a zone file.
type ServiceNames struct {
	// Name has the addresses (A, AAAA), and SRV records of all protocols.
	Name string
	// Alias is the last segment of a dotted name. It stands for the service
	// only while no other service has the same; "" if the name has no dot.
	Alias string
	// SRV are the names of the service's protocols, sorted.
	SRV []string
	// Versions and Groups are the names that select one, sorted.
	Versions, Groups []string
}

// Names returns the DNS names of the service that view describes; only the
// name must be known, the instances tell protocols, versions and groups. The
// error says why a service cannot be reached by DNS: an empty segment, a
// segment longer than 63 octets, a name longer than 255. Protocols, versions and
// groups that do not fit in a label are left out.
func Names(domain string, view registry.View) (ServiceNames, error) {
	base, err := joinName(view.Service, serviceWord, domain)
	if err != nil {
		return ServiceNames{}, fmt.Errorf("dns name of service %q: %w", view.Service, err)
	}
	n := ServiceNames{Name: presentation(base)}
	if i := strings.LastIndexByte(view.Service, '.'); i >= 0 {
		// Shorter than the name, which is good.
		alias, _ := joinName(view.Service[i+1:], serviceWord, domain)
		n.Alias = presentation(alias)
	}
	add := func(list *[]string, labels ...string) {
		var name []byte
		for _, l := range labels {
			if len(l) > maxLabel {
				return
			}
			name = appendLabel(name, l)
		}
		if name = append(name, base...); len(name) > maxName {
			return
		}
		if s := presentation(name); !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
	for _, in := range view.Instances {
		if in.Protocol != "" {
			add(&n.SRV, "_"+in.Protocol, "_tcp")
		}
		if in.Version != "" {
			add(&n.Versions, versionPrefix+optionText(in.Version))
		}
		if in.Group != "" {
			add(&n.Groups, groupPrefix+optionText(in.Group))
		}
	}
	slices.Sort(n.SRV)
	slices.Sort(n.Versions)
	slices.Sort(n.Groups)
	return n, nil
}

// Labels in front of a name that choose among its instances.
const (
	versionPrefix = "_v-"
	groupPrefix   = "_g-"
)

// optionText is a version or group as it stands in a label.
func optionText(s string) string { return strings.ReplaceAll(s, ".", "-") }

// matchOption tells whether label, in lower case, has been made from value by
// optionText. It is what the query pays per instance, so it does not build it.
func matchOption(label []byte, value string) bool {
	if len(label) != len(value) {
		return false
	}
	for i, c := range label {
		v := lower(value[i])
		if v == '.' {
			v = '-'
		}
		if c != v {
			return false
		}
	}
	return true
}

func matchFold(label []byte, value string) bool {
	if len(label) != len(value) {
		return false
	}
	for i, c := range label {
		if c != lower(value[i]) {
			return false
		}
	}
	return true
}

// lower folds ASCII letters only, as DNS does (RFC 4343).
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

var (
	errEmptySegment = errors.New("empty segment")
	errLongSegment  = fmt.Errorf("segment longer than %d octets", maxLabel)
	errLongName     = fmt.Errorf("name longer than %d octets", maxName)
)

// appendName appends the dotted name to b as lower-case labels, without the
// root. Whatever is between two dots becomes one label, octet by octet.
func appendName(b []byte, name string) ([]byte, error) {
	for {
		seg, rest, more := strings.Cut(name, ".")
		switch {
		case seg == "":
			return nil, errEmptySegment
		case len(seg) > maxLabel:
			return nil, errLongSegment
		}
		b = appendLabel(b, seg)
		if !more {
			return b, nil
		}
		name = rest
	}
}

func appendLabel(b []byte, label string) []byte {
	b = append(b, byte(len(label)))
	for i := range len(label) {
		b = append(b, lower(label[i]))
	}
	return b
}

// joinName returns {name}.{word}.{domain} in lower-case wire format.
func joinName(name, word, domain string) ([]byte, error) {
	b, err := appendName(nil, name)
	if err != nil {
		return nil, err
	}
	d, err := packName(domain)
	if err != nil {
		return nil, fmt.Errorf("domain %q: %w", domain, err)
	}
	b = append(appendLabel(b, word), d...)
	if len(b) > maxName {
		return nil, errLongName
	}
	return b, nil
}

// packName returns the wire format, in lower case, of a name from a zone file.
func packName(s string) ([]byte, error) {
	if s == "" {
		return nil, errEmptySegment
	}
	var buf [maxName]byte
	n, err := dns.PackDomainName(dns.CanonicalName(s), buf[:], 0, nil, false)
	if err != nil {
		return nil, errors.New("not a domain name")
	}
	return slices.Clone(buf[:n]), nil
}

// presentation is the zone file's form of a good wire name.
func presentation(wire []byte) string {
	s, _, err := dns.UnpackDomainName(wire, 0)
	if err != nil {
		return "(bad name)"
	}
	return s
}
