package systemtest

import (
	"context"
	"errors"
	"testing"
	"time"
)

const (
	// pollEvery is how often a condition is looked at. Much more often would
	// take the CPU that the condition waits for.
	pollEvery = 20 * time.Millisecond
	// readyWait: three processes start, gossip, bootstrap nine groups and elect
	// leaders; 3 s alone on the machine, several times that beside other tests.
	readyWait = 60 * time.Second
	// settleWait bounds what takes a moment: a commit to reach all nodes, a
	// connection to be noticed as closed, a recording to be sealed.
	settleWait = 20 * time.Second
	// exitWait bounds a stop: the default stop_grace of 20 s and some.
	exitWait = 30 * time.Second
	// failoverWait bounds how long writes may fail after a leader was killed:
	// an election takes one to two election timeouts of 1 s, and may be split.
	failoverWait = 15 * time.Second
)

// eventually waits until cond returns nil, and fails the test after limit.
func eventually(tb testing.TB, limit time.Duration, what string, cond func() error) {
	tb.Helper()
	if err := waitUntil(tb.Context(), limit, cond); err != nil {
		tb.Fatalf("%s: not within %v: %v", what, limit, err)
	}
}

// waitUntil polls cond and returns its last error after limit.
func waitUntil(ctx context.Context, limit time.Duration, cond func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}

// pause lets time pass, for what has to last: a source that sends in real
// time, a fault in the middle of something. It is never a wait for a result.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
