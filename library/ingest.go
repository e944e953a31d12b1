package library

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"carillon/blobstore"
	"carillon/library/naming"
	"carillon/library/rows"
	"carillon/library/spool"
)

// IngestRequest is a recording that comes as a file: mod_http_cache, mod_httapi
// and kz_http_put record to the switch's own disk and PUT that when the call
// is over.
type IngestRequest struct {
	RecordingID string
	// Password is the ticket's. Trusted: the door has checked the client, by an
	// API token or by its network.
	Password    string
	Trusted     bool
	ContentType string // as the client declared it; the probe decides
	Length      int64  // of the body, or -1 when unknown
	RemoteAddr  string
}

// IngestRecording stores a file as the sound of a waiting recording, all of it
// or nothing, and says whether it was this call that did. The switch deletes
// its file after a success, so that means: durable on a majority, or, if there
// is none, in the spool of this node (SpoolID is set then). The same bytes
// again, as after an answer that got lost, are success; others are
// ErrTicketUsed.
func (l *Library) IngestRecording(
	ctx context.Context, r IngestRequest, body io.Reader,
) (Recording, bool, error) {
	s, err := l.admitIngest(ctx, &r)
	if err != nil {
		return Recording{}, false, err
	}
	limit, _ := l.bytesMax(&s.TicketLimits)
	if r.Length > limit {
		return Recording{}, false, fmt.Errorf("body of %d bytes, at most %d: %w", r.Length, limit, ErrTooLarge)
	}
	kept, opts := l.ingestSpool(s)
	to := l.writer
	if kept != nil {
		to = kept
	}
	began := time.Now()
	cut, body, length := s.within(body, r.Length, limit)
	sound, err := l.receive(ctx, to, body, length, limit)
	if err != nil {
		return Recording{}, false, fmt.Errorf("recording %s: %w", s.ID, err)
	}
	defer sound.release()
	o := outcome{totals: sound.totals, info: &sound.info, by: cut.end(), ended: time.Now()}
	if sound.whole != nil {
		o.warning = bufferingMark(sound.whole.Data, &sound.info)
	}
	if kept == nil || kept.Item() == nil {
		rec, created, err := l.ingestSound(ctx, s.ID, &sound, began, &o, kept != nil)
		if err == nil || kept == nil || !l.spool.Refused(ctx, err) {
			return rec, created, err
		}
	}
	d, err := l.putSpooled(ctx, kept, &upload{
		account: s.Account, id: opts.item, opts: opts.PutOptions, sound: sound,
		ingest: &spoolIngest{Recording: s.ID, By: o.by, Began: began, Warning: o.warning},
	})
	if err != nil {
		return Recording{}, false, fmt.Errorf("recording %s: %w", s.ID, err)
	}
	rec := s.Recording
	rec.SpoolID = d.SpoolID
	return rec, false, nil
}

// spoolOptions say what a file becomes that there is no leader for.
type spoolOptions struct {
	PutOptions

	item string
}

// ingestSpool is where the file of a recording goes without a leader, and what it
// becomes if its ticket cannot be used any more when there is one: the item that
// the ticket names, or one of the recording's name, which is where it is looked
// for. nil: nowhere.
func (l *Library) ingestSpool(s *stored) (*spool.Writer, spoolOptions) {
	o := spoolOptions{item: cmp.Or(s.StoreAs, s.Name)}
	o.Source, o.Metadata = sourceRecording, map[string]string{"recording_id": s.ID}
	maps.Copy(o.Metadata, s.Metadata)
	return l.spoolWriter(s.Account, o.item, &o.PutOptions), o
}

// ingestSound commits a file that has arrived. While there is none to lead it
// waits only for so long as a spool asks.
func (l *Library) ingestSound(
	ctx context.Context, id string, sound *sound, began time.Time, o *outcome, spooling bool,
) (Recording, bool, error) {
	if spooling {
		bounded, cancel := l.spool.WhileLed(ctx)
		defer cancel()
		ctx = bounded
	}
	return l.commitIngest(ctx, id, sound, began, o)
}

