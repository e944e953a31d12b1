package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"carillon/blobstore"
	"carillon/library/backup"
	"carillon/library/fault"
	"carillon/library/naming"
	"carillon/library/rows"
)

const (
	// sourceBytesMax bounds the name of a backup.
	sourceBytesMax = 512
	// rowsMax bounds the rows of one Rows: with a condition each they make one
	// transaction.
	rowsMax = blobstore.TxnOpsMax/2 - 1
	// abortWait bounds the removal of a blob that was not restored. When it does
	// not suffice the sweep of unreferenced blobs does the work.
	abortWait = 2 * time.Second
)

// errNothing ends a change that has nothing to change.
var errNothing = errors.New("nothing to change")

// Target is the cluster as a backup is restored into it. It is a value, and may
// be copied.
type Target struct {
	Catalog rows.Store
	Shelf   blobstore.Shelf
	Writer  blobstore.Writer
	Buffers *blobstore.Buffers
	// Holdings are the prefixes of the rows that an empty cluster has none of.
	Holdings []string
	Log      *slog.Logger
}

// Report says what became of a batch of rows.
type Report struct {
	Written int `json:"written"`
	Skipped int `json:"skipped"` // were there already
}

// Begin prepares for a backup, which source names: "cluster@position". It
// returns whether a restore of the same source was begun before, because a cluster
// that is no longer empty takes the rest of the same backup only. ErrExists: it
// holds something, and merge is not set; or it is taking another backup.
func (t Target) Begin(ctx context.Context, source string, merge bool) (again bool, err error) {
	if source == "" || len(source) > sourceBytesMax {
		return false, fmt.Errorf("source of %d bytes: %w", len(source), fault.ErrBadRequest)
	}
	if err := t.Catalog.Fresh(ctx); err != nil {
		return false, err
	}
	row, err := t.Catalog.Get(ctx, backup.RestoreKey)
	switch {
	case err == nil:
		text, err := rows.DecodeText(row.Value)
		if err == nil && text != source {
			err = fmt.Errorf("the restore of %s is not finished: %w", naming.Shown(text), fault.ErrExists)
		}
		return true, err
	case !errors.Is(err, blobstore.ErrNotFound):
		return false, fmt.Errorf("look for a restore: %w", err)
	}
	if !merge {
		for _, prefix := range t.Holdings {
			for row, err := range t.Catalog.Scan(ctx, prefix, "") {
				if err != nil {
					return false, fmt.Errorf("look for items: %w", err)
				}
				return false, fmt.Errorf("the cluster is not empty, it holds %s: %w", naming.Shown(row.Key),
					fault.ErrExists)
			}
		}
	}
	_, err = t.Catalog.Commit(ctx, blobstore.Txn{
		If:  []blobstore.Cond{{Key: backup.RestoreKey}},
		Put: []blobstore.Row{{Key: backup.RestoreKey, Value: rows.EncodeText(source)}},
	})
	if err != nil {
		return false, fmt.Errorf("begin a restore: %w", err)
	}
	return false, nil
}

// End says that everything has been restored. Again: success.
func (t Target) End(ctx context.Context) error {
	if _, err := t.Catalog.Commit(ctx, blobstore.Txn{Delete: []string{backup.RestoreKey}}); err != nil {
		return fmt.Errorf("end the restore: %w", err)
	}
	return nil
}

