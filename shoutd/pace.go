package shoutd

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"carillon/blobstore"
)

// A source at the speed of sound brings its bytes in ten or more packets a
// second, and to be woken for each costs more than all else that is done with
// them. So once it shows to be slow its socket is looked at once for each flush
// of its recording, shortly before that, and the kernel is told to keep quiet in
// between. All sources are looked at together: the processor is woken once.
const (
	// paceTick is the time between two looks.
	paceTick = blobstore.FlushInterval
	// paceAhead is how long before a flush a look is: time enough to read a
	// thousand sockets, and no longer, because it is a part of the second within
	// which a byte must be durable.
	paceAhead = 50 * time.Millisecond
	// paceBytesMax a tick is what a slow source brings: 320 kbit/s. One that
	// brings more is an upload, and read as fast as it comes.
	paceBytesMax = 16 << 10
	// paceParts of the silence limit are the least looks within it.
	paceParts = 8
	// paceWakeBytes is how much may gather before the kernel says so; it only
	// has to be more than comes in a tick. The end of the stream it says at once.
	paceWakeBytes = 2 * paceBytesMax
)

// pacer reads a source's socket and is seldom woken for it.
type pacer struct {
	conn    *net.TCPConn
	raw     syscall.RawConn
	tick    time.Duration
	silence time.Duration

	last    time.Time // of a byte
	round   int       // bytes since the last look that found nothing more
	drained bool      // the last read left nothing behind
	quiet   bool      // the kernel does not wake us

	// The arguments and results of attempt and awake, which are bound once: a
	// closure for each read would be garbage for each read.
	attempt func(fd uintptr)
	awake   func(fd uintptr) bool
	asked   bool
	p       []byte
	n       int
	err     error
}

func newPacer(conn *net.TCPConn, silence time.Duration) (*pacer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &pacer{
		conn: conn, raw: raw, silence: silence, last: time.Now(),
		tick:  min(paceTick, silence/paceParts),
		round: paceBytesMax, // begin by waiting: nothing is known of its speed
	}
	p.attempt = func(fd uintptr) {
		for {
			p.n, p.err = unix.Read(int(fd), p.p)
			if !errors.Is(p.err, unix.EINTR) {
				return // never wait here
			}
		}
	}
	p.awake = func(uintptr) bool {
		woken := p.asked
		p.asked = true
		return woken
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
	err := p.raw.Control(p.attempt) // unlike raw.Read, whatever the deadline
	p.p = nil
	switch {
	case err != nil:
		return 0, err
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

// pause returns at the next look, or when the stream ends before.
func (p *pacer) pause() error {
	p.wake(paceWakeBytes)
	p.round, p.drained, p.asked = 0, false, false
	now := time.Now()
	if now.Sub(p.last) >= p.silence {
		return os.ErrDeadlineExceeded
	}
	if err := p.conn.SetReadDeadline(p.next(now)); err != nil {
		return err
	}
	err := p.raw.Read(p.awake)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// next is the time of the next look.
func (p *pacer) next(now time.Time) time.Time {
	if p.tick < paceTick {
		return now.Add(p.tick)
	}
	look := now.Add(paceAhead).Truncate(paceTick).Add(paceTick - paceAhead)
	return now.Add(look.Sub(now)) // by the clock that no one sets
}

// wait reads in the poller.
func (p *pacer) wait(buf []byte) (int, error) {
	p.wake(1)
	p.round = 0
	if err := p.conn.SetReadDeadline(p.last.Add(p.silence)); err != nil {
		return 0, err
	}
	n, err := p.conn.Read(buf)
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
	_ = p.conn.SetReadDeadline(time.Time{})
}
