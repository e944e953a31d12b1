package blobstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"carillon/internal/hlog"
)

// Defaults of StoreConfig: an idle node with both databases stays below
// 200 MiB.
const (
	// StoreMemtableBytes is one memtable; there are up to memtables+1. A Raft
	// entry of 1,000 live pieces is half a MiB, and a transaction may fill 15%.
	StoreMemtableBytes = 16 << 20
	// StoreIndexCacheBytes holds table indexes and bloom filters.
	StoreIndexCacheBytes = 16 << 20
	// StoreValueLogFileBytes is one value-log file: what GC copies at a time.
	StoreValueLogFileBytes = 128 << 20

	// memtables waiting to be flushed; the fourth stalls writers.
	memtables = 3
	// openMax bounds the meta rows that are kept at hand: ten times the
	// recordings that a node is built for, 2 MiB.
	openMax = 10_000
	// levelZeroTables are merged into the next level when there are so many.
	// Few, because a look-up may visit each.
	levelZeroTables = 2
	// storeValueThreshold is where rows leave the LSM tree. Live pieces of
	// 16 to 128 kbit/s stay below, chunks go to the value log once.
	storeValueThreshold = 4 << 10
	// badgerValueLogBytes is a file of Badger's own value log: nothing is written
	// to it any more.
	badgerValueLogBytes = 16 << 20
)

// StoreConfig says where a Store is and how much memory it may take. Zero
// fields mean the default.
type StoreConfig struct {
	Dir               string
	MemtableBytes     int64 // StoreMemtableBytes
	IndexCacheBytes   int64 // StoreIndexCacheBytes
	ValueLogFileBytes int64 // StoreValueLogFileBytes
	Shards            int   // that Count knows from the start; 0: one

	still bool // as in CatalogConfig
}

func (c StoreConfig) withDefaults() StoreConfig {
	for _, f := range []struct {
		value *int64
		def   int64
	}{
		{&c.MemtableBytes, StoreMemtableBytes},
		{&c.IndexCacheBytes, StoreIndexCacheBytes},
		{&c.ValueLogFileBytes, StoreValueLogFileBytes},
	} {
		if *f.value == 0 {
			*f.value = f.def
		}
	}
	return c
}

// badgerOptions are common to both databases; nothing that matters is left to
// a default of Badger.
func badgerOptions(dir string, log *slog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithLogger(hlog.Badger(log)).
		WithNumGoroutines(2).
		WithMetricsEnabled(false).
		WithNumVersionsToKeep(1).
		WithDetectConflicts(false). // one writer
		WithNumMemtables(memtables).
		WithBaseTableSize(2 << 20).
		WithNumLevelZeroTables(levelZeroTables).
		WithNumLevelZeroTablesStall(15).
		WithNumCompactors(2). // the least Badger allows
		WithCompactL0OnClose(false).
		WithCompression(options.None).
		WithBlockCacheSize(0). // it holds blocks of the mapped file, which are not checked again
		WithChecksumVerificationMode(options.OnBlockRead)
}

// Store is the blobs database of one node. Writes come through Apply, in the
// order of the log, and are durable after Sync; reads through the Shelf
// methods. All methods may be called concurrently.
type Store struct {
	cfg     StoreConfig
	log     *slog.Logger
	db      *badger.DB
	trust   trust
	gate    gate
	buffers *Buffers
	merger  *merger
	values  *valueLog
	stop    context.CancelFunc

	lanes   lanes
	commits *commits

	// mu guards follows.
	mu      sync.Mutex
	follows map[ID]*follow

	unclean      bool // it was not closed in order
	old          bool // Badger's own value log is not empty
	blobs, bytes atomic.Int64
	bins         atomic.Pointer[bins]
	// garbage is what was removed since the value log was looked through, about.
	garbage atomic.Int64
	collect collection
	readers readers
}

