// Package peer owns the one TCP port on which nodes talk to each other: a
// mutual TLS link that carries requests with answers ([Link.Call]) and streams
// ([Link.Dial]) between nodes named by their id.
//
// It knows nothing of what is said: no Raft, no blobs, no gossip. Where a node
// is, it asks at each dial; who is allowed, the certificates say, which all
// nodes derive from one secret ([ClusterTLS]) or that the operator gives ([Files]).
//
// A connection begins with a preamble (who speaks, to whom, calls or a
// stream) and a reply. Call connections then carry frames; stream connections
// belong to whoever dialed and accepted them.
package peer
