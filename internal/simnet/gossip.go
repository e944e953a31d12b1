package simnet

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Gossip returns a transport for memberlist on the given port, packets and
// streams; port 0 picks one. Its Shutdown frees the port.
func (h *Host) Gossip(port int) (memberlist.Transport, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	l, err := h.listen(port)
	if err != nil {
		return nil, err
	}
	t := &transport{
		host: h, listener: l, ip: h.ip, port: l.addr.Port,
		packets: make(chan *memberlist.Packet, packetsMax),
		streams: make(chan net.Conn),
		closed:  make(chan struct{}),
	}
	h.gossips[t.port] = t
	t.wg.Go(t.accept)
	return t, nil
}

// transport implements memberlist.Transport.
type transport struct {
	host     *Host
	listener *listener
	ip       net.IP
	port     int
	packets  chan *memberlist.Packet
	streams  chan net.Conn
	closed   chan struct{}
	once     sync.Once
	wg       sync.WaitGroup
}

var _ memberlist.Transport = (*transport)(nil)

func (t *transport) accept() {
	for {
		c, err := t.listener.Accept()
		if err != nil {
			return
		}
		select {
		case t.streams <- c:
		case <-t.closed:
			_ = c.Close() // nobody takes it any more
		}
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if ip == "" {
		return t.ip.To4(), t.port, nil
	}
	parsed := net.ParseIP(ip)
	if parsed == nil {
		return nil, 0, &net.AddrError{Err: "advertised address", Addr: ip}
	}
	return parsed, port, nil
}

// WriteTo implements memberlist.Transport. It never waits: what cannot be
// delivered is lost.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	n := t.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-t.closed:
		return time.Time{}, net.ErrClosed
	default:
	}
	to, port, err := n.lookup(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send a packet: %w", err)
	}
	now := time.Now()
	if to == nil {
		return now, nil
	}
	l := n.link(t.host.name, to.name)
	if l.cut || (l.drop > 0 && n.rand.Float64() < l.drop) {
		return now, nil
	}
	p := &memberlist.Packet{
		Buf: append([]byte(nil), b...), From: &net.UDPAddr{IP: t.ip, Port: t.port}, Timestamp: now,
	}
	if wait := n.arrival(l).Sub(now); wait > 0 {
		time.AfterFunc(wait, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			p.Timestamp = time.Now()
			to.receive(port, p)
		})
		return now, nil
	}
	to.receive(port, p)
	return now, nil
}

// receive gives a packet to whoever has the port now. The caller holds the
// lock.
func (h *Host) receive(port int, p *memberlist.Packet) {
	if t := h.gossips[port]; t != nil {
		select {
		case t.packets <- p:
		default: // its reader is too slow: lost, as in life
		}
	}
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return t.host.Dial(ctx, addr)
}

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	t.host.net.mu.Lock()
	if t.host.gossips[t.port] == t {
		delete(t.host.gossips, t.port)
	}
	t.host.net.mu.Unlock()
	t.stop()
	t.wg.Wait()
	return t.listener.Close()
}

// stop ends it without a goodbye.
func (t *transport) stop() {
	t.once.Do(func() { close(t.closed) })
	_ = t.listener.Close() // cannot fail
}
