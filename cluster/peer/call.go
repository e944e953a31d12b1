package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// callsPerConnMax bounds the calls in flight on one connection; more wait.
	// The acceptor reads no further when as many handlers run.
	callsPerConnMax = 512
	// readBufferBytes: several small frames for one system call, while bodies
	// longer than it are read straight into their place.
	readBufferBytes = 16 << 10
	// withdrawWait is how long a cancelled call waits for a write that is using
	// its request; then the connection is taken for dead.
	withdrawWait = 2 * time.Second
)

// callConn is the dialing end of a call connection.
type callConn struct {
	link *Link
	node string
	conn net.Conn
	out  *outbox
	dead chan struct{}
	// slots bounds the calls in flight.
	slots chan struct{}
	bytes byteGate     // request bytes of the calls in flight
	load  atomic.Int64 // the same with the calls that wait for room
	heard atomic.Int64 // when something was last read, Unix nanoseconds

	mu    sync.Mutex // guards what follows
	calls map[uint64]*call
	last  uint64 // id of the last call
	err   error  // why it is dead
}

// call is one request in flight. It is pooled, so each channel must be empty
// when it goes back.
type call struct {
	done    chan struct{} // capacity 1: answer or err is set
	written chan struct{} // capacity 1: see outFrame
	answer  []byte
	err     error
}

type callPool struct{ pool sync.Pool }

func (p *callPool) get() *call {
	if c, ok := p.pool.Get().(*call); ok {
		return c
	}
	return &call{done: make(chan struct{}, 1), written: make(chan struct{}, 1)}
}

func (p *callPool) put(c *call) {
	c.answer, c.err = nil, nil
	p.pool.Put(c)
}

// Call sends a request to a node and returns the handler's answer, which
// belongs to the caller. The pieces of req are sent one after the other as one
// request; they are not changed and not used after the return.
//
// Errors: a RemoteError when the handler returned one; ErrUnreachable with
// ErrNotSent or ErrMaybeSent when there is no answer; ErrTooLarge; the
// context's error, with ErrNotSent or ErrMaybeSent, when it ended first.
func (l *Link) Call(ctx context.Context, node string, kind byte, req ...[]byte) ([]byte, error) {
	n := 0
	for _, p := range req {
		n += len(p)
	}
	if n > FrameBytesMax {
		return nil, fmt.Errorf("request of %d bytes: %w", n, ErrTooLarge)
	}
	l.metrics.calls.Inc()
	for retried := false; ; retried = true {
		c, err := l.node(node).pick(ctx, n)
		if err != nil {
			l.metrics.failures.Inc()
			return nil, err
		}
		answer, err := c.roundTrip(ctx, kind, req, n)
		c.load.Add(int64(-n))
		if err == nil {
			return answer, nil
		}
		// A connection that died before it took the request says nothing
		// about the node: once more on a new one.
		if retried || ctx.Err() != nil || !errors.Is(err, ErrNotSent) || !errors.Is(err, ErrUnreachable) {
			l.metrics.failures.Inc()
			return nil, err
		}
	}
}

// Recycle takes the memory of an answer of Call back, for another one. A caller
// that has no more use for a large answer may call it; nothing may use the
// answer afterwards.
func (l *Link) Recycle(answer []byte) { l.bodies.put(&answer) }

// newCallConn starts the two goroutines of a connection.
func newCallConn(l *Link, node string, conn net.Conn, version byte) *callConn {
	c := &callConn{
		link:  l,
		node:  node,
		conn:  conn,
		dead:  make(chan struct{}),
		slots: make(chan struct{}, callsPerConnMax),
		calls: make(map[uint64]*call),
	}
	c.out = newOutbox(conn, version, c.dead)
	c.heard.Store(time.Now().UnixNano())
	return c
}

// run reads answers until the connection ends.
func (c *callConn) run() {
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		if err := c.out.run(); err != nil {
			c.fail(err)
		}
	}()
	c.fail(c.read())
	<-writer
}

// fail ends the connection and all its calls, once.
func (c *callConn) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	calls := c.calls
	c.calls = nil
	c.mu.Unlock()
	close(c.dead)
	_ = c.conn.Close() // it is dead already
	for _, call := range calls {
		call.err = errBroken
		call.done <- struct{}{}
	}
}

var errBroken = errors.New("connection broke")

func (c *callConn) isDead() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

// Close implements io.Closer for Link.Close.
func (c *callConn) Close() error {
	c.fail(ErrClosed)
	return nil
}

