package blobstore

import (
	"context"
	"sync"
)

const (
	// tailBytesMin and tailBytesMax bound how much of the end of a live blob stays
	// in memory, on every node that holds it, so that followers cost no database
	// read: 2 s at 16 kbit/s, a tick at 320 kbit/s.
	tailBytesMin = 4 << 10
	tailBytesMax = 16 << 10
	// tailPieces of the size that comes are kept.
	tailPieces = 4
)

// follow is an open blob as its followers see it: what it is now, its last
// bytes, and a broadcast for those who wait for more.
type follow struct {
	// refs counts the views on it, guarded by Store.mu.
	refs int

	mu       sync.Mutex
	info     Info
	err      error         // why there will never be more: removed or closed
	changed  chan struct{} // made by the first who waits
	tail     []byte        // ring: the byte at offset o is at o%len(tail)
	tailFrom int64         // the oldest offset in the ring
	tailTo   int64         // the end of what is in the ring; info may be ahead of it
}

// tailBytes is the size of the ring for pieces of a size: a multiple of the least.
func tailBytes(piece int) int {
	n := (tailPieces*piece + tailBytesMin - 1) / tailBytesMin * tailBytesMin
	return min(max(n, tailBytesMin), tailBytesMax)
}

// see takes over info unless it is older than what is known.
func (f *follow) see(info Info) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seeLocked(info)
}

func (f *follow) seeLocked(info Info) {
	if f.info.Sealed || info.Size < f.info.Size {
		return
	}
	f.info = info
	f.wakeLocked()
}

// grow is see, with the bytes that made the blob grow from offset on.
func (f *follow) grow(info Info, offset int64, p []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if want := tailBytes(len(p)); want > len(f.tail) {
		f.tail, f.tailFrom = make([]byte, want), offset // the old bytes are in the store
	}
	if offset != f.tailTo {
		f.tailFrom = offset // a hole: what was before is of no use
	}
	f.tailTo = offset + int64(len(p))
	if extra := len(p) - len(f.tail); extra > 0 {
		p, offset = p[extra:], offset+int64(extra)
	}
	at := int(offset % int64(len(f.tail)))
	copy(f.tail, p[copy(f.tail[at:], p):])
	f.tailFrom = max(f.tailFrom, offset+int64(len(p)-len(f.tail)))
	f.seeLocked(info)
}

// fail ends the blob for its followers.
func (f *follow) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
		f.wakeLocked()
	}
}

func (f *follow) wakeLocked() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

func (f *follow) now() (Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.info, f.err
}

// readTail copies from the ring; 0 when off is not in it.
func (f *follow) readTail(off int64, p []byte) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tail == nil || off < f.tailFrom || off >= f.tailTo {
		return 0
	}
	p = p[:min(int64(len(p)), f.tailTo-off)]
	n := copy(p, f.tail[off%int64(len(f.tail)):])
	return n + copy(p[n:], f.tail)
}

// wait returns once the blob is longer than size or at its end.
func (f *follow) wait(ctx context.Context, size int64) (Info, error) {
	for {
		f.mu.Lock()
		info, err := f.info, f.err
		if info.Size > size || info.Sealed || err != nil {
			f.mu.Unlock()
			if info.Size > size || info.Sealed {
				err = nil // what is there can be read to its end
			}
			return info, err
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return info, ctx.Err()
		}
	}
}

// publish tells the followers of a blob what was committed. A live blob is
// followed from its first append, others only while somebody looks.
func (s *Store) publish(c *change) {
	id := c.info.ID
	grew := c.info.Spec.Live && len(c.data) > 0
	s.mu.Lock()
	f := s.follows[id]
	switch {
	case c.removed || c.info.Sealed:
		delete(s.follows, id)
	case f == nil && grew:
		f = &follow{}
		s.follows[id] = f
	}
	s.mu.Unlock()
	switch {
	case f == nil:
	case c.removed:
		f.fail(ErrNotFound)
	case grew:
		f.grow(c.info, c.offset, c.data)
	default:
		f.see(c.info)
	}
}

// attach returns the follow of an open blob, making it if needed.
func (s *Store) attach(id ID) (*follow, error) {
	s.mu.Lock()
	f := s.follows[id]
	if f == nil {
		f = &follow{}
		s.follows[id] = f
	}
	f.refs++
	s.mu.Unlock()
	// Only now is what happens next certain to be published to f.
	m, err := s.getMeta(id)
	if err != nil {
		s.detach(id, f)
		return nil, err
	}
	f.see(m.info(id))
	if m.sealed {
		s.forget(id, f)
	}
	return f, nil
}

// forget drops f from the map unless another took its place.
func (s *Store) forget(id ID, f *follow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.follows[id] == f {
		delete(s.follows, id)
	}
}

func (s *Store) detach(id ID, f *follow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A live blob stays, with its tail, for the next listener.
	if f.refs--; f.refs == 0 && !f.live() && s.follows[id] == f {
		delete(s.follows, id)
	}
}

// live says whether the blob has grown since it is followed.
func (f *follow) live() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tail != nil
}
