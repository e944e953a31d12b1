package library

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/naming"
	"carillon/library/rows"
)

// eventTrimKey holds the position up to which events were trimmed.
const eventTrimKey = "k1/events"

const (
	// EventsKeptDefault is a week: a consumer that fails on a Friday evening is
	// repaired without a loss.
	EventsKeptDefault = 7 * 24 * time.Hour
	// EventsMaxDefault bounds the catalog rows of the feed: some 40 MB.
	EventsMaxDefault = 100_000
	// EventPageMax bounds one page of events.
	EventPageMax = 500
	// eventScanMax is how many events one page looks at for those that are
	// wanted.
	eventScanMax = 5000
	// trimOpsMax is how many events one commit trims.
	trimOpsMax = blobstore.TxnOpsMax - 2
	// trimCommitsMax bounds the commits of one pass: 50,000 events, which at
	// one pass in half a minute is more than can come.
	trimCommitsMax = 200
	// eventKindsMax bounds the kinds a query names.
	eventKindsMax = 32
)

// EventQuery selects events. Zero fields select everything that is kept.
type EventQuery struct {
	After EventPosition
	// Oldest reads from the oldest event that is kept, whatever After says.
	Oldest  bool
	Account string
	// Kinds are kinds, or what they begin with: "media" is all that happens to
	// media.
	Kinds []string
}

func (q *EventQuery) check() error {
	if q.Account != "" {
		if err := naming.CheckAccount(q.Account); err != nil {
			return err
		}
	}
	return checkEventKinds(q.Kinds)
}

func checkEventKinds(kinds []string) error {
	if len(kinds) > eventKindsMax {
		return fmt.Errorf("%d kinds of events, at most %d: %w", len(kinds), eventKindsMax, ErrBadRequest)
	}
	for _, kind := range kinds {
		if !slices.ContainsFunc(EventKinds(), func(k EventKind) bool { return kindMatches(kind, k) }) {
			return fmt.Errorf("kind %s, want one of %v, or recording, media, export: %w",
				naming.Shown(kind), EventKinds(), ErrBadRequest)
		}
	}
	return nil
}

func kindMatches(wanted string, kind EventKind) bool {
	return wanted == string(kind) || strings.HasPrefix(string(kind), wanted+".")
}

func (q *EventQuery) wants(e *Event) bool {
	return (q.Account == "" || q.Account == e.Account) && (len(q.Kinds) == 0 ||
		slices.ContainsFunc(q.Kinds, func(k string) bool { return kindMatches(k, e.Kind) }))
}

// EventPage is some events in order. Next is where to read on: everything up
// to it has been looked at. More says that there are later events already.
type EventPage struct {
	Events []Event
	Next   EventPosition
	More   bool
}

// EventsNow is the position after everything that this node has applied.
func (l *Library) EventsNow() EventPosition {
	return EventPosition{l.rows.Applied(), blobstore.TxnOpsMax}
}

// WatchEvents returns a channel that is closed when an event comes after the
// call. Call it before Events, so that nothing falls between the two.
func (l *Library) WatchEvents() (changed <-chan struct{}, cancel func()) {
	return l.rows.Watch(eventPrefix)
}

// Events returns the next events after q.After, at most limit. ErrTrimmed: some
// of them are not kept any more, or the position is of another cluster.
func (l *Library) Events(ctx context.Context, q EventQuery, limit int) (EventPage, error) {
	if err := errors.Join(q.check(), l.checkNotAhead(ctx, q.After)); err != nil {
		return EventPage{}, err
	}
	page, err := l.scanEvents(ctx, &q, limit)
	if err != nil || q.Oldest {
		return page, err
	}
	return page, l.checkKept(ctx, q.After) // after the scan: nothing was trimmed before or in it
}

// scanEvents reads one page.
func (l *Library) scanEvents(ctx context.Context, q *EventQuery, limit int) (EventPage, error) {
	if limit < 1 || limit > EventPageMax {
		limit = EventPageMax
	}
	page := EventPage{Next: q.After}
	now, after, rows := l.EventsNow(), "", 0 // now before the scan: it may only be too small
	if !q.Oldest && q.After != (EventPosition{}) {
		after = eventKeyAfter(q.After)
	}
	for row, err := range l.rows.Scan(ctx, eventPrefix, after) {
		if err != nil {
			return EventPage{}, fmt.Errorf("events: %w", err)
		}
		if len(page.Events) == limit || rows == eventScanMax {
			page.More = true
			break
		}
		rows++
		e, err := decodeEvent(row)
		if err != nil {
			return EventPage{}, err
		}
		if page.Next = e.Position; q.wants(&e) {
			page.Events = append(page.Events, e)
		}
	}
	if !page.More && now.After(page.Next) {
		page.Next = now
	}
	return page, nil
}

// eventKeyAfter is the greatest key at or before a position.
func eventKeyAfter(p EventPosition) string {
	if p.Number >= blobstore.TxnOpsMax {
		return blobstore.AppendedKey(eventPrefix, p.Revision, 0xff)
	}
	return blobstore.AppendedKey(eventPrefix, p.Revision, p.Number)
}

