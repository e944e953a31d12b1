package audience

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errNoRoom is returned by an outlet when the listener takes no more now.
var errNoRoom = errors.New("send buffer is full")

// outlet writes to a listener without ever waiting in Write: it returns
// errNoRoom instead, so that whoever calls gives its buffer back before it
// waits.
type outlet struct {
	conn    *net.TCPConn
	raw     syscall.RawConn
	fd      int32
	stopped context.Context //nolint:containedctx // the Audience's own; an io.Writer has no place for it
	written int64
	took    bool // something was taken since this was set to false

	attempt, ready func(fd uintptr) bool // bound once, as in seat
	p              []byte
	n              int
	err            error
}

func newOutlet(stopped context.Context, conn *net.TCPConn) (*outlet, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &outlet{conn: conn, raw: raw, stopped: stopped}
	if err := raw.Control(func(fd uintptr) { w.fd = int32(fd) }); err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	w.attempt = func(fd uintptr) bool {
		for w.n < len(w.p) {
			n, err := unix.Write(int(fd), w.p[w.n:])
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if w.err = err; err != nil {
				break
			}
			w.n += n
		}
		return true // never wait here
	}
	w.ready = func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(poll, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	}
	return w, nil
}

// Write sends what the kernel takes.
func (w *outlet) Write(p []byte) (int, error) {
	if w.stopped.Err() != nil {
		return 0, ErrClosed
	}
	w.p, w.n, w.err = p, 0, nil
	err := w.raw.Write(w.attempt)
	w.p = nil
	w.written += int64(w.n)
	w.took = w.took || w.n > 0
	switch {
	case err != nil:
		return w.n, err
	case errors.Is(w.err, unix.EAGAIN):
		return w.n, errNoRoom
	}
	return w.n, w.err
}

// await says whether there is room again before the time is over.
func (w *outlet) await(d time.Duration) (bool, error) {
	if err := w.conn.SetWriteDeadline(time.Now().Add(d)); err != nil {
		return false, err
	}
	err := w.raw.Write(w.ready)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// Of the next attempt, which does not wait, it would be one, too.
		return false, w.conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		return false, err
	}
	return true, w.conn.SetWriteDeadline(time.Time{})
}

// queue is how many bytes the kernel still holds for the listener.
func (w *outlet) queue() int {
	queued := 0
	_ = w.raw.Control(func(fd uintptr) {
		queued, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
	})
	return queued
}
