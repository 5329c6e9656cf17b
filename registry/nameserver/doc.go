// Package nameserver answers DNS questions about services from a
// [registry.Directory].
//
// The server is authoritative for one domain, "paddock." by default, and for
// nothing else: no recursion, no zone transfer. Below the domain it knows
//
//	org.x.DemoService.service.paddock.            a service, dotted names in their own order
//	demoservice.service.paddock.                  the last segment, while only one service has it
//	_v-1-0-0._g-blue.org.x.DemoService.service…   only that version, only that group
//	_dubbo._tcp.org.x.DemoService.service…        SRV records of one protocol
//	demo-app.app.paddock.                         all instances of an application
//	0a000001.addr.paddock.                        the address 10.0.0.1: the target of SRV records
//	1.0.0.10.in-addr.arpa.                        PTR for addresses of instances
//	ns.paddock.                                   the server itself
//
// Every ancestor of an existing name exists (RFC 8020): it is answered with no
// records and the SOA.
//
// An answer is built from one [registry.View] at one Generation of the
// directory and is kept, in wire format, until the generation changes. To
// answer again is then to look the question up, to copy the records in a new
// random order behind it and to patch the header: no allocation. See DESIGN.md.
//
// What [Server.Run] serves never blocks on anything but its sockets, and each
// of those has a bound: see [Config].
package nameserver
