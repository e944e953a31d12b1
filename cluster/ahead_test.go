package cluster

import (
	"testing"

	"carillon/blobstore"
)

// TestAheadIsBounded changes blobs without end on a node that is always a few
// entries behind: it must remember those, and no others.
func TestAheadIsBounded(t *testing.T) {
	const lag, changes = 10, 5 * pruneAbove
	var a ahead
	g := &group{}
	ids := make([]blobstore.ID, changes+1)
	for i := uint64(1); i <= changes; i++ {
		ids[i] = blobstore.NewID()
		if i > lag {
			g.position.Store(i - lag)
		}
		a.add(g, i, ids[i])
		if len(a.blobs) > pruneAbove {
			t.Fatalf("%d changes remembered, %d are pending", len(a.blobs), lag)
		}
	}
	for i := changes - lag + 1; i <= changes; i++ {
		if !a.of(g, ids[i]) {
			t.Errorf("change %d is pending and forgotten", i)
		}
	}
	if a.of(g, ids[changes-lag]) {
		t.Error("a change that was applied is called pending")
	}
}
