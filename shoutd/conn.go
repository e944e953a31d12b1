package shoutd

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"
)

const (
	// requestsMax on one connection: libshout needs three.
	requestsMax = 100
	// lingerWait and lingerBytesMax bound how long a refused client may go on
	// sending before the connection is closed. Closing with unread bytes is a
	// reset, and that may overtake the answer.
	lingerWait     = 2 * time.Second
	lingerBytesMax = 4 << 20
	// answerWait bounds the write of a short answer, which the kernel's buffer
	// takes at once from anybody but an attacker.
	answerWait = 10 * time.Second
)

// The methods of this port.
const (
	methodSource  = "SOURCE"
	methodPut     = http.MethodPut
	methodGet     = http.MethodGet
	methodHead    = http.MethodHead
	methodOptions = http.MethodOptions
)

// conn is one connection, served by one goroutine.
type conn struct {
	server *Server
	tcp    *net.TCPConn
	in     *input
	buf    *[inputBytes]byte
	// release undoes the hook that closes the socket when the server closes.
	release func() bool
	// handed: the connection is the audience's.
	handed bool
}

// serve answers requests until one of them takes the connection over.
func (c *conn) serve(ctx context.Context) {
	defer c.opened(ctx)()
	c.requests(ctx)
}

// opened prepares the connection; the function that it returns closes it.
func (c *conn) opened(ctx context.Context) (closed func()) {
	c.server.metrics.connections.Inc()
	c.borrow()
	c.release = context.AfterFunc(ctx, func() { _ = c.tcp.Close() })
	return func() {
		if c.handed {
			return
		}
		_ = c.tcp.Close()
		c.release()
		c.giveBack()
		c.server.metrics.connections.Dec()
	}
}

// requests reads and answers one request after the other.
func (c *conn) requests(ctx context.Context) {
	for range requestsMax {
		c.in.deadline(time.Now().Add(c.server.cfg.HeadWait))
		r, err := readRequest(c.in)
		if err != nil {
			c.badHead(err)
			return
		}
		// The head is here: what is read from now on has waits of its own.
		c.in.deadline(time.Time{})
		if !c.handle(ctx, r) {
			return
		}
	}
	c.refuse(nil, http.StatusBadRequest)
}

// borrow takes a read buffer from the pool.
func (c *conn) borrow() {
	c.buf = c.server.inputs.Get().(*[inputBytes]byte) //nolint:forcetypeassert // the pool's only type
	c.in = &input{conn: c.tcp, buf: c.buf[:]}
}

// giveBack returns the read buffer; the connection is not read through it any
// more. A listener does so before it begins to wait.
func (c *conn) giveBack() {
	if c.buf != nil {
		c.server.inputs.Put(c.buf)
		c.buf, c.in = nil, nil
	}
}

// handle serves one request and says whether the connection is kept for the
// next one.
func (c *conn) handle(ctx context.Context, r *request) bool {
	switch r.method {
	case methodOptions:
		return c.options(r)
	case methodSource, methodPut:
		return c.source(ctx, r)
	case methodGet, methodHead:
		c.get(ctx, r)
		return false
	}
	c.refuse(r, http.StatusNotImplemented)
	return false
}

// badHead answers what was no request.
func (c *conn) badHead(err error) {
	var head *headError
	switch {
	case errors.As(err, &head):
		c.server.log.Debug("request refused", "remote", c.remote(), "status", head.status, "reason", head.why)
		c.refuse(nil, head.status)
	case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
		// Nobody asked for anything.
	default:
		c.server.log.Debug("connection lost", "remote", c.remote(), "error", err)
	}
}

// send writes a short answer.
func (c *conn) send(p []byte) error {
	_ = c.tcp.SetWriteDeadline(time.Now().Add(answerWait))
	_, err := c.tcp.Write(p)
	return err
}

// linger ends the write side and waits, within bounds, until the client ends
// its own.
func (c *conn) linger() {
	if err := c.tcp.CloseWrite(); err != nil {
		return
	}
	if c.in == nil {
		c.borrow()
		defer c.giveBack()
	}
	c.in.deadline(time.Now().Add(lingerWait))
	for taken := int64(0); taken < lingerBytesMax; {
		p, err := c.in.take(inputBytes)
		if err != nil {
			return
		}
		taken += int64(len(p))
	}
}

func (c *conn) remote() string { return c.tcp.RemoteAddr().String() }

// peer is the address to check against streams.allow.
func (c *conn) peer() netip.Addr {
	addr, ok := c.tcp.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return addr.AddrPort().Addr().Unmap()
}

// refuse answers a connection over the limit. Beyond refusalsMax of them the
// answer is not waited for.
func (s *Server) refuse(ctx context.Context, c *conn) {
	s.metrics.answers.WithLabelValues("503").Inc()
	select {
	case s.refusals <- struct{}{}:
	default:
		_ = c.send(refusal(false, http.StatusServiceUnavailable))
		_ = c.tcp.Close()
		return
	}
	s.wg.Go(func() {
		defer func() { <-s.refusals }()
		defer context.AfterFunc(ctx, func() { _ = c.tcp.Close() })()
		defer func() { _ = c.tcp.Close() }()
		if c.send(refusal(false, http.StatusServiceUnavailable)) == nil {
			c.linger()
		}
	})
}
