package backup

import (
	"context"
	"errors"
	"time"

	"carillon/library/fault"
)

const (
	// triesMax bounds how often a part of a restore is offered to a cluster that
	// cannot take it just now: with the waits between, about a minute, which is more
	// than an election, a full queue or the restart of a node takes.
	triesMax = 10
	// retryWaitMin doubles with each try, up to retryWaitMax.
	retryWaitMin = 100 * time.Millisecond
	retryWaitMax = 10 * time.Second
)

// patiently calls what may be repeated until the cluster takes it, refuses it, or has
// been unavailable for too long.
func patiently(ctx context.Context, call func() error) error {
	wait := retryWaitMin
	for try := 1; ; try++ {
		err := call()
		if err == nil || try == triesMax || !errors.Is(err, fault.ErrUnavailable) {
			return err
		}
		if !pause(ctx, wait) {
			return err
		}
		wait = min(2*wait, retryWaitMax)
	}
}

// pause says whether the time is over before ctx is.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
