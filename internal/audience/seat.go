package audience

import (
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errEnd is the end of the sound, in order.
var errEnd = errors.New("end of sound")

// scratch is what a turn is composed in; one serves many listeners.
type scratch struct {
	out  []byte
	read [512]byte
}

func newScratch() *scratch { return &scratch{out: make([]byte, 0, scratchBytes)} }

// seat is a listener between two turns.
type seat struct {
	Listener

	raw     syscall.RawConn
	period  time.Duration
	written int64
	// pending is what was composed and not taken, of framed listeners only.
	pending  []byte
	metaLeft int    // sound until the next metadata block
	title    string // that was sent
	titled   bool
	turns    int
	stuck    int // turns in which nothing was taken although there was something
	chatter  int
	last     bool // the end was composed

	// The arguments and results of the two below, which are bound once: a
	// closure for each turn would be garbage for each turn.
	write, look func(fd uintptr) bool
	p           []byte
	n           int
	err         error
}

func newSeat(l Listener, period time.Duration) (*seat, error) {
	raw, err := l.Conn.SyscallConn()
	if err == nil {
		err = l.Conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = l.Conn.Close()
		return nil, fmt.Errorf("listener's socket: %w", err)
	}
	s := &seat{Listener: l, raw: raw, period: period, written: l.sent, metaLeft: l.MetaLeft}
	if s.metaLeft == 0 {
		s.metaLeft = ICYInterval
	}
	s.write = func(fd uintptr) bool {
		for s.n = 0; s.n < len(s.p); {
			n, err := unix.Write(int(fd), s.p[s.n:])
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if s.err = err; err != nil {
				break
			}
			s.n += n
		}
		return true // never wait here
	}
	s.look = func(fd uintptr) bool {
		s.n, s.err = unix.Read(int(fd), s.p)
		return true
	}
	return s, nil
}

// turn sends what there is, as far as the kernel takes it. An error ends the
// listener.
func (s *seat) turn(x *scratch) error {
	s.turns++
	if s.turns%lookEvery == 0 {
		if err := s.listen(x); err != nil {
			return err
		}
	}
	before := s.written
	err := s.send(x)
	if err != nil {
		return err
	}
	_, to, ended := s.Sound.Span()
	left := to - s.Offset + int64(len(s.pending))
	if left <= 0 && (!s.Chunked || s.last) && ended {
		return errEnd
	}
	if s.written > before || left <= 0 {
		s.stuck = 0
	} else {
		s.stuck++
	}
	if time.Duration(float64(left)/float64(max(s.ByteRate, 1))*float64(time.Second)) > s.BehindMax ||
		ended && time.Duration(s.stuck)*s.period > s.BehindMax {
		return ErrBehind
	}
	return nil
}

// send writes what is pending, then what is new, until the kernel is full.
func (s *seat) send(x *scratch) error {
	if len(s.pending) > 0 {
		n, err := s.put(s.pending)
		s.pending = s.pending[n:]
		if err != nil || len(s.pending) > 0 {
			return err
		}
		s.pending = nil
	}
	from, to, ended := s.Sound.Span()
	if s.Offset < from {
		return ErrBehind
	}
	if s.HoldBytes > 0 {
		if to-s.Offset < s.HoldBytes && !ended && time.Now().Before(s.HoldUntil) {
			return nil
		}
		s.HoldBytes = 0
	}
	if !s.Metadata && !s.Chunked {
		p := x.out[:min(to-s.Offset, turnBytesMax)]
		n, err := s.put(p[:s.Sound.ReadAt(p, s.Offset)])
		s.Offset += int64(n)
		return err
	}
	p := s.compose(x.out[:0], to, ended)
	n, err := s.put(p)
	if err == nil && n < len(p) {
		s.pending = append(s.pending, p[n:]...)
	}
	return err
}

// compose frames the next turn.
func (s *seat) compose(p []byte, to int64, ended bool) []byte {
	const chunkHead = 8 // "1f40\r\n" at the most, filled up to it
	body := 0
	if s.Chunked {
		body = chunkHead
		p = append(p, make([]byte, chunkHead)...)
	}
	for budget := int64(turnBytesMax); s.Offset < to && budget > 0; {
		n := min(to-s.Offset, budget)
		if s.Metadata {
			n = min(n, int64(s.metaLeft))
		}
		at := len(p)
		p = p[:at+int(n)]
		n = int64(s.Sound.ReadAt(p[at:], s.Offset))
		p = p[:at+int(n)]
		if n == 0 {
			break // overtaken by the ring; the next turn says so
		}
		s.Offset += n
		budget -= n
		if s.Metadata {
			if s.metaLeft -= int(n); s.metaLeft == 0 {
				p = append(p, s.metadata()...)
				s.metaLeft = ICYInterval
			}
		}
	}
	if !s.Chunked {
		return p
	}
	if len(p) == body {
		p = p[:0]
	} else {
		head := strconv.AppendInt(make([]byte, 0, chunkHead), int64(len(p)-body), 16)
		head = append(head, "\r\n"...)
		copy(p[chunkHead-len(head):], head)
		p = p[chunkHead-len(head):]
		p = append(p, "\r\n"...)
	}
	if ended && s.Offset >= to && !s.last {
		s.last = true
		p = append(p, "0\r\n\r\n"...)
	}
	return p
}

// metadata is the block that is due: the title, or that it has not changed.
func (s *seat) metadata() []byte {
	title := s.Sound.Title()
	if s.titled && title == s.title {
		return []byte{0}
	}
	s.title, s.titled = title, true
	return ICYBlock(title)
}

// put writes what the kernel takes; to be full is no error.
func (s *seat) put(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.p, s.n, s.err = p, 0, nil
	err := s.raw.Write(s.write)
	s.p = nil
	s.written += int64(s.n)
	switch {
	case err != nil:
		return s.n, fmt.Errorf("%w: %w", ErrLeft, err)
	case s.err != nil && !errors.Is(s.err, unix.EAGAIN):
		return s.n, fmt.Errorf("%w: %w", ErrLeft, s.err)
	}
	return s.n, nil
}

// listen looks whether the listener hung up.
func (s *seat) listen(x *scratch) error {
	for s.chatter <= chatterBytesMax {
		s.p, s.n, s.err = x.read[:], 0, nil
		err := s.raw.Read(s.look)
		s.p = nil
		if err == nil && (errors.Is(s.err, unix.EAGAIN) || errors.Is(s.err, unix.EINTR)) {
			return nil
		}
		if err != nil || s.err != nil || s.n == 0 {
			return ErrLeft
		}
		s.chatter += s.n
	}
	return ErrLeft
}
