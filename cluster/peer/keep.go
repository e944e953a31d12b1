package peer

import (
	"fmt"
	"time"
)

const (
	// keepTick is how often connections are looked at.
	keepTick = time.Second
	// pingAfter: a call connection that heard nothing for so long pings, and
	// silentMax later than the last word it is dead. A partition thus ends the
	// calls in flight after six seconds, where TCP alone takes minutes.
	pingAfter = 2 * time.Second
	silentMax = 6 * time.Second
	// serveSilentMax is when the accepting end gives up a dialer that does not
	// even ping.
	serveSilentMax = 20 * time.Second
)

// keep looks after the call connections.
func (l *Link) keep() {
	ticker := time.NewTicker(keepTick)
	defer ticker.Stop()
	for {
		select {
		case <-l.closing:
			return
		case now := <-ticker.C:
			l.look(now)
		}
	}
}

func (l *Link) look(now time.Time) {
	var dead []*callConn
	var gone []*serveConn
	l.mu.Lock()
	for c := range l.calls {
		silent := now.Sub(time.Unix(0, c.heard.Load()))
		if silent > silentMax {
			dead = append(dead, c)
		} else if silent > pingAfter {
			c.out.trySend(header{kind: framePing})
		}
	}
	for s := range l.serves {
		silent := now.Sub(time.Unix(0, s.heard.Load()))
		switch {
		case s.waiting.Load(), silent < 2*keepTick:
			// A caller may not be able to ask: its request is long, or we do
			// not read because our handlers are slow. We are not dead.
			s.out.trySend(header{kind: framePong})
		case silent > serveSilentMax:
			gone = append(gone, s)
		}
	}
	l.mu.Unlock()
	for _, c := range dead {
		l.log.Info("peer is silent, connection closed", "peer", c.node)
		c.fail(fmt.Errorf("silent for %v: %w", silentMax, ErrUnreachable))
	}
	for _, s := range gone {
		s.end()
	}
}
