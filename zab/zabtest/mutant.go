package zabtest

import (
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
)

// mutant holds the mistakes that can be put into the servers, to prove that the
// checks find them.
type mutant struct {
	ackFirst    bool
	skipEpoch   bool
	anyOwner    bool
	anyZxid     bool
	ignorePause bool
	noConfirm   bool
	rangeTest   bool
	tellAll     bool
	overtake    bool
	noAnswer    bool
	cutKeeps    bool
}

// A Mutation is a mistake by its name. Seed is one that finds it with heavy faults,
// as long as nothing changes that shifts what a seed draws.
type Mutation struct {
	Name string
	Bugs string // of the catalogue in the reliability reference
	Does string
	Seed uint64
	set  func(*mutant)
}

// Mutations lists the mistakes that Options.Mutation knows.
func Mutations() []Mutation {
	return []Mutation{
		{"ack before sync", "B-02, B-03", "reports transactions as durable before they are synced", 0, func(m *mutant) { m.ackFirst = true }},
		{"skip epoch store", "B-25", "reports epochs as stored and does not store them", 0, func(m *mutant) { m.skipEpoch = true }},
		{"DIFF by range test", "B-13", "says of every zxid in its range that its history holds it", 0, func(m *mutant) { m.rangeTest = true }},
		{"any owner", "B-43", "lets a session write over a connection that it has left", 214, func(m *mutant) { m.anyOwner = true }},
		{"stale server", "B-49", "serves clients that have seen more", 698, func(m *mutant) { m.anyZxid = true }},
		{"sync without quorum", "R26", "answers a sync without proof of leading", 762, func(m *mutant) { m.noConfirm = true }},
		{"submitted again too late", "S30", "submits again what a client has gone on from", 35, func(m *mutant) { m.overtake = true }},
		{"submitted again after TRUNC", "S3", "submits again what is in the history that TRUNC leaves, without having been applied here", 197, func(m *mutant) { m.cutKeeps = true }},
		{"moves unanswered", "B-33, L7", "does not answer when a session moves to another server", 0, func(m *mutant) { m.noAnswer = true }},
		{"events for all", "B-48, 11.4", "tells watchers of znodes that they may not read", 8, func(m *mutant) { m.tellAll = true }},
	}
}

func newMutant(name string) mutant {
	var m mutant
	for _, x := range Mutations() {
		if x.Name == name {
			x.set(&m)
		}
	}
	return m
}

// fs is the file system of a server's store.
func (m *mutant) fs(v *server) storage.FS { return v.disk }

// locate finds a zxid in a server's log.
func (m *mutant) locate(v *server, z zab.Zxid) (zab.Zxid, bool) {
	if m.rangeTest && z <= v.store.LastSynced() {
		return z, true
	}
	return v.find(z)
}
