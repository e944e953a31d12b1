package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// acceptQueueMax bounds streams that wait for Accept.
	acceptQueueMax = 64
	// acceptWait is how long a stream waits for a place in that queue.
	acceptWait = 5 * time.Second
)

// Stream is a connection of its own between two nodes. Listener and Dial give
// it as a net.Conn.
type Stream struct {
	net.Conn

	node string
	once sync.Once
	free func()
}

// Node returns the id of the node at the other end.
func (s *Stream) Node() string { return s.node }

// Close closes the stream. Again is harmless.
func (s *Stream) Close() error {
	err := s.Conn.Close()
	s.once.Do(s.free)
	return err
}

// CloseWrite ends our direction and leaves the other open.
func (s *Stream) CloseWrite() error {
	half, ok := s.Conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("close one direction: %w", errors.ErrUnsupported)
	}
	return half.CloseWrite()
}

// Dial opens a stream to the node's Listener(name): a TCP connection of its
// own. Errors are ErrUnreachable and ErrNotSent; also ErrRefused when nobody
// listens for the name there.
func (l *Link) Dial(ctx context.Context, node, name string) (net.Conn, error) {
	if !validStreamName(name) {
		return nil, notSent(node, fmt.Errorf("stream name %q: %w", name, ErrConfig))
	}
	conn, _, err := l.dial(ctx, node, kindStream, name)
	if err != nil {
		return nil, err
	}
	s := &Stream{Conn: conn, node: node}
	s.free = func() { l.untrack(s) }
	if !l.track(s) {
		_ = s.Close()
		return nil, notSent(node, ErrClosed)
	}
	return s, nil
}

// Listener accepts the streams that other nodes open for name. Called again it
// returns the same one, or a new one after that was closed.
func (l *Link) Listener(name string) net.Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.streams[name]; s != nil {
		return s
	}
	s := &streamListener{
		link: l, name: name,
		queue: make(chan *Stream, acceptQueueMax), closed: make(chan struct{}),
	}
	if l.closed {
		s.once.Do(func() { close(s.closed) })
		return s
	}
	l.streams[name] = s
	return s
}

func (l *Link) stream(name string) *streamListener {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.streams[name]
}

type streamListener struct {
	link   *Link
	name   string
	queue  chan *Stream
	closed chan struct{}
	once   sync.Once
}

var _ net.Listener = (*streamListener)(nil)

// Accept implements net.Listener.
func (s *streamListener) Accept() (net.Conn, error) {
	select {
	case <-s.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-s.queue:
		return conn, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Streams that were accepted stay open.
func (s *streamListener) Close() error {
	s.once.Do(func() { close(s.closed) })
	s.link.mu.Lock()
	if s.link.streams[s.name] == s {
		delete(s.link.streams, s.name)
	}
	s.link.mu.Unlock()
	for {
		select {
		case conn := <-s.queue:
			_ = conn.Close() // nobody took it
		default:
			return nil
		}
	}
}

// Addr implements net.Listener.
func (s *streamListener) Addr() net.Addr { return s.link.listener.Addr() }

// serveStream hands the connection to its listener and waits until whoever
// accepted it closes it, so that it counts among the connections.
func (l *Link) serveStream(conn net.Conn, p preamble) {
	ln := l.stream(p.name)
	if ln == nil {
		return // closed since we admitted it
	}
	done := make(chan struct{})
	s := &Stream{Conn: conn, node: p.from, free: func() { close(done) }}
	timer := time.NewTimer(acceptWait)
	defer timer.Stop()
	select {
	case ln.queue <- s:
	case <-ln.closed:
		return
	case <-timer.C:
		l.log.Warn("stream not accepted in time", "peer", p.from, "stream", p.name)
		return
	}
	select {
	case <-ln.closed: // perhaps it fell between Close's drain and our send
		_ = ln.Close()
	default:
	}
	select {
	case <-done:
	case <-l.closing:
	}
}
