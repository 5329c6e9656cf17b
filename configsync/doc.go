// Package configsync keeps local files equal to znodes.
//
// A [Target] names a znode and a file, or a subtree and a directory. A
// [Mirror] watches the znodes and replaces the files: what is new is staged on
// the same file system, checked by the operator's command, synced, given its
// mode and owner, and only then renamed over the old file; after that the
// reload command runs. A reader of the file sees the old bytes or the new ones
// at every moment, also across a power cut.
//
// What the mirror guarantees:
//
//  1. A file always holds one committed value of its znode, whole, and never an
//     older one than the mirror has put there before, also after a restart.
//  2. A source that is gone, empty, unreadable or out of reach changes nothing:
//     the last good file stays, and the status says so. Files are removed only
//     by [DeleteRemove], only on proof that the znode was deleted after the file
//     was written, and only if the mirror wrote them.
//  3. Nothing is written, checked or reloaded when bytes, mode and owner are as
//     they should be.
//  4. A reload that is due survives a crash of the agent.
//
// What it does not do: it renders no templates, and files of one tree change
// one after the other, not at one instant. Programs that watch the inode of a
// file see only the first replacement; no way of replacing files helps them.
//
// The znodes are input from strangers: names are checked and resolved inside
// the target's directory only, sizes and numbers are bounded, and no name or
// byte of a znode gets into a command line.
package configsync
