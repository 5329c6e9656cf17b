// Package registry keeps the services of this host registered under Dubbo's
// paths, and a picture of all services that others registered.
package registry
