package library

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/feed"
	"carillon/library/naming"
	"carillon/library/rows"
)

const (
	// targetURLBytesMax and targetHeaderBytesMax bound what a target is kept
	// as; a presigned URL of S3 has some 1,500 bytes.
	targetURLBytesMax    = 4 << 10
	targetHeaderBytesMax = 4 << 10
	// exportPauseMin and exportPauseMax are the first and the longest pause
	// between tries; each is twice the last, give or take a quarter, so that
	// a target that comes back is not met by all at once.
	exportPauseMin = 5 * time.Second
	exportPauseMax = 15 * time.Minute
	// exportGiveUp is how long an export is tried: a long weekend.
	exportGiveUp = 72 * time.Hour
	// exportLease is how long a node has an export for itself. It renews it
	// while it sends; one that died is followed by another after this.
	exportLease = 30 * time.Second
	// exportKept is how long one that is done is shown.
	exportKept = 24 * time.Hour
)

// ExportTarget is where sound is sent to.
type ExportTarget struct {
	URL     string            `json:"url"`
	Method  string            `json:"method"`  // PUT (also "") or POST
	Headers map[string]string `json:"headers"` // sent with it: credentials, content-type
	// DeleteAfter discards the recording once the target has taken it.
	DeleteAfter bool `json:"delete_after"`
}

// ExportState is where an export is in its life: queued ⇄ running → done |
// failed; a failed one may be queued again.
type ExportState string

// The states of an export.
const (
	ExportQueued  ExportState = "queued"  // waits for its next try
	ExportRunning ExportState = "running" // a node is sending
	ExportFailed  ExportState = "failed"  // given up; the sound is kept until it is retried or removed
	ExportDone    ExportState = "done"    // the target answered 2xx
)

// Export is the order to send the sound of a recording to a URL. It keeps the
// sound until the target has it, whatever becomes of the recording.
type Export struct {
	ID          string `json:"id"`
	Account     string `json:"account"`
	RecordingID string `json:"recording_id"`
	// Target is the URL without its user, password and query, which may be
	// secrets; Headers are only the names of those that are sent.
	Target      string      `json:"target"`
	Method      string      `json:"method"`
	Headers     []string    `json:"headers,omitempty"`
	DeleteAfter bool        `json:"delete_after,omitempty"`
	State       ExportState `json:"state"`
	Revision    uint64      `json:"revision"`
	ContentType string      `json:"content_type"`
	Size        int64       `json:"content_length"`
	SHA256      string      `json:"sha256"`
	// Attempts were made so far, and Error is what became of the last.
	Attempts int        `json:"attempts"`
	Error    string     `json:"error,omitempty"`
	Node     string     `json:"node,omitempty"` // that makes or made the last attempt
	Created  time.Time  `json:"created"`
	NextTry  *time.Time `json:"next_try,omitempty"`
	Ended    *time.Time `json:"ended,omitempty"`
}

// export is an Export with what only the library may see of it.
type export struct {
	Export
	blob    blobstore.ID
	url     string
	headers map[string]string
	// due is when somebody must look at it again: the next try of a queued
	// one, the end of the lease of a running one.
	due time.Time
	// since is when it was queued first, or queued again by hand.
	since time.Time
}

// checkTarget checks a target and fills in its defaults.
func (l *Library) checkTarget(t *ExportTarget) error {
	if l.deps.Sender == nil {
		return fmt.Errorf("this node sends nothing: %w", ErrTarget)
	}
	if t.Method = cmp.Or(t.Method, http.MethodPut); t.Method != http.MethodPut && t.Method != http.MethodPost {
		return fmt.Errorf("method %s, want PUT or POST: %w", naming.Shown(t.Method), ErrBadRequest)
	}
	if len(t.URL) > targetURLBytesMax {
		return fmt.Errorf("url of %d bytes, at most %d: %w", len(t.URL), targetURLBytesMax, ErrBadRequest)
	}
	size := 0
	for name, value := range t.Headers {
		size += len(name) + len(value)
	}
	if size > targetHeaderBytesMax {
		return fmt.Errorf("headers of %d bytes, at most %d: %w", size, targetHeaderBytesMax, ErrBadRequest)
	}
	if err := l.deps.Sender.CheckTarget(t.URL); err != nil {
		return err
	}
	return l.deps.Sender.CheckHeader(t.Headers)
}

