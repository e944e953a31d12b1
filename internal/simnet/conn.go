package simnet

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// pipe is one direction of a stream. Its fields are guarded by Net.mu.
type pipe struct {
	from, to *Host
	chunks   []chunk
	held     int           // bytes in chunks
	last     time.Time     // arrival of the last chunk
	fin      *time.Time    // arrival of the end
	rst      *time.Time    // arrival of a reset
	deaf     bool          // the reader is gone
	changed  chan struct{} // closed at the next change
}

type chunk struct {
	data []byte
	at   time.Time // of arrival
}

func newPipe(from, to *Host) *pipe {
	return &pipe{from: from, to: to, changed: make(chan struct{})}
}

func (p *pipe) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pipe) link() *link { return p.from.net.link(p.from.name, p.to.name) }

// arrived says whether something is there by now: its time has come, and it
// was there before a cut or there is none.
func (p *pipe) arrived(at time.Time) bool {
	l := p.link()
	return !at.After(time.Now()) && (!l.cut || at.Before(l.since))
}

// stamp is the arrival of something sent now, after all that was sent before.
func (p *pipe) stamp() time.Time {
	if at := p.from.net.arrival(p.link()); at.After(p.last) {
		p.last = at
	}
	return p.last
}

// due is when the next thing arrives, unless it is cut off; zero for nothing.
func (p *pipe) due() time.Time {
	if p.link().cut {
		return time.Time{}
	}
	switch {
	case len(p.chunks) > 0:
		return p.chunks[0].at
	case p.rst != nil:
		return *p.rst
	case p.fin != nil:
		return *p.fin
	}
	return time.Time{}
}

// doom is when the writer gives up because what it sent cannot arrive; zero
// for never.
func (p *pipe) doom() time.Time {
	l := p.link()
	if !l.cut || p.held == 0 {
		return time.Time{}
	}
	at := p.chunks[len(p.chunks)-1].at
	if at.Before(l.since) {
		return time.Time{} // all there, only not read yet
	}
	first := l.since
	for _, c := range p.chunks {
		if !c.at.Before(l.since) {
			first = c.at
			break
		}
	}
	return first.Add(resetAfter)
}

// conn is one end of a stream.
type conn struct {
	host          *Host
	out, in       *pipe
	local, remote *net.TCPAddr
	readBy        deadline
	writeBy       deadline

	err error // why this end is dead; guarded by Net.mu
}

var _ net.Conn = (*conn)(nil)

func newConn(h *Host, out, in *pipe, local, remote *net.TCPAddr) *conn {
	return &conn{
		host: h, out: out, in: in, local: local, remote: remote,
		readBy: newDeadline(), writeBy: newDeadline(),
	}
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	for {
		over := c.readBy.wait()
		if c.readBy.passed() {
			return 0, c.failed("read", os.ErrDeadlineExceeded)
		}
		c.host.net.mu.Lock()
		n, err := c.take(b)
		if n > 0 || err != nil || len(b) == 0 {
			c.host.net.mu.Unlock()
			return n, err
		}
		wait := c.waiter(over)
		c.host.net.mu.Unlock()
		wait()
	}
}

// take reads what is there. The caller holds the lock.
func (c *conn) take(b []byte) (int, error) {
	if err := c.check("read"); err != nil {
		return 0, err
	}
	n := 0
	for n < len(b) && len(c.in.chunks) > 0 && c.in.arrived(c.in.chunks[0].at) {
		head := &c.in.chunks[0]
		m := copy(b[n:], head.data)
		n += m
		if head.data = head.data[m:]; len(head.data) == 0 {
			c.in.chunks = c.in.chunks[1:]
		}
	}
	if n > 0 {
		c.in.held -= n
		c.in.wake()
		return n, nil
	}
	switch {
	case c.in.rst != nil && c.in.arrived(*c.in.rst):
		return 0, c.failed("read", syscall.ECONNRESET)
	case len(c.in.chunks) == 0 && c.in.fin != nil && c.in.arrived(*c.in.fin):
		return 0, io.EOF
	}
	return 0, nil
}

