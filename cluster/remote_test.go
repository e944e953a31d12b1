package cluster

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"carillon/blobstore"
	"carillon/cluster/placement"
)

// TestRemoteReadSurvives plays an item through a node that does not hold it,
// twice from memory, and goes on when its replicas stop in the middle.
func TestRemoteReadSurvives(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3, func(c *Config) { c.Weight = placement.WeightMax })
	cfg := nodes[0].cfg
	cfg.Seeds, cfg.Weight, cfg.CacheBytes = []string{nodes[0].GossipAddr()}, 1, 8<<20
	reader := openNode(t, t.TempDir(), cfg, Deps{})
	t.Cleanup(func() { reader.close(t) })
	waitReady(t, reader)
	body := noise(7, 5*blobstore.ChunkBytesMax+1000)
	mustUpload(t, nodes[0], "far", body)
	for turn := range 2 {
		if err := checkItem(t.Context(), reader, "far", body); err != nil {
			t.Fatal(err)
		}
		if kept := reader.cache.Size(); kept != int64(len(body)) {
			t.Errorf("turn %d: keeps %d bytes", turn, kept)
		}
	}

	other := noise(8, 6*blobstore.ChunkBytesMax)
	id := mustUpload(t, nodes[0], "other", other)
	r, err := reader.Shelf().Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	got := make([]byte, len(other))
	if _, err = io.ReadFull(r, got[:blobstore.ChunkBytesMax]); err != nil {
		t.Fatal(err)
	}
	lead := reader.knownLeader(placement.BlobGroup(shardOf(id, reader.charter.Shards)))
	for _, n := range nodes {
		if n.id == lead {
			n.close(t) // in the middle
		}
	}
	if _, err = io.ReadFull(r, got[blobstore.ChunkBytesMax:]); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, other) {
		t.Error(fmt.Errorf("other bytes: %w", blobstore.ErrCorrupt))
	}
}

// TestReadsFromTheZone prefers a replica of the reader's zone to the leader, for
// what is sealed there.
func TestReadsFromTheZone(t *testing.T) {
	zone := 0
	nodes := startCluster(t, 3, func(c *Config) {
		c.Zone, c.Weight = fmt.Sprintf("z%d", zone), placement.WeightMax
		zone++
	})
	cfg := nodes[0].cfg
	cfg.Seeds, cfg.Weight, cfg.Zone = []string{nodes[0].GossipAddr()}, 1, nodes[1].cfg.Zone
	reader := openNode(t, t.TempDir(), cfg, Deps{})
	t.Cleanup(func() { reader.close(t) })
	waitReady(t, reader)
	for i := range 6 {
		id := mustUpload(t, nodes[0], fmt.Sprintf("item-%d", i), noise(uint64(i), blobstore.ChunkBytesMax+i))
		eventually(t, "sealed in the zone", func() error {
			info, err := nodes[1].blobs.Stat(t.Context(), id)
			if err == nil && !info.Sealed {
				err = errBehind
			}
			return err
		})
		if reader.shard(shardOf(id, reader.charter.Shards)) != nil {
			continue // the reader got a share of the groups
		}
		r, err := openRemote(t.Context(), reader.Node, id, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.node != nodes[1].id {
			t.Errorf("read from %s, not from %s in the zone", r.node, nodes[1].id)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
