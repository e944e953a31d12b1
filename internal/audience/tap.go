package audience

import (
	"context"
	"net"
	"time"

	"carillon/internal/outlet"
)

// tap is the outlet of a listener of a stored sound. It ends with the Audience,
// and counts.
type tap struct {
	*outlet.Outlet

	stopped context.Context //nolint:containedctx // the Audience's own; an io.Writer has no place for it
	written int64
	took    bool // something was taken since this was set to false
}

func newTap(stopped context.Context, conn *net.TCPConn) (*tap, error) {
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	out, err := outlet.New(conn)
	if err != nil {
		return nil, err
	}
	return &tap{Outlet: out, stopped: stopped}, nil
}

// Write sends what the kernel takes.
func (t *tap) Write(p []byte) (int, error) {
	if t.stopped.Err() != nil {
		return 0, ErrClosed
	}
	n, err := t.Outlet.Write(p)
	t.written += int64(n)
	t.took = t.took || n > 0
	return n, err
}