// newExport orders the sound of s, which has ended, to be sent from then on.
func newExport(s *stored, t *ExportTarget, from time.Time) *export {
	now := time.Now().UTC().Truncate(time.Millisecond)
	e := &export{
		Export: Export{
			ID: rows.NewID(now), Account: s.Account, RecordingID: s.ID,
			Target: shownURL(t.URL), Method: t.Method, Headers: headerNames(t.Headers), DeleteAfter: t.DeleteAfter,
			ContentType: s.ContentType, Size: s.Size, SHA256: s.SHA256, Created: now,
		},
		blob: s.Blob, url: t.URL, headers: t.Headers, since: now,
	}
	e.wait(from)
	return e
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
// is stored into it: below its URL, under the item's id.
func (l *Library) exportStored(ctx context.Context, c *change, s *stored, d *Document) error {
	settings, err := l.settings(ctx, d.Account)
	if err != nil || !settings.Export.OnStore || settings.Export.URL == "" || l.deps.Sender == nil {
		return err
	}
	id := url.URL{Path: "/" + withExt(d.ID, d.Audio.Format)}
	base, query, _ := strings.Cut(settings.Export.URL, "?")
	t := ExportTarget{URL: strings.TrimSuffix(base, "/") + id.EscapedPath(), Headers: map[string]string{}}
	if query != "" {
		t.URL += "?" + query
	}
	for name, value := range settings.Export.Headers {
		t.Headers[name] = value.Reveal()
	}
	if err := l.checkTarget(&t); err != nil {
		// The rules of this node have changed since the settings were made. The
		// sound is stored all the same.
		l.log.ErrorContext(ctx, "account's export is not allowed here", "account", d.Account, "error", err)
		return nil
	}
	e := newExport(s, &t, l.exportFrom(s))
	e.Account = d.Account
	s.ExportID = e.ID
	c.putExport(e)
	return nil
}

// wait queues the export for a try at the given time.
func (e *export) wait(next time.Time) {
	next = next.UTC().Truncate(time.Millisecond)
	e.State, e.due, e.NextTry = ExportQueued, next, &next
}

// pauseAfter is how long to wait after so many attempts.
func pauseAfter(attempts int) time.Duration {
	pause := exportPauseMin << min(max(attempts-1, 0), 10)
	pause = min(pause, exportPauseMax)
	return pause*3/4 + rand.N(pause/2) //nolint:gosec // spreads load, keeps no secret
}

// shownURL is a URL without what may be secret in it.
func shownURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

func headerNames(headers map[string]string) []string {
	if len(headers) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(headers))
}

// putExport writes e over the revision that it was read at; 0: a new one.
func (c *change) putExport(e *export) {
	value, err := encodeExport(e)
	c.Fail(err)
	c.Expect(exportKey(e.ID), e.Revision)
	c.Put(exportKey(e.ID), value)
	if e.State == ExportDone {
		c.Remove(exportOpenKey(e.ID))
		c.Put(exportDoneKey(e.ID), rows.EncodeText(""))
		c.Remove(blobstore.RefKey(e.blob, exportKey(e.ID)))
		return
	}
	c.Put(exportOpenKey(e.ID), encodeOpen(e.State, e.due))
	c.Put(blobstore.RefKey(e.blob, exportKey(e.ID)), rows.EncodeText(""))
}

// removeExport takes an export away, and its hold on the sound.
func (c *change) removeExport(e *export) {
	c.Expect(exportKey(e.ID), e.Revision)
	c.Remove(exportKey(e.ID))
	c.Remove(exportOpenKey(e.ID))
	c.Remove(exportDoneKey(e.ID))
	c.Remove(blobstore.RefKey(e.blob, exportKey(e.ID)))
}

// exportEvent is what is said of an export.
func exportEvent(e *export) feed.Event {
	detail := e.Method + " " + e.Target
	if e.Error != "" {
		detail = e.Error // it names the target
	}
	return feed.Event{
		Account: e.Account, RecordingID: e.RecordingID, SHA256: e.SHA256, Size: e.Size, Node: e.Node,
		ID: e.ID, Detail: detail,
	}
}
