package web

import (
	"errors"
	"net"
	"net/http"
	"os"
	"time"
)

// sendBufferBytes is the kernel's buffer of a peer who gets more than that. Left
// to itself it grows to 4 MiB for one that reads fast and then stops. The kernel
// doubles it.
const sendBufferBytes = 128 << 10

// firstBytesMax is what the first write of a body may hold, which waits: an empty
// buffer takes it.
const firstBytesMax = 64 << 10

// ErrNoRoom is returned by a Brief when its peer takes no more now.
var ErrNoRoom = errors.New("peer takes no more now")

// Brief writes the body of a response whose handler will not wait for a slow
// peer: after the patience Write returns ErrNoRoom, and the handler may take the
// connection over from net/http and go on behind Taken. The first write waits as
// usual, for it carries the head.
type Brief struct {
	w        http.ResponseWriter
	r        *http.Request
	conn     *conn // nil if it is none of ours: then all writes wait
	patience time.Duration
	length   int64
	given    int64
}

// NewBrief makes a Brief for a response whose length is announced.
func NewBrief(w http.ResponseWriter, r *http.Request, length int64, patience time.Duration) *Brief {
	b := &Brief{w: w, r: r, length: length, patience: patience}
	b.conn, _ = r.Context().Value(connKey{}).(*conn)
	return b
}

// Write sends p.
func (b *Brief) Write(p []byte) (int, error) {
	first := b.given == 0
	if first && len(p) > firstBytesMax {
		n, err := b.Write(p[:firstBytesMax])
		if err != nil {
			return n, err
		}
		m, err := b.Write(p[firstBytesMax:])
		return n + m, err
	}
	b.given += int64(len(p))
	switch {
	case first:
		if b.conn != nil && b.length > sendBufferBytes {
			b.conn.bound()
		}
		return WriteFirst(b.w, b.r, p)
	case b.conn == nil:
		return b.w.Write(p)
	}
	b.conn.brief = b.patience
	n, err := b.w.Write(p)
	b.conn.brief = 0
	if err != nil || b.conn.missing == 0 {
		return n, err
	}
	// What net/http holds comes after what is missing, so it is missing, too.
	if err := http.NewResponseController(b.w).Flush(); err != nil {
		return 0, err
	}
	return max(0, n-b.conn.missing), ErrNoRoom
}

// Missing is how many bytes were given and not sent.
func (b *Brief) Missing() int64 {
	if b.conn == nil {
		return 0
	}
	return int64(b.conn.missing)
}

// Taken is how many bytes of the body were sent, or are net/http's to send.
func (b *Brief) Taken() int64 { return b.given - b.Missing() }

// Take takes the connection over, as the function of that name does.
func (b *Brief) Take() (tcp *net.TCPConn, closing func() error, err error) { return Take(b.w) }

// bound keeps the kernel's send buffer from growing.
func (c *conn) bound() {
	if c.bounded {
		return
	}
	c.bounded = true
	if tcp, ok := c.Conn.(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = tcp.SetWriteBuffer(sendBufferBytes)
	}
}

// writeBriefly is Write for a peer who is not waited for. To net/http it seems
// that he took all, so that it has nothing left to send when it is parted from
// the connection.
func (c *conn) writeBriefly(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.brief)); err != nil {
		return 0, err
	}
	c.rearm.Store(0) // the next Write has its own
	n, err := c.Conn.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.missing, err = len(p)-n, nil
		n = len(p)
	}
	return n, err
}
