package web

import (
	"errors"
	"fmt"
	"net"
	"net/http"
)

// ErrNotTCP is returned when a connection is none that can be taken over.
var ErrNotTCP = errors.New("connection is not TCP")

// Take takes the connection of a request over from net/http, which then forgets
// it: the caller writes the answer, head and all, and calls closing in the end.
func Take(w http.ResponseWriter) (tcp *net.TCPConn, closing func() error, err error) {
	taken, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("take over a connection: %w", err)
	}
	inner := taken
	if own, ok := taken.(*conn); ok {
		inner = own.Conn
		own.held, own.rest = nil, nil // which held a head, and nothing any more
	}
	tcp, ok := inner.(*net.TCPConn)
	if !ok {
		return nil, nil, errors.Join(ErrNotTCP, taken.Close())
	}
	return tcp, taken.Close, nil
}
