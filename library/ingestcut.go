package library

import (
	"errors"
	"fmt"
	"io"
	"time"

	"carillon/audio"
)

// cutBlockBytes is how far a file may go beyond its limit: as a source does.
const cutBlockBytes = 4 << 10

// cutBody is a file that ends at a ticket's max_seconds. What comes after that
// is read and dropped, because the switch that sends it is to be answered. Where
// it is cut depends on the file alone, so that the same file again is the same
// recording.
type cutBody struct {
	body     io.Reader
	longest  time.Duration
	length   int64 // announced; -1: unknown
	limit    int64 // bytes of the whole file
	prober   audio.Prober
	block    [cutBlockBytes]byte
	held     []byte // of block, not given yet
	total    int64  // bytes that came
	err      error  // after held
	overlong bool   // it was cut
}

// Read implements io.Reader.
func (c *cutBody) Read(p []byte) (int, error) {
	if len(c.held) == 0 && c.err == nil {
		c.fill()
	}
	n := copy(p, c.held)
	c.held = c.held[n:]
	if len(c.held) > 0 {
		return n, nil
	}
	return n, c.err
}

// fill reads a whole block, or the end.
func (c *cutBody) fill() {
	n := 0
	for n < len(c.block) && c.err == nil {
		var m int
		m, c.err = c.body.Read(c.block[n:])
		n += m
	}
	c.held, c.total = c.block[:n], c.total+int64(n)
	_, _ = c.prober.Write(c.held) // never fails
	if info, err := c.prober.Result(); err == nil && info.Duration() >= c.longest && c.err == nil {
		c.overlong = true
		c.err = c.drop()
	}
	if errors.Is(c.err, io.EOF) && c.length >= 0 && c.total != c.length {
		c.err = fmt.Errorf("body of %d bytes, %d announced: %w", c.total, c.length, ErrIncomplete)
	}
}

// drop reads what is left; io.EOF when that is the end.
func (c *cutBody) drop() error {
	n, err := io.Copy(io.Discard, io.LimitReader(c.body, c.limit+1-c.total))
	c.total += n
	switch {
	case err != nil:
		return err //nolint:wrapcheck // intake says what it means
	case c.total > c.limit:
		return fmt.Errorf("body of more than %d bytes: %w", c.limit, ErrTooLarge)
	}
	return io.EOF
}

// within is the body of a file for a ticket, cut if the ticket says how long it
// may be (else the first is nil), and the length to expect of what it yields.
func (t *TicketLimits) within(body io.Reader, length, limit int64) (*cutBody, io.Reader, int64) {
	if t.MaxSeconds == 0 {
		return nil, body, length
	}
	c := &cutBody{
		body: body, longest: time.Duration(t.MaxSeconds) * time.Second, length: length, limit: limit,
	}
	return c, c, -1
}

// end is why the file ended where it does.
func (c *cutBody) end() EndedBy {
	if c != nil && c.overlong {
		return EndedByMaxSeconds
	}
	return EndedBySource
}
