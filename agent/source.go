package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/paddockio/paddock/agent/admin"
	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/agent/services"
	"github.com/paddockio/paddock/configsync"
	"github.com/paddockio/paddock/registry"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/wire"
)

// The Agent is what its HTTP side shows.
var _ admin.Source = (*Agent)(nil)

// NotReady lists what keeps the agent from answering with fresh data.
func (a *Agent) NotReady() []string {
	var why []string
	switch zk := a.zookeeper.Load(); {
	case zk == nil && a.cfg.Zab.Role != config.RoleClient:
		why = append(why, a.waiting())
	case zk != nil && a.takenOff(zk.Config().ID):
		why = append(why, "the ZooKeeper server has been taken off the list of servers")
	case zk != nil && !zk.State().Serving:
		why = append(why, "the ZooKeeper server does not serve")
	}
	if a.client != nil && a.client.State() != wire.StateSyncConnected {
		why = append(why, "no ZooKeeper session")
	}
	if a.registry != nil && !a.registryReady() {
		why = append(why, "the services have not been read yet")
	}
	return why
}

// registryReady reports whether the services were ever read, by this process or
// by the one that left its last good picture.
func (a *Agent) registryReady() bool {
	_, asOf := a.registry.Live()
	return !asOf.IsZero()
}

// Status is one page about the agent.
func (a *Agent) Status() api.Status {
	v := api.BuildVersion()
	why := a.NotReady()
	s := api.Status{
		Name: a.cfg.Name, Version: v.Paddock, PID: os.Getpid(), StartedAt: a.started, UptimeMs: time.Since(a.started).Milliseconds(),
		Ready: len(why) == 0, NotReady: why,
	}
	s.Bootstrap = a.bootstrapStatus()
	if z := a.zookeeper.Load(); z != nil {
		st := z.State()
		data, logs := z.DiskSizes()
		s.Zab = &api.ZabStatus{
			Role: string(config.RoleVoter), State: st.Mode, ID: int64(z.Config().ID), ClientAddr: z.Addr().String(),
			Zxid: st.LastZxid.String(), Epoch: int64(st.LastZxid.Epoch()), Znodes: int64(st.Znodes), Ephemerals: int64(st.Ephemerals),
			DataBytes: st.DataBytes, Watches: int64(st.Watches), Connections: int64(st.Connections), Sessions: int64(st.Sessions),
			Outstanding: st.Outstanding, DataDir: z.DataDir(), SnapBytes: data, LogBytes: logs,
		}
	}
	if a.client != nil {
		sess := a.client.Session()
		s.Session = &api.SessionStatus{
			ID: sess.ID.String(), State: "connecting", TimeoutMs: sess.Timeout.Milliseconds(),
			Server: a.cfg.Zab.Client.Servers, Resumed: a.session.resumed != 0 && a.session.resumed == sess.ID,
		}
		if a.dialer != nil {
			s.Session.Server = a.dialer.peer()
		}
		if a.client.State() == wire.StateSyncConnected {
			s.Session.State = "connected"
		}
	}
	if a.registry != nil {
		names, regs := a.registry.Services(), a.registry.List()
		rs := &api.RegistryStatus{Root: a.cfg.Registry.Root, Services: len(names), Registrations: len(regs)}
		rs.Live, rs.AsOf = a.registry.Live()
		for _, name := range names {
			v, _ := a.registry.Lookup(name)
			rs.Instances += len(v.Instances)
		}
		for _, r := range regs {
			if r.State == registry.Registered {
				rs.Passing++
			}
		}
		if a.services != nil {
			for _, err := range a.services.Errors() {
				rs.FileErrors = append(rs.FileErrors, err.Error())
			}
		}
		s.Registry = rs
	}
	if a.names != nil {
		d := &api.DNSStatus{Listen: a.names.Addr().String(), Domain: a.names.Domain()}
		for _, q := range a.names.Stats().Queries {
			d.Queries += int64(q.Count)
			if q.Rcode == "SERVFAIL" {
				d.Failed += int64(q.Count)
			}
		}
		s.DNS = d
	}
	if a.mirror != nil {
		c := &api.ConfigSyncStatus{}
		for _, t := range a.mirror.Status() {
			c.Targets++
			switch t.State {
			case configsync.StateCurrent:
				c.Current++
			case configsync.StateFailing:
				c.Failing++
			}
		}
		s.ConfigSync = c
	}
	if a.admin != nil {
		s.Admin = &api.AdminStatus{Listen: a.admin.Addr().String()}
	}
	return s
}

// Services lists all known services.
func (a *Agent) Services() api.ServiceList {
	l := api.ServiceList{Services: []api.ServiceSummary{}}
	if a.registry == nil {
		return l
	}
	l.Live, l.AsOf = a.registry.Live()
	for _, name := range a.registry.Services() {
		v, ok := a.registry.Lookup(name)
		if !ok {
			continue
		}
		s := api.ServiceSummary{Name: v.Service, Instances: len(v.Instances), Protocols: []string{}}
		add := func(list *[]string, v string) {
			if v != "" && !slices.Contains(*list, v) {
				*list = append(*list, v)
			}
		}
		for _, i := range v.Instances {
			add(&s.Protocols, i.Protocol)
			add(&s.Groups, i.Group)
			add(&s.Versions, i.Version)
		}
		slices.Sort(s.Protocols)
		slices.Sort(s.Groups)
		slices.Sort(s.Versions)
		l.Services = append(l.Services, s)
	}
	return l
}

