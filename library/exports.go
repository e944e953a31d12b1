package library

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/export"
	"carillon/library/feed"
	"carillon/library/field"
	"carillon/library/naming"
	"carillon/library/rows"
)

// ExportRecording orders the sound of an ended recording to be sent to a
// target and returns at once; the order is durable and carried out by some
// node. With store (nil: not) it becomes an item in the same step. The same
// target again, while that is still open, is the same export.
func (l *Library) ExportRecording(
	ctx context.Context, recordingID string, target export.Target, store *StoreRequest,
) (export.Order, error) {
	if err := l.exports.Check(&target); err != nil {
		return export.Order{}, err
	}
	if store != nil {
		if target.DeleteAfter {
			return export.Order{}, fmt.Errorf("delete_after of a recording that becomes an item: %w", ErrBadRequest)
		}
		if err := store.check(); err != nil {
			return export.Order{}, err
		}
	}
	var e *export.Job
	revision, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		s, err := l.recordingPast(ctx, recordingID, StateWaiting, StateLive)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if e, err = l.openExport(ctx, s, &target); err != nil || e != nil {
			return blobstore.Txn{}, errors.Join(err, rows.ErrDone)
		}
		if err := l.exports.Room(ctx); err != nil {
			return blobstore.Txn{}, err
		}
		return l.exportTxn(ctx, s, &target, store, &e)
	})
	if errors.Is(err, rows.ErrDone) && e != nil {
		return e.Order, nil
	}
	if err != nil {
		return export.Order{}, fmt.Errorf("export recording %s: %w", recordingID, err)
	}
	e.Revision = revision
	l.exports.Poke()
	return e.Order, nil
}

// ItemExport orders an item to be sent somewhere.
type ItemExport struct {
	ItemName
	// Target without a URL is where the account's own recordings go: below
	// export.url of its settings, with their headers.
	export.Target
	IfMatch string `json:"-"` // the raw header
}

// ExportItem orders the sound of an item to be sent to a target, as
// ExportRecording does. What is sent is the sound that it has now, whatever
// replaces it meanwhile. Each call is an order of its own. ErrNotFound,
// ErrPrecondition, ErrTarget, ErrLimit, field.Errors.
func (l *Library) ExportItem(ctx context.Context, r ItemExport) (export.Order, error) {
	if err := naming.CheckItem(r.Account, r.ID); err != nil {
		return export.Order{}, err
	}
	if r.URL != "" {
		if err := l.exports.Check(&r.Target); err != nil {
			return export.Order{}, err
		}
	}
	var e *export.Job
	revision, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		d, err := l.Get(ctx, r.Account, r.ID, Fresh)
		if err == nil {
			err = checkConditions(r.IfMatch, "", d.ETag(), d.RevisionTag())
		}
		if err != nil {
			return blobstore.Txn{}, err
		}
		target := r.Target
		if target.URL == "" {
			if err := l.toAccountTarget(ctx, &target, &d); err != nil {
				return blobstore.Txn{}, err
			}
		}
		if err := l.exports.Room(ctx); err != nil {
			return blobstore.Txn{}, err
		}
		c := l.newChange()
		c.Expect(mediaKey(d.Account, d.ID), d.Revision) // its sound is still there
		e = export.NewJob(&export.Sound{
			Account: d.Account, Item: d.ID, Blob: d.Blob, ContentType: d.ContentType, Size: d.Size, SHA256: d.SHA256,
		}, &target, time.Now())
		e.Put(c.Change)
		return c.Done()
	})
	if err != nil {
		return export.Order{}, fmt.Errorf("export %s: %w", r.ItemName, err)
	}
	e.Revision = revision
	l.exports.Poke()
	return e.Order, nil
}

// toAccountTarget fills in where the account of an item has its sound sent.
func (l *Library) toAccountTarget(ctx context.Context, t *export.Target, d *Document) error {
	settings, err := l.settings(ctx, d.Account)
	if err != nil {
		return err
	}
	if settings.Export.URL == "" {
		return field.Errors{"url": {Code: field.Required, Message: "is needed: the account has no export.url"}}
	}
	own := settings.exportTarget(d)
	t.URL = own.URL
	for name, value := range t.Headers { // over the account's
		maps.DeleteFunc(own.Headers, func(n, _ string) bool { return strings.EqualFold(n, name) })
		own.Headers[name] = value
	}
	t.Headers = own.Headers
	return l.exports.Check(t)
}

