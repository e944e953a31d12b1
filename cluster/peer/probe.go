package peer

import (
	"context"
	"errors"
	"syscall"
)

// Refused says whether the machine of a node answers and nobody listens on the
// node's peer port: its process is gone, or another has its address. Everything
// else, also silence, is false: the node may be well and the way to it broken.
func (l *Link) Refused(ctx context.Context, node string) bool {
	addr, err := l.cfg.Resolve(node)
	if err != nil {
		return false
	}
	conn, err := l.cfg.Network.Dial(ctx, addr)
	if err == nil {
		_ = conn.Close() // it was only to see that somebody is there
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
