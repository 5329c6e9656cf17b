//go:build interop

package peer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Spec says what a member of an ensemble is.
type Spec struct {
	Kind     string
	Observer bool
}

// ParseSpecs reads a list of members in the order of their ids, as in
// "paddock,apache,apache-3.8:observer".
func ParseSpecs(text string) ([]Spec, error) {
	var specs []Spec
	for item := range strings.SplitSeq(text, ",") {
		kind, role, _ := strings.Cut(strings.TrimSpace(item), ":")
		if !slices.Contains([]string{KindPaddock, KindApache, KindDebian}, kind) || role != "" && role != "observer" && role != "participant" {
			return nil, fmt.Errorf("member %q: want %s, %s or %s, and perhaps :observer", item, KindPaddock, KindApache, KindDebian)
		}
		specs = append(specs, Spec{kind, role == "observer"})
	}
	return specs, nil
}

// A Member is one server of an ensemble. It runs or not; Kill, Term, Pause and
// Resume of the Member say so to the Ensemble, those of its Server do not.
type Member struct {
	*Server
	ID       int
	Observer bool

	quorum, election int // ports
	running, paused  bool
	settings         []string
}

func (m *Member) String() string { return fmt.Sprintf("server %d (%s)", m.ID, m.Kind) }

// An Ensemble is a set of servers that elect a leader.
type Ensemble struct {
	Members []*Member // Members[i].ID is i+1

	dir string
}

// A Place is where a member runs: a network namespace and its address.
type Place struct{ Namespace, Host string }

// NewEnsemble makes the directories of an ensemble on 127.0.0.1; nothing runs
// yet. Settings are those of Start, for every member.
func NewEnsemble(t testing.TB, specs []Spec, settings ...string) *Ensemble {
	t.Helper()
	return NewEnsembleAt(t, specs, nil, settings...)
}

// NewEnsembleAt is NewEnsemble with members in network namespaces, if places are
// given.
func NewEnsembleAt(t testing.TB, specs []Spec, places []Place, settings ...string) *Ensemble {
	t.Helper()
	e := &Ensemble{dir: t.TempDir()}
	for i, spec := range specs {
		m := &Member{
			Server: &Server{Kind: spec.Kind, Host: "127.0.0.1", Dir: filepath.Join(e.dir, fmt.Sprint(i+1))},
			ID:     i + 1, Observer: spec.Observer,
		}
		if places != nil {
			m.netns, m.Host = places[i].Namespace, places[i].Host
			m.Port, m.quorum, m.election, m.Admin = 2181, 2888, 3888, 8080
		} else {
			m.Port, m.quorum, m.election, m.Admin = ensemble.next(t), ensemble.next(t), ensemble.next(t), ensemble.next(t)
		}
		e.Members = append(e.Members, m)
	}
	settings = append([]string{"initLimit=20", "syncLimit=4"}, settings...)
	for _, m := range e.Members {
		line := fmt.Sprintf("server.%d=%s:%d:%d", m.ID, m.Host, m.quorum, m.election)
		if m.Observer {
			line += ":observer"
		}
		settings = append(settings, line)
	}
	for _, m := range e.Members {
		m.settings = settings
		if m.Observer {
			m.settings = append(slices.Clip(settings), "peerType=observer")
		}
		m.configure(t, m.settings)
		m.writeID(t)
	}
	t.Cleanup(func() { e.keepLogs(t) })
	return e
}

// Kinds is the list of members, as ParseSpecs reads it.
func (e *Ensemble) Kinds() string {
	var kinds []string
	for _, m := range e.Members {
		kind := m.Kind
		if m.Observer {
			kind += ":observer"
		}
		kinds = append(kinds, kind)
	}
	return strings.Join(kinds, ",")
}

func (m *Member) writeID(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.Data(), "myid"), fmt.Appendln(nil, m.ID), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Launch runs the process. It does not wait.
func (m *Member) Launch(t testing.TB) {
	t.Helper()
	m.launch(t)
	m.running, m.paused = true, false
}

// PID is the number of the member's process.
func (m *Member) PID() int { return m.cmd.Process.Pid }

