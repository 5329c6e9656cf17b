package config

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// An Ensemble is a list of servers as zoo.cfg and its dynamic file give it. The
// zero Ensemble is a server alone.
type Ensemble struct {
	// Servers are sorted by ID.
	Servers []Server
	// Groups are the members of each group; empty: one majority of weights counts.
	Groups map[int][]int
	// Weights of servers; a server that is not here has weight 1.
	Weights map[int]int
	// Version is that of a dynamic configuration, 0 for a static one.
	Version int64
}

// A Server is one line "server.ID=…" (class QuorumPeer.QuorumServer).
type Server struct {
	ID    int
	Addrs []ServerAddr // at least one
	// Observer is false for a participant, who votes.
	Observer bool
	// ClientAddr is the host:port behind the semicolon, "" if there is none.
	ClientAddr string
}

// A ServerAddr is where the other servers reach one.
type ServerAddr struct {
	Host                     string // name or address, without brackets
	QuorumPort, ElectionPort int
}

// String prints the line as ZooKeeper does: the role is always there, the
// client address only if the line gave it.
func (s Server) String() string {
	addrs := make([]string, len(s.Addrs))
	for i, a := range s.Addrs {
		addrs[i] = net.JoinHostPort(a.Host, strconv.Itoa(a.QuorumPort)) + ":" + strconv.Itoa(a.ElectionPort)
	}
	role := ":participant"
	if s.Observer {
		role = ":observer"
	}
	line := "server." + strconv.Itoa(s.ID) + "=" + strings.Join(addrs, "|") + role
	if s.ClientAddr != "" {
		line += ";" + s.ClientAddr
	}
	return line
}

// Lines prints the ensemble as lines that ParseEnsemble reads.
func (e Ensemble) Lines() []string {
	var lines []string
	for _, s := range e.Servers {
		lines = append(lines, s.String())
	}
	for _, g := range slices.Sorted(maps.Keys(e.Groups)) {
		ids := make([]string, len(e.Groups[g]))
		for i, id := range e.Groups[g] {
			ids[i] = strconv.Itoa(id)
		}
		lines = append(lines, fmt.Sprintf("group.%d=%s", g, strings.Join(ids, ":")))
	}
	for _, id := range slices.Sorted(maps.Keys(e.Weights)) {
		lines = append(lines, fmt.Sprintf("weight.%d=%d", id, e.Weights[id]))
	}
	return lines
}

// Server returns the line of a server.
func (e Ensemble) Server(id int) (Server, bool) {
	for _, s := range e.Servers {
		if s.ID == id {
			return s, true
		}
	}
	return Server{}, false
}

// Voters counts the participants.
func (e Ensemble) Voters() int {
	n := 0
	for _, s := range e.Servers {
		if !s.Observer {
			n++
		}
	}
	return n
}

// ParseEnsemble reads lines "server.N=…", "group.N=…" and "weight.N=…". The
// error is Errors; its lines are indexes into the list plus one.
func ParseEnsemble(lines []string) (Ensemble, error) {
	var e Ensemble
	var errs Errors
	for i, l := range lines {
		key, value, ok := strings.Cut(l, "=")
		if !ok {
			errs = append(errs, &Error{Line: i + 1, Msg: fmt.Sprintf("wants server.N=host:port:port, got %q", l)})
			continue
		}
		if err := e.add(strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			errs = append(errs, &Error{Line: i + 1, Key: key, Msg: err.Error()})
		}
	}
	if len(errs) == 0 {
		if err := e.check(); err != nil {
			errs = append(errs, &Error{Msg: err.Error()})
		}
	}
	return e, errs.err()
}

// isEnsembleKey reports whether a property belongs to the list of servers.
func isEnsembleKey(key string) bool {
	return strings.HasPrefix(key, "server.") || strings.HasPrefix(key, "group.") || strings.HasPrefix(key, "weight.")
}

