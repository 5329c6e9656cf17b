package zab

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScenarios runs the stories in testdata. The log of what the servers do is
// the expected output; -rewrite writes it again.
//
//	ensemble N|1,2,3 [observers=4,5] [history=COUNT]   the servers; none is started
//	form ID...                                         start them; only the result is logged
//	start ID... | crash ID... | wipe ID | lost ID      lost: start with an empty disk
//	tick MS                                            time passes
//	propose ID [COUNT]                                 transactions of the leader
//	reconfig ID voters=1,2 [observers=3]               a new list of servers
//	confirm ID                                         does it still lead?
//	hold A->B | release A->B | deliver A->B [COUNT]    packets wait; all go; some go
//	drop A-B                                           the connection breaks
//	cut A-B [quorum] | heal                            no connection, or no quorum port
//	slow ID | fast ID | sync ID [COUNT]                the disk waits; does not; does some
//	set ID [zxids=..] [logs=Z] [accepted=E] [current=E]  what a disk holds
//	skip Z                                             as if all had come as far as Z
//	diverged ID                                        its tree is not the leader's
//	broken ID                                          truncation fails
//	loud | quiet                                       log pings and notifications too
//	disk ID... | status ID...                          what a disk holds; what a server is
//
// A block may hold several commands, one a line.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		w := newWorld(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			w.t = t
			lines := []string{commandLine(d)}
			if d.Input != "" {
				lines = append(lines, strings.Split(d.Input, "\n")...)
			}
			for _, line := range lines {
				if err := w.command(strings.Fields(line)); err != nil {
					w.logf("error: %v", err)
				}
				w.pump()
			}
			return w.take()
		})
	})
}

// commandLine puts the first line of a block together again.
func commandLine(d *datadriven.TestData) string {
	line := d.Cmd
	for _, a := range d.CmdArgs {
		line += " " + a.Key
		if len(a.Vals) > 0 {
			line += "=" + strings.Join(a.Vals, ",")
		}
	}
	return line
}

