package library

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"carillon/blobstore"
	"carillon/library/spool"
)

const (
	// spoolAfter is how long a byte of a recording waits for a majority before
	// it is made durable here: the second that is promised for it, less a look.
	spoolAfter = 750 * time.Millisecond
	// spoolLook is how often sessions are looked at.
	spoolLook = 250 * time.Millisecond
	// spoolClaimWait is how long a source waits for a leader to take its claim
	// before the recording begins in the spool: what it says before is lost.
	spoolClaimWait = time.Second
	// spillsMax bounds the files that are synced at once.
	spillsMax = 32
)

// spoolRecordingEnd is what is known of a spooled recording whose source left.
type spoolRecordingEnd struct {
	By      EndedBy
	EndedMS int64
}

// keepSessions spills what live recordings cannot get rid of.
func (l *Library) keepSessions(ctx context.Context) {
	for wait := spool.Every; ; {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		l.mu.Lock()
		all := make([]*Session, 0, len(l.sessions))
		for _, s := range l.sessions {
			all = append(all, s)
		}
		l.mu.Unlock()
		var work errgroup.Group
		work.SetLimit(spillsMax)
		for _, s := range all {
			work.Go(func() error {
				s.keep(ctx)
				return nil
			})
		}
		_ = work.Wait() // its functions return no errors
		if wait = spoolLook; len(all) == 0 {
			wait = spool.Every // an idle node is not woken for nothing
		}
	}
}

// keep spools what has waited for too long, and lets the spool go when nothing
// waits any more.
func (s *Session) keep(ctx context.Context) {
	s.keeping.Lock()
	defer s.keeping.Unlock()
	err := s.keepLocked(ctx, time.Now())
	if err != nil && !s.troubled {
		s.lib.log.ErrorContext(ctx, "recording waits in memory only", "recording_id", s.id, "error", err)
	}
	s.troubled = err != nil
}

func (s *Session) keepLocked(ctx context.Context, now time.Time) error {
	waiting, deferred := s.live.Waiting(), s.isDeferred()
	s.mu.Lock()
	ended, since := s.ended, s.when
	s.mu.Unlock()
	switch {
	case s.kept:
		return nil
	case s.item == nil && !deferred && (waiting.IsZero() || now.Sub(waiting) < spoolAfter) &&
		(!ended || now.Sub(since) < spoolAfter):
		return nil
	case s.item != nil && !deferred && !ended && waiting.IsZero():
		item := s.item
		s.item = nil
		return item.Remove()
	}
	return s.spillLocked(ctx)
}

// spillLocked writes all that waits into the item, and the end if it has come.
func (s *Session) spillLocked(ctx context.Context) error {
	if s.item == nil {
		if err := s.openItem(ctx, nil); err != nil {
			return err
		}
	}
	if _, ended := s.item.End(); ended {
		return nil
	}
	s.mu.Lock()
	ended, by, when := s.ended, s.endedByLocked(), s.when
	s.mu.Unlock()
	kept, err := s.live.Spill(func(off int64, p []byte) error {
		return s.item.Append(blobstore.Op{
			Kind: blobstore.OpAppend, ID: s.blob, Offset: off, Data: p, At: time.Now(),
		})
	}, s.item)
	if err != nil || !ended || kept < s.live.Size() {
		return err
	}
	end, err := json.Marshal(spoolRecordingEnd{by, when.UnixMilli()})
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return s.item.Finish(end)
}

// openItem makes the item of the recording, as it is or, if that could not be
// committed, as it is to be.
func (s *Session) openItem(ctx context.Context, as *stored) error {
	claimed := as == nil
	if claimed {
		var err error
		if as, err = s.lib.recording(ctx, s.id); err != nil {
			return err
		}
	}
	row, err := encodeRecording(as)
	if err != nil {
		return err
	}
	s.item, err = s.lib.spool.Create(&spool.Meta{
		Account: as.Account, Record: s.id, Row: row, Revision: as.Revision, Claimed: claimed,
	})
	if err != nil {
		return err
	}
	s.lib.log.WarnContext(ctx, "no majority: recording goes on in the spool", "recording_id", s.id,
		"spool_id", s.item.Name())
	return nil
}

// keepEnd is the last word about the spooled part: it goes when the recording
// is settled, and else waits for the next start.
func (s *Session) keepEnd(ctx context.Context, settled error) {
	if !s.lib.spool.On() {
		return
	}
	s.keeping.Lock()
	defer s.keeping.Unlock()
	s.kept = true
	var err error
	switch {
	case settled == nil && s.item != nil:
		err = s.item.Remove()
	case settled != nil && (s.item != nil || s.isDeferred() || !s.live.Waiting().IsZero()):
		err = s.spillLocked(ctx)
	}
	if err != nil {
		s.lib.log.ErrorContext(ctx, "spooled recording", "recording_id", s.id, "error", err)
	}
}

// deferClaim begins a recording whose claim no leader takes: it is written into
// the spool first, and committed when there is one.
func (s *Session) deferClaim(ctx context.Context, as *stored) error {
	s.live.Hold() // its blob is referred to by nothing yet
	s.keeping.Lock()
	defer s.keeping.Unlock()
	if err := s.openItem(ctx, as); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	begun := *as
	s.deferred = &begun
	return nil
}

func (s *Session) isDeferred() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deferred != nil
}

// unclaimed is the recording that could not be committed yet, if it is so.
func (s *Session) unclaimed() (stored, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deferred == nil {
		return stored{}, false
	}
	return *s.deferred, true
}

// errNotOurs: somebody else has the ticket or the mount by now.
var errNotOurs = errors.New("taken by another source meanwhile")

// commitClaim commits a claim that was deferred, however long that takes. Nil:
// the recording is as if it had just begun.
func (s *Session) commitClaim(ctx context.Context) error {
	as, ok := s.unclaimed()
	if !ok {
		return nil
	}
	tick := time.NewTicker(spool.Every)
	defer tick.Stop()
	for {
		if s.lib.spool.Led() {
			bounded, cancel := context.WithTimeout(ctx, settleWait)
			err := s.lib.commitDeferred(bounded, &as)
			cancel()
			switch {
			case err == nil:
				s.mu.Lock()
				s.deferred = nil
				s.mu.Unlock()
				s.live.Release()
				return nil
			case errors.Is(err, errNotOurs):
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// commitDeferred commits that a spooled recording is live, unless it is already.
func (l *Library) commitDeferred(ctx context.Context, as *stored) error {
	if err := l.rows.Fresh(ctx); err != nil {
		return err
	}
	now, err := l.recording(ctx, as.ID)
	switch {
	case errors.Is(err, ErrNotFound):
		as.Revision = 0 // a source without a ticket, or a ticket that has expired meanwhile
	case err != nil:
		return err
	case now.Blob == as.Blob:
		return nil
	case now.State != StateWaiting:
		return errNotOurs
	default:
		as.Revision = now.Revision
	}
	revision := as.Revision
	if err = l.commitLive(ctx, as, blobstore.ID{}); err != nil {
		as.Revision = revision
	}
	if errors.Is(err, ErrMountInUse) || errors.Is(err, ErrTicketUsed) {
		return errNotOurs
	}
	return err
}

// awaitEnd waits until the source has left.
func (s *Session) awaitEnd(ctx context.Context) {
	select {
	case <-s.ending:
	case <-ctx.Done():
	}
}
