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
## Bugs that it has found in our code

| what | where | found as | the test that stays |
| --- | --- | --- | --- |
| entries, names and epochs that recovery read were not on the disk after kill -9 or a failed fdatasync, and were voted with | zab/storage | S15, S8, S14 of seeds 3, 47, 65 | TestWhatWasRecoveredIsSafe |
| a temporary epoch file that could not be written again came back after a power cut | zab/storage | S13 | TestWhatWasRecoveredIsSafe, seeds |
| a cut of the log whose sync failed was undone by a power cut: entries that a leader had cut off were back | zab/storage | S8 of seed 20069 | TestWhatWasRecoveredIsSafe |
| the gap of an installed snapshot was not seen across an epoch: TRUNC of committed transactions, DIFF over the gap | zab/storage | S10, S15 | TestInstalledSnapshotLeavesAGap |
| a server that was stopped between its first promise and its first history counted as lost: three of them never elected | zab/storage | L1 | TestSeeds |
| after TRUNC the tree holds what was never applied by the server: requests in it were open still and submitted again, so done twice | zab/server | S3 of seed 17, in the simulator's model of it | mutation "submitted again after TRUNC" |
| what a client had asked for before it moved was submitted again behind what it did later | zab/server | S30 of seed 243 | TestWhatAClientHasGoneOnFromIsNotSubmittedAgain |
`
