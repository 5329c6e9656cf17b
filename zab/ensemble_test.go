package zab

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestServerLines(t *testing.T) {
	for _, tc := range []struct{ value, want string }{
		{"h:2888:3888", "server.1=h:2888:3888:participant"},
		{"h:2888:3888:Observer", "server.1=h:2888:3888:observer"},
		{"h:2888:3888;2181", "server.1=h:2888:3888:participant;0.0.0.0:2181"},
		{"h:2888:3888:observer;10.0.0.1:2181", "server.1=h:2888:3888:observer;10.0.0.1:2181"},
		{"[::1]:2888:3888;[::1]:2181", "server.1=[0:0:0:0:0:0:0:1]:2888:3888:participant;[0:0:0:0:0:0:0:1]:2181"},
		{"[FE80::a%eth0]:2888:3888;[::ffff:10.0.0.1]:2181", "server.1=[fe80:0:0:0:0:0:0:a%eth0]:2888:3888:participant;10.0.0.1:2181"},
		{"b:3:4|a:1:2", "server.1=a:1:2|b:3:4:participant"},
		{"a:1:2|b:3:4:observer", "server.1=a:1:2|b:3:4:observer"}, // as ZooKeeper prints an observer
	} {
		m, err := ParseMember(1, tc.value)
		if err != nil || m.String() != tc.want {
			t.Errorf("%q: got %q, %v, want %q", tc.value, m, err, tc.want)
		}
	}
	for _, bad := range []string{
		"", "h", "h:1", "h:1:1", "h:1:2:3:4", "h:1:2:voter", "h:1:70000", ":1:2", "h:1:2;", "h:1:2;x", "h:1:2;:1:2",
		"h:1:2;1;2", "a:1:2:participant|b:3:4:observer", "[::1:1:2", "h:-1:2", strings.Repeat("a:1:2|", 20) + "a:1:2",
	} {
		if m, err := ParseMember(1, bad); err == nil {
			t.Errorf("%q reads as %q", bad, m)
		}
	}
}

// ensembleOf returns an ensemble of lines separated by blanks.
func ensembleOf(t testing.TB, lines string) *Ensemble {
	t.Helper()
	e, err := ParseEnsemble(strings.ReplaceAll(lines, " ", "\n"))
	if err != nil {
		t.Fatalf("%q: %v", lines, err)
	}
	return e
}

// votersUpTo returns an ensemble of servers 1 to n.
func votersUpTo(n int) *Ensemble {
	e := &Ensemble{}
	for id := 1; id <= n; id++ {
		e.Members = append(e.Members, Member{ID: ServerID(id), Addrs: []MemberAddr{{fmt.Sprintf("h%d", id), 2888, 3888}}})
	}
	return e
}

func TestTextIsApaches(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"version=0", "version=0"},
		{"server.2=b:1:2;2181 server.1=a:1:2 version=100000004",
			"server.1=a:1:2:participant server.2=b:1:2:participant;0.0.0.0:2181 version=100000004"},
		// The order is that of a HashMap with 16 buckets, then 32.
		{"server.10=a:1:2 server.20=b:1:2 server.30=c:1:2",
			"server.20=b:1:2:participant server.10=a:1:2:participant server.30=c:1:2:participant version=0"},
		// QuorumHierarchical prints the weights that it assumes.
		{"server.1=a:1:2 server.2=b:1:2 server.3=c:1:2:observer group.1=2:1 weight.2=0",
			"server.1=a:1:2:participant server.2=b:1:2:participant server.3=c:1:2:observer group.1=1:2 weight.1=1 weight.2=0 version=0"},
	} {
		if got := ensembleOf(t, tc.in).String(); got != strings.ReplaceAll(tc.want, " ", "\n") {
			t.Errorf("%q: got\n%s\nwant\n%s", tc.in, got, tc.want)
		}
	}
	many := &Ensemble{}
	for id := 1; id <= 13; id++ {
		if err := many.Set(fmt.Sprintf("server.%d", id*5), fmt.Sprintf("h%d:1:2", id)); err != nil {
			t.Fatal(err)
		}
	}
	first, _, _ := strings.Cut(many.String(), "=")
	if first != "server.65" { // 65 modulo 32 is 1, modulo 16 it would be behind 35, 50 and so on
		t.Errorf("the first line of 13 servers is that of %s", first)
	}
}

// TestEnsemblesAreApaches holds text and quorums against what ZooKeeper's own
// classes said.
func TestEnsemblesAreApaches(t *testing.T) {
	data, err := os.ReadFile("testdata/apache-ensembles.txt")
	if err != nil {
		t.Fatal(err)
	}
	var e *Ensemble
	checked := map[string]int{}
	for line := range strings.Lines(string(data)) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		checked[word]++
		switch text := strings.ReplaceAll(rest, "|", "\n"); word {
		case "list":
			e = ensembleOf(t, text)
		case "text":
			if got := e.String(); got != text {
				t.Errorf("got\n%s\nwant\n%s", got, text)
			}
			if again := ensembleOf(t, text); !again.Equal(e) {
				t.Errorf("%s reads as %q", text, again)
			}
		case "quorum", "none":
			acks := strings.Fields(rest)
			got := e.IsQuorum(func(id ServerID) bool { return slices.Contains(acks, strconv.FormatInt(int64(id), 10)) })
			if got != (word == "quorum") {
				t.Errorf("%s: %s is a quorum: %v", e, rest, got)
			}
		}
	}
	if checked["text"] < 20 || checked["quorum"] < 20 || checked["none"] < 20 {
		t.Errorf("few cases: %v", checked)
	}
}