// Kill ends the process as a crash would (kill -9).
func (m *Member) Kill() {
	m.Server.Kill()
	m.running = false
}

// End is Kill, but the member may have ended before, or never have run.
func (m *Member) End() {
	if m.running {
		m.Kill()
	}
}

// Up reports whether the member runs, or is paused, as far as the Ensemble knows.
func (m *Member) Up() bool { return m.running }

// Term asks the process to end and waits until it has.
func (m *Member) Term(t testing.TB) {
	t.Helper()
	m.Server.Term(t)
	m.running = false
}

// Pause stops the process as it stands (SIGSTOP) and waits until no thread of it
// runs any more.
func (m *Member) Pause(t testing.TB) {
	t.Helper()
	m.Signal(t, syscall.SIGSTOP)
	m.paused = true
	for deadline := time.Now().Add(Patience); ; time.Sleep(time.Millisecond) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", m.cmd.Process.Pid))
		running := 0
		for _, thread := range threads {
			b, rerr := os.ReadFile(thread)
			err = errors.Join(err, rerr)
			// The state follows the name, which is in brackets and may hold anything.
			_, state, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
			if !strings.HasPrefix(state, "T") {
				running++
			}
		}
		if len(threads) > 0 && running == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d threads of %v do not stop: %v", running, len(threads), m, err)
		}
	}
}

// Resume lets it go on (SIGCONT).
func (m *Member) Resume(t testing.TB) {
	t.Helper()
	m.Signal(t, syscall.SIGCONT)
	m.paused = false
}

// Wipe loses the disk of a member that does not run: all but myid.
func (m *Member) Wipe(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(m.Data()); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(m.Data(), 0o755); err != nil {
		t.Fatal(err)
	}
	m.writeID(t)
}

// Swap makes a member that does not run one of another kind, over the same data.
func (m *Member) Swap(t testing.TB, kind string) {
	t.Helper()
	m.Kind = kind
	m.configure(t, m.settings)
}

// Mode is what "srvr" says: leader, follower, observer, or "" while the member
// does not serve.
func (m *Member) Mode() string {
	// Apache's server never closes the connection of a word that comes a moment
	// too early.
	answer, err := m.word("srvr", 500*time.Millisecond)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(answer) {
		if mode, ok := strings.CutPrefix(line, "Mode: "); ok {
			return strings.TrimSpace(mode)
		}
	}
	return ""
}

// Voters are the members with a vote.
func (e *Ensemble) Voters() []*Member {
	return slices.DeleteFunc(slices.Clone(e.Members), func(m *Member) bool { return m.Observer })
}

// Running are the members that run and are not paused.
func (e *Ensemble) Running() []*Member {
	return slices.DeleteFunc(slices.Clone(e.Members), func(m *Member) bool { return !m.running || m.paused })
}

// Quorum is how many voters it takes.
func (e *Ensemble) Quorum() int { return len(e.Voters())/2 + 1 }

// Servers is the connect string of the members.
func Servers(members ...*Member) string {
	var addrs []string
	for _, m := range members {
		addrs = append(addrs, m.Addr())
	}
	return strings.Join(addrs, ",")
}

// Start runs all members and waits until they serve. The voter with the highest
// id leads, if all have the same history: the servers of a bare quorum with it
// must all agree, and the others find a leader.
func (e *Ensemble) Start(t testing.TB) (leader *Member) {
	t.Helper()
	voters := e.Voters()
	e.StartOnly(t, voters[len(voters)-e.Quorum():]...)
	for _, m := range e.Members {
		if !m.running {
			m.Launch(t)
		}
	}
	return e.AwaitLeader(t)
}

// StartOnly runs some members and waits until they serve.
func (e *Ensemble) StartOnly(t testing.TB, members ...*Member) (leader *Member) {
	t.Helper()
	for _, m := range members {
		m.Launch(t)
	}
	return e.AwaitLeader(t)
}

// AwaitLeader waits until one of the running members leads and all others
// follow or observe.
func (e *Ensemble) AwaitLeader(t testing.TB) *Member {
	t.Helper()
	return e.AwaitLeaderOf(t, e.Running()...)
}

