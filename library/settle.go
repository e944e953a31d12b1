package library

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/library/export"
	"carillon/library/feed"
	"carillon/library/rows"
)

// outcome is what became of a live recording.
type outcome struct {
	totals blobstore.Totals
	info   *audio.Info // nil: no audio
	// unheard is why it is no audio, if that is known.
	unheard error
	by      EndedBy
	ended   time.Time
	// warning is the recording's.
	warning string
	// describe adds what the source said of itself; nil: nothing.
	describe func(*Recording)
}

// truncated says whether the source had more to say. At a limit of its ticket
// it has said what was asked of it.
func (b EndedBy) truncated() bool {
	return b != EndedBySource && b != EndedByMaxSeconds && b != EndedByMaxBytes
}

// settle commits the end of the live recording whose blob is sealed: its
// state, and, when it is to be stored, its item, in one step. A recording that
// was ended by others meanwhile is left as it is.
func (l *Library) settle(ctx context.Context, id string, blob blobstore.ID, o outcome) error {
	how := ""
	o.warning = l.bufferingWarning(ctx, blob, &o)
	_, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		s, err := l.recording(ctx, id)
		if errors.Is(err, ErrNotFound) || err == nil && (s.State != StateLive || s.Blob != blob) {
			return blobstore.Txn{}, rows.ErrDone
		}
		if err != nil {
			return blobstore.Txn{}, err
		}
		c := l.newChange()
		if err := l.releaseMount(ctx, c, s); err != nil {
			return blobstore.Txn{}, err
		}
		if err := l.conclude(ctx, c, s, &o); err != nil {
			return blobstore.Txn{}, err
		}
		how = s.how
		return c.Done()
	})
	if errors.Is(err, rows.ErrDone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("settle recording %s: %w", id, err)
	}
	l.metrics.ended(how)
	l.exports.Poke()
	if o.warning != "" {
		l.log.WarnContext(ctx, "recording holds only the silence that FreeSWITCH sends of a short call: "+
			"set enable_file_write_buffering=false there", "recording_id", id)
	}
	return nil
}

// conclude writes what became of s, whose sound is sealed, and does with it
// what its ticket says.
func (l *Library) conclude(ctx context.Context, c *change, s *stored, o *outcome) error {
	s.how = o.apply(s)
	o.tell(c, s)
	if s.State == StateDiscarded {
		c.letGo(s)
		c.putRecording(s)
		return nil
	}
	c.Remove(activeKey(s.ID))
	if err := l.passOn(ctx, c, s); err != nil {
		return err
	}
	c.putRecording(s)
	return nil
}

// passOn stores and sends what has just ended as its ticket says. One that may
// be taken over is sent when that is over.
func (l *Library) passOn(ctx context.Context, c *change, s *stored) error {
	if err := s.checkKept(); err != nil {
		return nil //nolint:nilerr // nothing to pass on
	}
	if err := l.dropReplaced(ctx, c, s); err != nil {
		return err
	}
	if s.target != nil {
		e := export.NewJob(s.sound(), s.target, l.exportFrom(s))
		s.ExportID = e.ID
		e.Put(c.Change)
	}
	if s.StoreAs == "" {
		return nil
	}
	_, err := l.storeInto(ctx, c, s, &StoreRequest{Account: s.Account, ID: s.StoreAs, unasked: true})
	return err
}

// apply writes the outcome into the recording and returns its state.
func (o *outcome) apply(s *stored) string {
	s.State = StateSealed
	if o.by.truncated() {
		s.State = StateTruncated
	}
	s.yields = false
	if o.describe != nil {
		o.describe(&s.Recording)
	}
	s.truncated, s.EndedBy, s.Warning = o.by.truncated(), o.by, o.warning
	ended := o.ended.UTC().Truncate(time.Millisecond)
	s.Ended = &ended
	if n := len(s.Segments); n > 0 {
		s.Segments[n-1].Ended = &ended
	}
	s.Size, s.SHA256 = o.totals.Size, o.totals.SHA256.String()
	if o.info != nil {
		s.Audio, s.DurationMS = o.info, o.info.Duration().Milliseconds()
		s.ContentType = o.info.Format.ContentType()
	}
	if s.tooShort(time.Duration(s.DurationMS) * time.Millisecond) {
		s.State, s.EndedBy = StateDiscarded, EndedByTooShort
	}
	return string(s.State)
}

// tell adds the events of a recording that has just ended.
func (o *outcome) tell(c *change, s *stored) {
	kind := feed.RecordingSealed
	switch s.State {
	case StateTruncated:
		kind = feed.RecordingTruncated
	case StateDiscarded:
		kind = feed.RecordingDiscarded
	case StateSealed, StateWaiting, StateLive, StateStored:
	}
	ended := recordingEvent(&s.Recording)
	ended.Warning, ended.Detail = s.Warning, "ended by "+string(s.EndedBy)
	c.event(kind, ended)
	if kind == feed.RecordingDiscarded {
		return
	}
	if s.Audio != nil && s.Size > 0 {
		return
	}
	e := recordingEvent(&s.Recording)
	e.Detail = "the source sent nothing"
	if s.Size > 0 {
		e.Detail = "what the source sent is no audio"
		if o.unheard != nil {
			e.Detail += ": " + o.unheard.Error()
		}
	}
	c.event(feed.RecordingFailed, e)
}

// recover seals what is there of a live recording whose source is gone with
// its node, or with that node's former life.
func (l *Library) recover(ctx context.Context, s *stored) error {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	o := outcome{by: EndedByNode, ended: time.Now()}
	totals, err := blobstore.Reseal(ctx, l.writer, l.shelf, s.Blob)
	switch {
	case errors.Is(err, blobstore.ErrNotFound): // it ended before the first byte was durable
		o.totals = blobstore.TotalsOf(nil)
	case err != nil:
		return fmt.Errorf("reseal recording %s: %w", s.ID, err)
	default:
		o.totals = totals
		if o.info, err = l.probe(ctx, s.Blob); err != nil {
			return fmt.Errorf("probe recording %s: %w", s.ID, err)
		}
	}
	if err := l.settle(ctx, s.ID, s.Blob, o); err != nil {
		return err
	}
	l.log.InfoContext(ctx, "recording was recovered", "recording_id", s.ID, "blob_id", s.Blob,
		"node_id", s.Node, "bytes", o.totals.Size)
	return nil
}

// dismiss ends a session whose recording is not live any more. A discarded
// one's blob is removed at once, not by the sweep, because listeners follow it
// and nobody will seal it.
func (l *Library) dismiss(ctx context.Context, s *Session) error {
	s.live.Drop()
	r, err := l.recording(ctx, s.id)
	if err == nil && r.State != StateDiscarded {
		return nil // sealed by others: its blob is in use
	}
	l.metrics.ended("discarded")
	return l.writer.Remove(ctx, s.blob)
}

// probe measures a blob by reading it; nil when it is no audio.
func (l *Library) probe(ctx context.Context, blob blobstore.ID) (*audio.Info, error) {
	r, err := l.shelf.Open(ctx, blob)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	var prober audio.Prober
	if _, err := io.Copy(&prober, r); err != nil {
		return nil, err
	}
	info, err := prober.Result()
	if err != nil {
		return nil, nil //nolint:nilnil // no audio is an answer here
	}
	return &info, nil
}
