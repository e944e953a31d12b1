package cluster

import (
	"container/list"
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
)

// readCache keeps chunks of sealed blobs that other nodes hold and this one has
// played, the least recently used of them going first. A sealed blob never
// changes and its id is never used again, so nothing in it can be stale. Readers
// that want the same chunk at the same time fetch it once.
type readCache struct {
	max  int64 // bytes; 0: keep nothing
	hits prometheus.Counter

	mu      sync.Mutex                 // guards what follows
	bytes   int64                      // of all chunks
	recent  *list.List                 // of *cachedChunk, the newest first
	chunks  map[chunkKey]*list.Element // the same by key
	flights map[chunkKey]*flight
}

type chunkKey struct {
	id    blobstore.ID
	index int64 // the chunk begins at this times blobstore.ChunkBytesMax
}

type cachedChunk struct {
	key  chunkKey
	data []byte
}

// flight is a fetch that others wait for.
type flight struct {
	done chan struct{} // closed when data and err are set
	data []byte
	err  error
}

func newReadCache(limit int64, hits prometheus.Counter) *readCache {
	return &readCache{
		max: limit, hits: hits, recent: list.New(),
		chunks: make(map[chunkKey]*list.Element), flights: make(map[chunkKey]*flight),
	}
}

// load returns a chunk, which must not be changed: a kept one, or what fetch
// brings. When the fetch of somebody else fails, this reader fetches itself.
func (c *readCache) load(
	ctx context.Context, key chunkKey, fetch func() ([]byte, error),
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
func (c *readCache) look(key chunkKey) (data []byte, f *flight, mine bool) {
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
func (c *readCache) land(key chunkKey, f *flight) {
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

// size is how many bytes are kept.
func (c *readCache) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
