// Package nemesis breaks ensembles of real processes and judges what their
// clients saw.
//
// TestNemesis runs the built binary, alone or together with Apache's servers,
// each server in a network namespace and on a disk of its own. Clients do the
// workloads of package checker, and everything that goes over their connections
// is recorded. Meanwhile one fault follows another: kill -9, SIGSTOP, cut and slow
// links, power cuts, full, slow and failing disks. At the end all is healed; then all trees
// must be the same, in memory and on disk, and the checkers compare the recorded
// history with the logs on the disks: nothing that was acknowledged is lost, no
// read behind a sync is stale.
//
//	PADDOCK_NEMESIS_SECONDS   how long to break each ensemble, by default 60
//	PADDOCK_NEMESIS_MEMBERS   the ensembles, separated by blanks, each as package
//	                          peer reads it; by default three of ours, and two
//	                          with one of Apache's 3.9.5
//	PADDOCK_NEMESIS_FAULTS    only the kinds of fault whose name this expression
//	                          matches
//	PADDOCK_NEMESIS_LOGS      where a failed run leaves what it has, by default a
//	                          new directory
//	-seed                     the seed of plan and clients; by default a new one
//
// Half an hour of it:
//
//	PADDOCK_NEMESIS_SECONDS=1800 PADDOCK_NEMESIS_MEMBERS=paddock,paddock,paddock \
//	go test -tags interop -count=1 -timeout 60m -v -run TestNemesis ./zab/zabtest/nemesis
//
// The seed gives the order of the faults, whom they hit and how long they last,
// and what the clients want; when things happen is up to the operating system, so
// a seed repeats a plan, not a run. All of it needs Linux, root, the build tag
// "interop", iproute2, loop devices, mkfs.ext4 and strace; without them it is
// skipped with the reason, and fails with CI=true.
package nemesis
