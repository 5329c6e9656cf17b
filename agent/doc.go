// Package agent is the process that runs on every host: it builds the parts that
// the configuration asks for, starts them, and stops them.
//
// The parts know each other only through narrow ports: registry, name server and
// config mirror use a ZooKeeper client and do not care whether the server behind
// it is in this process. What the HTTP side shows of them comes from here.
package agent
