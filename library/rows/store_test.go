package rows

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"carillon/blobstore"
	"carillon/library/fault"
)

// busy is a catalog in which others are always faster for a while.
type busy struct {
	blobstore.Catalog

	conflicts, freshened int
}

func (b *busy) Commit(context.Context, blobstore.Txn) (uint64, error) {
	if b.conflicts > 0 {
		b.conflicts--
		return 0, fmt.Errorf("row: %w", blobstore.ErrConflict)
	}
	return 7, nil
}

func (b *busy) Fresh(context.Context) error {
	b.freshened++
	return nil
}

// TestWrite: a change is built again after each conflict, on rows that are
// fresh, and given up after so many.
func TestWrite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		conflicts, built int
		want             error
	}{
		{0, 1, nil}, {3, 4, nil}, {WriteTriesMax, WriteTriesMax, blobstore.ErrConflict},
	} {
		catalog, built := &busy{conflicts: c.conflicts}, 0
		revision, err := Store{catalog}.Write(t.Context(), func() (blobstore.Txn, error) {
			built++
			return blobstore.Txn{}, nil
		})
		if !errors.Is(err, c.want) || err == nil && revision != 7 || built != c.built ||
			catalog.freshened != c.conflicts {
			t.Errorf("after %d conflicts: built %d times, fresh %d times, revision %d, %v",
				c.conflicts, built, catalog.freshened, revision, err)
		}
	}
}

// TestFind: what is not here is looked for again when this node has caught up.
func TestFind(t *testing.T) {
	t.Parallel()
	catalog, asked := &busy{}, 0
	err := Store{catalog}.Find(t.Context(), func() error {
		if asked++; asked == 1 {
			return NotFound(blobstore.ErrNotFound, "item", "a", "b")
		}
		return nil
	})
	if err != nil || asked != 2 || catalog.freshened != 1 {
		t.Errorf("asked %d times, fresh %d times: %v", asked, catalog.freshened, err)
	}
	if err := NotFound(blobstore.ErrNotFound, "item", "a"); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("%v is no ErrNotFound", err)
	}
	if err := NotFound(blobstore.ErrClosed, "item", "a"); errors.Is(err, fault.ErrNotFound) {
		t.Errorf("%v is an ErrNotFound", err)
	}
}
