package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"carillon/blobstore"
	"carillon/cluster/statefile"
)

// TestUnknownGroupsArePutAside finds directories of groups that the cluster does
// not have: they are kept under another name, once.
func TestUnknownGroupsArePutAside(t *testing.T) {
	nodes := startCluster(t, 1, nil)
	n := nodes[0]
	body := noise(1, 300_000)
	into(t, n, 0, "item", body)
	n.close(t)
	strange := []string{"blob-99", "blob-", "catalog2", "other"}
	for _, name := range strange {
		if err := os.MkdirAll(filepath.Join(n.raftDir(), name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(n.raftDir(), name, "log"), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		n = openNode(t, n.dir, n.cfg, Deps{})
		waitReady(t, n)
		if err := checkItem(t.Context(), n, "item", body); err != nil {
			t.Error(err)
		}
		n.close(t)
	}
	for _, name := range strange {
		if _, err := os.Stat(filepath.Join(n.raftDir(), name)); err == nil {
			t.Errorf("%s is still among the groups", name)
		}
		aside, err := filepath.Glob(filepath.Join(n.raftDir(), name+asideMark+"*", "log"))
		if err != nil || len(aside) != 1 {
			t.Errorf("%s was put aside as %v: %v", name, aside, err)
		}
	}
}

// TestLostCharterIsNoticed takes the charter of a node away: with logs of groups
// and without it the node must not found or join anything.
func TestLostCharterIsNoticed(t *testing.T) {
	n := startCluster(t, 1, nil)[0]
	n.close(t)
	if err := os.Remove(filepath.Join(n.dir, charterFile)); err != nil {
		t.Fatal(err)
	}
	log := testLog(t, "orphan")
	blobs, err := blobstore.OpenStore(blobstore.StoreConfig{Dir: filepath.Join(n.dir, "blobs")}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blobs.Close() }()
	if _, err := Open(n.cfg, Deps{Blobs: blobs, Log: log}); !errors.Is(err, statefile.ErrDamaged) {
		t.Errorf("a node without its charter: %v", err)
	}
}
