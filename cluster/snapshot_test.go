package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/snapshot"
)

// TestLaggardCatchesUpBySnapshot keeps a node away while more than the trailing
// log is written and snapshots are taken, then expects it to hold every blob
// itself, the removed one not, and the open one as far as it goes.
func TestLaggardCatchesUpBySnapshot(t *testing.T) {
	nodes := startCluster(t, 3, func(c *Config) { c.Shards = 2 })
	// More than an entry of the catalog carries: that would be applied again here
	// after the group's log has removed it, and stay until a sweep.
	doomed := mustUpload(t, nodes[0], "doomed", noise(1, blobstore.ChunkBytesMax+1000))
	kept := mustUpload(t, nodes[0], "kept", noise(2, 600_000))
	nodes[2].close(t)

	if _, err := nodes[0].Catalog().Commit(t.Context(), blobstore.Txn{
		Delete: []string{"doomed", blobstore.RefKey(doomed, "doomed")},
	}); err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].Writer().Remove(t.Context(), doomed); err != nil {
		t.Fatal(err)
	}
	live := blobstore.NewID()
	if err := nodes[0].Writer().Begin(t.Context(), live, blobstore.Spec{Live: true}); err != nil {
		t.Fatal(err)
	}
	open := blobstore.NewID() // an upload whose second chunk came before the first
	upload := noise(6, blobstore.ChunkBytesMax+50_000)
	if err := nodes[0].Writer().Begin(t.Context(), open, blobstore.Spec{}); err != nil {
		t.Fatal(err)
	}
	late := upload[blobstore.ChunkBytesMax:]
	if err := nodes[0].Writer().Append(t.Context(), open, blobstore.ChunkBytesMax, late); err != nil {
		t.Fatal(err)
	}
	bodies := map[string][]byte{}
	for i := range 4 * trailingEntriesMin {
		key := fmt.Sprintf("k%d", i)
		bodies[key] = noise(uint64(i), 30_000+i)
		mustUpload(t, nodes[i%2], key, bodies[key])
		if err := nodes[0].Writer().Append(t.Context(), live, int64(i)*100, noise(5, 100)); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes[:2] {
		for _, g := range n.groups() {
			g.trailing.mu.Lock()
			g.trailing.sizes, g.trailing.next = nil, 0 // keep the least
			g.trailing.mu.Unlock()
			g.snapshot(false)
		}
	}

	nodes[2] = openNode(t, nodes[2].dir, nodes[2].cfg, Deps{})
	t.Cleanup(func() { nodes[2].close(t) })
	waitReady(t, nodes...)
	eventually(t, "laggard holds everything itself", func() error {
		want, got := nodes[0].blobs.Stats(), nodes[2].blobs.Stats()
		if want.Blobs != got.Blobs || want.Bytes != got.Bytes {
			return fmt.Errorf("%d blobs of %d bytes, want %d of %d", got.Blobs, got.Bytes, want.Blobs, want.Bytes)
		}
		return nil
	})
	if _, err := nodes[2].blobs.Stat(t.Context(), doomed); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("removed blob is still here: %v", err)
	}
	if info, err := nodes[2].blobs.Stat(t.Context(), kept); err != nil || !info.Sealed {
		t.Errorf("kept blob: %+v, %v", info, err)
	}
	for key, body := range bodies {
		if err := checkItem(t.Context(), nodes[2], key, body); err != nil {
			t.Fatal(err)
		}
	}
	w := nodes[1].Writer()
	if err := w.Append(t.Context(), open, 0, upload[:blobstore.ChunkBytesMax]); err != nil {
		t.Fatal(err)
	}
	if err := w.Seal(t.Context(), open, blobstore.TotalsOf(upload)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "upload whole on the laggard", func() error {
		info, err := nodes[2].blobs.Stat(t.Context(), open)
		if err == nil && !info.Sealed {
			err = blobstore.ErrGap
		}
		return err
	})
	sameCatalogs(t, nodes...)
}

