// Package snapshot owns the snapshots of Raft groups on disk: a store whose
// snapshots survive a power cut, the note by which one that was not restored to its
// end is forgotten, and the manifest, which is the snapshot of a blob group.
//
// When one is made, and where the blobs of a manifest come from, it does not know.
package snapshot