// Has says whether the blob is here already, whole and the same.
func (t Target) Has(ctx context.Context, spec backup.Blob) (bool, error) {
	id, err := blobstore.ParseID(spec.ID)
	if err != nil {
		return false, fmt.Errorf("blob %s: %w", naming.Shown(spec.ID), fault.ErrBadRequest)
	}
	info, err := t.Shelf.Stat(ctx, id)
	switch {
	case errors.Is(err, blobstore.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("blob %s: %w", spec.ID, err)
	case !info.Sealed:
		return !spec.Sealed && info.Size == spec.Size, nil
	case !spec.Sealed:
		return true, nil // it was sealed since, from the same bytes
	case info.Totals.Size != spec.Size || info.Totals.SHA256.String() != spec.SHA256:
		return false, fmt.Errorf("blob %s is here with other bytes: %w", spec.ID, blobstore.ErrConflict)
	}
	return true, nil
}

// Blob stores a blob under the id that it had. ErrIncomplete: the body was not
// what spec says, and nothing is kept.
func (t Target) Blob(ctx context.Context, spec backup.Blob, body io.Reader) error {
	id, err := blobstore.ParseID(spec.ID)
	if err != nil {
		return fmt.Errorf("blob %s: %w", naming.Shown(spec.ID), fault.ErrBadRequest)
	}
	body = io.LimitReader(body, spec.Size+1) // one more, to notice it
	if !spec.Sealed {
		return t.openBlob(ctx, id, spec, body)
	}
	r := blobstore.NewRecorder(ctx, t.Writer, blobstore.RecorderConfig{
		ID: id, Created: spec.Created, Buffers: t.Buffers,
	})
	if _, err = r.ReadFrom(body); err != nil { //nolint:contextcheck // it was made with ctx
		return t.abort(ctx, r, incomplete(err))
	}
	_, totals, err := r.Seal(ctx)
	if err != nil {
		return fmt.Errorf("restore blob %s: %w", spec.ID, err)
	}
	if totals.Size == spec.Size && totals.SHA256.String() == spec.SHA256 {
		return nil
	}
	err = fmt.Errorf("blob %s of %d bytes, want %d with SHA-256 %s: %w", spec.ID, totals.Size, spec.Size,
		naming.Shown(spec.SHA256), fault.ErrIncomplete)
	return errors.Join(err, t.Writer.Remove(ctx, id))
}

func (t Target) abort(ctx context.Context, r *blobstore.Recorder, err error) error {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWait)
	defer cancel()
	if abortErr := r.Abort(bounded); abortErr != nil {
		t.Log.WarnContext(ctx, "failed restore is left to the sweep", "blob_id", r.ID(), "error", abortErr)
	}
	return err
}

// incomplete is what a failing body means.
func incomplete(err error) error { return fmt.Errorf("%w: %w", fault.ErrIncomplete, err) }

// openBlob stores what there was of a recording that was live. Nobody goes on
// with it: it is sealed as truncated like that of a node that died.
func (t Target) openBlob(ctx context.Context, id blobstore.ID, spec backup.Blob, body io.Reader) error {
	if err := t.Writer.Begin(ctx, id, blobstore.Spec{Live: true, Created: spec.Created}); err != nil {
		return fmt.Errorf("restore blob %s: %w", spec.ID, err)
	}
	piece := make([]byte, blobstore.LivePieceBytesMax)
	for off := int64(0); ; {
		n, err := io.ReadFull(body, piece)
		if n > 0 {
			if err := t.Writer.Append(ctx, id, off, piece[:n]); err != nil {
				return fmt.Errorf("restore blob %s: %w", spec.ID, err)
			}
		}
		off += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			if off != spec.Size {
				return fmt.Errorf("blob %s of %d bytes, want %d: %w", spec.ID, off, spec.Size, fault.ErrIncomplete)
			}
			return nil
		case err != nil:
			return incomplete(err)
		}
	}
}

// Rows writes rows that belong together in one commit: give those of one
// revision, or of several in their order. Blobs come before the rows that refer
// to them. A row that is there with the same value was restored before. With
// merge, rows of which one is there with another value are skipped together;
// without, that is ErrConflict.
func (t Target) Rows(ctx context.Context, rows []backup.Row, merge bool) (Report, error) {
	var report Report
	if len(rows) > rowsMax {
		return report, fmt.Errorf("%d rows, at most %d: %w", len(rows), rowsMax, fault.ErrBadRequest)
	}
	_, err := t.Catalog.Write(ctx, func() (blobstore.Txn, error) {
		report = Report{}
		var txn blobstore.Txn
		for _, r := range rows {
			if !backup.Includes(r.Key) || r.Value == nil {
				return txn, fmt.Errorf("row %s: %w", naming.Shown(r.Key), fault.ErrBadRequest)
			}
			before, err := t.Catalog.Get(ctx, r.Key)
			switch {
			case errors.Is(err, blobstore.ErrNotFound):
				before = blobstore.Row{}
			case err != nil:
				return txn, fmt.Errorf("row %s: %w", naming.Shown(r.Key), err)
			case bytes.Equal(before.Value, r.Value):
				report.Skipped++
				continue
			case merge:
				report = Report{Skipped: len(rows)}
				return blobstore.Txn{}, errNothing
			default:
				return txn, fmt.Errorf("row %s is here with another value: %w", naming.Shown(r.Key), fault.ErrExists)
			}
			txn.If = append(txn.If, blobstore.Cond{Key: r.Key, Revision: before.Revision})
			txn.Put = append(txn.Put, blobstore.Row{Key: r.Key, Value: r.Value, Weight: r.Weight})
			report.Written++
		}
		if len(txn.Put) == 0 {
			return txn, errNothing
		}
		return txn, nil
	})
	if err != nil && !errors.Is(err, errNothing) {
		return report, fmt.Errorf("restore rows: %w", err)
	}
	return report, nil
}