// OpenStore opens or creates the blobs database in cfg.Dir. ErrCorrupt: it is
// damaged; see [SetAside].
func OpenStore(cfg StoreConfig, log *slog.Logger) (*Store, error) {
	cfg = cfg.withDefaults()
	log = log.With("component", "blobstore")
	if err := raiseFormat(cfg.Dir, "blobs", blobsFormatOldest, BlobsFormat); err != nil {
		return nil, err
	}
	if err := dropLeftover(cfg.Dir, log); err != nil {
		return nil, err
	}
	opts := badgerOptions(cfg.Dir, log).
		WithSyncWrites(false). // the raft log is the durable copy
		WithMemTableSize(cfg.MemtableBytes).
		WithIndexCacheSize(cfg.IndexCacheBytes).
		WithValueLogFileSize(badgerValueLogBytes).
		WithValueThreshold(storeValueThreshold).
		WithVerifyValueChecksum(false) // we check the blocks that are touched
	if cfg.still {
		opts.NumCompactors = 0
	}
	left, _ := filepath.Glob(filepath.Join(cfg.Dir, "*.mem")) // the pattern is well formed
	oldValues, _ := filepath.Glob(filepath.Join(cfg.Dir, "*.vlog"))
	seen := errMismatch.seen.Load()
	db, err := openDatabase(opts, log)
	if err != nil {
		return nil, fmt.Errorf("open blobs database: %w", err)
	}
	s := &Store{
		cfg:     cfg,
		log:     log,
		db:      db,
		buffers: NewBuffers(),
		follows: make(map[ID]*follow),
		commits: newCommits(db.MaxVersion()),
		unclean: len(left) > 0,
		old:     len(oldValues) > 1,
		collect: collection{rowsMax: gcRowsMax},
	}
	s.trust.renew(seen)
	s.readers.visible = db.MaxVersion()
	counts := make(bins, max(cfg.Shards, 1))
	s.bins.Store(&counts)
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.merger = newMerger(s)
	if s.values, err = openValues(cfg.Dir, cfg.ValueLogFileBytes, &s.garbage, log); err != nil {
		cancel()
		return nil, errors.Join(err, db.Close())
	}
	if err := s.recover(ctx); err != nil {
		cancel()
		s.values.close()
		return nil, errors.Join(err, db.Close())
	}
	s.merger.start(ctx)
	go s.values.early.run(ctx, s.values)
	return s, nil
}

// Unclean says that the store was not closed in order the last time: of what was
// written then, anything may be missing that its owner does not write again.
func (s *Store) Unclean() bool { return s.unclean }

// Close waits for running calls, ends the background work and closes the
// database, syncing it. It may be called twice.
func (s *Store) Close() error {
	s.stop()
	first := s.gate.close()
	s.merger.wait()
	<-s.values.early.done
	s.mu.Lock()
	for _, f := range s.follows {
		f.fail(ErrClosed) // no new ones: the gate is closed
	}
	s.mu.Unlock()
	if !first {
		return nil
	}
	// The places go to the disk after what they name.
	err := s.values.sync()
	s.values.close()
	if cerr := s.db.Close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("close blobs database: %w", cerr))
	}
	return err
}

// recover counts the blobs and finds the live chunks that were not merged yet.
func (s *Store) recover(ctx context.Context) error {
	for info, err := range s.Blobs(ctx) {
		if err != nil {
			return err
		}
		s.counted(info.ID, 1, info.Size)
	}
	return s.merger.recover()
}

// Buffers are the pools of this store, for the Readers and Recorders of the
// node.
func (s *Store) Buffers() *Buffers { return s.buffers }

// Sync makes everything durable that was applied before the call.
//
// Badger's own Sync covers the memtable in use. One that is full and waits for its
// flush is not in it, so the write ahead files are synced here by name.
func (s *Store) Sync() error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	merged := s.merger.takeMerged()
	if err := s.sync(); err != nil {
		s.merger.giveBack(merged)
		return err
	}
	return s.dropPieces(merged)
}

