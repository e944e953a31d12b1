package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"carillon/blobstore"
	"carillon/blobstore/storetest"
	"carillon/cluster/command"
	"carillon/cluster/placement"
)

// TestConformance holds one node and three to the same contracts as a disk.
func TestConformance(t *testing.T) {
	for _, size := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", size), func(t *testing.T) {
			nodes := startCluster(t, size, nil)
			storetest.Run(t, func(*testing.T) (blobstore.Writer, blobstore.Shelf, blobstore.Catalog) {
				n := nodes[len(nodes)-1]
				return n.Writer(), n.Shelf(), n.Catalog()
			})
		})
	}
}

// TestEveryNodeWritesAndReads stores through each node and reads from each.
func TestEveryNodeWritesAndReads(t *testing.T) {
	nodes := startCluster(t, 3, func(c *Config) { c.Secret = []byte("one secret gives everything") })
	bodies := map[string][]byte{}
	for i, n := range nodes {
		for j, size := range []int{0, 1, 1000, blobstore.ChunkBytesMax, 3*blobstore.ChunkBytesMax + 17} {
			key := fmt.Sprintf("item-%d-%d", i, j)
			bodies[key] = noise(uint64(10*i+j), size)
			mustUpload(t, n, key, bodies[key])
		}
	}
	for key, body := range bodies {
		for i, n := range nodes {
			if err := checkItem(t.Context(), n, key, body); err != nil {
				t.Errorf("node %d: %v", i, err)
			}
		}
	}
	sameCatalogs(t, nodes...)
}

// TestOwnWriteIsSeen reads a row right after its commit on the same node, many
// times on a follower, which hears of commits late.
func TestOwnWriteIsSeen(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	follower := nodes[slices.IndexFunc(nodes, func(n *testNode) bool { return !n.catalog.leads() })]
	c := follower.Catalog()
	for i := range 50 {
		key := fmt.Sprintf("own-%d", i)
		rev, err := c.Commit(t.Context(), blobstore.Txn{Put: []blobstore.Row{{Key: key, Value: []byte{1}}}})
		if err != nil {
			t.Fatal(err)
		}
		row, err := c.Get(t.Context(), key)
		if err != nil || row.Revision != rev {
			t.Fatalf("row %s after its commit at %d: %+v, %v", key, rev, row, err)
		}
	}
}

// TestRepeatedCommandIsAppliedOnce proposes the same transaction twice, as a
// retry after a lost answer does.
func TestRepeatedCommandIsAppliedOnce(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	cmd := command.EncodeTxn(command.FormatMax, command.TxnID{1}, blobstore.Txn{
		If: []blobstore.Cond{{Key: "once"}}, Put: []blobstore.Row{{Key: "once", Value: []byte("x")}},
	})
	var indexes []uint64
	for _, n := range nodes[:2] {
		index, outcomes, err := n.propose(t.Context(), placement.CatalogGroup, cmd)
		if err != nil || outcomes[0] != codeOK {
			t.Fatalf("propose: %v %v", outcomes, err)
		}
		indexes = append(indexes, index)
	}
	if err := nodes[2].Catalog().Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	row, err := nodes[2].Catalog().Get(t.Context(), "once")
	if err != nil || row.Revision != indexes[0] {
		t.Fatalf("row is of revision %d (%v), want that of the first commit %d", row.Revision, err, indexes[0])
	}
	_, err = nodes[0].Catalog().Commit(t.Context(), blobstore.Txn{If: []blobstore.Cond{{Key: "once"}}})
	if !errors.Is(err, blobstore.ErrConflict) {
		t.Fatalf("another transaction with the same condition: %v, want ErrConflict", err)
	}
}

// TestLeadersDie stops the catalog's leader and then whoever leads blob groups,
// under load, and expects every acknowledged item on the nodes that are left
// and on all after they came back.
func TestLeadersDie(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	leader := slices.IndexFunc(nodes, func(n *testNode) bool { return n.catalog.leads() })
	survivors := slices.Delete(slices.Clone(nodes), leader, leader+1)

	var mu sync.Mutex
	acked := map[string][]byte{}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("w%d-%d", w, i)
				body := noise(uint64(1000*w+i), 20_000)
				if _, err := upload(t.Context(), survivors[w%2], key, body); err != nil {
					t.Errorf("upload %s: %v", key, err)
					return
				}
				mu.Lock()
				acked[key] = body
				mu.Unlock()
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acked) }
	eventually(t, "writes before", func() error { return atLeast(count(), 20) })
	nodes[leader].close(t)
	before := count()
	eventually(t, "writes after", func() error { return atLeast(count(), before+40) })
	stop()
	wg.Wait()

	nodes[leader] = openNode(t, nodes[leader].dir, nodes[leader].cfg, Deps{})
	t.Cleanup(func() { nodes[leader].close(t) })
	waitReady(t, nodes...)
	for key, body := range acked {
		for i, n := range nodes {
			if err := checkItem(t.Context(), n, key, body); err != nil {
				t.Fatalf("node %d: %v", i, err)
			}
		}
	}
	sameCatalogs(t, nodes...)
}

func atLeast(got, want int) error {
	if got < want {
		return fmt.Errorf("%d, want %d", got, want)
	}
	return nil
}

