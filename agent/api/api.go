// Package api holds the JSON shapes of the agent's HTTP API, which package
// agent/admin serves and the commands read.
//
// All paths stand under /v1. An answer is one JSON document; a refused request
// answers with a 4xx or 5xx status and an [Error]. Times are RFC 3339, zxids and
// session ids hex text as ZooKeeper prints them, durations are milliseconds.
//
//	GET    /v1/status                      Status
//	GET    /v1/members                     MemberList
//	GET    /v1/services                    ServiceList
//	GET    /v1/services/{name}             Service; 404 if no such service is known
//	GET    /v1/registrations               RegistrationList
//	PUT    /v1/registrations               body: a service file, YAML or JSON; RegisterResult
//	DELETE /v1/registrations/{id}          204; 404 if no such registration is known
//	GET    /v1/config/status               ConfigStatus
//
// A name or id in a path is escaped as one path segment.
package api

import "time"

// Error is the body of every refused request.
type Error struct {
	Error string `json:"error"`
}

// Status is the answer of GET /v1/status: one page about this agent. A part that
// is switched off is null.
type Status struct {
	Name      string    `json:"name"`
	Version   string    `json:"version"`
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
	UptimeMs  int64     `json:"uptime_ms"`
	// Ready is what /readyz says; NotReady lists the reasons if it is false.
	Ready    bool     `json:"ready"`
	NotReady []string `json:"not_ready,omitempty"`

	Bootstrap  *BootstrapStatus  `json:"bootstrap"`
	Zab        *ZabStatus        `json:"zab"`
	Session    *SessionStatus    `json:"session"`
	Registry   *RegistryStatus   `json:"registry"`
	DNS        *DNSStatus        `json:"dns"`
	ConfigSync *ConfigSyncStatus `json:"configsync"`
	Admin      *AdminStatus      `json:"admin"`
}

// ZabStatus is about the ZooKeeper server in this agent; null for role client.
type ZabStatus struct {
	Role string `json:"role"` // voter, observer
	// State is ZooKeeper's word: standalone, leader, follower, observer,
	// looking or read-only.
	State       string `json:"state"`
	ID          int64  `json:"id"`
	LeaderID    int64  `json:"leader_id,omitempty"`
	ClientAddr  string `json:"client_addr"`
	Zxid        string `json:"zxid"`
	Epoch       int64  `json:"epoch"`
	Znodes      int64  `json:"znodes"`
	Ephemerals  int64  `json:"ephemerals"`
	DataBytes   int64  `json:"data_bytes"`
	Watches     int64  `json:"watches"`
	Connections int64  `json:"connections"`
	Sessions    int64  `json:"sessions"`
	Outstanding int64  `json:"outstanding"`
	DataDir     string `json:"data_dir"`
	SnapBytes   int64  `json:"snap_bytes"`
	LogBytes    int64  `json:"log_bytes"`
	// Ensemble is null for a server alone.
	Ensemble *EnsembleStatus `json:"ensemble,omitempty"`
}

// EnsembleStatus is the ensemble as this server sees it.
type EnsembleStatus struct {
	Serving bool `json:"serving"`
	// Phase is election, discovery, synchronization or broadcast, since Since.
	Phase string    `json:"phase"`
	Since time.Time `json:"since"`
	// Why says in words what keeps this server from serving.
	Why []string `json:"why,omitempty"`
	// Problems are what somebody should look at: servers that are missing or
	// behind, lists that differ, strangers at the ports.
	Problems []string `json:"problems,omitempty"`
	// ListVersion is the zxid that made the list of servers, 0x0 for one of a file.
	// Changing is true while a reconfiguration is under way.
	ListVersion string `json:"list_version"`
	Changing    bool   `json:"changing"`
	// Lost is true if this server has lost its disk: it has no vote until a leader
	// has brought it up to date.
	Lost    bool           `json:"lost"`
	Members []MemberStatus `json:"members"`
}

// MemberStatus is one line of the list of servers.
type MemberStatus struct {
	ID   int64 `json:"id"`
	Self bool  `json:"self"`
	// Role is what the list says: participant or observer. State is what the server
	// was last heard to be: leader, follower, observer, looking; "" if unknown.
	Role  string `json:"role"`
	State string `json:"state,omitempty"`
	// Address is that of the election port, Client that for clients.
	Address string `json:"address"`
	Client  string `json:"client,omitempty"`
	// Connected is about the election port; Error says why there is no connection.
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since,omitzero"`
	Error     string    `json:"error,omitempty"`
	// Acked is the last transaction that a follower of this leader holds, Behind how
	// many more the leader has, -1 if that is not known.
	Acked  string `json:"acked,omitempty"`
	Behind int64  `json:"behind,omitempty"`
	// Doing is what a follower of this leader does: "up to date", "copying", ...
	Doing string `json:"doing,omitempty"`
}

