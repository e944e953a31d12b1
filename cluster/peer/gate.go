package peer

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// inflightBytesMax bounds the request bodies in flight on one connection, at
// both ends: a caller waits before it sends more, and an acceptor that was sent
// more reads no further. Four full frames.
const inflightBytesMax = 4 * FrameBytesMax

// byteGate bounds a sum of bytes.
type byteGate struct {
	mu   sync.Mutex // guards what follows
	held int
	room chan struct{} // closed at the next leave; nil if nobody waits
}

// enter waits for room for n bytes; alone there is always room. It returns
// false when done or dead is closed first.
func (g *byteGate) enter(n int, done, dead <-chan struct{}) bool {
	for {
		g.mu.Lock()
		if g.held == 0 || g.held+n <= inflightBytesMax {
			g.held += n
			g.mu.Unlock()
			return true
		}
		if g.room == nil {
			g.room = make(chan struct{})
		}
		room := g.room
		g.mu.Unlock()
		select {
		case <-room:
		case <-done:
			return false
		case <-dead:
			return false
		}
	}
}

func (g *byteGate) leave(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held -= n
	if g.room != nil {
		close(g.room)
		g.room = nil
	}
}

// ear reads from a connection and notes when it last heard something, also in
// the middle of a long frame.
type ear struct {
	conn net.Conn
	last *atomic.Int64 // Unix nanoseconds
}

// Read implements io.Reader.
func (e ear) Read(b []byte) (int, error) {
	n, err := e.conn.Read(b)
	if n > 0 {
		e.last.Store(time.Now().UnixNano())
	}
	return n, err //nolint:wrapcheck // an io.Reader passes errors on
}
