package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/fault"
	"carillon/library/naming"
	"carillon/library/rows"
)

// TrimKey holds the position up to which events were trimmed.
const TrimKey = "k1/events"

const (
	// KeptDefault is a week: a consumer that fails on a Friday evening is
	// repaired without a loss.
	KeptDefault = 7 * 24 * time.Hour
	// MaxDefault bounds the catalog rows of the feed: some 40 MB.
	MaxDefault = 100_000
	// PageMax bounds one page of events.
	PageMax = 500
	// scanMax is how many events one page looks at for those that are
	// wanted.
	scanMax = 5000
	// trimOpsMax is how many events one commit trims.
	trimOpsMax = blobstore.TxnOpsMax - 2
	// trimCommitsMax bounds the commits of one pass: 50,000 events, which at
	// one pass in half a minute is more than can come.
	trimCommitsMax = 200
	// kindsMax bounds the kinds a query names.
	kindsMax = 32
)

// Query selects events. Zero fields select everything that is kept.
type Query struct {
	After Position
	// Oldest reads from the oldest event that is kept, whatever After says.
	Oldest  bool
	Account string
	// Kinds are kinds, or what they begin with: "media" is all that happens to
	// media.
	Kinds []string
}

func (q *Query) check() error {
	if q.Account != "" {
		if err := naming.CheckAccount(q.Account); err != nil {
			return err
		}
	}
	return CheckKinds(q.Kinds)
}

// CheckKinds returns [fault.ErrBadRequest] unless each is a kind, or what kinds
// begin with.
func CheckKinds(kinds []string) error {
	if len(kinds) > kindsMax {
		return fmt.Errorf("%d kinds of events, at most %d: %w", len(kinds), kindsMax, fault.ErrBadRequest)
	}
	for _, kind := range kinds {
		if !slices.ContainsFunc(Kinds(), func(k Kind) bool { return kindMatches(kind, k) }) {
			known := make([]string, 0, len(Kinds()))
			for _, k := range Kinds() {
				known = append(known, string(k))
			}
			return fmt.Errorf("kind %s, want one of recording, media, export, %s: %w", naming.Shown(kind),
				strings.Join(known, ", "), fault.ErrBadRequest)
		}
	}
	return nil
}

func kindMatches(wanted string, kind Kind) bool {
	return wanted == string(kind) || strings.HasPrefix(string(kind), wanted+".")
}

func (q *Query) wants(e *Event) bool {
	return (q.Account == "" || q.Account == e.Account) && (len(q.Kinds) == 0 ||
		slices.ContainsFunc(q.Kinds, func(k string) bool { return kindMatches(k, e.Kind) }))
}

// Page is some events in order. Next is where to read on: everything up
// to it has been looked at. More says that there are later events already.
type Page struct {
	Events []Event
	Next   Position
	More   bool
}

// Config of a Feed.
type Config struct {
	// Kept and Max bound the history: events that are older, and more than so
	// many, are trimmed. Zero: KeptDefault and MaxDefault.
	Kept time.Duration
	Max  int
}

// Feed reads the events of the cluster as this node knows them. Its methods may
// be called concurrently.
type Feed struct {
	cfg  Config
	rows rows.Store
}

// New makes a Feed of what is in the catalog.
func New(cfg Config, store rows.Store) *Feed {
	cfg.Kept, cfg.Max = cmp.Or(cfg.Kept, KeptDefault), cmp.Or(cfg.Max, MaxDefault)
	return &Feed{cfg: cfg, rows: store}
}

// Now is the position after everything that this node has applied.
func (f *Feed) Now() Position {
	return Position{f.rows.Applied(), blobstore.TxnOpsMax}
}

// Watch returns a channel that is closed when an event comes after the
// call. Call it before Read, so that nothing falls between the two.
func (f *Feed) Watch() (changed <-chan struct{}, cancel func()) {
	return f.rows.Watch(Prefix)
}

// Read returns the next events after q.After, at most limit. fault.ErrTrimmed: some
// of them are not kept any more, or the position is of another cluster.
func (f *Feed) Read(ctx context.Context, q Query, limit int) (Page, error) {
	if err := errors.Join(q.check(), f.checkNotAhead(ctx, q.After)); err != nil {
		return Page{}, err
	}
	page, err := f.scanEvents(ctx, &q, limit)
	if err != nil || q.Oldest {
		return page, err
	}
	return page, f.checkKept(ctx, q.After) // after the scan: nothing was trimmed before or in it
}

