package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"time"

	"carillon/blobstore"
	"carillon/cluster/command"
	"carillon/cluster/placement"
	"carillon/cluster/wire"
)

// batchedBytesMax: appends up to this size travel with others of their shard;
// a live source of 320 kbit/s brings 10 KB a tick. Larger ones are entries of
// their own and are proposed at once.
const batchedBytesMax = 16 << 10

// writer implements blobstore.Writer for all replicas of a blob.
type writer struct{ n *Node }

var (
	_ blobstore.Writer = writer{}
	_ blobstore.Namer  = writer{}

	_ blobstore.BatchWriter = writer{}
	_ blobstore.Joiner      = writer{}
)

// nameTurn is how long new blobs of a node go to the same shard.
const nameTurn = time.Second

// NewID names a new blob so that its shard is led by this node, if it leads
// any, and takes the same shard as the other blobs of the moment: the bytes
// need not be forwarded, and entries that are written at the same time share
// the fsync of one log. Where not every node holds every shard, the name is
// random among the shards that can be written, so that one busy node does not
// fill the few it leads.
func (w writer) NewID() blobstore.ID {
	id := blobstore.NewID()
	switch {
	case !w.n.isFormed():
		return id
	case !w.n.everywhere():
		return w.n.avoidLost(id)
	}
	led := make([]int, 0, len(w.n.shards))
	for s, g := range w.n.hosted() {
		if g.leads() {
			led = append(led, s)
		}
	}
	if len(led) == 0 {
		return id
	}
	turn := int(time.Now().UnixNano()/int64(nameTurn)) % len(led)
	return inShard(id, led[turn], w.n.charter.Shards)
}

// avoidLost changes an id whose shard cannot be written into one of any other
// shard that can.
func (n *Node) avoidLost(id blobstore.ID) blobstore.ID {
	if n.writable(shardOf(id, n.charter.Shards)) {
		return id
	}
	var able []int
	for s := range n.charter.Shards {
		if n.writable(s) {
			able = append(able, s)
		}
	}
	if len(able) == 0 {
		return id
	}
	return inShard(id, able[int(id[len(id)-1])%len(able)], n.charter.Shards)
}

// writable says whether a shard can be expected to take a write: most of its
// members are here. It asks nobody.
func (n *Node) writable(shard int) bool {
	name := placement.BlobGroup(shard)
	var voters []string
	if g := n.shard(shard); g != nil {
		voters = g.voters()
	}
	if len(voters) == 0 {
		voters = n.members(name)
	}
	here := 0
	for _, id := range voters {
		if id == n.id || !n.Gone(id) {
			here++
		}
	}
	return here > len(voters)/2
}

// inShard changes an id so that it belongs to a shard.
func inShard(id blobstore.ID, shard, shards int) blobstore.ID {
	v := binary.BigEndian.Uint64(id[:8])
	n := uint64(shards)
	v = min(v, math.MaxUint64-n) // no overflow below
	v = v - v%n + uint64(shard)
	binary.BigEndian.PutUint64(id[:8], v)
	return id
}

// Begin creates an open, empty blob.
func (w writer) Begin(ctx context.Context, id blobstore.ID, spec blobstore.Spec) error {
	return w.batched(ctx, blobstore.Op{Kind: blobstore.OpBegin, ID: id, Spec: spec})
}

// Append adds bytes.
func (w writer) Append(ctx context.Context, id blobstore.ID, offset int64, p []byte) error {
	op := blobstore.Op{Kind: blobstore.OpAppend, ID: id, Offset: offset, Data: p}
	if len(p) <= batchedBytesMax {
		return w.batched(ctx, op)
	}
	return w.alone(ctx, op)
}

// Seal closes the blob.
func (w writer) Seal(ctx context.Context, id blobstore.ID, totals blobstore.Totals) error {
	return w.batched(ctx, blobstore.Op{Kind: blobstore.OpSeal, ID: id, Totals: totals})
}

// Put stores a small blob whole.
func (w writer) Put(
	ctx context.Context, id blobstore.ID, spec blobstore.Spec, p []byte, totals blobstore.Totals,
) error {
	return w.alone(ctx, blobstore.Op{
		Kind: blobstore.OpPut, ID: id, Spec: spec, Data: p, Totals: totals,
	})
}

// Remove frees the blob.
func (w writer) Remove(ctx context.Context, id blobstore.ID) error {
	return w.batched(ctx, blobstore.Op{Kind: blobstore.OpRemove, ID: id})
}

