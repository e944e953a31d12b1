package shoutd

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// Limits of a chunked body.
const (
	// chunkDigitsMax: 15 hexadecimal digits fit an int64.
	chunkDigitsMax = 15
	// trailerLinesMax after the last chunk; nobody we know sends any.
	trailerLinesMax = 32
)

// errFraming is returned when a chunked body is malformed.
var errFraming = errors.New("bad chunk framing")

// framing says how the end of a body is found.
type framing int

const (
	untilFIN framing = iota // SOURCE, and libshout's PUT
	byLength
	byChunks
)

// framingOf chooses the framing of a source's body. Content-Length: 0 on a
// SOURCE is noise: it is a probe that happens to carry credentials, and
// Icecast does not look at it either.
func framingOf(r *request) framing {
	switch {
	case r.chunked:
		return byChunks
	case r.length > 0, r.length == 0 && r.method != methodSource:
		return byLength
	}
	return untilFIN
}

// body gives out the payload of a source piece by piece.
type body struct {
	in      *input
	framing framing
	left    int64 // of the length or of the present chunk
	begun   bool  // a chunk was read, its CRLF is due
	done    bool
}

func newBody(in *input, r *request) *body {
	b := &body{in: in, framing: framingOf(r)}
	if b.framing == byLength {
		b.left = r.length
	}
	return b
}

// next returns at least one byte, valid until the next call, or io.EOF when
// the body ended as its framing says; any other error means that it was cut.
func (b *body) next() ([]byte, error) {
	switch b.framing {
	case byLength:
		if b.left == 0 {
			return nil, io.EOF
		}
		return b.piece()
	case byChunks:
		if err := b.chunk(); err != nil {
			return nil, err
		}
		return b.piece()
	case untilFIN:
	}
	return b.in.take(math.MaxInt64)
}

// piece takes what is there of b.left; an end of input within it is a cut.
func (b *body) piece() ([]byte, error) {
	p, err := b.in.take(b.left)
	b.left -= int64(len(p))
	return p, unexpected(err)
}

// chunk goes to the next payload byte, over chunk borders. It returns io.EOF
// after the last chunk and its trailer.
func (b *body) chunk() error {
	if b.done {
		return io.EOF
	}
	if b.left > 0 {
		return nil
	}
	if b.begun {
		if line, err := b.in.line(); err != nil {
			return unexpected(err)
		} else if len(line) > 0 {
			return errFraming
		}
	}
	line, err := b.in.line()
	if err != nil {
		return unexpected(err)
	}
	b.left, err = chunkSize(line)
	if err != nil {
		return err
	}
	b.begun = true
	if b.left > 0 {
		return nil
	}
	b.done = true
	return b.trailer()
}

func (b *body) trailer() error {
	for range trailerLinesMax {
		line, err := b.in.line()
		if err != nil {
			return unexpected(err)
		}
		if len(line) == 0 {
			return io.EOF
		}
	}
	return errFraming
}

// chunkSize reads the size of a chunk and passes over its extensions.
func chunkSize(line []byte) (int64, error) {
	var n int64
	digits := 0
	for ; digits < len(line); digits++ {
		d, ok := hexDigit(line[digits])
		if !ok {
			break
		}
		if digits == chunkDigitsMax {
			return 0, fmt.Errorf("chunk size: %w", errFraming)
		}
		n = n<<4 | int64(d)
	}
	if digits == 0 {
		return 0, fmt.Errorf("chunk size: %w", errFraming)
	}
	if digits < len(line) {
		if c := line[digits]; c != ';' && c != ' ' && c != '\t' {
			return 0, fmt.Errorf("chunk size: %w", errFraming)
		}
	}
	return n, nil
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