// TestInterruptedRestoreIsRepeated opens a node whose catalog is behind its
// newest snapshot, as after a crash in the middle of Restore.
func TestInterruptedRestoreIsRepeated(t *testing.T) {
	nodes := startCluster(t, 1, nil)
	mustUpload(t, nodes[0], "item", noise(1, 100))
	nodes[0].catalog.snapshot(false)
	nodes[0].close(t)

	lost := openCatalog(t) // an empty catalog in place of the node's
	m := &catalogMachine{breaker: breaker{fatal: func(err error) { t.Error(err) }}, store: lost}
	dir := filepath.Join(nodes[0].dir, "raft", placement.CatalogGroup)
	snapshots, err := snapshot.Open(dir, testLog(t, "snap"))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.recover(snapshots); err != nil {
		t.Fatal(err)
	}
	if _, err := lost.Get(t.Context(), "item"); err != nil {
		t.Errorf("row after the repeated restore: %v", err)
	}
}

// TestPowerCutRebuildsCatalogs takes the data of all three nodes as they lie on
// disk while everything runs, spoils the catalogs as a power cut may, and opens
// the nodes at another boot: everything must come back from snapshots and logs.
func TestPowerCutRebuildsCatalogs(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	mustUpload(t, nodes[0], "before", noise(1, 1000))
	for _, n := range nodes {
		n.catalog.snapshot(false)
	}
	mustUpload(t, nodes[1], "after", noise(2, 100_000))
	if err := errors.Join(checkItem(t.Context(), nodes[2], "after", noise(2, 100_000))); err != nil {
		t.Fatal(err)
	}
	copies := make([]string, len(nodes))
	for i, n := range nodes { // the raft logs first: they are what is durable
		copies[i] = filepath.Join(t.TempDir(), "copy")
		copyStill(t, filepath.Join(n.dir, "raft"), filepath.Join(copies[i], "raft"))
		copyTree(t, n.dir, copies[i])
	}
	cfgs := make([]Config, len(nodes))
	for i, n := range nodes {
		cfgs[i] = n.cfg
		n.close(t)
	}
	var seeds []string
	for i, dir := range copies {
		spoil(t, filepath.Join(dir, "catalog"))
		cfgs[i].Seeds = seeds
		nodes[i] = openNodeAt(t, "another boot", dir, cfgs[i], Deps{})
		t.Cleanup(func() { nodes[i].close(t) })
		seeds = append(seeds, nodes[i].GossipAddr())
	}
	waitReady(t, nodes...)
	for _, n := range nodes {
		if err := errors.Join(checkItem(t.Context(), n, "before", noise(1, 1000)),
			checkItem(t.Context(), n, "after", noise(2, 100_000))); err != nil {
			t.Error(err)
		}
	}
	sameCatalogs(t, nodes...)
}

// copyStill copies a tree in a moment in which nothing in it changes: a power cut
// does not tear the log's files apart, a copy that takes its time does.
func copyStill(t *testing.T, from, to string) {
	t.Helper()
	eventually(t, "a copy of one moment", func() error {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		before := treeTimes(t, from)
		copyTree(t, from, to)
		if after := treeTimes(t, from); !maps.Equal(before, after) {
			return errors.New("it changed meanwhile")
		}
		return nil
	})
}

// treeTimes is when each file of a tree was written.
func treeTimes(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	times := make(map[string]time.Time)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			times[path] = info.ModTime()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return times
}

// copyTree copies files that are not there yet.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		if _, err := os.Stat(filepath.Join(to, rel)); err == nil {
			return nil // copied before, in one moment
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// spoil cuts every file of a database short, as if nothing had been synced.
func spoil(t *testing.T, dir string) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Dir(path) != dir {
			found++
			return os.Truncate(path, 0)
		}
		return err
	})
	if err != nil || found == 0 {
		t.Fatalf("spoiled %d files: %v", found, err)
	}
}

