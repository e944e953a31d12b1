package web

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"carillon/internal/outlet"
)

const (
	// refusal is what a connection over the limit gets: an answer, never
	// silence (promise 3), and an empty body because it may be a player.
	refusal = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1" + emptyAnswer
	// emptyAnswer ends an answer that has no body.
	emptyAnswer = "\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	// earlyRefusalBytesMax is longer than any error text of net/http.
	earlyRefusalBytesMax = 512
	// refusalWait: the answer fits every socket buffer; a write that blocks
	// has no reader.
	refusalWait = 100 * time.Millisecond
	// rearmParts: a deadline is moved only when this part of it has passed, so
	// that a fast writer pays for a clock reading and not for a timer.
	rearmParts = 8
)

// listener hands out connections that watch their write progress, at most
// max at once.
type listener struct {
	net.Listener
	stall time.Duration
	max   int64
	open  atomic.Int64
	start time.Time
	heads sync.Pool // of *[gatherBytesMin]byte
}

func newListener(ln net.Listener, stall time.Duration, connsMax int) *listener {
	l := &listener{Listener: ln, stall: stall, max: int64(connsMax), start: time.Now()}
	l.heads.New = func() any { return new([gatherBytesMin]byte) }
	return l
}

// Accept waits for a connection within the limit.
func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.max {
			return &conn{Conn: nc, ln: l}, nil
		}
		l.open.Add(-1)
		_ = nc.SetDeadline(time.Now().Add(refusalWait))
		_, _ = nc.Write([]byte(refusal))
		_ = nc.Close()
	}
}

// conn cuts a peer that takes no byte for the stall time.
type conn struct {
	net.Conn
	ln *listener
	// rearm is when the write deadline must be moved on, since ln.start.
	rearm  atomic.Int64
	closed sync.Once
	// heir gets the connection when net/http closes it, and is set before parted;
	// see [HandOver].
	heir   func()
	parted atomic.Bool
	handed sync.Once

	// The rest belongs to the goroutine that answers; see [WriteFirst] and, of
	// the last ones, [Brief].
	gather  bool
	held    []byte
	vector  [2][]byte
	rest    net.Buffers
	out     *outlet.Outlet // nil until a Brief needs it
	brief   bool           // a Write does not wait
	missing int            // bytes that a brief one did not send
}

// Read is net/http's, which has nothing more to read once the connection is
// handed over.
func (c *conn) Read(p []byte) (int, error) {
	if c.parted.Load() {
		return 0, io.EOF
	}
	return c.Conn.Read(p)
}

// Write sends p, for which the peer has the stall time.
func (c *conn) Write(p []byte) (int, error) {
	if c.gather && len(c.held) == 0 && len(p) <= gatherBytesMin {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	switch {
	case c.parted.Load(): // net/http's last words
		return len(p), nil
	case c.missing > 0: // nothing may follow what is missing
		c.missing += len(p)
		return len(p), nil
	case c.brief:
		return c.writeBriefly(p)
	}
	if since := time.Since(c.ln.start); int64(since) >= c.rearm.Load() {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.ln.stall)); err != nil {
			return 0, err
		}
		c.rearm.Store(int64(since + c.ln.stall/rearmParts))
	}
	if len(c.held) == 0 {
		if line, ok := earlyRefusal(p); ok {
			_, err := io.WriteString(c.Conn, line+emptyAnswer)
			return len(p), err
		}
		return c.Conn.Write(p)
	}
	c.vector = [2][]byte{c.held, p}
	c.rest = c.vector[:]
	n, err := c.rest.WriteTo(c.Conn)
	n = max(0, n-int64(len(c.held)))
	c.vector, c.held = [2][]byte{}, c.held[:0]
	return int(n), err
}

// earlyRefusal recognises what net/http writes itself when it cannot make a
// request of what came (400, 431, 501, 505): a status line, these headers and a
// line of text (server.go, conn.serve). The text would be noise to a player, so
// only the status line goes out.
func earlyRefusal(p []byte) (statusLine string, ok bool) {
	const headers = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	if len(p) > earlyRefusalBytesMax || !bytes.HasPrefix(p, []byte("HTTP/1.1 ")) {
		return "", false
	}
	line, rest, _ := bytes.Cut(p, []byte("\r\n"))
	if !bytes.HasPrefix(rest, []byte(headers[2:])) {
		return "", false
	}
	return string(line), true
}

// release sends what is still held.
func (c *conn) release() error {
	c.gather = false
	if len(c.held) == 0 {
		return nil
	}
	_, err := c.Write(nil)
	return err
}

// gatherBytesMin is the size of net/http's write buffer (server.go,
// bufferBeforeChunkingSize and newBufioWriterSize in newConn).
const gatherBytesMin = 4 << 10

type connKey struct{}

// withConn lets [WriteFirst] find the connection of a request.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// WriteFirst is w.Write for the first bytes of a body. Net/http would send the
// head and the beginning of p in one packet and the rest in another, which
// wakes the receiver twice and costs a sixth of the CPU time of a 64 KiB
// answer. This sends both with one system call.
func WriteFirst(w http.ResponseWriter, r *http.Request, p []byte) (int, error) {
	c, ok := r.Context().Value(connKey{}).(*conn)
	if !ok || len(p) <= 2*gatherBytesMin { // it fits, or nearly
		return w.Write(p)
	}
	head := c.ln.heads.Get().(*[gatherBytesMin]byte) //nolint:forcetypeassert // the pool's only type
	c.gather, c.held = true, head[:0]
	n, err := w.Write(p)
	if rerr := c.release(); err == nil {
		err = rerr
	}
	c.held, c.rest = nil, nil
	c.ln.heads.Put(head)
	return n, err
}

// SetWriteDeadline is called with zero by net/http after each response. That
// is ignored: the deadline only matters to a Write, and Write moves it on. One
// that a handler sets holds until it has passed; such a handler closes the
// connection, so that no other response meets it.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		return nil
	}
	c.rearm.Store(int64(t.Sub(c.ln.start)))
	return c.Conn.SetWriteDeadline(t)
}

// CloseWrite sends FIN. net/http uses it so that a client that is still
// sending a refused body can read the answer before the reset.
func (c *conn) CloseWrite() error {
	if c.parted.Load() {
		return nil
	}
	if tcp, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// Close frees the connection's place, or hands it over.
func (c *conn) Close() error {
	if !c.parted.Load() {
		return c.end()
	}
	c.handed.Do(func() {
		heir := c.heir
		c.heir = nil // with the request that it knows
		heir()
	})
	return nil
}

func (c *conn) end() error {
	c.closed.Do(func() { c.ln.open.Add(-1) })
	return c.Conn.Close()
}
