package blobstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
)

// Defaults of CatalogConfig.
const (
	// CatalogMemtableBytes is one memtable. A batch of transactions may fill
	// 15% of it; what is larger is applied in several steps.
	CatalogMemtableBytes = 16 << 20
	// CatalogIndexCacheBytes holds table indexes and bloom filters.
	CatalogIndexCacheBytes = 16 << 20

	// catalogValueLogFileBytes is small: nothing is stored in it.
	catalogValueLogFileBytes = 16 << 20

	// currentFile names the directory in use; see DESIGN.md, "Restore".
	currentFile      = "CURRENT"
	generationPrefix = "catalog-"
)

// CatalogConfig says where a CatalogStore is and how much memory it may take.
// Zero fields mean the default.
type CatalogConfig struct {
	Dir             string
	MemtableBytes   int64 // CatalogMemtableBytes
	IndexCacheBytes int64 // CatalogIndexCacheBytes
	// Replayed says that the owner has every entry above the last snapshot in a
	// durable log and applies it again after a start. Entries then need no sync
	// of their own; see catalogtrust.go.
	Replayed bool
	// BootID stands for this boot of the machine; "": the kernel's. Tests of
	// power cuts set it.
	BootID string
	// still keeps tables as they are. Tests of damage set it: what they damage is
	// not to be merged, nor a merge to meet it, which ends the process.
	still bool
}

// TxnEntry is a transaction with its place in the log.
type TxnEntry struct {
	Index uint64
	// ID names the commit: a second entry with the same ID is not applied but
	// has the first one's result. Zero: not remembered.
	ID  [16]byte
	Txn Txn
}

// TxnResult is what became of a TxnEntry: nil, ErrConflict or ErrTooLarge, and
// the log position at which that was decided, which is an earlier one for an
// entry with an ID that was applied before.
type TxnResult struct {
	Index uint64
	Err   error
}

// CatalogStore is the catalog of one node: small rows and the log position
// they stand for, changed together. Its reads implement those of Catalog. All
// methods may be called concurrently; Apply, Noop and Restore take turns.
type CatalogStore struct {
	cfg CatalogConfig
	log *slog.Logger

	// turn orders changes, and is held over their one fsync: waiting for it is
	// all it is for. No reader takes it.
	turn     sync.Mutex
	progress progress              // guarded by turn
	known    map[[16]byte]outcome  // guarded by turn
	slots    [outcomesMax][16]byte // ids by slot, guarded by turn

	current atomic.Pointer[generation]
	closing atomic.Bool
	retired sync.WaitGroup // generations that still have readers
	applied atomic.Uint64
	history setHistory
	watches watches
}

// generation is one database directory: Restore makes a new one.
type generation struct {
	name    string
	db      *badger.DB
	gate    gate
	readers readers

	trust   trust
	damage  atomic.Pointer[error]
	looking chan struct{} // full while all of it is read, see catalogdoubt.go
}

