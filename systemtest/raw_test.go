package systemtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// The load generator shares two cores with what it loads, so its HTTP client
// is the least that works: requests are prepared bytes, one write each; of an
// answer's head only the status and the length are looked at; bodies go into
// one buffer that is used again.

const (
	// rawHeadBytesMax bounds an answer's head. Ours have 300 bytes.
	rawHeadBytesMax = 4 << 10
	// rawWait bounds one request: longer than anything but a broken server.
	rawWait = 30 * time.Second
	// rawArmEvery: setting a deadline costs a little, so it is not set for
	// every request.
	rawArmEvery = time.Second
)

var (
	errRawHead   = errors.New("answer's head is not understood")
	errRawStatus = errors.New("unexpected status")
	errRawBody   = errors.New("body differs")
)

// rawClient is one kept connection.
type rawClient struct {
	conn  net.Conn
	buf   []byte // what was read and not yet used is buf[from:to]
	from  int
	to    int
	armed time.Time
}

// answer is the head of a response.
type answer struct {
	status int
	length int
	first  time.Time // when its first byte came
}

func dialRaw(addr string) (*rawClient, error) {
	conn, err := net.DialTimeout("tcp", addr, rawWait)
	if err != nil {
		return nil, err
	}
	return &rawClient{conn: conn, buf: make([]byte, 80<<10)}, nil
}

func (c *rawClient) Close() error { return c.conn.Close() }

// send writes a request, whose body may be nil, and reads the answer's head.
func (c *rawClient) send(head, body []byte) (answer, error) {
	if now := time.Now(); now.Sub(c.armed) > rawArmEvery {
		if err := c.conn.SetDeadline(now.Add(rawWait)); err != nil {
			return answer{}, err
		}
		c.armed = now
	}
	parts := net.Buffers{head, body}
	if body == nil {
		parts = parts[:1]
	}
	if _, err := parts.WriteTo(c.conn); err != nil {
		return answer{}, err
	}
	return c.head()
}

// head reads and parses an answer's head.
func (c *rawClient) head() (answer, error) {
	if c.from == c.to {
		c.from, c.to = 0, 0
	}
	var first time.Time
	for scanned := c.from; ; {
		if end := bytes.Index(c.buf[scanned:c.to], []byte("\r\n\r\n")); end >= 0 {
			head := c.buf[c.from : scanned+end+4]
			c.from = scanned + end + 4
			a, err := parseAnswer(head)
			a.first = first
			return a, err
		}
		if c.to-c.from > rawHeadBytesMax || c.to == len(c.buf) {
			return answer{}, fmt.Errorf("%d bytes: %w", c.to-c.from, errRawHead)
		}
		scanned = max(c.from, c.to-3)
		n, err := c.conn.Read(c.buf[c.to:])
		if err != nil {
			return answer{}, err
		}
		if first.IsZero() {
			first = time.Now()
		}
		c.to += n
	}
}

// parseAnswer finds the status and the length. A status without a body has
// length 0; anything else must say its length.
func parseAnswer(head []byte) (answer, error) {
	a := answer{length: -1}
	if len(head) < 13 || string(head[:7]) != "HTTP/1." {
		return a, fmt.Errorf("%.40q: %w", head, errRawHead)
	}
	var err error
	if a.status, err = strconv.Atoi(string(head[9:12])); err != nil {
		return a, fmt.Errorf("%.40q: %w", head, errRawHead)
	}
	const name = "content-length:"
	for rest := head; len(rest) > 0; {
		line, after, _ := bytes.Cut(rest, []byte("\r\n"))
		rest = after
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			a.length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):])))
			return a, err
		}
	}
	if a.status < 200 || a.status == 204 || a.status == 304 {
		a.length = 0
	}
	return a, nil
}

// body reads the answer's body into p, which must have its length.
func (c *rawClient) body(p []byte) error {
	n := copy(p, c.buf[c.from:c.to])
	c.from += n
	_, err := io.ReadFull(c.conn, p[n:])
	return err
}

// skip reads an answer's body that is not looked at.
func (c *rawClient) skip(length int) error {
	n := min(length, c.to-c.from)
	c.from += n
	for length -= n; length > 0; length -= n {
		var err error
		if n, err = c.conn.Read(c.buf[:min(length, len(c.buf))]); err != nil {
			return err
		}
	}
	return nil
}

// want returns an error unless the answer has that status and a length.
func (a answer) want(status int) error {
	if a.status != status || a.length < 0 {
		return fmt.Errorf("%w: %d with length %d, want %d", errRawStatus, a.status, a.length, status)
	}
	return nil
}

// sampledEqual compares length and a few places: a full comparison of every
// body would measure our own memory.
func sampledEqual(got, want []byte, turn int) error {
	if len(got) != len(want) {
		return fmt.Errorf("%w: %d bytes, want %d", errRawBody, len(got), len(want))
	}
	const width, places = 256, 8
	if len(got) <= width*places || turn%fullCompareEvery == 0 {
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%w", errRawBody)
		}
		return nil
	}
	for i := range places {
		at := (len(got) - width) * i / (places - 1)
		if !bytes.Equal(got[at:at+width], want[at:at+width]) {
			return fmt.Errorf("%w around byte %d", errRawBody, at)
		}
	}
	return nil
}

// fullCompareEvery how many bodies one is compared byte by byte.
const fullCompareEvery = 64
