package cluster

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"carillon/blobstore"
)

// TestCarry expects a small item to be one entry of the catalog and none of its
// shard, and a large one not to be carried.
func TestCarry(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	// A new leader's own entry may come at any time, and is no command.
	commands := func() (sum int) {
		for _, g := range nodes[0].hosted() {
			for i := uint64(1); i <= g.raft.LastIndex(); i++ {
				var l raft.Log
				if err := g.store.GetLog(i, &l); err != nil {
					t.Fatal(err)
				}
				if l.Type == raft.LogCommand {
					sum++
				}
			}
		}
		return sum
	}
	eventually(t, "all groups led", func() error {
		for _, g := range nodes[0].hosted() {
			if g.leader() == "" {
				return errNotLeader
			}
		}
		return nil
	})
	eventually(t, "the node that takes it knows the members of all groups", func() error {
		if !carriesAll(nodes[1]) {
			return errNotLeader
		}
		return nil
	})
	before := commands()
	id := mustUpload(t, nodes[1], "small", noise(1, 64<<10))
	if after := commands(); after != before {
		t.Errorf("a small item made %d entries in the blob groups", after-before)
	}
	for _, n := range nodes {
		if err := checkItem(t.Context(), n, "small", noise(1, 64<<10)); err != nil {
			t.Error(err)
		}
		if info, err := n.blobs.Stat(t.Context(), id); err != nil || !info.Sealed {
			t.Errorf("node %s does not hold it: %+v, %v", n.id, info, err)
		}
	}
	mustUpload(t, nodes[1], "large", noise(2, blobstore.ChunkBytesMax+1))
	eventually(t, "a large item is entries of its blob group", func() error {
		if commands() == before {
			return errBehind
		}
		return nil
	})
}

// carriesAll says whether a node's catalog carries a blob of any shard.
func carriesAll(n *testNode) bool {
	if !n.isFormed() {
		return false
	}
	shards := map[int]bool{}
	for len(shards) < n.charter.Shards {
		id := blobstore.NewID()
		if !n.carries(id) {
			return false
		}
		shards[shardOf(id, n.charter.Shards)] = true
	}
	return true
}

// TestCarryOnlyToReplicas expects that a node which is no voter ends it: its
// group's voters are then other nodes than the catalog's members.
func TestCarryOnlyToReplicas(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	id := blobstore.NewID()
	eventually(t, "carries", func() error {
		if !nodes[0].carries(id) {
			return errNotLeader
		}
		return nil
	})
	eventually(t, "a stranger in the catalog", func() error {
		for _, n := range nodes {
			if n.catalog.leads() {
				return n.catalog.raft.AddNonvoter("stranger", raft.ServerAddress("stranger"), 0, time.Second).Error()
			}
		}
		return errNotLeader
	})
	eventually(t, "carries no more", func() error {
		for _, n := range nodes {
			if n.carries(id) {
				return errBehind
			}
		}
		return nil
	})
	mustUpload(t, nodes[2], "item", noise(3, 1000))
	for _, n := range nodes {
		if err := checkItem(t.Context(), n, "item", noise(3, 1000)); err != nil {
			t.Error(err)
		}
	}
}

// TestReplayDoesNotRevive applies an entry again whose blob was freed since.
func TestReplayDoesNotRevive(t *testing.T) {
	nodes := startCluster(t, 1, nil)
	kept := mustUpload(t, nodes[0], "kept", noise(1, 1000))
	freed := mustUpload(t, nodes[0], "freed", noise(2, 1000))
	if _, err := nodes[0].Catalog().Commit(t.Context(), blobstore.Txn{
		Delete: []string{"freed", blobstore.RefKey(freed, "freed")},
	}); err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].Writer().Remove(t.Context(), freed); err != nil {
		t.Fatal(err)
	}
	nodes[0].close(t)
	nodes[0] = openNode(t, nodes[0].dir, nodes[0].cfg, Deps{})
	t.Cleanup(func() { nodes[0].close(t) })
	waitReady(t, nodes...)
	if _, err := nodes[0].blobs.Stat(t.Context(), freed); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("freed blob after the replay: %v", err)
	}
	if _, err := nodes[0].blobs.Stat(t.Context(), kept); err != nil {
		t.Errorf("kept blob after the replay: %v", err)
	}
}
