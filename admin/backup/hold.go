package backup

import (
	"context"
	"fmt"
	"time"

	"carillon/library/backup"
)

// renewEvery is how often a hold is prolonged, well inside backup.HoldTTL.
const renewEvery = backup.HoldTTL / 5

// Holder keeps the cluster's sweep away from blobs that a transfer needs.
type Holder interface {
	HoldBackup(ctx context.Context, hold string) (backup.Hold, error)
	ReleaseBackup(ctx context.Context, hold string) error
}

// keepHold prolongs a hold until release is called, which ends it. The context
// that it returns ends, with the reason, when that has failed for longer than
// the hold lasts.
func keepHold(ctx context.Context, h Holder, hold string) (held context.Context, release func() error) {
	held, stop := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(renewEvery)
		defer tick.Stop()
		last := time.Now()
		for {
			select {
			case <-held.Done():
				return
			case <-tick.C:
			}
			switch _, err := h.HoldBackup(held, hold); {
			case err == nil:
				last = time.Now()
			case time.Since(last) > backup.HoldTTL-renewEvery:
				stop(fmt.Errorf("the cluster does not hold blobs for this backup any more: %w", err))
				return
			}
		}
	}()
	return held, func() error {
		stop(nil)
		<-done
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTriesMax*time.Second)
		defer cancel()
		return h.ReleaseBackup(bounded, hold) //nolint:wrapcheck // the caller says what that means
	}
}
