package registry

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// An override is one child of /configurators that changes whether and how much
// an instance is called. Other parameters of overrides (timeouts, retries) are
// between Dubbo's consumers and providers and do not concern views.
type override struct {
	p        *Provider
	priority int
	absent   bool // absent://: only what the provider does not say itself
}

// parseOverrides keeps the overrides among the children of /configurators, in
// the order in which they apply: 0.0.0.0 before addresses, then by priority, so
// that the last one wins. Names that cannot be read are passed to bad.
func parseOverrides(names []string, bad func(name string, err error)) []override {
	var list []override
	for _, name := range names {
		p, err := ParseProvider(name)
		if err != nil {
			bad(name, err)
			continue
		}
		if p.Protocol != "override" && p.Protocol != "absent" {
			continue
		}
		if v := p.Params.Get("enabled"); v != "" && !strings.EqualFold(v, "true") {
			continue
		}
		if p.Params.Get("disabled") == "" && p.Params.Get("weight") == "" {
			continue
		}
		prio, _ := strconv.Atoi(p.Params.Get("priority"))
		list = append(list, override{p: p, priority: prio, absent: p.Protocol == "absent"})
	}
	slices.SortStableFunc(list, func(a, b override) int {
		return cmp.Or(cmp.Compare(a.p.Host, b.p.Host), cmp.Compare(a.priority, b.priority),
			cmp.Compare(a.p.Raw, b.p.Raw))
	})
	return list
}

// matches decides whether o speaks about this instance. With a port it names a
// provider; without, the address of a provider or 0.0.0.0. A rule for certain
// consumers is not ours: a view has no consumer.
func (o override) matches(in *Instance) bool {
	p := o.p
	anyHost := p.Host == "0.0.0.0" || p.Host == "*"
	if !anyHost && p.Host != in.Host {
		return false
	}
	if p.Port != 0 && p.Port != in.Port {
		return false
	}
	side := p.Params.Get("side")
	if side == "consumer" && !anyHost {
		return false
	}
	if app := p.Params.Get("application"); app != "" && app != "*" && (side == "consumer" || app != in.App) {
		return false
	}
	if g := p.Params.Get("group"); g != "*" && g != in.Group {
		return false
	}
	if v := p.Params.Get("version"); v != "*" && v != in.Version {
		return false
	}
	for k := range p.Params {
		if want, ok := strings.CutPrefix(k, "~"); ok {
			if v := p.Params.Get(k); v != "*" && v != in.Params.Get(want) {
				return false
			}
		}
	}
	return true
}

// applyOverrides returns in itself if no override changes it.
func applyOverrides(in *Instance, list []override) *Instance {
	set := url.Values{}
	for _, o := range list {
		if !o.matches(in) {
			continue
		}
		for _, k := range [...]string{"disabled", "weight"} {
			v := o.p.Params.Get(k)
			if v == "" || o.absent && (in.Params.Get(k) != "" || set.Get(k) != "") {
				continue
			}
			set.Set(k, v)
		}
	}
	if len(set) == 0 {
		return in
	}
	merged := make(url.Values, len(in.Params)+len(set))
	for k, v := range in.Params {
		merged[k] = v
	}
	for k, v := range set {
		merged[k] = v
	}
	out := *in
	out.Params = merged
	out.Enabled, out.Weight = callable(merged)
	return &out
}
