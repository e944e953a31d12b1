package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// catalogRowOverhead is what Badger counts for a row beside key and value.
const catalogRowOverhead = 32

// Apply applies entries in order, each atomically, and returns the result of
// each. The whole call is one transaction with one fsync (more only when it
// exceeds what the database takes at once, then split between entries), with the
// applied index in it, and visible and durable when it returns; with
// CatalogConfig.Replayed there is no fsync, and the log is what is durable. A
// later entry sees the earlier ones.
//
// An entry at or below the applied index, or with an ID that was applied
// before, is skipped and has the first one's result and position if those are
// remembered, else nil and its own. The error means that the disk failed, or that
// the catalog is damaged (ErrCorrupt): nothing of the last step is applied and the
// node must stop.
func (c *CatalogStore) Apply(entries []TxnEntry) ([]TxnResult, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	gen, err := c.enter()
	if err != nil {
		return nil, err
	}
	defer gen.gate.leave()
	b := &catalogBatch{c: c, gen: gen, prog: c.progress}
	b.book.total, _ = c.Set()
	b.reset()
	defer func() { b.txn.Discard() }()
	results := make([]TxnResult, len(entries))
	for i := range entries {
		if results[i], err = b.add(&entries[i]); err != nil {
			return nil, err
		}
	}
	if err := b.commit(); err != nil {
		return nil, err
	}
	return results, nil
}

// Noop notes that the log position index holds nothing for the catalog. It is
// written down with the next Apply.
func (c *CatalogStore) Noop(index uint64) {
	c.turn.Lock()
	defer c.turn.Unlock()
	if index <= c.progress.applied {
		return
	}
	c.progress.applied = index
	c.applied.Store(index)
	c.history.add(nil, index)
	c.watches.fire(nil)
}

// catalogBatch is one database transaction for many entries. It belongs to
// the goroutine that has the turn.
type catalogBatch struct {
	c    *CatalogStore
	gen  *generation
	txn  *badger.Txn
	prog progress // as this batch leaves it

	book tallyBook
	sets []setAt // what all rows came to after each entry of this transaction

	rows, size int64
	outcomes   []outcome // made in this transaction, in order
	ids        map[[16]byte]outcome
	changed    []string
}

func (b *catalogBatch) reset() {
	b.txn = b.gen.db.NewTransactionAt(newest, true)
	b.rows, b.size = 0, 0
	b.outcomes, b.changed, b.ids = nil, nil, make(map[[16]byte]outcome)
	b.sets, b.book.classes = nil, make(map[string]Tally)
}

// lookup finds a transaction that was applied before, in this batch too.
func (b *catalogBatch) lookup(id [16]byte) (outcome, bool) {
	if id == ([16]byte{}) {
		return outcome{}, false
	}
	if o, ok := b.ids[id]; ok {
		return o, true
	}
	o, ok := b.c.known[id]
	return o, ok
}

func (b *catalogBatch) add(e *TxnEntry) (TxnResult, error) {
	if o, ok := b.lookup(e.ID); ok {
		b.prog.applied = max(b.prog.applied, e.Index)
		return TxnResult{Index: o.index, Err: o.result.err()}, nil
	}
	done := TxnResult{Index: e.Index}
	if e.Index <= b.prog.applied {
		return done, nil
	}
	r := resultTooLarge
	if done.Err = e.Txn.check(); done.Err == nil {
		var err error
		if r, done.Err, err = b.try(e); err != nil {
			return TxnResult{}, err
		}
	}
	b.prog.applied = e.Index
	if e.ID == ([16]byte{}) {
		return done, nil
	}
	o := outcome{e.ID, e.Index, r}
	slot := uint16(b.prog.count % outcomesMax)
	b.prog.count++
	b.ids[o.id] = o
	b.outcomes = append(b.outcomes, o)
	return done, b.set(outcomeKey(slot), o.encode())
}

// try writes an entry if its conditions hold.
func (b *catalogBatch) try(e *TxnEntry) (r result, res, err error) {
	if err := b.makeRoom(&e.Txn); err != nil {
		return 0, nil, err
	}
	if res, err = b.evaluate(&e.Txn); res != nil || err != nil {
		return resultConflict, res, err
	}
	err = b.write(e)
	b.sets = append(b.sets, setAt{e.Index, b.book.total})
	return resultOK, nil, err
}

