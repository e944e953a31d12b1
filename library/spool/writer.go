package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"carillon/blobstore"
	"carillon/library/fault"
	"carillon/library/rows"
)

// Writer writes one upload: to the cluster as long as that takes it, and
// from the first operation that it does not take on to the spool, where the
// whole upload is then. It belongs to one Recorder.
type Writer struct {
	s    *Spool
	meta []byte

	mu     sync.Mutex
	item   *blobstore.SpoolItem // guarded by mu
	begun  *blobstore.Op        // guarded by mu
	taken  map[int64]int        // what the cluster took, by offset, guarded by mu
	failed error                // of the spool, guarded by mu
}

var (
	_ blobstore.Joiner = (*Writer)(nil)
	_ blobstore.Namer  = (*Writer)(nil)
)

// NewID names the blob as the cluster wants it.
func (w *Writer) NewID() blobstore.ID { return blobstore.NewIDFor(w.s.deps.Writer) }

// Begin implements blobstore.Writer.
func (w *Writer) Begin(ctx context.Context, id blobstore.ID, spec blobstore.Spec) error {
	op := blobstore.Op{Kind: blobstore.OpBegin, ID: id, Spec: spec, At: time.Now()}
	return w.do(ctx, func(ctx context.Context) error { return w.s.deps.Writer.Begin(ctx, id, spec) }, op)
}

// Append implements blobstore.Writer.
func (w *Writer) Append(ctx context.Context, id blobstore.ID, offset int64, p []byte) error {
	op := blobstore.Op{Kind: blobstore.OpAppend, ID: id, Offset: offset, Data: p, At: time.Now()}
	return w.do(ctx, func(ctx context.Context) error { return w.s.deps.Writer.Append(ctx, id, offset, p) }, op)
}

// Seal implements blobstore.Writer.
func (w *Writer) Seal(ctx context.Context, id blobstore.ID, totals blobstore.Totals) error {
	op := blobstore.Op{Kind: blobstore.OpSeal, ID: id, Totals: totals, At: time.Now()}
	return w.do(ctx, func(ctx context.Context) error { return w.s.deps.Writer.Seal(ctx, id, totals) }, op)
}

// Put implements blobstore.Writer.
func (w *Writer) Put(
	ctx context.Context, id blobstore.ID, spec blobstore.Spec, p []byte, totals blobstore.Totals,
) error {
	op := blobstore.Op{Kind: blobstore.OpPut, ID: id, Spec: spec, Data: p, Totals: totals, At: time.Now()}
	return w.do(ctx, func(ctx context.Context) error {
		return w.s.deps.Writer.Put(ctx, id, spec, p, totals)
	}, op)
}

// Start implements blobstore.Joiner.
func (w *Writer) Start(ctx context.Context, id blobstore.ID, spec blobstore.Spec, p []byte) error {
	joiner, ok := w.s.deps.Writer.(blobstore.Joiner)
	if !ok {
		return errors.Join(w.Begin(ctx, id, spec), w.Append(ctx, id, 0, p))
	}
	now := time.Now()
	return w.do(ctx, func(ctx context.Context) error { return joiner.Start(ctx, id, spec, p) },
		blobstore.Op{Kind: blobstore.OpBegin, ID: id, Spec: spec, At: now},
		blobstore.Op{Kind: blobstore.OpAppend, ID: id, Data: p, At: now})
}

// Finish implements blobstore.Joiner.
func (w *Writer) Finish(
	ctx context.Context, id blobstore.ID, offset int64, p []byte, totals blobstore.Totals,
) error {
	joiner, ok := w.s.deps.Writer.(blobstore.Joiner)
	if !ok {
		return errors.Join(w.Append(ctx, id, offset, p), w.Seal(ctx, id, totals))
	}
	now := time.Now()
	return w.do(ctx, func(ctx context.Context) error { return joiner.Finish(ctx, id, offset, p, totals) },
		blobstore.Op{Kind: blobstore.OpAppend, ID: id, Offset: offset, Data: p, At: now},
		blobstore.Op{Kind: blobstore.OpSeal, ID: id, Totals: totals, At: now})
}

// Remove implements blobstore.Writer: nothing remains of a failed upload.
func (w *Writer) Remove(ctx context.Context, id blobstore.ID) error {
	w.mu.Lock()
	item := w.item
	w.item = nil
	w.mu.Unlock()
	var err error
	if item != nil {
		err = item.Remove()
	}
	return errors.Join(err, w.s.deps.Writer.Remove(ctx, id))
}

