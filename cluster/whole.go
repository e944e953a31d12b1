package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/wire"
)

// wholeWait is the pause between two looks of a node that catches up.
const wholeWait = 50 * time.Millisecond

// catchUp marks the node ready once it has the whole catalog, as the cluster had
// committed it when the node started, is thought of in the placement, and holds
// everything of the groups it is to hold. Afterwards it sees to groups that it
// gets later, which change nothing about the node being ready: until it has all
// of one, reads of it go to the other members.
func (n *Node) catchUp() {
	wait := wholeWait
	for n.ctx.Err() == nil {
		if err := n.checkWhole(n.ctx); err == nil && n.caughtUp.CompareAndSwap(false, true) {
			n.log.Info("caught up", "applied", n.rows.Applied())
		}
		if n.caughtUp.Load() {
			wait = membershipWait
		}
		if !pause(n.ctx, wait) {
			return
		}
	}
}

// checkWhole is nil when this node has everything that it is to have.
func (n *Node) checkWhole(ctx context.Context) error {
	n.unmute(ctx)
	if !n.catalog.whole.Load() {
		if err := (catalog{n}).Fresh(ctx); err != nil {
			return err
		}
		n.catalog.whole.Store(true)
	}
	n.refreshPlacement(ctx)
	p := n.placed.Load()
	if !slices.Contains(p.Nodes, n.id) {
		return fmt.Errorf("no place for this node yet: %w", ErrNotReady)
	}
	var errs []error
	for s := range n.charter.Shards {
		g := n.shard(s)
		switch wanted := slices.Contains(p.Groups[placement.BlobGroup(s)], n.id); {
		case g == nil && wanted:
			errs = append(errs, fmt.Errorf("group %s is not open: %w", placement.BlobGroup(s), ErrNotReady))
		case g != nil && wanted && !g.whole.Load():
			errs = append(errs, n.checkGroup(ctx, g))
		}
	}
	return errors.Join(errs...)
}

// checkGroup is nil once this member has applied all that the group's leader
// had when it was asked.
func (n *Node) checkGroup(ctx context.Context, g *group) error {
	v, err := n.verifiedView(ctx, g.name)
	if err != nil {
		return err
	}
	have := g.position.Load()
	if have < v.Position { // it may be in the snapshot that this node has restored
		if list, err := g.snapshots.List(); err == nil && len(list) > 0 {
			have = max(have, list[0].Index)
		}
	}
	if have < v.Position || g.raft.AppliedIndex() < v.Index {
		return fmt.Errorf("group %s is at %d of %d: %w", g.name, g.raft.AppliedIndex(), v.Index,
			blobstore.ErrUnavailable)
	}
	if slices.Contains(v.Learners, n.id) {
		if err := n.fetchCarried(ctx, g); err != nil {
			return fmt.Errorf("group %s: %w", g.name, err)
		}
	}
	g.whole.Store(true)
	return nil
}

// fetchCarried brings here what came to the blobs of a group with entries of the
// catalog, before this node was a member: neither the log of the group nor its
// snapshot need have it. What such entries bring from now on this node stores.
func (n *Node) fetchCarried(ctx context.Context, g *group) error {
	if err := (catalog{n}).Fresh(ctx); err != nil {
		return err
	}
	return n.fetchReferenced(ctx, g)
}

// serveWhole tells the leader of a group that this member has everything, and
// may vote.
func (n *Node) serveWhole(_ context.Context, _ string, req []byte) ([]byte, error) {
	d := wire.NewDecoder(req)
	name := d.Text()
	if err := d.End(); err != nil {
		return nil, err
	}
	if g := n.group(name); g == nil || !g.whole.Load() {
		return nil, errBehind
	}
	return nil, nil
}

// saysWhole asks a member without a vote whether it has everything, beside the
// log, which the leader knows.
func (n *Node) saysWhole(ctx context.Context, g *group, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, memberCallWait)
	defer cancel()
	_, err := n.link.Call(ctx, id, kindWhole, wire.AppendText(nil, g.name))
	return err == nil
}
