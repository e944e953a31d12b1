package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft-wal/types"

	"carillon/cluster/disktest"
	"carillon/cluster/placement"
)

// startOnDisks is a cluster of three whose catalogs' logs are on disks that can hang, with the
// number of the node that leads the catalog.
func startOnDisks(t *testing.T, stall time.Duration) (nodes []*testNode, disks []*hangingDisk, leader int) {
	t.Helper()
	disks = make([]*hangingDisk, 3)
	next := 0
	nodes = startClusterWith(t, 3, func(c *Config) { c.DiskStall = stall }, func(d *Deps) {
		i := next
		next++
		d.fs = func(group string, below types.VFS) types.VFS {
			if group != placement.CatalogGroup {
				return below
			}
			disks[i] = &hangingDisk{}
			return &disktest.Disk{VFS: below, BeforeSync: disks[i].beforeSync}
		}
	})
	eventually(t, "a leader", func() error {
		for i, n := range nodes {
			if n.catalog.leads() {
				leader = i
				return nil
			}
		}
		return errors.New("none yet")
	})
	return nodes, disks, leader
}

// Goal: a leader sends an entry to its followers while its own disk writes it, and nobody is
// told that it is committed before that disk has it: not the client, not its own state machine,
// and not the followers, although raft counts the leader among those who hold it.
func TestLeaderAheadOfItsDisk(t *testing.T) {
	nodes, disks, leader := startOnDisks(t, testWait)
	own := nodes[leader].catalog
	before := own.raft.LastIndex()
	disks[leader].hang()
	defer disks[leader].release()
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	keys := []string{"first", "second"}
	done := make(chan error, len(keys))
	for i, key := range keys {
		go func() {
			_, err := upload(ctx, nodes[(leader+1)%3], key, noise(uint64(i), 1000))
			done <- err
		}()
		// The message with the second tells the followers what of the first is committed.
		eventually(t, key+" is with the followers, and raft takes it for committed", func() error {
			for _, n := range nodes {
				if last := n.catalog.raft.LastIndex(); last <= before+uint64(i) {
					return fmt.Errorf("%s ends at %d, was at %d", n.id, last, before)
				}
			}
			if at := own.raft.CommitIndex(); at <= before+uint64(i) {
				return fmt.Errorf("committed %d", at)
			}
			return nil
		})
	}
	for _, n := range nodes {
		at := n.catalog.raft.CommitIndex()
		if n != nodes[leader] && at > before {
			t.Errorf("%s was told that %d is committed; the leader's disk ends at %d", n.id, at, before)
		}
		if at = n.catalog.position.Load(); at > before {
			t.Errorf("%s has applied %d; the leader's disk ends at %d", n.id, at, before)
		}
	}
	if n := len(done); n > 0 {
		t.Errorf("%d acknowledged before the leader's disk had them", n)
	}
	disks[leader].release()
	for range keys {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	sameCatalogs(t, nodes...)
	for i, key := range keys {
		for _, n := range nodes {
			if err := checkItem(ctx, n, key, noise(uint64(i), 1000)); err != nil {
				t.Error(err)
			}
		}
	}
}

// Goal: a leader whose disk refuses an entry gives up leading although nothing else is written,
// and says why it is not ready; the others go on with what it had sent them, and it has
// everything after a restart.
func TestLeaderRefusedByItsDisk(t *testing.T) {
	nodes, disks, leader := startOnDisks(t, testWait)
	broken := nodes[leader]
	disks[leader].refuses.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	body := noise(1, 1000)
	if _, err := upload(ctx, nodes[(leader+1)%3], "during", body); err != nil {
		t.Fatal(err)
	}
	if broken.catalog.leads() {
		t.Error("it leads on")
	}
	if err := broken.Ready(); !errors.Is(err, ErrNotReady) || !errors.Is(err, errDisk) {
		t.Errorf("it says %v", err)
	}
	if err := broken.Close(); !errors.Is(err, errDisk) {
		t.Errorf("closed with what its disk has refused: %v", err)
	}
	broken.close(t)
	disks[leader].refuses.Store(false)
	again := openNode(t, broken.dir, broken.cfg, Deps{})
	t.Cleanup(func() { again.close(t) })
	nodes[leader] = again
	waitReady(t, nodes...)
	sameCatalogs(t, nodes...)
	if err := checkItem(ctx, again, "during", body); err != nil {
		t.Error(err)
	}
}

// Goal: who waits for an entry that the followers made committed, and the leader's disk then
// refuses, is told before its own patience ends: the leader's state machine never gets to it.
func TestRefusedAfterCommit(t *testing.T) {
	nodes, disks, leader := startOnDisks(t, testWait)
	own := nodes[leader].catalog
	before := own.raft.LastIndex()
	disks[leader].hang()
	defer disks[leader].release()
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	done := make(chan error, 1)
	body := noise(1, 1000)
	go func() {
		_, err := upload(ctx, nodes[(leader+1)%3], "during", body)
		done <- err
	}()
	eventually(t, "raft takes it for committed", func() error {
		if at := own.raft.CommitIndex(); at <= before {
			return fmt.Errorf("committed %d", at)
		}
		return nil
	})
	disks[leader].refuses.Store(true)
	disks[leader].release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, n := range []*testNode{nodes[(leader+1)%3], nodes[(leader+2)%3]} {
		eventually(t, "the others have it", func() error { return checkItem(ctx, n, "during", body) })
	}
	if err := nodes[leader].Close(); !errors.Is(err, errDisk) {
		t.Errorf("closed with what its disk has refused: %v", err)
	}
}
