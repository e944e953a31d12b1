package library

import (
	"context"
	"io"
	"iter"
	"time"

	"carillon/blobstore"
	"carillon/library/backup"
	"carillon/library/export"
	"carillon/library/feed"
	"carillon/library/restore"
	"carillon/library/spool"
	"carillon/library/webhook"
)

// Events returns the next events after q.After, at most limit. ErrTrimmed: some
// of them are not kept any more, or the position is of another cluster.
func (l *Library) Events(ctx context.Context, q feed.Query, limit int) (feed.Page, error) {
	return l.feed.Read(ctx, q, limit)
}

// EventsNow is the position after everything that this node has applied.
func (l *Library) EventsNow() feed.Position { return l.feed.Now() }

// WatchEvents returns a channel that is closed when an event comes after the
// call. Call it before Events, so that nothing falls between the two.
func (l *Library) WatchEvents() (changed <-chan struct{}, cancel func()) { return l.feed.Watch() }

// FeedStatus is what there is to read of the change feed, and how its webhooks
// do.
type FeedStatus struct {
	feed.Status

	// Webhooks are how many webhooks do how.
	Webhooks map[webhook.State]int `json:"webhooks"`
}

// FeedStatus describes the feed as this node knows it.
func (l *Library) FeedStatus(ctx context.Context) (FeedStatus, error) {
	s, err := l.feed.Status(ctx)
	if err != nil {
		return FeedStatus{}, err
	}
	counts, err := l.webhooks.Counts(ctx)
	return FeedStatus{s, counts}, err
}

// PutWebhook makes a webhook or changes it, and says whether it is new. Its
// position stays unless r.After says otherwise; one that was disabled because
// it failed is tried again.
func (l *Library) PutWebhook(
	ctx context.Context, id string, r webhook.Request,
) (webhook.Status, bool, error) {
	return l.webhooks.Put(ctx, id, r)
}

// Webhook returns a webhook and how it does.
func (l *Library) Webhook(ctx context.Context, id string) (webhook.Status, error) {
	return l.webhooks.Get(ctx, id)
}

// Webhooks lists all, in the order of their ids.
func (l *Library) Webhooks(ctx context.Context) ([]webhook.Status, error) {
	return l.webhooks.List(ctx)
}

// TestWebhook posts a delivery without events and tells what came of it.
func (l *Library) TestWebhook(ctx context.Context, id string) (webhook.Trial, error) {
	return l.webhooks.Try(ctx, id)
}

// DeleteWebhook removes a webhook; ErrNotFound when there is none.
func (l *Library) DeleteWebhook(ctx context.Context, id string) error {
	return l.webhooks.Delete(ctx, id)
}

// Exports lists exports in the order in which they were made, and the After of
// the following page, "" at the end.
func (l *Library) Exports(
	ctx context.Context, q export.Query,
) (found []export.Order, next string, err error) {
	return l.exports.List(ctx, q)
}

// Export returns an export.
func (l *Library) Export(ctx context.Context, id string) (export.Order, error) {
	return l.exports.Get(ctx, id)
}

// RetryExport tries an export that waits, or was given up, again at once, and
// from then on as if it were new. One that is running or done is left alone.
func (l *Library) RetryExport(ctx context.Context, id string) (export.Order, error) {
	return l.exports.Retry(ctx, id)
}

// RemoveExport takes an export back, in any state: whoever sends it stops. The
// sound stays with its recording or item if that is still there; if it is not,
// it is freed.
func (l *Library) RemoveExport(ctx context.Context, id string) error {
	return l.exports.Remove(ctx, id)
}

// Spooled lists what waits on this node, in the order of arrival.
func (l *Library) Spooled() []spool.Entry { return l.spool.Entries() }

// SpoolEntry says what became of a spooled item; ErrNotFound for one that this
// node does not know any more.
func (l *Library) SpoolEntry(id string) (spool.Entry, error) { return l.spool.Entry(id) }

// BackupRows yields the rows of a backup from one view, in order of their keys;
// see [backup.Source.Rows]. Call Hold first.
func (l *Library) BackupRows(
	ctx context.Context, since uint64,
) (found iter.Seq2[backup.Row, error], position *uint64) {
	return l.source().Rows(ctx, since)
}

// Hold keeps all blobs from being swept for backup.HoldTTL, and says until when.
// An empty id makes a hold, that of one prolongs it.
func (l *Library) Hold(ctx context.Context, id string) (string, time.Time, error) {
	return l.source().Hold(ctx, id)
}

// Release ends a hold. One that is not there: success.
func (l *Library) Release(ctx context.Context, id string) error { return l.source().Release(ctx, id) }

// BackupBlob opens a blob by its id; the caller must close it.
func (l *Library) BackupBlob(ctx context.Context, id string) (*blobstore.Reader, error) {
	return l.source().Blob(ctx, id)
}

func (l *Library) source() backup.Source { return backup.Source{Catalog: l.rows, Shelf: l.shelf} }

// BeginRestore prepares for a backup, which source names, and says whether its
// restore was begun before.
func (l *Library) BeginRestore(ctx context.Context, source string, merge bool) (again bool, err error) {
	return l.restore.Begin(ctx, source, merge)
}

// EndRestore says that everything has been restored. Again: success.
func (l *Library) EndRestore(ctx context.Context) error { return l.restore.End(ctx) }

// RestoredBlob says whether the blob is here already, whole and the same.
func (l *Library) RestoredBlob(ctx context.Context, spec backup.Blob) (bool, error) {
	return l.restore.Has(ctx, spec)
}

// RestoreBlob stores a blob under the id that it had.
func (l *Library) RestoreBlob(ctx context.Context, spec backup.Blob, body io.Reader) error {
	return l.restore.Blob(ctx, spec, body)
}

// RestoreRows writes rows that belong together in one commit.
func (l *Library) RestoreRows(ctx context.Context, found []backup.Row, merge bool) (restore.Report, error) {
	return l.restore.Rows(ctx, found, merge)
}
