package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"carillon/cluster/placement"
	"carillon/cluster/raftlog"
)

// spoilLog flips a bit of what a group's log holds on a node: in the first of
// some bytes, or, without any, in the middle.
func spoilLog(t *testing.T, n *testNode, group, at string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(n.dir, "raft", group, "wal", "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no log of %s: %v", group, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	used := len(b)
	for used > 0 && b[used-1] == 0 {
		used--
	}
	spot := used / 2
	if at != "" {
		if spot = bytes.Index(b, []byte(at)); spot < 0 {
			t.Fatalf("%q is not in the log of %s", at, group)
		}
	}
	b[spot] ^= 4
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Goal: a member whose log is damaged does not vote before it has a log again,
// gets it from the others, and then takes part as before.
func TestDamagedLogIsFetchedAnew(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	body := noise(3, 400_000)
	for i := range 20 {
		mustUpload(t, nodes[0], fmt.Sprint("item-", i), body[:20_000*(i+1)])
	}
	n := nodes[2]
	n.close(t)
	for _, group := range []string{placement.CatalogGroup, placement.BlobGroup(0), placement.BlobGroup(1)} {
		spoilLog(t, n, group, "")
	}
	n = openNode(t, n.dir, n.cfg, Deps{})
	defer n.close(t)
	// It may be whole again by now: what was put aside tells that the damage was seen.
	eventually(t, "ready", func() error {
		if err := n.Ready(); err != nil {
			return err
		}
		if name := n.mutedGroup(); name != "" {
			return errors.New(name + " is mute")
		}
		return nil
	})
	// With another member away its vote and its disk are needed.
	nodes[1].close(t)
	mustUpload(t, n, "after", body)
	for i := range 20 {
		if err := checkItem(ctx, n, fmt.Sprint("item-", i), body[:20_000*(i+1)]); err != nil {
			t.Error(err)
		}
	}
	aside, err := filepath.Glob(filepath.Join(n.dir, "raft", "*.damaged-*"))
	if err != nil || len(aside) != 3 {
		t.Errorf("put aside: %v, %v", aside, err)
	}
}

// Goal: a member that lost its catalog, and whose snapshot of it is damaged, gets both from the
// others.
func TestDamagedSnapshotIsFetchedAnew(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	body := noise(4, 100_000)
	n := nodes[2]
	for i := range 5 {
		mustUpload(t, nodes[0], fmt.Sprint("item-", i), body)
	}
	if err := n.catalog.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	n.close(t)
	if err := os.RemoveAll(filepath.Join(n.dir, "catalog")); err != nil {
		t.Fatal(err)
	}
	raftDir := filepath.Join(n.dir, "raft")
	states, err := filepath.Glob(filepath.Join(raftDir, placement.CatalogGroup, "snapshots", "*", "state.bin"))
	if err != nil || len(states) != 1 {
		t.Fatalf("snapshots: %v, %v", states, err)
	}
	b, err := os.ReadFile(states[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := os.WriteFile(states[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	n = openNode(t, n.dir, n.cfg, Deps{})
	defer n.close(t)
	eventually(t, "it has everything and votes", func() error {
		if name := n.mutedGroup(); name != "" {
			return errors.New(name + " is mute")
		}
		for i := range 5 {
			if err := checkItem(t.Context(), n, fmt.Sprint("item-", i), body); err != nil {
				return err
			}
		}
		return n.Ready()
	})
	aside, err := filepath.Glob(filepath.Join(raftDir, placement.CatalogGroup+".damaged-*"))
	if err != nil || len(aside) != 1 {
		t.Errorf("put aside: %v, %v", aside, err)
	}
}

// Goal: the log of the only member stays where it is.
func TestDamagedLogOfOnlyMember(t *testing.T) {
	nodes := startCluster(t, 1, func(c *Config) { c.Replicas = 1 })
	mustUpload(t, nodes[0], "a-key-to-look-for", noise(1, 300_000))
	n := nodes[0]
	n.close(t)
	spoilLog(t, n, placement.CatalogGroup, "a-key-to-look-for")
	dir := filepath.Join(n.dir, "raft", placement.CatalogGroup, "wal")
	_, err := raftlog.Open(dir, raftlog.Config{}, testLog(t, "wal"))
	if !errors.Is(err, raftlog.ErrDamaged) {
		t.Errorf("opened, or: %v", err)
	}
}
