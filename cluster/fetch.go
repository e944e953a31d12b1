package cluster

import (
	"context"
	"errors"
	"fmt"

	"carillon/blobstore"
)

const (
	// aheadMax is how many pieces of a blob are on their way at a time: a round
	// trip and the other node's disk are hidden behind the writes before.
	aheadMax = 8
	// togetherMax is how many pieces are stored in one batch: each costs a commit
	// of the database, and a batch of a megabyte fits into its memtable.
	togetherMax = 4
	// piecesMax bounds the pieces on their way on the whole node: 16 MiB, however
	// many groups and blobs are fetched at the same time.
	piecesMax = 64
)

// pullBlob fetches one blob into the local store, from where a fetch that was
// cut short stopped. A blob that was removed in the meantime is no loss: the log
// that follows the snapshot removes it here.
func (n *Node) pullBlob(ctx context.Context, want blobstore.Info) error {
	v, err := openRemote(ctx, n, want.ID, nil)
	if errors.Is(err, blobstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer v.stop()
	info := v.Info()
	from := int64(0)
	if have, err := n.blobs.Stat(ctx, want.ID); err == nil && !have.Sealed {
		if have.Size > info.Size {
			return nil
		}
		if from = have.Size; !info.Spec.Live {
			from -= from % blobstore.ChunkBytesMax
		}
	} else if err := n.applyHere(
		blobstore.Op{Kind: blobstore.OpBegin, ID: info.ID, Spec: info.Spec, At: info.Updated},
	); err != nil {
		return err
	}
	if err := n.pullBytes(ctx, v.node, info, from); err != nil {
		return err
	}
	if !info.Sealed {
		return n.pullAhead(ctx, v.node, info)
	}
	return n.applyHere(blobstore.Op{
		Kind: blobstore.OpSeal, ID: info.ID, Totals: info.Totals, At: info.Updated,
	})
}

// piece is a part of a blob that is being fetched.
type piece struct {
	off  int64
	data []byte
	err  error
}

// pullBytes fetches a blob's bytes, a few pieces ahead of what is written.
func (n *Node) pullBytes(ctx context.Context, node string, info blobstore.Info, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	queue := make(chan chan piece, aheadMax)
	n.wg.Go(func() {
		defer close(queue)
		n.fetchPieces(ctx, node, info, from, queue)
	})
	err := n.writePieces(ctx, info, queue)
	cancel()
	for done := range queue { // what comes too late
		<-done
		<-n.pieces
	}
	return err
}

// fetchPieces begins a fetch for each piece in turn and queues where it will
// arrive. Each holds one of the node's places until it has been written; the
// first piece of a blob has got one before the second asks for one, so that
// there is always somebody who can go on.
func (n *Node) fetchPieces(
	ctx context.Context, node string, info blobstore.Info, from int64, queue chan<- chan piece,
) {
	step := int64(blobstore.ChunkBytesMax)
	if info.Spec.Live {
		step = blobstore.LivePieceBytesMax
	}
	readers := make(chan *remote, aheadMax) // a view is for one goroutine at a time
	for range aheadMax {
		readers <- newRemote(n, info.ID, node, info)
	}
	defer func() {
		for range aheadMax {
			r := <-readers
			r.stop()
		}
	}()
	for off := from; off < info.Size; off += step {
		var r *remote
		select {
		case r = <-readers:
		case <-ctx.Done():
			return
		}
		select {
		case n.pieces <- struct{}{}:
		case <-ctx.Done():
			readers <- r
			return
		}
		size, done := min(step, info.Size-off), make(chan piece, 1)
		n.wg.Go(func() {
			data, err := n.fetchPiece(ctx, r, off, size)
			readers <- r
			done <- piece{off, data, err}
		})
		queue <- done // it is read to its end
	}
}

// fetchPiece reads size bytes at off, not faster than the node may.
func (n *Node) fetchPiece(ctx context.Context, r *remote, off, size int64) ([]byte, error) {
	if err := n.pacing.wait(ctx, size); err != nil {
		return nil, err
	}
	return r.readChunk(ctx, off, size)
}

// writePieces stores pieces in their order; those that have arrived together go
// into one batch of the store.
func (n *Node) writePieces(ctx context.Context, info blobstore.Info, queue <-chan chan piece) error {
	ops := make([]blobstore.Op, 0, togetherMax)
	bytes := 0
	store := func() error {
		err := errors.Join(n.blobs.Apply(ops)...)
		for range ops {
			<-n.pieces
		}
		n.metrics.pulled.Add(float64(bytes))
		n.fetching.moved(int64(bytes))
		ops, bytes = ops[:0], 0
		return err
	}
	for done := range queue {
		p := <-done
		if p.err != nil {
			<-n.pieces
			return errors.Join(p.err, store())
		}
		ops = append(ops, blobstore.Op{
			Kind: blobstore.OpAppend, ID: info.ID, Offset: p.off, Data: p.data, At: info.Updated,
		})
		bytes += len(p.data)
		if len(ops) < togetherMax && len(queue) > 0 {
			continue
		}
		if err := store(); err != nil {
			return err
		}
	}
	err := store()
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("fetch: %w", ctx.Err())
	}
	return err
}
