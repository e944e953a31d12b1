package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/statefile"
)

// TestRecoverGroup loses two of a group's three members for ever in a cluster of
// five, whose catalog goes on. One acknowledged item had come to those two only.
// The group must go on with the third, with everything else, come to its full
// replicas, and the lost members must stay out when they come back together, as
// a majority of what the group was.
func TestRecoverGroup(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 5, func(c *Config) { c.Shards, c.DropAfter = 4, time.Second })
	waitSettled(t, "five nodes", nodes...)
	const s = 1
	name := placement.BlobGroup(s)
	k := &kept{items: map[string][]byte{}}
	for i := range 12 {
		key := fmt.Sprintf("item-%d", i)
		k.items[key] = noise(uint64(i), 1+i*40_000)
		into(t, nodes[i%5], i%4, key, k.items[key])
	}
	members := membersOf(nodes, s)
	survivor, lost := members[0], members[1:]
	bystander := others(nodes, members...)[0]
	refusedWhileWell(t, bystander, survivor, lost)

	survivor.close(t)
	eventually(t, "an item that the survivor never gets", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), testWait)
		defer cancel()
		_, err := uploadAs(ctx, bystander, idIn(bystander, s), "lost", noise(77, 300_000))
		return err
	})
	survivor = closeAndReopen(t, bystander, survivor, lost)

	refusedWhileUnnamed(t, bystander, survivor, lost)
	early, err := bystander.tied(t.Context(), refers(idIn(bystander, s)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := bystander.RecoverGroup(t.Context(), name, survivor.id, idsOf(lost...))
	if err != nil || !slices.Equal(f.Missing, []string{"lost"}) {
		t.Fatalf("recovery: %+v %v", f, err)
	}
	// What the lost members acknowledged to who had not heard of it, as when they
	// all come back at that moment.
	if _, err := (catalog{bystander.Node}).commit(t.Context(), early); !errors.Is(err, blobstore.ErrConflict) {
		t.Errorf("a document from before the recovery: %v", err)
	}
	recoverOthers(t, bystander)
	rest := others(nodes, members...)
	rest = append(rest, survivor)
	waitSettled(t, "full replicas", rest...)
	waitReady(t, rest...)
	k.check(t, rest...)
	_, err = bystander.Catalog().Commit(t.Context(), refers(idIn(bystander, s)))
	if !errors.Is(err, blobstore.ErrUnavailable) {
		t.Errorf("a document whose sound the recovered group lacks: %v", err)
	}
	for _, n := range rest {
		if err := checkItem(t.Context(), n, "lost", nil); !errors.Is(err, blobstore.ErrNotFound) {
			t.Errorf("%s: the item that was lost: %v", n.id, err)
		}
	}
	k.items["after"] = noise(78, 400_000)
	into(t, bystander, s, "after", k.items["after"])

	lostStayOut(t, bystander, lost)
	k.check(t, rest...)
	sameCatalogs(t, rest...)
}

// refers is a document of a blob.
func refers(id blobstore.ID) blobstore.Txn {
	return blobstore.Txn{Put: []blobstore.Row{{Key: blobstore.RefKey(id, "late"), Value: []byte("x")}}}
}

// TestRecoverGroupAnew loses all members of a group for ever: the one that was to
// go on with it, too, before it could obey. The group begins anew, empty, on another
// node, is filled up, and the catalog lists what was lost.
func TestRecoverGroupAnew(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 7, func(c *Config) { c.Shards = 8 })
	waitSettled(t, "seven nodes", nodes...)
	s, members := 0, []*testNode(nil)
	for ; s < 8; s++ { // one whose loss leaves the catalog its majority
		members = membersOf(nodes, s)
		voters := nodes[0].catalog.voters()
		votes := func(id string) bool { return slices.Contains(voters, id) }
		if slices.ContainsFunc(idsOf(members...), func(id string) bool { return !votes(id) }) {
			break
		}
	}
	if s == 8 {
		t.Fatal("each group has three of the catalog's voters")
	}
	name := placement.BlobGroup(s)
	into(t, nodes[0], s, "lost", noise(1, 300_000))
	rest := others(nodes, members...)
	dies := members[0]
	for _, n := range members[1:] {
		n.close(t)
	}
	by := rest[0]
	eventually(t, "two are gone", func() error {
		for _, n := range members[1:] {
			if !by.Gone(n.id) {
				return errNotLeft
			}
		}
		return (catalog{by.Node}).Fresh(t.Context())
	})
	dies.close(t)
	eventually(t, "the order to a node that cannot obey", func() error {
		return by.orderRecovery(t.Context(), name, GroupRecovery{Node: dies.id, Lost: idsOf(members[1:]...)})
	})
	eventually(t, "another one is named", func() error {
		f, err := by.GroupRecovery(t.Context(), name, "")
		if err == nil {
			f, err = by.RecoverGroup(t.Context(), name, f.Node, f.Lost)
		}
		if err == nil && f.State != GroupRecoveryAsked && f.State != GroupRecoveryDone {
			err = errNotLeft
		}
		return err
	})
	recoverOthers(t, by)
	waitSettled(t, "full replicas", rest...)
	waitReady(t, rest...)
	k := &kept{items: map[string][]byte{"after": noise(2, 400_000)}}
	into(t, by, s, "after", k.items["after"])
	k.check(t, rest...)
	for _, n := range rest {
		if err := checkItem(t.Context(), n, "lost", nil); !errors.Is(err, blobstore.ErrNotFound) {
			t.Errorf("%s: what was lost with all members: %v", n.id, err)
		}
	}
}

