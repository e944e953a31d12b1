package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"carillon/blobstore"
	"carillon/cluster/placement"
)

// The rows by which the cluster knows its own shape. Every value is a version
// byte and JSON. The library's rows have other prefixes.
const (
	nodePrefix   = "c1/node/"     // c1/node/{id}: placement.Node
	placementKey = "c1/placement" // placement.Map
	// clusterRowVersion is the first byte of the values.
	clusterRowVersion = 1
)

func nodeKey(id string) string { return nodePrefix + id }

func encodeClusterRow(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode row: %w", err)
	}
	return append([]byte{clusterRowVersion}, b...), nil
}

func decodeClusterRow(row blobstore.Row, v any) error {
	if len(row.Value) == 0 || row.Value[0] != clusterRowVersion {
		return fmt.Errorf("row %s: %w", row.Key, blobstore.ErrFormat)
	}
	if err := json.Unmarshal(row.Value[1:], v); err != nil {
		return fmt.Errorf("row %s: %w: %w", row.Key, blobstore.ErrFormat, err)
	}
	return nil
}

// nodeRows are the rows of all nodes and their revisions.
func (n *Node) nodeRows(ctx context.Context) (map[string]placement.Node, map[string]uint64, error) {
	rows, revisions := map[string]placement.Node{}, map[string]uint64{}
	for row, err := range n.rows.Scan(ctx, nodePrefix, "") {
		if err != nil {
			return nil, nil, fmt.Errorf("rows of the nodes: %w", err)
		}
		var r placement.Node
		if err := decodeClusterRow(row, &r); err != nil {
			return nil, nil, err
		}
		id := strings.TrimPrefix(row.Key, nodePrefix)
		rows[id], revisions[id] = r, row.Revision
	}
	return rows, revisions, nil
}

// nodeRow is the row of one node; ErrNotFound if it has none.
func (n *Node) nodeRow(ctx context.Context, id string) (placement.Node, error) {
	row, err := n.rows.Get(ctx, nodeKey(id))
	if err != nil {
		return placement.Node{}, err //nolint:wrapcheck // in the words of blobstore
	}
	var r placement.Node
	err = decodeClusterRow(row, &r)
	return r, err
}

// putNodeRow is the part of a transaction that changes a node's row.
func putNodeRow(t *blobstore.Txn, id string, revision uint64, r placement.Node) error {
	value, err := encodeClusterRow(r)
	if err != nil {
		return err
	}
	t.If = append(t.If, blobstore.Cond{Key: nodeKey(id), Revision: revision})
	t.Put = append(t.Put, blobstore.Row{Key: nodeKey(id), Value: value})
	return nil
}

// placed is the placement as this node knows it.
type placed struct {
	placement.Map

	revision uint64   // of its row, 0 for the charter's
	leaders  []string // by shard, see placement.Leaders
}

// firstPlacement is that of the charter, before the catalog has a row.
func (c *charter) firstPlacement() *placed {
	p := &placed{Map: placement.Map{Nodes: c.Members, Voters: c.Voters, Groups: c.Groups}}
	p.leaders = placement.Leaders(&p.Map, c.Shards)
	return p
}

// refreshPlacement reads the placement from the catalog. What cannot be read
// changes nothing: a later version may have written it.
func (n *Node) refreshPlacement(ctx context.Context) {
	row, err := n.rows.Get(ctx, placementKey)
	if errors.Is(err, blobstore.ErrNotFound) || err == nil && row.Revision == n.placed.Load().revision {
		return
	}
	p := &placed{revision: row.Revision}
	if err == nil {
		err = decodeClusterRow(row, &p.Map)
	}
	if err != nil {
		n.log.Error("placement not read", "error", err)
		return
	}
	p.leaders = placement.Leaders(&p.Map, n.charter.Shards)
	n.placed.Store(p)
	n.log.Info("placement", "epoch", p.Epoch, "nodes", len(p.Nodes))
}

// everywhere says whether every node is to hold every blob.
func (n *Node) everywhere() bool {
	return len(n.placed.Load().Nodes) <= n.charter.Replicas
}
