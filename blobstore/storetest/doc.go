// Package storetest is the conformance suite of the store's interfaces: every
// sentence of the contracts of blobstore.Writer, Shelf and Catalog as a test.
// One disk, one node and three nodes pass the same suite; whoever holds an
// interface cannot tell them apart.
package storetest