// Service returns the instances of one service that match the filter.
func (a *Agent) Service(name string, f admin.Filter) (api.Service, bool) {
	if a.registry == nil {
		return api.Service{}, false
	}
	v, ok := a.registry.Lookup(name)
	if !ok {
		return api.Service{}, false
	}
	s := api.Service{Name: v.Service, Live: v.Live, AsOf: v.AsOf, Instances: []api.Instance{}}
	match := func(want, have string) bool { return want == "" || want == have }
	for _, i := range v.Instances {
		if !match(f.Group, i.Group) || !match(f.Version, i.Version) || !match(f.Protocol, i.Protocol) {
			continue
		}
		inst := api.Instance{
			Host: i.Host, Port: i.Port, Protocol: i.Protocol, App: i.App, Group: i.Group, Version: i.Version,
			Weight: i.Weight, Enabled: i.Enabled,
		}
		if len(i.Params) > 0 {
			inst.Params = make(map[string]string, len(i.Params))
			for k := range i.Params {
				inst.Params[k] = i.Params.Get(k)
			}
		}
		s.Instances = append(s.Instances, inst)
	}
	return s, true
}

// Registrations lists what this agent keeps registered.
func (a *Agent) Registrations() api.RegistrationList {
	l := api.RegistrationList{Registrations: []api.Registration{}}
	if a.registry == nil {
		return l
	}
	for _, r := range a.registry.List() {
		reg := api.Registration{
			ID: r.ID, Service: r.Name, Protocol: r.Protocol, Host: r.Address, Port: r.Port, Group: r.Group, Version: r.Version,
			Source: r.Source, State: string(r.State), Path: r.Path, Error: r.Error,
		}
		for _, c := range r.Results {
			reg.Checks = append(reg.Checks, api.Check{Name: c.Check, Status: c.State, Output: c.Output, At: c.At})
		}
		l.Registrations = append(l.Registrations, reg)
	}
	return l
}

var errNoRegistry = &admin.RequestError{Err: errors.New("the registry is switched off: registry.root is empty")}

// Register takes a service file that came over HTTP; all of its services or, if
// one of them is wrong, none.
func (a *Agent) Register(_ context.Context, file []byte) (api.RegisterResult, error) {
	if a.registry == nil {
		return api.RegisterResult{}, errNoRegistry
	}
	regs, err := services.Parse("request", file)
	if err != nil {
		return api.RegisterResult{}, &admin.RequestError{Err: err}
	}
	var out api.RegisterResult
	for _, r := range regs {
		id, err := a.registry.Register(r)
		if err != nil {
			return out, &admin.RequestError{Err: err}
		}
		out.IDs = append(out.IDs, id)
	}
	return out, nil
}

// Deregister takes back what Register took.
func (a *Agent) Deregister(_ context.Context, id string) (bool, error) {
	if a.registry == nil {
		return false, errNoRegistry
	}
	err := a.registry.Deregister(id)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return false, nil
	case err != nil:
		return true, &admin.RequestError{Err: err}
	}
	return true, nil
}

// ConfigStatus says how far every target is.
func (a *Agent) ConfigStatus() api.ConfigStatus {
	c := api.ConfigStatus{Targets: []api.TargetStatus{}}
	if a.mirror == nil {
		return c
	}
	for _, t := range a.mirror.Status() {
		ts := api.TargetStatus{
			Name: t.Name, From: t.From, To: t.To, State: t.State, Zxid: t.Zxid, Files: len(t.Files),
			WrittenAt: t.Written, CheckedAt: t.Read, Error: t.Error,
		}
		for _, f := range t.Files {
			ts.Bytes += f.Size
			if ts.Error == "" && f.Reason != "" {
				ts.Error = fmt.Sprintf("%s: %s", f.Path, f.Reason)
			}
		}
		c.Targets = append(c.Targets, ts)
	}
	return c
}

// Metrics are the numbers of the parts beside the ZooKeeper server.
func (a *Agent) Metrics() []server.Metric {
	var m []server.Metric
	gauge := func(name, help string, v float64) { m = append(m, server.Metric{Name: name, Value: v, Help: help}) }
	count := func(name, help string, v float64) {
		m = append(m, server.Metric{Name: name, Value: v, Help: help, Counter: true})
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge("paddock_ready", "1 while the agent answers with fresh data", flag(len(a.NotReady()) == 0))
	s := a.Status()
	if r := s.Registry; r != nil {
		gauge("paddock_registry_services", "services known", float64(r.Services))
		gauge("paddock_registry_instances", "instances known", float64(r.Instances))
		gauge("paddock_registrations", "services that this agent is to keep registered", float64(r.Registrations))
		gauge("paddock_registrations_passing", "those that stand in the tree", float64(r.Passing))
		gauge("paddock_registry_live", "1 while the picture of all services is current", flag(r.Live))
		gauge("paddock_service_file_errors", "service files that cannot be read", float64(len(r.FileErrors)))
	}
	if a.names != nil {
		st := a.names.Stats()
		count("paddock_dns_queries_udp_total", "DNS queries over UDP", float64(st.UDP))
		count("paddock_dns_queries_tcp_total", "DNS queries over TCP", float64(st.TCP))
		count("paddock_dns_truncated_total", "answers that told the client to use TCP", float64(st.Truncated))
		count("paddock_dns_stale_total", "answers from the last good picture", float64(st.Stale))
		count("paddock_dns_rate_limited_total", "queries above the rate limit", float64(st.RateLimited))
	}
	if c := s.ConfigSync; c != nil {
		gauge("paddock_config_targets", "config targets", float64(c.Targets))
		gauge("paddock_config_targets_current", "those whose files are as their znodes", float64(c.Current))
		gauge("paddock_config_targets_failing", "those with an error", float64(c.Failing))
	}
	return m
}