// closeAndReopen ends the lost nodes and starts the survivor again.
func closeAndReopen(t *testing.T, known, survivor *testNode, lost []*testNode) *testNode {
	t.Helper()
	for _, n := range lost {
		n.close(t)
	}
	again := openNode(t, survivor.dir, reseeded(survivor.cfg, known), Deps{})
	t.Cleanup(func() { again.close(t) })
	eventually(t, "the catalog goes on", func() error {
		for _, n := range lost {
			if !known.Gone(n.id) || again.Gone(known.id) {
				return errNotLeft
			}
		}
		return (catalog{again.Node}).Fresh(t.Context())
	})
	return again
}

// recoverOthers recovers the other groups that were lost with the same nodes, each
// as two people would who do not know of each other.
func recoverOthers(t *testing.T, by *testNode) {
	t.Helper()
	for s := range by.charter.Shards {
		f, err := by.GroupRecovery(t.Context(), placement.BlobGroup(s), "")
		if err != nil || f.Quorum || f.State != GroupRecoveryNone {
			continue
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := by.RecoverGroup(t.Context(), f.Group, f.Node, f.Lost); err != nil {
					t.Errorf("recovery of %s: %v", f.Group, err)
				}
			})
		}
		wg.Wait()
		orders, _, err := by.groupOrders(t.Context())
		if err != nil || orders.Groups[f.Group].Seq != 1 {
			t.Errorf("%s was recovered more than once: %+v %v", f.Group, orders.Groups[f.Group], err)
		}
	}
}