// exportTarget is where the account has an item's sound sent: below its URL,
// under the item's id.
func (s *AccountSettings) exportTarget(d *Document) export.Target {
	id := url.URL{Path: "/" + withExt(d.ID, d.Audio.Format)}
	base, query, _ := strings.Cut(s.Export.URL, "?")
	t := export.Target{URL: strings.TrimSuffix(base, "/") + id.EscapedPath(), Headers: map[string]string{}}
	if query != "" {
		t.URL += "?" + query
	}
	for name, value := range s.Export.Headers {
		t.Headers[name] = value.Reveal()
	}
	return t
}

func (l *Library) exportTxn(
	ctx context.Context, s *stored, target *export.Target, store *StoreRequest, e **export.Job,
) (blobstore.Txn, error) {
	c := l.newChange()
	switch {
	case s.State == StateStored && store == nil:
		if _, err := l.itemOf(ctx, s); err != nil {
			return blobstore.Txn{}, err // its sound may be gone
		}
	case s.checkKept() != nil:
		return blobstore.Txn{}, s.checkKept()
	case store != nil:
		if _, err := l.storeInto(ctx, c, s, store); err != nil {
			return blobstore.Txn{}, err
		}
	}
	*e = export.NewJob(s.sound(), target, time.Now())
	s.ExportID = (*e).ID
	(*e).Put(c.Change)
	c.putRecording(s)
	return c.Done()
}

// openExport is the last export of s if that is open and has this target,
// else nil.
func (l *Library) openExport(ctx context.Context, s *stored, target *export.Target) (*export.Job, error) {
	if s.ExportID == "" {
		return nil, nil //nolint:nilnil // none is an answer here
	}
	e, err := l.exports.Job(ctx, s.ExportID)
	if errors.Is(err, ErrNotFound) || err == nil &&
		(e.State == export.Done || !e.GoesTo(target)) {
		return nil, nil //nolint:nilnil // as above
	}
	return e, err
}

// sound is a recording as it is sent.
func (s *stored) sound() *export.Sound {
	return &export.Sound{
		Account: s.Account, RecordingID: s.ID, Blob: s.Blob, ContentType: s.ContentType, Size: s.Size,
		SHA256: s.SHA256,
	}
}

// exportFrom is when what has ended may be sent: one that may be taken over
// not before that is over.
func (l *Library) exportFrom(s *stored) time.Time {
	now := time.Now()
	if l.continuable(s, now) {
		return s.Ended.Add(l.cfg.TakeoverGrace)
	}
	return now
}

// exportStored adds the export that the account wants of every recording which
// is stored into it.
func (l *Library) exportStored(ctx context.Context, c *change, s *stored, d *Document) error {
	settings, err := l.settings(ctx, d.Account)
	if err != nil || !settings.Export.OnStore || settings.Export.URL == "" || l.deps.Sender == nil {
		return err
	}
	t := settings.exportTarget(d)
	if err := l.exports.Check(&t); err != nil {
		// The rules of this node have changed since the settings were made. The
		// sound is stored all the same.
		l.log.ErrorContext(ctx, "account's export is not allowed here", "account", d.Account, "error", err)
		return nil
	}
	e := export.NewJob(s.sound(), &t, l.exportFrom(s))
	e.Account = d.Account
	s.ExportID = e.ID
	e.Put(c.Change)
	return nil
}

// sounds is the library as export.Queue sees it.
type sounds struct{ l *Library }

// Sent discards the recording that was to live only until it was sent, unless
// it has become an item or holds other sound; and deletes such an item.
func (x sounds) Sent(ctx context.Context, rc *rows.Change, e *export.Job) error {
	switch {
	case !e.DeleteAfter:
		return nil
	case e.Item != "":
		return x.itemSent(ctx, rc, e)
	}
	s, err := x.l.recording(ctx, e.RecordingID)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.Blob != e.Blob || s.State != StateSealed && s.State != StateTruncated {
		return nil
	}
	c := &change{rc, x.l.rows}
	c.letGo(s)
	s.State, s.EndedBy = StateDiscarded, EndedByExport
	c.putRecording(s)
	c.event(feed.RecordingDiscarded, recordingEvent(&s.Recording))
	return nil
}

func (x sounds) itemSent(ctx context.Context, rc *rows.Change, e *export.Job) error {
	d, err := x.l.current(ctx, e.Account, e.Item)
	if err != nil || d == nil || d.AliasOf != "" || d.Blob != e.Blob {
		return err
	}
	c := &change{rc, x.l.rows}
	c.deleteDocument(ctx, d, deletion{DeletedByExport, time.Now(), x.l.cfg.UndeleteWindow})
	return nil
}
