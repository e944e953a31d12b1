package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
)

// settled is nil when every group is where the placement wants it, and nowhere
// else, as all given nodes see it.
func settled(nodes ...*testNode) error {
	want := nodes[0].placed.Load()
	for _, n := range nodes {
		if !n.isFormed() {
			return fmt.Errorf("node %s has not joined: %w", n.id, ErrNotReady)
		}
		p := n.placed.Load()
		if p.Epoch != want.Epoch {
			return fmt.Errorf("node %s has epoch %d, not %d", n.id, p.Epoch, want.Epoch)
		}
		for s := range n.charter.Shards {
			name := placement.BlobGroup(s)
			g := n.shard(s)
			if wanted := slices.Contains(p.Groups[name], n.id); wanted != (g != nil) {
				return fmt.Errorf("node %s and %s: wanted %v, open %v", n.id, name, wanted, g != nil)
			}
			if g == nil {
				continue
			}
			v := g.view()
			slices.Sort(v.Voters)
			if len(v.Learners) > 0 || !slices.Equal(v.Voters, p.Groups[name]) {
				return fmt.Errorf("%s has voters %v and others %v, not %v", name, v.Voters, v.Learners, p.Groups[name])
			}
		}
		voters := slices.Sorted(slices.Values(n.catalog.view().Voters))
		if !slices.Equal(voters, p.Voters) {
			return fmt.Errorf("catalog has voters %v, not %v", voters, p.Voters)
		}
	}
	return nil
}

func waitSettled(t *testing.T, what string, nodes ...*testNode) {
	t.Helper()
	eventually(t, what, func() error { return settled(nodes...) })
}

// thoughtOf waits until the placement is of so many nodes that may hold
// something.
func thoughtOf(t *testing.T, count int, n *testNode) {
	t.Helper()
	eventually(t, fmt.Sprintf("placement of %d nodes", count), func() error {
		rows, _, err := n.nodeRows(t.Context())
		if err != nil {
			return err
		}
		able := 0
		for _, r := range rows {
			if r.State == placement.Active && !r.Lost(time.Now(), n.cfg.ReplaceAfter) {
				able++
			}
		}
		p := n.placed.Load()
		s := placement.Shape{Shards: n.charter.Shards, Replicas: n.charter.Replicas}
		if able != count || !placement.Place(s, rows, time.Now(), n.cfg.ReplaceAfter, &p.Map).Equal(&p.Map) {
			return fmt.Errorf("%d nodes, epoch %d", able, p.Epoch)
		}
		return nil
	})
}

// grow adds a node to a cluster.
func grow(t *testing.T, nodes []*testNode) *testNode {
	t.Helper()
	cfg := nodes[0].cfg
	cfg.Seeds = []string{nodes[len(nodes)-1].GossipAddr()}
	n := openNode(t, filepath.Join(t.TempDir(), "grown"), cfg, Deps{})
	t.Cleanup(func() { n.close(t) })
	return n
}

// library of items that must stay.
type kept struct {
	mu    sync.Mutex
	items map[string][]byte // guarded by mu
}

func (k *kept) check(t *testing.T, nodes ...*testNode) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, body := range k.items {
		for _, n := range nodes {
			eventually(t, key, func() error { return checkItem(t.Context(), n, key, body) })
		}
	}
}

// write uploads through a node until ctx ends.
func (k *kept) write(ctx context.Context, n *testNode, name string) {
	for i := 0; ctx.Err() == nil; i++ {
		key, body := fmt.Sprintf("%s-%d", name, i), noise(uint64(i), 1+i*7919%600_000)
		if _, err := upload(ctx, n, key, body); err == nil {
			k.mu.Lock()
			k.items[key] = body
			k.mu.Unlock()
		}
		if !pause(ctx, 50*time.Millisecond) {
			return
		}
	}
}

