package web

import (
	"errors"
	"net"
	"net/http"
)

// ErrNotTCP is returned when a connection is none that can be handed over.
var ErrNotTCP = errors.New("connection is not TCP")

// Heir goes on with a connection, and ends it with closing.
type Heir func(tcp *net.TCPConn, closing func() error)

// HandOver lets heir go on with the connection of a request when net/http is done
// with it: after the handler has returned, from the same goroutine. What net/http
// would send from now on, it does not.
//
// Hijack would do it at once, but takes net/http's two buffers of 4 KiB along, for
// which nobody has any use; this way net/http uses them again.
func HandOver(r *http.Request, heir Heir) error {
	c, _ := r.Context().Value(connKey{}).(*conn)
	if c == nil {
		return ErrNotTCP
	}
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return ErrNotTCP
	}
	c.heir, c.out = func() { heir(tcp, c.end) }, nil
	c.parted.Store(true)
	return nil
}
