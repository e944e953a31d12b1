package cluster

import (
	"errors"
	"sync"
	"testing"

	"carillon/blobstore"
	"carillon/cluster/placement"
)

// leadChanges is how often the test below moves the leadership.
const leadChanges = 12

// Goal: who asks for a blob that there is none of, while the leadership of its group
// comes to this node, is told so, and does not wait for a leader among the others.
func TestNotFoundWhileLeadershipMoves(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	id := blobstore.NewID()
	name := placement.BlobGroup(shardOf(id, nodes[0].charter.Shards))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := (shelf{n.Node}).Stat(t.Context(), id); !errors.Is(err, blobstore.ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	for range leadChanges {
		var led *testNode
		eventually(t, "a leader", func() error {
			for _, n := range nodes {
				if n.group(name).leads() {
					led = n
					return nil
				}
			}
			return errNotLeader
		})
		if err := led.group(name).raft.LeadershipTransfer().Error(); err != nil {
			t.Logf("not transferred: %v", err) // it may have moved by itself
		}
	}
	close(stop)
	wg.Wait()
}
