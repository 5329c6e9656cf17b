// Package services loads the service files of a directory into the registry.
//
// A file says what shall be registered while it is there. It is taken as a
// whole or not at all: a file with a fault leaves what it said before in force,
// and every fault is named with file, line and key. Removing the file
// deregisters; a file that became empty, or cannot be read, does not.
package services
