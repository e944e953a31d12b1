package readcache

import (
	"container/list"
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
)

// Cache keeps chunks of sealed blobs that other nodes hold and this one has
// played, the least recently used of them going first. A sealed blob never
// changes and its id is never used again, so nothing in it can be stale. Readers
// that want the same chunk at the same time fetch it once.
type Cache struct {
	max  int64 // bytes; 0: keep nothing
	hits prometheus.Counter

	mu      sync.Mutex            // guards what follows
	bytes   int64                 // of all chunks
	recent  *list.List            // of *cachedChunk, the newest first
	chunks  map[Key]*list.Element // the same by key
	flights map[Key]*flight
}

// Key names a chunk of a blob.
type Key struct {
	Blob  blobstore.ID
	Index int64 // the chunk begins at this times blobstore.ChunkBytesMax
}

type cachedChunk struct {
	key  Key
	data []byte
}

// flight is a fetch that others wait for.
type flight struct {
	done chan struct{} // closed when data and err are set
	data []byte
	err  error
}

// New makes a cache of at most limit bytes; hits counts what was found there.
func New(limit int64, hits prometheus.Counter) *Cache {
	return &Cache{
		max: limit, hits: hits, recent: list.New(),
		chunks: make(map[Key]*list.Element), flights: make(map[Key]*flight),
	}
}

// Keeps says whether anything is kept at all.
func (c *Cache) Keeps() bool { return c.max != 0 }

// Load returns a chunk, which must not be changed: a kept one, or what fetch
// brings. When the fetch of somebody else fails, this reader fetches itself.
func (c *Cache) Load(
	ctx context.Context, key Key, fetch func() ([]byte, error),
) ([]byte, error) {
	for {
		data, f, mine := c.look(key)
		if data != nil {
			c.hits.Inc()
			return data, nil
		}
		if mine {
			f.data, f.err = fetch()
			c.land(key, f)
			return f.data, f.err
		}
		select {
		case <-f.done:
			if f.err == nil {
				c.hits.Inc()
				return f.data, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err() //nolint:wrapcheck // the contract of View
		}
	}
}

// look returns a chunk that is here, or the flight that brings it, and whether
// it is the caller who must fetch.
func (c *Cache) look(key Key) (data []byte, f *flight, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.chunks[key]; e != nil {
		c.recent.MoveToFront(e)
		chunk, _ := e.Value.(*cachedChunk)
		return chunk.data, nil, false
	}
	if other := c.flights[key]; other != nil {
		return nil, other, false
	}
	f = &flight{done: make(chan struct{})}
	c.flights[key] = f
	return nil, f, true
}

// land ends a flight and keeps what it brought.
func (c *Cache) land(key Key, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flights, key)
	close(f.done)
	if f.err != nil || int64(len(f.data)) > c.max || len(f.data) == 0 {
		return
	}
	c.chunks[key] = c.recent.PushFront(&cachedChunk{key, f.data})
	c.bytes += int64(len(f.data))
	for c.bytes > c.max {
		oldest := c.recent.Back()
		chunk, _ := c.recent.Remove(oldest).(*cachedChunk)
		delete(c.chunks, chunk.key)
		c.bytes -= int64(len(chunk.data))
	}
}

// Size is how many bytes are kept.
func (c *Cache) Size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
