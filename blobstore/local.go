package blobstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"
	"time"
)

// Local is a whole store on one disk without a log: Writer, Shelf and Catalog
// of one node. Packages test against it, and it is what the conformance suite
// calls right.
type Local struct {
	Blobs *Store
	Rows  *CatalogStore

	mu sync.Mutex // orders commits: one gives one log position
}

var (
	_ Writer      = (*Local)(nil)
	_ BatchWriter = (*Local)(nil)
	_ Joiner      = (*Local)(nil)
	_ Shelf       = (*Local)(nil)
	_ Catalog     = (*Local)(nil)
)

// OpenLocal opens or creates both databases below dir.
func OpenLocal(dir string, log *slog.Logger) (*Local, error) {
	store, err := OpenStore(StoreConfig{Dir: filepath.Join(dir, "blobs")}, log)
	if err != nil {
		return nil, err
	}
	catalog, err := OpenCatalog(CatalogConfig{Dir: filepath.Join(dir, "catalog")}, log)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &Local{Blobs: store, Rows: catalog}, nil
}

// Close closes both databases. It may be called twice.
func (l *Local) Close() error { return errors.Join(l.Blobs.Close(), l.Rows.Close()) }

func (l *Local) do(ctx context.Context, ops ...Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := time.Now()
	for i := range ops {
		ops[i].At = now
	}
	for _, err := range l.Blobs.Apply(ops) {
		if err != nil {
			return err
		}
	}
	return l.Blobs.Sync()
}

// Start implements Joiner.
func (l *Local) Start(ctx context.Context, id ID, spec Spec, p []byte) error {
	return l.do(ctx, Op{Kind: OpBegin, ID: id, Spec: spec}, Op{Kind: OpAppend, ID: id, Data: p})
}

// Finish implements Joiner.
func (l *Local) Finish(ctx context.Context, id ID, offset int64, p []byte, totals Totals) error {
	return l.do(ctx, Op{Kind: OpAppend, ID: id, Offset: offset, Data: p},
		Op{Kind: OpSeal, ID: id, Totals: totals})
}

// Begin implements Writer.
func (l *Local) Begin(ctx context.Context, id ID, spec Spec) error {
	return l.do(ctx, Op{Kind: OpBegin, ID: id, Spec: spec})
}

// Append implements Writer.
func (l *Local) Append(ctx context.Context, id ID, offset int64, p []byte) error {
	return l.do(ctx, Op{Kind: OpAppend, ID: id, Offset: offset, Data: p})
}

// Seal implements Writer.
func (l *Local) Seal(ctx context.Context, id ID, totals Totals) error {
	return l.do(ctx, Op{Kind: OpSeal, ID: id, Totals: totals})
}

// Put implements Writer.
func (l *Local) Put(ctx context.Context, id ID, spec Spec, p []byte, totals Totals) error {
	return l.do(ctx, Op{Kind: OpPut, ID: id, Spec: spec, Data: p, Totals: totals})
}

// Remove implements Writer.
func (l *Local) Remove(ctx context.Context, id ID) error {
	return l.do(ctx, Op{Kind: OpRemove, ID: id})
}

// AppendLive implements BatchWriter with one sync for all.
func (l *Local) AppendLive(ctx context.Context, appends []LiveAppend, done func(i int, err error)) {
	ops := make([]Op, len(appends))
	now := time.Now()
	for i, a := range appends {
		ops[i] = Op{Kind: OpAppend, ID: a.ID, Offset: a.Offset, Data: a.Data, At: now}
	}
	err := ctx.Err()
	var errs []error
	if err == nil {
		errs = l.Blobs.Apply(ops)
		err = l.Blobs.Sync()
	}
	for i := range appends {
		if err == nil {
			done(i, errs[i])
		} else {
			done(i, err)
		}
	}
}

// Open implements Shelf.
func (l *Local) Open(ctx context.Context, id ID) (*Reader, error) { return l.Blobs.Open(ctx, id) }

// Stat implements Shelf.
func (l *Local) Stat(ctx context.Context, id ID) (Info, error) { return l.Blobs.Stat(ctx, id) }

// Get implements Catalog.
func (l *Local) Get(ctx context.Context, key string) (Row, error) {
	return l.Rows.Get(ctx, key)
}

// Scan implements Catalog.
func (l *Local) Scan(ctx context.Context, prefix, after string) iter.Seq2[Row, error] {
	return l.Rows.Scan(ctx, prefix, after)
}

// Commit implements Catalog.
func (l *Local) Commit(ctx context.Context, txn Txn) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := txn.Check(); err != nil {
		return 0, err
	}
	if s := txn.Sound; s != nil {
		if err := l.Put(ctx, s.ID, s.Spec, s.Data, s.Totals); err != nil {
			return 0, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	index := l.Rows.Applied() + 1
	entry := TxnEntry{Index: index, ID: txn.ID, Txn: txn}
	results, err := l.Rows.Apply([]TxnEntry{entry}) //nolint:contextcheck // an apply ends
	if err != nil {
		return 0, err
	}
	if err := results[0].Err; err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	return results[0].Index, nil
}

// Fresh implements Catalog.
func (l *Local) Fresh(ctx context.Context) error { return ctx.Err() }

// Applied implements Catalog.
func (l *Local) Applied() uint64 { return l.Rows.Applied() }

// Tally implements Catalog.
func (l *Local) Tally(ctx context.Context, class string) (Tally, error) {
	return l.Rows.Tally(ctx, class)
}

// Watch implements Catalog.
func (l *Local) Watch(key string) (<-chan struct{}, func()) { return l.Rows.Watch(key) }
