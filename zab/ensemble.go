package zab

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// An Ensemble is a list of servers as zoo.cfg and its dynamic file give it. The
// zero Ensemble is a server alone. It is not changed once it is in use, and may
// then be read by many goroutines.
type Ensemble struct {
	// Members are sorted by ID.
	Members []Member
	// Groups are the members of each group; empty: a majority of the voters counts.
	Groups map[int][]ServerID
	// Weights of servers within their groups; a voter that is not here has weight 1.
	Weights map[ServerID]int64
	// Version is that of a dynamic configuration: the zxid that made it. 0 for a
	// static one. Equal and Diff do not look at it.
	Version int64
}

// A Member is one line "server.ID=…" (class QuorumPeer.QuorumServer).
type Member struct {
	ID    ServerID
	Addrs []MemberAddr // at least one
	// Observer is false for a participant, who votes.
	Observer bool
	// ClientAddr is the host:port behind the semicolon, "" if there is none.
	ClientAddr string
}

// A MemberAddr is where the other servers reach one.
type MemberAddr struct {
	Host                     string // name or address, without brackets; IPv6 as Java writes it
	QuorumPort, ElectionPort int
}

// Bounds of a text that is read, for it may come from the network.
const (
	maxEnsembleText = 256 << 10
	maxMembers      = 1024
	maxMemberAddrs  = 16
)

// Member returns the line of a server.
func (e *Ensemble) Member(id ServerID) (Member, bool) {
	i, ok := slices.BinarySearchFunc(e.Members, id, func(m Member, id ServerID) int { return cmp.Compare(m.ID, id) })
	if !ok {
		return Member{}, false
	}
	return e.Members[i], true
}

// IsVoter reports whether a server is a participant.
func (e *Ensemble) IsVoter(id ServerID) bool {
	m, ok := e.Member(id)
	return ok && !m.Observer
}

