package zabtest

// The text of TRACK-RECORD.md around the table, which is measured.
const trackRecord = `# What the simulator finds

## Mistakes that were put in on purpose

Each was compiled into a test build (the patches of mutation_test.go) or switched on in the driver, and seeds with heavy
faults were played from 0 on until one failed. The rules are those of the reliability reference, in check.go,
reference.go and sim.go. The table is written by
` + "`PADDOCK_SIM_MUTATIONS=1 go test ./zab/zabtest -run TestPatchesAreFound -timeout 1h -args -update`" + `.

`

const ourBugs = `
## Mistakes of the catalogue that are not put in

| bug | why not |
| --- | --- |
| B-04 | an ACK in front of that of NEWLEADER is refused by S19 in each run; both come from one queue, so no change of few words brings it about |
| B-08, B-21 | snapshots are taken of a frozen tree and labelled with its zxid, there are no fuzzy ones; those of Apache are read in zab/storage and zab/interop/datadir |
| B-10 | TRUNC cuts the log and makes the tree from it in one step, so memory cannot run ahead of it; the step is broken off by "break job" |
| B-17 | what is committed and not applied is dropped with the tree; there is no pipeline to drain |
| B-18 | the zxid of votes and ACKEPOCH is that of the log writer; "proposals are acknowledged when they come" is the same mistake |
| B-22, B-23, B-24 | what recovery does with missing, empty and torn files: the tests of zab/storage change every byte and go through every outcome of a crash |
| B-26 | nothing but Apply changes a tree (S16 compares it after each transaction); "a closed session leaves ephemeral znodes" is such a difference |
| B-28 | a failed write ends the process; a driver that goes on is what zab/server's tests are for, the driver here is another one |
| a leader that hears nobody | passing it over saves up to initLimit, which the bounds of L1 leave room for: the scenario deaf.txt of zab is its test |
| L8, L9, L10 | have no mistake of their own: one that starves a server, or keeps one from starting, breaks L1, L3 or S15 first |

## Bugs that it has found in our code

| what | where | found as | the test that stays |
| --- | --- | --- | --- |
| entries, names and epochs that recovery read were not on the disk after kill -9 or a failed fdatasync, and were voted with | zab/storage | S15, S8, S14 of seeds 3, 47, 65 | TestWhatWasRecoveredIsSafe |
| a temporary epoch file that could not be written again came back after a power cut | zab/storage | S13 | TestWhatWasRecoveredIsSafe, seeds |
| a cut of the log whose sync failed was undone by a power cut: entries that a leader had cut off were back | zab/storage | S8 of seed 20069 | TestWhatWasRecoveredIsSafe |
| the gap of an installed snapshot was not seen across an epoch: TRUNC of committed transactions, DIFF over the gap | zab/storage | S10, S15 | TestInstalledSnapshotLeavesAGap |
| a server that was stopped between its first promise and its first history counted as lost: three of them never elected | zab/storage | L1 | TestSeeds |
| after TRUNC the tree holds what was never applied by the server: requests in it were open still and submitted again, so done twice; fixed by "do not submit again what a cut disk has done" | zab/server | S3 of heavy seed 17, in the simulator's model of it | TestWhatACutDiskHasDoneIsNotSubmittedAgain, mutation "submitted again after TRUNC" |
| what a client had asked for before it moved was submitted again behind what it did later | zab/server | S30 of seed 243 | TestWhatAClientHasGoneOnFromIsNotSubmittedAgain |
`
