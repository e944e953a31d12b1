package audience

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"carillon/internal/outlet"
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

	out     *outlet.Outlet
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
}

func newSeat(l Listener, period time.Duration) (*seat, error) {
	out, err := outlet.New(l.Conn)
	if err == nil {
		err = l.Conn.SetDeadline(time.Time{})
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("listener's socket: %w", err)
	}
	s := &seat{Listener: l, out: out, period: period, written: l.sent, metaLeft: l.MetaLeft}
	if s.metaLeft == 0 {
		s.metaLeft = ICYInterval
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
	n, err := s.out.Write(p)
	s.written += int64(n)
	if err != nil && !errors.Is(err, outlet.ErrNoRoom) {
		return n, fmt.Errorf("%w: %w", ErrLeft, err)
	}
	return n, nil
}

// listen looks whether the listener hung up.
func (s *seat) listen(x *scratch) error {
	for s.chatter <= chatterBytesMax {
		n, err := s.out.Read(x.read[:])
		switch {
		case errors.Is(err, outlet.ErrNothing):
			return nil
		case err != nil:
			return ErrLeft
		}
		s.chatter += n
	}
	return ErrLeft
}
