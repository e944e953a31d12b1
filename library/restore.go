package library

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"carillon/blobstore"
	"carillon/library/naming"
	"carillon/library/rows"
)

// restoreKey is there while a restore is under way: a cluster that is no longer
// empty takes the rest of the same backup only.
const restoreKey = "k1/restore"

// restoreRowsMax bounds the rows of one RestoreRows: with a condition each they
// make one transaction.
const restoreRowsMax = blobstore.TxnOpsMax/2 - 1

// errNothing ends a change that has nothing to change.
var errNothing = errors.New("nothing to change")

// BlobSpec is what a backup knows of a blob.
type BlobSpec struct {
	ID      string    `json:"id"`
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"` // of the first Size bytes
	Sealed  bool      `json:"sealed"` // false: it was being recorded
	Live    bool      `json:"live,omitempty"`
	Created time.Time `json:"created"`
}

// SpecOf describes a blob for a backup; the digest of one that is not sealed is
// the client's to compute.
func SpecOf(i blobstore.Info) BlobSpec {
	s := BlobSpec{ID: i.ID.String(), Size: i.Size, Sealed: i.Sealed, Live: i.Spec.Live, Created: i.Spec.Created}
	if i.Sealed {
		s.SHA256 = i.Totals.SHA256.String()
	}
	return s
}

// RestoreReport says what became of a batch of rows.
type RestoreReport struct {
	Written int `json:"written"`
	Skipped int `json:"skipped"` // were there already
}

// BeginRestore prepares for a backup, which source names: "cluster@position". It
// returns whether a restore of the same source was begun before. ErrExists: the
// cluster holds items or recordings, and merge is not set; or it is taking
// another backup.
func (l *Library) BeginRestore(ctx context.Context, source string, merge bool) (again bool, err error) {
	if source == "" || len(source) > TextBytesMax {
		return false, fmt.Errorf("source of %d bytes: %w", len(source), ErrBadRequest)
	}
	if err := l.rows.Fresh(ctx); err != nil {
		return false, err
	}
	row, err := l.rows.Get(ctx, restoreKey)
	switch {
	case err == nil:
		text, err := rows.DecodeText(row.Value)
		if err == nil && text != source {
			err = fmt.Errorf("the restore of %s is not finished: %w", naming.Shown(text), ErrExists)
		}
		return true, err
	case !errors.Is(err, blobstore.ErrNotFound):
		return false, fmt.Errorf("look for a restore: %w", err)
	}
	if !merge {
		for _, prefix := range []string{mediaPrefix, recordingPrefix, deletedPrefix} {
			for row, err := range l.rows.Scan(ctx, prefix, "") {
				if err != nil {
					return false, fmt.Errorf("look for items: %w", err)
				}
				return false, fmt.Errorf("the cluster is not empty, it holds %s: %w", naming.Shown(row.Key), ErrExists)
			}
		}
	}
	_, err = l.rows.Commit(ctx, blobstore.Txn{
		If:  []blobstore.Cond{{Key: restoreKey}},
		Put: []blobstore.Row{{Key: restoreKey, Value: rows.EncodeText(source)}},
	})
	if err != nil {
		return false, fmt.Errorf("begin a restore: %w", err)
	}
	return false, nil
}

// EndRestore says that everything has been restored. Again: success.
func (l *Library) EndRestore(ctx context.Context) error {
	if _, err := l.rows.Commit(ctx, blobstore.Txn{Delete: []string{restoreKey}}); err != nil {
		return fmt.Errorf("end the restore: %w", err)
	}
	return nil
}

