package rows

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/fault"
)

const (
	// WriteTriesMax bounds how often a change is built anew because the rows
	// it stands on changed meanwhile. Of n writers of one item one wins each
	// round, so this many may meet; more is a client in a loop.
	WriteTriesMax = 32
	// FreshWait bounds how long a read waits to catch up with the leader. A
	// healthy cluster takes a millisecond; an election takes about one second,
	// and a caller hears nothing while we wait.
	FreshWait = 2 * time.Second
)

// ErrDone ends a Write that finds its work done already.
var ErrDone = errors.New("nothing to commit")

// Store is the catalog as the library uses it. It is a value, and may be
// copied.
type Store struct{ blobstore.Catalog }

// Write builds a change from what the catalog holds and commits it; when the
// rows have changed meanwhile it builds it again. Build may run several times
// and returns an error to give up. Write returns the revision of the commit.
func (s Store) Write(ctx context.Context, build func() (blobstore.Txn, error)) (uint64, error) {
	for range WriteTriesMax {
		txn, err := build()
		if err != nil {
			return 0, err
		}
		revision, err := s.Commit(ctx, txn)
		if !errors.Is(err, blobstore.ErrConflict) {
			return revision, err
		}
		// Who won may be on another node, and its rows not here yet.
		if err := s.Fresh(ctx); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("rows changed %d times: %w", WriteTriesMax, blobstore.ErrConflict)
}

// Fresh waits until this node knows all that was committed before the call, at
// most FreshWait; then it is [fault.ErrUnavailable].
func (s Store) Fresh(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, FreshWait)
	defer cancel()
	err := s.Catalog.Fresh(bounded)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("catch up with the leader: %w: %w", fault.ErrUnavailable, err)
	}
	return err
}

// CatchUp is Fresh for what is better answered with what this node knows than
// not at all: listings and settings, which an operator wants to see also while
// there is no leader.
func (s Store) CatchUp(ctx context.Context) error {
	err := s.Fresh(ctx)
	if errors.Is(err, fault.ErrUnavailable) {
		return nil
	}
	return err
}

// Find runs find, which returns [fault.ErrNotFound] for what is not here, and
// runs it again with all that was committed before that counts.
func (s Store) Find(ctx context.Context, find func() error) error {
	err := find()
	if !errors.Is(err, fault.ErrNotFound) {
		return err
	}
	if err := s.Fresh(ctx); err != nil {
		return err
	}
	return find()
}

// NotFound turns the store's word for a missing row into [fault.ErrNotFound].
func NotFound(err error, what string, names ...string) error {
	if !errors.Is(err, blobstore.ErrNotFound) {
		return fmt.Errorf("%s %s: %w", what, strings.Join(names, "/"), err)
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
func (m *missing) Error() string {
	return fmt.Sprintf("%s %q: %v", m.what, strings.Join(m.names, "/"), fault.ErrNotFound)
}

// Unwrap returns ErrNotFound.
func (m *missing) Unwrap() error { return fault.ErrNotFound }
