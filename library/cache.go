package library

import (
	"sync"
	"sync/atomic"
)

// cacheBytesMax bounds the encoded rows whose decoded documents are kept. A
// row has some 600 bytes and its document about three times that: 16 MiB keep
// 25,000 documents, which is every prompt and greeting that a node plays in an
// hour, for some 50 MB.
const cacheBytesMax = 16 << 20

// documentCache keeps decoded documents, so that playing costs no decoding, and
// no read either while the catalog stands still. Nothing in it can be stale: an
// entry counts only for the very revision that was just read, or as long as
// the catalog has applied nothing since that was done. It holds two
// generations: when the young one is full it becomes the old one, whose
// entries come back by being used. That is bounded like an LRU and needs no
// list.
type documentCache struct {
	mu         sync.RWMutex // guards all below
	young, old map[string]*cachedDocument
	youngBytes int
}

type cachedDocument struct {
	doc      Document
	rowBytes int
	// seen is how far the catalog had been applied before the row was last read.
	seen atomic.Uint64
}

func newDocumentCache() *documentCache {
	return &documentCache{young: make(map[string]*cachedDocument)}
}

// current returns the document without a look at the catalog, if that has
// applied nothing since the last one.
func (c *documentCache) current(key string, applied uint64) (*Document, bool) {
	e := c.find(key)
	if e == nil || e.seen.Load() != applied {
		return nil, false
	}
	return &e.doc, true
}

// get returns the document of the row whose revision was read after the
// catalog had applied so much.
func (c *documentCache) get(key string, revision, applied uint64) (*Document, bool) {
	e := c.find(key)
	if e == nil || e.doc.Revision != revision {
		return nil, false
	}
	e.seen.Store(applied)
	return &e.doc, true
}

func (c *documentCache) find(key string) *cachedDocument {
	c.mu.RLock()
	e, inYoung := c.young[key]
	if !inYoung {
		e = c.old[key]
	}
	c.mu.RUnlock()
	if e != nil && !inYoung {
		c.add(key, e)
	}
	return e
}

func (c *documentCache) put(key string, rowBytes int, applied uint64, doc Document) {
	e := &cachedDocument{doc: doc, rowBytes: rowBytes + len(key)}
	e.seen.Store(applied)
	c.add(key, e)
}

func (c *documentCache) add(key string, e *cachedDocument) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before := c.young[key]; before != nil {
		c.youngBytes -= before.rowBytes
	}
	c.young[key] = e
	c.youngBytes += e.rowBytes
	if c.youngBytes > cacheBytesMax/2 {
		c.old, c.young, c.youngBytes = c.young, make(map[string]*cachedDocument), 0
	}
}
