package cluster

import (
	"errors"
	"testing"

	"carillon/blobstore"
)

// TestLeaderDoubtsItsOwnAbsence takes a blob out of the store of its leader, as
// a damaged block of a table does: whoever reads it gets it from another replica,
// and the leader fetches it again. What the catalog does not refer to is gone.
func TestLeaderDoubtsItsOwnAbsence(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3, nil)
	items := newShardItems()
	items.store(t, nodes[0], "item")
	items.everywhere(t, nodes...)
	items.heldBy("item", nodes...)
	for key := range items.items {
		row, err := nodes[0].rows.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		id := blobstore.ID(row.Value)
		for _, n := range nodes {
			if (shelf{n.Node}).leads(id) {
				if err := n.applyHere(blobstore.Op{Kind: blobstore.OpRemove, ID: id}); err != nil {
					t.Fatal(err)
				}
				eventually(t, "read on its leader", func() error {
					return checkItem(t.Context(), n, key, items.items[key])
				})
				eventually(t, "the leader has it again", func() error {
					_, err := n.blobs.Stat(t.Context(), id)
					return err
				})
			}
		}
	}
	items.check(t, nodes...)
	eventually(t, "what nobody refers to is gone", func() error {
		_, err := nodes[0].Shelf().Stat(t.Context(), idIn(nodes[0], 1))
		if errors.Is(err, blobstore.ErrNotFound) {
			return nil
		}
		return errors.Join(err, errBehind)
	})
}
