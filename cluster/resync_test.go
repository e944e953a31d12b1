package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"carillon/blobstore"
)

// Goal: a node that has put its blobs aside gets all of them again, beyond what
// its log brings, says no untrue "not found" meanwhile, and is ready after that.
func TestResync(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	items := map[string][]byte{"large": noise(1, 5*blobstore.ChunkBytesMax)}
	for i := range 3 * trailingEntriesMin {
		items[fmt.Sprint("item-", i)] = noise(uint64(i), 5000)
	}
	ids := map[string]blobstore.ID{}
	for key, body := range items {
		ids[key] = mustUpload(t, nodes[0], key, body)
	}
	for _, n := range nodes {
		for _, g := range n.groups() {
			g.snapshot(true) // the log no longer has it all
		}
	}
	n := nodes[2]
	n.close(t)
	if err := MarkResync(n.dir, "a test"); err != nil {
		t.Fatal(err)
	}
	if _, err := blobstore.SetAside(filepath.Join(n.dir, "blobs"), time.Now()); err != nil {
		t.Fatal(err)
	}
	n = openNode(t, n.dir, n.cfg, Deps{})
	defer n.close(t)
	if err := n.Ready(); err == nil {
		t.Error("ready without its blobs")
	}
	for key, id := range ids {
		info, err := n.Shelf().Stat(ctx, id)
		if err != nil || info.Size != int64(len(items[key])) {
			t.Fatalf("%s while fetching: %+v, %v", key, info, err)
		}
	}
	waitReady(t, n)
	for key, id := range ids {
		if info, err := n.blobs.Stat(ctx, id); err != nil || !info.Sealed {
			t.Fatalf("%s is not here: %+v, %v", key, info, err)
		}
		if err := damaged(ctx, n, id); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	if _, err := upload(ctx, n, "after", items["large"]); err != nil {
		t.Error(err)
	}
}

// Goal: the only copy is not put aside.
func TestNoResyncOfTheOnlyCopy(t *testing.T) {
	nodes := startCluster(t, 1, func(c *Config) { c.Replicas = 1 })
	if err := MarkResync(nodes[0].dir, "a test"); !errors.Is(err, ErrUnmendable) {
		t.Errorf("mark: %v", err)
	}
}
