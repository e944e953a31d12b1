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

// ordersKey is the row of all recoveries of blob groups: one row, so that a node
// sees with one look whether anything is new.
const ordersKey = "c1/recovery"

// groupOrders is what operators have decided about blob groups that had lost
// their majority for ever.
type groupOrders struct {
	Groups map[string]groupOrder `json:"groups"` // the last of each group
	// Lost are the nodes that were given up. It never shrinks: nobody listens to
	// them any more.
	Lost []string `json:"lost"`
}

// groupOrder lets one group go on with one node.
type groupOrder struct {
	Seq  uint64   `json:"seq"` // from 1, of this group
	Node string   `json:"node"`
	Lost []string `json:"lost"`
	At   int64    `json:"at"` // Unix milliseconds
	Done bool     `json:"done,omitempty"`
}

func (o groupOrder) state() string {
	switch {
	case o.Seq == 0:
		return GroupRecoveryNone
	case o.Done:
		return GroupRecoveryDone
	}
	return GroupRecoveryAsked
}

// groupOrders reads the row as this node knows it; revision 0: there is none.
func (n *Node) groupOrders(ctx context.Context) (orders groupOrders, revision uint64, err error) {
	row, err := n.rows.Get(ctx, ordersKey)
	if err == nil {
		err = decodeClusterRow(row, &orders)
	}
	if err != nil && !errors.Is(err, blobstore.ErrNotFound) {
		return orders, 0, fmt.Errorf("recoveries of groups: %w", err)
	}
	if orders.Groups == nil {
		orders.Groups = map[string]groupOrder{}
	}
	return orders, row.Revision, nil
}

// orderRecovery writes down that a group is to go on with a node. The same
// commit removes the nodes that are given up: from then on the leader of the
// catalog, which has applied it, takes nothing from them, so that whatever they
// may agree on among themselves becomes no document.
func (n *Node) orderRecovery(ctx context.Context, name string, f GroupRecovery) error {
	orders, revision, err := n.groupOrders(ctx)
	if err != nil {
		return err
	}
	orders.Groups[name] = groupOrder{
		Seq: orders.Groups[name].Seq + 1, Node: f.Node, Lost: f.Lost, At: time.Now().UnixMilli(),
	}
	orders.Lost = slices.Compact(sorted(slices.Concat(orders.Lost, f.Lost)))
	t, err := ordersTxn(orders, revision)
	if err != nil {
		return err
	}
	rows, revisions, err := n.nodeRows(ctx)
	if err != nil {
		return err
	}
	for _, id := range f.Lost {
		row, known := rows[id]
		if !known || row.State == placement.Removed {
			continue
		}
		row.State = placement.Removed
		if err := putNodeRow(&t, id, revisions[id], row); err != nil {
			return err
		}
	}
	if _, err := (catalog{n}).Commit(ctx, t); err != nil {
		return fmt.Errorf("recovery of %s: %w", name, err)
	}
	return nil
}

func ordersTxn(orders groupOrders, revision uint64) (blobstore.Txn, error) {
	value, err := encodeClusterRow(orders)
	return blobstore.Txn{
		If:  []blobstore.Cond{{Key: ordersKey, Revision: revision}},
		Put: []blobstore.Row{{Key: ordersKey, Value: value}},
	}, err
}

// reportRecovered notes in the catalog that this node has obeyed.
func (n *Node) reportRecovered(ctx context.Context, name string, seq uint64) error {
	orders, revision, err := n.groupOrders(ctx)
	o := orders.Groups[name]
	if err != nil || o.Seq != seq || o.Done {
		return err
	}
	o.Done = true
	orders.Groups[name] = o
	t, err := ordersTxn(orders, revision)
	if err != nil {
		return err
	}
	return n.commitStep(ctx, t)
}
