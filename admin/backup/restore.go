package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"carillon/library/backup"
	"carillon/library/restore"
)

const (
	// batchRowsMax is how many rows go in one commit: TxnOpsMax, each with its
	// condition, and some room.
	batchRowsMax = 100
	// batchBytesMax bounds the values of a commit, below what a log entry holds.
	batchBytesMax = 256 << 10
	// sendersMax is how many blobs are sent at once: a small one is a commit of
	// its own, and those that wait together share the disks' syncs. It is also
	// how many connections the client keeps.
	sendersMax = 8
)

// Target is a cluster to restore into: the API's client.
type Target interface {
	BeginRestore(ctx context.Context, source string, merge bool) (restore.Begun, error)
	EndRestore(ctx context.Context) error
	RestoreBlob(ctx context.Context, spec backup.Blob, body io.Reader) (sent bool, err error)
	RestoreRows(ctx context.Context, rows []backup.Row, merge bool) (restore.Report, error)
	Holder
}

// Restored is what a restore has done.
type Restored struct {
	Position uint64 `json:"position"`
	Again    bool   `json:"again"` // it went on with an interrupted one
	Rows     int64  `json:"rows"`
	Skipped  int64  `json:"skipped"` // rows that were there
	Blobs    int64  `json:"blobs"`
	Sent     int64  `json:"sent"` // blobs that were not there
	Bytes    int64  `json:"bytes"`
}

// Restore brings a generation into an empty cluster, or with merge into any:
// then what is there stays as it is. Blobs go first, so that no item is ever
// without its sound, and rows in the order in which they were written. It may be
// interrupted and run again.
func (d *Dir) Restore(ctx context.Context, to Target, g Generation, merge bool, progress Progress) (
	done Restored, err error,
) {
	done.Position = g.Position
	var begun restore.Begun
	err = patiently(ctx, func() error {
		var err error
		begun, err = to.BeginRestore(ctx, fmt.Sprintf("%s@%d", g.Cluster, g.Position), merge)
		return err
	})
	if err != nil {
		return done, fmt.Errorf("restore: %w", err)
	}
	done.Again = begun.Again
	ctx, release := keepHold(ctx, to, begun.ID)
	defer func() { _ = release() }() // it ends by itself
	if err := d.restoreBlobs(ctx, to, g, &done, progress); err != nil {
		return done, cause(ctx, err)
	}
	if err := d.restoreRows(ctx, to, g, merge, &done); err != nil {
		return done, cause(ctx, err)
	}
	if err := patiently(ctx, func() error { return to.EndRestore(ctx) }); err != nil {
		return done, fmt.Errorf("restore: %w", err)
	}
	return done, nil
}

// restoreBlobs sends several at once, in no order: nothing refers to them yet.
func (d *Dir) restoreBlobs(
	ctx context.Context, to Target, g Generation, done *Restored, progress Progress,
) error {
	work, sending := errgroup.WithContext(ctx)
	work.SetLimit(sendersMax)
	var mu sync.Mutex // guards done, and keeps progress in order
	for spec, err := range d.blobs(g) {
		if err != nil {
			return errors.Join(err, work.Wait())
		}
		if sending.Err() != nil {
			break // Wait says why
		}
		work.Go(func() error {
			sent, err := d.send(sending, to, spec)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if sent {
				done.Sent++
			}
			done.Blobs++
			done.Bytes += spec.Size
			if progress != nil {
				progress(done.Blobs, g.Blobs, done.Bytes)
			}
			return nil
		})
	}
	return work.Wait() //nolint:wrapcheck // of send
}

// send brings one blob there, checked on the way by whoever takes it.
func (d *Dir) send(ctx context.Context, to Target, spec backup.Blob) (bool, error) {
	f, err := os.Open(d.blobFile(spec.ID))
	if err != nil {
		return false, fmt.Errorf("blob %s: %w: %w", spec.ID, ErrDamaged, err)
	}
	defer func() { _ = f.Close() }() // it was only read
	sent := false
	err = patiently(ctx, func() error {
		var err error
		sent, err = to.RestoreBlob(ctx, spec, io.NewSectionReader(f, 0, spec.Size))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("restore blob %s: %w", spec.ID, err)
	}
	return sent, nil
}

// place is where a row lies in the catalog's file, and when it was written: 24
// bytes for each row, all that a restore keeps in memory.
type place struct {
	revision uint64
	offset   int64
	bytes    int64
}

// restoreRows writes the rows by revision. Rows of one revision were one commit
// and stay one.
func (d *Dir) restoreRows(ctx context.Context, to Target, g Generation, merge bool, done *Restored) error {
	places, err := d.places(g)
	if err != nil {
		return err
	}
	f, err := os.Open(d.file(g.name("catalog")))
	if err != nil {
		return fmt.Errorf("read backup: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	var batch []backup.Row
	bytes := int64(0)
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		var report restore.Report
		err := patiently(ctx, func() error {
			var err error
			report, err = to.RestoreRows(ctx, batch, merge)
			return err
		})
		if err != nil {
			return fmt.Errorf("restore rows of revision %d: %w", batch[0].Revision, err)
		}
		done.Rows += int64(report.Written)
		done.Skipped += int64(report.Skipped)
		batch, bytes = batch[:0], 0
		return nil
	}
	for i, p := range places {
		full := len(batch) >= batchRowsMax || bytes+p.bytes > batchBytesMax
		if i > 0 && places[i-1].revision != p.revision {
			// Where there are items already, each commit succeeds or is skipped by
			// itself; else several go together while there is room for the next.
			full = full || merge || len(batch)+d.together(places[i:]) > batchRowsMax
		}
		if full {
			if err := flush(); err != nil {
				return err
			}
		}
		row, err := readRow(f, p)
		if err != nil {
			return err
		}
		batch = append(batch, row)
		bytes += p.bytes
	}
	return flush()
}

// together counts the rows of the first revision.
func (*Dir) together(places []place) int {
	n := 0
	for n < len(places) && n < batchRowsMax && places[n].revision == places[0].revision {
		n++
	}
	return n
}

// places finds the rows of a generation, oldest first.
func (d *Dir) places(g Generation) ([]place, error) {
	out := make([]place, 0, g.Rows)
	offset := int64(0)
	for raw, err := range read[json.RawMessage](d.file(g.name("catalog")), g.CatalogSHA256) {
		if err != nil {
			return nil, err
		}
		var l struct {
			Revision uint64 `json:"r"`
		}
		if err := json.Unmarshal(raw, &l); err != nil {
			return nil, fmt.Errorf("row at %d: %w: %w", offset, ErrDamaged, err)
		}
		out = append(out, place{l.Revision, offset, int64(len(raw))})
		offset += int64(len(raw)) + 1
	}
	slices.SortStableFunc(out, func(a, b place) int { return cmp.Compare(a.revision, b.revision) })
	return out, nil
}

func readRow(f *os.File, p place) (backup.Row, error) {
	raw := make([]byte, p.bytes)
	var l backup.Line
	if _, err := f.ReadAt(raw, p.offset); err != nil {
		return backup.Row{}, fmt.Errorf("row at %d: %w: %w", p.offset, ErrDamaged, err)
	}
	if err := json.Unmarshal(raw, &l); err != nil {
		return backup.Row{}, fmt.Errorf("row at %d: %w: %w", p.offset, ErrDamaged, err)
	}
	return l.Row(), nil
}