// Item is the item, nil as long as the cluster has taken everything.
func (w *Writer) Item() *blobstore.SpoolItem {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.item
}

// do offers operations, which belong together, to the cluster, then to the spool.
func (w *Writer) do(ctx context.Context, call func(context.Context) error, ops ...blobstore.Op) error {
	if w.Item() == nil {
		bounded, cancel := w.s.WhileLed(ctx)
		err := call(bounded)
		cancel()
		switch {
		case err == nil && w.note(ops):
			return nil
		case err != nil && !w.s.Refused(ctx, err):
			return err
		}
	}
	for i := range ops {
		if err := w.keep(ctx, &ops[i]); err != nil {
			return err
		}
	}
	return nil
}

// note remembers what the cluster has taken: should it stop, that is needed. It
// does not when the item has been begun meanwhile, for an operation beside this
// one: then the item is to hold this one as well.
func (w *Writer) note(ops []blobstore.Op) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.item != nil {
		return false
	}
	for i := range ops {
		switch op := &ops[i]; op.Kind {
		case blobstore.OpBegin:
			w.begun = op
		case blobstore.OpAppend:
			w.taken[op.Offset] = len(op.Data)
		case blobstore.OpPut, blobstore.OpSeal, blobstore.OpRemove: // see Whole
		}
	}
	return true
}

// keep writes an operation into the spool. The first brings what the cluster
// has taken already with it: that is referred to by nothing, and would be swept
// there if this node were away for long.
func (w *Writer) keep(ctx context.Context, op *blobstore.Op) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return w.failed
	}
	if w.item == nil {
		if err := w.open(ctx, op.ID); err != nil {
			w.failed = fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
			return w.failed
		}
	}
	if err := w.item.Append(*op); err != nil {
		w.failed = fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
		return w.failed
	}
	return nil
}

// open makes the item. The lock is held.
func (w *Writer) open(ctx context.Context, id blobstore.ID) error {
	item, err := w.s.deps.Items.Create(w.meta)
	if err != nil {
		return err
	}
	if w.begun != nil {
		err = item.Append(*w.begun)
	}
	for off, n := range w.taken {
		if err != nil {
			break
		}
		var p []byte
		if p, err = w.s.read(ctx, id, off, n); err == nil {
			err = item.Append(blobstore.Op{Kind: blobstore.OpAppend, ID: id, Offset: off, Data: p, At: time.Now()})
		}
	}
	if err != nil {
		return errors.Join(err, item.Remove())
	}
	w.item = item
	return nil
}

// Whole makes the item of an upload whose sound the cluster has taken whole, or
// was to take with the document.
func (w *Writer) Whole(
	ctx context.Context, id blobstore.ID, totals blobstore.Totals, whole *blobstore.Sound,
) (*blobstore.SpoolItem, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.item != nil {
		return w.item, nil
	}
	now := time.Now().UTC()
	last := blobstore.Op{Kind: blobstore.OpSeal, ID: id, Totals: totals, At: now}
	if whole != nil {
		last.Kind, last.Spec, last.Data = blobstore.OpPut, whole.Spec, whole.Data
	} else {
		w.begun = &blobstore.Op{Kind: blobstore.OpBegin, ID: id, Spec: blobstore.Spec{Created: now}, At: now}
		for off := int64(0); off < totals.Size; off += blobstore.ChunkBytesMax {
			w.taken[off] = int(min(blobstore.ChunkBytesMax, totals.Size-off))
		}
	}
	if err := w.open(ctx, id); err != nil {
		return nil, err
	}
	if err := w.item.Append(last); err != nil {
		item := w.item
		w.item = nil
		return nil, errors.Join(err, item.Remove())
	}
	return w.item, nil
}

// read is what the shelf has of a blob.
func (s *Spool) read(ctx context.Context, id blobstore.ID, off int64, n int) ([]byte, error) {
	bounded, cancel := context.WithTimeout(ctx, rows.FreshWait)
	defer cancel()
	r, err := s.deps.Shelf.Open(bounded, id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // it was only read
	p := make([]byte, n)
	if _, err := r.Seek(off, io.SeekStart); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(r, p)
	return p, err
}