// scanEvents reads one page.
func (f *Feed) scanEvents(ctx context.Context, q *Query, limit int) (Page, error) {
	if limit < 1 || limit > PageMax {
		limit = PageMax
	}
	page := Page{Next: q.After}
	now, after, rows := f.Now(), "", 0 // now before the scan: it may only be too small
	if !q.Oldest && q.After != (Position{}) {
		after = keyAfter(q.After)
	}
	for row, err := range f.rows.Scan(ctx, Prefix, after) {
		if err != nil {
			return Page{}, fmt.Errorf("events: %w", err)
		}
		if len(page.Events) == limit || rows == scanMax {
			page.More = true
			break
		}
		rows++
		e, err := decode(row)
		if err != nil {
			return Page{}, err
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

// keyAfter is the greatest key at or before a position.
func keyAfter(p Position) string {
	if p.Number >= blobstore.TxnOpsMax {
		return blobstore.AppendedKey(Prefix, p.Revision, 0xff)
	}
	return blobstore.AppendedKey(Prefix, p.Revision, p.Number)
}

// checkNotAhead refuses a position that the log has not reached: it is from
// another cluster, or from before a restore, and its reader would wait for
// ever and miss what comes.
func (f *Feed) checkNotAhead(ctx context.Context, p Position) error {
	if p.Revision <= f.rows.Applied() {
		return nil
	}
	if err := f.rows.Fresh(ctx); err != nil {
		return err
	}
	if applied := f.rows.Applied(); p.Revision > applied {
		return fmt.Errorf("event position %s is beyond the log, which is at %d: %w", p, applied, fault.ErrTrimmed)
	}
	return nil
}

// checkKept refuses a position that is followed by trimmed events.
func (f *Feed) checkKept(ctx context.Context, p Position) error {
	trimmed, _, err := f.trimmed(ctx)
	if err == nil && trimmed.After(p) {
		return fmt.Errorf("events up to %s are not kept any more, read on with after=%s: %w",
			trimmed, trimmed, fault.ErrTrimmed)
	}
	return err
}

// Trimmed is the position of the last event that was trimmed; after it every
// event is kept.
func (f *Feed) Trimmed(ctx context.Context) (Position, error) {
	p, _, err := f.trimmed(ctx)
	return p, err
}

// trimmed is the position of the last event that was trimmed, and the revision
// of the row that says so.
func (f *Feed) trimmed(ctx context.Context) (Position, uint64, error) {
	row, err := f.rows.Get(ctx, TrimKey)
	if errors.Is(err, blobstore.ErrNotFound) {
		return Position{}, 0, nil
	}
	if err != nil {
		return Position{}, 0, fmt.Errorf("events: %w", err)
	}
	text, err := rows.DecodeText(row.Value)
	if err != nil {
		return Position{}, 0, err
	}
	p, err := ParsePosition(text)
	if err != nil {
		return Position{}, 0, fmt.Errorf("trimmed events: %w", blobstore.ErrCorrupt)
	}
	return p, row.Revision, nil
}

// Trim deletes events that are too old or too many. All nodes try; the
// condition lets one win each step, and the others stop.
func (f *Feed) Trim(ctx context.Context, now time.Time) error {
	for range trimCommitsMax {
		_, revision, err := f.trimmed(ctx)
		if err != nil {
			return err
		}
		c, last, err := f.trimSome(ctx, now)
		if err != nil || c == nil {
			return err
		}
		c.Expect(TrimKey, revision)
		c.Put(TrimKey, rows.EncodeText(last.String()))
		txn, err := c.Done()
		if err != nil {
			return err
		}
		if _, err := f.rows.Commit(ctx, txn); err != nil {
			return err
		}
		if len(txn.Delete) < trimOpsMax {
			return nil
		}
	}
	return nil
}

// trimSome makes the change that deletes the next events; nil: none.
func (f *Feed) trimSome(ctx context.Context, now time.Time) (c *rows.Change, last Position, err error) {
	tally, err := f.rows.Tally(ctx, Prefix)
	if err != nil {
		return nil, last, fmt.Errorf("events: %w", err)
	}
	over := int64(tally.Rows) - int64(f.cfg.Max)
	oldest := now.Add(-f.cfg.Kept)
	for row, err := range f.rows.Scan(ctx, Prefix, "") {
		if err != nil {
			return nil, last, fmt.Errorf("events: %w", err)
		}
		e, err := decode(row)
		if err != nil {
			return nil, last, err
		}
		if over <= 0 && !e.Time.Before(oldest) {
			break
		}
		if c == nil {
			c = &rows.Change{}
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

// Status is what there is to read.
type Status struct {
	Position Position `json:"position"` // up to which this node has all events
	// Trimmed is the position up to which events are not kept any more.
	Trimmed Position `json:"trimmed"`
	Events  uint64   `json:"events"` // that are kept
}

// Status describes the feed as this node knows it.
func (f *Feed) Status(ctx context.Context) (Status, error) {
	tally, err := f.rows.Tally(ctx, Prefix)
	if err != nil {
		return Status{}, fmt.Errorf("events: %w", err)
	}
	s := Status{Events: tally.Rows, Position: f.Now()}
	s.Trimmed, err = f.Trimmed(ctx)
	return s, err
}
