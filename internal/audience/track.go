package audience

import (
	"context"
	"sync"

	"carillon/internal/ring"
)

// Feed is a sound that one goroutine brings for all who listen to it.
type Feed struct {
	Ring     *ring.Ring
	ByteRate int // bytes a second
	// Run appends to the ring until the sound ends or ctx does.
	Run func(ctx context.Context)
}

// Track is a Feed that runs as long as somebody holds it.
type Track struct {
	Feed

	ready  chan struct{} // closed when Feed or err is set
	err    error
	cancel context.CancelFunc
	refs   int // guarded by Audience.mu
}

// Follow returns the running Feed of a key, and how to give it back. The first
// who asks makes it with begin, whose ctx is that of the Feed; the others wait.
// When it has ended, the next who asks makes another.
func (a *Audience) Follow( //nolint:contextcheck // a feed outlives who asked for it first
	ctx context.Context, key string, begin func(ctx context.Context) (Feed, error),
) (*Track, func(), error) {
	a.mu.Lock()
	t := a.tracks[key]
	first := t == nil
	var run context.Context
	if first {
		t = &Track{ready: make(chan struct{})}
		run, t.cancel = context.WithCancel(a.stopped)
		a.tracks[key] = t
	}
	t.refs++
	a.mu.Unlock()
	leave := sync.OnceFunc(func() { a.leaveTrack(key, t) })
	if first {
		t.Feed, t.err = begin(run) //nolint:contextcheck // as above
		if t.err == nil {
			a.running.Go(func() {
				defer a.forget(key, t)
				defer t.Ring.End()
				t.Run(run)
			})
		} else {
			a.forget(key, t)
		}
		close(t.ready)
	}
	select {
	case <-t.ready:
	case <-ctx.Done():
		leave()
		return nil, nil, ctx.Err()
	}
	if t.err != nil {
		leave()
		return nil, nil, t.err
	}
	return t, leave, nil
}

func (a *Audience) leaveTrack(key string, t *Track) {
	a.mu.Lock()
	t.refs--
	last := t.refs == 0
	a.mu.Unlock()
	if last {
		a.forget(key, t)
	}
}

// forget ends a feed and lets the key be begun anew.
func (a *Audience) forget(key string, t *Track) {
	a.mu.Lock()
	if a.tracks[key] == t {
		delete(a.tracks, key)
	}
	a.mu.Unlock()
	t.cancel()
}
