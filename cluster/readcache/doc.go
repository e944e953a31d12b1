// Package readcache owns the bounded memory of what a node has played and others
// hold: chunks of sealed blobs, of which none can be stale. Where a chunk comes
// from it does not know.
package readcache
