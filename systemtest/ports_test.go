package systemtest

import (
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

const (
	// portMin and portMax lie below Linux's range for outgoing connections
	// (32768 and up): a node that was killed finds its port free again, however
	// many clients are connected meanwhile.
	portMin, portMax = 20000, 32000
	// portTriesMax bounds the search.
	portTriesMax = 200
)

// freePorts finds n ports of 127.0.0.1 that are free for TCP and UDP. They may
// be taken until they are used; that is seldom, and the start then fails.
func freePorts(tb testing.TB, n int) []int {
	tb.Helper()
	var ports []int
	taken := map[int]bool{}
	for range portTriesMax {
		if len(ports) == n {
			return ports
		}
		port := portMin + rand.IntN(portMax-portMin)
		if !taken[port] && isFree(tb.Context(), port) {
			ports = append(ports, port)
		}
		taken[port] = true
	}
	tb.Fatalf("%d of %d free ports found", len(ports), n)
	return nil
}

func isFree(ctx context.Context, port int) bool {
	var lc net.ListenConfig
	addr := loopback(port)
	tcp, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer func() { _ = tcp.Close() }()
	udp, err := lc.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return false
	}
	return udp.Close() == nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
