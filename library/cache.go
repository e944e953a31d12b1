package library

import "sync"

// cacheBytesMax bounds the encoded rows whose decoded documents are kept. A
// row has some 600 bytes and its document about three times that: 16 MiB keep
// 25,000 documents, which is every prompt and greeting that a node plays in an
// hour, for some 50 MB.
const cacheBytesMax = 16 << 20

// documentCache keeps decoded documents by key and revision, so that playing
// costs a read of the catalog and no decoding. Nothing in it can be stale:
// an entry counts only for the very revision that was just read. It holds two
// generations: when the young one is full it becomes the old one, whose
// entries come back by being used. That is bounded like an LRU and needs no
// list.
type documentCache struct {
	mu         sync.RWMutex // guards all below
	young, old map[string]*cachedDocument
	youngBytes int
}

type cachedDocument struct {
	revision uint64
	rowBytes int
	doc      Document
}

func newDocumentCache() *documentCache {
	return &documentCache{young: make(map[string]*cachedDocument)}
}

func (c *documentCache) get(key string, revision uint64) (*Document, bool) {
	c.mu.RLock()
	e, inYoung := c.young[key]
	if !inYoung {
		e = c.old[key]
	}
	c.mu.RUnlock()
	if e == nil || e.revision != revision {
		return nil, false
	}
	if !inYoung {
		c.add(key, e)
	}
	return &e.doc, true
}

func (c *documentCache) put(key string, rowBytes int, doc Document) {
	c.add(key, &cachedDocument{revision: doc.Revision, rowBytes: rowBytes + len(key), doc: doc})
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
