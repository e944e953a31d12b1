package export

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"carillon/blobstore"
	"carillon/library/delivery"
	"carillon/library/fault"
	"carillon/library/feed"
	"carillon/library/naming"
	"carillon/library/rows"
)

const (
	// targetURLBytesMax and targetHeaderBytesMax bound what a target is kept
	// as; a presigned URL of S3 has some 1,500 bytes.
	targetURLBytesMax    = 4 << 10
	targetHeaderBytesMax = 4 << 10
	// pauseMin and pauseMax are the first and the longest pause
	// between tries; each is twice the last, give or take a quarter, so that
	// a target that comes back is not met by all at once.
	pauseMin = 5 * time.Second
	pauseMax = 15 * time.Minute
	// giveUp is how long an export is tried: a long weekend.
	giveUp = 72 * time.Hour
	// leaseFor is how long a node has an export for itself. It renews it
	// while it sends; one that died is followed by another after this.
	leaseFor = 30 * time.Second
	// kept is how long one that is done is shown.
	kept = 24 * time.Hour
)

// Target is where sound is sent to.
type Target struct {
	URL     string            `json:"url"`
	Method  string            `json:"method"`  // PUT (also "") or POST
	Headers map[string]string `json:"headers"` // sent with it: credentials, content-type
	// DeleteAfter discards the recording, or deletes the item, once the target
	// has taken it.
	DeleteAfter bool `json:"delete_after"`
}

// State is where an export is in its life: queued ⇄ running → done |
// failed; a failed one may be queued again.
type State string

// The states of an export.
const (
	Queued  State = "queued"  // waits for its next try
	Running State = "running" // a node is sending
	Failed  State = "failed"  // given up; the sound is kept until it is retried or removed
	Done    State = "done"    // the target answered 2xx
)

// Order is the order to send the sound of a recording or an item to a URL. It
// keeps the sound until the target has it, whatever becomes of what it was of.
type Order struct {
	ID      string `json:"id"`
	Account string `json:"account"`
	// RecordingID is that of the recording, Item the id in Account of the item,
	// whose sound it is.
	RecordingID string `json:"recording_id,omitempty"`
	Item        string `json:"item,omitempty"`
	// Target is the URL without its user, password and query, which may be
	// secrets; Headers are only the names of those that are sent.
	Target      string   `json:"target"`
	Method      string   `json:"method"`
	Headers     []string `json:"headers,omitempty"`
	DeleteAfter bool     `json:"delete_after,omitempty"`
	State       State    `json:"state"`
	Revision    uint64   `json:"revision"`
	ContentType string   `json:"content_type"`
	Size        int64    `json:"content_length"`
	SHA256      string   `json:"sha256"`
	// Attempts were made so far, and Error is what became of the last.
	Attempts int        `json:"attempts"`
	Error    string     `json:"error,omitempty"`
	Node     string     `json:"node,omitempty"` // that makes or made the last attempt
	Created  time.Time  `json:"created"`
	NextTry  *time.Time `json:"next_try,omitempty"`
	Ended    *time.Time `json:"ended,omitempty"`
}

// Job is an Order with what is shown to nobody.
type Job struct {
	Order

	Blob    blobstore.ID
	url     string
	headers map[string]string
	// due is when somebody must look at it again: the next try of a queued
	// one, the end of the lease of a running one.
	due time.Time
	// since is when it was queued first, or queued again by hand.
	since time.Time
}

