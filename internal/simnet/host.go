package simnet

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"
)

// Host is one machine of the network from its start to its Kill.
type Host struct {
	net  *Net
	name string

	// What follows is guarded by net.mu.
	dead      bool
	ip        net.IP
	port      int // last one given
	listeners map[int]*listener
	gossips   map[int]*transport
	conns     map[*conn]struct{}
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// IP returns the host's address.
func (h *Host) IP() string {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.ip.String()
}

// Listen accepts streams. Only the port of addr counts; 0 picks one.
func (h *Host) Listen(addr string) (net.Listener, error) {
	_, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen on host %s: %w", h.name, err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("listen on host %s: %w", h.name, err)
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.listen(int(port))
}

// listen is Listen with the lock held.
func (h *Host) listen(port int) (*listener, error) {
	if h.dead {
		return nil, fmt.Errorf("listen on killed host %s: %w", h.name, net.ErrClosed)
	}
	if port == 0 {
		h.port++
		port = h.port
	}
	if h.listeners[port] != nil {
		return nil, fmt.Errorf("listen on host %s port %d: %w", h.name, port, syscall.EADDRINUSE)
	}
	l := &listener{
		host: h, addr: &net.TCPAddr{IP: h.ip, Port: port},
		queue: make(chan *conn, backlogMax), closed: make(chan struct{}),
	}
	h.listeners[port] = l
	h.net.wake()
	return l, nil
}

// Dial opens a stream. It waits while the way is cut or the address belongs to
// nobody; a host where nobody listens refuses.
func (h *Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	for {
		h.net.mu.Lock()
		to, port, err := h.net.lookup(addr)
		if h.dead {
			err = net.ErrClosed
		}
		if err != nil {
			h.net.mu.Unlock()
			return nil, fmt.Errorf("dial %s from host %s: %w", addr, h.name, err)
		}
		changed := h.net.changed
		if to == nil || h.net.link(h.name, to.name).cut || h.net.link(to.name, h.name).cut {
			h.net.mu.Unlock()
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil, fmt.Errorf("dial %s from host %s: %w", addr, h.name, ctx.Err())
			}
		}
		l := to.listeners[port]
		if l == nil {
			h.net.mu.Unlock()
			return nil, fmt.Errorf("dial %s from host %s: %w", addr, h.name, syscall.ECONNREFUSED)
		}
		near, far := h.connect(to, port)
		back := time.Until(h.net.arrival(h.net.link(to.name, h.name)))
		there := time.Until(h.net.arrival(h.net.link(h.name, to.name)))
		h.net.mu.Unlock()
		if err := l.deliver(ctx, far, there+back); err != nil {
			near.reset()
			far.reset()
			return nil, fmt.Errorf("dial %s from host %s: %w", addr, h.name, err)
		}
		return near, nil
	}
}

// connect makes the two ends of a stream. The caller holds the lock.
func (h *Host) connect(to *Host, port int) (near, far *conn) {
	h.port++
	out, in := newPipe(h, to), newPipe(to, h)
	local := &net.TCPAddr{IP: h.ip, Port: h.port}
	remote := &net.TCPAddr{IP: to.ip, Port: port}
	near = newConn(h, out, in, local, remote)
	far = newConn(to, in, out, remote, local)
	h.conns[near], to.conns[far] = struct{}{}, struct{}{}
	return near, far
}

// Kill ends everything on the host at once, as kill -9 does: nobody says
// goodbye, and the other ends of streams are reset as soon as they can be
// reached. To switch the machine off, Isolate it first. This Host is dead for
// ever, whatever still holds it; Net.Host gives its successor.
func (h *Host) Kill() {
	h.net.mu.Lock()
	h.dead = true
	listeners, gossips := h.listeners, h.gossips
	h.listeners, h.gossips = nil, nil
	for c := range h.conns {
		c.resetLocked()
	}
	h.net.wake()
	h.net.mu.Unlock()
	for _, l := range listeners {
		l.stop()
	}
	for _, t := range gossips {
		t.stop()
	}
}

// Renumber kills the host and gives its successor another address.
func (h *Host) Renumber() {
	h.Kill()
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.hosts[h.name] == h {
		delete(h.net.routes, h.ip.String())
		h.ip = h.net.number()
	}
}

// listener implements net.Listener.
type listener struct {
	host   *Host
	addr   *net.TCPAddr
	queue  chan *conn
	closed chan struct{}
	done   bool // guarded by host.net.mu
}

// deliver puts the far end into the queue after the way there and back.
func (l *listener) deliver(ctx context.Context, far *conn, way time.Duration) error {
	if way > 0 {
		timer := time.NewTimer(way)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case <-l.closed:
		return syscall.ECONNREFUSED
	default:
	}
	select {
	case l.queue <- far:
		return nil
	case <-l.closed:
		return syscall.ECONNREFUSED
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Who was not accepted is reset.
func (l *listener) Close() error {
	l.host.net.mu.Lock()
	if l.host.listeners[l.addr.Port] == l {
		delete(l.host.listeners, l.addr.Port)
	}
	l.host.net.mu.Unlock()
	l.stop()
	return nil
}

func (l *listener) stop() {
	l.host.net.mu.Lock()
	first := !l.done
	l.done = true
	l.host.net.mu.Unlock()
	if first {
		close(l.closed)
	}
	for {
		select {
		case c := <-l.queue:
			c.reset()
		default:
			return
		}
	}
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }
