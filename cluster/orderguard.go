package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"carillon/blobstore"
	"carillon/cluster/placement"
)

// When most members of a blob group are given up and come back at that moment, all
// at once, they are a majority of what the group was, and may acknowledge sound to
// whoever has not heard of the recovery yet. So a document is tied to it: the
// commit that makes it holds only while the recoveries are those that its node
// knows, and of a group that was recovered it is asked first whether it has the
// sound. See RECOVERY.md.

// tied is a transaction with the condition that the recoveries of groups are those
// that this node knows, if it refers to blobs: one operation of TxnOpsMax is then
// for that. ErrUnavailable: a group was recovered
// without the sound, or this node was given up.
func (n *Node) tied(ctx context.Context, t blobstore.Txn) (blobstore.Txn, error) {
	if !slices.ContainsFunc(t.Put, isReference) {
		return t, nil
	}
	orders, revision, err := n.groupOrders(ctx)
	if err == nil {
		err = orders.admits(n.id)
	}
	if err != nil {
		return t, err
	}
	if revision != 0 {
		if err := n.deaf(orders.Lost); err != nil {
			return t, err
		}
		for i := range t.Put {
			if err := n.outlived(ctx, &t, t.Put[i], orders); err != nil {
				return t, err
			}
		}
	}
	t.If = append(slices.Clip(t.If), blobstore.Cond{Key: ordersKey, Revision: revision})
	return t, nil
}

func isReference(r blobstore.Row) bool { return strings.HasPrefix(r.Key, blobstore.RefPrefix) }

// admits refuses a node that was given up, and has not stopped yet.
func (o groupOrders) admits(node string) error {
	if slices.Contains(o.Lost, node) {
		return fmt.Errorf("%w: %w", blobstore.ErrUnavailable, ErrRemoved)
	}
	return nil
}

// deaf makes this node deaf to those that were given up, if it is not yet.
func (n *Node) deaf(lost []string) error {
	for _, id := range lost {
		if !n.unheard.has(id) {
			return n.fence(n.charter, lost)
		}
	}
	return nil
}

// outlived says whether a blob that a row is the first to refer to is in its group,
// if that was recovered.
func (n *Node) outlived(ctx context.Context, t *blobstore.Txn, row blobstore.Row, orders groupOrders) error {
	if !isReference(row) {
		return nil
	}
	id, err := refID(row.Key)
	if err != nil {
		return err
	}
	name := placement.BlobGroup(shardOf(id, n.charter.Shards))
	if orders.Groups[name].Seq == 0 || t.Sound != nil && t.Sound.ID == id {
		return nil
	}
	if known, err := n.referenced(ctx, id); known || err != nil {
		return err
	}
	_, err = shelf{n}.Stat(ctx, id)
	if errors.Is(err, blobstore.ErrNotFound) {
		return fmt.Errorf("%s was recovered without blob %s: %w", name, id, blobstore.ErrUnavailable)
	}
	return err
}
