package shoutd

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// inputBytes is the read buffer of one connection, and with it the longest
// line it accepts. A source of 320 kbit/s brings 4 KiB in 100 ms; the longest
// honest line is a mount of 320 bytes, percent-encoded.
const inputBytes = 4 << 10

var (
	// errLineTooLong is returned when a line does not fit the buffer.
	errLineTooLong = errors.New("line too long")
	// errBinary is returned when a request line holds control characters.
	errBinary = errors.New("not a request")
)

// source of bytes: a connection, or a string in tests.
type byteSource interface {
	io.Reader
	SetReadDeadline(t time.Time) error
}

// input is the buffered read side of a connection. Unlike a bufio.Reader it
// gives its bytes away without a copy.
type input struct {
	conn byteSource
	buf  []byte
	r, w int
	// pacer, unless nil, reads in place of conn.
	pacer *pacer
}

// deadline sets one fixed deadline for all reads to come.
func (in *input) deadline(t time.Time) {
	_ = in.conn.SetReadDeadline(t) // fails only on a closed connection, as the read will
}

// buffered is how many bytes wait in the buffer.
func (in *input) buffered() int { return in.w - in.r }

// fill reads once; after nil there is at least one more byte.
func (in *input) fill() error {
	switch {
	case in.r == in.w:
		in.r, in.w = 0, 0
	case in.w == len(in.buf):
		if in.r == 0 {
			return errLineTooLong
		}
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	for {
		n, err := in.read(in.buf[in.w:])
		in.w += n
		if n > 0 {
			return nil // the error, if any, comes again
		}
		if err != nil {
			return err
		}
	}
}

func (in *input) read(p []byte) (int, error) {
	if in.pacer != nil {
		return in.pacer.read(p)
	}
	return in.conn.Read(p)
}

// take returns between one and limit bytes, valid until the next call.
func (in *input) take(limit int64) ([]byte, error) {
	if in.r == in.w {
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
	n := int(min(int64(in.w-in.r), limit))
	p := in.buf[in.r : in.r+n]
	in.r += n
	return p, nil
}

// line returns the next line without its LF or CRLF, valid until the next
// call. An end of input within a line is io.ErrUnexpectedEOF.
func (in *input) line() ([]byte, error) {
	seen := 0
	for {
		if i := bytes.IndexByte(in.buf[in.r+seen:in.w], '\n'); i >= 0 {
			p := in.buf[in.r : in.r+seen+i]
			in.r += seen + i + 1
			return bytes.TrimSuffix(p, []byte{'\r'}), nil
		}
		seen = in.w - in.r
		if err := in.fill(); err != nil {
			if errors.Is(err, io.EOF) && seen > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// requestLine is line for the first line of a request: it skips the empty
// lines that some clients send after a body, and does not wait for the end of
// a line that no client of ours would begin, such as a TLS ClientHello.
func (in *input) requestLine() ([]byte, error) {
	for range emptyLinesMax {
		if in.r == in.w {
			if err := in.fill(); err != nil {
				return nil, err
			}
		}
		if c := in.buf[in.r]; c != '\r' && c != '\n' && !isLetter(c) {
			return nil, errBinary
		}
		p, err := in.plainLine()
		if err != nil || len(p) > 0 {
			return p, err
		}
	}
	return nil, errBinary
}

// plainLine is line that fails at once on a control character.
func (in *input) plainLine() ([]byte, error) {
	for seen := in.r; ; {
		for ; seen < in.w; seen++ {
			c := in.buf[seen]
			if c == '\n' {
				return in.line()
			}
			if c < ' ' && c != '\t' && c != '\r' || c == 0x7f {
				return nil, errBinary
			}
		}
		had := in.w - in.r
		if err := in.fill(); err != nil {
			if errors.Is(err, io.EOF) && had > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		seen = in.r + had
	}
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
