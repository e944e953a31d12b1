package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
)

// Drain asks that a node gives away all that it holds; the others take it. It
// returns when the wish is written down: [Node.Status] tells how far it is. The
// node goes on serving, and holds nothing when its list of groups is the catalog
// alone. Again: success. ErrNotFound: there is no such node. ErrUnsafe: there
// would be fewer nodes left than replicas.
func (n *Node) Drain(ctx context.Context, id string) error {
	return n.changeNode(ctx, id, func(rows map[string]placement.Node, row *placement.Node) error {
		if row.State == placement.Removed {
			return fmt.Errorf("node %s was removed: %w", id, blobstore.ErrConflict)
		}
		left, now := 0, time.Now()
		for other, r := range rows {
			if other != id && r.State == placement.Active && !r.Lost(now, n.cfg.ReplaceAfter) {
				left++
			}
		}
		if left < n.charter.Replicas {
			return fmt.Errorf("%d nodes would be left for %d replicas, add one first: %w",
				left, n.charter.Replicas, ErrUnsafe)
		}
		row.State = placement.Draining
		return nil
	})
}

// Undrain takes a Drain back: the node gets its share again. Again: success.
// ErrNotFound and ErrConflict as for Drain.
func (n *Node) Undrain(ctx context.Context, id string) error {
	return n.changeNode(ctx, id, func(_ map[string]placement.Node, row *placement.Node) error {
		if row.State == placement.Removed {
			return fmt.Errorf("node %s was removed: %w", id, blobstore.ErrConflict)
		}
		row.State = placement.Active
		return nil
	})
}

// Remove takes a node out of the cluster for ever: one that has been drained, or
// one that is away, whose place others take at once. It returns when that is
// written down. Again: success. ErrNotFound: there is no such node. ErrUnsafe:
// the node is here and still holds something, or a group that it is a member of
// would have no majority without it.
func (n *Node) Remove(ctx context.Context, id string) error {
	return n.changeNode(ctx, id, func(_ map[string]placement.Node, row *placement.Node) error {
		if row.State == placement.Removed {
			return nil
		}
		if err := n.safeToRemove(ctx, id); err != nil {
			return err
		}
		row.State = placement.Removed
		return nil
	})
}

// safeToRemove asks the leader of each group whether it can do without a node.
func (n *Node) safeToRemove(ctx context.Context, id string) error {
	names := make([]string, 0, 1+n.charter.Shards)
	names = append(names, placement.CatalogGroup)
	for s := range n.charter.Shards {
		names = append(names, placement.BlobGroup(s))
	}
	for _, name := range names {
		v, err := n.patientView(ctx, name)
		if err != nil {
			return fmt.Errorf("group %s has no leader: %w: %w", name, ErrUnsafe, err)
		}
		if !slices.Contains(v.members(), id) {
			continue
		}
		if name != placement.CatalogGroup && !n.Gone(id) {
			return fmt.Errorf("node %s is here and a member of %s, drain it first: %w", id, name, ErrUnsafe)
		}
		left, well := 0, 0
		for _, voter := range v.Voters {
			if voter == id {
				continue
			}
			left++
			if !n.Gone(voter) {
				well++
			}
		}
		if well <= left/2 {
			return fmt.Errorf("group %s would have %d of %d members: %w", name, well, left, ErrUnsafe)
		}
	}
	return nil
}

// patientView is verifiedView, again while leadership changes hands.
func (n *Node) patientView(ctx context.Context, name string) (groupView, error) {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	for try := 0; ; try++ {
		v, err := n.verifiedView(ctx, name)
		if err == nil || !n.pauseForLeader(ctx, name, retryWait(try)) {
			return v, err
		}
	}
}

// changeNode changes a node's row, again if somebody else changed it meanwhile.
func (n *Node) changeNode(
	ctx context.Context, id string, change func(rows map[string]placement.Node, row *placement.Node) error,
) error {
	if err := n.waitFormed(ctx); err != nil {
		return err
	}
	for {
		if err := (catalog{n}).Fresh(ctx); err != nil {
			return err
		}
		rows, revisions, err := n.nodeRows(ctx)
		if err != nil {
			return err
		}
		row, known := rows[id]
		if !known {
			return fmt.Errorf("node %s: %w", id, blobstore.ErrNotFound)
		}
		before := row
		if err := change(rows, &row); err != nil || row == before {
			return err
		}
		var t blobstore.Txn
		if err := putNodeRow(&t, id, revisions[id], row); err != nil {
			return err
		}
		if _, err = (catalog{n}).Commit(ctx, t); !errors.Is(err, blobstore.ErrConflict) {
			return err
		}
	}
}

// NodeProgress is how far a node is on its way in or out.
type NodeProgress struct {
	ID    string `json:"id"`
	State string `json:"state"` // as in NodeStatus
	// Groups is how many blob groups have the node as a member, and Wanted how
	// many are to have it.
	Groups int `json:"groups"`
	Wanted int `json:"wanted"`
	// Moving is how many groups are not where they are to be yet.
	Moving int `json:"moving"`
}

// Progress tells how far a node is on its way, as the leaders of the groups see
// it. ErrNotFound: there is no such node; ErrUnavailable: a group has no leader.
func (n *Node) Progress(ctx context.Context, id string) (NodeProgress, error) {
	if err := n.waitFormed(ctx); err != nil {
		return NodeProgress{}, err
	}
	var row placement.Node
	found, err := (catalog{n}).Get(ctx, nodeKey(id)) // not n.rows: it may just have been changed here
	if err == nil {
		err = decodeClusterRow(found, &row)
	}
	if err != nil {
		return NodeProgress{}, fmt.Errorf("node %s: %w", id, err)
	}
	out := NodeProgress{ID: id, State: string(row.State)}
	for s := range n.charter.Shards {
		name := placement.BlobGroup(s)
		v, err := n.patientView(ctx, name)
		if err != nil {
			return out, fmt.Errorf("group %s: %w: %w", name, blobstore.ErrUnavailable, err)
		}
		wanted := n.wanted(name)
		if slices.Contains(v.members(), id) {
			out.Groups++
		}
		if slices.Contains(wanted, id) {
			out.Wanted++
		}
		slices.Sort(v.Voters)
		if len(v.Learners) > 0 || !slices.Equal(v.Voters, wanted) {
			out.Moving++
		}
	}
	return out, nil
}
