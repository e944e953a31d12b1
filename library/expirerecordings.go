package library

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"carillon/blobstore"
	"carillon/library/export"
	"carillon/library/feed"
	"carillon/library/rows"
)

// A recording that has ended and that nobody stored or discarded would be kept
// for ever. The retention of class recording counts for it, too, from its end:
// it becomes a deleted item under its media name, to be brought back like any
// other. Without a retention it stays, in sight of GET /v1/recordings.

// expireRecordings deletes an account's recordings that are due, and forgets
// those that were stored and whose item is gone.
func (l *Library) expireRecordings(ctx context.Context, now time.Time, s *AccountSettings, r *reapRow) error {
	keep := time.Duration(s.RetentionSeconds[ClassRecording]) * time.Second
	if keep <= 0 {
		return nil
	}
	for after, more := "", true; more; {
		var due []string
		more = false
		for rec, err := range l.endedBefore(ctx, s.Account, now.Add(-keep), after) {
			if err != nil {
				return err
			}
			after = ownerKey(s.Account, rec.ID)
			if due = append(due, rec.ID); len(due) == reapReadAhead {
				more = true // the view is not kept open while they are being deleted
				break
			}
		}
		for _, id := range due {
			if err := l.expireRecording(ctx, now, keep, id, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// endedBefore yields an account's recordings that ended before a time and have
// no future: not stored, or stored as an item that is gone.
func (l *Library) endedBefore(
	ctx context.Context, account string, before time.Time, after string,
) iter.Seq2[*stored, error] {
	return func(yield func(*stored, error) bool) {
		prefix := ownerKey(account, "")
		for row, err := range l.rows.Scan(ctx, prefix, after) {
			if err != nil {
				yield(nil, fmt.Errorf("scan recordings: %w", err))
				return
			}
			id := row.Key[len(prefix):]
			if !rows.MadeAt(id).Before(before) {
				return // they sort by their age, and ended after they were made
			}
			s, err := l.recording(ctx, id)
			if errors.Is(err, ErrNotFound) {
				continue // went between the two reads
			}
			var over bool
			if err == nil {
				over, err = l.isOver(ctx, s, before)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if over && !yield(s, nil) {
				return
			}
		}
	}
}

// isOver says whether a recording ended before a time and has no future.
func (l *Library) isOver(ctx context.Context, s *stored, before time.Time) (bool, error) {
	if s.Ended == nil || !s.Ended.Before(before) {
		return false, nil
	}
	switch s.State {
	case StateSealed, StateTruncated:
		if s.ExportID == "" {
			return true, nil
		}
		e, err := l.exports.Job(ctx, s.ExportID)
		if errors.Is(err, ErrNotFound) {
			return true, nil
		}
		return err == nil && e.State == export.Done, err // what is not sent yet is kept
	case StateStored:
		_, err := l.itemOf(ctx, s)
		if errors.Is(err, ErrNotFound) {
			return true, nil
		}
		return false, err
	case StateWaiting, StateLive, StateDiscarded:
	}
	return false, nil
}

// expireRecording deletes one recording, unless it has changed meanwhile.
func (l *Library) expireRecording(
	ctx context.Context, now time.Time, keep time.Duration, id string, r *reapRow,
) error {
	var size int64
	_, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		s, err := l.recording(ctx, id)
		if errors.Is(err, ErrNotFound) {
			return blobstore.Txn{}, rows.ErrDone
		}
		if err != nil {
			return blobstore.Txn{}, err
		}
		over, err := l.isOver(ctx, s, now.Add(-keep))
		if err != nil || !over {
			return blobstore.Txn{}, errors.Join(err, rows.ErrDone)
		}
		c := l.newChange()
		c.Expect(recordingKey(id), s.Revision)
		for _, key := range []string{
			recordingKey(id), ownerKey(s.Account, id), activeKey(id), nameKey(s.Account, s.Name, id),
		} {
			c.Remove(key)
		}
		if size = 0; s.State == StateStored {
			return c.Done() // its sound was the item's
		}
		if !s.Blob.IsZero() {
			c.Remove(blobstore.RefKey(s.Blob, recordingKey(id)))
		}
		if s.checkKept() == nil && l.cfg.UndeleteWindow > 0 {
			d := s.document(s.Account, s.Name)
			l.inherit(&d, nil)
			at := now.UTC().Truncate(time.Millisecond)
			d.Created, d.Stored = s.Created, *s.Ended
			d.Deletion = &Deletion{ID: rows.NewID(at), Time: at, Reason: DeletedByRetention}
			key := deletedKey(d.Account, d.ID, d.Deletion.ID)
			c.putDocument(key, &d)
			c.Put(blobstore.RefKey(d.Blob, key), rows.EncodeText(""))
		}
		size = s.Size
		e := recordingEvent(&s.Recording)
		e.Detail = DeletedByRetention
		c.event(feed.RecordingDiscarded, e)
		return c.Done()
	})
	if errors.Is(err, rows.ErrDone) {
		return nil
	}
	if err == nil && size > 0 {
		r.Expired.Items++
		r.Expired.Bytes += size
	}
	return err
}