func (c *callConn) roundTrip(ctx context.Context, kind byte, req [][]byte, n int) ([]byte, error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, c.gaveUp(ctx, ErrNotSent)
	case <-c.dead:
		return nil, c.broke(ErrNotSent)
	}
	defer func() { <-c.slots }()
	if !c.bytes.enter(n, ctx.Done(), c.dead) {
		return nil, c.neverSent(ctx)
	}
	defer c.bytes.leave(n)
	h := header{length: uint32(n), kind: frameRequest, code: kind}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, c.gaveUp(ctx, ErrNotSent)
		}
		h.budget = budgetOf(left)
	}
	call := c.link.pool.get()
	if h.id = c.begin(call); h.id == 0 {
		c.link.pool.put(call)
		return nil, c.broke(ErrNotSent)
	}
	var written chan struct{}
	if n > copyBytesMax {
		written = call.written
	}
	if !c.out.send(ctx.Done(), h, req, written) {
		c.forget(h.id, call)
		c.link.pool.put(call)
		return nil, c.neverSent(ctx)
	}
	select {
	case <-call.done:
	case <-ctx.Done():
		return nil, c.cancel(ctx, h.id, call, written)
	}
	sent := c.settle(call, written, nil)
	answer, err := call.answer, call.err
	c.link.pool.put(call)
	if errors.Is(err, errBroken) {
		return nil, c.broke(sent)
	}
	return answer, err
}

// begin gives the call an id, or 0 when the connection is dead.
func (c *callConn) begin(call *call) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0
	}
	c.last++
	c.calls[c.last] = call
	return c.last
}

// forget makes sure that nobody will complete the call any more.
func (c *callConn) forget(id uint64, call *call) {
	if c.take(id) == nil {
		<-call.done // somebody took it first and completes it now
	}
}

func (c *callConn) take(id uint64) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.calls[id]
	delete(c.calls, id)
	return call
}

// settle makes sure that the writer no longer uses the request, and says
// whether it may have been sent. Small requests were copied: they may have.
func (c *callConn) settle(call *call, written chan struct{}, patience <-chan time.Time) error {
	if written == nil {
		return ErrMaybeSent
	}
	if c.out.withdraw(written) {
		return ErrNotSent
	}
	select {
	case <-call.written:
	case <-patience:
		c.fail(fmt.Errorf("write stalled: %w", ErrUnreachable))
		<-call.written
	}
	return ErrMaybeSent
}

func (c *callConn) cancel(ctx context.Context, id uint64, call *call, written chan struct{}) error {
	c.forget(id, call)
	timer := time.NewTimer(withdrawWait)
	defer timer.Stop()
	sent := c.settle(call, written, timer.C)
	if errors.Is(sent, ErrMaybeSent) {
		c.out.trySend(header{kind: frameCancel, id: id})
	}
	c.link.pool.put(call)
	return c.gaveUp(ctx, sent)
}

func (c *callConn) neverSent(ctx context.Context) error {
	if c.isDead() {
		return c.broke(ErrNotSent)
	}
	return c.gaveUp(ctx, ErrNotSent)
}

func (c *callConn) gaveUp(ctx context.Context, sent error) error {
	why := ctx.Err()
	if why == nil { // its time is over, its timer has not fired yet
		why = context.DeadlineExceeded
	}
	return fmt.Errorf("call node %s: %w: %w", c.node, sent, why)
}

func (c *callConn) broke(sent error) error {
	c.mu.Lock()
	err := c.err
	c.mu.Unlock()
	return fmt.Errorf("call node %s: %w (%w): %w", c.node, ErrUnreachable, sent, err)
}

// read matches answers with calls.
func (c *callConn) read() error {
	r := bufio.NewReaderSize(ear{c.conn, &c.heard}, readBufferBytes)
	var head [headerBytes]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		h, err := parseHeader(head[:], c.out.version)
		if err != nil {
			return err
		}
		switch h.kind {
		case framePong:
			continue
		case frameAnswer, frameError:
		default:
			return fmt.Errorf("frame type %d from an acceptor: %w", h.kind, ErrProtocol)
		}
		body := c.link.bodies.answer(int(h.length))
		if _, err := io.ReadFull(r, body); err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		call := c.take(h.id)
		if call == nil {
			continue // cancelled meanwhile
		}
		if h.kind == frameAnswer {
			call.answer = body
		} else {
			call.err = c.link.codes.Load().decode(c.node, h.code, string(body))
		}
		call.done <- struct{}{}
	}
}
