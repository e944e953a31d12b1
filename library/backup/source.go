package backup

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/fault"
	"carillon/library/feed"
	"carillon/library/naming"
	"carillon/library/playtoken"
	"carillon/library/rows"
	"carillon/library/webhook"
)

const (
	// HoldTTL is how long the sweep waits for somebody who takes a backup and
	// does not say that it still does: a client that died must not keep removed
	// items for longer.
	HoldTTL  = 15 * time.Minute
	holdsMax = 16 // backups and restores at a time
	// RestoreKey is the key of the row that is there while a restore is under way.
	RestoreKey = "k1/restore"
)

// Source is the cluster as a backup is taken of it. It is a value, and may be
// copied.
type Source struct {
	Catalog rows.Store
	Shelf   blobstore.Shelf
}

// outside are the prefixes of rows that mean something in their own cluster only:
// events and positions in them, nodes and placement, who tends what at the
// moment, holds, and the key of playback URLs, which name revisions.
func outside() []string {
	return []string{
		feed.Prefix, "c1/", "z1/", webhook.StatePrefix, feed.TrimKey, playtoken.KeyRow, blobstore.HoldPrefix,
		RestoreKey,
	}
}

// Includes says whether a row belongs into a backup.
func Includes(key string) bool {
	for _, prefix := range outside() {
		if strings.HasPrefix(key, prefix) {
			return false
		}
	}
	return true
}

// Rows yields all rows from one view, in order of their keys, those that were not
// changed after the log position since without their value. Position is valid
// when the loop has ended: the view held everything up to there. Call Hold first,
// or blobs of the view may be gone when they are fetched.
func (s Source) Rows(
	ctx context.Context, since uint64,
) (rows iter.Seq2[Row, error], position *uint64) {
	position = new(uint64)
	return func(yield func(Row, error) bool) {
		if err := s.Catalog.Fresh(ctx); err != nil {
			yield(Row{}, err)
			return
		}
		for row, err := range s.Catalog.Scan(ctx, "", "") {
			if err != nil {
				yield(Row{}, fmt.Errorf("read the catalog: %w", err))
				return
			}
			// A row that was changed up to the view's position and is not in it
			// with that revision was changed again, or is gone: so the highest
			// revision that is there serves as the position.
			*position = max(*position, row.Revision)
			if !Includes(row.Key) {
				continue
			}
			b := Row{Key: row.Key, Revision: row.Revision, Weight: row.Weight}
			if row.Revision > since {
				b.Value = append([]byte{}, row.Value...)
			}
			if !yield(b, nil) {
				return
			}
		}
	}, position
}

// Hold keeps all blobs from being swept for HoldTTL. Again with the same id
// prolongs it. An empty id makes one. It returns the id and until when it holds.
func (s Source) Hold(ctx context.Context, id string) (string, time.Time, error) {
	now := time.Now()
	held := 0
	for row, err := range s.Catalog.Scan(ctx, blobstore.HoldPrefix, "") {
		if err != nil {
			return "", now, fmt.Errorf("look for holds: %w", err)
		}
		until, err := blobstore.HoldUntil(row.Value)
		switch {
		case err == nil && until.Before(now):
			if _, err := s.Catalog.Commit(ctx, blobstore.Txn{Delete: []string{row.Key}}); err != nil {
				return "", now, fmt.Errorf("forget a hold: %w", err)
			}
		case row.Key != blobstore.HoldPrefix+id:
			held++
		}
	}
	if held >= holdsMax {
		return "", now, fmt.Errorf("%d backups at a time: %w", holdsMax, fault.ErrLimit)
	}
	if id == "" {
		id = rows.NewID(now)
	} else if !rows.IsID(id) {
		return "", now, fmt.Errorf("hold %s: %w", naming.Shown(id), fault.ErrNotFound)
	}
	until := now.Add(HoldTTL).UTC().Truncate(time.Millisecond)
	_, err := s.Catalog.Commit(ctx, blobstore.Txn{
		Put: []blobstore.Row{{Key: blobstore.HoldPrefix + id, Value: blobstore.HoldValue(until)}},
	})
	if err != nil {
		return "", now, fmt.Errorf("hold blobs: %w", err)
	}
	return id, until, nil
}

// Release ends a hold. One that is not there: success.
func (s Source) Release(ctx context.Context, id string) error {
	if !rows.IsID(id) {
		return fmt.Errorf("hold %s: %w", naming.Shown(id), fault.ErrNotFound)
	}
	if _, err := s.Catalog.Commit(ctx, blobstore.Txn{Delete: []string{blobstore.HoldPrefix + id}}); err != nil {
		return fmt.Errorf("end a hold: %w", err)
	}
	return nil
}

// Blob opens a blob by its id, as far as it goes. fault.ErrNotFound: it is gone.
// The caller must close the Reader.
func (s Source) Blob(ctx context.Context, id string) (*blobstore.Reader, error) {
	blob, err := blobstore.ParseID(id)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", naming.Shown(id), fault.ErrNotFound)
	}
	r, err := s.Shelf.Open(ctx, blob)
	if errors.Is(err, blobstore.ErrNotFound) {
		return nil, fmt.Errorf("blob %s: %w", id, fault.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", id, err)
	}
	return r, nil
}
