package registry

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
)

// golden holds a URL and its child name on alternating lines; the names were
// written by Dubbo's own libraries (see testdata/README).
func golden(t testing.TB) (pairs [][2]string) {
	data, err := os.ReadFile("testdata/names.txt")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	for i := 0; i+1 < len(lines); i += 2 {
		pairs = append(pairs, [2]string{lines[i], lines[i+1]})
	}
	return pairs
}

func TestNamesAreThoseOfJavaDubbo(t *testing.T) {
	pairs := golden(t)
	if len(pairs) == 0 {
		t.Fatal("no golden names")
	}
	for _, pair := range pairs {
		text, name := pair[0], pair[1]
		p, err := parseURL(toUTF8(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := p.Encode(); got != name {
			t.Errorf("Encode(%s)\n got %s\nwant %s", text, got, name)
		}
		q, err := ParseProvider(name)
		if err != nil || q.String() != p.String() || q.Raw != name {
			t.Errorf("ParseProvider(%s) = %v, %v, want %v", name, q, err, p)
		}
	}
}

func TestEscapeIsJavas(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"aZ09.-*_", "aZ09.-*_"},
		{"a b", "a+b"},
		{"~", "%7E"},
		{"a+b%", "a%2Bb%25"},
		{"ü€😀", "%C3%BC%E2%82%AC%F0%9F%98%80"},
		{"org.x.Foo$Bar", "org.x.Foo%24Bar"},
	} {
		if got := escape(tc.in); got != tc.want {
			t.Errorf("escape(%q) = %q, want %q", tc.in, got, tc.want)
		}
		if got, err := unescape(tc.want); err != nil || got != tc.in {
			t.Errorf("unescape(%q) = %q, %v, want %q", tc.want, got, err, tc.in)
		}
	}
}

func TestParseProviderReadsWhatOthersWrite(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		host       string
		port       int
		service    string
		enabled    bool
		weight     int
	}{
		{"dubbo-go keeps the tilde and escapes the star",
			"dubbo://10.0.0.1:20000/com.x.Y?interface=com.x.Y&methods=%2A&home=~x", "10.0.0.1", 20000, "com.x.Y", true, 100},
		{"no parameters", "tri://h:1/a.B", "h", 1, "a.B", true, 100},
		{"context path", "rest://h:1/ctx/a.B?interface=a.B", "h", 1, "a.B", true, 100},
		{"IPv6 in brackets", "dubbo://[2001:db8::1]:20880/a.B", "2001:db8::1", 20880, "a.B", true, 100},
		{"IPv6 as Java writes it", "dubbo://2001:db8:0:0:0:0:0:1:20880/a.B", "2001:db8:0:0:0:0:0:1", 20880, "a.B", true, 100},
		{"IPv6 with a zone and no port", "consumer://fe80:0:0:0:894:aeec:f37d:23e1%25en0/a.B", "fe80:0:0:0:894:aeec:f37d:23e1%en0", 0, "a.B", true, 100},
		{"user", "dubbo://u:p@h:1/a.B", "h", 1, "a.B", true, 100},
		{"disabled", "dubbo://h:1/a.B?disabled=true&enabled=true", "h", 1, "a.B", false, 100},
		{"disabled wins over enabled", "dubbo://h:1/a.B?disabled=false&enabled=false", "h", 1, "a.B", true, 100},
		{"not enabled", "dubbo://h:1/a.B?enabled=false", "h", 1, "a.B", false, 100},
		{"weight", "dubbo://h:1/a.B?weight=250", "h", 1, "a.B", true, 250},
		{"weight 0", "dubbo://h:1/a.B?weight=0", "h", 1, "a.B", true, 0},
		{"weight of nonsense", "dubbo://h:1/a.B?weight=x", "h", 1, "a.B", true, 100},
		{"last of several values", "dubbo://h:1/a.B?weight=1&weight=2", "h", 1, "a.B", true, 2},
		{"value with =", "dubbo://h:1/a.B?x=a=b", "h", 1, "a.B", true, 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := ParseProvider(url.QueryEscape(mustUnescape(t, tc.text)))
			if err != nil {
				t.Fatal(err)
			}
			in := p.instance("x")
			if p.Host != tc.host || p.Port != tc.port || p.Interface() != tc.service || in.Enabled != tc.enabled || in.Weight != tc.weight {
				t.Errorf("got %q %d %q enabled %v weight %d", p.Host, p.Port, p.Interface(), in.Enabled, in.Weight)
			}
		})
	}
}

