package cluster

import (
	"context"
	"fmt"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
)

// sweepBatchMax bounds the removals of one sweep of one shard; the rest goes
// with the next.
const sweepBatchMax = 10_000

// sweeper frees the blobs that no catalog row refers to. The leader of each
// shard does it for its shard.
type sweeper struct {
	n *Node
	// unreferenced is when this node first saw a blob without a reference. The
	// grace counts from then, so that whoever still plays a removed item can
	// finish, and so that an upload has time to get its document.
	unreferenced map[blobstore.ID]time.Time
}

func (n *Node) sweepLoop() {
	s := sweeper{n: n, unreferenced: make(map[blobstore.ID]time.Time)}
	last := time.Now()
	tick := time.NewTicker(min(n.cfg.SweepWait, diskSweepWait))
	defer tick.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
		wait, _ := n.sweepTimes()
		if time.Since(last) < wait-wait/16 { // a tick may be early
			continue
		}
		last = time.Now()
		if !n.isFormed() {
			continue
		}
		if err := s.sweep(n.ctx, time.Now()); err != nil {
			n.log.Warn("sweep not finished", "error", err)
		}
		if err := n.blobs.RunGC(n.ctx); err != nil && n.ctx.Err() == nil {
			n.log.Warn("value log not collected", "error", err)
		}
	}
}

// free removes blobs for good.
func (s *sweeper) free(ctx context.Context, ids []blobstore.ID) error {
	for _, id := range ids {
		if err := s.n.Writer().Remove(ctx, id); err != nil {
			return fmt.Errorf("free blob %s: %w", id, err)
		}
		delete(s.unreferenced, id)
		s.n.metrics.swept.Inc()
	}
	return nil
}

// sweep looks at every blob of the shards this node is a member of.
func (s *sweeper) sweep(ctx context.Context, now time.Time) error {
	// What this node believes unreferenced must not be a reference it has not
	// heard of yet.
	if err := (catalog{s.n}).Fresh(ctx); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	held, err := s.n.held(ctx, now)
	if err != nil {
		return err
	}
	_, grace := s.n.sweepTimes()
	seen := make(map[blobstore.ID]time.Time)
	var waiting unreferenced
	var remove []blobstore.ID
	var strays []blobstore.Info
	for info, err := range s.n.blobs.Blobs(ctx) {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		g := s.n.shard(shardOf(info.ID, s.n.charter.Shards))
		if now.Sub(info.Updated) < grace {
			continue
		}
		if g == nil {
			if len(strays) < sweepBatchMax {
				strays = append(strays, info)
			}
			continue
		}
		referenced, err := s.n.referenced(ctx, info.ID)
		if err != nil {
			return err
		}
		if referenced {
			continue
		}
		since := s.since(info.ID, now)
		seen[info.ID] = since
		patience := grace
		if !g.leads() {
			patience *= 2 // the leader's to do; what is left then, the leader does not hold
		}
		waiting.add(g, &info)
		if !held && now.Sub(since) >= patience && len(remove) < sweepBatchMax {
			remove = append(remove, info.ID)
		}
	}
	s.unreferenced = seen
	s.n.metrics.unreferenced.Set(float64(waiting.blobs))
	s.n.metrics.unreferencedBytes.Set(float64(waiting.bytes))
	if err := s.free(ctx, remove); err != nil {
		return err
	}
	return s.n.dropStrays(ctx, strays)
}

// unreferenced counts what waits to be freed by the shards that this node leads.
type unreferenced struct{ blobs, bytes int64 }

func (u *unreferenced) add(g *group, info *blobstore.Info) {
	if g.leads() {
		u.blobs++
		u.bytes += info.Size
	}
}

// since is when a blob was first seen without a reference, perhaps now.
func (s *sweeper) since(id blobstore.ID, now time.Time) time.Time {
	if since, ok := s.unreferenced[id]; ok {
		return since
	}
	return now
}

// dropStrays frees here what the catalog's entries carried while this node was
// no member of the blob's group, once the group has it. What is left of a group
// that the node was a member of is dropGroup's to judge.
func (n *Node) dropStrays(ctx context.Context, strays []blobstore.Info) error {
	for _, info := range strays {
		name := placement.BlobGroup(shardOf(info.ID, n.charter.Shards))
		st, err := loadStay(n.raftDir(), name)
		if err != nil {
			return err
		}
		if n.group(name) != nil || st != nil && st.State == stayLeft {
			continue
		}
		v, err := n.leadersView(ctx, name)
		if err != nil {
			return fmt.Errorf("blob %s: %w", info.ID, err)
		}
		if ok, err := n.mayDrop(ctx, v.Leader, info); err != nil || !ok {
			if err != nil {
				return fmt.Errorf("blob %s: %w", info.ID, err)
			}
			continue
		}
		if err := n.applyHere(blobstore.Op{Kind: blobstore.OpRemove, ID: info.ID}); err != nil {
			return err
		}
		n.metrics.swept.Inc()
	}
	return nil
}

// held says whether somebody copies what the catalog referred to a moment ago.
func (n *Node) held(ctx context.Context, now time.Time) (bool, error) {
	for row, err := range n.rows.Scan(ctx, blobstore.HoldPrefix, "") {
		if err != nil {
			return false, fmt.Errorf("look for holds: %w", err)
		}
		// One that cannot be read was written by a later release, and holds.
		if until, err := blobstore.HoldUntil(row.Value); err != nil || until.After(now) {
			return true, nil
		}
	}
	return false, nil
}

// referenced says whether a row that this node knows refers to the blob.
func (n *Node) referenced(ctx context.Context, id blobstore.ID) (bool, error) {
	for _, err := range n.rows.Scan(ctx, blobstore.RefKey(id, ""), "") {
		if err != nil {
			return false, fmt.Errorf("references of %s: %w", id, err)
		}
		return true, nil
	}
	return false, nil
}
