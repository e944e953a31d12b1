// Package gossip owns the question who is here and where: membership by
// memberlist, with a little metadata about each node. It proposes; whether a
// node belongs to a Raft group is decided elsewhere.
//
// It never gives up: seeds and the last known addresses of nodes that went
// away are tried for ever, so a healed partition joins again by itself.
package gossip
