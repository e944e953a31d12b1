package cluster

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"carillon/blobstore"
)

// TestFreshWithoutLeader: in an outage not every read that asks for the leader
// waits for it, and the first one after it is fresh again.
func TestFreshWithoutLeader(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3, nil)
	nodes[1].close(t)
	nodes[2].close(t)
	eventually(t, "a wait in vain", func() error {
		if err := nodes[0].Catalog().Fresh(t.Context()); !errors.Is(err, blobstore.ErrUnavailable) {
			return fmt.Errorf("fresh without a majority: %w", errors.Join(err, errors.New("want ErrUnavailable")))
		}
		if !nodes[0].leaderless.Load() {
			return errors.New("it did not wait")
		}
		return nil
	})
	const reads = 30
	began := time.Now()
	for range reads {
		if err := nodes[0].Catalog().Fresh(t.Context()); !errors.Is(err, blobstore.ErrUnavailable) {
			t.Errorf("fresh without a majority: %v", err)
		}
	}
	// Each would wait freshWait: a third of that in all is far from both.
	if took := time.Since(began); took > reads*freshWait/3 {
		t.Errorf("%d reads took %v", reads, took)
	}
	nodes[1] = openNode(t, nodes[1].dir, nodes[1].cfg, Deps{})
	t.Cleanup(func() { nodes[1].close(t) })
	eventually(t, "a leader", func() error { return nodes[0].Catalog().Fresh(t.Context()) })
	if nodes[0].leaderless.Load() {
		t.Error("reads still do not wait")
	}
}