func TestTextIsReadAsPropertiesAre(t *testing.T) {
	e, err := ParseEnsemble("# a\r\n! b\n\n  server.1 : a:1:2\nserver.2\tb:1:2:observer \nversion = ff")
	if err != nil || e.String() != "server.1=a:1:2:participant\nserver.2=b:1:2:observer\nversion=ff" {
		t.Errorf("got %q, %v", e, err)
	}
	for _, tc := range []struct{ text, want string }{
		{"server.1=a:1:2\ntickTime=2000", "tickTime: is not server.N, group.N or weight.N"},
		{"server.1=a:1:2\nserver.01=b:1:2", "server.01: server 1 is listed twice"},
		{"version=1\nversion=1", "version: is given twice"},
		{"version=-1", `version: wants a hex number, got "-1": not a number`},
		{"version=8000000000000000", `version: wants a hex number, got "8000000000000000": not a number`},
		{`server.1=a\:1:2`, `escape in "server.1=a\\:1:2"`},
		{"server.1=a:1:2:observer", "the list has observers only; at least one participant is needed"},
		{"server.1=a:1:2\nserver.2=a:1:3", "servers 1 and 2 both have the address a:1"},
		{"server.1=a:1:2\nweight.1=2", "server 1 is in no group"},
		{"server.1=a:1:2\ngroup.1=1\ngroup.01=1", "group.01: group 1 is listed twice"},
		{"server.1=a:1:2\ngroup.1=1\nweight.1=1\nweight.01=1", "weight.01: the weight of server 1 is listed twice"},
		{strings.Repeat("#", maxEnsembleText+1), "list of servers has 262145 bytes, more than 262144"},
	} {
		if _, err := ParseEnsemble(tc.text); err == nil || err.Error() != tc.want {
			t.Errorf("%.40q: got %v, want %s", tc.text, err, tc.want)
		}
	}
}

func FuzzParseEnsemble(f *testing.F) {
	f.Add("server.1=127.0.0.1:2881:3881:participant;127.0.0.1:21841\nserver.2=[::1]:2882:3882:observer\nversion=100000004")
	f.Add("server.1=a:1:2|b:3:4\nserver.17=b:1:2\ngroup.1=17:1\nweight.1=3\nversion=0")
	f.Add("#x\n server.1 : a:1:2;[::]:5")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEnsemble(text)
		if err != nil {
			return
		}
		again, err := ParseEnsemble(e.String())
		if err != nil {
			t.Fatalf("%q prints %q: %v", text, e, err)
		}
		if again.String() != e.String() || !again.Equal(e) || len(again.Diff(e)) > 0 || again.Version != e.Version {
			t.Fatalf("%q prints %q, which prints %q", text, e, again)
		}
	})
}

