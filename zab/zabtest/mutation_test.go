package zabtest

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// patch is a mistake that is put into the production code of a test build. Where
// the code has two ways to notice, both are taken away.
type patch struct {
	name string
	bugs string // of the reliability reference's catalogue and rules
	edit
	more []edit
}

type edit struct {
	file string // below the module
	old  string // must be there once
	new  string
}

// patches are the mistakes that the seeds must find. Each is a change of few
// words that a tired programmer could make.
var patches = []patch{
	{"NEWLEADER is acknowledged before the log is safe", "B-02 B-03, R3", edit{"zab/learner.go",
		"case f.state != adopting || n.log.durable < f.newLeaderAt || n.disk.current != 0:",
		"case f.state != adopting || n.disk.current != 0:"}, nil},
	{"the current epoch is written before the log is safe", "B-01, R3", edit{"zab/learner.go",
		"	f.newLeaderAt, f.acked = n.log.last, n.log.committed\n",
		"	f.newLeaderAt, f.acked = n.log.last, n.log.committed\n	if n.hard.Current < n.epoch {\n		n.storeCurrent(n.epoch)\n	}\n"}, nil},
	{"transactions are applied before the own log is safe", "B-11 B-12, R1", edit{"zab/history.go",
		"upTo := min(h.committed, h.durable)", "upTo := h.committed"}, nil},
	{"proposals are acknowledged when they come", "B-02, R2", edit{"zab/learner.go",
		"if p.Zxid > n.log.durable {\n			break", "if false {\n			break"}, nil},
	{"the leader counts itself before its log is safe", "B-11, R2", edit{"zab/leader.go",
		"return n.log.durable >= z\n", "return true\n"}, nil},
	{"an election begins while the log is written", "B-15 B-16, R10", edit{"zab/node.go",
		"func (n *Node) idle() bool { return n.disk == diskWork{} && n.log.durable == n.log.last }",
		"func (n *Node) idle() bool { return n.disk == diskWork{} }"}, nil},
	{"a phantom inside the range is not cut off", "B-13 B-14, R7", edit{"zab/history.go",
		"		return syncPlan{syncTrunc, q}", "		return syncPlan{syncDiff, q}"}, nil},
	{"an epoch is promised before the promise is safe", "B-25, R14", edit{"zab/learner.go",
		"		f.state, f.blocked = agreeing, true\n		n.storeAccepted(e)\n		return nil\n",
		"		n.storeAccepted(e)\n		f.ackEpoch(true)\n		return nil\n"}, nil},
	{"the leader does not ask what was promised, and a promise counts twice", "B-25, R14", edit{"zab/leader.go",
		"		l.proposed = max(l.proposed, accepted+1)\n", ""}, []edit{{"zab/learner.go",
		"	f.ackEpoch(false)\n", "	f.ackEpoch(true)\n"}}},
	{"a leader is established without a quorum of promises", "S1", edit{"zab/leader.go",
		"if l.stage != proposingEpoch || !n.quorum(l.promised.has) {", "if l.stage != proposingEpoch {"}, nil},
	{"a leader serves before a quorum has its history", "R3", edit{"zab/leader.go",
		"if l.stage != syncing || !n.quorum(l.adopted.has) {", "if l.stage != syncing {"}, nil},
	{"the highest id leads, whatever it knows", "S9", edit{"zab/leader.go",
		"	if current != l.summaryEpoch {\n		return current > l.summaryEpoch\n	}\n	return last > l.summaryZxid && last.Counter() != 0\n",
		"	return false\n"}, []edit{{"zab/vote.go",
		"	case v.Epoch != w.Epoch:\n		return v.Epoch > w.Epoch\n	case v.Zxid != w.Zxid:\n		return v.Zxid > w.Zxid\n	}\n", "	}\n"}}},
	{"a minority is enough to commit", "S8", edit{"zab/leader.go",
		"			return k != nil && k.acked >= z\n", "			return k != nil\n"}, nil},
	{"a server without its disk votes", "R14", edit{"zab/node.go",
		"n.election.start(n.now, own, n.lost, n.ensemble, n.lastSeen)", "n.election.start(n.now, own, false, n.ensemble, n.lastSeen)"}, nil},
	{"a server without its disk promises", "R14", edit{"zab/learner.go",
		"if counts && !n.lost {", "if counts {"}, nil},
	{"proposals do not go to those who are about to join", "B-05, 1.5", edit{"zab/leader.go",
		"		if k.state < synced {\n			continue\n		}\n		if k.late",
		"		if k.state < following {\n			continue\n		}\n		if k.late"}, nil},
	{"a sync is answered by who believes to lead", "R26", edit{"zab/leader.go",
		"k != nil && k.state == following && k.answers >= k.mark", "k != nil && k.state == following"}, nil},
	{"the leader sends what it has in memory, over a hole", "B-06 B-07, R7", edit{"zab/leader.go",
		"	if k.sent < n.log.base {", "	if false {"}, nil},
	{"the vote's zxid counts more than its epoch", "B-01", edit{"zab/vote.go",
		"	case v.Epoch != w.Epoch:\n		return v.Epoch > w.Epoch\n", ""}, nil},
	{"recovered entries are not made safe", "R2", edit{"zab/storage/recover.go",
		"	for at < r.logEnd {", "	for at < 0 {"}, nil},
	{"a new log is not entered in its directory", "ALICE, R2", edit{"zab/storage/log.go",
		"	if err == nil {\n		err = s.fs.SyncDir(s.logDir)\n	}\n", ""}, nil},
	{"an epoch's rename is not made safe", "B-25, R14", edit{"zab/storage/epoch.go",
		"	if err := fsys.Rename(tmp, filepath.Join(dir, name)); err != nil {\n		return err\n	}\n	return fsys.SyncDir(dir)\n",
		"	return fsys.Rename(tmp, filepath.Join(dir, name))\n"}, nil},
	{"the log is not synced", "R2", edit{"zab/storage/log.go",
		"		if err := l.f.Datasync(); err != nil {", "		if err := error(nil); err != nil {"}, nil},
	{"snapshots hold what is not committed, and TRUNC leaves them", "B-20 B-27, R11", edit{"zab/storage/truncate.go",
		"		if sn.zxid > zxid {\n			if err", "		if false {\n			if err"}, []edit{{"zab/zabtest/server.go",
		"	v.tickDriver()\n	v.run()\n}", "	v.store.WriteSnapshot(v.tree.Freeze(), noLock)\n	v.tickDriver()\n	v.run()\n}"}}},
	{"an installed snapshot leaves later entries of the log", "B-09, 4.5", edit{"zab/storage/install.go",
		"	if err := s.forget(fl, zxid); err != nil {", "	if err := s.forget(fl, zxid|0xffffffffffff); err != nil {"}, nil},
	{"the gap of an installed snapshot is not seen", "B-07, R7", edit{"zab/storage/recover.go",
		"	if last.Epoch() == next.Epoch() {\n		return 0, false", "	if true {\n		return 0, false"}, nil},
	{"a snapshot is not synced", "R8", edit{"zab/storage/filestream.go",
		"	if err == nil {\n		err = w.f.Sync()\n	}\n", ""}, nil},
	{"a closed session leaves ephemeral znodes", "B-19 B-42, R20", edit{"zab/znode/apply.go",
		"	for _, path := range paths {\n		t.applyDelete(h.Zxid, path, r)\n	}\n	// What", "	// What"}, []edit{{"zab/znode/apply.go",
		"	if set := t.ephemerals[h.Session]; len(set) > 0 {", "	if set := t.ephemerals[h.Session]; len(set) > 1 {"}}},
	{"a failed multi keeps what it did first", "S25", edit{"zab/znode/prep.go",
		"			failed = code\n			c.p.rollback(mark, digest)\n", "			failed, _, _ = code, mark, digest\n"}, nil},
	{"writes of a closing session are taken", "S21, R20", edit{"zab/znode/prep.go",
		"	if closing || !known && (ephemeral || !c.p.t.cfg.LocalSessions) {", "	if !known && !closing {"}, nil},
	{"a session expires before its time", "S23", edit{"zab/session/session.go",
		"func (t *Tracker) bucket(ms int64) int64 { return (ms/t.tickMs + 1) * t.tickMs }",
		"func (t *Tracker) bucket(ms int64) int64 { return (ms / t.tickMs) * t.tickMs }"}, nil},
	{"a server that looks for a leader is not told who leads", "B-32, L4", edit{"zab/election.go",
		"	v.out = b\n	agree := func", "	if v.out = b; e.lost {\n		return\n	}\n	agree := func"}, []edit{{"zab/election.go",
		"	if e.majority(agree) && e.leads(leader, func(w *elector) ballot { return w.out }) {", "	if e.majority(agree) && b.round == e.round && e.leads(leader, func(w *elector) ballot { return w.out }) {"}}},
	{"sessions do not expire", "B-42, L6", edit{"zab/session/session.go",
		"		if at <= nowMs {\n", "		if at < 0 {\n"}, nil},
	{"ACLs do not keep anybody from creating", "S26", edit{"zab/znode/prep.go",
		"	if !p.t.Allowed(parent.acl, wire.PermCreate, c.req.IDs) {", "	if false {"}, nil},
	{"a quota is full one write too late", "S26", edit{"zab/znode/quota.go",
		"			return false, used+diff > hard", "			return false, used > hard"}, nil},
	{"a watch that is given back takes the others along", "B-48, 11.4", edit{"zab/watch/watch.go",
		"	m.drop(conn, path, old, modes)\n	m.setConn(conn, path, old&^modes)\n", "	m.drop(conn, path, old, allMode)\n	m.setConn(conn, path, 0)\n"}, nil},
	{"recursive watches are told of changed children", "B-48, 11.4", edit{"zab/watch/watch.go",
		"	inChild = Child | Persistent\n", "	inChild = Child | Persistent | Recursive\n"}, nil},
	{"half of the groups are enough", "S8", edit{"zab/quorum.go",
		"	return won > groups/2\n", "	return won >= groups/2\n"}, nil},
	{"one who joins late is not told that it may serve", "L4", edit{"zab/leader.go",
		"	if l.stage == serving {\n		l.welcome(k)\n		return nil\n", "	if l.stage == serving {\n		return nil\n"}, nil},
	{"one who returns with an old promise costs the leader its place", "L5", edit{"zab/leader.go",
		"	if counts && accepted > l.proposed {\n", "	if counts && (accepted > l.proposed || accepted < l.proposed && l.stage == serving) {\n"}, nil},
	{"a watch does not end with its event", "S29", edit{"zab/watch/watch.go",
		"				c.modes &^= once\n", ""}, nil},
}