// command carries out one line of a scenario.
func (w *world) command(f []string) error {
	var words []string
	args := map[string]string{}
	for _, a := range f[1:] {
		if k, v, ok := strings.Cut(a, "="); ok {
			args[k] = v
		} else {
			words = append(words, a)
		}
	}
	count := func(i, otherwise int) int {
		if i >= len(words) {
			return otherwise
		}
		n, err := strconv.Atoi(words[i])
		if err != nil {
			w.t.Fatal(err)
		}
		return n
	}
	hosts := func() (hs []*host) {
		for _, s := range words {
			hs = append(hs, w.host(ServerID(mustUint(w.t, s))))
		}
		return hs
	}
	first := func() *host { return w.host(ServerID(mustUint(w.t, words[0]))) }
	pair := func() (a, b ServerID) {
		x, y, ok := strings.Cut(strings.Replace(words[0], "->", "-", 1), "-")
		if !ok {
			w.t.Fatalf("%q is not a pair of servers", words[0])
		}
		return ServerID(mustUint(w.t, x)), ServerID(mustUint(w.t, y))
	}
	switch f[0] {
	case "ensemble":
		voters := serverIDs(w.t, words[0])
		if len(voters) == 1 && !strings.Contains(words[0], ",") {
			n := voters[0]
			voters = nil
			for id := ServerID(1); id <= n; id++ {
				voters = append(voters, id)
			}
		}
		observers := serverIDs(w.t, args["observers"])
		history := 100
		if args["history"] != "" {
			history = int(mustUint(w.t, args["history"]))
		}
		e := listOf(0, voters, observers)
		for _, m := range e.Members {
			w.add(m.ID, e, history)
		}
		for _, id := range serverIDs(w.t, args["strangers"]) {
			w.add(id, listOf(0, append(slices.Clone(voters), id), observers), history)
		}
	case "start":
		for _, h := range hosts() {
			w.start(h, false)
		}
	case "form":
		for _, h := range hosts() {
			w.start(h, false)
		}
		w.pass(300)
		w.take()
		for _, h := range hosts() {
			w.logf("%d %s", h.id, h.shown)
		}
	case "lost":
		w.start(first(), true)
	case "crash":
		for _, h := range hosts() {
			w.crash(h)
		}
	case "wipe":
		h := first()
		h.hist, h.logs, h.hard = nil, 0, HardState{}
	case "tick":
		w.pass(Millis(count(0, 0)))
	case "propose":
		return w.propose(first(), count(1, 1), nil)
	case "reconfig":
		return w.propose(first(), 1, listOf(0, serverIDs(w.t, args["voters"]), serverIDs(w.t, args["observers"])))
	case "confirm":
		h := first()
		h.confirmed++
		return h.node.Step(Message{Type: MsgConfirm, Token: h.confirmed})
	case "hold":
		a, b := pair()
		w.held[[2]ServerID{a, b}] = true
	case "release":
		a, b := pair()
		delete(w.held, [2]ServerID{a, b})
	case "deliver":
		a, b := pair()
		for range count(1, 1) {
			for _, x := range slices.Clone(w.wires) {
				for i := range x.ends {
					if x.ends[i].id == b && x.ends[1-i].id == a {
						w.deliverNow(x, i)
					}
				}
			}
			w.pump()
		}
	case "drop", "cut":
		a, b := pair()
		if f[0] == "cut" {
			w.cut[[2]ServerID{min(a, b), max(a, b)}] = "all"
			if len(words) > 1 {
				w.cut[[2]ServerID{min(a, b), max(a, b)}] = words[1]
			}
		}
		for _, x := range slices.Clone(w.wires) {
			if p := [2]ServerID{x.ends[0].id, x.ends[1].id}; p == [2]ServerID{a, b} || p == [2]ServerID{b, a} {
				w.sever(x)
			}
		}
	case "deaf":
		first().deaf = true
	case "heal":
		clear(w.cut)
		for _, h := range w.hosts {
			h.deaf = false
		}
	case "slow":
		first().slow = true
	case "fast":
		first().slow = false
	case "broken":
		first().broken = true
	case "sync":
		h := first()
		for range count(1, len(h.work)) {
			if len(h.work) == 0 {
				return fmt.Errorf("the disk has nothing to do")
			}
			w.sync(h)
			w.pump()
		}
	case "set":
		h := first()
		if s, ok := args["zxids"]; ok {
			h.hist = nil
			for part := range strings.SplitSeq(s, ",") {
				// 0x100000001+3 stands for three transactions, 0x100000004! for one that
				// is another than elsewhere.
				part, phantom := strings.CutSuffix(part, "!")
				from, n, _ := strings.Cut(part, "+")
				z := Zxid(mustUint(w.t, from))
				for range max(1, mustUint(w.t, n)) {
					h.hist = append(h.hist, Proposal{Zxid: z, Data: fmt.Appendf(nil, "%v phantom=%v", z, phantom)})
					z++
				}
			}
			h.hard = HardState{h.last().Epoch(), h.last().Epoch()}
		}
		if s := args["logs"]; s != "" {
			h.logs = Zxid(mustUint(w.t, s))
		}
		if s := args["accepted"]; s != "" {
			h.hard.Accepted = Epoch(mustUint(w.t, s))
		}
		if s := args["current"]; s != "" {
			h.hard.Current = Epoch(mustUint(w.t, s))
		}
	case "diverged":
		return first().node.Step(Message{Type: MsgDiverged})
	case "skip":
		z := Zxid(mustUint(w.t, words[0]))
		for _, h := range w.hosts {
			p := Proposal{Zxid: z, Data: []byte("skipped")}
			h.hist, h.tree = append(h.hist, p), append(h.tree, p)
			h.node.log.reset(z)
		}
	case "loud", "quiet":
		w.loud = f[0] == "loud"
	case "disk":
		for _, h := range hosts() {
			var zs []string
			for _, p := range h.hist {
				zs = append(zs, p.Zxid.String())
			}
			w.logf("%d accepted %d current %d log %s", h.id, h.hard.Accepted, h.hard.Current, strings.Join(zs, " "))
		}
	case "status":
		for _, h := range hosts() {
			if h.node == nil {
				w.logf("%d is down", h.id)
				continue
			}
			s := h.node.Status()
			w.logf("%d %v %v leader %d epoch %d committed %v durable %v", h.id, s.Role, s.Phase, s.Leader, s.Epoch, s.Committed, s.Durable)
			for _, l := range s.Learners {
				w.logf("  learner %d %s acked %v", l.ID, l.State, l.Acked)
			}
		}
	default:
		return fmt.Errorf("unknown command")
	}
	return nil
}

func mustUint(t testing.TB, s string) uint64 {
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func serverIDs(t testing.TB, s string) (ids []ServerID) {
	for part := range strings.SplitSeq(s, ",") {
		if part != "" {
			ids = append(ids, ServerID(mustUint(t, part)))
		}
	}
	return ids
}
