package audience

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// firstLook at one who has no room is after so many slots. It is taken twice as
// late each time, up to a period: so who reads faster than he plays, and not so
// fast that he was waited for, is found before his narrow buffer has run dry.
const firstLook = 2

// slot is whom a loop looks after at one time of the period: those who hear what
// goes on, and those who wait for room to hear on.
type slot struct {
	seats   []*seat
	waiting []*reading
}

// loop serves its listeners, a slot at a time.
type loop struct {
	audience *Audience
	polls    []unix.PollFd // of one slot

	mu     sync.Mutex // guards the fields below
	slots  [slots]slot
	now    int
	closed bool
}

// add puts a listener who was just served into the slot that was just served.
func (l *loop) add(s *seat) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	now := &l.slots[l.now]
	now.seats = append(now.seats, s)
	return true
}

// wait does the same with one who has no room.
func (l *loop) wait(r *reading) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.audience.metrics.waiting.Inc()
	l.queue(r)
	return true
}

// queue puts one who waits into the slot of the next look at him.
func (l *loop) queue(r *reading) {
	s := &l.slots[(l.now+r.step)%slots]
	s.waiting = append(s.waiting, r)
	r.step = min(2*r.step, slots)
}

func (l *loop) run(ctx context.Context) {
	tick := time.NewTicker(l.audience.cfg.Period / slots)
	defer tick.Stop()
	scratch := newScratch()
	for {
		select {
		case <-ctx.Done():
			l.end()
			return
		case <-tick.C:
		}
		l.mu.Lock()
		l.now = (l.now + 1) % slots
		turn := l.slots[l.now]
		l.slots[l.now] = slot{} // who comes now is added to new lists
		l.mu.Unlock()
		turn.seats = l.serve(turn.seats, scratch)
		turn.waiting = l.look(turn.waiting)
		l.mu.Lock()
		l.putBack(turn)
		l.mu.Unlock()
	}
}

// putBack keeps who stays in the slot that was served, but for those who are
// looked at sooner.
func (l *loop) putBack(turn slot) {
	now := &l.slots[l.now]
	now.seats = append(turn.seats, now.seats...)
	kept := turn.waiting[:0]
	for _, r := range turn.waiting {
		if r.step < slots {
			l.queue(r)
		} else {
			kept = append(kept, r)
		}
	}
	clear(turn.waiting[len(kept):])
	now.waiting = append(kept, now.waiting...)
}

// serve writes to those who hear what goes on, and returns who stays.
func (l *loop) serve(seats []*seat, scratch *scratch) []*seat {
	kept := seats[:0]
	for _, s := range seats {
		if err := s.turn(scratch); err != nil {
			l.audience.finish(s, err)
			continue
		}
		kept = append(kept, s)
	}
	clear(seats[len(kept):])
	return kept
}

// look starts those who have room again, and returns who waits on. One system
// call asks for all: nobody else closes their sockets meanwhile.
func (l *loop) look(waiting []*reading) []*reading {
	if len(waiting) == 0 {
		return nil // and with them goes the list
	}
	l.polls = l.polls[:0]
	for _, r := range waiting {
		l.polls = append(l.polls, unix.PollFd{Fd: r.out.FD(), Events: unix.POLLOUT})
	}
	if _, err := unix.Poll(l.polls, 0); err != nil {
		return waiting // interrupted: next time
	}
	kept, now := waiting[:0], time.Now()
	for i, r := range waiting {
		switch {
		case l.polls[i].Revents != 0: // room, or an error that a write finds
			l.audience.metrics.waiting.Dec()
			r.resume(now)
		case r.stalled(now):
			l.audience.metrics.waiting.Dec()
			r.leave(ErrBehind)
		default:
			kept = append(kept, r)
		}
	}
	clear(waiting[len(kept):])
	return kept
}

func (l *loop) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for i := range l.slots {
		for _, s := range l.slots[i].seats {
			l.audience.leave(s, ErrClosed)
		}
		for _, r := range l.slots[i].waiting {
			l.audience.metrics.waiting.Dec()
			r.leave(ErrClosed)
		}
	}
	l.slots = [slots]slot{}
}
