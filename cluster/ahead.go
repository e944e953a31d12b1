package cluster

import (
	"maps"
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
	prune(a.blobs, g.position.Load())
	if index > a.top.Load() {
		a.top.Store(index)
	}
}

// pruneAbove is how many changes are remembered before those that have been
// applied meanwhile are looked for: under steady writes there is always one
// that has not, so the map is never emptied as a whole.
const pruneAbove = 1024

// prune forgets what has been applied, once there is enough to look at.
func prune[K comparable](changes map[K]uint64, applied uint64) {
	if len(changes) < pruneAbove {
		return
	}
	maps.DeleteFunc(changes, func(_ K, index uint64) bool { return index <= applied })
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
