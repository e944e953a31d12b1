package blobstore

import "sync"

const (
	// readBufferBytes is what WriteTo copies at a time: four blocks, so that
	// every block is checked once, and small enough for a second-level cache.
	readBufferBytes = 64 << 10
	// followBufferBytes is what a follower that is behind copies at a time. It
	// is held while a slow listener takes its time, times a thousand.
	followBufferBytes = BlockBytes
	// tailBufferBytes is what a follower at the end copies at a time: a flush
	// tick of 128 kbit/s.
	tailBufferBytes = 4 << 10
)

// Buffers are pools of the buffers that bodies pass through. They belong to
// whoever opens them, usually a Store; there is no global one.
type Buffers struct {
	chunk, row, read, follow, tail sync.Pool
}

// NewBuffers returns empty pools.
func NewBuffers() *Buffers {
	b := &Buffers{}
	for _, p := range []struct {
		pool *sync.Pool
		size int
	}{
		{&b.chunk, ChunkBytesMax},
		{&b.row, chunkRowBytesMax},
		{&b.read, readBufferBytes},
		{&b.follow, followBufferBytes},
		{&b.tail, tailBufferBytes},
	} {
		p.pool.New = func() any {
			buf := make([]byte, p.size)
			return &buf
		}
	}
	return b
}

// take returns a buffer of the pool; put gives it back.
func take(pool *sync.Pool) *[]byte {
	buf, _ := pool.Get().(*[]byte) // New makes nothing else
	return buf
}
