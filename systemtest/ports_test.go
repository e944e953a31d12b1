package systemtest

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// portMin and portMax lie below Linux's range for outgoing connections
	// (32768 and up): a node that was killed finds its port free again, however
	// many clients are connected meanwhile.
	portMin, portMax = 20000, 32000
	// portTriesMax bounds the search.
	portTriesMax = 200
)

// portLocks is a file whose n-th byte is locked by the test that has port n.
const portLocks = "carillon-systemtest-ports"

// freePorts finds n ports of 127.0.0.1 that are free for TCP and UDP. Until the
// test ends no other test gets them, of this run or of another beside it, as
// long as all get theirs here.
func freePorts(tb testing.TB, n int) []int {
	tb.Helper()
	var ports []int
	for range portTriesMax {
		if len(ports) == n {
			return ports
		}
		port := portMin + rand.IntN(portMax-portMin)
		if reserve(tb, port) && isFree(tb.Context(), port) {
			ports = append(ports, port)
		}
	}
	tb.Fatalf("%d of %d free ports found", len(ports), n)
	return nil
}

// reserve locks a port until the test ends, unless it is locked.
func reserve(tb testing.TB, port int) bool {
	tb.Helper()
	path := filepath.Join(os.TempDir(), portLocks) //nolint:usetesting // all runs share it
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	// A lock of an open file: those of a process are the same for all its tests.
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: int64(port), Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		_ = f.Close()
		return false
	}
	tb.Cleanup(func() { _ = f.Close() })
	return true
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
