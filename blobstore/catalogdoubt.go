package blobstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// lookedThroughWait is how long a read waits for another that looks through the
// catalog, which takes seconds for a million documents: a caller is on the line.
const lookedThroughWait = time.Second

// Look reads all of the catalog if there was a reason to doubt it since the last
// time. ErrCorrupt: it is damaged, answers nothing any more, and is to be built
// again.
func (c *CatalogStore) Look(ctx context.Context) error {
	gen, err := c.enter()
	if err != nil {
		return err
	}
	defer gen.gate.leave()
	return gen.sure(ctx)
}

// CheckTables reads every block and index of every table. ErrCorrupt: as Look.
func (c *CatalogStore) CheckTables() error { return c.check(checkTables) }

// CheckIndexes reads the indexes of the tables. ErrCorrupt: as Look.
func (c *CatalogStore) CheckIndexes() error { return c.check(checkIndexes) }

func (c *CatalogStore) check(tables func(*badger.DB) error) error {
	gen, err := c.enter()
	if err != nil {
		return err
	}
	defer gen.gate.leave()
	err = tables(gen.db)
	if errors.Is(err, ErrCorrupt) {
		return gen.condemned(err)
	}
	return err
}

// believe says whether what was read may be believed: it is asked after each read.
// ErrUnavailable: the catalog is damaged, see DESIGN.md, "Damage", or it is being
// found out, for longer than a caller waits. Who asks first finds out, which takes
// as long as reading all of the catalog does; that is once in the life of a disk.
func (g *generation) believe(ctx context.Context) error {
	if _, doubted := g.trust.doubted(); !doubted && g.damage.Load() == nil {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, lookedThroughWait)
	defer cancel()
	select {
	case g.looking <- struct{}{}:
	case <-bounded.Done():
		return fmt.Errorf("the catalog is being looked through: %w", ErrUnavailable)
	}
	defer func() { <-g.looking }()
	if err := g.lookThrough(ctx); err != nil {
		return fmt.Errorf("%w: %v", ErrUnavailable, err) //nolint:errorlint // others have what is ErrCorrupt here
	}
	return nil
}

// sure is believe for those who can wait, and cannot do without.
func (g *generation) sure(ctx context.Context) error {
	g.looking <- struct{}{}
	defer func() { <-g.looking }()
	return g.lookThrough(ctx)
}

// lookThrough reads all tables, and all rows: a compaction that met the damaged
// block has left out what was in it and behind it, and its table is gone.
func (g *generation) lookThrough(ctx context.Context) error {
	for {
		if err := g.damage.Load(); err != nil {
			return *err
		}
		seen, doubted := g.trust.doubted()
		if !doubted {
			return nil
		}
		err := checkTables(g.db)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return fmt.Errorf("the catalog is not looked through: %w: %w", ErrUnavailable, err)
		}
		if err == nil {
			err = g.recount(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("the catalog is not looked through: %w: %w", ErrUnavailable, ctx.Err())
		case err != nil:
			return g.condemned(err)
		}
		g.trust.renew(seen)
	}
}

// condemned notes that the catalog is damaged: from now on it answers nothing.
func (g *generation) condemned(err error) error {
	err = fmt.Errorf("the catalog is damaged: %w: %w", ErrCorrupt, err)
	if !g.damage.CompareAndSwap(nil, &err) {
		return *g.damage.Load()
	}
	return err
}

// recount compares all rows with what they came to when they were written. Rows
// and sums change together, so that this is exact at the last commit.
func (g *generation) recount(ctx context.Context) error {
	ts := g.readers.begin()
	defer g.readers.end(ts)
	counted, written := tallies{}, tallies{}
	outcomes := uint64(0)
	err := g.scanAll(ts, func(key, value []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if key[1] == kindOutcome {
			outcomes++
		}
		return collect(key, value, counted, written)
	})
	if err == nil {
		err = counted.compare(written)
	}
	if err != nil {
		return err
	}
	txn := g.db.NewTransactionAt(ts, false)
	defer txn.Discard()
	var prog progress
	err = readRow(txn, appliedKey(), func(row []byte) error {
		prog, err = decodeProgress(row)
		return err
	})
	switch {
	case errors.Is(err, ErrNotFound) && ts == 0:
		return nil
	case err != nil:
		return err
	case prog.applied != ts || outcomes != min(prog.count, outcomesMax):
		return fmt.Errorf("%d outcomes at %d, %d were written at %d: %w",
			outcomes, ts, prog.count, prog.applied, ErrCorrupt)
	}
	return nil
}

// scanAll calls fn for every row but the applied one, in order of the keys.
func (g *generation) scanAll(ts uint64, fn func(key, value []byte) error) error {
	txn := g.db.NewTransactionAt(ts, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 64})
	defer it.Close()
	for item, err := range each(it, it.Rewind) {
		if err != nil {
			return err
		}
		key := item.Key()
		if len(key) < kindBytes || key[0] != layoutVersion || key[1] == kindApplied {
			continue
		}
		if err := item.Value(func(v []byte) error { return fn(key, v) }); err != nil {
			return err
		}
	}
	return nil
}
