package simnet

import (
	"sync"
	"time"
)

// deadline is a point in time that can be moved while somebody waits for it.
type deadline struct{ s *deadlineState }

type deadlineState struct {
	mu    sync.Mutex // guards what follows
	at    time.Time
	timer *time.Timer
	over  chan struct{} // closed when it has passed or was moved
}

func newDeadline() deadline {
	return deadline{s: &deadlineState{over: make(chan struct{})}}
}

// set moves the deadline; zero is never. Who waits looks again.
func (d deadline) set(t time.Time) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.s.timer != nil {
		d.s.timer.Stop()
		d.s.timer = nil
	}
	close(d.s.over)
	over := make(chan struct{})
	d.s.at, d.s.over = t, over
	if left := time.Until(t); !t.IsZero() && left > 0 {
		d.s.timer = time.AfterFunc(left, func() { d.expire(over) })
	}
}

// expire wakes who waits, unless the deadline was moved meanwhile.
func (d deadline) expire(over chan struct{}) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.s.over == over {
		close(over)
		d.s.over = make(chan struct{})
	}
}

func (d deadline) passed() bool {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return !d.s.at.IsZero() && !d.s.at.After(time.Now())
}

// wait returns a channel that is closed when it is worth to ask again. Ask
// passed after it was taken, or a pass in between is missed.
func (d deadline) wait() <-chan struct{} {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return d.s.over
}
