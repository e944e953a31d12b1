package client

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"carillon/library"
)

// sseLineBytesMax bounds a line of a stream: an event of feed.EventBytesMax
// in the public form, with room.
const sseLineBytesMax = 64 << 10

// sseEvent is one server-sent event; Kind "" moves the position only.
type sseEvent struct {
	id, kind string
	data     string
}

// sseReader reads server-sent events (HTML standard, 9.2.6), as far as our
// server uses them: one line of data an event.
type sseReader struct {
	lines *bufio.Scanner
	// alive is called for every line.
	alive func()
}

func newSSEReader(r io.Reader, alive func()) *sseReader {
	s := &sseReader{lines: bufio.NewScanner(r), alive: alive}
	s.lines.Buffer(make([]byte, 0, 4<<10), sseLineBytesMax)
	return s
}

// next returns the next event, or io.EOF. What the stream's end cut short is
// no event.
func (s *sseReader) next() (sseEvent, error) {
	var e sseEvent
	for s.lines.Scan() {
		s.alive()
		line := s.lines.Text()
		if line == "" {
			if e != (sseEvent{}) {
				return e, nil
			}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			e.data = value
		}
	}
	if err := s.lines.Err(); err != nil {
		return sseEvent{}, fmt.Errorf("event stream: %w: %w", library.ErrUnavailable, err)
	}
	return sseEvent{}, io.EOF
}