// Check checks a target and fills in its defaults.
func (q *Queue) Check(t *Target) error {
	if q.deps.Sender == nil {
		return fmt.Errorf("this node sends nothing: %w", fault.ErrTarget)
	}
	if t.Method = cmp.Or(t.Method, http.MethodPut); t.Method != http.MethodPut && t.Method != http.MethodPost {
		return fmt.Errorf("method %s, want PUT or POST: %w", naming.Shown(t.Method), fault.ErrBadRequest)
	}
	if len(t.URL) > targetURLBytesMax {
		return fmt.Errorf("url of %d bytes, at most %d: %w", len(t.URL), targetURLBytesMax, fault.ErrBadRequest)
	}
	size := 0
	for name, value := range t.Headers {
		size += len(name) + len(value)
	}
	if size > targetHeaderBytesMax {
		return fmt.Errorf("headers of %d bytes, at most %d: %w", size, targetHeaderBytesMax, fault.ErrBadRequest)
	}
	if err := q.deps.Sender.CheckTarget(t.URL); err != nil {
		return err
	}
	return q.deps.Sender.CheckHeader(t.Headers)
}

// Sound is what is to be sent: of a recording, or of the item Account/Item.
type Sound struct {
	Account     string
	RecordingID string
	Item        string
	Blob        blobstore.ID
	ContentType string
	Size        int64  // bytes
	SHA256      string // in hexadecimal
}

// NewJob orders a sound to be sent from a time on. Target has passed Queue.Check.
func NewJob(s *Sound, t *Target, from time.Time) *Job {
	now := time.Now().UTC().Truncate(time.Millisecond)
	j := &Job{
		Order: Order{
			ID: rows.NewID(now), Account: s.Account, RecordingID: s.RecordingID, Item: s.Item,
			Target: delivery.ShownURL(t.URL), Method: t.Method, Headers: headerNames(t.Headers),
			DeleteAfter: t.DeleteAfter, ContentType: s.ContentType, Size: s.Size, SHA256: s.SHA256, Created: now,
		},
		Blob: s.Blob, url: t.URL, headers: t.Headers, since: now,
	}
	j.wait(from)
	return j
}

// GoesTo says whether a job sends its sound to that target, too.
func (e *Job) GoesTo(t *Target) bool { return e.url == t.URL && e.Method == t.Method }

// wait queues the export for a try at the given time.
func (e *Job) wait(next time.Time) {
	next = next.UTC().Truncate(time.Millisecond)
	e.State, e.due, e.NextTry = Queued, next, &next
}

// pauseAfter is how long to wait after so many attempts.
func pauseAfter(attempts int) time.Duration {
	pause := pauseMin << min(max(attempts-1, 0), 10)
	pause = min(pause, pauseMax)
	return pause*3/4 + rand.N(pause/2) //nolint:gosec // spreads load, keeps no secret
}

func headerNames(headers map[string]string) []string {
	if len(headers) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(headers))
}

// Put writes e over the revision that it was read at; 0: a new one.
func (e *Job) Put(c *rows.Change) {
	value, err := encode(e)
	c.Fail(err)
	c.Expect(Prefix+e.ID, e.Revision)
	c.Put(Prefix+e.ID, value)
	if e.State == Done {
		c.Remove(openPrefix + e.ID)
		c.Put(donePrefix+e.ID, rows.EncodeText(""))
		c.Remove(blobstore.RefKey(e.Blob, Prefix+e.ID))
		return
	}
	c.Put(openPrefix+e.ID, encodeOpen(e.State, e.due))
	c.Put(blobstore.RefKey(e.Blob, Prefix+e.ID), rows.EncodeText(""))
}

// Remove takes a job away, and its hold on the sound.
func (e *Job) Remove(c *rows.Change) {
	c.Expect(Prefix+e.ID, e.Revision)
	c.Remove(Prefix + e.ID)
	c.Remove(openPrefix + e.ID)
	c.Remove(donePrefix + e.ID)
	c.Remove(blobstore.RefKey(e.Blob, Prefix+e.ID))
}

// event is what is said of an export.
func event(e *Job) feed.Event {
	detail := e.Method + " " + e.Target
	if e.Error != "" {
		detail = e.Error // it names the target
	}
	if e.Item != "" {
		detail = e.Item + ": " + detail
	}
	return feed.Event{
		Account: e.Account, RecordingID: e.RecordingID, SHA256: e.SHA256, Size: e.Size, Node: e.Node,
		ID: e.ID, Detail: detail,
	}
}