func mustUnescape(t *testing.T, s string) string {
	t.Helper()
	u, err := url.PathUnescape(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestParseProviderRefuses(t *testing.T) {
	for _, name := range []string{
		"", "x", "dubbo", "dubbo%3A%2F%2F", "dubbo%3A%2F%2F%3A20880", "dubbo%3A%2F%2Fh%3Ax", "dubbo%3A%2F%2Fh%3A65536",
		"dubbo%3A%2F%2Fh%3A-1", "dubbo%3A%2F%2Fh%3A%2B1", "%3A%2F%2Fh", "dubbo%3A%2F%2Fh%", "dubbo%3A%2F%2Fh%2", "dubbo%3A%2F%2Fh%zz",
		"a%2Fb%3A%2F%2Fh", strings.Repeat("a", MaxNameLen+1), "dubbo%3A%2F%2Fa%5Db",
	} {
		if p, err := ParseProvider(name); err == nil {
			t.Errorf("ParseProvider(%.40q) = %+v, want an error", name, p)
		}
	}
}

func TestParametersAreInJavasOrderWithoutEmptyOnes(t *testing.T) {
	p := &Provider{Protocol: "dubbo", Host: "h", Port: 1, Path: "a.B", Params: url.Values{
		"b": {" 2 "}, "a": {"1"}, "B": {"3"}, "group": {""}, "\uE000": {"5"}, "\U0001F600": {"4"}, "aa": {"6"},
	}}
	want := "dubbo://h:1/a.B?B=3&a=1&aa=6&b=2&\U0001F600=4&\uE000=5"
	if got := p.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEqualIgnoresOnlyTheStart(t *testing.T) {
	parse := func(s string) *Provider {
		p, err := parseURL(toUTF8(s))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a := parse("dubbo://h:1/a.B?timestamp=1&pid=2&x=y")
	for _, tc := range []struct {
		text string
		want bool
	}{
		{"dubbo://h:1/a.B?x=y", true},
		{"dubbo://h:1/a.B?timestamp=9&pid=3&x=y", true},
		{"dubbo://h:1/a.B?x=z", false},
		{"dubbo://h:1/a.B?x=y&z=1", false},
		{"dubbo://h:1/a.B", false},
		{"tri://h:1/a.B?x=y", false},
		{"dubbo://h:2/a.B?x=y", false},
	} {
		b := parse(tc.text)
		if a.Equal(b) != tc.want || b.Equal(a) != tc.want {
			t.Errorf("Equal(%s) = %v, want %v", tc.text, a.Equal(b), tc.want)
		}
	}
}

func FuzzParseProvider(f *testing.F) {
	for _, pair := range golden(f) {
		f.Add(pair[1])
	}
	f.Add("dubbo%3A%2F%2F10.0.0.1%3A20880%2Forg.demo.Greeter%3Fside%3Dprovider")
	f.Add("override%3A%2F%2F0.0.0.0%2Fa.B%3Fweight%3D0")
	f.Add("a%3A%2F%2F%5B%3A%3A1%25en0%5D%2F%2F%3F%3D%26%3D")
	f.Fuzz(func(t *testing.T, name string) {
		p, err := ParseProvider(name)
		if err != nil {
			return
		}
		if p.Raw != name {
			t.Fatalf("raw name of %q: %q", name, p.Raw)
		}
		text := p.Encode()
		again, err := ParseProvider(text)
		if err != nil && len(text) <= MaxNameLen {
			t.Fatalf("%q, written again as %q: %v", name, text, err)
		}
		if err == nil && (again.Encode() != text || !again.Equal(p) && !emptyParams(p)) {
			t.Fatalf("%q: first %+v, then %+v", name, p, again)
		}
		_ = p.instance("x")
		parseOverrides([]string{name}, func(string, error) {})
	})
}

// emptyParams: those are dropped when a URL is written.
func emptyParams(p *Provider) bool {
	for k := range p.Params {
		if p.Params.Get(k) == "" {
			return true
		}
	}
	return false
}

func BenchmarkParseProvider(b *testing.B) {
	name := golden(b)[0][1]
	b.ReportAllocs()
	b.SetBytes(int64(len(name)))
	for b.Loop() {
		if _, err := ParseProvider(name); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	p, _ := ParseProvider(golden(b)[0][1])
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Encode()
	}
}

func ExampleParseProvider() {
	p, err := ParseProvider("dubbo%3A%2F%2F10.0.0.1%3A20880%2Forg.demo.Greeter%3Fside%3Dprovider")
	fmt.Println(p.HostPort(), p.Params.Get("side"), err)
	// Output: 10.0.0.1:20880 provider <nil>
}
