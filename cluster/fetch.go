package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carillon/blobstore"
)

const (
	// pieceBytesMax is what is fetched in one call, and stored in one batch:
	// each costs several wake-ups and a commit of the database.
	pieceBytesMax = readBytesMax
	// aheadMax is how many pieces of a blob are on their way at a time: a round
	// trip and the other node's disk are hidden behind the writes before.
	aheadMax = 4
	// piecesMax bounds the pieces on their way on the whole node: 16 MiB, however
	// many groups and blobs are fetched at the same time.
	piecesMax = 16
	// pieceWait bounds the fetch of a piece: all of them, on a link of 8 Mbit/s.
	// Nobody is on the line, as for readWait.
	pieceWait = 20 * time.Second
	// wholeTries is how often all replicas are asked for one that has applied what a
	// blob is known to be, with openWait for those that do not answer.
	wholeTries = 5
)

// pullBlob fetches one blob into the local store, from where a fetch that was
// cut short stopped. A blob that was removed in the meantime is no loss: the log
// that follows the snapshot removes it here.
func (n *Node) pullBlob(ctx context.Context, want blobstore.Info) error {
	v, err := openWhole(ctx, n, want)
	if errors.Is(err, blobstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer v.stop()
	w := pieceWriter{n: n, info: v.Info()}
	from := int64(0)
	have, err := n.blobs.Stat(ctx, want.ID)
	switch {
	case err != nil && w.info.Sealed && w.info.Size <= blobstore.ChunkBytesMax:
		return n.pullSmall(ctx, v)
	case err != nil || have.Sealed:
		w.add(blobstore.Op{Kind: blobstore.OpBegin, Spec: w.info.Spec})
	case have.Size > w.info.Size:
		return nil
	case w.info.Spec.Live:
		from = have.Size
	default:
		from = have.Size - have.Size%blobstore.ChunkBytesMax
	}
	if err := n.pullBytes(ctx, v.node, from, &w); err != nil {
		return err
	}
	if w.info.Sealed {
		w.add(blobstore.Op{Kind: blobstore.OpSeal, Totals: w.info.Totals})
	}
	if err := w.store(); err != nil || w.info.Sealed {
		return err
	}
	return n.pullAhead(ctx, v.node, w.info)
}

// openWhole is openRemote for what is known to be sealed, or so long: a replica that
// has not applied as much is passed over. Where the leader is not known such a one is
// asked as well, and what the log has after a manifest would not bring the rest.
func openWhole(ctx context.Context, n *Node, want blobstore.Info) (*remote, error) {
	var behind []string
	for try := 1; ; {
		v, err := openRemote(ctx, n, want.ID, behind)
		if err == nil {
			have := v.Info()
			if have.Sealed || !want.Sealed && have.Size >= want.Size {
				return v, nil
			}
			v.stop()
			behind = append(behind, v.node)
			continue
		}
		if len(behind) == 0 || try == wholeTries {
			return nil, err
		}
		behind = nil // perhaps they have by now
		try++
	}
}

// pullSmall fetches a sealed blob of at most a chunk, of which nothing is here:
// one call and one commit. The store compares it with its totals.
func (n *Node) pullSmall(ctx context.Context, v *remote) error {
	w := pieceWriter{n: n, info: v.Info()}
	op := blobstore.Op{Kind: blobstore.OpPut, Spec: w.info.Spec, Totals: w.info.Totals}
	if w.info.Size > 0 {
		select {
		case n.pieces <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("fetch: %w", ctx.Err())
		}
		p := piece{}
		if p.data, p.err = n.fetchPiece(ctx, v, 0, w.info.Size); p.err != nil {
			<-n.pieces
			return p.err
		}
		w.keep(p)
		op.Data = p.data
	}
	w.add(op)
	return w.store()
}

// piece is a part of a blob that is being fetched.
type piece struct {
	off  int64
	data []byte
	err  error
}

// pullBytes fetches a blob's bytes, a few pieces ahead of what is written.
func (n *Node) pullBytes(ctx context.Context, node string, from int64, w *pieceWriter) error {
	ctx, cancel := context.WithCancel(ctx)
	queue := make(chan chan piece, aheadMax)
	info := w.info
	n.wg.Go(func() {
		defer close(queue)
		n.fetchPieces(ctx, node, info, from, queue)
	})
	err := w.writePieces(ctx, queue)
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
	for off := from; off < info.Size; off += pieceBytesMax {
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
		size, done := min(pieceBytesMax, info.Size-off), make(chan piece, 1)
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
	r.patience = pieceWait
	return r.readChunk(ctx, off, size)
}

// pieceWriter stores the pieces of a blob. It belongs to one goroutine.
type pieceWriter struct {
	n    *Node
	info blobstore.Info
	ops  []blobstore.Op
	kept [][]byte // data of pieces that wait in ops; each has a place of the node
}

// add adds an operation to the next batch.
func (w *pieceWriter) add(op blobstore.Op) {
	op.ID, op.At = w.info.ID, w.info.Updated
	w.ops = append(w.ops, op)
}

// keep takes over a piece and its place until they are stored.
func (w *pieceWriter) keep(p piece) { w.kept = append(w.kept, p.data) }

// store applies what was added in one batch.
func (w *pieceWriter) store() error {
	err := errors.Join(w.n.blobs.Apply(w.ops)...)
	for _, data := range w.kept {
		w.n.metrics.pulled.Add(float64(len(data)))
		w.n.fetching.moved(int64(len(data)))
		w.n.link.Recycle(data)
		<-w.n.pieces
	}
	clear(w.kept)
	w.ops, w.kept = w.ops[:0], w.kept[:0]
	return err
}

// writePieces stores pieces in their order. What was added before goes with the
// first, and the last one waits for what is added behind it.
func (w *pieceWriter) writePieces(ctx context.Context, queue <-chan chan piece) error {
	step := blobstore.ChunkBytesMax
	if w.info.Spec.Live {
		step = blobstore.LivePieceBytesMax
	}
	for done := range queue {
		p := <-done
		if p.err != nil {
			<-w.n.pieces
			return errors.Join(p.err, w.store())
		}
		w.keep(p)
		for at := 0; at < len(p.data); at += step {
			w.add(blobstore.Op{
				Kind: blobstore.OpAppend, Offset: p.off + int64(at), Data: p.data[at:min(at+step, len(p.data))],
			})
		}
		if p.off+int64(len(p.data)) == w.info.Size {
			break
		}
		if err := w.store(); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return errors.Join(fmt.Errorf("fetch: %w", ctx.Err()), w.store())
	}
	return nil
}
