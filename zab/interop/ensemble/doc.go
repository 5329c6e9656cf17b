// Package ensemble holds the tests that run ensembles of real processes: of the
// built binary, of Apache's servers, and of both.
//
// What they kill, pause, cut off and exchange goes on under load, and each
// write that was acknowledged must be in every tree at the end. With
// INTEROP_MEMBERS=apache,apache,apache the same tests run as a control run.
//
//	INTEROP_MEMBERS   the members of every ensemble, in the order of their ids:
//	                  paddock, apache (3.9.5) or apache-3.8 (Debian's), each
//	                  perhaps with ":observer"
//	INTEROP_MIXES     "all" mixes of 1 to 3 Apache servers with 1 to 3 of ours,
//	                  or some of them, separated by blanks, each in full; else
//	                  six in full, and of all compositions the first half
//	INTEROP_KILLS     how often the fail-over test kills a leader, by default 20
//	INTEROP_LOGS      a directory that gets what each member wrote
//
// Apart from the checker of histories, and its tests, all of it needs the build
// tag "interop".
package ensemble
