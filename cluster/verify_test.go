package cluster

import (
	"fmt"
	"testing"

	"carillon/blobstore"
)

// TestVerifyBlob: every copy is read where it lies, and what is missing or away
// is told apart.
func TestVerifyBlob(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	id, data := blobstore.NewIDFor(nodes[0].Writer()), []byte("some sound")
	totals := blobstore.TotalsOf(data)
	if err := nodes[0].Writer().Put(t.Context(), id, blobstore.Spec{}, data, totals); err != nil {
		t.Fatal(err)
	}
	states := func() map[string]blobstore.ReplicaState {
		t.Helper()
		v, err := nodes[1].VerifyBlob(t.Context(), id)
		if err != nil || len(v.Replicas) != 3 || v.Wanted != 3 {
			t.Fatalf("%+v, %v", v, err)
		}
		found := map[string]blobstore.ReplicaState{}
		for _, r := range v.Replicas {
			found[r.Node] = r.State
			if r.State == blobstore.ReplicaOK && (r.SHA256 != totals.SHA256.String() || r.Size != totals.Size) {
				t.Errorf("%+v", r)
			}
		}
		return found
	}
	for node, state := range states() {
		if state != blobstore.ReplicaOK {
			t.Errorf("%s: %s", node, state)
		}
	}
	if err := nodes[0].applyHere(blobstore.Op{Kind: blobstore.OpRemove, ID: id}); err != nil {
		t.Fatal(err)
	}
	nodes[2].close(t)
	eventually(t, "missing and away are told apart", func() error { // an election makes it behind for a moment
		found := states()
		if found[nodes[0].ID()] != blobstore.ReplicaMissing || found[nodes[1].ID()] != blobstore.ReplicaOK ||
			found[nodes[2].ID()] != blobstore.ReplicaUnreachable {
			return fmt.Errorf("found %v", found)
		}
		return nil
	})
}
