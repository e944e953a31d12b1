// Package raftlog owns the log of a Raft group on disk: hashicorp/raft-wal with
// what it lacks. It checks what it reads, knows where the log must end, opens
// what raft-wal v0.4.0 cannot open again, writes past the page cache, and for a leader
// beside its followers, keeps the newest entries in memory, removes files beside the
// writers, and answers for entries that raft v1.8.0 believes in after a snapshot has
// replaced them.
//
// It knows nothing of groups, leaders or what an entry means.
package raftlog