// makeRoom commits the earlier entries when t might not fit any more.
func (b *catalogBatch) makeRoom(t *Txn) error {
	// Each row may change two tallies as well.
	rows := 3*int64(len(t.Put)+len(t.Delete)+len(t.Append)) + 2
	size := (rows + 2) * (catalogRowOverhead + KeyBytesMax)
	for i := range t.Put {
		size += int64(len(t.Put[i].Value) + rowHeadBytes)
	}
	for i := range t.Append {
		size += int64(len(t.Append[i].Value) + rowHeadBytes)
	}
	if b.rows+rows < b.gen.db.MaxBatchCount()-2 && b.size+size < b.gen.db.MaxBatchSize() {
		return nil
	}
	if err := b.commit(); err != nil {
		return err
	}
	b.reset()
	return nil
}

// evaluate returns ErrConflict when a condition does not hold.
func (b *catalogBatch) evaluate(t *Txn) (conflict, err error) {
	for _, cond := range t.If {
		var revision uint64
		err := readRow(b.txn, rowKey(cond.Key), func(row []byte) error {
			r, err := decodeRow(row)
			revision = r.Revision
			return err
		})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("catalog key %q: %w", cond.Key, err)
		}
		if revision != cond.Revision {
			return fmt.Errorf("key %q has revision %d, wanted %d: %w",
				cond.Key, revision, cond.Revision, ErrConflict), nil
		}
	}
	return nil, nil
}

func (b *catalogBatch) write(e *TxnEntry) error {
	for i := range e.Txn.Put {
		row := e.Txn.Put[i]
		row.Revision = e.Index
		old, err := b.before(row.Key)
		if err != nil {
			return err
		}
		if err := b.put(row.Key, old, row); err != nil {
			return err
		}
	}
	for i := range e.Txn.Append {
		row := e.Txn.Append[i]
		row.Revision = e.Index
		if err := b.put(AppendedKey(row.Key, e.Index, i), nil, row); err != nil {
			return err
		}
		b.changed = append(b.changed, row.Key)
	}
	for _, key := range e.Txn.Delete {
		old, err := b.before(key)
		if err != nil {
			return err
		}
		b.changed = append(b.changed, key)
		if old == nil {
			continue
		}
		b.count(len(key), 0)
		if err := b.txn.Delete(rowKey(key)); err != nil {
			return fmt.Errorf("write catalog: %w", err)
		}
		if err := b.tallied(key, old, nil); err != nil {
			return err
		}
	}
	return nil
}

// before is the row as it is in this batch, nil if there is none.
func (b *catalogBatch) before(key string) (*Row, error) {
	var row Row
	err := readRow(b.txn, rowKey(key), row.fill)
	if errors.Is(err, ErrNotFound) {
		return nil, nil //nolint:nilnil // no row is an answer here
	}
	if err != nil {
		return nil, fmt.Errorf("catalog key %q: %w", key, err)
	}
	return &row, nil
}

func (b *catalogBatch) put(key string, old *Row, row Row) error {
	if err := b.set(rowKey(key), encodeRow(row.Revision, row.Weight, row.Value)); err != nil {
		return err
	}
	b.changed = append(b.changed, key)
	return b.tallied(key, old, &row)
}

func (b *catalogBatch) count(key, value int) {
	b.rows++
	b.size += int64(key + value + catalogRowOverhead)
}

func (b *catalogBatch) set(key, value []byte) error {
	b.count(len(key), len(value))
	if err := b.txn.Set(key, value); err != nil {
		return fmt.Errorf("write catalog: %w", err)
	}
	return nil
}

// commit writes the transaction, then lets others see what it means.
func (b *catalogBatch) commit() error {
	c := b.c
	if b.prog == c.progress {
		return nil // everything was skipped
	}
	// What a damaged block hid would decide otherwise here than on other nodes.
	if err := b.gen.sure(context.Background()); err != nil {
		return err
	}
	if b.rows > 0 {
		if err := b.writeTallies(); err != nil {
			return err
		}
		if err := b.set(appliedKey(), b.prog.encode()); err != nil {
			return err
		}
		if err := b.txn.CommitAt(b.prog.applied, nil); err != nil {
			return fmt.Errorf("write catalog: %w", err)
		}
		b.gen.readers.commit(b.gen.db, b.prog.applied)
	}
	slot := c.progress.count
	for _, o := range b.outcomes {
		at := slot % outcomesMax
		slot++
		if old := c.slots[at]; old != ([16]byte{}) {
			delete(c.known, old)
		}
		c.slots[at], c.known[o.id] = o.id, o
	}
	c.progress = b.prog
	c.history.add(b.sets, b.prog.applied)
	c.applied.Store(b.prog.applied)
	c.watches.fire(b.changed)
	return nil
}
