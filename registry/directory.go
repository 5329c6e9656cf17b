package registry

import (
	"net/url"
	"time"
)

// An Instance is one address of a service, as a provider URL, an application
// instance or a registration of this agent describes it. It is immutable: views
// share it.
type Instance struct {
	// Service is the interface name or the plain name under the root.
	Service string
	// App is the application of the provider, "" if it does not say.
	App string
	// Protocol is dubbo, tri, http, …
	Protocol string
	// Group and Version select among providers of one service; "" is none.
	Group, Version string
	// Host is a name or an IP address literal without brackets, as registered.
	Host string
	Port int
	// Weight is the relative share of traffic; 0 takes the instance out of
	// answers, the default is 100.
	Weight int
	// Enabled is false for providers that registered enabled=false or
	// disabled=true and for those that an operator took offline.
	Enabled bool
	// Params are all parameters of the provider URL, decoded.
	Params url.Values
	// Raw is the child name in the tree exactly as it stands there.
	Raw string
}

// A View is the registry's picture of one service at one moment. Views are
// immutable; order of Instances is by Raw.
type View struct {
	Service   string
	Instances []*Instance
	// AsOf is when the picture was last known to be current. While the registry
	// is connected that is now; without a quorum it stands still.
	AsOf time.Time
	// Live is false while the answer is the last good one.
	Live bool
}

// A Directory answers lookups from memory. Every method is safe for concurrent
// use, does not block and does no I/O; results must not be modified.
type Directory interface {
	// Lookup returns the view of a service by its exact name; ok is false if
	// no such service is known. A known service may have no instances.
	Lookup(service string) (v View, ok bool)
	// LookupApp returns the instances of an application, over all its services.
	LookupApp(app string) (v View, ok bool)
	// Services returns the names of all known services, sorted.
	Services() []string
	// Apps returns the names of all known applications, sorted.
	Apps() []string
	// Generation changes whenever an answer could; it serves as a cache key and
	// as the serial of the zone.
	Generation() uint64
}
