package library

import "sync"

// stillEntriesMax bounds a stillCache: an entry has some 300 bytes, with the
// longest name 1,300, so that this is 3 to 13 MB.
const stillEntriesMax = 10_000

// stillCache keeps what was found in the catalog for as long as that stands
// still: nothing in it can be stale, and nothing needs to be told. While the
// catalog changes a hundred times a second it still saves what is asked for
// more often than that.
type stillCache[K comparable, V any] struct {
	mu      sync.RWMutex // guards the two below
	applied uint64
	known   map[K]V
}

// current returns what was found when the catalog had applied exactly so much.
func (c *stillCache[K, V]) current(key K, applied uint64) (v V, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.applied == applied {
		v, ok = c.known[key]
	}
	return v, ok
}

// put keeps what was found after the catalog had applied so much.
func (c *stillCache[K, V]) put(key K, applied uint64, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if applied < c.applied {
		return
	}
	if applied > c.applied || c.known == nil || len(c.known) >= stillEntriesMax {
		c.applied, c.known = applied, make(map[K]V)
	}
	c.known[key] = v
}
