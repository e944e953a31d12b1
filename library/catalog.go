package library

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carillon/blobstore"
)

const (
	// commitTriesMax bounds how often a change is built anew because the rows
	// it stands on changed meanwhile. Of n writers of one item one wins each
	// round, so this many may meet; more is a client in a loop.
	commitTriesMax = 32
	// freshWait bounds how long a read waits to catch up with the leader. A
	// healthy cluster takes a millisecond; an election takes about one second,
	// and a caller hears nothing while we wait.
	freshWait = 2 * time.Second
)

// commit builds a change from what the catalog holds and commits it; when the
// rows have changed meanwhile it builds it again. Build may run several times
// and returns an error to give up.
func (l *Library) commit(ctx context.Context, build func() (blobstore.Txn, error)) (uint64, error) {
	for range commitTriesMax {
		txn, err := build()
		if err != nil {
			return 0, err
		}
		revision, err := l.catalog.Commit(ctx, txn)
		if !errors.Is(err, blobstore.ErrConflict) {
			return revision, err
		}
		// Who won may be on another node, and its rows not here yet.
		if err := l.fresh(ctx); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("rows changed %d times: %w", commitTriesMax, blobstore.ErrConflict)
}

// fresh waits until this node knows all that was committed before the call.
func (l *Library) fresh(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, freshWait)
	defer cancel()
	err := l.catalog.Fresh(bounded)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("catch up with the leader: %w: %w", ErrUnavailable, err)
	}
	return err
}

// catchUp is fresh for what is better answered with what this node knows than
// not at all: listings and settings, which an operator wants to see also while
// there is no leader.
func (l *Library) catchUp(ctx context.Context) error {
	err := l.fresh(ctx)
	if errors.Is(err, ErrUnavailable) {
		return nil
	}
	return err
}

// read runs find at the wanted consistency. Find returns ErrNotFound for what
// is not here.
func (l *Library) read(ctx context.Context, c Consistency, find func() error) error {
	switch c {
	case Linearizable:
		if err := l.fresh(ctx); err != nil {
			return err
		}
		return find()
	case Local:
		return find()
	case Fresh, "":
		err := find()
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := l.fresh(ctx); err != nil {
			return err
		}
		return find()
	}
	return fmt.Errorf("consistency %s, want %s, %s or %s: %w",
		shown(string(c)), Local, Fresh, Linearizable, ErrBadRequest)
}

// document returns the document as this node knows it, or ErrNotFound. Its
// maps are shared and must not be changed.
func (l *Library) document(ctx context.Context, account, id string) (*Document, error) {
	key, applied := mediaKey(account, id), l.catalog.Applied() // before the read: it may only be too small
	if d, ok := l.cache.current(key, applied); ok {
		return d, nil
	}
	row, err := l.catalog.Get(ctx, key)
	if err != nil {
		return nil, notFound(err, "item", account, id)
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
	if !isRecordingID(id) {
		return nil, fmt.Errorf("recording %s: %w", shown(id), ErrNotFound)
	}
	row, err := l.catalog.Get(ctx, recordingKey(id))
	if err != nil {
		return nil, notFound(err, "recording", id)
	}
	s, err := decodeRecording(id, row)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// notFound turns the store's word for a missing row into ours.
func notFound(err error, what string, names ...string) error {
	if !errors.Is(err, blobstore.ErrNotFound) {
		return fmt.Errorf("%s %q: %w", what, names, err)
	}
	return &missing{what, names}
}

// missing is an ErrNotFound whose text is made when somebody reads it: a lookup
// comes to a dozen before it finds a prompt.
type missing struct {
	what  string
	names []string
}

// Error names what was looked for.
func (m *missing) Error() string { return fmt.Sprintf("%s %q: %v", m.what, m.names, ErrNotFound) }

// Unwrap returns ErrNotFound.
func (m *missing) Unwrap() error { return ErrNotFound }

// change collects the rows of one Txn; its methods know which rows belong
// together.
type change struct {
	catalog blobstore.Catalog
	txn     blobstore.Txn
	err     error
}

func (l *Library) newChange() *change { return &change{catalog: l.catalog} }

// urgent marks a change that a recording needs, see [blobstore.Txn].
func (c *change) urgent() { c.txn.Urgent = true }

func (c *change) expect(key string, revision uint64) {
	c.txn.If = append(c.txn.If, blobstore.Cond{Key: key, Revision: revision})
}

func (c *change) put(key string, value []byte) {
	c.txn.Put = append(c.txn.Put, blobstore.Row{Key: key, Value: value})
}

func (c *change) remove(key string) { c.txn.Delete = append(c.txn.Delete, key) }

// putRecording writes s over the revision that it was read at; 0: a new one.
func (c *change) putRecording(s *stored) {
	value, err := encodeRecording(s)
	c.err = errors.Join(c.err, err)
	c.expect(recordingKey(s.ID), s.Revision)
	c.put(recordingKey(s.ID), value)
}

func (c *change) done() (blobstore.Txn, error) { return c.txn, c.err }