var update = flag.Bool("update", false, "write TRACK-RECORD.md")

const moduleRoot = "../.."

// apply returns the changed files by their paths.
func (p *patch) apply(t *testing.T) map[string]string {
	t.Helper()
	changed := map[string]string{}
	for _, e := range append([]edit{p.edit}, p.more...) {
		path, err := filepath.Abs(filepath.Join(moduleRoot, e.file))
		if err != nil {
			t.Fatal(err)
		}
		text, ok := changed[path]
		if !ok {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			t.Errorf("%s: the place to change is there %d times in %s", p.name, n, e.file)
		}
		changed[path] = strings.Replace(text, e.old, e.new, 1)
	}
	return changed
}

// TestPatchesApply tells at once when a change of the code makes a patch useless.
func TestPatchesApply(t *testing.T) {
	for _, p := range patches {
		p.apply(t)
	}
}

// found is a mutation and the seed that found it.
type found struct {
	name, bugs, where string
	seeds             int
	rule              string
}

// maxSeeds is how many seeds may be needed to find a mistake.
const maxSeeds = 1500

var failedSeed = regexp.MustCompile(`seed (\d+), faults \d: (\S+) at`)

// TestPatchesAreFound compiles the simulator with each mistake and plays seeds
// until one finds it. It takes minutes: PADDOCK_SIM_MUTATIONS=1, and -update to
// write the table.
func TestPatchesAreFound(t *testing.T) {
	if os.Getenv("PADDOCK_SIM_MUTATIONS") == "" {
		t.Skip("PADDOCK_SIM_MUTATIONS is not set")
	}
	var table []found
	for _, p := range patches {
		t.Run(p.name, func(t *testing.T) {
			dir := t.TempDir()
			overlay, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "sim.test")
			replace := map[string]string{}
			for path, text := range p.apply(t) {
				replace[path] = filepath.Join(dir, fmt.Sprintf("changed%d.go", len(replace)))
				if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			b, err := json.Marshal(map[string]map[string]string{"Replace": replace})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(overlay, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			cmd := exec.Command(binary, "-test.run", "^TestSeeds$", "-faults", "1", "-first")
			cmd.Env = append(os.Environ(), fmt.Sprint("PADDOCK_SIM_SEEDS=", maxSeeds))
			out, err := cmd.CombinedOutput()
			m := failedSeed.FindSubmatch(out)
			f := found{p.name, p.bugs, p.file, maxSeeds, "not found"}
			if err == nil || m == nil {
				table = append(table, f)
				t.Fatalf("%d seeds do not find it: %v\n%.2000s", maxSeeds, err, out)
			}
			f.rule, f.seeds = string(m[2]), 0
			fmt.Sscan(string(m[1]), &f.seeds)
			f.seeds++
			t.Logf("%s, seeds %d", f.rule, f.seeds)
			table = append(table, f)
		})
	}
	if *update {
		writeTable(t, table)
	}
}

// TestMutationsAreFound plays the mistakes of the driver: the listed seed and some
// behind it, or as many as are needed with PADDOCK_SIM_MUTATIONS.
func TestMutationsAreFound(t *testing.T) {
	all := os.Getenv("PADDOCK_SIM_MUTATIONS") != ""
	for _, m := range Mutations() {
		seeds := 5
		if all {
			seeds = maxSeeds
		}
		f, seed := findMutation(m, seeds)
		switch {
		case f.rule != "":
			t.Logf("%s: %s, seed %d", m.Name, f.rule, seed)
		case all:
			t.Errorf("%s: %d seeds do not find it", m.Name, f.seeds)
		default:
			t.Logf("%s: not found near seed %d any more, see PADDOCK_SIM_MUTATIONS", m.Name, m.Seed)
		}
	}
}

func findMutation(m Mutation, seeds int) (found, uint64) {
	f := found{name: m.Name, bugs: m.Bugs, where: "driver"}
	for seed := m.Seed; f.seeds < seeds; seed++ {
		f.seeds++
		if r := Run(Options{Seed: seed, Faults: Heavy, Mutation: m.Name}); r.Violation != nil {
			f.rule = r.Violation.Rule
			return f, seed
		}
	}
	return f, 0
}

// TestMinimizeKeepsTheRule cuts a failing run down to what is needed.
func TestMinimizeKeepsTheRule(t *testing.T) {
	for seed := range uint64(20) {
		r := Run(Options{Seed: seed, Faults: Heavy, Faulty: 0, Mutation: "ack before sync"})
		if r.Violation == nil || len(r.Plan) < 10 {
			continue
		}
		m := Minimize(r, 60)
		if m.Violation == nil || m.Violation.Rule != r.Violation.Rule || len(m.Plan) > len(r.Plan)/2 {
			t.Errorf("seed %d: %d faults became %d, %v became %v", seed, len(r.Plan), len(m.Plan), r.Violation, m.Violation)
		}
		if again := Run(m.Options); again.Hash != m.Hash {
			t.Errorf("seed %d: the smaller run cannot be repeated", seed)
		}
		t.Logf("seed %d: %d faults became %d, %d clients %d", seed, len(r.Plan), len(m.Plan), r.Stats.Clients, m.Stats.Clients)
		return
	}
	t.Error("no seed to minimize")
}

func writeTable(t *testing.T, table []found) {
	for _, m := range Mutations() {
		m.Seed = 0
		f, _ := findMutation(m, maxSeeds)
		table = append(table, f)
	}
	var b strings.Builder
	b.WriteString(trackRecord)
	b.WriteString("| mistake | bugs and rules | in | found by | seeds needed |\n| --- | --- | --- | --- | --- |\n")
	for _, f := range table {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d |\n", f.name, f.bugs, f.where, f.rule, f.seeds)
	}
	b.WriteString(ourBugs)
	if err := os.WriteFile("TRACK-RECORD.md", []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
