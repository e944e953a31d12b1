package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
	"carillon/cluster/statefile"
)

// openRecovery opens the directory of a node that was closed, as the command
// does.
func openRecovery(t *testing.T, n *testNode) (*Recovery, func()) {
	t.Helper()
	log := testLog(t, filepath.Base(n.dir))
	blobs, err := blobstore.OpenStore(blobstore.StoreConfig{Dir: filepath.Join(n.dir, "blobs")}, log)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := blobstore.OpenCatalog(blobstore.CatalogConfig{
		Dir: filepath.Join(n.dir, "catalog"), Replayed: true, BootID: "one boot",
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenRecovery(n.cfg, Deps{Blobs: blobs, Catalog: rows, Log: log, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return r, func() {
		if err := errors.Join(rows.Close(), blobs.Close()); err != nil {
			t.Error(err)
		}
	}
}

// recoverNode makes the survivor a cluster of its own.
func recoverNode(t *testing.T, n *testNode) RecoverReport {
	t.Helper()
	r, done := openRecovery(t, n)
	defer done()
	f, err := r.Facts(nil)
	if err != nil {
		t.Fatal(err)
	}
	report, err := r.Apply(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// TestRecover loses two of three nodes for ever, recovers from the third, adds
// new ones, and lets the old ones come back.
func TestRecover(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	before := nodes[0].charter.Cluster
	items := map[string][]byte{}
	for i := range 12 {
		key := fmt.Sprintf("item-%d", i)
		items[key] = noise(uint64(i), 1<<(2*i%20)+blobstore.ChunkBytesMax*(i%3))
		mustUpload(t, nodes[i%3], key, items[key])
	}
	sameCatalogs(t, nodes...)
	eventually(t, "every node has every blob", func() error {
		for _, n := range nodes {
			if got := n.blobs.Stats().Blobs; got != int64(len(items)) {
				return fmt.Errorf("%d blobs", got)
			}
		}
		return nil
	})
	applied := nodes[0].rows.Applied()
	for _, n := range nodes {
		n.close(t)
	}
	survivor := nodes[1]
	report := recoverNode(t, survivor)
	if len(report.Groups) != 4 || report.Applied < applied || len(report.Silent) != 0 ||
		report.Blobs != int64(len(items)) {
		t.Errorf("report: %+v", report)
	}

	alone := openNode(t, survivor.dir, survivor.cfg, Deps{})
	t.Cleanup(func() { alone.close(t) })
	waitReady(t, alone)
	if c := alone.charter; c.Cluster == before || !slices.Equal(c.Former, []string{before}) {
		t.Errorf("charter of the survivor: %+v", c)
	}
	for key, body := range items {
		if err := checkItem(t.Context(), alone, key, body); err != nil {
			t.Error(err)
		}
	}
	items["after"] = noise(99, 70_000)
	mustUpload(t, alone, "after", items["after"])

	// The others come back with their old data, as a majority.
	for _, i := range []int{0, 2} {
		cfg := nodes[i].cfg
		cfg.Seeds = []string{alone.GossipAddr()}
		old := openNode(t, nodes[i].dir, cfg, Deps{})
		t.Cleanup(func() { old.close(t) })
		select {
		case err := <-old.Failed():
			if !errors.Is(err, ErrRecovered) {
				t.Errorf("old node stops with %v", err)
			}
		case <-time.After(testWait):
			t.Error("a node that was left behind does not stop")
		}
	}
	// A new one joins what the survivor has become.
	dir := filepath.Join(filepath.Dir(survivor.dir), "fresh")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := survivor.cfg
	cfg.Dir, cfg.Seeds = "", []string{alone.GossipAddr()}
	fresh := openNode(t, dir, cfg, Deps{})
	t.Cleanup(func() { fresh.close(t) })
	waitReady(t, fresh)
	for key, body := range items {
		if err := checkItem(t.Context(), fresh, key, body); err != nil {
			t.Error(err)
		}
	}
}

// TestRecoverRefuses holds a recovery back while a majority answers, and while
// a node answers that is not to survive.
func TestRecoverRefuses(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	mustUpload(t, nodes[0], "item", noise(1, 1000))
	victim := nodes[2]
	victim.cfg.Seeds = []string{nodes[0].GossipAddr()}
	victim.close(t)

	r, done := openRecovery(t, victim)
	if err := r.Ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := r.Facts(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Quorum || len(f.Groups) != 4 || f.Groups[0].Last == 0 || f.Groups[0].Written == nil {
		t.Errorf("facts: %+v", f)
	}
	if _, err := r.Apply(t.Context(), f); !errors.Is(err, ErrQuorum) {
		t.Errorf("recovery beside a majority: %v", err)
	}
	nodes[1].close(t)
	if err := r.Ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Two of three are a majority still: that node only has to be started.
	if f, err = r.Facts(nil); err != nil || !f.Quorum {
		t.Errorf("facts with one other: %+v %v", f, err)
	}
	nodes[0].close(t)
	if err := r.Ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f, err = r.Facts([]string{nodes[0].ID()}); !errors.Is(err, ErrSurvivors) {
		t.Errorf("survivors without this node: %+v %v", f, err)
	}
	if f, err = r.Facts(nil); err != nil || f.Quorum || len(f.LeftBehind) != 2 {
		t.Errorf("facts alone: %+v %v", f, err)
	}
	done()
	// Nothing was changed.
	again := openNode(t, victim.dir, victim.cfg, Deps{})
	again.close(t)
	if again.charter.Cluster != f.Cluster {
		t.Errorf("cluster is %s, was %s", again.charter.Cluster, f.Cluster)
	}
}

// TestRecoverInterrupted stops a recovery half way: the node refuses to start
// until it has been run again.
func TestRecoverInterrupted(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	body := noise(1, 300_000)
	mustUpload(t, nodes[0], "item", body)
	sameCatalogs(t, nodes...)
	for _, n := range nodes {
		n.close(t)
	}
	r, done := openRecovery(t, nodes[0])
	f, err := r.Facts(nil)
	if err != nil {
		t.Fatal(err)
	}
	next := r.charter.recovered(f)
	if err := statefile.Write(filepath.Join(nodes[0].dir, charterFile), next); err != nil {
		t.Fatal(err)
	}
	r.charter = next
	for _, g := range f.Groups[:2] {
		if _, err := r.rewrite(g); err != nil {
			t.Fatal(err)
		}
	}
	done()
	if _, err := loadCharter(nodes[0].dir); !errors.Is(err, ErrHalfRecovered) {
		t.Errorf("charter of a half recovered node: %v", err)
	}
	if report := recoverNode(t, nodes[0]); report.Cluster != f.NewCluster {
		t.Errorf("report: %+v", report)
	}
	r, done = openRecovery(t, nodes[0])
	if f, err = r.Facts(nil); err != nil || !f.Quorum { // it is a cluster of one now
		t.Errorf("facts after the recovery: %+v %v", f, err)
	}
	done()
	alone := openNode(t, nodes[0].dir, nodes[0].cfg, Deps{})
	t.Cleanup(func() { alone.close(t) })
	waitReady(t, alone)
	if err := checkItem(t.Context(), alone, "item", body); err != nil {
		t.Error(err)
	}
}
