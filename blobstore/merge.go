package blobstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

// unsyncedMergesMax bounds the merged chunks whose pieces still lie beside
// them because nobody called Sync: 64 MiB of pieces.
const unsyncedMergesMax = 256

// chunkRef names a chunk of a live blob.
type chunkRef struct {
	id    ID
	chunk uint32
}

// merger turns the pieces of full chunks of live blobs, and of sealed ones,
// into chunk rows. The content does not change, so it needs no place in the
// log and works behind Apply, one chunk at a time: a thousand recordings that
// began together fill their chunks together.
//
// The pieces are deleted only after a Sync that covers the chunk row: until
// then they may be the only durable copy.
type merger struct {
	s    *Store
	done chan struct{}
	wake chan struct{} // capacity 1

	mu     sync.Mutex
	queue  []chunkRef // guarded by mu
	merged []chunkRef // written, not synced; guarded by mu
}

func newMerger(s *Store) *merger {
	return &merger{s: s, done: make(chan struct{}), wake: make(chan struct{}, 1)}
}

func (g *merger) start(ctx context.Context) {
	go func() {
		defer close(g.done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-g.wake:
				g.run(ctx)
			}
		}
	}()
}

func (g *merger) wait() { <-g.done }

func (g *merger) add(refs []chunkRef) {
	if len(refs) == 0 {
		return
	}
	g.mu.Lock()
	g.queue = append(g.queue, refs...)
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default: // it is awake
	}
}

func (g *merger) backlog() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.queue)
}

// next takes a chunk to merge; due says that it is time to sync.
func (g *merger) next() (ref chunkRef, ok, due bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		return chunkRef{}, false, false
	}
	ref = g.queue[0]
	g.queue = g.queue[1:]
	return ref, true, len(g.merged) >= unsyncedMergesMax
}

func (g *merger) run(ctx context.Context) {
	for ctx.Err() == nil {
		ref, ok, due := g.next()
		if !ok {
			return
		}
		if err := g.merge(ref); err != nil && !errors.Is(err, ErrClosed) {
			g.s.log.Warn("merge of live pieces", "blob", ref.id, "chunk", ref.chunk, "error", err)
		}
		if !due {
			continue
		}
		if err := g.s.Sync(); err != nil && !errors.Is(err, ErrClosed) {
			g.s.log.Error("sync after merges", "error", err)
		}
	}
}

func (g *merger) takeMerged() []chunkRef {
	g.mu.Lock()
	defer g.mu.Unlock()
	merged := g.merged
	g.merged = nil
	return merged
}

func (g *merger) giveBack(refs []chunkRef) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.merged = append(g.merged, refs...)
}

// merge writes the row of one chunk from its pieces.
func (g *merger) merge(ref chunkRef) error {
	s := g.s
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	buf := take(&s.buffers.chunk)
	defer s.buffers.chunk.Put(buf)
	n, ok, err := g.collect(ref, *buf)
	if err != nil {
		return err
	}
	if n > 0 {
		if err := g.write(ref, (*buf)[:n]); err != nil {
			return err
		}
	}
	if n > 0 || ok {
		g.giveBack([]chunkRef{ref})
	}
	return nil
}

// collect reads the pieces of a chunk; 0 bytes: nothing to do, because the
// blob is gone or, if ok, a good row is there.
func (g *merger) collect(ref chunkRef, buf []byte) (n int, ok bool, err error) {
	txn := g.s.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	m, err := txnMeta(txn, ref.id)
	if errors.Is(err, ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	start := chunkStart(ref.chunk)
	want := int(min(m.sum.size-start, ChunkBytesMax))
	if want <= 0 || want < ChunkBytesMax && !m.sealed {
		return 0, false, nil
	}
	err = g.s.readRow(txn, chunkKey(ref.id, ref.chunk), func(row []byte) error {
		c, err := viewChunk(row)
		if err == nil && len(c.data) != want {
			err = ErrCorrupt
		}
		if err == nil {
			err = c.check()
		}
		return err
	})
	if err == nil {
		return 0, true, nil
	}
	r := blobReader{s: g.s, id: ref.id, live: true}
	if err := r.index(txn, ref.chunk); err != nil {
		return 0, false, err
	}
	for n < want {
		if !r.has(start + int64(n)) {
			return 0, false, fmt.Errorf("pieces end at %d of %d: %w", n, want, ErrCorrupt)
		}
		k, err := r.readPieces(txn, start+int64(n), buf[n:want])
		if err != nil {
			return 0, false, err
		}
		n += k
	}
	return want, true, nil
}

// write commits the chunk row unless the blob was removed meanwhile.
func (g *merger) write(ref chunkRef, p []byte) error {
	s := g.s
	head := appendChunkHead(nil, p)
	turn := &s.lanes.of(ref.id).turn
	turn.Lock()
	defer turn.Unlock()
	if _, err := s.getMeta(ref.id); err != nil {
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	txn := s.db.NewTransactionAt(newest, true)
	defer txn.Discard()
	if err := s.setRow(txn, chunkKey(ref.id, ref.chunk), head, p); err != nil {
		return err
	}
	return s.commit(txn)
}

// dropPieces deletes the pieces of chunks whose rows are durable.
func (s *Store) dropPieces(refs []chunkRef) error {
	for _, ref := range refs {
		if err := s.dropChunkPieces(ref); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) dropChunkPieces(ref chunkRef) error {
	turn := &s.lanes.of(ref.id).turn
	turn.Lock()
	defer turn.Unlock()
	txn := s.db.NewTransactionAt(newest, true)
	defer func() { txn.Discard() }()
	r := blobReader{s: s, id: ref.id, live: true}
	if err := r.index(txn, ref.chunk); err != nil {
		return err
	}
	for _, off := range r.pieces {
		key := pieceKey(ref.id, off)
		err := txn.Delete(key)
		if errors.Is(err, badger.ErrTxnTooBig) {
			if err := s.commit(txn); err != nil {
				return err
			}
			txn = s.db.NewTransactionAt(newest, true)
			err = txn.Delete(key)
		}
		if err != nil {
			return fmt.Errorf("delete piece: %w", err)
		}
	}
	if len(r.pieces) == 0 {
		return nil
	}
	s.garbage.Add(r.longBytes())
	return s.commit(txn)
}

// recover finds the chunks that have pieces: the merger decides what each
// needs.
func (g *merger) recover() error {
	txn := g.s.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: kindKey(kindPiece, kindBytes)})
	defer it.Close()
	var refs []chunkRef
	next := it.Rewind
	for {
		if err := step(next); err != nil {
			return err
		}
		if !it.Valid() {
			break
		}
		id, err := keyID(it.Item().Key())
		if err != nil {
			return err
		}
		off, err := pieceOffset(it.Item().Key())
		if err != nil {
			return err
		}
		ref := chunkRef{id, chunkOf(off)}
		refs = append(refs, ref)
		next = func() { it.Seek(pieceKey(id, chunkStart(ref.chunk+1))) } // the next chunk with pieces
	}
	g.add(refs)
	return nil
}