// checkOp refuses what cannot be written down in a log entry. It must be done
// before the proposal: an entry that no node can read stops them all.
func checkOp(op blobstore.Op) error {
	if op.Offset < 0 || op.Offset > blobstore.BlobBytesMax-blobstore.ChunkBytesMax ||
		op.Totals.Size < 0 || op.Totals.Size > blobstore.BlobBytesMax ||
		len(op.Data) > blobstore.ChunkBytesMax {
		return fmt.Errorf("%d bytes at %d of %d: %w", len(op.Data), op.Offset, op.Totals.Size,
			blobstore.ErrTooLarge)
	}
	return nil
}

// ready says whether op can be proposed now.
func (w writer) ready(ctx context.Context, op blobstore.Op) error {
	if err := ctx.Err(); err != nil {
		return err //nolint:wrapcheck // the contract of Writer
	}
	if err := checkOp(op); err != nil {
		return err
	}
	return w.n.waitFormed(ctx)
}

// Start begins an upload with its first chunk.
func (w writer) Start(ctx context.Context, id blobstore.ID, spec blobstore.Spec, p []byte) error {
	return w.alone(ctx, blobstore.Op{Kind: blobstore.OpBegin, ID: id, Spec: spec},
		blobstore.Op{Kind: blobstore.OpAppend, ID: id, Data: p})
}

// Finish ends an upload with its last chunk.
func (w writer) Finish(
	ctx context.Context, id blobstore.ID, offset int64, p []byte, totals blobstore.Totals,
) error {
	return w.alone(ctx, blobstore.Op{Kind: blobstore.OpAppend, ID: id, Offset: offset, Data: p},
		blobstore.Op{Kind: blobstore.OpSeal, ID: id, Totals: totals})
}

// alone proposes operations of one blob as an entry of their own.
func (w writer) alone(ctx context.Context, ops ...blobstore.Op) error {
	begun := time.Now()
	for i := range ops {
		if err := w.ready(ctx, ops[i]); err != nil {
			return err
		}
		ops[i].At = begun
	}
	id := ops[0].ID
	shard := shardOf(id, w.n.charter.Shards)
	if err := w.n.ordinaryRoom(placement.BlobGroup(shard)); err != nil && !ops[0].Spec.Live {
		return err
	}
	index, outcomes, err := w.n.propose(ctx, placement.BlobGroup(shard), command.EncodeBlobs(w.n.writes(), ops))
	if err != nil {
		return err
	}
	w.n.ahead[shard].add(w.n.shard(shard), index, id)
	w.n.metrics.writes.Observe(time.Since(begun).Seconds())
	if len(outcomes) != len(ops) {
		return fmt.Errorf("%d outcomes for %d operations: %w", len(outcomes), len(ops), wire.ErrMalformed)
	}
	for _, c := range outcomes {
		if c != codeOK {
			return outcomeError(id, c)
		}
	}
	return nil
}

// batched hands the operation to the shard's batcher and waits for it.
func (w writer) batched(ctx context.Context, op blobstore.Op) error {
	if err := w.ready(ctx, op); err != nil {
		return err
	}
	op.At = time.Now()
	if op.Kind == blobstore.OpBegin && !op.Spec.Live {
		if err := w.n.ordinaryRoom(placement.BlobGroup(shardOf(op.ID, w.n.charter.Shards))); err != nil {
			return err
		}
	}
	return w.n.batches[shardOf(op.ID, w.n.charter.Shards)].do(ctx, op)
}

// AppendLive appends to many live blobs at once: the bytes of one tick. Each
// shard gets them in as few entries as possible.
func (w writer) AppendLive(ctx context.Context, appends []blobstore.LiveAppend, done func(i int, err error)) {
	if err := w.n.waitFormed(ctx); err != nil {
		for i := range appends {
			done(i, err)
		}
		return
	}
	now := time.Now()
	byShard := make(map[int][]waiting)
	var wg sync.WaitGroup
	for i, a := range appends {
		op := blobstore.Op{Kind: blobstore.OpAppend, ID: a.ID, Offset: a.Offset, Data: a.Data, At: now}
		if err := checkOp(op); err != nil {
			done(i, err)
			continue
		}
		wg.Add(1)
		shard := shardOf(a.ID, w.n.charter.Shards)
		byShard[shard] = append(byShard[shard], waiting{op: op, done: func(err error) {
			done(i, err)
			wg.Done()
		}})
	}
	for shard, all := range byShard {
		w.n.batches[shard].add(all...)
	}
	// The bytes are lent until every append is done, whatever becomes of ctx;
	// each is, within proposeWait.
	wg.Wait()
}

func outcomeError(id blobstore.ID, c code) error {
	if c == codeOK {
		return nil
	}
	return fmt.Errorf("blob %s: %w", id, errOf(c))
}