// add takes one property in.
func (e *Ensemble) add(key, value string) error {
	kind, number, ok := strings.Cut(key, ".")
	id, err := strconv.Atoi(number)
	if !ok || !isEnsembleKey(key) {
		return fmt.Errorf("is not server.N, group.N or weight.N")
	}
	if err != nil || id < 0 {
		return fmt.Errorf("wants a number behind the dot, got %q", number)
	}
	switch kind {
	case "server":
		s, err := parseServer(id, value)
		if err != nil {
			return err
		}
		if _, twice := e.Server(id); twice {
			return fmt.Errorf("server %d is listed twice", id)
		}
		e.Servers = append(e.Servers, s)
		slices.SortFunc(e.Servers, func(a, b Server) int { return cmp.Compare(a.ID, b.ID) })
	case "group":
		var ids []int
		for part := range strings.SplitSeq(value, ":") {
			n, err := strconv.Atoi(part)
			if err != nil {
				return fmt.Errorf("wants server ids separated by colons, got %q", value)
			}
			ids = append(ids, n)
		}
		if e.Groups == nil {
			e.Groups = map[int][]int{}
		}
		e.Groups[id] = ids
	case "weight":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return fmt.Errorf("wants a whole number that is not negative, got %q", value)
		}
		if e.Weights == nil {
			e.Weights = map[int]int{}
		}
		e.Weights[id] = n
	}
	return nil
}

// check looks at the list as a whole.
func (e *Ensemble) check() error {
	used := map[string]int{}
	for _, s := range e.Servers {
		for _, a := range s.Addrs {
			for _, port := range []int{a.QuorumPort, a.ElectionPort} {
				addr := net.JoinHostPort(a.Host, strconv.Itoa(port))
				if other, twice := used[addr]; twice {
					return fmt.Errorf("servers %d and %d both have the address %s", other, s.ID, addr)
				}
				used[addr] = s.ID
			}
		}
	}
	if len(e.Servers) > 0 && e.Voters() == 0 {
		return fmt.Errorf("the list has observers only; at least one participant is needed")
	}
	group := map[int]int{}
	for _, g := range slices.Sorted(maps.Keys(e.Groups)) {
		for _, id := range e.Groups[g] {
			if _, ok := e.Server(id); !ok {
				return fmt.Errorf("group.%d names server %d, which is not listed", g, id)
			}
			if other, twice := group[id]; twice {
				return fmt.Errorf("server %d is in group %d and in group %d", id, other, g)
			}
			group[id] = g
		}
	}
	for _, s := range e.Servers {
		if _, ok := group[s.ID]; len(e.Groups) > 0 && !s.Observer && !ok {
			return fmt.Errorf("server %d is in no group", s.ID)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(e.Weights)) {
		if _, ok := e.Server(id); !ok {
			return fmt.Errorf("weight.%d: server %d is not listed", id, id)
		}
	}
	return nil
}

const serverForm = "wants host:port:port[:participant|:observer][;[host:]port]"

// parseServer reads what stands behind "server.N=".
func parseServer(id int, value string) (Server, error) {
	s := Server{ID: id}
	peers, client, hasClient := strings.Cut(value, ";")
	if hasClient {
		host, port, ok := "0.0.0.0", client, true
		if strings.Contains(client, ":") {
			host, port, ok = cutHost(client)
		}
		n, err := parsePort(port)
		if !ok || err != nil {
			return s, fmt.Errorf("%s, got the client address %q", serverForm, client)
		}
		s.ClientAddr = net.JoinHostPort(host, strconv.Itoa(n))
	}
	for i, addr := range strings.Split(peers, "|") {
		host, rest, ok := cutHost(addr)
		parts := strings.Split(rest, ":")
		if !ok || len(parts) < 2 || len(parts) > 3 {
			return s, fmt.Errorf("%s, got %q", serverForm, addr)
		}
		quorum, err1 := parsePort(parts[0])
		election, err2 := parsePort(parts[1])
		if err1 != nil || err2 != nil {
			return s, fmt.Errorf("%s, got %q", serverForm, addr)
		}
		if quorum == election {
			return s, fmt.Errorf("quorum and election port are both %d", quorum)
		}
		observer := false
		if len(parts) == 3 {
			switch strings.ToLower(parts[2]) {
			case "observer":
				observer = true
			case "participant":
			default:
				return s, fmt.Errorf("wants participant or observer, got %q", parts[2])
			}
		}
		if i > 0 && observer != s.Observer {
			return s, fmt.Errorf("the addresses have different roles")
		}
		s.Observer = observer
		s.Addrs = append(s.Addrs, ServerAddr{host, quorum, election})
	}
	return s, nil
}

// cutHost splits host:rest; an IPv6 address stands in brackets.
func cutHost(s string) (host, rest string, ok bool) {
	if inner, found := strings.CutPrefix(s, "["); found {
		host, rest, ok = strings.Cut(inner, "]:")
	} else {
		host, rest, ok = strings.Cut(s, ":")
	}
	return host, rest, ok && host != "" && !strings.ContainsAny(host, " \t[]")
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err
}
