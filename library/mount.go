package library

import (
	"context"
	"errors"
	"fmt"

	"carillon/library/naming"
	"carillon/library/rows"
)

// nameScanMax bounds how many recordings of one name a search looks at: they
// come newest first, and older ones matter only when the newer are stored and
// deleted.
const nameScanMax = 16

// Mount finds what {account}/{id} plays: a stored item, else a playlist, else
// the newest recording of that account under that name that is live or ended.
// An id whose extension is not part of the item's own id finds the item all the
// same.
func (l *Library) Mount(ctx context.Context, account, id string) (Mount, error) {
	if err := naming.CheckItem(account, id); err != nil {
		return Mount{}, err
	}
	var m Mount
	err := l.rows.Find(ctx, func() (err error) {
		m, err = l.mounted(ctx, account, id)
		return l.unlessSpooled(err, account, id)
	})
	return m, err
}

// mounted is Mount by what this node knows.
func (l *Library) mounted(ctx context.Context, account, id string) (Mount, error) {
	d, err := l.item(ctx, account, id)
	if !errors.Is(err, ErrNotFound) {
		return Mount{Doc: d}, err
	}
	p, err := l.playlist(ctx, account, id)
	if !errors.Is(err, ErrNotFound) {
		return Mount{Playlist: p}, err
	}
	m, err := l.named(ctx, account, id)
	if !errors.Is(err, ErrNotFound) {
		return m, err
	}
	// The URLs that a lookup gives end in an extension, ids need not.
	stem, format := splitExt(id)
	if format == "" {
		return Mount{}, err
	}
	d, err = l.item(ctx, account, stem)
	if err != nil {
		return Mount{}, err
	}
	if d.Audio.Format != format {
		return Mount{}, fmt.Errorf("item %s/%s: %w", account, id, ErrNotFound)
	}
	return Mount{Doc: d}, nil
}

// named finds the newest recording under a media name that can be played.
func (l *Library) named(ctx context.Context, account, name string) (Mount, error) {
	prefix := nameKeyPrefix(account, name)
	seen := 0
	for row, err := range l.rows.Scan(ctx, prefix, "") {
		if err != nil {
			return Mount{}, fmt.Errorf("recordings named %s/%s: %w", account, name, err)
		}
		if seen++; seen > nameScanMax {
			break
		}
		s, err := l.recording(ctx, rows.InvertID(row.Key[len(prefix):]))
		if errors.Is(err, ErrNotFound) {
			continue // discarded between the two reads
		}
		if err != nil {
			return Mount{}, err
		}
		switch s.State {
		case StateSealed, StateTruncated:
			if s.Audio == nil {
				continue // its source sent nothing: what was there before counts
			}
			return Mount{Recording: &s.Recording}, nil
		case StateLive:
			return Mount{Recording: &s.Recording}, nil
		case StateStored:
			d, err := l.itemOf(ctx, s)
			if !errors.Is(err, ErrNotFound) {
				return Mount{Doc: d}, err
			}
		case StateWaiting, StateDiscarded:
		}
	}
	return Mount{}, fmt.Errorf("item %s/%s: %w", account, name, ErrNotFound)
}

// itemOf is the document that a stored recording became, while it still holds
// that sound.
func (l *Library) itemOf(ctx context.Context, s *stored) (*Document, error) {
	d, err := l.document(ctx, s.ItemAccount, s.Item)
	if err != nil {
		return nil, err
	}
	if d.Blob != s.Blob {
		return nil, fmt.Errorf("recording %s: its item was replaced: %w", s.ID, ErrNotFound)
	}
	return d, nil
}
