package cluster

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"carillon/blobstore"
	"carillon/cluster/command"
	"carillon/cluster/placement"
	"carillon/cluster/wire"
)

// freshWait bounds how long a lookup may wait to be as fresh as the leader: a
// caller is on the line.
const freshWait = time.Second

// catalog implements blobstore.Catalog: reads from this node's rows, commits
// through the catalog group.
type catalog struct{ n *Node }

var _ blobstore.Catalog = catalog{}

// Get returns the row as this node knows it. If this node has just committed
// the row and not applied that yet, Get waits for it.
func (c catalog) Get(ctx context.Context, key string) (blobstore.Row, error) {
	if err := c.n.pending.wait(ctx, c.n.rows, key); err != nil {
		return blobstore.Row{}, err
	}
	return c.n.rows.Get(ctx, key) //nolint:wrapcheck // already in the words of blobstore
}

// Scan yields rows from one consistent view.
func (c catalog) Scan(ctx context.Context, prefix, after string) iter.Seq2[blobstore.Row, error] {
	if err := c.n.pending.waitAll(ctx, c.n.rows); err != nil {
		return func(yield func(blobstore.Row, error) bool) { yield(blobstore.Row{}, err) }
	}
	return c.n.rows.Scan(ctx, prefix, after)
}

// Tally is what a class of rows comes to here.
func (c catalog) Tally(ctx context.Context, class string) (blobstore.Tally, error) {
	if err := c.n.pending.waitAll(ctx, c.n.rows); err != nil {
		return blobstore.Tally{}, err
	}
	return c.n.rows.Tally(ctx, class) //nolint:wrapcheck // already in the words of blobstore
}

// Watch tells of changes of a row.
func (c catalog) Watch(key string) (<-chan struct{}, func()) { return c.n.rows.Watch(key) }

// Applied is the log position this node has applied.
func (c catalog) Applied() uint64 { return c.n.rows.Applied() }

// Commit applies a transaction on a majority.
func (c catalog) Commit(ctx context.Context, t blobstore.Txn) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err //nolint:wrapcheck // the contract of Catalog
	}
	if err := command.Check(t); err != nil {
		return 0, err
	}
	if err := c.n.waitFormed(ctx); err != nil {
		return 0, err
	}
	if err := c.n.commitRoom(&t); err != nil {
		return 0, err
	}
	t, err := c.n.tied(ctx, t)
	if err != nil {
		return 0, err
	}
	return c.commit(ctx, t)
}

// commit proposes a transaction that may be.
func (c catalog) commit(ctx context.Context, t blobstore.Txn) (uint64, error) {
	carried, err := c.store(ctx, t)
	if err != nil {
		return 0, err
	}
	id := command.TxnID(t.ID)
	if id == (command.TxnID{}) {
		_, _ = rand.Read(id[:]) // never fails, see crypto/rand.Read
	}
	begun := time.Now()
	var cmd []byte
	if carried {
		cmd = command.EncodeCarry(c.n.writes(), id, t, begun)
	} else {
		cmd = command.EncodeTxn(c.n.writes(), id, t)
	}
	index, outcomes, err := c.n.propose(ctx, placement.CatalogGroup, cmd)
	if err != nil {
		return 0, err
	}
	c.n.metrics.commits.Observe(time.Since(begun).Seconds())
	if len(outcomes) != 1 {
		return 0, fmt.Errorf("%d outcomes for a transaction: %w", len(outcomes), wire.ErrMalformed)
	}
	c.n.pending.add(c.n.rows, index, t)
	if outcomes[0] != codeOK {
		return 0, fmt.Errorf("commit at %d: %w", index, errOf(outcomes[0]))
	}
	return index, nil
}

// Fresh returns once this node has applied all that was committed before. It
// waits for an election; but once one wait for a leader was in vain, those that
// follow ask once and say so, until one is found: in an outage every name that
// nobody knows would otherwise be a second of nothing for a caller.
func (c catalog) Fresh(ctx context.Context) error {
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, freshWait)
	defer cancel()
	if err := c.n.waitFormed(ctx); err != nil {
		return err
	}
	for try := 0; ; try++ {
		index, err := c.n.progress(ctx)
		if err == nil {
			c.n.leaderless.Store(false)
			if err = c.n.rows.WaitApplied(ctx, index); err != nil {
				return fmt.Errorf("catch up to %d: %w: %w", index, blobstore.ErrUnavailable, err)
			}
			return nil
		}
		if !retryable(err) || c.n.leaderless.Load() || !pause(ctx, retryWait(try)) {
			if ctx.Err() != nil && asked.Err() == nil {
				c.n.leaderless.Store(true)
			}
			return fmt.Errorf("ask the leader how far it is: %w: %w", blobstore.ErrUnavailable, err)
		}
	}
}

// progress is how far the catalog's leader has applied.
func (n *Node) progress(ctx context.Context) (uint64, error) {
	if n.catalog.leads() {
		if err := n.catalog.verifyLeads(); err != nil {
			return 0, err
		}
		return n.rows.Applied(), nil
	}
	id := n.catalog.leader()
	if id == "" || id == n.id {
		return 0, errNotLeader
	}
	b, err := n.link.Call(ctx, id, kindProgress)
	if err != nil {
		return 0, fmt.Errorf("leader %s: %w", id, err)
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("reply of %d bytes: %w", len(b), wire.ErrMalformed)
	}
	return binary.BigEndian.Uint64(b), nil
}

// pending knows which rows this node has committed but not applied yet. A
// commit does not wait for that, as the next message from the leader may take
// a few milliseconds; the first read of such a row does.
type pending struct {
	top  atomic.Uint64 // highest position pending
	mu   sync.Mutex
	rows map[string]uint64 // guarded by mu
}

func (p *pending) add(rows *blobstore.CatalogStore, index uint64, t blobstore.Txn) {
	if rows.Applied() >= index {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rows == nil || rows.Applied() >= p.top.Load() {
		p.rows = make(map[string]uint64, len(t.Put)+len(t.Delete)+len(t.Append))
	}
	for i := range t.Put {
		p.rows[t.Put[i].Key] = index
	}
	for _, k := range t.Delete {
		p.rows[k] = index
	}
	for i := range t.Append {
		p.rows[blobstore.AppendedKey(t.Append[i].Key, index, i)] = index
	}
	prune(p.rows, rows.Applied())
	if index > p.top.Load() {
		p.top.Store(index)
	}
}

// wait returns when a row that is pending has been applied.
func (p *pending) wait(ctx context.Context, rows *blobstore.CatalogStore, key string) error {
	if rows.Applied() >= p.top.Load() {
		return nil
	}
	p.mu.Lock()
	index := p.rows[key]
	p.mu.Unlock()
	return waitApplied(ctx, rows, index)
}

// waitAll returns when all that is pending has been applied.
func (p *pending) waitAll(ctx context.Context, rows *blobstore.CatalogStore) error {
	return waitApplied(ctx, rows, p.top.Load())
}

func waitApplied(ctx context.Context, rows *blobstore.CatalogStore, index uint64) error {
	if rows.Applied() >= index {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, freshWait)
	defer cancel()
	if err := rows.WaitApplied(ctx, index); err != nil {
		return fmt.Errorf("apply own commit %d: %w: %w", index, blobstore.ErrUnavailable, err)
	}
	return nil
}
