// Package raftnet owns how the messages of Raft travel between nodes: a transport
// for each group over the peer link, their encodings, snapshots on streams, and
// what hashicorp/raft lacks or does badly there. A message is bounded in bytes;
// followers hear of commits at once; the heartbeats of all groups go out together.
//
// Whether a node leads, hangs, votes or may be listened to, it is told.
package raftnet
