package library

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"carillon/blobstore"
	"carillon/library/rows"
	"carillon/library/spool"
)

// replayRecording completes a recording whose last bytes, or whose beginning
// too, were spooled by a former life of this node.
//
// Where others have dealt with it meanwhile, nothing that was said is lost: one
// that they sealed, with what they had, is lengthened; where another source has
// used the ticket or the mount, this one becomes a recording of its own. Only
// what was discarded meanwhile is let go, as was asked.
func (l *Library) replayRecording(ctx context.Context, item *blobstore.SpoolItem) error {
	var m spool.Meta
	if err := json.Unmarshal(item.Meta(), &m); err != nil {
		return fmt.Errorf("%w: %w", blobstore.ErrCorrupt, err)
	}
	as, err := decodeRecording(m.Record, blobstore.Row{Value: m.Row, Revision: m.Revision})
	if err != nil {
		return err
	}
	if err := l.rows.Fresh(ctx); err != nil {
		return err
	}
	now, err := l.recording(ctx, as.ID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if now == nil || now.State == StateWaiting {
		if err = l.commitDeferred(ctx, &as); err == nil {
			return l.replayLive(ctx, item, &as)
		}
	}
	return l.replayOnto(ctx, item, now, &as, &m, err)
}

// replayOnto is for a recording that is there in some state, or (err) could not
// be committed anew.
func (l *Library) replayOnto(
	ctx context.Context, item *blobstore.SpoolItem, now, as *stored, m *spool.Meta, err error,
) error {
	switch {
	case err == nil && now != nil && now.State == StateDiscarded:
		return nil
	case errors.Is(err, errNotOurs), now != nil && now.State != StateWaiting && now.Blob != as.Blob:
		return l.replayAsOther(ctx, item, as, m)
	case err != nil:
		return err
	case now.State != StateLive:
		return l.lengthen(ctx, item, now)
	}
	return l.replayLive(ctx, item, as)
}

// replayAsOther makes a recording of its own of one whose place is taken. The
// new name is written down first, so that trying again finds it.
func (l *Library) replayAsOther(
	ctx context.Context, item *blobstore.SpoolItem, as *stored, m *spool.Meta,
) error {
	l.log.WarnContext(ctx, "place of a spooled recording is taken: it becomes another one",
		"recording_id", as.ID, "spool_id", item.Name())
	if as.Metadata == nil {
		as.Metadata = map[string]string{}
	}
	as.Metadata["spooled_recording"] = as.ID
	as.ID, as.Revision, as.tokenHash = rows.NewID(item.Created()), 0, nil
	as.configured = false // its mount is another's
	row, err := encodeRecording(as)
	if err != nil {
		return err
	}
	m.Record, m.Row, m.Revision = as.ID, row, 0
	meta, err := json.Marshal(m)
	if err == nil {
		err = item.SetMeta(meta)
	}
	if err == nil {
		err = l.commitDeferred(ctx, as)
	}
	if err != nil {
		return err
	}
	return l.replayLive(ctx, item, as)
}

// replayLive appends what is spooled to the recording's blob, seals and settles.
func (l *Library) replayLive(ctx context.Context, item *blobstore.SpoolItem, as *stored) error {
	err := l.writer.Begin(ctx, as.Blob, blobstore.Spec{Live: true, Created: as.Created})
	if err == nil {
		err = l.spool.Operations(ctx, item)
	}
	if errors.Is(err, blobstore.ErrSealed) { // by another node, which has not said so yet
		now, rerr := l.recording(ctx, as.ID)
		if rerr == nil && now.State != StateLive {
			return l.lengthen(ctx, item, now)
		}
		return errors.Join(ErrUnavailable, err, rerr)
	}
	if err != nil {
		return err
	}
	totals, err := blobstore.Reseal(ctx, l.writer, l.shelf, as.Blob)
	if err != nil {
		return err
	}
	o := outcomeOf(item)
	o.totals = totals
	if o.info, err = l.probe(ctx, as.Blob); err != nil {
		return err
	}
	return l.settle(ctx, as.ID, as.Blob, o)
}

// outcomeOf is how the source of a spooled recording ended.
func outcomeOf(item *blobstore.SpoolItem) outcome {
	var end spoolRecordingEnd
	raw, ended := item.End()
	if !ended || json.Unmarshal(raw, &end) != nil {
		return outcome{by: EndedByNode, ended: time.Now()}
	}
	return outcome{by: end.By, ended: time.UnixMilli(end.EndedMS)}
}

// lengthen adds what is spooled to a recording that others sealed without it:
// its bytes so far and these become a new blob, and the recording and its item
// refer to that.
func (l *Library) lengthen(ctx context.Context, item *blobstore.SpoolItem, now *stored) error {
	start, end := item.Extent()
	if end <= now.Size {
		return nil // they had it all
	}
	if start > now.Size {
		return fmt.Errorf("recording %s has %d bytes, spooled are %d to %d: %w", now.ID, now.Size, start, end,
			blobstore.ErrCorrupt)
	}
	recorder := blobstore.NewRecorder(ctx, l.writer, blobstore.RecorderConfig{Buffers: l.buffers})
	err := l.copyBoth(ctx, recorder, item, now, end)
	var o outcome
	var blob blobstore.ID
	if err == nil {
		blob, o.totals, err = recorder.Seal(ctx)
	}
	if err != nil {
		return errors.Join(err, recorder.Abort(ctx))
	}
	if o.info, err = l.probe(ctx, blob); err != nil {
		return err
	}
	old := now.Blob
	_, err = l.rows.Write(ctx, func() (blobstore.Txn, error) {
		s, err := l.recording(ctx, now.ID)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if s.Blob != old {
			return blobstore.Txn{}, rows.ErrDone
		}
		return l.lengthened(ctx, s, blob, &o)
	})
	if errors.Is(err, rows.ErrDone) {
		return nil
	}
	return err
}

// copyBoth writes what the recording has and then what is spooled.
func (l *Library) copyBoth(
	ctx context.Context, to io.Writer, item *blobstore.SpoolItem, now *stored, end int64,
) error {
	r, err := l.shelf.Open(ctx, now.Blob)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it was only read
	n, err := io.Copy(to, r)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, io.NewSectionReader(item, n, end-n))
	return err
}

// lengthened is the change from a recording's old blob to a longer one.
func (l *Library) lengthened(
	ctx context.Context, s *stored, blob blobstore.ID, o *outcome,
) (blobstore.Txn, error) {
	c := l.newChange()
	old, key := s.Blob, recordingKey(s.ID)
	s.Blob, s.Size, s.SHA256 = blob, o.totals.Size, o.totals.SHA256.String()
	if o.info != nil {
		s.Audio, s.DurationMS = o.info, o.info.Duration().Milliseconds()
	}
	if s.State == StateStored {
		before, err := l.current(ctx, s.ItemAccount, s.Item)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if before != nil && before.Blob == old && s.Audio != nil {
			d := *before
			d.sounds(&sound{blob: blob, totals: o.totals, info: *s.Audio})
			d.Truncated = before.Truncated
			c.replaceDocument(ctx, before, &d)
		} else {
			c.Put(blobstore.RefKey(blob, key), rows.EncodeText(""))
		}
	} else {
		c.Remove(blobstore.RefKey(old, key))
		c.Put(blobstore.RefKey(blob, key), rows.EncodeText(""))
	}
	c.putRecording(s)
	return c.Done()
}
