package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"carillon/blobstore"
	"carillon/library/delivery"
	"carillon/library/fault"
	"carillon/library/naming"
	"carillon/library/rows"
)

// Keys of the catalog.
const (
	Prefix     = "x1/"  // x1/{export id}: an export
	openPrefix = "xo1/" // xo1/{export id}: exports that are not done
	donePrefix = "xd1/" // xd1/{export id}: exports that are
)

// Deps are the parts that exports stand on.
type Deps struct {
	NodeID string
	Rows   rows.Store
	Shelf  blobstore.Shelf
	Sender delivery.Sender // nil: nothing is sent, and asking for it is fault.ErrTarget
	Sounds Sounds
	Meter  Meter
	Log    *slog.Logger
	// OpenMax bounds the orders that are not done, see Room; 0: OpenMaxDefault.
	OpenMax int
}

// OpenMaxDefault is some 50 MB of catalog, and a day's recordings of a busy
// switch: a target that is away for longer is a matter for people.
const OpenMaxDefault = 50_000

// Sounds are where the sounds come from that are sent.
type Sounds interface {
	// Sent is told that the target has taken j's sound, and adds to c what is
	// to become of it. It may be called several times, until c is committed.
	Sent(ctx context.Context, c *rows.Change, j *Job) error
}

// Meter counts what becomes of exports.
type Meter interface {
	// Open says how many exports of the cluster are not done, by state, and how
	// old the oldest is that is being worked at.
	Open(counts map[State]int, oldest time.Duration)
	// Tried counts a try of this node by what it left.
	Tried(left State)
}

// Queue is all exports of the cluster. Its methods may be called concurrently.
type Queue struct {
	deps     Deps
	exporter *exporter
}

// New makes the Queue of what is in the catalog. Nothing is sent before Run.
func New(deps Deps) *Queue { return &Queue{deps, newExporter()} }

// Room returns [fault.ErrLimit] when so many exports are not done that nobody
// should order another. What has been promised already is queued all the same: a
// ticket's store_url, and what an account wants sent of all that is stored.
func (q *Queue) Room(ctx context.Context) error {
	open, err := q.deps.Rows.Tally(ctx, openPrefix)
	if err != nil {
		return fmt.Errorf("exports: %w", err)
	}
	limit := cmp.Or(q.deps.OpenMax, OpenMaxDefault)
	if open.Rows >= uint64(limit) {
		return fmt.Errorf("%d exports wait or were given up, at most %d: %w", open.Rows, limit, fault.ErrLimit)
	}
	return nil
}

// Query selects exports. Zero fields select everything.
type Query struct {
	Account string
	State   State
	After   string // an id
	Limit   int    // 0: rows.PageDefault
}

// List lists exports in the order in which they were made, and the After of
// the following page, "" at the end.
func (q *Queue) List(ctx context.Context, want Query) (found []Order, next string, err error) {
	limit, err := rows.PageLimit(want.Limit)
	if err != nil {
		return nil, "", err
	}
	switch want.State {
	case "", Queued, Running, Failed, Done:
	default:
		return nil, "", fmt.Errorf("state %s: %w", naming.Shown(string(want.State)), fault.ErrBadRequest)
	}
	from := ""
	if want.After != "" {
		if !rows.IsID(want.After) {
			return nil, "", fmt.Errorf("after %s is no export id: %w", naming.Shown(want.After), fault.ErrBadRequest)
		}
		from = Prefix + want.After
	}
	seen, last := 0, ""
	found = []Order{}
	for row, err := range q.deps.Rows.Scan(ctx, Prefix, from) {
		if err != nil {
			return nil, "", fmt.Errorf("list exports: %w", err)
		}
		if len(found) == limit || seen == rows.ScanMax {
			return found, last, nil
		}
		seen++
		last = row.Key[len(Prefix):]
		e, err := decode(last, row)
		if err != nil {
			return nil, "", err
		}
		if (want.Account == "" || e.Account == want.Account) && (want.State == "" || e.State == want.State) {
			found = append(found, e.Order)
		}
	}
	return found, "", nil
}

// Get returns an export.
func (q *Queue) Get(ctx context.Context, id string) (Order, error) {
	e, err := q.fresh(ctx, id)
	if err != nil {
		return Order{}, err
	}
	return e.Order, nil
}

func (q *Queue) fresh(ctx context.Context, id string) (e *Job, err error) {
	err = q.deps.Rows.Find(ctx, func() error {
		e, err = q.Job(ctx, id)
		return err
	})
	return e, err
}

// Retry tries an export that waits, or was given up, again at once, and
// from then on as if it were new. One that is running or done is left alone.
func (q *Queue) Retry(ctx context.Context, id string) (Order, error) {
	var e *Job
	revision, err := q.deps.Rows.Write(ctx, func() (_ blobstore.Txn, err error) {
		if e, err = q.fresh(ctx, id); err != nil {
			return blobstore.Txn{}, err
		}
		switch e.State {
		case Done:
			return blobstore.Txn{}, fmt.Errorf("export %s is %s: %w", id, e.State, fault.ErrState)
		case Running:
			return blobstore.Txn{}, rows.ErrDone
		case Queued, Failed:
		}
		e.since, e.Ended = time.Now(), nil
		e.wait(time.Now())
		c := &rows.Change{}
		e.Put(c)
		return c.Done()
	})
	if err != nil && !errors.Is(err, rows.ErrDone) {
		return Order{}, err
	}
	if err == nil {
		e.Revision = revision
	}
	q.Poke()
	return e.Order, nil
}

// Remove takes an export back, in any state: whoever sends it stops. The
// sound stays with its recording or item if that is still there; if it is not,
// it is freed.
func (q *Queue) Remove(ctx context.Context, id string) error {
	_, err := q.deps.Rows.Write(ctx, func() (blobstore.Txn, error) {
		e, err := q.fresh(ctx, id)
		if err != nil {
			return blobstore.Txn{}, err
		}
		c := &rows.Change{}
		e.Remove(c)
		return c.Done()
	})
	return err
}
