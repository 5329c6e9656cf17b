package server

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// A word is a four-letter word: an administration command that comes as the
// first bytes of a connection instead of a frame (package
// org.apache.zookeeper.server.command).
type word struct {
	name     string
	argBytes int
	run      func(s *Server, b *bytes.Buffer, args []byte)
}

var words = []word{
	{"conf", 0, (*Server).wordConf}, {"cons", 0, (*Server).wordCons}, {"crst", 0, (*Server).wordCrst},
	{"dirs", 0, (*Server).wordDirs}, {"dump", 0, (*Server).wordDump}, {"envi", 0, (*Server).wordEnvi},
	{"gtmk", 0, (*Server).wordGtmk}, {"hash", 0, (*Server).wordHash}, {"isro", 0, (*Server).wordIsro},
	{"mntr", 0, (*Server).wordMntr}, {"ruok", 0, (*Server).wordRuok}, {"srst", 0, (*Server).wordSrst},
	{"srvr", 0, (*Server).wordSrvr}, {"stat", 0, (*Server).wordStat}, {"stmk", 8, (*Server).wordStmk},
	{"wchc", 0, (*Server).wordWchc}, {"wchp", 0, (*Server).wordWchp}, {"wchs", 0, (*Server).wordWchs},
	{telnetClose, 0, func(*Server, *bytes.Buffer, []byte) {}},
}

// notServing is what the words answer while the ensemble has no leader, but for
// those that are not about what a server serves.
const notServing = "This ZooKeeper instance is not currently serving requests\n"

var wordsAlways = []string{"ruok", "isro", "envi", "gtmk", "stmk", telnetClose}

// telnetClose is what telnet sends when its user quits.
const telnetClose = "\xff\xf4\xff\xfd"

func fourLetterWord(name string) *word {
	for i := range words {
		if words[i].name == name {
			return &words[i]
		}
	}
	return nil
}

// runWord returns the answer to a word that came from addr.
func (s *Server) runWord(w *word, args []byte, addr netip.Addr) []byte {
	var b bytes.Buffer
	switch {
	case !s.mayRun(w, addr):
		fmt.Fprintf(&b, "%s is not executed because it is not in the whitelist.\n", w.name)
	case s.member != nil && !s.State().Serving && !slices.Contains(wordsAlways, w.name):
		b.WriteString(notServing)
		if w.name == "hash" { // has no line feed there, alone of all
			b.Truncate(b.Len() - 1)
		}
	default:
		w.run(s, &b, args)
	}
	return b.Bytes()
}

// mayRun reports whether addr may ask the word.
func (s *Server) mayRun(w *word, addr netip.Addr) bool {
	in := func(list []string) bool { return slices.Contains(list, w.name) || slices.Contains(list, "*") }
	return w.name == telnetClose || in(s.cfg.FourLetterWords) || addr.IsLoopback() && in(s.cfg.LoopbackWords)
}

func (s *Server) wordRuok(b *bytes.Buffer, _ []byte) { b.WriteString("imok") }

func (s *Server) wordIsro(b *bytes.Buffer, _ []byte) {
	if s.member != nil && !s.State().Serving {
		b.WriteString("null") // as Apache's prints what it does not have
		return
	}
	b.WriteString("rw")
}

func (s *Server) wordSrst(b *bytes.Buffer, _ []byte) {
	s.stats.reset()
	b.WriteString("Server stats reset.\n")
}

func (s *Server) wordCrst(b *bytes.Buffer, _ []byte) {
	s.ResetConnStats()
	b.WriteString("Connection stats reset.\n")
}

func (s *Server) wordDirs(b *bytes.Buffer, _ []byte) {
	data, logs := s.DiskSizes()
	fmt.Fprintf(b, "datadir_size: %d\nlogdir_size: %d\n", data, logs)
}

// The trace mask of Apache's server only chooses what it logs; ours is kept for
// tools that set and read it.
func (s *Server) wordGtmk(b *bytes.Buffer, _ []byte) {
	b.WriteString(strconv.FormatInt(s.traceMask.Load(), 10))
}