// TestMembersMove lets a cluster grow from three nodes to five, drains one,
// removes it, loses another and gets that one back, while clients write. Each
// time every group must come to rest on exactly the nodes it is wanted on, data
// of groups that were left must go, and everything stays readable everywhere.
func TestMembersMove(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3, func(c *Config) {
		c.Shards, c.ReplaceAfter, c.DropAfter = 6, 3*time.Second, time.Second
	})
	k := &kept{items: map[string][]byte{}}
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer stop()
	for i, n := range nodes[:2] {
		writers.Go(func() { k.write(ctx, n, fmt.Sprintf("w%d", i)) })
	}
	for range 2 {
		nodes = append(nodes, grow(t, nodes))
	}
	thoughtOf(t, 5, nodes[0])
	waitSettled(t, "five nodes", nodes...)
	waitReady(t, nodes...)
	k.check(t, nodes...)
	eventually(t, "what was left is deleted", func() error {
		for _, n := range nodes { // what a sweep would find
			var strays []blobstore.Info
			for info, err := range n.blobs.Blobs(t.Context()) {
				if err != nil {
					return err
				}
				if n.shard(shardOf(info.ID, n.charter.Shards)) == nil {
					strays = append(strays, info)
				}
			}
			if err := n.dropStrays(t.Context(), strays); err != nil {
				return err
			}
		}
		return onlyOwn(nodes...)
	})

	nodes = slices.SortedStableFunc(slices.Values(nodes), func(a, b *testNode) int {
		return len(b.groups()) - len(a.groups()) // with six groups, one of five nodes may hold none
	})
	drained := nodes[0]
	nodes = nodes[1:]
	if err := drained.Remove(t.Context(), drained.id); !errors.Is(err, ErrUnsafe) {
		t.Errorf("removal of a node that holds something: %v", err)
	}
	if err := nodes[0].Drain(t.Context(), drained.id); err != nil {
		t.Fatal(err)
	}
	thoughtOf(t, 4, nodes[0])
	with := slices.Concat(nodes, []*testNode{drained})
	waitSettled(t, "drained", with...)
	if !drained.holdsNothing() {
		t.Error("the drained node holds something")
	}
	k.check(t, with...)
	if err := nodes[0].Remove(t.Context(), drained.id); err != nil {
		t.Fatal(err)
	}
	if err := <-drained.Failed(); !errors.Is(err, ErrRemoved) {
		t.Errorf("the removed node stops with %v", err)
	}
	drained.close(t)
	if err := checkRemoved(drained.dir); !errors.Is(err, ErrRemoved) {
		t.Errorf("the removed node starts again: %v", err)
	}

	lost, rest := nodes[3], nodes[:3]
	lost.close(t)
	thoughtOf(t, 3, nodes[0])
	waitSettled(t, "replaced", rest...)
	k.check(t, rest...)
	lost = openNode(t, lost.dir, lost.cfg, Deps{})
	t.Cleanup(func() { lost.close(t) })
	stop()
	writers.Wait()
	thoughtOf(t, 4, nodes[0])
	all := []*testNode{rest[0], rest[1], rest[2], lost}
	waitSettled(t, "back again", all...)
	waitReady(t, lost)
	k.check(t, all...)
	sameCatalogs(t, all...)
}

// TestCarriedSoundMoves grows and drains a cluster whose documents came with
// their sound in the catalog's log, after the last snapshot of the blob groups:
// neither those nor their logs tell a new member of it.
func TestCarriedSoundMoves(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3, func(c *Config) { c.Shards, c.DropAfter = 4, time.Second })
	shrink := func(g *group) {
		g.trailing.mu.Lock()
		g.trailing.sizes, g.trailing.next = nil, 0 // keep the least
		g.trailing.mu.Unlock()
		g.snapshot(true)
	}
	mustUpload(t, nodes[0], "large", noise(9, blobstore.ChunkBytesMax+1))
	for _, n := range nodes {
		for _, g := range n.groups() {
			if g.name != placement.CatalogGroup {
				shrink(g)
			}
		}
	}
	k := &kept{items: map[string][]byte{}}
	ids := map[string]blobstore.ID{}
	for i := range 2 * trailingEntriesMin {
		key := fmt.Sprintf("carried-%d", i)
		k.items[key] = noise(uint64(i), 1000+i)
		ids[key] = mustUpload(t, nodes[i%3], key, k.items[key])
	}
	for _, n := range nodes {
		shrink(n.catalog)
	}
	nodes = append(nodes, grow(t, nodes))
	thoughtOf(t, 4, nodes[0])
	waitSettled(t, "four nodes", nodes...)
	if err := nodes[0].Drain(t.Context(), nodes[1].id); err != nil {
		t.Fatal(err)
	}
	thoughtOf(t, 3, nodes[0])
	waitSettled(t, "drained", nodes...)
	k.check(t, nodes...)
	for key, id := range ids {
		for _, n := range nodes {
			if n.shard(shardOf(id, n.charter.Shards)) == nil {
				continue
			}
			if info, err := n.blobs.Stat(t.Context(), id); err != nil || !info.Sealed {
				t.Errorf("%s is not whole on its replica %s: %+v, %v", key, n.id, info, err)
			}
		}
	}
}