// Voters returns the ids of the participants, sorted. The slice is the caller's.
func (e *Ensemble) Voters() []ServerID {
	ids := make([]ServerID, 0, len(e.Members))
	for _, m := range e.Members {
		if !m.Observer {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// String prints the line as ZooKeeper does: the role is always there, a client
// address only if the line gave it, several addresses in the order of hosts.
func (m Member) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "server.%d=", m.ID)
	addrs := m.Addrs
	if len(addrs) > 1 {
		addrs = slices.Clone(addrs)
		slices.SortStableFunc(addrs, func(a, b MemberAddr) int { return strings.Compare(a.Host, b.Host) })
	}
	for i, a := range addrs {
		if i > 0 {
			b.WriteByte('|')
		}
		b.WriteString(joinHost(a.Host, a.QuorumPort) + ":" + strconv.Itoa(a.ElectionPort))
	}
	if m.Observer {
		b.WriteString(":observer")
	} else {
		b.WriteString(":participant")
	}
	if m.ClientAddr != "" {
		b.WriteString(";" + m.ClientAddr)
	}
	return b.String()
}

// Lines prints the ensemble without its version, in ZooKeeper's order. With
// groups, the weight of every voter is printed.
func (e *Ensemble) Lines() []string {
	var lines []string
	for _, id := range javaOrder(e.Members, func(m Member) ServerID { return m.ID }) {
		m, _ := e.Member(id)
		lines = append(lines, m.String())
	}
	if !e.hierarchical() {
		return lines
	}
	var grouped []ServerID
	group := map[ServerID]int{}
	for g, ids := range e.Groups {
		for _, id := range ids {
			group[id] = g
		}
		grouped = append(grouped, ids...)
	}
	slices.Sort(grouped)
	grouped = javaOrder(grouped, func(id ServerID) ServerID { return id })
	for _, g := range javaOrder(slices.Sorted(maps.Keys(e.Groups)), func(g int) int { return g }) {
		var ids []string
		for _, id := range grouped {
			if group[id] == g {
				ids = append(ids, strconv.FormatInt(int64(id), 10))
			}
		}
		lines = append(lines, fmt.Sprintf("group.%d=%s", g, strings.Join(ids, ":")))
	}
	weighted := slices.Sorted(maps.Keys(e.Weights))
	for _, m := range e.Members {
		if _, ok := e.Weights[m.ID]; !ok && !m.Observer {
			weighted = append(weighted, m.ID)
		}
	}
	slices.Sort(weighted)
	for _, id := range javaOrder(weighted, func(id ServerID) ServerID { return id }) {
		lines = append(lines, fmt.Sprintf("weight.%d=%d", id, e.Weight(id)))
	}
	return lines
}

// String prints the text of the znode /zookeeper/config, of NEWLEADER and of
// notifications: the lines, then the version in hex, with no line feed behind it.
func (e *Ensemble) String() string {
	return strings.Join(append(e.Lines(), fmt.Sprintf("version=%x", uint64(e.Version))), "\n")
}

// javaOrder returns the keys of a sorted list in the order in which a Java
// HashMap<Long, …> goes through them, as that is the order of lines in
// ZooKeeper's text. For ids up to 15 it is the natural one. Keys that share a
// bucket are in the order of their insertion there, which is not known here.
func javaOrder[T any, K ~int | ~int64](list []T, key func(T) K) []K {
	keys := make([]K, len(list))
	for i, v := range list {
		keys[i] = key(v)
	}
	size := max(16, 1<<bits.Len(uint((4*len(list)-1)/3))) // grows at three quarters
	bucket := func(k K) uint32 {
		h := uint32(uint64(k) ^ uint64(k)>>32)
		return (h ^ h>>16) & uint32(size-1)
	}
	slices.SortStableFunc(keys, func(a, b K) int { return cmp.Compare(bucket(a), bucket(b)) })
	return keys
}

// ParseEnsemble reads what String prints, and what else Java takes for such
// properties, except escapes: blank lines, comments, blanks around key and value.
func ParseEnsemble(text string) (*Ensemble, error) {
	if len(text) > maxEnsembleText {
		return nil, fmt.Errorf("list of servers has %d bytes, more than %d", len(text), maxEnsembleText)
	}
	e := &Ensemble{}
	versions := 0
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.Trim(line, " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		if strings.Contains(line, `\`) {
			return nil, fmt.Errorf("escape in %q", line)
		}
		key, value := cutProperty(line)
		var err error
		if key == "version" {
			var v uint64
			if v, err = strconv.ParseUint(value, 16, 63); err != nil {
				err = fmt.Errorf("wants a hex number, got %q: %w", value, ErrNotNumber)
			}
			e.Version = int64(v)
			versions++
		} else {
			err = e.Set(key, value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if versions > 1 {
		return nil, errors.New("version: is given twice")
	}
	return e, e.Check()
}

// cutProperty splits a line without blanks around it into key and value.
func cutProperty(line string) (key, value string) {
	i := strings.IndexAny(line, "=: \t\f")
	if i < 0 {
		return line, ""
	}
	value = strings.TrimLeft(line[i:], " \t\f")
	if value != "" && (value[0] == '=' || value[0] == ':') {
		value = value[1:]
	}
	return line[:i], strings.TrimLeft(value, " \t\f")
}

// ErrNotNumber says that an id or a version is not a number. ZooKeeper answers
// to it with another code than to everything else that is wrong with a reconfig.
var ErrNotNumber = errors.New("not a number")

// IsEnsembleKey reports whether a property belongs to the list of servers.
func IsEnsembleKey(key string) bool {
	return strings.HasPrefix(key, "server.") || strings.HasPrefix(key, "group.") || strings.HasPrefix(key, "weight.")
}

// Set takes one property in: server.N, group.N or weight.N. It is for those who
// read a list line by line; Check must follow.
func (e *Ensemble) Set(key, value string) error {
	kind, number, ok := strings.Cut(key, ".")
	if !ok || !IsEnsembleKey(key) {
		return errors.New("is not server.N, group.N or weight.N")
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return &numberError{fmt.Sprintf("wants a number behind the dot, got %q", number)}
	}
	switch id := ServerID(n); kind {
	case "server":
		return e.setServer(id, value)
	case "group":
		if _, twice := e.Groups[int(n)]; twice {
			return fmt.Errorf("group %d is listed twice", n)
		}
		if len(e.Groups) == maxMembers {
			return fmt.Errorf("more than %d groups", maxMembers)
		}
		var ids []ServerID
		for part := range strings.SplitSeq(value, ":") {
			id, err := strconv.ParseInt(part, 10, 64)
			if err != nil || len(ids) == maxMembers {
				return &numberError{fmt.Sprintf("wants server ids separated by colons, got %q", value)}
			}
			ids = append(ids, ServerID(id))
		}
		if e.Groups == nil {
			e.Groups = map[int][]ServerID{}
		}
		e.Groups[int(n)] = ids
	case "weight":
		w, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return &numberError{fmt.Sprintf("wants a whole number that is not negative, got %q", value)}
		}
		if _, twice := e.Weights[id]; twice {
			return fmt.Errorf("the weight of server %d is listed twice", id)
		}
		if len(e.Weights) == maxMembers {
			return fmt.Errorf("more than %d weights", maxMembers)
		}
		if e.Weights == nil {
			e.Weights = map[ServerID]int64{}
		}
		e.Weights[id] = int64(w)
	}
	return nil
}

func (e *Ensemble) setServer(id ServerID, value string) error {
	m, err := ParseMember(id, value)
	if err != nil {
		return err
	}
	i, twice := slices.BinarySearchFunc(e.Members, id, func(m Member, id ServerID) int { return cmp.Compare(m.ID, id) })
	if twice {
		return fmt.Errorf("server %d is listed twice", id)
	}
	if len(e.Members) == maxMembers {
		return fmt.Errorf("more than %d servers", maxMembers)
	}
	e.Members = slices.Insert(e.Members, i, m)
	return nil
}

// numberError is an ErrNotNumber that says it in other words.
type numberError struct{ msg string }

func (e *numberError) Error() string        { return e.msg }
func (e *numberError) Is(target error) bool { return target == ErrNotNumber }

// Check looks at the list as a whole.
func (e *Ensemble) Check() error {
	used := map[string]ServerID{}
	voters := 0
	for _, m := range e.Members {
		if !m.Observer {
			voters++
		}
		for _, a := range m.Addrs {
			for _, port := range []int{a.QuorumPort, a.ElectionPort} {
				addr := joinHost(a.Host, port)
				if other, twice := used[addr]; twice {
					return fmt.Errorf("servers %d and %d both have the address %s", other, m.ID, addr)
				}
				used[addr] = m.ID
			}
		}
	}
	if len(e.Members) > 0 && voters == 0 {
		return errors.New("the list has observers only; at least one participant is needed")
	}
	group := map[ServerID]int{}
	for _, g := range slices.Sorted(maps.Keys(e.Groups)) {
		for _, id := range e.Groups[g] {
			if _, ok := e.Member(id); !ok {
				return fmt.Errorf("group.%d names server %d, which is not listed", g, id)
			}
			if other, twice := group[id]; twice {
				return fmt.Errorf("server %d is in group %d and in group %d", id, other, g)
			}
			group[id] = g
		}
	}
	for _, id := range slices.Sorted(maps.Keys(e.Weights)) {
		if _, ok := e.Member(id); !ok {
			return fmt.Errorf("weight.%d: server %d is not listed", id, id)
		}
	}
	for _, m := range e.Members {
		if _, ok := group[m.ID]; e.hierarchical() && !m.Observer && !ok {
			return fmt.Errorf("server %d is in no group", m.ID)
		}
	}
	return nil
}

const memberForm = "wants host:port:port[:participant|:observer][;[host:]port]"

// ParseMember reads what stands behind "server.N=".
func ParseMember(id ServerID, value string) (Member, error) {
	m := Member{ID: id}
	peers, client, hasClient := strings.Cut(value, ";")
	if hasClient {
		host, port, ok := "0.0.0.0", client, true
		if strings.Contains(client, ":") {
			host, port, ok = cutHost(client)
		}
		n, err := parsePort(port)
		if !ok || err != nil {
			return m, fmt.Errorf("%s, got the client address %q", memberForm, client)
		}
		m.ClientAddr = joinHost(javaHost(host), n)
	}
	addrs := strings.SplitN(peers, "|", maxMemberAddrs+1)
	if len(addrs) > maxMemberAddrs {
		return m, fmt.Errorf("more than %d addresses", maxMemberAddrs)
	}
	role := "" // of any address holds for the server: ZooKeeper prints it behind the last
	for _, addr := range addrs {
		a, r, err := parseMemberAddr(addr)
		if err != nil {
			return m, err
		}
		if r != "" && role != "" && r != role {
			return m, errors.New("the addresses have different roles")
		}
		role = cmp.Or(role, r)
		m.Addrs = append(m.Addrs, a)
	}
	m.Observer = role == "observer"
	return m, nil
}

// parseMemberAddr reads host:port:port[:role]; role is "" if there is none.
func parseMemberAddr(addr string) (a MemberAddr, role string, err error) {
	host, rest, ok := cutHost(addr)
	parts := strings.Split(rest, ":")
	if !ok || len(parts) < 2 || len(parts) > 3 {
		return a, "", fmt.Errorf("%s, got %q", memberForm, addr)
	}
	quorum, err1 := parsePort(parts[0])
	election, err2 := parsePort(parts[1])
	if err1 != nil || err2 != nil {
		return a, "", fmt.Errorf("%s, got %q", memberForm, addr)
	}
	if quorum == election {
		return a, "", fmt.Errorf("quorum and election port are both %d", quorum)
	}
	if len(parts) == 3 {
		role = strings.ToLower(strings.TrimSpace(parts[2]))
		if role != "observer" && role != "participant" {
			return a, "", fmt.Errorf("wants participant or observer, got %q", parts[2])
		}
	}
	return MemberAddr{javaHost(host), quorum, election}, role, nil
}

// cutHost splits host:rest; an IPv6 address stands in brackets.
func cutHost(s string) (host, rest string, ok bool) {
	if inner, found := strings.CutPrefix(s, "["); found {
		host, rest, ok = strings.Cut(inner, "]:")
	} else {
		host, rest, ok = strings.Cut(s, ":")
	}
	return host, rest, ok && host != "" && !strings.ContainsAny(host, " \t\f\v\r\n[]=,|;\\")
}

// javaHost writes an IPv6 address as Java does, all eight groups of it, so that
// texts from there can be compared. Names and IPv4 addresses are left alone.
func javaHost(host string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil || ip.Is4():
		return host
	case ip.Is4In6():
		return ip.Unmap().String()
	}
	b := ip.As16()
	var groups [8]string
	for i := range groups {
		groups[i] = strconv.FormatUint(uint64(b[2*i])<<8|uint64(b[2*i+1]), 16)
	}
	if zone := ip.Zone(); zone != "" {
		return strings.Join(groups[:], ":") + "%" + zone
	}
	return strings.Join(groups[:], ":")
}

// joinHost is what net.JoinHostPort does, in a package without network.
func joinHost(host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(port)
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err
}
