// Package blobstore owns the shelf of one node: blobs and the chunks they are
// made of, the rows of the catalog, their integrity and their garbage. It is
// the only package that knows Badger, and it knows nothing of Raft or audio.
//
// It also holds the nouns that carry the whole product, because the local
// store implements them for one disk and package cluster for all replicas:
// [Writer], [Shelf] and [Catalog], and the two gates: every byte enters
// through a [Recorder] and leaves through a [Reader].
package blobstore
