package web

import (
	"errors"
	"net"
	"net/http"
	"time"

	"carillon/internal/outlet"
)

// boundBytesMin of a body make the kernel's buffer one of [outlet.Outlet.Narrow].
// Of less it has soon sent all.
const boundBytesMin = 128 << 10

// firstBytesMax is what the first write of a body may hold, which waits: an empty
// buffer takes it, a narrow one, too.
const firstBytesMax = 64 << 10

// headOutBytes of a body were given when its head is in none of net/http's buffers
// any more.
const headOutBytes = 2 * gatherBytesMin

// Brief writes the body of a response without waiting for a slow peer: if he has
// no room Write returns outlet.ErrNoRoom, and the handler may give its buffer back,
// wait with Await, and go on behind Taken; or let somebody else do so, with
// [HandOver]. The first write waits as usual, for it carries the head.
type Brief struct {
	w      http.ResponseWriter
	r      *http.Request
	conn   *conn // nil if it is none of ours: then all writes wait
	length int64
	given  int64
}

// NewBrief makes a Brief for a response whose length is announced.
func NewBrief(w http.ResponseWriter, r *http.Request, length int64) *Brief {
	b := &Brief{w: w, r: r, length: length}
	c, _ := r.Context().Value(connKey{}).(*conn)
	if c != nil && length > firstBytesMax && c.outlet() == nil {
		b.conn = c
	}
	return b
}

// Write sends p.
func (b *Brief) Write(p []byte) (int, error) {
	switch {
	case b.given < headOutBytes:
		return b.begin(p)
	case b.conn == nil:
		b.given += int64(len(p))
		return b.w.Write(p)
	}
	n, err := b.makeUp(p)
	if err != nil || n == len(p) {
		return n, err
	}
	p = p[n:]
	b.given += int64(len(p))
	b.conn.brief = true
	m, err := b.w.Write(p)
	b.conn.brief = false
	if err != nil || b.conn.missing == 0 {
		return n + m, err
	}
	// What net/http holds comes after what is missing, so it is missing, too.
	if err := http.NewResponseController(b.w).Flush(); err != nil {
		return n, err
	}
	return n + max(0, m-b.conn.missing), outlet.ErrNoRoom
}

// begin sends the first bytes, with the head.
func (b *Brief) begin(p []byte) (int, error) {
	if len(p) > firstBytesMax {
		n, err := b.begin(p[:firstBytesMax])
		if err != nil {
			return n, err
		}
		m, err := b.Write(p[firstBytesMax:])
		return n + m, err
	}
	b.given += int64(len(p))
	if b.conn != nil && b.length > boundBytesMin {
		b.conn.out.Narrow()
	}
	return WriteFirst(b.w, b.r, p)
}

// makeUp sends what is missing, of which net/http believes that it was sent.
func (b *Brief) makeUp(p []byte) (int, error) {
	c := b.conn
	if c.missing == 0 {
		return 0, nil
	}
	n, err := c.out.Write(p[:min(len(p), c.missing)])
	c.missing -= n
	return n, err
}

// Await says whether there is room again before the time is over. Who reads so fast
// gets more at a time from then on.
func (b *Brief) Await(d time.Duration) (bool, error) {
	if b.conn == nil {
		return true, nil
	}
	b.conn.rearm.Store(0) // the next Write that waits has a deadline of its own
	ready, err := b.conn.out.Await(d)
	if out := b.conn.out; ready && !out.Wide() && out.Fast(b.Taken()) {
		out.Widen()
	}
	return ready, err
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

// outlet makes the outlet of a connection, if it can have one.
func (c *conn) outlet() error {
	if c.out != nil {
		return nil
	}
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return ErrNotTCP
	}
	var err error
	c.out, err = outlet.New(tcp)
	return err
}

// writeBriefly is Write for a peer who is not waited for. To net/http it seems
// that he took all, so that it has nothing left to send when it is parted from
// the connection.
func (c *conn) writeBriefly(p []byte) (int, error) {
	if c.rearm.Swap(0) != 0 { // that of the head; the next Write has its own
		if err := c.Conn.SetWriteDeadline(time.Time{}); err != nil {
			return 0, err
		}
	}
	n, err := c.out.Write(p)
	if errors.Is(err, outlet.ErrNoRoom) {
		c.missing, err = len(p)-n, nil
		n = len(p)
	}
	return n, err
}
