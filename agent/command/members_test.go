package command

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/zab"
)

const listOfFour = `server.1=10.0.0.1:2888:3888:participant;0.0.0.0:2181
server.2=10.0.0.2:2888:3888:participant;10.9.0.2:2181
server.3=10.0.0.3:2888:3888:participant
server.4=10.0.0.4:2888:3888:observer;[::]:2181
version=100000004`

// TestMembersCommandsSayWhatChanges checks the arguments of reconfigurations; that
// a real ensemble carries them out is tested where there is one.
func TestMembersCommandsSayWhatChanges(t *testing.T) {
	e, err := zab.ParseEnsemble(listOfFour)
	if err != nil {
		t.Fatal(err)
	}
	roles := func(observer bool) change {
		return func(e *zab.Ensemble, args []string) ([]string, []string, error) {
			return changeRoles(e, args, observer)
		}
	}
	for _, tc := range []struct {
		name             string
		change           change
		args             string
		joining, leaving string
		fault            string
	}{
		{"promote", roles(false), "4", "server.4=10.0.0.4:2888:3888:participant;[0:0:0:0:0:0:0:0]:2181", "", ""},
		{"promote a voter", roles(false), "1", "", "", "server 1 is participant already"},
		{"promote nobody", roles(false), "9", "", "", "server 9 is not on the list"},
		{"demote", roles(true), "1 3", "server.1=10.0.0.1:2888:3888:observer;0.0.0.0:2181,server.3=10.0.0.3:2888:3888:observer", "", ""},
		{"replace", replaceMember, "2 4", "server.4=10.0.0.4:2888:3888:participant;[0:0:0:0:0:0:0:0]:2181", "2", ""},
		{"replace by a voter", replaceMember, "2 3", "", "", "server 3 is participant already"},
		{"replace an observer", replaceMember, "4 1", "", "", "server 4 has no vote"},
		{"remove", removeMembers, "2 4", "", "2,4", ""},
		{"remove a name", removeMembers, "host", "", "", `wants the id of a server, got "host"`},
		{"add", addMembers, "server.5=h5:2888:3888:observer;2181", "server.5=h5:2888:3888:observer;0.0.0.0:2181", "", ""},
		{"add half a line", addMembers, "server.5=h5:2888", "", "", "server.5=h5:2888: "},
		{"add a word", addMembers, "h5", "", "", `wants server.ID=HOST:PORT:PORT, got "h5"`},
	} {
		joining, leaving, err := tc.change(e, strings.Fields(tc.args))
		if tc.fault != "" {
			if err == nil || !strings.Contains(err.Error(), tc.fault) {
				t.Errorf("%s: %v, want %q", tc.name, err, tc.fault)
			}
			continue
		}
		if err != nil || strings.Join(joining, ",") != tc.joining || strings.Join(leaving, ",") != tc.leaving {
			t.Errorf("%s: joining %q, leaving %q, %v, want %q and %q", tc.name, joining, leaving, err, tc.joining, tc.leaving)
		}
	}
	for i, want := range []string{"10.0.0.1:2181", "10.9.0.2:2181", "", "10.0.0.4:2181"} {
		if got := clientOf(e.Members[i]); got != want {
			t.Errorf("clients reach server %d at %q, want %q", i+1, got, want)
		}
	}
}

// TestHostsBesideTheirServers joins the list with what an agent knows.
func TestHostsBesideTheirServers(t *testing.T) {
	e, err := zab.ParseEnsemble(listOfFour)
	if err != nil {
		t.Fatal(err)
	}
	known := api.MemberList{Gossip: true, Members: []api.Member{
		{ID: 1, Name: "a", Alive: true, Address: "10.0.0.1:2888"}, {ID: 2, Name: "b", Address: "10.0.0.2:2888"},
		{ID: 2, Name: "b2", Alive: true, Address: "10.0.0.2:2888"}, {ID: 3, Address: "10.0.0.3:2888"},
		{ID: 4, Name: "other", Alive: true, Address: "10.9.9.9:2888"}, {Name: "c", Alive: true, State: "joining", Client: "10.0.0.5:2181"},
	}}
	var got []string
	for _, r := range memberRows(e, known) {
		got = append(got, fmt.Sprint(r.ID, "/", r.Name, "/", r.Alive, "/", r.Role))
	}
	want := "1/a/yes/participant 2/b2/yes/participant 3///participant 4///observer 0/other/yes/ 0/c/yes/"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
	known.Members = known.Members[4:] // of another ensemble
	if rows := memberRows(e, known); len(rows) != 4 || rows[3].Name != "" {
		t.Errorf("another ensemble: %+v", rows)
	}
}

// TestModeOfAServer asks servers that answer as Apache's do, or not at all.
func TestModeOfAServer(t *testing.T) {
	for answer, want := range map[string]string{
		"Zookeeper version: 3.9.5\nMode: leader\nNode count: 5\n": "leader", "Mode: observer": "observer",
		"This ZooKeeper instance is not currently serving requests\n": "not serving", "": "no answer",
		strings.Repeat("x", 100<<10): "no answer",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			conn, err := l.Accept()
			if err == nil {
				word := make([]byte, 4)
				_, err = conn.Read(word)
				if string(word) != "srvr" {
					err = errors.New("asked " + string(word))
				}
				_, _ = conn.Write([]byte(answer)) // the client may have enough
				conn.Close()
			}
			done <- err
		}()
		if got := askMode(t.Context(), l.Addr().String()); got != want {
			t.Errorf("%.40q: mode %q, want %q", answer, got, want)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		l.Close()
		if got := askMode(t.Context(), l.Addr().String()); got != "no answer" {
			t.Errorf("a closed port: mode %q", got)
		}
	}
}