// TestTrailing checks the number of entries against their bytes.
func TestTrailing(t *testing.T) {
	var tr trailing
	if got := tr.entries(); got != trailingEntriesMin {
		t.Errorf("empty: %d", got)
	}
	for range 3 * trailingEntriesMax {
		tr.add(100)
	}
	if got := tr.entries(); got != trailingEntriesMax {
		t.Errorf("small entries: %d, want %d", got, trailingEntriesMax)
	}
	for range 200 {
		tr.add(256 << 10)
	}
	if got := tr.entries(); got != trailingBytesMax/(256<<10) {
		t.Errorf("large entries: %d, want %d", got, trailingBytesMax/(256<<10))
	}
}

// TestSweep frees what nothing refers to, after the grace and not before, and
// keeps what is referred to.
func TestSweep(t *testing.T) {
	nodes := startCluster(t, 3, func(c *Config) { c.SweepGrace = time.Hour })
	kept := mustUpload(t, nodes[0], "kept", noise(1, 1000))
	orphan := blobstore.NewID()
	if err := nodes[0].Writer().Begin(t.Context(), orphan, blobstore.Spec{}); err != nil {
		t.Fatal(err)
	}
	sweepers := make([]sweeper, len(nodes))
	for i, n := range nodes {
		sweepers[i] = sweeper{n: n.Node, unreferenced: map[blobstore.ID]time.Time{}}
	}
	at := func(ahead time.Duration) {
		for i := range sweepers {
			eventually(t, "sweep", func() error { return sweepers[i].sweep(t.Context(), time.Now().Add(ahead)) })
		}
	}
	gone := func() bool {
		return slices.ContainsFunc(nodes, func(n *testNode) bool {
			_, err := n.blobs.Stat(t.Context(), orphan)
			return errors.Is(err, blobstore.ErrNotFound)
		})
	}
	eventually(t, "orphan on every node", func() error {
		if gone() {
			return blobstore.ErrNotFound
		}
		return nil
	})
	at(0)
	at(90 * time.Minute) // first seen without a reference
	at(100 * time.Minute)
	if gone() {
		t.Fatal("freed before its grace was over")
	}
	at(151 * time.Minute)
	eventually(t, "orphan freed", func() error {
		if !gone() {
			return blobstore.ErrConflict
		}
		return nil
	})
	if _, err := nodes[1].Shelf().Stat(t.Context(), kept); err != nil {
		t.Errorf("referenced blob: %v", err)
	}
}

// TestSweepWaitsForHold frees nothing while somebody holds what the catalog
// referred to, and goes on when the hold's time has come.
func TestSweepWaitsForHold(t *testing.T) {
	n := startCluster(t, 1, func(c *Config) { c.SweepGrace = time.Hour })[0]
	orphan := mustUpload(t, n, "item", noise(1, 1000))
	until := time.Now().Add(5 * time.Hour)
	if _, err := n.Catalog().Commit(t.Context(), blobstore.Txn{
		Put:    []blobstore.Row{{Key: blobstore.HoldPrefix + "backup", Value: blobstore.HoldValue(until)}},
		Delete: []string{"item", blobstore.RefKey(orphan, "item")},
	}); err != nil {
		t.Fatal(err)
	}
	s := sweeper{n: n.Node, unreferenced: map[blobstore.ID]time.Time{}}
	for _, ahead := range []time.Duration{2 * time.Hour, 4 * time.Hour, 6 * time.Hour} {
		if _, err := n.blobs.Stat(t.Context(), orphan); err != nil {
			t.Fatalf("before the sweep in %v: %v", ahead, err)
		}
		if err := s.sweep(t.Context(), time.Now().Add(ahead)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.blobs.Stat(t.Context(), orphan); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("after the hold: %v", err)
	}
}
