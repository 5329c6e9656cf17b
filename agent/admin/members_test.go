package admin

import (
	"encoding/json"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/storage"
)

var twoMembers = api.MemberList{Gossip: true, Members: []api.Member{
	{Name: "host-1", ID: 1, Wants: "auto", State: "member", Self: true, Alive: true, Role: "participant", Address: "10.0.0.1:2888", Client: "10.0.0.1:2181"},
	{Name: "host-9", Wants: "client", State: "member"},
}}

func (*fakeSource) Members() api.MemberList { return twoMembers }

func TestMembersAreListed(t *testing.T) {
	a, err := newServer(Config{Source: &fakeSource{}})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/v1/members", nil))
	var got api.MemberList
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || !reflect.DeepEqual(got, twoMembers) {
		t.Errorf("got %d %s, %v", w.Code, w.Body, err)
	}
}

// TestAServerThatOpensLater is seen by the commands once it is told.
func TestAServerThatOpensLater(t *testing.T) {
	a, err := newServer(Config{Source: &fakeSource{}})
	if err != nil {
		t.Fatal(err)
	}
	if a.zooKeeper() != nil {
		t.Error("there is a server")
	}
	zk, err := server.Open(server.Config{Storage: storage.Config{DataDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	defer zk.Close()
	a.SetZooKeeper(zk)
	if a.zooKeeper() != zk {
		t.Error("the server is not seen")
	}
}
