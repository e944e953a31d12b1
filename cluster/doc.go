// Package cluster owns agreement: who the nodes are, which Raft groups exist,
// what they have agreed on, and how a change or a read reaches the right node.
// It implements [blobstore.Writer], [blobstore.Shelf] and [blobstore.Catalog]
// for all replicas at once. Only this package and those below it know Raft and
// memberlist; it knows nothing of audio or of the HTTP API.
//
// DESIGN.md beside this file says how it works and why.
package cluster