func TestQuorums(t *testing.T) {
	three := "server.1=a:1:2 server.2=b:1:2 server.3=c:1:2 server.9=o:1:2:observer"
	six := "server.1=a:1:2 server.2=b:1:2 server.3=c:1:2 server.4=d:1:2 server.5=e:1:2 server.6=f:1:2 "
	for _, tc := range []struct {
		lines string
		acks  []ServerID
		want  bool
	}{
		{three, []ServerID{1}, false},
		{three, []ServerID{1, 3}, true},
		{three, []ServerID{1, 9}, false}, // an observer has no vote
		{"server.1=a:1:2 server.2=b:1:2", []ServerID{2}, false},
		{"server.1=a:1:2", []ServerID{1}, true},
		{"server.1=a:1:2", nil, false},
		// Three groups of two: both of each in two groups.
		{six + "group.1=1:2 group.2=3:4 group.3=5:6", []ServerID{1, 2, 3, 4}, true},
		{six + "group.1=1:2 group.2=3:4 group.3=5:6", []ServerID{1, 2, 3, 5}, false},
		{six + "group.1=1:2 group.2=3:4 group.3=5:6", []ServerID{1, 3, 5}, false},
		// Weights decide within a group; a group without weight does not count.
		{six + "group.1=1:2 group.2=3:4 group.3=5:6 weight.1=3", []ServerID{1, 3, 4}, true},
		{six + "group.1=1:2 group.2=3:4 group.3=5:6 weight.5=0 weight.6=0", []ServerID{1, 2}, false},
		{six + "group.1=1:2 group.2=3:4:5:6 weight.3=0 weight.4=0 weight.5=0 weight.6=0", []ServerID{1, 2}, true},
		{six + "group.1=1:2 group.2=3:4:5:6 weight.3=0 weight.4=0 weight.5=0 weight.6=0", []ServerID{3, 4, 5, 6}, false},
	} {
		acked := map[ServerID]bool{}
		for _, id := range tc.acks {
			acked[id] = true
		}
		if got := ensembleOf(t, tc.lines).IsQuorum(func(id ServerID) bool { return acked[id] }); got != tc.want {
			t.Errorf("%s: %v is a quorum: %v, want %v", tc.lines, tc.acks, got, tc.want)
		}
	}
	if n := testing.AllocsPerRun(10, func() { votersUpTo(0).IsQuorum(nil) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func TestReconfig(t *testing.T) {
	const three = "server.1=a:1:2;3 server.2=b:1:2;3 server.3=c:1:2;3"
	grouped := three + " group.1=1:2:3"
	for _, tc := range []struct {
		from, joining, leaving, members string
		want                            string // "!": an error; "!!": one that is ErrNotNumber
	}{
		{from: three, joining: "server.4=d:1:2;3, server.5=e:1:2:observer;3", want: three + " server.4=d:1:2;3 server.5=e:1:2:observer;3"},
		{from: three, leaving: "3", want: "server.1=a:1:2;3 server.2=b:1:2;3"},
		{from: three, leaving: "9", want: three},
		{from: three, joining: "server.4=c:1:2;3", leaving: "3", want: "server.1=a:1:2;3 server.2=b:1:2;3 server.4=c:1:2;3"},
		{from: three, joining: "server.3=c:1:2:observer;3", want: "server.1=a:1:2;3 server.2=b:1:2;3 server.3=c:1:2:observer;3"},
		{from: three, joining: "4=d:1:2;3", want: three + " server.4=d:1:2;3"}, // ZooKeeper takes it too
		{from: three, members: "server.7=x:1:2,server.8=y:1:2", want: "server.7=x:1:2 server.8=y:1:2"},
		{from: grouped, members: strings.ReplaceAll(grouped, " ", ","), want: grouped},
		{from: three, leaving: "x", want: "!!"},
		{from: three, joining: "server.x=d:1:2;3", want: "!!"},
		{from: three, joining: "server.4=d:1:2", want: "!"},   // no client port
		{from: three, joining: "server.4", want: "!"},         //
		{from: three, joining: "server.4=d:1;3", want: "!"},   //
		{from: three, joining: "server.4=a:7:2;9", want: "!"}, // the address of server 1
		{from: three, joining: "server.4=d:1:2;a:1", want: "!"},
		{from: three, leaving: "1,2", want: "!"},
		{from: three, members: "server.1=a:1:2", want: "!"},
		{from: three, members: "server.1=a:1:2\ntickTime=3", want: "!"},
		{from: grouped, joining: "server.4=d:1:2;3", want: "!"},
	} {
		e := ensembleOf(t, tc.from)
		before := e.String()
		next, err := e.Apply(tc.joining, tc.leaving, tc.members, true)
		switch {
		case tc.want[0] == '!':
			if err == nil || errors.Is(err, ErrNotNumber) != (tc.want == "!!") {
				t.Errorf("%+v: got %q, %v", tc, next, err)
			}
		case err != nil || !next.Equal(ensembleOf(t, tc.want)):
			t.Errorf("%+v: got %q, %v", tc, next, err)
		}
		if e.String() != before {
			t.Errorf("%+v changed the list", tc)
		}
	}
	if _, err := ensembleOf(t, three).Apply("", "1,2", "", false); err != nil {
		t.Errorf("one voter left, without standaloneEnabled: %v", err)
	}
	if _, err := ensembleOf(t, three).Apply("", "1,2,3", "", false); err == nil {
		t.Error("no voter left: no error")
	}
	// ZooKeeper looks for the same address twice only where it is one for all hosts.
	local := "server.1=127.0.0.1:1:2;21811 server.2=127.0.0.1:3:4;21812"
	if _, err := ensembleOf(t, local).Apply("server.3=127.0.0.1:5:6;21811", "", "", true); err != nil {
		t.Error(err)
	}
}

func TestDifferencesOfLists(t *testing.T) {
	e := ensembleOf(t, "server.1=a:1:2 server.2=b:1:2 server.3=0.0.0.0:1:2 version=1")
	for _, tc := range []struct{ other, want string }{
		{"server.1=a:1:2 server.2=b:1:2 server.3=0.0.0.0:1:2 version=2", ""},
		{"server.1=0.0.0.0:1:2 server.2=B:1:2 server.3=c:1:2", ""}, // each has a wildcard in its own line
		{"server.1=a:1:2 server.2=b:1:2:observer server.4=d:1:2",
			"-server.2=b:1:2:participant -server.3=0.0.0.0:1:2:participant +server.2=b:1:2:observer +server.4=d:1:2:participant"},
	} {
		if got := strings.Join(e.Diff(ensembleOf(t, tc.other)), " "); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.other, got, tc.want)
		}
	}
}