// check ends a stream whose bytes could not be delivered for too long, and
// returns why this end is dead. The caller holds the lock.
func (c *conn) check(op string) error {
	if doom := c.out.doom(); c.err == nil && !doom.IsZero() && !doom.After(time.Now()) {
		c.resetLocked()
		c.err = syscall.ETIMEDOUT
	}
	if c.err != nil {
		return c.failed(op, c.err)
	}
	return nil
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	sent := 0
	for {
		over := c.writeBy.wait()
		if c.writeBy.passed() {
			return sent, c.failed("write", os.ErrDeadlineExceeded)
		}
		c.host.net.mu.Lock()
		n, err := c.give(b[sent:])
		sent += n
		if err != nil || sent == len(b) {
			c.host.net.mu.Unlock()
			return sent, err
		}
		wait := c.waiter(over)
		c.host.net.mu.Unlock()
		wait()
	}
}

// give sends what there is room for. The caller holds the lock.
func (c *conn) give(b []byte) (int, error) {
	if err := c.check("write"); err != nil {
		return 0, err
	}
	if c.in.rst != nil && c.in.arrived(*c.in.rst) {
		return 0, c.failed("write", syscall.ECONNRESET)
	}
	if c.out.fin != nil || (c.out.deaf && !c.out.link().cut && !c.in.link().cut) {
		return 0, c.failed("write", syscall.EPIPE)
	}
	n := min(len(b), sendBufferBytes-c.out.held)
	if n > 0 {
		c.out.chunks = append(c.out.chunks, chunk{data: append([]byte(nil), b[:n]...), at: c.out.stamp()})
		c.out.held += n
		c.out.wake()
	}
	return n, nil
}

// waiter returns a function that waits until it is worth to look again. The
// caller holds the lock, but not when it calls the function.
func (c *conn) waiter(over <-chan struct{}) func() {
	inChanged, outChanged, netChanged := c.in.changed, c.out.changed, c.host.net.changed
	var wake time.Time
	for _, at := range []time.Time{c.in.due(), c.out.doom()} {
		if !at.IsZero() && at.After(time.Now()) && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
	}
	return func() {
		var alarm <-chan time.Time
		if !wake.IsZero() {
			timer := time.NewTimer(time.Until(wake))
			defer timer.Stop()
			alarm = timer.C
		}
		select {
		case <-inChanged:
		case <-outChanged:
		case <-netChanged:
		case <-over:
		case <-alarm:
		}
	}
}

func (c *conn) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "sim", Source: c.local, Addr: c.remote, Err: err}
}

// Close implements net.Conn. What was written still arrives.
func (c *conn) Close() error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	if c.err != nil {
		return nil
	}
	c.err = net.ErrClosed
	c.finish()
	c.in.deaf = true
	c.end()
	return nil
}

// CloseWrite ends our direction.
func (c *conn) CloseWrite() error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	if c.err != nil {
		return fmt.Errorf("close write: %w", c.err)
	}
	c.finish()
	c.out.wake()
	return nil
}

func (c *conn) finish() {
	if c.out.fin == nil {
		at := c.out.stamp()
		c.out.fin = &at
	}
}

func (c *conn) reset() {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	c.resetLocked()
}

// resetLocked ends this end without a goodbye; the other learns it as soon as
// it can be reached.
func (c *conn) resetLocked() {
	if c.err != nil {
		return
	}
	c.err = syscall.ECONNRESET
	at := c.out.stamp()
	c.out.rst = &at
	c.in.deaf = true
	c.end()
}

func (c *conn) end() {
	delete(c.host.conns, c)
	c.in.wake()
	c.out.wake()
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.readBy.set(t)
	c.writeBy.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.readBy.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writeBy.set(t)
	return nil
}