// OpenCatalog opens or creates the catalog in cfg.Dir.
func OpenCatalog(cfg CatalogConfig, log *slog.Logger) (*CatalogStore, error) {
	for _, f := range []struct {
		value *int64
		def   int64
	}{
		{&cfg.MemtableBytes, CatalogMemtableBytes},
		{&cfg.IndexCacheBytes, CatalogIndexCacheBytes},
	} {
		if *f.value == 0 {
			*f.value = f.def
		}
	}
	if err := checkFormat(cfg.Dir, "catalog", CatalogFormat, CatalogFormat); err != nil {
		return nil, err
	}
	c := &CatalogStore{cfg: cfg, log: log.With("component", "catalog")}
	name, err := c.currentName()
	if err != nil {
		return nil, err
	}
	if cfg.Replayed {
		ok, err := c.trusted(name)
		if err != nil {
			return nil, err
		}
		if !ok {
			if name, err = c.distrust(name); err != nil {
				return nil, err
			}
		}
	}
	err = c.openNamed(name)
	if errors.Is(err, ErrCorrupt) && cfg.Replayed {
		if name, err = c.putAside(name, err); err == nil {
			err = c.openNamed(name)
		}
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// openNamed makes the generation of that name the current one.
func (c *CatalogStore) openNamed(name string) error {
	gen, err := c.openGeneration(name, !c.cfg.Replayed)
	if err != nil {
		return err
	}
	if err := c.adopt(gen); err != nil {
		return errors.Join(err, gen.db.Close())
	}
	return nil
}

// Close waits for running calls and closes the database. It may be called
// twice.
func (c *CatalogStore) Close() error {
	first := !c.closing.Swap(true)
	c.watches.close()
	gen := c.shut()
	c.retired.Wait()
	if !first {
		return nil
	}
	if err := gen.db.Close(); err != nil {
		return fmt.Errorf("close catalog: %w", err)
	}
	return c.closedInOrder()
}

// shut closes the gate of the current generation. It waits without the turn,
// which somebody inside may want; a Restore may switch meanwhile.
func (c *CatalogStore) shut() *generation {
	for {
		gen := c.current.Load()
		gen.gate.close()
		c.turn.Lock()
		same := c.current.Load() == gen
		c.turn.Unlock()
		if same {
			return gen
		}
	}
}

// currentName reads which directory is in use and removes the others: what a
// Restore left that did not come to its end, or was replaced by one that did.
func (c *CatalogStore) currentName() (string, error) {
	if err := os.MkdirAll(c.cfg.Dir, 0o750); err != nil {
		return "", fmt.Errorf("open catalog: %w", err)
	}
	raw, err := os.ReadFile(filepath.Join(c.cfg.Dir, currentFile))
	name := strings.TrimSpace(string(raw))
	if errors.Is(err, os.ErrNotExist) {
		name = generationPrefix + "1"
		err = c.setCurrent(name)
	}
	if err != nil {
		return "", fmt.Errorf("open catalog: %w", err)
	}
	if _, err := generationNumber(name); err != nil {
		if !c.cfg.Replayed {
			return "", err
		}
		return c.putAllAside(err)
	}
	entries, err := os.ReadDir(c.cfg.Dir)
	if err != nil {
		return "", fmt.Errorf("open catalog: %w", err)
	}
	for _, e := range entries {
		if e.Name() == name || !strings.HasPrefix(e.Name(), generationPrefix) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(c.cfg.Dir, e.Name())); err != nil {
			return "", fmt.Errorf("open catalog: %w", err)
		}
	}
	return name, nil
}

func generationNumber(name string) (uint64, error) {
	var n uint64
	if _, err := fmt.Sscanf(name, generationPrefix+"%d", &n); err != nil || n == 0 {
		return 0, fmt.Errorf("%s names %q: %w", currentFile, name, ErrFormat)
	}
	return n, nil
}

// setCurrent switches durably: after a crash CURRENT names the one or the
// other.
func (c *CatalogStore) setCurrent(name string) error {
	return writeSynced(filepath.Join(c.cfg.Dir, currentFile), name+"\n")
}

func (c *CatalogStore) openGeneration(name string, syncWrites bool) (*generation, error) {
	opts := badgerOptions(filepath.Join(c.cfg.Dir, name), c.log).
		WithSyncWrites(syncWrites).
		WithMemTableSize(c.cfg.MemtableBytes).
		WithIndexCacheSize(c.cfg.IndexCacheBytes).
		WithValueLogFileSize(catalogValueLogFileBytes).
		WithValueThreshold(catalogValueBytes + 1). // all in the tree
		WithVerifyValueChecksum(true)
	if c.cfg.still {
		opts.NumCompactors = 0
	}
	gen := &generation{name: name, looking: make(chan struct{}, 1)}
	seen := errMismatch.seen.Load()
	db, err := openDatabase(opts, c.log)
	if err != nil {
		return nil, fmt.Errorf("open catalog database: %w", err)
	}
	gen.db = db
	gen.trust.renew(seen)
	gen.readers.visible = db.MaxVersion()
	return gen, nil
}

// adopt makes gen the current one; the caller has the turn.
func (c *CatalogStore) adopt(gen *generation) error {
	txn := gen.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	var prog progress
	err := readRow(txn, appliedKey(), func(row []byte) error {
		var err error
		prog, err = decodeProgress(row)
		return err
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("open catalog: %w", err)
	}
	known := make(map[[16]byte]outcome)
	var slots [outcomesMax][16]byte
	it := txn.NewIterator(badger.IteratorOptions{
		Prefix: kindKey(kindOutcome, kindBytes), PrefetchValues: true, PrefetchSize: 64,
	})
	defer it.Close()
	for item, err := range each(it, it.Rewind) {
		if err != nil {
			return fmt.Errorf("open catalog: %w", err)
		}
		key := item.Key()
		if len(key) != kindBytes+2 {
			return fmt.Errorf("outcome key of %d bytes: %w", len(key), ErrFormat)
		}
		err := item.Value(func(row []byte) error {
			o, err := decodeOutcome(row)
			slot := binary.BigEndian.Uint16(key[kindBytes:])
			if err != nil || slot >= outcomesMax {
				return errors.Join(err, fmt.Errorf("outcome %d: %w", slot, ErrFormat))
			}
			known[o.id], slots[slot] = o, o.id
			return nil
		})
		if err != nil {
			return fmt.Errorf("open catalog: %w", err)
		}
	}
	total, err := totalOf(txn)
	if err != nil {
		return fmt.Errorf("open catalog: %w", err)
	}
	c.progress, c.known, c.slots = prog, known, slots
	c.history.reset(setAt{prog.applied, total})
	c.current.Store(gen)
	c.applied.Store(prog.applied)
	return nil
}

// totalOf adds up the tallies of the classes.
func totalOf(txn *badger.Txn) (Tally, error) {
	var total Tally
	it := txn.NewIterator(badger.IteratorOptions{
		Prefix: kindKey(kindTally, kindBytes), PrefetchValues: true, PrefetchSize: 64,
	})
	defer it.Close()
	for item, err := range each(it, it.Rewind) {
		if err != nil {
			return Tally{}, err
		}
		class := string(item.Key()[kindBytes:])
		err := item.Value(func(raw []byte) error {
			t, err := decodeTally(raw)
			if err == nil && class == classOf(class) {
				total.merge(t)
			}
			return err
		})
		if err != nil {
			return Tally{}, fmt.Errorf("tally of %q: %w", class, err)
		}
	}
	return total, nil
}

// enter returns the current generation; leave its gate afterwards.
func (c *CatalogStore) enter() (*generation, error) {
	for !c.closing.Load() {
		gen := c.current.Load()
		if err := gen.gate.enter(); err == nil {
			return gen, nil
		}
		if c.current.Load() == gen {
			break
		}
	}
	return nil, ErrClosed
}

// Get implements Catalog.
func (c *CatalogStore) Get(ctx context.Context, key string) (Row, error) {
	if err := ctx.Err(); err != nil {
		return Row{}, err
	}
	gen, err := c.enter()
	if err != nil {
		return Row{}, err
	}
	defer gen.gate.leave()
	txn := gen.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	row := Row{Key: key}
	err = readRow(txn, rowKey(key), row.fill)
	if doubt := gen.believe(ctx); doubt != nil {
		err = doubt
	}
	if err != nil {
		return Row{}, fmt.Errorf("catalog key %q: %w", key, err)
	}
	return row, nil
}

// Scan implements Catalog. Close waits for the loop.
func (c *CatalogStore) Scan(ctx context.Context, prefix, after string) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		gen, err := c.enter()
		if err != nil {
			yield(Row{}, err)
			return
		}
		defer gen.gate.leave()
		ts := gen.readers.begin()
		defer gen.readers.end(ts)
		txn := gen.db.NewTransactionAt(ts, false)
		defer txn.Discard()
		it := txn.NewIterator(badger.IteratorOptions{Prefix: rowKey(prefix)})
		defer it.Close()
		start := rowKey(prefix)
		if after >= prefix {
			start = append(rowKey(after), 0) // the key that follows it
		}
		for item, failed := range each(it, func() { it.Seek(start) }) {
			if err = failed; err != nil {
				break
			}
			row, err := itemRow(item)
			if err == nil {
				err = errors.Join(ctx.Err(), gen.believe(ctx))
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
		if doubt := gen.believe(ctx); doubt != nil {
			err = doubt
		}
		if err != nil {
			yield(Row{}, err)
		}
	}
}

// fill sets everything but the key from the stored form, which it copies.
func (r *Row) fill(raw []byte) error {
	stored, err := decodeRow(raw)
	r.Revision, r.Weight, r.Value = stored.Revision, stored.Weight, append([]byte(nil), stored.Value...)
	return err
}

func itemRow(item *badger.Item) (Row, error) {
	row := Row{Key: string(item.Key()[kindBytes:])}
	err := item.Value(row.fill)
	return row, err
}

// Applied implements Catalog.
func (c *CatalogStore) Applied() uint64 { return c.applied.Load() }

// WaitApplied returns once everything up to index is applied, or with
// ctx.Err(), or ErrClosed.
func (c *CatalogStore) WaitApplied(ctx context.Context, index uint64) error {
	return c.watches.waitApplied(ctx, &c.applied, index)
}

// Watch implements Catalog.
func (c *CatalogStore) Watch(key string) (<-chan struct{}, func()) { return c.watches.watch(key) }
