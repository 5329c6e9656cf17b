package admin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/transport"
)

// status is the agent's page about itself, with what its server knows of the
// ensemble.
func (a *Server) status() api.Status {
	st := a.cfg.Source.Status()
	if st.Zab == nil || a.zooKeeper() == nil {
		return st
	}
	ms, ok := a.zooKeeper().Membership()
	if !ok {
		return st
	}
	z := *st.Zab
	st.Zab = &z
	z.LeaderID, z.Epoch = max(0, int64(ms.Leader)), int64(ms.Epoch)
	if m, ok := ms.Ensemble.Member(ms.ID); ok && m.Observer {
		z.Role = "observer"
	}
	z.Ensemble = describeEnsemble(&ms, time.Now())
	return st
}

// describeEnsemble puts into words what a server knows of its ensemble.
func describeEnsemble(ms *server.Membership, now time.Time) *api.EnsembleStatus {
	serving := ms.Role != zab.Looking && ms.Phase == zab.Broadcast
	e := &api.EnsembleStatus{
		Serving: serving, Phase: strings.ToLower(ms.Phase.String()), Since: ms.Since,
		ListVersion: zab.Zxid(ms.Ensemble.Version).String(), Changing: ms.LastSeen != ms.Ensemble, Lost: ms.Lost,
	}
	for _, m := range ms.Ensemble.Members {
		e.Members = append(e.Members, describeMember(ms, m))
	}
	if !serving {
		e.Why = whyNot(ms, e.Members, now)
	}
	e.Problems = problems(ms, e.Members, now)
	return e
}

// stateWords are ZooKeeper's words for the modes of servers.
var stateWords = map[zab.Role]string{zab.Looking: "looking", zab.Following: "follower", zab.Leading: "leader", zab.Observing: "observer"}

func describeMember(ms *server.Membership, m zab.Member) api.MemberStatus {
	s := api.MemberStatus{ID: int64(m.ID), Self: m.ID == ms.ID, Role: "participant", Client: m.ClientAddr}
	if m.Observer {
		s.Role = "observer"
	}
	for i, a := range m.Addrs {
		if i > 0 {
			s.Address += "|"
		}
		s.Address += net.JoinHostPort(a.Host, strconv.Itoa(a.ElectionPort))
	}
	for _, b := range ms.Ballots {
		if b.Server == m.ID && b.Heard {
			s.State = stateWords[b.State]
		}
	}
	if m.ID == ms.Leader {
		s.State = "leader"
	}
	if s.Self {
		s.State, s.Connected = stateWords[ms.Role], true
		return s
	}
	for _, p := range ms.Election.Peers {
		if p.ID == m.ID {
			s.Connected, s.Since = p.Connected, p.Since
			if p.Err != nil && !p.Connected {
				s.Error = short(p.Err)
			}
		}
	}
	if !s.Connected && s.State != "leader" {
		s.State = "" // what it last said is old
	}
	for _, l := range ms.Learners {
		if l.ID != m.ID {
			continue
		}
		s.Doing = l.State
		if l.UpToDate {
			s.State = "follower"
			if l.Observer {
				s.State = "observer"
			}
		}
		if !l.Observer {
			s.Acked, s.Behind = l.Acked.String(), -1
			if l.Acked.Epoch() == ms.Last.Epoch() && l.Acked <= ms.Last {
				s.Behind = int64(ms.Last - l.Acked)
			}
		}
	}
	return s
}

// short leaves out of an error of the network what the reader knows.
func short(err error) string {
	var no syscall.Errno
	switch {
	case errors.As(err, &no):
		return no.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	}
	var lookup *net.DNSError
	if errors.As(err, &lookup) {
		return "name " + lookup.Name + ": " + lookup.Err
	}
	return err.Error()
}

// ago prints how long ago something began.
func ago(since, now time.Time) string {
	d := max(0, now.Sub(since))
	if d < time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return d.Round(time.Second).String()
}

