package outlet

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrNoRoom is returned when the peer takes no more now.
	ErrNoRoom = errors.New("peer takes no more now")
	// ErrNothing is returned when the peer has sent nothing.
	ErrNothing = errors.New("peer sent nothing")
)

// What the kernel keeps of a sound that is there already for one listener. It
// doubles both. Left to itself it takes 4 MiB for one who reads fast and then stops.
const (
	// NarrowBytes is its buffer for somebody new. Most of them play in real time,
	// and to fill it is most of the work of an arrival: it is good for 12 s at 64 kbit/s, and
	// 18 with what the kernel takes beyond it to make a packet whole.
	NarrowBytes = 48 << 10
	// fastBytesMin must have arrived there before it is said that somebody reads
	// fast: his kernel alone takes up to the 128 KiB that Linux has room for at first.
	fastBytesMin = 136 << 10
	// wideBytes is its buffer for who reads fast, and for who waits: a third of it
	// at a time. Less would be felt at 100 Mbit/s and 20 ms from here.
	wideBytes = 128 << 10
)

// Outlet is a connection to write to. One goroutine at a time may use it.
type Outlet struct {
	conn *net.TCPConn
	raw  syscall.RawConn
	fd   int32
	size int // of the kernel's buffer; 0: its own choice

	// The arguments and results of the two functions, which are bound once: a
	// closure for each call would be garbage for each call.
	write, read func(fd uintptr) bool
	p           []byte
	n           int
	err         error
}

// New makes an Outlet of a connection without deadlines.
func New(conn *net.TCPConn) (*Outlet, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("socket of a peer: %w", err)
	}
	o := &Outlet{conn: conn, raw: raw}
	if err := raw.Control(func(fd uintptr) { o.fd = int32(fd) }); err != nil {
		return nil, fmt.Errorf("socket of a peer: %w", err)
	}
	o.write, o.read = o.tryWrite, o.tryRead
	return o, nil
}

func (o *Outlet) tryWrite(fd uintptr) bool {
	for o.n < len(o.p) {
		n, err := syscall.Write(int(fd), o.p[o.n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if o.err = err; err != nil {
			break
		}
		o.n += n
	}
	return true // never wait here
}

func (o *Outlet) tryRead(fd uintptr) bool {
	o.n, o.err = syscall.Read(int(fd), o.p)
	return true
}

// hasRoom says that there is room, or an error that a write will find.
func hasRoom(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(poll, 0)
	return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
}

// Write sends what the kernel takes, and returns ErrNoRoom if that is not all.
func (o *Outlet) Write(p []byte) (int, error) {
	o.p, o.n, o.err = p, 0, nil
	err := o.raw.Write(o.write)
	o.p = nil
	switch {
	case err != nil:
		return o.n, err //nolint:wrapcheck // as a connection says it
	case errors.Is(o.err, unix.EAGAIN):
		return o.n, ErrNoRoom
	}
	return o.n, o.err
}

// Read takes what the peer has sent, or returns ErrNothing.
func (o *Outlet) Read(p []byte) (int, error) {
	o.p, o.n, o.err = p, 0, nil
	err := o.raw.Read(o.read)
	o.p = nil
	switch {
	case err != nil:
		return 0, err //nolint:wrapcheck // as a connection says it
	case errors.Is(o.err, unix.EAGAIN), errors.Is(o.err, unix.EINTR):
		return 0, ErrNothing
	case o.err != nil:
		return 0, o.err
	case o.n == 0:
		return 0, io.EOF
	}
	return o.n, nil
}

// Await says whether there is room again before the time is over. It takes the
// connection's write deadline away.
func (o *Outlet) Await(d time.Duration) (bool, error) {
	if err := o.conn.SetWriteDeadline(time.Now().Add(d)); err != nil {
		return false, err //nolint:wrapcheck // as a connection says it
	}
	err := o.raw.Write(hasRoom)
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if err != nil && !late {
		return false, err //nolint:wrapcheck // as above
	}
	// Of the next attempt, which does not wait, it would be one, too.
	return !late, o.conn.SetWriteDeadline(time.Time{})
}

// Queued is how many bytes the kernel still holds for the peer.
func (o *Outlet) Queued() int {
	queued := 0
	_ = o.raw.Control(func(fd uintptr) {
		queued, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
	})
	return queued
}

// Narrow keeps the kernel's buffer small, unless it was set already.
func (o *Outlet) Narrow() {
	if o.size == 0 {
		o.resize(NarrowBytes)
	}
}

// Fast says that a peer who has room again took more of the bytes that were sent
// than his kernel takes for him.
func (o *Outlet) Fast(sent int64) bool { return sent-int64(o.Queued()) >= fastBytesMin }

// Widen makes the kernel's buffer as large as it may be.
func (o *Outlet) Widen() {
	if !o.Wide() {
		o.resize(wideBytes)
	}
}

// Wide says that it is.
func (o *Outlet) Wide() bool { return o.size == wideBytes }

func (o *Outlet) resize(bytes int) {
	o.size = bytes
	_ = o.conn.SetWriteBuffer(bytes) // a smaller or larger one does as well
}

// FD is the connection's file descriptor, to poll many at once. It is good until
// the connection is closed.
func (o *Outlet) FD() int32 { return o.fd }
