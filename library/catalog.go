package library

import (
	"context"
	"fmt"

	"carillon/blobstore"
	"carillon/library/naming"
	"carillon/library/rows"
)

// read runs find at the wanted consistency. Find returns ErrNotFound for what
// is not here.
func (l *Library) read(ctx context.Context, c Consistency, find func() error) error {
	switch c {
	case Linearizable:
		if err := l.rows.Fresh(ctx); err != nil {
			return err
		}
		return find()
	case Local:
		return find()
	case Fresh, "":
		return l.rows.Find(ctx, find)
	}
	return fmt.Errorf("consistency %s, want %s, %s or %s: %w",
		naming.Shown(string(c)), Local, Fresh, Linearizable, ErrBadRequest)
}

// document returns the document as this node knows it, or ErrNotFound. Its
// maps are shared and must not be changed.
func (l *Library) document(ctx context.Context, account, id string) (*Document, error) {
	key, applied := mediaKey(account, id), l.rows.Applied() // before the read: it may only be too small
	if d, ok := l.cache.current(key, applied); ok {
		return d, nil
	}
	row, err := l.rows.Get(ctx, key)
	if err != nil {
		return nil, rows.NotFound(err, "item", account, id)
	}
	if d, ok := l.cache.get(key, row.Revision, applied); ok {
		return d, nil
	}
	d, err := decodeDocument(account, id, row)
	if err != nil {
		return nil, err
	}
	l.cache.put(key, len(row.Value), applied, d)
	return &d, nil
}

// recording returns the recording as this node knows it, or ErrNotFound.
func (l *Library) recording(ctx context.Context, id string) (*stored, error) {
	if !rows.IsID(id) {
		return nil, fmt.Errorf("recording %s: %w", naming.Shown(id), ErrNotFound)
	}
	row, err := l.rows.Get(ctx, recordingKey(id))
	if err != nil {
		return nil, rows.NotFound(err, "recording", id)
	}
	s, err := decodeRecording(id, row)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// change is a [rows.Change] that knows which rows of the library belong
// together.
type change struct {
	*rows.Change

	catalog blobstore.Catalog
}

func (l *Library) newChange() *change { return &change{&rows.Change{}, l.rows} }

// putRecording writes s over the revision that it was read at; 0: a new one.
func (c *change) putRecording(s *stored) {
	value, err := encodeRecording(s)
	c.Fail(err)
	c.Expect(recordingKey(s.ID), s.Revision)
	c.Put(recordingKey(s.ID), value)
}
