package cluster

import (
	"context"
	"errors"
	"fmt"

	"carillon/blobstore"
)

const (
	// aheadMax is how many chunks of a blob are on their way at a time: a round
	// trip and the other node's disk are hidden behind the write of the one
	// before. With fetchersMax blobs these are 8 MiB of memory for each group.
	aheadMax = 4
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
	defer cancel()
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
	queue := make(chan chan piece, aheadMax)
	n.wg.Go(func() {
		defer close(queue)
		for off := from; off < info.Size; off += step {
			var r *remote
			select {
			case r = <-readers:
			case <-ctx.Done():
				return
			}
			size := min(step, info.Size-off)
			done := make(chan piece, 1)
			select {
			case queue <- done:
			case <-ctx.Done():
				readers <- r
				return
			}
			n.wg.Go(func() {
				data, err := n.fetchPiece(ctx, r, off, size)
				readers <- r
				done <- piece{off, data, err}
			})
		}
	})
	return n.writePieces(ctx, info, queue)
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
	var ops []blobstore.Op
	bytes := 0
	store := func() error {
		err := errors.Join(n.blobs.Apply(ops)...)
		n.metrics.pulled.Add(float64(bytes))
		n.fetching.moved(int64(bytes))
		ops, bytes = ops[:0], 0
		return err
	}
	for done := range queue {
		p := <-done
		if p.err != nil {
			return p.err
		}
		ops = append(ops, blobstore.Op{
			Kind: blobstore.OpAppend, ID: info.ID, Offset: p.off, Data: p.data, At: info.Updated,
		})
		bytes += len(p.data)
		if len(ops) < aheadMax/2 && len(queue) > 0 {
			continue
		}
		if err := store(); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("fetch: %w", ctx.Err())
	}
	return store()
}
