package peer

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"
)

const (
	// corkBytesMax is how many encrypted bytes gather before they are sent:
	// four TLS records and their heads. One system call for them instead of one
	// for each record of 16 KiB.
	corkBytesMax = 68 << 10
	// corkWriteMin: writes shorter than a record are sent at once.
	corkWriteMin = 16 << 10
)

// secureConn is a TLS connection whose long writes reach the kernel in few
// pieces.
type secureConn struct {
	*tls.Conn

	cork *corkConn
	mu   sync.Mutex // serialises Write: one cork at a time
}

// Write encrypts and sends b.
func (s *secureConn) Write(b []byte) (int, error) {
	if len(b) <= corkWriteMin {
		return s.Conn.Write(b)
	}
	return s.writeAll(b)
}

// writeAll sends several pieces as if they were one.
func (s *secureConn) writeAll(pieces ...[]byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cork.hold()
	n := 0
	for _, p := range pieces {
		m, err := s.Conn.Write(p)
		n += m
		if err != nil {
			return n, fmt.Errorf("encrypt: %w", err)
		}
	}
	return n, s.cork.release()
}

// corkConn is the connection below TLS. While it is held it gathers writes.
type corkConn struct {
	net.Conn

	mu   sync.Mutex // guards what follows; TLS also writes from Read and Close
	held bool
	buf  []byte
	err  error
}

// Write implements net.Conn.
func (c *corkConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if !c.held {
		return c.Conn.Write(b)
	}
	if len(c.buf)+len(b) > corkBytesMax {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	if len(b) > corkBytesMax {
		return c.Conn.Write(b)
	}
	if c.buf == nil {
		c.buf = make([]byte, 0, corkBytesMax)
	}
	c.buf = append(c.buf, b...)
	return len(b), nil
}

func (c *corkConn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = true
}

func (c *corkConn) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = false
	return c.flush()
}

// flush sends what was gathered. After an error nothing more is sent: the
// other side would find a hole. The caller holds the lock.
func (c *corkConn) flush() error {
	if len(c.buf) == 0 || c.err != nil {
		return c.err
	}
	_, c.err = c.Conn.Write(c.buf)
	c.buf = c.buf[:0]
	return c.err
}
