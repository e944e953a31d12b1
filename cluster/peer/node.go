package peer

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// callConnsMax is the number of call connections to one node: one for
	// small requests, which then never wait behind a large one, and three for
	// large ones, which also spreads the encryption over cores.
	callConnsMax = 4
	// smallBytesMax is what a request may have to go over the first.
	smallBytesMax = 8 << 10
	// redialWait: so long after a failed dial, calls fail with its error.
	redialWait = 200 * time.Millisecond
)

// node is what the link knows of another node.
type node struct {
	link *Link
	id   string

	mu    sync.Mutex // guards lanes
	lanes [callConnsMax]lane
}

// lane is the place of one connection.
type lane struct {
	conn   *callConn // nil until dialed; may be dead
	dial   *dialing  // not nil while a dial runs
	failed time.Time
	err    error // of the failed dial
}

// dialing is a dial that all who need the lane wait for.
type dialing struct {
	done chan struct{} // closed when conn or err is set
	conn *callConn
	err  error
}

func (l *Link) node(id string) *node {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.nodes[id]
	if n == nil {
		n = &node{link: l, id: id}
		l.nodes[id] = n
	}
	return n
}

// pick returns a connection for a request of so many bytes and adds them to
// its load.
func (n *node) pick(ctx context.Context, bytes int) (*callConn, error) {
	for {
		c, d, err := n.choose(ctx, bytes)
		if c != nil || err != nil {
			return c, err
		}
		select {
		case <-d.done:
			if d.err != nil {
				return nil, d.err
			}
			if d.conn.isDead() { // again could go on for ever
				return nil, d.conn.broke(ErrNotSent)
			}
			// Choose again: all who waited for this dial are here now.
		case <-ctx.Done():
			return nil, fmt.Errorf("call node %s: %w: %w", n.id, ErrNotSent, ctx.Err())
		}
	}
}

// choose returns a connection, or a dial to wait for, which it begins if need
// be.
func (n *node) choose(ctx context.Context, bytes int) (*callConn, *dialing, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ln := &n.lanes[n.lane(bytes)]
	if ln.conn != nil && !ln.conn.isDead() {
		ln.conn.load.Add(int64(bytes))
		return ln.conn, nil, nil
	}
	if ln.dial != nil {
		return nil, ln.dial, nil
	}
	if time.Since(ln.failed) < redialWait {
		return nil, nil, ln.err
	}
	d := &dialing{done: make(chan struct{})}
	if !n.link.start(func() { n.dial(context.WithoutCancel(ctx), ln, d) }) {
		return nil, nil, notSent(n.id, ErrClosed)
	}
	ln.dial = d
	return nil, d, nil
}

// lane returns the lane for a request: small ones take the first unless it is
// full; large ones one of the others that is free, or the one with the least
// to do, so that no more connections are made than are busy at once. The
// caller holds the lock.
func (n *node) lane(bytes int) int {
	if c := n.lanes[0].conn; bytes <= smallBytesMax && (c == nil || len(c.slots) < callsPerConnMax) {
		return 0
	}
	best, least, missing := n.leastLoaded()
	if missing == 0 || least == 0 {
		return best
	}
	if least < 0 {
		return missing
	}
	// All are busy. One more helps, but only who finds no room waits for a dial
	// that somebody else began, and nobody for a node that just refused one.
	ln := &n.lanes[missing]
	if (ln.dial != nil && least < inflightBytesMax) || time.Since(ln.failed) < redialWait {
		return best
	}
	return missing
}

// leastLoaded returns the large requests' lane with the least load, -1 if none
// is open, and the first that is not open, 0 if all are.
func (n *node) leastLoaded() (best int, least int64, missing int) {
	least = -1
	for i := 1; i < callConnsMax; i++ {
		c := n.lanes[i].conn
		if c == nil || c.isDead() {
			if missing == 0 {
				missing = i
			}
			continue
		}
		if load := c.load.Load(); least < 0 || load < least {
			best, least = i, load
		}
	}
	return best, least, missing
}

func (n *node) dial(ctx context.Context, ln *lane, d *dialing) {
	conn, version, err := n.link.dial(ctx, n.id, kindCalls, "")
	if err == nil {
		d.conn = newCallConn(n.link, n.id, conn, version)
		if !n.link.adopt(d.conn) {
			d.conn.fail(ErrClosed)
			d.conn, err = nil, notSent(n.id, ErrClosed)
		}
	}
	d.err = err
	n.mu.Lock()
	ln.dial, ln.conn, ln.err = nil, d.conn, err
	if err != nil {
		ln.failed = time.Now()
	}
	n.mu.Unlock()
	close(d.done)
}

// adopt runs the connection until it ends or the link closes.
func (l *Link) adopt(c *callConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.open[c] = struct{}{}
	l.calls[c] = struct{}{}
	l.metrics.conns.Inc()
	l.wg.Go(func() {
		c.run()
		l.metrics.conns.Dec()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open, c)
		delete(l.calls, c)
		if !l.closed {
			l.cfg.Lost(c.node)
		}
	})
	return true
}
