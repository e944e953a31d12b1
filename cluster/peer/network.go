package peer

import (
	"context"
	"net"
	"time"
)

// Network is where a link listens and dials: real TCP, or a simulated network
// in tests.
type Network interface {
	Listen(addr string) (net.Listener, error)
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// TCP is the real network.
type TCP struct{}

var _ Network = TCP{}

// Kernel keep-alive, the second line behind the link's own pings: it also
// covers streams, which have none. A silent peer is gone after about 20 s.
const (
	keepAliveIdle     = 8 * time.Second
	keepAliveInterval = 4 * time.Second
	keepAliveCount    = 3
)

func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{
		Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
	}
}

// Listen listens on addr, a host:port.
func (TCP) Listen(addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive()}
	return lc.Listen(context.Background(), "tcp", addr)
}

// Dial connects to addr, a host:port.
func (TCP) Dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive()}
	return d.DialContext(ctx, "tcp", addr)
}
