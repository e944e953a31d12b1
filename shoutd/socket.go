package shoutd

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// errFull is returned by a socketWriter when the listener takes no more now.
var errFull = errors.New("send buffer is full")

// socketWriter writes to a listener without ever waiting in Write: it returns
// errFull instead, so that whoever calls gives its buffer back before it
// waits. A listener that pauses for minutes costs no buffer that way.
type socketWriter struct {
	conn  *net.TCPConn
	raw   syscall.RawConn
	stall time.Duration
	sent  prometheus.Counter
	n     int64

	attempt, ready func(fd uintptr) bool // bound once, as in pacer
	p              []byte
	done           int
	err            error
	queued         int // bytes that the kernel still holds for the listener
}

func newSocketWriter(conn *net.TCPConn, stall time.Duration, sent prometheus.Counter) (*socketWriter, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := conn.SetWriteDeadline(time.Time{}); err != nil {
		return nil, err
	}
	w := &socketWriter{conn: conn, raw: raw, stall: stall, sent: sent}
	w.attempt = func(fd uintptr) bool {
		for w.done < len(w.p) {
			n, err := unix.Write(int(fd), w.p[w.done:])
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if w.err = err; err != nil {
				break
			}
			w.done += n
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
func (w *socketWriter) Write(p []byte) (int, error) {
	w.p, w.done, w.err = p, 0, nil
	err := w.raw.Write(w.attempt)
	w.p = nil
	w.n += int64(w.done)
	w.sent.Add(float64(w.done))
	switch {
	case err != nil:
		return w.done, err
	case errors.Is(w.err, unix.EAGAIN):
		return w.done, errFull
	}
	return w.done, w.err
}

// wait returns when there is room again, or an error when the listener took
// nothing at all for the stall time.
func (w *socketWriter) wait() error {
	defer func() { _ = w.conn.SetWriteDeadline(time.Time{}) }()
	for queued := w.queue(); ; {
		if err := w.conn.SetWriteDeadline(time.Now().Add(w.stall)); err != nil {
			return err
		}
		err := w.raw.Write(w.ready)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		// Room is announced late, when a third of the buffer is free. A slow
		// reader that took less is no stalled one.
		now := w.queue()
		if now >= queued {
			return err
		}
		queued = now
	}
}

func (w *socketWriter) queue() int {
	w.queued = 0
	_ = w.raw.Control(func(fd uintptr) {
		w.queued, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
	})
	return w.queued
}

// pour copies from the blob's offset to its end through out, whose last writer
// is w. While the listener is not ready nothing is held.
func (w *socketWriter) pour(out io.Writer, from Blob) error {
	at, err := from.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	for {
		n, err := from.WriteTo(out)
		if !errors.Is(err, errFull) {
			return err
		}
		at += n
		if _, err := from.Seek(at, io.SeekStart); err != nil {
			return err
		}
		if err := w.wait(); err != nil {
			return err
		}
	}
}

// finish sends what a writer above w has left.
func (w *socketWriter) finish(flush func() error) error {
	for {
		err := flush()
		if !errors.Is(err, errFull) {
			return err
		}
		if err := w.wait(); err != nil {
			return err
		}
	}
}