// TestAllRestartWithNewAddresses closes all nodes and opens them on other
// ports, as containers do.
func TestAllRestartWithNewAddresses(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	body := noise(7, 300_000)
	mustUpload(t, nodes[0], "kept", body)
	old := map[string]bool{}
	for _, n := range nodes {
		old[n.PeerAddr()] = true
		n.close(t)
	}
	var seeds []string
	for i, n := range nodes {
		n.cfg.Seeds = seeds
		nodes[i] = openNode(t, n.dir, n.cfg, Deps{})
		t.Cleanup(func() { nodes[i].close(t) })
		if old[nodes[i].PeerAddr()] {
			t.Logf("node %d has an old port again", i)
		}
		seeds = append(seeds, nodes[i].GossipAddr())
	}
	waitReady(t, nodes...)
	for _, n := range nodes {
		if err := checkItem(t.Context(), n, "kept", body); err != nil {
			t.Error(err)
		}
	}
}

// TestFirstNodeComesBack restarts, at another address, the node that was started
// without seeds: it must find the others where they were last.
func TestFirstNodeComesBack(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	nodes[0].close(t)
	mustUpload(t, nodes[1], "meanwhile", noise(1, 1000))
	if nodes[0].cfg.Seeds != nil {
		t.Fatal("the first node has seeds")
	}
	nodes[0] = openNode(t, nodes[0].dir, nodes[0].cfg, Deps{})
	t.Cleanup(func() { nodes[0].close(t) })
	waitReady(t, nodes...)
	if err := checkItem(t.Context(), nodes[0], "meanwhile", noise(1, 1000)); err != nil {
		t.Error(err)
	}
}

// TestNodeWithoutReplicas adds a fourth node, of next to no weight, to a cluster
// of three: it follows the catalog, holds no blob, reads and writes all of them,
// and follows a live blob that grows elsewhere.
func TestNodeWithoutReplicas(t *testing.T) {
	nodes := startCluster(t, 3, func(c *Config) { c.Weight = placement.WeightMax })
	body := noise(3, 700_000)
	mustUpload(t, nodes[0], "far", body)

	cfg := nodes[0].cfg
	cfg.Seeds, cfg.Weight = []string{nodes[0].GossipAddr()}, 1
	fourth := openNode(t, t.TempDir(), cfg, Deps{})
	t.Cleanup(func() { fourth.close(t) })
	waitReady(t, fourth)
	if err := checkItem(t.Context(), fourth, "far", body); err != nil {
		t.Error(err)
	}
	if got := fourth.blobs.Stats().Blobs; got != 0 {
		t.Errorf("node without replicas holds %d blobs", got)
	}
	mine := noise(4, 100_000)
	mustUpload(t, fourth, "mine", mine)
	if err := checkItem(t.Context(), nodes[1], "mine", mine); err != nil {
		t.Error(err)
	}
	followLive(t, nodes[0], fourth)
}

// followLive writes a live blob on one node while another follows it.
func followLive(t *testing.T, writer, reader *testNode) {
	t.Helper()
	id, w := blobstore.NewID(), writer.Writer()
	if err := w.Begin(t.Context(), id, blobstore.Spec{Live: true}); err != nil {
		t.Fatal(err)
	}
	v, err := shelf{reader.Node}.view(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}()
	size := int64(0)
	for range 5 {
		piece := noise(9, 500)
		if err := w.Append(t.Context(), id, size, piece); err != nil {
			t.Fatal(err)
		}
		info, err := v.Wait(t.Context(), size)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, info.Size-size)
		if k, err := v.Read(t.Context(), size, got); err != nil || !bytes.Equal(got[:k], piece) {
			t.Fatalf("read %d bytes at %d: %v", k, size, err)
		}
		size += int64(len(piece))
	}
}

// TestLeadershipIsSpread waits until every node leads its share of the blob
// groups, and again after one left and came back.
func TestLeadershipIsSpread(t *testing.T) {
	nodes := startCluster(t, 3, func(c *Config) { c.Shards = 6 })
	spread := func() {
		t.Helper()
		eventually(t, "leadership spread", func() error {
			for i, n := range nodes {
				led := 0
				for _, g := range n.hosted() {
					if g.leads() {
						led++
					}
				}
				if led != 2 {
					return fmt.Errorf("node %d leads %d of 6 groups, want 2", i, led)
				}
			}
			return nil
		})
	}
	spread()
	nodes[1].close(t)
	mustUpload(t, nodes[0], "meanwhile", noise(1, 1000))
	nodes[1] = openNode(t, nodes[1].dir, nodes[1].cfg, Deps{})
	t.Cleanup(func() { nodes[1].close(t) })
	spread()
}

// TestStrangerIsKeptOut opens a node with another secret: it must not become a
// member, and must not disturb.
func TestStrangerIsKeptOut(t *testing.T) {
	nodes := startCluster(t, 3, func(c *Config) { c.Secret = []byte("the right secret of this cluster") })
	cfg := nodes[0].cfg
	cfg.Secret, cfg.Seeds, cfg.Expect = []byte("another secret altogether"), []string{nodes[0].GossipAddr()}, 2
	stranger := openNode(t, t.TempDir(), cfg, Deps{})
	t.Cleanup(func() { stranger.close(t) })
	mustUpload(t, nodes[1], "calm", noise(1, 100))
	if stranger.Ready() == nil || len(stranger.Members()) > 1 {
		t.Errorf("stranger sees %d members and is ready: %v", len(stranger.Members()), stranger.Ready() == nil)
	}
	for _, n := range nodes {
		if len(n.Members()) != 3 {
			t.Errorf("node sees %d members, want 3", len(n.Members()))
		}
	}
}
