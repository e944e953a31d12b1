package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"carillon/blobstore"
)

// TestRecoverTwo loses three of five nodes for ever and goes on with two. What
// one of them held plays from both, what neither held is gone, and both agree on
// the members of every group although one may have been away while the others
// took its place.
func TestRecoverTwo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		stale bool
	}{{"as far", false}, {"one was away", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nodes := startCluster(t, 5, func(c *Config) { c.Shards, c.ReplaceAfter = 8, 2*time.Second })
			waitSettled(t, "five nodes", nodes...)
			items := newShardItems()
			items.store(t, nodes[2], "first")
			sameCatalogs(t, nodes...)
			items.everywhere(t, nodes...)
			items.heldBy("first", nodes[0], nodes[1])
			if c.stale {
				rest := nodes[1:]
				nodes[0].close(t)
				thoughtOf(t, 4, nodes[1])
				waitSettled(t, "replaced", rest...)
				items.store(t, nodes[2], "second")
				sameCatalogs(t, rest...)
				items.everywhere(t, rest...)
				items.heldBy("", nodes[1])
			}
			for _, n := range nodes {
				n.close(t)
			}
			two := nodes[:2]
			recoverTogether(t, two...)
			for i := range two {
				two[i] = openNode(t, two[i].dir, two[i].cfg, Deps{})
				t.Cleanup(func() { two[i].close(t) })
				two[1-i].cfg.Seeds = []string{two[i].GossipAddr()}
			}
			waitReady(t, two...)
			thoughtOf(t, 2, two[0])
			waitSettled(t, "everything on both", two...)
			items.check(t, two...)
			items.store(t, two[0], "after")
			items.heldBy("after", two...)
			sameCatalogs(t, two...)
			items.check(t, two...)
		})
	}
}

// recoverTogether makes a cluster of stopped nodes, each of which is told what
// the others hold.
func recoverTogether(t *testing.T, nodes ...*testNode) {
	t.Helper()
	ids := idsOf(nodes...)
	facts := make([]RecoverFacts, len(nodes))
	for i, n := range nodes {
		r, done := openRecovery(t, n)
		var err error
		if facts[i], err = r.Facts(ids); err != nil || facts[i].Quorum {
			t.Fatalf("facts: %+v %v", facts[i], err)
		}
		if _, err := r.Apply(t.Context(), facts[i]); !errors.Is(err, ErrSurvivors) {
			t.Errorf("recovery without the facts of the others: %v", err)
		}
		if all, err := r.Facts(append(idsOf(nodes...), n.charter.Members...)); err != nil || !all.Quorum {
			t.Errorf("a majority of survivors need no recovery: %v %v", all.Quorum, err)
		}
		done()
	}
	cluster := ""
	for i, n := range nodes {
		r, done := openRecovery(t, n)
		f, err := r.Facts(ids, append(facts[:i:i], facts[i+1:]...)...)
		if err != nil || len(f.Unheard) > 0 {
			t.Fatalf("facts of all: %+v %v", f, err)
		}
		report, err := r.Apply(t.Context(), f)
		if err != nil || cluster != "" && report.Cluster != cluster {
			t.Errorf("recovered as %s and %s: %v", cluster, report.Cluster, err)
		}
		cluster = report.Cluster
		done()
	}
}

// shardItems are items of which it is known in which shard they are, and whether
// they are held by those who survive.
type shardItems struct {
	items map[string][]byte
	shard map[string]int
	kept  map[string]bool
}

func newShardItems() *shardItems {
	return &shardItems{map[string][]byte{}, map[string]int{}, map[string]bool{}}
}

// store stores an item in each shard.
func (s *shardItems) store(t *testing.T, n *testNode, name string) {
	t.Helper()
	for shard := range n.charter.Shards {
		key := fmt.Sprintf("%s-%d", name, shard)
		s.items[key], s.shard[key] = noise(uint64(len(s.items)), 1000+shard*90_000), shard
		into(t, n, shard, key, s.items[key])
	}
}

// everywhere waits until every member of a shard has all its items.
func (s *shardItems) everywhere(t *testing.T, nodes ...*testNode) {
	t.Helper()
	for key, shard := range s.shard {
		for _, n := range membersOf(nodes, shard) {
			eventually(t, key, func() error {
				row, err := n.rows.Get(t.Context(), key)
				if err == nil {
					_, err = n.blobs.Stat(t.Context(), blobstore.ID(row.Value))
				}
				return err
			})
		}
	}
}

// heldBy notes that the items of that name survive whose shards one of the nodes
// is a member of.
func (s *shardItems) heldBy(name string, nodes ...*testNode) {
	for key, shard := range s.shard {
		if strings.HasPrefix(key, name) && len(membersOf(nodes, shard)) > 0 {
			s.kept[key] = true
		}
	}
}

func (s *shardItems) check(t *testing.T, nodes ...*testNode) {
	t.Helper()
	for key, body := range s.items {
		for _, n := range nodes {
			eventually(t, fmt.Sprintf("%s on %s, held: %v", key, n.id, s.kept[key]), func() error {
				err := checkItem(t.Context(), n, key, body)
				if s.kept[key] {
					return err
				}
				if !errors.Is(err, blobstore.ErrNotFound) {
					return fmt.Errorf("nobody held it: %w", errors.Join(err, blobstore.ErrConflict))
				}
				return nil
			})
		}
	}
}
