package audio

import (
	"bufio"
	"errors"
	"io"
	"time"
)

// cutBufferBytes holds some frames; the longest has FrameBytesMax.
const cutBufferBytes = 16 << 10

// NewMP3Cut returns the frames of the MP3 that r yields which sound between
// from and to (0: its end), as they are: nothing is decoded, so nothing is lost
// but what is less than a frame. One frame more is left at the begin, because
// the next may hold some of its bits in it. What is no frame is left out.
// Errors are those of r.
func NewMP3Cut(r io.Reader, from, to time.Duration) io.Reader {
	return &mp3Cut{r: bufio.NewReaderSize(r, cutBufferBytes), from: from, to: to}
}

type mp3Cut struct {
	r        *bufio.Reader
	from, to time.Duration
	at       time.Duration // of the next frame
	left     int           // of the frame that is being read
	done     bool
}

// Read implements io.Reader.
func (c *mp3Cut) Read(p []byte) (int, error) {
	for c.left == 0 {
		if c.done {
			return 0, io.EOF
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// next goes to the next whole frame that is wanted, or sets done.
func (c *mp3Cut) next() error {
	for {
		head, err := c.r.Peek(FrameHeaderBytes)
		if errors.Is(err, io.EOF) {
			c.done = true
			return nil
		}
		if err != nil {
			return err
		}
		h, ok := parseFrame(head)
		if !ok || h.Layer != 3 {
			_, _ = c.r.Discard(1) // it was peeked at
			continue
		}
		if _, err := c.r.Peek(h.FrameBytes); errors.Is(err, io.EOF) {
			c.done = true // it was cut off
			return nil
		} else if err != nil {
			return err
		}
		length := time.Duration(h.Samples) * time.Second / time.Duration(h.SampleRate)
		begin := c.at
		c.at += length
		switch {
		case c.to > 0 && begin >= c.to:
			c.done = true
			return nil
		case c.at+length <= c.from: // the next one ends before, too
			_, _ = c.r.Discard(h.FrameBytes)
		default:
			c.left = h.FrameBytes
			return nil
		}
	}
}