// checkNotAhead refuses a position that the log has not reached: it is from
// another cluster, or from before a restore, and its reader would wait for
// ever and miss what comes.
func (l *Library) checkNotAhead(ctx context.Context, p EventPosition) error {
	if p.Revision <= l.rows.Applied() {
		return nil
	}
	if err := l.rows.Fresh(ctx); err != nil {
		return err
	}
	if applied := l.rows.Applied(); p.Revision > applied {
		return fmt.Errorf("event position %s is beyond the log, which is at %d: %w", p, applied, ErrTrimmed)
	}
	return nil
}

// checkKept refuses a position that is followed by trimmed events.
func (l *Library) checkKept(ctx context.Context, p EventPosition) error {
	trimmed, _, err := l.trimmed(ctx)
	if err == nil && trimmed.After(p) {
		return fmt.Errorf("events up to %s are not kept any more, read on with after=%s: %w",
			trimmed, trimmed, ErrTrimmed)
	}
	return err
}

// trimmed is the position of the last event that was trimmed, and the revision
// of the row that says so.
func (l *Library) trimmed(ctx context.Context) (EventPosition, uint64, error) {
	row, err := l.rows.Get(ctx, eventTrimKey)
	if errors.Is(err, blobstore.ErrNotFound) {
		return EventPosition{}, 0, nil
	}
	if err != nil {
		return EventPosition{}, 0, fmt.Errorf("events: %w", err)
	}
	text, err := rows.DecodeText(row.Value)
	if err != nil {
		return EventPosition{}, 0, err
	}
	p, err := ParseEventPosition(text)
	if err != nil {
		return EventPosition{}, 0, fmt.Errorf("trimmed events: %w", blobstore.ErrCorrupt)
	}
	return p, row.Revision, nil
}

// trimEvents deletes events that are too old or too many. All nodes try; the
// condition lets one win each step, and the others stop.
func (l *Library) trimEvents(ctx context.Context, now time.Time) error {
	for range trimCommitsMax {
		_, revision, err := l.trimmed(ctx)
		if err != nil {
			return err
		}
		c, last, err := l.trimSome(ctx, now)
		if err != nil || c == nil {
			return err
		}
		c.Expect(eventTrimKey, revision)
		c.Put(eventTrimKey, rows.EncodeText(last.String()))
		txn, err := c.Done()
		if err != nil {
			return err
		}
		if _, err := l.rows.Commit(ctx, txn); err != nil {
			return err
		}
		if len(txn.Delete) < trimOpsMax {
			return nil
		}
	}
	return nil
}

// trimSome makes the change that deletes the next events; nil: none.
func (l *Library) trimSome(ctx context.Context, now time.Time) (c *change, last EventPosition, err error) {
	tally, err := l.rows.Tally(ctx, eventPrefix)
	if err != nil {
		return nil, last, fmt.Errorf("events: %w", err)
	}
	over := int64(tally.Rows) - int64(l.cfg.EventsMax)
	oldest := now.Add(-l.cfg.EventsKept)
	for row, err := range l.rows.Scan(ctx, eventPrefix, "") {
		if err != nil {
			return nil, last, fmt.Errorf("events: %w", err)
		}
		e, err := decodeEvent(row)
		if err != nil {
			return nil, last, err
		}
		if over <= 0 && !e.Time.Before(oldest) {
			break
		}
		if c == nil {
			c = l.newChange()
		}
		c.Remove(row.Key)
		last = e.Position
		over--
		if len(c.Txn.Delete) == trimOpsMax {
			break
		}
	}
	return c, last, nil
}

// FeedStatus is what there is to read.
type FeedStatus struct {
	Position EventPosition `json:"position"` // up to which this node has all events
	// Trimmed is the position up to which events are not kept any more.
	Trimmed EventPosition `json:"trimmed"`
	Events  uint64        `json:"events"` // that are kept
	// Webhooks are how many webhooks do how.
	Webhooks map[WebhookState]int `json:"webhooks"`
}

// DeletedTotal is what all accounts have deleted and can bring back.
func (l *Library) DeletedTotal(ctx context.Context) (Usage, error) {
	t, err := l.rows.Tally(ctx, deletedPrefix)
	if err != nil {
		return Usage{}, fmt.Errorf("deleted items: %w", err)
	}
	return Usage{Items: int64(t.Items), Bytes: int64(t.Bytes)}, nil
}

// FeedStatus describes the feed as this node knows it.
func (l *Library) FeedStatus(ctx context.Context) (FeedStatus, error) {
	tally, err := l.rows.Tally(ctx, eventPrefix)
	if err != nil {
		return FeedStatus{}, fmt.Errorf("events: %w", err)
	}
	s := FeedStatus{Events: tally.Rows, Position: l.EventsNow()}
	if s.Trimmed, _, err = l.trimmed(ctx); err != nil {
		return FeedStatus{}, err
	}
	hooks, err := l.hooks(ctx)
	if err != nil {
		return FeedStatus{}, err
	}
	s.Webhooks = map[WebhookState]int{}
	for i := range hooks {
		s.Webhooks[hooks[i].state.state(hooks[i].row.Disabled)]++
	}
	return s, nil
}
