package library

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"carillon/blobstore"
)

const (
	// passEvery is the time between two passes over the recordings that are
	// not at rest, give or take a quarter, so that the nodes do not all try
	// the same at once. A recording whose node died is sealed within this time
	// of the node being called gone.
	passEvery = 30 * time.Second
	// passAgain is the time to the next pass when one did not get through: after
	// a crash the first comes before there is a leader.
	passAgain = 2 * time.Second
	// passRowsMax is how many are looked at together: their ids are in memory.
	passRowsMax = 1000
	// recoversMax bounds how many recordings are sealed at once: after a crash
	// under load there may be a thousand, and calls go on meanwhile.
	recoversMax = 4
	// expiredKept is how long an unused ticket outlives its time, so that no
	// node with a fast clock deletes what others still honour.
	expiredKept = 2 * time.Minute
	// discardedKept is how long a discarded recording can still be asked for.
	discardedKept = time.Hour
)

// tend looks after the recordings that nobody else looks after: at once, and
// then again and again.
func (l *Library) tend(ctx context.Context) {
	for {
		if err := l.tokens.Agree(ctx); err != nil {
			l.log.WarnContext(ctx, "playback URLs cannot be signed yet", "error", err)
		}
		wait := passEvery*3/4 + rand.N(passEvery/2) //nolint:gosec // spreads load, keeps no secret
		// What this node left behind when it died must be among the rows it sees.
		if l.rows.Fresh(ctx) != nil || !l.pass(ctx, time.Now()) {
			wait = passAgain
		} else {
			l.logPass(ctx, "", l.feed.Trim(ctx, time.Now()))
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// pass recovers what was left live, and forgets tickets that expired and
// recordings that were discarded. Every change is conditional: when several
// nodes try, one wins and the others find it done. It says whether nothing
// failed.
func (l *Library) pass(ctx context.Context, now time.Time) bool {
	var failed atomic.Bool
	note := func(id string, err error) {
		if l.logPass(ctx, id, err) {
			failed.Store(true)
		}
	}
	var work errgroup.Group
	work.SetLimit(recoversMax)
	for after, more := "", true; more && ctx.Err() == nil; {
		// The view is not kept open while recordings are being recovered.
		var ids []string
		for row, err := range l.rows.Scan(ctx, activePrefix, after) {
			if err != nil {
				note("", err)
				break
			}
			after = row.Key
			if ids = append(ids, row.Key[len(activePrefix):]); len(ids) == passRowsMax {
				break
			}
		}
		more = len(ids) == passRowsMax
		for _, id := range ids {
			l.tendOne(ctx, &work, id, now, note)
		}
	}
	_ = work.Wait() // its functions return no errors
	return !failed.Load()
}

func (l *Library) tendOne(
	ctx context.Context, work *errgroup.Group, id string, now time.Time, note func(string, error),
) {
	s, err := l.recording(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound): // went meanwhile
	case err != nil:
		note(id, err)
	case s.State == StateLive && l.orphaned(s):
		work.Go(func() error {
			note(id, l.recover(ctx, s))
			return nil
		})
	case s.expired(now.Add(-expiredKept)), s.discardedBefore(now.Add(-discardedKept)):
		note(id, l.forget(ctx, s))
	}
}

func (s *stored) discardedBefore(t time.Time) bool {
	return s.State == StateDiscarded && s.Ended != nil && s.Ended.Before(t)
}

// forget deletes the rows of a recording that holds no sound.
func (l *Library) forget(ctx context.Context, s *stored) error {
	c := l.newChange()
	c.Expect(recordingKey(s.ID), s.Revision)
	c.Remove(recordingKey(s.ID))
	c.Remove(ownerKey(s.Account, s.ID))
	c.Remove(activeKey(s.ID))
	txn, err := c.Done()
	if err != nil {
		return err
	}
	_, err = l.rows.Commit(ctx, txn)
	return err
}

// logPass says whether err is a failure, and logs it.
func (l *Library) logPass(ctx context.Context, id string, err error) bool {
	if err == nil || ctx.Err() != nil || errors.Is(err, blobstore.ErrConflict) {
		return false
	}
	l.log.WarnContext(ctx, "recording could not be tended", "recording_id", id, "error", err)
	return true
}
