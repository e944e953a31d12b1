package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"carillon/library/backup"
	"carillon/library/fault"
	"carillon/library/restore"
)

// electing is a cluster that has no leader for the first calls of each kind.
type electing struct {
	*fakeCluster

	calls map[string]int
	until int
}

func (e *electing) elect(what string) error {
	e.arriving.Lock()
	defer e.arriving.Unlock()
	if e.calls[what]++; e.calls[what] < e.until {
		return fmt.Errorf("no leader: %w", fault.ErrUnavailable)
	}
	return nil
}

func (e *electing) BeginRestore(ctx context.Context, source string, merge bool) (restore.Begun, error) {
	if err := e.elect("begin"); err != nil {
		return restore.Begun{}, err
	}
	return e.fakeCluster.BeginRestore(ctx, source, merge)
}

func (e *electing) RestoreBlob(ctx context.Context, spec backup.Blob, body io.Reader) (bool, error) {
	if err := e.elect(spec.ID); err != nil {
		_, _ = io.CopyN(io.Discard, body, 3) // a part of it was sent
		return false, err
	}
	return e.fakeCluster.RestoreBlob(ctx, spec, body)
}

func (e *electing) RestoreRows(ctx context.Context, rows []backup.Row, merge bool) (restore.Report, error) {
	if err := e.elect(rows[0].Key); err != nil {
		return restore.Report{}, err
	}
	return e.fakeCluster.RestoreRows(ctx, rows, merge)
}

func (e *electing) EndRestore(ctx context.Context) error {
	if err := e.elect("end"); err != nil {
		return err
	}
	return e.fakeCluster.EndRestore(ctx)
}

// TestRestoreThroughElection restores into a cluster that is without a leader now and
// then, and gives up on one that stays so.
func TestRestoreThroughElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := newFakeCluster()
		for i := range 12 {
			from.item(fmt.Sprintf("a/%d", i), fmt.Appendf(nil, "sound %d", i))
		}
		dir, err := OpenDir(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		g, err := dir.Take(t.Context(), from, "c1", 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		to := &electing{newFakeCluster(), map[string]int{}, triesMax}
		done, err := dir.Restore(t.Context(), to, g, false, nil)
		if err != nil || done.Sent != 12 || len(to.rows) != len(from.rows) {
			t.Errorf("%+v, %d of %d rows: %v", done, len(to.rows), len(from.rows), err)
		}
		for id, body := range from.blobs {
			if !bytes.Equal(to.blobs[id], body) {
				t.Errorf("blob %s: %q", id, to.blobs[id])
			}
		}
		to = &electing{newFakeCluster(), map[string]int{}, triesMax + 1}
		if _, err := dir.Restore(t.Context(), to, g, false, nil); !errors.Is(err, fault.ErrUnavailable) {
			t.Errorf("never a leader: %v", err)
		}
	})
}
