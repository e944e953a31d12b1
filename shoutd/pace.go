package shoutd

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A source at the speed of sound brings its bytes in ten or more packets a
// second, and to be woken for each costs more than all else that is done with
// them. So once it shows to be slow its socket is looked at a few times a
// second instead, and the kernel is told to keep quiet in between.
const (
	// paceTick is the time between two looks. It is part of the second within
	// which a byte must be durable; the flush tick is 400 ms (blobstore.FlushInterval).
	paceTick = 200 * time.Millisecond
	// paceBytesMax a tick is what a slow source brings: 320 kbit/s. One that
	// brings more is an upload, and read as fast as it comes.
	paceBytesMax = 8 << 10
	// paceParts of the silence limit are the least looks within it.
	paceParts = 8
	// paceWakeBytes is how much may gather before the kernel says so; it only
	// has to be more than comes in a tick.
	paceWakeBytes = 2 * paceBytesMax
)

// pacer reads a source's socket without waiting in the poller.
type pacer struct {
	conn    *net.TCPConn
	raw     syscall.RawConn
	stopped <-chan struct{} // ends a wait early
	tick    time.Duration
	silence time.Duration

	timer   *time.Timer
	last    time.Time // of a byte
	round   int       // bytes since the last look that found nothing more
	drained bool      // the last read left nothing behind
	quiet   bool      // the kernel does not wake us

	// The arguments and results of attempt, which is bound once: a closure for
	// each read would be garbage for each read.
	attempt func(fd uintptr) bool
	p       []byte
	n       int
	err     error
}

func newPacer(conn *net.TCPConn, silence time.Duration, stopped <-chan struct{}) (*pacer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	p := &pacer{
		conn: conn, raw: raw, stopped: stopped, silence: silence, last: time.Now(),
		tick:  min(paceTick, silence/paceParts),
		round: paceBytesMax, // begin by waiting: nothing is known of its speed
	}
	p.attempt = func(fd uintptr) bool {
		for {
			p.n, p.err = unix.Read(int(fd), p.p)
			if !errors.Is(p.err, unix.EINTR) {
				return true // never wait here
			}
		}
	}
	return p, nil
}

// read is like conn.Read with the silence as its deadline.
func (p *pacer) read(buf []byte) (int, error) {
	for {
		if !p.drained {
			n, err := p.try(buf)
			if !errors.Is(err, unix.EAGAIN) {
				return n, err
			}
		}
		if p.round >= paceBytesMax {
			return p.wait(buf)
		}
		if err := p.pause(); err != nil {
			return 0, err
		}
	}
}

// try reads what is there.
func (p *pacer) try(buf []byte) (int, error) {
	p.p = buf
	if err := p.raw.Read(p.attempt); err != nil {
		return 0, err
	}
	switch {
	case p.err != nil:
		return 0, p.err
	case p.n == 0:
		return 0, io.EOF
	}
	p.got(p.n, len(buf))
	return p.n, nil
}

func (p *pacer) got(n, room int) {
	p.last = time.Now()
	p.round += n
	p.drained = n < room
}

// pause sleeps until the next look.
func (p *pacer) pause() error {
	p.wake(paceWakeBytes)
	p.round, p.drained = 0, false
	if time.Since(p.last) >= p.silence {
		return os.ErrDeadlineExceeded
	}
	if p.timer == nil {
		p.timer = time.NewTimer(p.tick)
	} else {
		p.timer.Reset(p.tick)
	}
	select {
	case <-p.timer.C:
	case <-p.stopped:
		p.timer.Stop()
	}
	return nil
}

// wait reads in the poller.
func (p *pacer) wait(buf []byte) (int, error) {
	p.wake(1)
	p.round = 0
	if err := p.conn.SetReadDeadline(p.last.Add(p.silence)); err != nil {
		return 0, err
	}
	n, err := p.conn.Read(buf)
	_ = p.conn.SetReadDeadline(time.Time{}) // try would fail once it has passed
	if n > 0 {
		p.got(n, len(buf))
	}
	return n, err
}

// wake sets how many bytes make the kernel wake the poller. It is a matter of
// speed alone, so its failure is none.
func (p *pacer) wake(bytes int) {
	quiet := bytes > 1
	if quiet == p.quiet {
		return
	}
	p.quiet = quiet
	_ = p.raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, bytes)
	})
}

func (p *pacer) close() {
	p.wake(1) // what the client says after its refusal is read in the poller
	if p.timer != nil {
		p.timer.Stop()
	}
}