// RestoredBlob says whether the blob is here already, whole and the same.
func (l *Library) RestoredBlob(ctx context.Context, spec BlobSpec) (bool, error) {
	id, err := blobstore.ParseID(spec.ID)
	if err != nil {
		return false, fmt.Errorf("blob %s: %w", naming.Shown(spec.ID), ErrBadRequest)
	}
	info, err := l.shelf.Stat(ctx, id)
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

// RestoreBlob stores a blob under the id that it had. ErrIncomplete: the body
// was not what spec says, and nothing is kept.
func (l *Library) RestoreBlob(ctx context.Context, spec BlobSpec, body io.Reader) error {
	id, err := blobstore.ParseID(spec.ID)
	if err != nil {
		return fmt.Errorf("blob %s: %w", naming.Shown(spec.ID), ErrBadRequest)
	}
	body = io.LimitReader(body, spec.Size+1) // one more, to notice it
	if !spec.Sealed {
		return l.restoreOpen(ctx, id, spec, body)
	}
	r := blobstore.NewRecorder(ctx, l.writer, blobstore.RecorderConfig{
		ID: id, Created: spec.Created, Buffers: l.buffers,
	})
	if _, err = r.ReadFrom(body); err != nil { //nolint:contextcheck // it was made with ctx
		return l.abortRestore(ctx, r, bodyError(err))
	}
	_, totals, err := r.Seal(ctx)
	if err != nil {
		return fmt.Errorf("restore blob %s: %w", spec.ID, err)
	}
	if totals.Size == spec.Size && totals.SHA256.String() == spec.SHA256 {
		return nil
	}
	err = fmt.Errorf("blob %s of %d bytes, want %d with SHA-256 %s: %w", spec.ID, totals.Size, spec.Size,
		naming.Shown(spec.SHA256), ErrIncomplete)
	return errors.Join(err, l.writer.Remove(ctx, id))
}

func (l *Library) abortRestore(ctx context.Context, r *blobstore.Recorder, err error) error {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWait)
	defer cancel()
	if abortErr := r.Abort(bounded); abortErr != nil {
		l.log.WarnContext(ctx, "failed restore is left to the sweep", "blob_id", r.ID(), "error", abortErr)
	}
	return err
}

// restoreOpen stores what there was of a recording that was live. Nobody goes on
// with it: it is sealed as truncated like that of a node that died.
func (l *Library) restoreOpen(ctx context.Context, id blobstore.ID, spec BlobSpec, body io.Reader) error {
	if err := l.writer.Begin(ctx, id, blobstore.Spec{Live: true, Created: spec.Created}); err != nil {
		return fmt.Errorf("restore blob %s: %w", spec.ID, err)
	}
	piece := make([]byte, blobstore.LivePieceBytesMax)
	for off := int64(0); ; {
		n, err := io.ReadFull(body, piece)
		if n > 0 {
			if err := l.writer.Append(ctx, id, off, piece[:n]); err != nil {
				return fmt.Errorf("restore blob %s: %w", spec.ID, err)
			}
		}
		off += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			if off != spec.Size {
				return fmt.Errorf("blob %s of %d bytes, want %d: %w", spec.ID, off, spec.Size, ErrIncomplete)
			}
			return nil
		case err != nil:
			return bodyError(err)
		}
	}
}

// RestoreRows writes rows that belong together in one commit: give those of one
// revision, or of several in their order. Blobs come before the rows that refer
// to them. A row that is there with the same value was restored before. With
// merge, rows of which one is there with another value are skipped together;
// without, that is ErrConflict.
func (l *Library) RestoreRows(ctx context.Context, rows []BackupRow, merge bool) (RestoreReport, error) {
	var report RestoreReport
	if len(rows) > restoreRowsMax {
		return report, fmt.Errorf("%d rows, at most %d: %w", len(rows), restoreRowsMax, ErrBadRequest)
	}
	_, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		report = RestoreReport{}
		var t blobstore.Txn
		for _, r := range rows {
			if !InBackups(r.Key) || r.Value == nil {
				return t, fmt.Errorf("row %s: %w", naming.Shown(r.Key), ErrBadRequest)
			}
			before, err := l.rows.Get(ctx, r.Key)
			switch {
			case errors.Is(err, blobstore.ErrNotFound):
				before = blobstore.Row{}
			case err != nil:
				return t, fmt.Errorf("row %s: %w", naming.Shown(r.Key), err)
			case bytes.Equal(before.Value, r.Value):
				report.Skipped++
				continue
			case merge:
				report = RestoreReport{Skipped: len(rows)}
				return blobstore.Txn{}, errNothing
			default:
				return t, fmt.Errorf("row %s is here with another value: %w", naming.Shown(r.Key), ErrExists)
			}
			t.If = append(t.If, blobstore.Cond{Key: r.Key, Revision: before.Revision})
			t.Put = append(t.Put, blobstore.Row{Key: r.Key, Value: r.Value, Weight: r.Weight})
			report.Written++
		}
		if len(t.Put) == 0 {
			return t, errNothing
		}
		return t, nil
	})
	if err != nil && !errors.Is(err, errNothing) {
		return report, fmt.Errorf("restore rows: %w", err)
	}
	return report, nil
}
