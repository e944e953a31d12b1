package library

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carillon/blobstore"
	"carillon/library/naming"
	"carillon/library/rows"
)

// ExportRecording orders the sound of an ended recording to be sent to a
// target and returns at once; the order is durable and carried out by some
// node. With store (nil: not) it becomes an item in the same step. The same
// target again, while that is still open, is the same export.
func (l *Library) ExportRecording(
	ctx context.Context, recordingID string, target ExportTarget, store *StoreRequest,
) (Export, error) {
	if err := l.checkTarget(&target); err != nil {
		return Export{}, err
	}
	if store != nil {
		if target.DeleteAfter {
			return Export{}, fmt.Errorf("delete_after of a recording that becomes an item: %w", ErrBadRequest)
		}
		if err := store.check(); err != nil {
			return Export{}, err
		}
	}
	var e *export
	revision, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		s, err := l.recordingPast(ctx, recordingID, StateWaiting, StateLive)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if e, err = l.openExport(ctx, s, &target); err != nil || e != nil {
			return blobstore.Txn{}, errors.Join(err, rows.ErrDone)
		}
		return l.exportTxn(ctx, s, &target, store, &e)
	})
	if errors.Is(err, rows.ErrDone) && e != nil {
		return e.Export, nil
	}
	if err != nil {
		return Export{}, fmt.Errorf("export recording %s: %w", recordingID, err)
	}
	e.Revision = revision
	l.pokeExports()
	return e.Export, nil
}

func (l *Library) exportTxn(
	ctx context.Context, s *stored, target *ExportTarget, store *StoreRequest, e **export,
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
	*e = newExport(s, target, time.Now())
	s.ExportID = (*e).ID
	c.putExport(*e)
	c.putRecording(s)
	return c.Done()
}

// openExport is the last export of s if that is open and has this target,
// else nil.
func (l *Library) openExport(ctx context.Context, s *stored, target *ExportTarget) (*export, error) {
	if s.ExportID == "" {
		return nil, nil //nolint:nilnil // none is an answer here
	}
	e, err := l.export(ctx, s.ExportID)
	if errors.Is(err, ErrNotFound) || err == nil &&
		(e.State == ExportDone || e.url != target.URL || e.Method != target.Method) {
		return nil, nil //nolint:nilnil // as above
	}
	return e, err
}

// ExportQuery selects exports. Zero fields select everything.
type ExportQuery struct {
	Account string
	State   ExportState
	After   string // an id
	Limit   int    // 0: PageLimitDefault
}

// Exports lists exports in the order in which they were made, and the After of
// the following page, "" at the end.
func (l *Library) Exports(ctx context.Context, q ExportQuery) (found []Export, next string, err error) {
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return nil, "", err
	}
	switch q.State {
	case "", ExportQueued, ExportRunning, ExportFailed, ExportDone:
	default:
		return nil, "", fmt.Errorf("state %s: %w", naming.Shown(string(q.State)), ErrBadRequest)
	}
	from := ""
	if q.After != "" {
		if !rows.IsID(q.After) {
			return nil, "", fmt.Errorf("after %s is no export id: %w", naming.Shown(q.After), ErrBadRequest)
		}
		from = exportKey(q.After)
	}
	rows, last := 0, ""
	found = []Export{}
	for row, err := range l.rows.Scan(ctx, exportPrefix, from) {
		if err != nil {
			return nil, "", fmt.Errorf("list exports: %w", err)
		}
		if len(found) == limit || rows == scanRowsMax {
			return found, last, nil
		}
		rows++
		last = row.Key[len(exportPrefix):]
		e, err := decodeExport(last, row)
		if err != nil {
			return nil, "", err
		}
		if (q.Account == "" || e.Account == q.Account) && (q.State == "" || e.State == q.State) {
			found = append(found, e.Export)
		}
	}
	return found, "", nil
}

// Export returns an export.
func (l *Library) Export(ctx context.Context, id string) (Export, error) {
	e, err := l.freshExport(ctx, id)
	if err != nil {
		return Export{}, err
	}
	return e.Export, nil
}

func (l *Library) freshExport(ctx context.Context, id string) (e *export, err error) {
	err = l.rows.Find(ctx, func() error {
		e, err = l.export(ctx, id)
		return err
	})
	return e, err
}

// RetryExport tries an export that waits, or was given up, again at once, and
// from then on as if it were new. One that is running or done is left alone.
func (l *Library) RetryExport(ctx context.Context, id string) (Export, error) {
	var e *export
	revision, err := l.rows.Write(ctx, func() (_ blobstore.Txn, err error) {
		if e, err = l.freshExport(ctx, id); err != nil {
			return blobstore.Txn{}, err
		}
		switch e.State {
		case ExportDone:
			return blobstore.Txn{}, fmt.Errorf("export %s is %s: %w", id, e.State, ErrState)
		case ExportRunning:
			return blobstore.Txn{}, rows.ErrDone
		case ExportQueued, ExportFailed:
		}
		e.since, e.Ended = time.Now(), nil
		e.wait(time.Now())
		c := l.newChange()
		c.putExport(e)
		return c.Done()
	})
	if err != nil && !errors.Is(err, rows.ErrDone) {
		return Export{}, err
	}
	if err == nil {
		e.Revision = revision
	}
	l.pokeExports()
	return e.Export, nil
}

// RemoveExport takes an export back, in any state: whoever sends it stops. The
// sound stays with its recording or item if that is still there; if it is not,
// it is freed.
func (l *Library) RemoveExport(ctx context.Context, id string) error {
	_, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		e, err := l.freshExport(ctx, id)
		if err != nil {
			return blobstore.Txn{}, err
		}
		c := l.newChange()
		c.removeExport(e)
		return c.Done()
	})
	return err
}