// SessionStatus is about the agent's own session.
type SessionStatus struct {
	ID        string `json:"id"`
	State     string `json:"state"` // connected, connecting, expired
	TimeoutMs int64  `json:"timeout_ms"`
	Server    string `json:"server"`
	// Resumed is true if the session of the process before this one was taken up.
	Resumed bool `json:"resumed"`
}

// RegistryStatus is about registrations and views.
type RegistryStatus struct {
	Root          string `json:"root"`
	Services      int    `json:"services"`
	Instances     int    `json:"instances"`
	Registrations int    `json:"registrations"`
	// Passing counts the registrations that stand in the tree.
	Passing int `json:"passing"`
	// Live is false while lookups are answered from the last good picture,
	// which was current at AsOf.
	Live bool      `json:"live"`
	AsOf time.Time `json:"as_of"`
	// FileErrors are the service files that could not be read as they are now.
	FileErrors []string `json:"file_errors,omitempty"`
}

// DNSStatus is about the name server.
type DNSStatus struct {
	Listen  string `json:"listen"`
	Domain  string `json:"domain"`
	Queries int64  `json:"queries"`
	Failed  int64  `json:"failed"`
}

// ConfigSyncStatus counts the targets of GET /v1/config/status.
type ConfigSyncStatus struct {
	Targets int `json:"targets"`
	Current int `json:"current"`
	Failing int `json:"failing"`
}

// AdminStatus is about this HTTP API.
type AdminStatus struct {
	Listen string `json:"listen"`
}

// ServiceList is the answer of GET /v1/services, sorted by name.
type ServiceList struct {
	Services []ServiceSummary `json:"services"`
	Live     bool             `json:"live"`
	AsOf     time.Time        `json:"as_of"`
}

// ServiceSummary is one line of the list.
type ServiceSummary struct {
	Name      string   `json:"name"`
	Instances int      `json:"instances"`
	Protocols []string `json:"protocols"`
	Groups    []string `json:"groups,omitempty"`
	Versions  []string `json:"versions,omitempty"`
}

// Service is the answer of GET /v1/services/{name}. The query parameters group,
// version and protocol select among the instances.
type Service struct {
	Name      string     `json:"name"`
	Instances []Instance `json:"instances"`
	Live      bool       `json:"live"`
	AsOf      time.Time  `json:"as_of"`
}

// Instance is one address of a service.
type Instance struct {
	Host     string            `json:"host"`
	Port     int               `json:"port"`
	Protocol string            `json:"protocol"`
	App      string            `json:"app,omitempty"`
	Group    string            `json:"group,omitempty"`
	Version  string            `json:"version,omitempty"`
	Weight   int               `json:"weight"`
	Enabled  bool              `json:"enabled"`
	Params   map[string]string `json:"params,omitempty"`
}

// RegistrationList is the answer of GET /v1/registrations: what this agent keeps
// registered, sorted by id.
type RegistrationList struct {
	Registrations []Registration `json:"registrations"`
}

// Registration is one service of this host.
type Registration struct {
	ID       string `json:"id"`
	Service  string `json:"service"`
	Protocol string `json:"protocol"`
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Group    string `json:"group,omitempty"`
	Version  string `json:"version,omitempty"`
	// Source is the service file, or "api" for one that came over HTTP.
	Source string `json:"source"`
	// State is registered, pending (wanted but not in the tree yet), critical
	// (a check fails, so it is not in the tree) or offline.
	State string `json:"state"`
	// Path is the znode while it is registered.
	Path   string  `json:"path,omitempty"`
	Error  string  `json:"error,omitempty"`
	Checks []Check `json:"checks,omitempty"`
}

// Check is the last result of one check of a registration.
type Check struct {
	Name   string    `json:"name"` // tcp 127.0.0.1:20880
	Status string    `json:"status"`
	Output string    `json:"output,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

// RegisterResult answers PUT /v1/registrations with the ids of the services in
// the body, in its order. A service whose id was known is replaced.
type RegisterResult struct {
	IDs []string `json:"ids"`
}

// ConfigStatus is the answer of GET /v1/config/status, in the order of the
// configuration.
type ConfigStatus struct {
	Targets []TargetStatus `json:"targets"`
}

// TargetStatus says how far one local file or directory is.
type TargetStatus struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
	// State is current, waiting (not read yet), stale (no connection: the last
	// good content stays), missing (the znode does not exist) or failing.
	State string `json:"state"`
	// Zxid is the mzxid of the newest znode in what was last written.
	Zxid      string    `json:"zxid,omitempty"`
	Files     int       `json:"files"`
	Bytes     int64     `json:"bytes"`
	WrittenAt time.Time `json:"written_at,omitzero"`
	CheckedAt time.Time `json:"checked_at,omitzero"`
	Error     string    `json:"error,omitempty"`
}
