package library

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"carillon/blobstore"
	"carillon/library/spool"
)

const (
	// spoolAfter is how long a byte of a recording waits for a majority before
	// it is made durable here: the second that is promised for it, less a look.
	// Since a byte may have waited blobstore.FlushInterval before it was offered,
	// this is where a commit takes 350 ms. It could be later only by breaking the
	// promise, and need not be: when the disk is slow, all recordings together
	// cost it one write and one fsync in a look, and their bytes a second time.
	// Earlier would gain nothing that was promised.
	spoolAfter = 750 * time.Millisecond
	// spoolLook is how often sessions are looked at.
	spoolLook = 250 * time.Millisecond
	// spoolClaimWait is how long a source waits for a leader to take its claim
	// before the recording begins in the spool: what it says before is lost.
	spoolClaimWait = time.Second
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
		l.keep(ctx, all, time.Now())
		if wait = spoolLook; len(all) == 0 {
			wait = spool.Every // an idle node is not woken for nothing
		}
	}
}

// keep spools what has waited for too long, and lets go of what waits no more:
// what all sessions have to say goes to the disk at once.
func (l *Library) keep(ctx context.Context, all []*Session, now time.Time) {
	l.keeps.Lock() // two looks that take sessions in different order would wait for one another
	defer l.keeps.Unlock()
	for len(all) > 0 {
		b, n := l.spool.Batch(), 0
		for ; n < len(all) && !b.Full(); n++ {
			all[n].keeping.Lock()
			all[n].stage(ctx, b, now)
		}
		err := b.Commit()
		begun := 0
		for _, s := range all[:n] {
			if s.staged(ctx, err) {
				begun++
			}
			s.keeping.Unlock()
		}
		if begun > 0 {
			l.log.WarnContext(ctx, "no majority in time: recordings go on in the spool", "recordings", begun)
		}
		all = all[n:]
	}
}

// kept is what the spool has of a recording.
type kept struct {
	item *blobstore.SpoolItem // nil: nothing
	end  int64                // of its bytes in the recording, 0 for none
}

// stage puts into b what has waited for too long, or that nothing of what is
// spooled waits any more. The lock keeping is held until staged was called.
func (s *Session) stage(ctx context.Context, b *blobstore.SpoolBatch, now time.Time) {
	s.next, s.trouble = s.spooled, nil
	if s.over {
		return
	}
	waiting, deferred := s.live.Waiting(), s.isDeferred()
	s.mu.Lock()
	ended, since := s.ended, s.when
	s.mu.Unlock()
	late := !waiting.IsZero() && now.Sub(waiting) >= spoolAfter || ended && now.Sub(since) >= spoolAfter
	switch {
	case late || deferred || ended && s.next.item != nil:
		s.trouble = s.spill(ctx, b)
	case s.next.item != nil && s.live.Durable() >= s.next.end:
		b.Remove(s.next.item)
		s.next = kept{}
	}
}

// spill puts all that waits into b, as much as one write takes, and the end if
// it has come.
func (s *Session) spill(ctx context.Context, b *blobstore.SpoolBatch) error {
	s.mu.Lock()
	ended, by, when := s.ended, s.endedByLocked(), s.when
	s.mu.Unlock()
	at, p := s.live.Unspilled(s.next.end)
	if s.next.item != nil && at > s.next.end {
		b.Remove(s.next.item) // the cluster has all of it, and what came after
		s.next = kept{}
	}
	if s.next.item == nil {
		if err := s.openItem(ctx, b, nil); err != nil {
			return err
		}
		s.next.end = at // what is before that the cluster has
	}
	if _, over := s.next.item.End(); over {
		return nil
	}
	for ; len(p) > 0; at, p = s.live.Unspilled(at) {
		if b.Full() {
			return nil // the rest is for the next look
		}
		op := blobstore.Op{Kind: blobstore.OpAppend, ID: s.blob, Offset: at, Data: p, At: time.Now()}
		if err := b.Append(s.next.item, op); err != nil {
			return err
		}
		at += int64(len(p))
		s.next.end = at
	}
	if !ended || at < s.live.Size() {
		return nil
	}
	end, err := json.Marshal(spoolRecordingEnd{by, when.UnixMilli()})
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return b.Finish(s.next.item, end)
}

// staged says what became of the batch that stage has put something into, and
// returns whether the recording is in the spool from now on.
func (s *Session) staged(ctx context.Context, err error) (begun bool) {
	if err == nil {
		begun = s.next.item != nil && s.next.item != s.spooled.item
		s.spooled = s.next
	}
	if begun {
		s.lib.spool.Created()
	}
	if s.spooled.item != nil {
		s.live.Spilled(s.spooled.item, s.spooled.end)
	}
	if err = cmp.Or(s.trouble, err); err != nil && !s.troubled {
		s.lib.log.ErrorContext(ctx, "recording waits in memory only", "recording_id", s.id, "error", err)
	}
	s.troubled = err != nil
	return begun
}

// openItem makes the item of the recording, as it is or, if that could not be
// committed, as it is to be.
func (s *Session) openItem(ctx context.Context, b *blobstore.SpoolBatch, as *stored) error {
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
	s.next.item, err = s.lib.spool.Create(b, &spool.Meta{
		Account: as.Account, Record: s.id, Row: row, Revision: as.Revision, Claimed: claimed,
	})
	return err
}

// keepEnd is the last word about the spooled part: it goes when the recording
// is settled, and else waits for the next start.
func (s *Session) keepEnd(ctx context.Context, settled error) {
	if !s.lib.spool.On() {
		return
	}
	s.keeping.Lock()
	defer s.keeping.Unlock()
	s.over = true
	var err error
	switch {
	case settled == nil && s.spooled.item != nil:
		err = s.spooled.item.Remove()
		s.spooled = kept{}
	case settled != nil && (s.spooled.item != nil || s.isDeferred() || !s.live.Waiting().IsZero()):
		err = s.spillAll(ctx)
	}
	if err != nil {
		s.lib.log.ErrorContext(ctx, "spooled recording", "recording_id", s.id, "error", err)
	}
}

// spillAll spills until nothing is left.
func (s *Session) spillAll(ctx context.Context) error {
	for {
		b, before := s.lib.spool.Batch(), s.spooled
		s.next, s.trouble = s.spooled, nil
		s.trouble = s.spill(ctx, b)
		err := b.Commit()
		s.staged(ctx, err)
		if err = cmp.Or(s.trouble, err); err != nil || s.spooled == before {
			return err
		}
	}
}

// deferClaim begins a recording whose claim no leader takes: it is written into
// the spool first, and committed when there is one.
func (s *Session) deferClaim(ctx context.Context, as *stored) error {
	s.live.Hold() // its blob is referred to by nothing yet
	s.keeping.Lock()
	defer s.keeping.Unlock()
	b := s.lib.spool.Batch()
	s.next, s.trouble = kept{}, nil
	if err := s.openItem(ctx, b, as); err != nil {
		return err
	}
	if err := b.Commit(); err != nil {
		return err
	}
	s.staged(ctx, nil)
	s.lib.log.WarnContext(ctx, "no majority: recording begins in the spool", "recording_id", s.id,
		"spool_id", s.spooled.item.Name())
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