// lostStayOut starts nodes again that were given up, all at once.
func lostStayOut(t *testing.T, known *testNode, lost []*testNode) {
	t.Helper()
	back := make([]*testNode, len(lost))
	for i, n := range lost {
		back[i] = openNode(t, n.dir, reseeded(n.cfg, known), Deps{})
		t.Cleanup(func() { back[i].close(t) })
	}
	for _, n := range back {
		select {
		case err := <-n.Failed():
			if !errors.Is(err, ErrRemoved) {
				t.Errorf("node that was given up stops with %v", err)
			}
		case <-time.After(testWait):
			t.Error("node that was given up does not stop")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if at, err := n.Catalog().Commit(ctx, refers(idIn(n, 1))); err == nil {
			t.Errorf("node that was given up commits at %d", at)
		}
		cancel()
	}
}

// refusedWhileWell asks for a recovery of a group that needs none.
func refusedWhileWell(t *testing.T, by, survivor *testNode, lost []*testNode) {
	t.Helper()
	f, err := by.GroupRecovery(t.Context(), "blob-1", "")
	if err != nil || !f.Quorum || len(f.Members) != 3 || len(f.Lost) != 0 || f.Refused == "" {
		t.Errorf("facts of a group that is well: %+v %v", f, err)
	}
	_, err = by.RecoverGroup(t.Context(), "blob-1", survivor.id, idsOf(lost...))
	if !errors.Is(err, ErrUnsafe) {
		t.Errorf("recovery of a group that is well: %v", err)
	}
	for _, name := range []string{placement.CatalogGroup, "blob-99", ""} {
		if _, err := by.RecoverGroup(t.Context(), name, survivor.id, nil); !errors.Is(err, blobstore.ErrNotFound) {
			t.Errorf("recovery of %q: %v", name, err)
		}
	}
}

// refusedWhileUnnamed asks with a wrong survivor, and without naming what is lost.
func refusedWhileUnnamed(t *testing.T, by, survivor *testNode, lost []*testNode) {
	t.Helper()
	f, err := by.GroupRecovery(t.Context(), "blob-1", "")
	if err != nil || f.Quorum || f.Refused != "" || f.Node != survivor.id ||
		!slices.Equal(f.Lost, idsOf(lost...)) {
		t.Fatalf("facts: %+v %v", f, err)
	}
	for _, c := range []struct {
		why, node string
		lost      []string
	}{
		{"nobody named", survivor.id, nil},
		{"one of two named", survivor.id, idsOf(lost[0])},
		{"a node that is here named", survivor.id, append(idsOf(lost...), by.id)},
		{"a node without a part of the group", by.id, idsOf(lost...)},
		{"a node that is lost", lost[0].id, idsOf(lost...)},
	} {
		if _, err := by.RecoverGroup(t.Context(), "blob-1", c.node, c.lost); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
	if _, err := by.RecoverGroup(t.Context(), "blob-1", "nobody", nil); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("an unknown node: %v", err)
	}
}

// TestRecoverGroupInterrupted stops a survivor between each two steps: its next
// start finishes before the group is opened.
func TestRecoverGroupInterrupted(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 1, nil)
	n := nodes[0]
	body := noise(5, 300_000)
	into(t, n, 0, "item", body)
	mark := recovered{Format: charterFormat, Seq: 1, Lost: []string{"gone"}, Since: time.Now()}
	for _, step := range []string{"marked", "log removed"} {
		n.close(t)
		if err := statefile.Write(recoveredFile(n.raftDir(), placement.BlobGroup(0)), mark); err != nil {
			t.Fatal(err)
		}
		if step == "log removed" {
			if err := os.RemoveAll(n.raftDir() + "/" + placement.BlobGroup(0)); err != nil {
				t.Fatal(err)
			}
		}
		n = openNode(t, n.dir, n.cfg, Deps{})
		t.Cleanup(func() { n.close(t) })
		waitReady(t, n)
		have, err := loadRecovered(n.raftDir(), placement.BlobGroup(0))
		if err != nil || !have.Done || have.Seq != 1 {
			t.Errorf("%s: mark %+v, %v", step, have, err)
		}
		if !n.unheard.has("gone") {
			t.Errorf("%s: a node that was given up is listened to", step)
		}
		if err := checkItem(t.Context(), n, "item", body); err != nil {
			t.Errorf("%s: %v", step, err)
		}
		into(t, n, 0, "more", noise(6, 1000))
	}
}

// others are all nodes but those given.
func others(nodes []*testNode, but ...*testNode) []*testNode {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *testNode) bool { return slices.Contains(but, n) })
}

func idsOf(nodes ...*testNode) []string {
	var ids []string
	for _, n := range nodes {
		ids = append(ids, n.id)
	}
	return sorted(ids)
}

// membersOf are the nodes that hold a shard.
func membersOf(nodes []*testNode, s int) []*testNode {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *testNode) bool { return n.shard(s) == nil })
}

// reseeded is a node's configuration with somebody to find who runs.
func reseeded(cfg Config, known *testNode) Config {
	cfg.Seeds = []string{known.GossipAddr()}
	return cfg
}

// idIn is a name for a blob of a shard.
func idIn(n *testNode, s int) blobstore.ID {
	id := blobstore.NewID()
	for shardOf(id, n.charter.Shards) != s {
		id = blobstore.NewID()
	}
	return id
}

// into stores an item in a blob of a shard.
func into(t *testing.T, n *testNode, s int, key string, body []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	if _, err := uploadAs(ctx, n, idIn(n, s), key, body); err != nil {
		t.Fatalf("upload %s: %v", key, err)
	}
}
