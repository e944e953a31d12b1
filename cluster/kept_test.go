package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"carillon/blobstore"
	"carillon/cluster/placement"
)

// TestSoundStaysInLog uploads more than a file of a raft log holds, of a blob group and of the
// catalog, whose entries carry small sound: every node must have it in files of the log and not
// a second time, and read it there, also after it was killed and has begun anew.
func TestSoundStaysInLog(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3, nil)
	k := &kept{items: map[string][]byte{}}
	for i := range 8 {
		key := fmt.Sprintf("large-%d", i)
		k.items[key] = noise(uint64(i), 600_000)
		into(t, nodes[i%3], 0, key, k.items[key])
	}
	for i := range 24 {
		key := fmt.Sprintf("small-%d", i)
		k.items[key] = noise(uint64(100+i), 60_000)
		into(t, nodes[i%3], i%3, key, k.items[key])
	}
	k.check(t, nodes...)
	for _, n := range nodes {
		for _, group := range []string{placement.BlobGroup(0), placement.CatalogGroup} {
			eventually(t, "files of a log in the shelf", func() error { return sharesFiles(n, group) })
		}
		eventually(t, "all is here", func() error { return readsAll(t.Context(), n, len(k.items)) })
	}
	for i, n := range nodes {
		n.close(t)
		nodes[i] = openNode(t, n.dir, reseeded(n.cfg, nodes[(i+1)%3]), Deps{})
		t.Cleanup(func() { nodes[i].close(t) })
		waitReady(t, nodes...)
		if err := readsAll(t.Context(), nodes[i], len(k.items)); err != nil {
			t.Errorf("%s: %v", n.id, err)
		}
	}
	k.check(t, nodes...)
}

// sharesFiles says whether a node's shelf has files of a group's log.
func sharesFiles(n *testNode, group string) error {
	files := func(pattern string) (all []os.FileInfo) {
		names, _ := filepath.Glob(filepath.Join(n.dir, pattern)) // the pattern is well formed
		for _, name := range names {
			if info, err := os.Stat(name); err == nil {
				all = append(all, info)
			}
		}
		return all
	}
	log, shelf := files(filepath.Join("raft", group, "wal", "*.wal")), files("blobs/values/*.vlog")
	for _, l := range log {
		for _, s := range shelf {
			if os.SameFile(l, s) {
				return nil
			}
		}
	}
	return fmt.Errorf("%s: none of %d in %d: %w", group, len(log), len(shelf), errNotLeft)
}

// readsAll reads every blob that a node has, of which there are to be so many.
func readsAll(ctx context.Context, n *testNode, want int) error {
	have := 0
	for info, err := range n.blobs.Blobs(ctx) {
		if err != nil {
			return err
		}
		r, err := n.blobs.Open(ctx, info.ID)
		if err != nil {
			return err
		}
		p, err := io.ReadAll(r)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("blob %s: %w", info.ID, err)
		}
		if got := blobstore.TotalsOf(p); got.SHA256 != info.Totals.SHA256 {
			return fmt.Errorf("blob %s has other bytes: %w", info.ID, blobstore.ErrCorrupt)
		}
		have++
	}
	if have != want {
		return fmt.Errorf("%d blobs of %d: %w", have, want, errNotLeft)
	}
	return nil
}
