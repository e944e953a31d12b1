package cluster

import (
	"sync"
	"sync/atomic"

	"carillon/blobstore"
)

// ahead knows which blobs of a shard this node has changed and not applied
// yet: a follower hears of a commit only with the leader's next message. Until
// then such a blob is read from the leader, so that a node reads its own writes.
type ahead struct {
	top   atomic.Uint64 // highest position pending
	mu    sync.Mutex
	blobs map[blobstore.ID]uint64 // guarded by mu
}

// add remembers a change at a log position. A node that is no member of the
// group (g is nil) reads everything elsewhere anyway.
func (a *ahead) add(g *group, index uint64, id blobstore.ID) {
	if g == nil || g.position.Load() >= index {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.blobs == nil || g.position.Load() >= a.top.Load() {
		a.blobs = make(map[blobstore.ID]uint64)
	}
	a.blobs[id] = index
	if index > a.top.Load() {
		a.top.Store(index)
	}
}

// of says whether the blob's newest change by this node is not applied here.
func (a *ahead) of(g *group, id blobstore.ID) bool {
	position := g.position.Load()
	if position >= a.top.Load() {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.blobs[id] > position
}
