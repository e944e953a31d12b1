package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"carillon/blobstore"
	"carillon/cluster/command"
	"carillon/cluster/placement"
	"carillon/cluster/wire"
)

const (
	// batchLinger is how long the first append of a batch waits for company.
	// All live recordings of a node flush at the same tick, so the others come
	// within a moment.
	batchLinger = 2 * time.Millisecond
	// batchBytesMax bounds one batch: an entry may be command.BytesMax.
	batchBytesMax = 512 << 10
	// batchQueueMax bounds what waits: four ticks of 1,000 sources that all
	// hash to one shard.
	batchQueueMax = 4096
)

// batcher puts the small operations of one shard into common log entries, so
// that a thousand recordings cost tens of entries a second and not thousands.
// One entry is on its way at a time; what arrives meanwhile goes with the next.
type batcher struct {
	n     *Node
	shard int
	group string
	wake  chan struct{}
	wg    sync.WaitGroup

	mu     sync.Mutex
	queue  []waiting // guarded by mu
	closed bool      // guarded by mu
}

type waiting struct {
	op   blobstore.Op
	done func(error) // called once; must not block
}

func newBatcher(n *Node, shard int) *batcher {
	b := &batcher{n: n, shard: shard, group: placement.BlobGroup(shard), wake: make(chan struct{}, 1)}
	b.wg.Go(b.run)
	return b
}

// do queues op and waits for its outcome. The bytes are copied: when ctx ends
// first, the operation may still be on its way.
func (b *batcher) do(ctx context.Context, op blobstore.Op) error {
	op.Data = append([]byte(nil), op.Data...)
	done := make(chan error, 1)
	b.add(waiting{op: op, done: func(err error) { done <- err }})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err() //nolint:wrapcheck // the contract of Writer
	}
}

// add queues operations; done of each is called in any case.
func (b *batcher) add(all ...waiting) {
	b.mu.Lock()
	var refused error
	switch {
	case b.closed:
		refused = fmt.Errorf("shard %s: %w", b.group, blobstore.ErrClosed)
	case len(b.queue)+len(all) > batchQueueMax:
		refused = fmt.Errorf("shard %s: %d operations wait: %w", b.group, len(b.queue), blobstore.ErrUnavailable)
	default:
		b.queue = append(b.queue, all...)
	}
	b.mu.Unlock()
	for i := range all {
		if refused == nil {
			break
		}
		all[i].done(refused)
	}
	select {
	case b.wake <- struct{}{}:
	default: // it is awake already
	}
}

func (b *batcher) run() {
	for {
		select {
		case <-b.wake:
		case <-b.n.ctx.Done():
			b.drain()
			return
		}
		if b.onlyAppends() && !pause(b.n.ctx, batchLinger) {
			continue
		}
		for batch := b.take(); len(batch) > 0; batch = b.take() {
			b.propose(batch)
		}
	}
}

// onlyAppends says whether nobody waits for the beginning or end of a
// recording, so that a moment's patience costs nothing.
func (b *batcher) onlyAppends() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.queue {
		if b.queue[i].op.Kind != blobstore.OpAppend {
			return false
		}
	}
	return true
}

// take removes from the queue what fits into one entry.
func (b *batcher) take() []waiting {
	b.mu.Lock()
	defer b.mu.Unlock()
	size, n := 0, 0
	for n < len(b.queue) && n < command.OpsMax && size < batchBytesMax {
		size += len(b.queue[n].op.Data)
		n++
	}
	batch := b.queue[:n:n]
	b.queue = b.queue[n:]
	if len(b.queue) == 0 {
		b.queue = nil // let the array go
	}
	return batch
}

func (b *batcher) propose(batch []waiting) {
	ops := make([]blobstore.Op, len(batch))
	for i := range batch {
		ops[i] = batch[i].op
	}
	begun := time.Now()
	index, outcomes, err := b.n.propose(b.n.ctx, b.group, command.EncodeBlobs(b.n.writes(), ops))
	b.n.metrics.writes.Observe(time.Since(begun).Seconds())
	b.n.metrics.batch.Observe(float64(len(batch)))
	if err == nil && len(outcomes) != len(batch) {
		err = fmt.Errorf("%d outcomes for %d operations: %w", len(outcomes), len(batch), wire.ErrMalformed)
	}
	for i := range batch {
		b.n.ahead[b.shard].add(b.n.shard(b.shard), index, batch[i].op.ID)
		if err != nil {
			batch[i].done(err)
			continue
		}
		batch[i].done(outcomeError(batch[i].op.ID, outcomes[i]))
	}
}

// drain answers what still waits when the node stops.
func (b *batcher) drain() {
	b.mu.Lock()
	b.closed = true
	left := b.queue
	b.queue = nil
	b.mu.Unlock()
	for i := range left {
		left[i].done(fmt.Errorf("shard %s: %w", b.group, blobstore.ErrClosed))
	}
}

// close waits for run; the node's context has ended.
func (b *batcher) close() { b.wg.Wait() }