// commitIngest makes a file the sound of a recording, and says whether it was this
// call that did. ErrTicketUsed: it has another.
func (l *Library) commitIngest(
	ctx context.Context, id string, sound *sound, began time.Time, o *outcome,
) (Recording, bool, error) {
	s, err := l.ingested(ctx, id, sound, began, o)
	if errors.Is(err, rows.ErrDone) {
		if sound.whole == nil && s.Blob != sound.blob { // else nothing was written, or it is what was
			l.abandon(ctx, sound.blob)
		}
		return s.Recording, false, nil
	}
	if err != nil {
		// The blob has no reference, or may have one: the sweep decides.
		return Recording{}, false, fmt.Errorf("recording %s: %w", id, err)
	}
	l.metrics.ended(string(s.State))
	l.metrics.recordingBytes.Add(float64(s.Size))
	l.exports.Poke()
	return s.Recording, true, nil
}

// admitIngest refuses what can be refused before the body is read.
func (l *Library) admitIngest(ctx context.Context, r *IngestRequest) (*stored, error) {
	s, err := l.freshRecording(ctx, r.RecordingID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	if !r.Trusted {
		var hash [sha256.Size]byte // no password hashes to zeros
		if s != nil && err == nil {
			copy(hash[:], s.tokenHash)
		}
		given := sha256.Sum256([]byte(r.Password))
		if subtle.ConstantTimeCompare(given[:], hash[:]) != 1 {
			return nil, fmt.Errorf("recording %s: %w", naming.Shown(r.RecordingID), ErrUnauthorized)
		}
	}
	switch {
	case err != nil:
		return nil, err
	case !s.admits(r.RemoteAddr):
		return nil, fmt.Errorf("ticket of recording %s does not allow %s: %w", s.ID, r.RemoteAddr, ErrUnauthorized)
	case s.State == StateLive:
		return nil, fmt.Errorf("recording %s is %s: %w", s.ID, s.State, ErrState)
	}
	return s, checkContentType(r.ContentType)
}

// ingested commits that the waiting recording is that sound. rows.ErrDone: it has
// this very sound already.
func (l *Library) ingested(
	ctx context.Context, id string, sound *sound, began time.Time, o *outcome,
) (s *stored, err error) {
	revision, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		if s, err = l.freshRecording(ctx, id); err != nil {
			return blobstore.Txn{}, err
		}
		if s.State != StateWaiting {
			if s.SHA256 == o.totals.SHA256.String() {
				return blobstore.Txn{}, rows.ErrDone
			}
			return blobstore.Txn{}, fmt.Errorf("recording %s is %s: %w", s.ID, s.State, ErrTicketUsed)
		}
		started := began.UTC().Truncate(time.Millisecond)
		s.Blob, s.Node, s.Started = sound.blob, l.deps.NodeID, &started
		c := l.newChange()
		c.Urgent()
		c.Txn.Sound = sound.whole
		c.Put(nameKey(s.Account, s.Name, s.ID), rows.EncodeText(""))
		c.Put(blobstore.RefKey(sound.blob, recordingKey(s.ID)), rows.EncodeText(""))
		if err := l.conclude(ctx, c, s, o); err != nil {
			return blobstore.Txn{}, err
		}
		return c.Done()
	})
	if err == nil {
		s.Revision = revision
	}
	return s, err
}

// abandon removes a blob that nothing refers to. When that does not work the
// sweep does it.
func (l *Library) abandon(ctx context.Context, blob blobstore.ID) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWait)
	defer cancel()
	if err := l.writer.Remove(bounded, blob); err != nil {
		l.log.WarnContext(ctx, "blob is left to the sweep", "blob_id", blob, "error", err)
	}
}