// onlyOwn is nil when no node holds blobs of groups that it is no member of.
func onlyOwn(nodes ...*testNode) error {
	for _, n := range nodes {
		for info, err := range n.blobs.Blobs(context.Background()) {
			if err != nil {
				return err
			}
			s := shardOf(info.ID, n.charter.Shards)
			if n.shard(s) == nil {
				return fmt.Errorf("node %s holds blob %s of %s", n.id, info.ID, placement.BlobGroup(s))
			}
		}
		for s := range n.charter.Shards {
			_, err := os.Stat(filepath.Join(n.raftDir(), placement.BlobGroup(s)))
			if (err == nil) != (n.shard(s) != nil) {
				return fmt.Errorf("node %s: log of %s: %w", n.id, placement.BlobGroup(s),
					errors.Join(err, blobstore.ErrConflict))
			}
		}
	}
	return nil
}

// TestWipedNode lets a node come back with an empty directory: it is another
// node, and takes the place of what it was when that is removed.
func TestWipedNode(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3, nil)
	k := &kept{items: map[string][]byte{}}
	for i := range 12 {
		key, body := fmt.Sprintf("item-%d", i), noise(uint64(i), 1+i*100_000)
		mustUpload(t, nodes[i%3], key, body)
		k.items[key] = body
	}
	before := nodes[2].id
	nodes[2].close(t)
	cfg := nodes[2].cfg
	cfg.Seeds = []string{nodes[0].GossipAddr()}
	wiped := openNode(t, filepath.Join(t.TempDir(), "wiped"), cfg, Deps{})
	t.Cleanup(func() { wiped.close(t) })
	if wiped.id == before {
		t.Fatal("an empty directory has an identity")
	}
	eventually(t, "the old identity is noticed to be gone", func() error {
		if !nodes[0].Gone(before) {
			return errNotLeft
		}
		return nil
	})
	if err := nodes[0].Remove(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	all := []*testNode{nodes[0], nodes[1], wiped}
	thoughtOf(t, 3, nodes[0])
	waitSettled(t, "the new identity has the place of the old", all...)
	waitReady(t, all...)
	k.check(t, all...)
	for key := range k.items {
		var id blobstore.ID
		row, err := wiped.Catalog().Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		copy(id[:], row.Value)
		if info, err := wiped.blobs.Stat(t.Context(), id); err != nil || !info.Sealed {
			t.Errorf("%s is not on the new node itself: %+v, %v", key, info, err)
		}
	}
}

// TestNewIDAvoidsLostShards names new blobs on a node while most members of
// some shards are away.
func TestNewIDAvoidsLostShards(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3, func(c *Config) { c.Shards, c.Replicas = 16, 1 })
	away := nodes[2]
	away.close(t)
	eventually(t, "noticed", func() error {
		if !nodes[0].Gone(away.id) {
			return errNotLeft
		}
		return nil
	})
	for range 200 {
		id := nodes[0].Writer().(blobstore.Namer).NewID()
		name := placement.BlobGroup(shardOf(id, nodes[0].charter.Shards))
		if slices.Equal(nodes[0].wanted(name), []string{away.id}) {
			t.Fatalf("blob %s is named for %s, whose only member is away", id, name)
		}
	}
}

// TestAloneJoins starts a node that is enough for a cluster of its own and was
// told of another one: it must join that.
func TestAloneJoins(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 1, nil)
	second := grow(t, nodes)
	waitReady(t, second)
	if second.charter.Cluster != nodes[0].charter.Cluster {
		t.Error("it has founded another cluster")
	}
}
