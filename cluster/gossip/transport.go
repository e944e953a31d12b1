package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// streamsMax bounds the streams that others open to us at once. memberlist
	// reads up to 20 MB from each before it knows who it is.
	streamsMax = 64
	// bindTries: with port 0 the same number must be free for TCP and UDP.
	bindTries = 10
)

// transport stands between memberlist and the network: it bounds incoming
// streams and ends all streams and dials at shutdown, so that memberlist's
// goroutines end too.
type transport struct {
	memberlist.Transport

	streams chan net.Conn
	dialer  func(ctx context.Context, addr string, wait time.Duration) (net.Conn, error)
	closing chan struct{} // no more dials
	stopped chan struct{} // the inner transport is down
	wg      sync.WaitGroup

	mu     sync.Mutex // guards what follows
	down   bool
	closed bool
	inside int
	conns  map[*conn]struct{}
}

var _ memberlist.Transport = (*transport)(nil)

func newTransport(inner memberlist.Transport) *transport {
	t := &transport{
		Transport: inner,
		streams:   make(chan net.Conn),
		closing:   make(chan struct{}),
		stopped:   make(chan struct{}),
		conns:     make(map[*conn]struct{}),
		dialer: func(_ context.Context, addr string, wait time.Duration) (net.Conn, error) {
			return inner.DialTimeout(addr, wait)
		},
	}
	if _, ok := inner.(*memberlist.NetTransport); ok {
		t.dialer = func(ctx context.Context, addr string, wait time.Duration) (net.Conn, error) {
			return (&net.Dialer{Timeout: wait}).DialContext(ctx, "tcp", addr)
		}
	}
	t.wg.Go(t.forward)
	return t
}

// listen binds TCP and UDP on the same port.
func listen(c *memberlist.NetTransportConfig) (*memberlist.NetTransport, error) {
	var errs error
	for range bindTries {
		t, err := memberlist.NewNetTransport(c)
		if err == nil {
			return t, nil
		}
		errs = errors.Join(errs, err)
		if c.BindPort != 0 {
			break
		}
	}
	return nil, fmt.Errorf("listen for gossip: %w", errs)
}

// forward passes incoming streams on, until the inner transport is down: its
// shutdown waits for whoever hands a stream over.
func (t *transport) forward() {
	for {
		select {
		case <-t.stopped:
			return
		case raw := <-t.Transport.StreamCh():
			c := t.adopt(raw, true)
			if c == nil {
				_ = raw.Close() // too many, or too late
				continue
			}
			select {
			case t.streams <- c:
			case <-t.closing:
				_ = c.Close()
			}
		}
	}
}

func (t *transport) adopt(raw net.Conn, incoming bool) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.down || (incoming && t.inside >= streamsMax) {
		return nil
	}
	c := &conn{Conn: raw, of: t, incoming: incoming}
	if incoming {
		t.inside++
	}
	t.conns[c] = struct{}{}
	return c
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, wait time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-t.closing:
			cancel()
		case <-done:
		}
	}()
	raw, err := t.dialer(ctx, addr, wait)
	if err != nil {
		return nil, err
	}
	c := t.adopt(raw, false)
	if c == nil {
		return nil, errors.Join(ErrClosed, raw.Close())
	}
	return c, nil
}

// stopStreams ends all streams and dials and allows no more; packets still go,
// for the last words.
func (t *transport) stopStreams() {
	t.mu.Lock()
	first := !t.down
	t.down = true
	conns := make([]*conn, 0, len(t.conns))
	for c := range t.conns {
		conns = append(conns, c)
	}
	t.mu.Unlock()
	if first {
		close(t.closing)
	}
	for _, c := range conns {
		_ = c.Close() // memberlist sees the error
	}
}

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	t.stopStreams()
	t.mu.Lock()
	first := !t.closed
	t.closed = true
	t.mu.Unlock()
	if !first {
		return nil
	}
	err := t.Transport.Shutdown()
	close(t.stopped)
	t.wg.Wait()
	if err != nil {
		return fmt.Errorf("shut down gossip transport: %w", err)
	}
	return nil
}

// conn is a stream that the transport knows of.
type conn struct {
	net.Conn

	of       *transport
	incoming bool
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if _, ok := c.of.conns[c]; ok {
		delete(c.of.conns, c)
		if c.incoming {
			c.of.inside--
		}
	}
	return err
}
