package peer

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"time"
)

// FrameBytesMax bounds a request or an answer. Sixteen chunks of 256 KiB.
const FrameBytesMax = 4 << 20

// Frames of a call connection. They are part of the protocol.
const (
	frameRequest = 1 // dialer → acceptor; code is the kind
	frameAnswer  = 2 // acceptor → dialer; body is the answer
	frameError   = 3 // acceptor → dialer; code and text of an error
	frameCancel  = 4 // dialer → acceptor; the caller no longer waits
	framePing    = 5 // dialer → acceptor
	framePong    = 6 // acceptor → dialer
)

// headerBytes is the length of a frame's header:
// length(4) type(1) code(1) version(1) reserved(1) id(8) budget(4), big endian.
const headerBytes = 20

// header begins each frame.
type header struct {
	length uint32 // of the body
	kind   byte   // one of the frame constants
	code   byte
	id     uint64
	// budget is how long the caller still waits, in milliseconds; 0 is for
	// ever. A duration, not a time: clocks differ.
	budget uint32
	// version is that of the connection; its outbox sets it.
	version byte
}

func (h header) put(b []byte) {
	_ = b[headerBytes-1]
	binary.BigEndian.PutUint32(b, h.length)
	b[4], b[5], b[6], b[7] = h.kind, h.code, h.version, 0
	binary.BigEndian.PutUint64(b[8:], h.id)
	binary.BigEndian.PutUint32(b[16:], h.budget)
}

// parseHeader checks everything that does not depend on the direction. A frame
// of another version than its connection's is not looked at.
func parseHeader(b []byte, version byte) (header, error) {
	_ = b[headerBytes-1]
	h := header{
		length: binary.BigEndian.Uint32(b),
		kind:   b[4],
		code:   b[5],
		id:     binary.BigEndian.Uint64(b[8:]),
		budget: binary.BigEndian.Uint32(b[16:]), version: b[6],
	}
	switch {
	case h.version != version:
		return header{}, fmt.Errorf("frame of version %d on a connection of %d: %w",
			h.version, version, ErrProtocol)
	case h.kind < frameRequest || h.kind > framePong:
		return header{}, fmt.Errorf("frame type %d: %w", h.kind, ErrProtocol)
	case b[7] != 0:
		return header{}, fmt.Errorf("reserved byte set: %w", ErrProtocol)
	case h.length > FrameBytesMax:
		return header{}, fmt.Errorf("frame of %d bytes: %w", h.length, ErrProtocol)
	case h.kind >= frameCancel && h.length != 0:
		return header{}, fmt.Errorf("frame type %d with a body: %w", h.kind, ErrProtocol)
	}
	return h, nil
}

// budgetOf rounds up: a caller that waits for 0.3 ms still waits.
func budgetOf(left time.Duration) uint32 {
	ms := (left + time.Millisecond - 1) / time.Millisecond
	return uint32(min(max(ms, 1), math.MaxUint32))
}

// Request bodies come from pools of a few sizes. A class is a little over a
// power of two, because a body is a chunk and a small head.
const (
	bodyClasses   = 6
	bodyClassBase = 4 << 10 // 4 KiB, then ×4 up to 4 MiB
	bodyClassStep = 2       // bits
	bodySlack     = 1 << 10
)

// bodies recycles the buffers of request bodies.
type bodies struct{ pools [bodyClasses]sync.Pool }

func bodyClass(n int) (class, size int) {
	for class = range bodyClasses {
		if size = bodyClassBase<<(bodyClassStep*class) + bodySlack; n <= size {
			return class, size
		}
	}
	return bodyClasses, n
}

// get returns a buffer of length n ≤ FrameBytesMax.
func (p *bodies) get(n int) *[]byte {
	class, size := bodyClass(n)
	if class == bodyClasses {
		b := make([]byte, n)
		return &b
	}
	if b, ok := p.pools[class].Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, size)
	return &b
}

// answer returns memory for an answer of n bytes, which its caller may keep:
// from the pools only where that wastes little.
func (p *bodies) answer(n int) []byte {
	if _, size := bodyClass(n); n < size-size/8 {
		return make([]byte, n)
	}
	return *p.get(n)
}

func (p *bodies) put(b *[]byte) {
	if class, size := bodyClass(cap(*b)); class < bodyClasses && cap(*b) == size {
		p.pools[class].Put(b)
	}
}