// whyNot says what keeps a server from serving.
func whyNot(ms *server.Membership, members []api.MemberStatus, now time.Time) []string {
	var what string
	switch ms.Role {
	case zab.Leading:
		what = "elected as the leader"
	case zab.Following, zab.Observing:
		what = fmt.Sprintf("server %d is the leader, this one joins it", ms.Leader)
	default:
		what = "looking for a leader"
	}
	if !ms.Since.IsZero() {
		what += ", since " + ago(ms.Since, now)
	}
	if ms.Waiting != "" {
		what += ": waits for " + ms.Waiting
	}
	why := []string{what}
	if _, ok := ms.Ensemble.Member(ms.ID); !ok {
		why = append(why, fmt.Sprintf("server %d, this one, is not on the list of servers", ms.ID))
	}
	if ms.Lost {
		why = append(why, "the disk of this server was lost: it has no vote until a leader has brought it up to date")
	}
	if ms.Role == zab.Looking {
		here := func(id zab.ServerID) bool {
			return slices.ContainsFunc(members, func(m api.MemberStatus) bool { return m.ID == int64(id) && m.State != "" })
		}
		if !ms.Ensemble.IsQuorum(here) {
			voters, n := ms.Ensemble.Voters(), 0
			for _, id := range voters {
				if here(id) {
					n++
				}
			}
			why = append(why, fmt.Sprintf("%d of %d voters are here, which is no quorum", n, len(voters)))
		}
	}
	if ms.Reason != nil {
		why = append(why, "the last role ended: "+ms.Reason.Error())
	}
	return why
}

// maxProblems bounds a list that the network can make long.
const maxProblems = 100

// problems lists what somebody should look at.
func problems(ms *server.Membership, members []api.MemberStatus, now time.Time) []string {
	var list []string
	add := func(format string, args ...any) {
		if len(list) < maxProblems {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	for _, m := range members {
		if !m.Self {
			if text := complaint(ms, &m, now); text != "" {
				add("server %d (%s) %s", m.ID, m.Address, text)
			}
		}
	}
	for _, b := range ms.Ballots {
		for _, d := range b.Differs {
			add("server %d has another list of servers: %s", b.Server, difference(d))
		}
		if b.Refused > 0 {
			add("%d votes of server %d made no sense and were not counted", b.Refused, b.Server)
		}
	}
	for _, s := range ms.Strangers {
		if s.From == s.ID {
			add("server %d is not on the list, and sends votes (%d)", s.ID, s.Count)
		} else {
			add("server %d votes for server %d, which is no voter on the list (%d votes)", s.From, s.ID, s.Count)
		}
	}
	for _, port := range []struct {
		name   string
		listen []error
		faults []transport.Fault
	}{
		{"election", ms.Election.Listen, ms.Election.Faults},
		{"quorum", ms.Quorum.Listen, ms.Quorum.Faults},
	} {
		for _, err := range port.listen {
			if err != nil {
				add("the %s port is not open: %v", port.name, err)
			}
		}
		for _, f := range port.faults {
			add("%s port: %s: %v%s, %d times, last %s ago", port.name, f.Host, f.Kind, detail(f), f.Count, ago(f.Last, now))
		}
	}
	return list
}

// difference puts a line of [zab.Ensemble.Diff] into words.
func difference(line string) string {
	if here, ok := strings.CutPrefix(line, "-"); ok {
		return "it lacks " + here
	}
	return "it has " + strings.TrimPrefix(line, "+")
}

func detail(f transport.Fault) string {
	if f.Detail == "" || f.Detail == f.Kind.Error() {
		return ""
	}
	return " (" + f.Detail + ")"
}

// complaint says what is wrong with another server, "" if nothing. A leader knows
// from its followers; others can only say whom they reach.
func complaint(ms *server.Membership, m *api.MemberStatus, now time.Time) string {
	leads := ms.Role == zab.Leading && ms.Phase == zab.Broadcast
	switch {
	case leads && m.Doing == upToDate && m.Behind > behindLimit:
		return fmt.Sprintf("is %d transactions behind", m.Behind)
	case leads && m.Doing == upToDate:
		return ""
	case leads && m.Doing != "":
		return "is not up to date: " + m.Doing
	case !m.Connected && m.Error != "":
		text := "cannot be reached: " + m.Error
		if !m.Since.IsZero() {
			text += ", since " + ago(m.Since, now)
		}
		return text
	case leads && m.State != "":
		return fmt.Sprintf("does not follow this leader: it is %s", asNoun(m.State))
	case leads:
		return "does not follow this leader"
	case !m.Connected && m.Role == "participant":
		return "is not connected yet"
	}
	return ""
}

// asNoun is a mode in a sentence.
func asNoun(state string) string {
	if state == stateWords[zab.Looking] {
		return "looking for a leader"
	}
	return "a " + state + " elsewhere"
}

// upToDate is what a leader says of a learner that has everything.
const upToDate = "up to date"

// behindLimit is how many transactions a follower may be behind before it is a
// problem: those under way are normal.
const behindLimit = 1000