func (s *Store) sync() error {
	if err := s.values.sync(); err != nil {
		return err
	}
	if err := s.db.Sync(); err != nil {
		return fmt.Errorf("sync blobs database: %w", err)
	}
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("sync blobs database: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".mem") {
			continue
		}
		// A file that is gone meanwhile was flushed to a synced table.
		if err := syncPath(filepath.Join(s.cfg.Dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return syncPath(s.cfg.Dir)
}

// syncPath makes a file or the names in a directory durable.
func syncPath(path string) error {
	f, err := os.Open(path) //nolint:gosec // below our own directory
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync: %w", err), f.Close())
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// StoreStats describes a Store.
type StoreStats struct {
	Blobs         int64 // sealed and open ones
	Bytes         int64 // contiguous bytes of all blobs
	LSMBytes      int64 // on disk, as Badger last counted
	ValueLogBytes int64
	Following     int // open blobs kept in memory
	Unmerged      int // full chunks that wait for the merger
}

// Stats is cheap enough for every scrape.
func (s *Store) Stats() StoreStats {
	if s.gate.enter() != nil {
		return StoreStats{}
	}
	defer s.gate.leave()
	lsm, _ := s.db.Size()
	s.mu.Lock()
	following := len(s.follows)
	s.mu.Unlock()
	return StoreStats{
		Blobs: s.blobs.Load(), Bytes: s.bytes.Load(),
		LSMBytes: lsm, ValueLogBytes: s.values.bytes(),
		Following: following, Unmerged: s.merger.backlog(),
	}
}

// Blobs yields every blob in the order of the ids, as of one moment. Close
// waits for the loop.
func (s *Store) Blobs(ctx context.Context) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := s.gate.enter(); err != nil {
			yield(Info{}, err)
			return
		}
		defer s.gate.leave()
		ts := s.readers.begin()
		defer s.readers.end(ts)
		txn := s.db.NewTransactionAt(ts, false)
		defer txn.Discard()
		opts := badger.IteratorOptions{Prefix: kindKey(kindMeta, kindBytes)}
		it := txn.NewIterator(opts)
		defer it.Close()
		for item, err := range each(it, it.Rewind) {
			var info Info
			if err = errors.Join(err, ctx.Err()); err == nil {
				info, err = itemInfo(item)
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

func itemInfo(item *badger.Item) (Info, error) {
	id, err := keyID(item.Key())
	if err != nil {
		return Info{}, err
	}
	var info Info
	err = item.Value(func(row []byte) error {
		m, err := decodeMeta(row)
		if err == nil {
			info = m.info(id)
		}
		return err
	})
	if err != nil {
		return Info{}, fmt.Errorf("blob %v: %w", id, err)
	}
	return info, nil
}

// Stat implements Shelf.
func (s *Store) Stat(_ context.Context, id ID) (Info, error) {
	if err := s.gate.enter(); err != nil {
		return Info{}, err
	}
	defer s.gate.leave()
	m, err := s.getMeta(id)
	if err != nil {
		return Info{}, err
	}
	return m.info(id), nil
}

func (s *Store) getMeta(id ID) (*meta, error) {
	txn := s.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	return txnMeta(txn, id)
}

func txnMeta(txn *badger.Txn, id ID) (*meta, error) {
	item, err := lookUp(txn, metaKey(id))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, fmt.Errorf("blob %v: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read blob %v: %w", id, err)
	}
	var m *meta
	err = item.Value(func(row []byte) error {
		var err error
		m, err = decodeMeta(row)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read blob %v: %w", id, err)
	}
	return m, nil
}

// discardEvery is how often old versions of rows are given up. A single get
// reads the newest version and needs no protection; iterators register.
const discardEvery = time.Second

// readers knows the oldest timestamp that is still being read, so that
// compaction keeps what it needs.
type readers struct {
	mu      sync.Mutex
	visible uint64         // of the last commit, guarded by mu
	active  map[uint64]int // guarded by mu
	last    time.Time      // when safe last answered, guarded by mu
}

// begin returns the timestamp to read at; end must follow.
func (r *readers) begin() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active == nil {
		r.active = make(map[uint64]int)
	}
	r.active[r.visible]++
	return r.visible
}

func (r *readers) end(ts uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active[ts]--; r.active[ts] == 0 {
		delete(r.active, ts)
	}
}

// commit makes ts what new iterators read at, unless that is newer, and tells the database now and
// then what it may forget.
func (r *readers) commit(db *badger.DB, ts uint64) {
	r.mu.Lock()
	r.visible = max(r.visible, ts)
	due := time.Since(r.last) >= discardEvery
	r.mu.Unlock()
	if due {
		r.release(db)
	}
}

// release tells the database what nobody reads any more.
func (r *readers) release(db *badger.DB) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = time.Now()
	safe := r.visible
	for active := range r.active {
		safe = min(safe, active)
	}
	db.SetDiscardTs(safe)
}