func (s *Server) wordStmk(b *bytes.Buffer, args []byte) {
	s.traceMask.Store(int64(binary.BigEndian.Uint64(args)))
	s.wordGtmk(b, nil)
}

func (s *Server) wordHash(b *bytes.Buffer, _ []byte) {
	for _, d := range s.Digests() {
		fmt.Fprintf(b, "%x: %d\n", uint64(d.Zxid), int64(d.Tree))
	}
}

func (s *Server) wordSrvr(b *bytes.Buffer, _ []byte) {
	fmt.Fprintf(b, "Zookeeper version: %s\n", s.cfg.Version)
	s.writeCounters(b)
}

func (s *Server) wordStat(b *bytes.Buffer, _ []byte) {
	fmt.Fprintf(b, "Zookeeper version: %s\nClients:\n", s.cfg.Version)
	for _, c := range s.connections() {
		c.writeStat(b, false)
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	s.writeCounters(b)
}

func (s *Server) writeCounters(b *bytes.Buffer) {
	low, mean, high := s.stats.Latency()
	st := s.State()
	fmt.Fprintf(b, "Latency min/avg/max: %d/%s/%d\n", low, decimal(mean), high)
	fmt.Fprintf(b, "Received: %d\nSent: %d\nConnections: %d\nOutstanding: %d\n",
		s.stats.Received.Load(), s.stats.Sent.Load(), st.Connections, st.Outstanding)
	fmt.Fprintf(b, "Zxid: %v\nMode: %s\nNode count: %d\n", st.LastZxid, st.Mode, st.Znodes)
	if st.Mode == "leader" {
		last, low, high := s.ProposalSizes()
		fmt.Fprintf(b, "Proposal sizes last/min/max: %d/%d/%d\n", last, low, high)
	}
}

// decimal prints a mean with at least one and at most four digits behind the
// point, as tools parse it.
func decimal(f float64) string {
	t := strings.TrimRight(strconv.FormatFloat(f, 'f', 4, 64), "0")
	if strings.HasSuffix(t, ".") {
		t += "0"
	}
	return t
}

func (s *Server) wordCons(b *bytes.Buffer, _ []byte) {
	for _, c := range s.connections() {
		c.writeStat(b, true)
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
}

func (c *conn) writeStat(b *bytes.Buffer, long bool) {
	i := c.Info()
	fmt.Fprintf(b, " /%s[%d](queued=%d,recved=%d,sent=%d", i.Remote, i.Interest, i.Queued, i.Received, i.Sent)
	if long && i.Session != 0 {
		fmt.Fprintf(b, ",sid=%v,lop=%s,est=%d,to=%d", i.Session, i.LastOp, i.Since.UnixMilli(), i.Timeout.Milliseconds())
		if i.LastXid >= 0 {
			fmt.Fprintf(b, ",lcxid=%s", hexInt(int64(i.LastXid)))
		}
		fmt.Fprintf(b, ",lzxid=%s,lresp=%d,llat=%d,minlat=%d,avglat=%d,maxlat=%d", hexInt(int64(i.LastZxid)),
			i.LastReplyMs, i.LastLatencyMs, i.MinLatencyMs, i.AvgLatencyMs, i.MaxLatencyMs)
	}
	b.WriteByte(')')
}

func hexInt(v int64) string { return "0x" + strconv.FormatUint(uint64(v), 16) }

func (s *Server) wordConf(b *bytes.Buffer, _ []byte) {
	data, logs := s.DiskSizes()
	c := &s.cfg
	fmt.Fprintf(b, "clientPort=%d\nsecureClientPort=-1\n", s.Port())
	fmt.Fprintf(b, "dataDir=%s\ndataDirSize=%d\ndataLogDir=%s\ndataLogSize=%d\n",
		filepath.Join(s.DataDir(), "version-2"), data, filepath.Join(s.LogDir(), "version-2"), logs)
	fmt.Fprintf(b, "tickTime=%d\nmaxClientCnxns=%d\nminSessionTimeout=%d\nmaxSessionTimeout=%d\nclientPortListenBacklog=-1\nserverId=%d\n",
		c.TickTime.Milliseconds(), max(0, c.MaxClientCnxns), c.MinSessionTimeout.Milliseconds(), c.MaxSessionTimeout.Milliseconds(), s.shownID())
	if s.member != nil {
		s.member.writeConf(b)
	}
}

func (s *Server) wordEnvi(b *bytes.Buffer, _ []byte) {
	b.WriteString("Environment:\n")
	for _, kv := range s.Environment() {
		fmt.Fprintf(b, "%s=%s\n", kv[0], kv[1])
	}
}

// Environment lists what envi prints, in its order. The java entries say what
// runs instead; none of them is a path or an argument of this process.
func (s *Server) Environment() [][2]string {
	host, _ := os.Hostname()
	cwd, _ := os.Getwd()
	name, home := os.Getenv("USER"), os.Getenv("HOME")
	if u, err := user.Current(); err == nil { // a service may have neither variable
		name, home = u.Username, u.HomeDir
	}
	system := runtime.GOOS
	if system == "linux" {
		system = "Linux" // as Java says it
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	mb := func(n uint64) string { return fmt.Sprintf("%dMB", n>>20) }
	return [][2]string{
		{"zookeeper.version", s.cfg.Version}, {"host.name", host},
		{"java.version", runtime.Version()}, {"java.vendor", "paddock"}, {"java.home", ""}, {"java.class.path", ""},
		{"java.library.path", ""}, {"java.io.tmpdir", os.TempDir()}, {"java.compiler", runtime.Compiler},
		{"os.name", system}, {"os.arch", runtime.GOARCH}, {"os.version", strings.TrimSpace(string(release))},
		{"user.name", name}, {"user.home", home}, {"user.dir", cwd},
		{"os.memory.free", mb(mem.HeapIdle)}, {"os.memory.max", mb(mem.Sys)}, {"os.memory.total", mb(mem.HeapSys)},
	}
}

const dumpTime = "Mon Jan 02 15:04:05 MST 2006"

func (s *Server) wordDump(b *bytes.Buffer, _ []byte) {
	b.WriteString("SessionTracker dump:\n")
	if s.learns() {
		s.dumpGlobalSessions(b)
	} else {
		s.dumpExpiry(b)
	}
	owners := s.EphemeralOwners()
	fmt.Fprintf(b, "ephemeral nodes dump:\nSessions with Ephemerals (%d):\n", len(owners))
	for _, o := range owners {
		fmt.Fprintf(b, "%v:\n", o.Session)
		for _, p := range o.Paths {
			fmt.Fprintf(b, "\t%s\n", p)
		}
	}
	s.dumpConnections(b, time.Now())
}

// dumpExpiry prints the sessions by when they expire.
func (s *Server) dumpExpiry(b *bytes.Buffer) {
	byExpiry := s.SessionsByExpiry()
	n := 0
	for _, e := range byExpiry {
		n += len(e.Sessions)
	}
	fmt.Fprintf(b, "Session Sets (%d)/(%d):\n", len(byExpiry), n)
	for _, e := range byExpiry {
		fmt.Fprintf(b, "%d expire at %s:\n", len(e.Sessions), e.At.UTC().Format(dumpTime))
		for _, id := range e.Sessions {
			fmt.Fprintf(b, "\t%v\n", id)
		}
	}
}

// dumpGlobalSessions prints the sessions of the ensemble: only the leader knows
// when they expire.
func (s *Server) dumpGlobalSessions(b *bytes.Buffer) {
	s.treeMu.RLock()
	sessions := s.tree.Sessions()
	s.treeMu.RUnlock()
	fmt.Fprintf(b, "Global Sessions(%d):\n", len(sessions))
	for _, st := range sessions {
		fmt.Fprintf(b, "%v\t%dms\n", st.ID, st.TimeoutMs)
	}
}

// dumpConnections prints the connections by when Apache's server would close them
// if it hears nothing more. Ours closes those with a session only together with
// the session.
func (s *Server) dumpConnections(b *bytes.Buffer, now time.Time) {
	bySecond := map[int64][]ConnInfo{}
	conns := s.Connections()
	for _, i := range conns {
		at := i.Since.Add(s.cfg.HandshakeTimeout)
		if i.Session != 0 {
			at = now.Add(i.Timeout)
		}
		bySecond[at.Unix()+1] = append(bySecond[at.Unix()+1], i)
	}
	fmt.Fprintf(b, "Connections dump:\nConnections Sets (%d)/(%d):\n", len(bySecond), len(conns))
	for _, at := range slices.Sorted(maps.Keys(bySecond)) {
		fmt.Fprintf(b, "%d expire at %s:\n", len(bySecond[at]), time.Unix(at, 0).UTC().Format(dumpTime))
		for _, i := range bySecond[at] {
			fmt.Fprintf(b, "\tip: /%s sessionId: %v\n", i.Remote, i.Session)
		}
	}
}

func (s *Server) wordMntr(b *bytes.Buffer, _ []byte) {
	fmt.Fprintf(b, "zk_version\t%s\nzk_server_state\t%s\n", s.cfg.Version, s.State().Mode)
	if ms, ok := s.Membership(); ok {
		fmt.Fprintf(b, "zk_peer_state\t%s\n", ms.PeerState())
		if ms.Role == zab.Observing {
			fmt.Fprintf(b, "zk_observer_master_id\t%d\n", ms.Leader)
		}
	}
	for _, m := range s.Metrics() {
		m.Each(func(name, value string) { fmt.Fprintf(b, "zk_%s\t%s\n", name, value) })
	}
}

func (s *Server) wordWchs(b *bytes.Buffer, _ []byte) {
	w := s.WatchSummary()
	fmt.Fprintf(b, "%d connections watching %d paths\nTotal watches:%d\n", w.Connections, w.Paths, w.Watches)
}

func (s *Server) wordWchc(b *bytes.Buffer, _ []byte) {
	byPath := s.WatchesByPath()
	bySession := map[zab.SessionID][]string{}
	for _, w := range byPath {
		for _, id := range w.Sessions {
			bySession[id] = append(bySession[id], w.Path)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(bySession)) {
		fmt.Fprintf(b, "%v\n", id)
		for _, p := range bySession[id] {
			fmt.Fprintf(b, "\t%s\n", p)
		}
	}
	b.WriteByte('\n')
}

func (s *Server) wordWchp(b *bytes.Buffer, _ []byte) {
	for _, w := range s.WatchesByPath() {
		fmt.Fprintf(b, "%s\n", w.Path)
		for _, id := range w.Sessions {
			fmt.Fprintf(b, "\t%v\n", id)
		}
	}
	b.WriteByte('\n')
}

func (s *Server) connections() []*conn {
	s.connMu.Lock()
	defer s.connMu.Unlock()
	cs := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		cs = append(cs, c)
	}
	slices.SortFunc(cs, func(a, b *conn) int { return cmp.Or(a.since.Compare(b.since), a.remote.Compare(b.remote)) })
	return cs
}

// opTags are the names of operations in the output of cons.
var opTags = map[wire.Op]string{
	wire.OpPing: "PING", wire.OpCreateSession: "SESS", wire.OpMulti: "MULT", wire.OpMultiRead: "MLTR", wire.OpCreate: "CREA",
	wire.OpCreate2: "CREA", wire.OpCreateContainer: "CREA", wire.OpCreateTTL: "CREA", wire.OpDelete: "DELE", wire.OpSetData: "SETD",
	wire.OpReconfig: "RECO", wire.OpSetACL: "SETA", wire.OpCloseSession: "CLOS", wire.OpSync: "SYNC", wire.OpCheck: "CHEC",
	wire.OpExists: "EXIS", wire.OpGetData: "GETD", wire.OpSetWatches: "SETW", wire.OpSetWatches2: "STW2", wire.OpAddWatch: "ADDW",
	wire.OpGetACL: "GETA", wire.OpGetChildren: "GETC", wire.OpGetChildren2: "GETC", wire.OpGetAllChildrenNumber: "GETACN",
	wire.OpCheckWatches: "CHKW", wire.OpRemoveWatches: "REMW", wire.OpWhoAmI: "HOMI", wire.OpGetEphemerals: "GETE",
}