// AwaitLeaderOf waits until one of some members leads and the others of them
// follow or observe.
func (e *Ensemble) AwaitLeaderOf(t testing.TB, members ...*Member) *Member {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		var leader *Member
		modes, fit := []string{}, true
		for _, m := range members {
			select {
			case <-m.Done():
				t.Fatalf("%v ended: %v\n%s", m, m.cmd.ProcessState, m.Tail())
			default:
			}
			mode := m.Mode()
			modes = append(modes, fmt.Sprintf("%d %s", m.ID, mode))
			switch {
			case mode == "leader" && leader == nil && !m.Observer:
				leader = m
			case mode != "follower" || m.Observer:
				fit = fit && mode == "observer" && m.Observer
			}
		}
		if leader != nil && fit {
			return leader
		}
		if time.Now().After(deadline) {
			e.Fatalf(t, "no leader with followers: %v", modes)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// AwaitNoLeader waits until a running member does not serve.
func (e *Ensemble) AwaitNoLeader(t testing.TB, m *Member) {
	t.Helper()
	for deadline := time.Now().Add(Patience); m.Mode() != ""; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.Fatalf(t, "%v still serves as %s", m, m.Mode())
		}
	}
}

// Settle waits until all running members have the same last zxid.
func (e *Ensemble) Settle(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(50 * time.Millisecond) {
		var zxids []string
		for _, m := range e.Running() {
			zxids = append(zxids, m.Zxid(t).String())
		}
		if len(slices.Compact(slices.Clone(zxids))) == 1 {
			return
		}
		if time.Now().After(deadline) {
			e.Fatalf(t, "last zxids stay different: %v", zxids)
		}
	}
}

// States reads the trees of all running members, reports what is not the same in
// all, and returns them.
func (e *Ensemble) States(t testing.TB) []*State {
	t.Helper()
	e.AwaitLeader(t)
	e.Settle(t)
	var states []*State
	var first *Member
	digests, ours := 0, slices.ContainsFunc(e.Members, func(m *Member) bool { return m.Kind == KindPaddock })
	apaches, counting := 0, 0
	for _, m := range e.Running() {
		st := ReadState(t, m.Server)
		if first == nil {
			first = m
		} else {
			digests += CompareStates(t, fmt.Sprintf("%v compared with %v", m, first), st, states[0])
		}
		states = append(states, st)
		n := m.Metric(t, "digest_mismatches_count")
		if n != 0 && m.Kind == KindPaddock {
			t.Errorf("%v counts %v digest mismatches", m, n)
		} else if n != 0 {
			t.Logf("%v counts %v digest mismatches", m, n)
			counting++
		}
		if m.Kind != KindPaddock {
			apaches++
		}
	}
	// One of Apache's servers does so now and then after a pause or a restart, among
	// its like too, and nothing is wrong; if ours were wrong, all of them would.
	if ours && apaches > 0 && counting == apaches {
		t.Errorf("all %d of Apache's servers count digest mismatches", apaches)
	}
	t.Logf("%s: %d equal trees of %d znodes at %v, %d digests compared", e.Kinds(), len(states), len(states[0].Znodes), states[0].Zxid, digests)
	return states
}

// Fatalf ends the test with the ends of all logs.
func (e *Ensemble) Fatalf(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), e.Tails())
}

// Tails are the ends of all logs.
func (e *Ensemble) Tails() string {
	var b strings.Builder
	for _, m := range e.Members {
		if m.Server.Process != nil {
			fmt.Fprintf(&b, "---- %v\n%s\n", m, m.Tail())
		}
	}
	return b.String()
}

// keepLogs copies what the members wrote to the directory INTEROP_LOGS.
func (e *Ensemble) keepLogs(t testing.TB) {
	dir := os.Getenv("INTEROP_LOGS")
	if dir == "" {
		return
	}
	for _, m := range e.Members {
		name := strings.NewReplacer("/", "-", ",", "-").Replace(fmt.Sprintf("%s-%d.log", t.Name(), m.ID))
		if b, err := os.ReadFile(filepath.Join(m.Dir, "server.log")); err == nil {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Log(err)
			}
		}
	}
}
