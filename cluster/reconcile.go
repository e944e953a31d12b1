package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/raft"

	"carillon/blobstore"
	"carillon/cluster/gossip"
	"carillon/cluster/placement"
)

// parseWeight reads a node's weight as gossip tells it.
func parseWeight(s string) int {
	w, err := strconv.Atoi(s)
	if err != nil || w < 1 || w > placement.WeightMax {
		return placement.WeightDefault
	}
	return w
}

// placeLoop keeps this node where it is wanted: it opens and closes groups,
// moves the members of those it leads, and, where it leads the catalog, decides
// who is wanted. Every look starts from what the catalog and raft say, so that
// it does not matter who did the last step.
func (n *Node) placeLoop() {
	tick := time.NewTicker(membershipWait)
	defer tick.Stop()
	var dropped time.Time
	for {
		changed, cancel := n.rows.Watch(placementKey)
		n.refreshPlacement(n.ctx)
		if err := n.refreshFormat(n.ctx, n.charter.LogFormat); errors.Is(err, blobstore.ErrFormat) {
			n.fail(err)
		}
		if err := n.obeyOrders(n.ctx); err != nil && n.ctx.Err() == nil {
			n.log.Error("recovery of a group not finished", "error", err)
		}
		n.host(n.ctx)
		if n.catalog.leads() {
			if err := n.raiseFormat(n.ctx); err != nil && n.ctx.Err() == nil {
				n.log.Warn("format not raised", "error", err)
			}
			if err := n.reconcile(n.ctx); err != nil && n.ctx.Err() == nil {
				n.log.Warn("placement not reconciled", "error", err)
			}
		}
		n.move(n.ctx)
		n.balance()
		n.checkStanding(n.ctx)
		if time.Since(dropped) >= min(dropCheckWait, n.cfg.DropAfter) {
			dropped = time.Now()
			n.dropLeft(n.ctx, dropped)
		}
		select {
		case <-n.ctx.Done():
			cancel()
			return
		case <-changed:
		case <-n.kick:
		case <-tick.C:
		}
		cancel()
	}
}

// reconcile takes one step: first the rows follow what is seen of the nodes,
// then the placement follows the rows, then the catalog's members follow the
// placement. Each commit says on what it rests, so that a leader that was
// deposed changes nothing.
func (n *Node) reconcile(ctx context.Context) error {
	rows, revisions, err := n.nodeRows(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	if news := n.observe(rows, now); len(news) > 0 {
		var t blobstore.Txn
		for _, id := range slices.Sorted(maps.Keys(news)) {
			if err := putNodeRow(&t, id, revisions[id], news[id]); err != nil {
				return err
			}
		}
		if err := n.commitStep(ctx, t); err != nil {
			return err
		}
		if rows, _, err = n.nodeRows(ctx); err != nil { // as whoever won has left them
			return err
		}
	}
	p := n.placed.Load()
	s := placement.Shape{Shards: n.charter.Shards, Replicas: n.charter.Replicas}
	if want := placement.Place(s, rows, now, n.cfg.ReplaceAfter, &p.Map); !want.Equal(&p.Map) {
		want.Epoch++
		value, err := encodeClusterRow(want)
		if err != nil {
			return err
		}
		n.log.Info("placement changes", "epoch", want.Epoch, "nodes", len(want.Nodes))
		if err := n.commitStep(ctx, blobstore.Txn{
			If:  []blobstore.Cond{{Key: placementKey, Revision: p.revision}},
			Put: []blobstore.Row{{Key: placementKey, Value: value}},
		}); err != nil {
			return err
		}
		n.refreshPlacement(ctx)
		return nil
	}
	return n.stepCatalog(ctx, rows, p)
}

// commitStep commits, and takes a conflict for a step that another leader took.
func (n *Node) commitStep(ctx context.Context, t blobstore.Txn) error {
	_, err := (catalog{n}).Commit(ctx, t)
	if errors.Is(err, blobstore.ErrConflict) {
		return nil
	}
	return err
}

// observe returns the rows that gossip gives reason to change. A node gets its
// row when it has the whole catalog: from then on it may be given groups.
func (n *Node) observe(rows map[string]placement.Node, now time.Time) map[string]placement.Node {
	news := map[string]placement.Node{}
	members := n.catalog.view().members()
	for _, id := range members {
		row, known := rows[id]
		if !known && n.catalog.hasAll(id) {
			row = placement.Node{State: placement.Active, Weight: placement.WeightDefault}
		} else if !known {
			continue
		}
		if seen := n.seen(id, row, now); !known || seen != row {
			news[id] = seen
		}
	}
	for _, id := range n.charter.Removed { // by a recovery
		if row, known := rows[id]; known && row.State != placement.Removed {
			row.State = placement.Removed
			news[id] = row
		}
	}
	return news
}

// seen is the row of a node as gossip sees the node now.
func (n *Node) seen(id string, row placement.Node, now time.Time) placement.Node {
	m, ok := n.gossip.Member(id)
	switch {
	case row.State == placement.Removed:
	case !ok || !m.Alive || m.Cluster != n.charter.Cluster:
		if row.Away == 0 {
			row.Away = now.UnixMilli()
		}
	default:
		row.Away, row.Zone, row.Weight = 0, m.Zone, parseWeight(m.Weight)
	}
	return row
}

// stepCatalog takes one step in the catalog's own group: new nodes come in
// without a vote, wanted voters vote, the others do not, and removed nodes go
// when they hold nothing any more.
func (n *Node) stepCatalog(ctx context.Context, rows map[string]placement.Node, p *placed) error {
	v := n.catalog.view()
	for _, m := range n.gossip.Members() {
		if n.admissible(m, rows) && !slices.Contains(v.members(), m.ID) {
			return n.addLearner(ctx, n.catalog, m.ID)
		}
	}
	if waiting, err := n.stepIn(ctx, n.catalog, v, p.Voters); waiting || err != nil {
		return err
	}
	for _, id := range p.Voters {
		if !slices.Contains(v.Voters, id) {
			return nil
		}
	}
	for _, id := range v.Voters {
		if slices.Contains(p.Voters, id) || !n.safeWithout(n.catalog, v.Voters, id) {
			continue
		}
		if id == n.id {
			return n.handOver(n.catalog, p.Voters)
		}
		n.log.Info("node does not vote in the catalog any more", "peer", id)
		return n.catalog.reconfigure(func(index uint64) raft.IndexFuture {
			return n.catalog.raft.DemoteVoter(raft.ServerID(id), index, addMemberWait)
		})
	}
	for _, id := range v.Learners {
		if rows[id].State == placement.Removed {
			return n.dismiss(ctx, id)
		}
	}
	return nil
}

// admissible says whether a node that gossip knows belongs into the catalog.
func (n *Node) admissible(m gossip.Member, rows map[string]placement.Node) bool {
	return m.Alive && m.Cluster == n.charter.Cluster && n.reads(m) && rows[m.ID].State != placement.Removed
}

// dismiss takes a removed node out of the catalog once it is in no group. Until
// then it hears from the catalog that it is to go.
func (n *Node) dismiss(ctx context.Context, id string) error {
	for s := range n.charter.Shards {
		v, err := n.verifiedView(ctx, placement.BlobGroup(s))
		if err != nil {
			return fmt.Errorf("members of %s: %w", placement.BlobGroup(s), err)
		}
		if slices.Contains(v.members(), id) {
			return nil
		}
	}
	n.log.Info("removed node leaves the catalog", "peer", id)
	return n.catalog.remove(id)
}
