package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft-wal/types"

	"carillon/blobstore"
	"carillon/cluster/disktest"
	"carillon/cluster/placement"
)

// fault is one step of a plan: it begins, lasts, ends, and rests.
type fault struct {
	kind       string
	a, b       int
	last, rest time.Duration
}

func (f fault) String() string {
	return fmt.Sprintf("%s %d %d for %v, then %v", f.kind, f.a, f.b, f.last, f.rest)
}

// planOf draws the plan of a seed. Whatever happens in a run, it is the same.
func planOf(seed uint64) []fault {
	r := rand.New(rand.NewPCG(seed, 1))
	kinds := []string{
		"isolate", "bridge", "one-way", "kill", "renumber", "delay", "drop", "partition", "slow-disk", "transfer",
		"join", "drain", "undrain", "restart-all", "unplug",
	}
	plan := make([]fault, simSteps)
	for i := range plan {
		a := r.IntN(simNodes)
		plan[i] = fault{
			kind: kinds[r.IntN(len(kinds))], a: a, b: (a + 1 + r.IntN(simNodes-1)) % simNodes,
			last: time.Duration(500+r.IntN(4000)) * time.Millisecond,
			rest: time.Duration(r.IntN(3000)) * time.Millisecond,
		}
	}
	return plan
}

func simulate(t *testing.T, dir string, seed uint64) {
	t.Helper()
	plan := planOf(seed)
	for i, f := range plan {
		t.Logf("step %d: %s", i, f)
	}
	s := newSimWith(t, dir, seed, func(_ int, cfg *Config, _ *Deps) {
		cfg.ReplaceAfter, cfg.DropAfter, cfg.SweepWait = time.Minute, 5*time.Second, 2*time.Second
		if seed%2 == 1 {
			cfg.ReplaceAfter = 2 * time.Second // away for a moment is lost
		}
	})
	defer s.closeAll()
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stop()
	for w := range simNodes {
		clients.Go(func() { s.upload(ctx, w) })
		clients.Go(func() { s.record(ctx, w) })
		clients.Go(func() { s.count(ctx, w) })
	}
	for _, f := range plan {
		s.run(f)
	}
	s.net.HealAll()
	stop()
	clients.Wait()
	s.check()
}

// run does one thing to the cluster, lets it last for a while, and ends it.
func (s *sim) run(f fault) {
	a, b := hostName(f.a), hostName(f.b)
	switch f.kind {
	case "isolate":
		s.net.Isolate(a)
	case "bridge": // two nodes see only the third
		s.net.Cut(a, b)
	case "one-way":
		s.net.CutOneWay(a, b)
	case "delay":
		s.net.Delay(a, b, 200*time.Millisecond, 50*time.Millisecond)
		defer s.net.Delay(a, b, 0, 0)
	case "drop": // of packets; what is lost of a stream is only late
		s.net.Drop(a, b, 0.2)
		defer s.net.Drop(a, b, 0)
		s.net.Delay(a, b, 20*time.Millisecond, 400*time.Millisecond)
		defer s.net.Delay(a, b, 0, 0)
	case "partition": // nobody sees anybody
		s.net.Partition()
	case "slow-disk":
		s.disks[f.a].wait.Store(int64(300 * time.Millisecond))
		defer s.disks[f.a].wait.Store(0)
	case "kill", "renumber":
		s.restart(f.kind, f.a, f.last)
	case "restart-all":
		s.moveAll()
	case "unplug":
		s.unplug(f.a, f.last)
	case "transfer":
		for _, g := range s.node(f.a).groups() {
			_ = g.raft.LeadershipTransfer().Error() // it may not lead, or not be able to
		}
	default:
		s.reshape(f)
	}
	s.wait(f.last)
	s.net.HealAll()
	s.wait(f.rest)
}

func (s *sim) wait(d time.Duration) { pause(s.t.Context(), d) }

// restart kills the process of a node and brings it back, perhaps elsewhere.
func (s *sim) restart(kind string, i int, away time.Duration) {
	old := s.node(i)
	if kind == "kill" {
		s.net.Host(hostName(i)).Kill()
	} else {
		s.net.Host(hostName(i)).Renumber()
	}
	old.close(s.t)
	s.wait(away)
	s.open(i)
}

// unplug takes the power of a node whose disk is slow: what its logs hold ahead of the disk is
// gone, while the others may have it.
func (s *sim) unplug(i int, away time.Duration) {
	disk, old := &s.disks[i], s.node(i)
	disk.wait.Store(int64(300 * time.Millisecond))
	s.wait(time.Second)
	disk.off.Store(true)
	s.net.Host(hostName(i)).Kill()
	for _, c := range []io.Closer{old.Node, old.rows, old.blobs} {
		if err := c.Close(); err != nil && !errors.Is(err, errDisk) {
			s.t.Errorf("close node %d: %v", i, err)
		}
	}
	disk.off.Store(false)
	disk.wait.Store(0)
	s.wait(away)
	s.open(i)
}

// moveAll restarts the founders, each at another address.
func (s *sim) moveAll() {
	for i := range simNodes {
		s.net.Host(hostName(i)).Renumber()
		s.node(i).close(s.t)
	}
	for i := range simNodes {
		s.open(i)
	}
}

// reshape changes which nodes there are and what they are to hold. A drain that
// is refused, because too few would be left, changes nothing.
func (s *sim) reshape(f fault) {
	ctx, cancel := context.WithTimeout(s.t.Context(), f.last)
	defer cancel()
	through := s.node(f.b)
	switch f.kind {
	case "join":
		if len(s.nodes) < simNodesMax {
			s.mu.Lock()
			s.nodes = append(s.nodes, nil)
			s.mu.Unlock()
			s.open(len(s.nodes) - 1)
		}
	case "drain":
		_ = through.Drain(ctx, s.node(f.a).id)
	case "undrain":
		_ = through.Undrain(ctx, s.node(f.a).id)
	default:
		s.t.Fatalf("unknown fault %q", f.kind)
	}
}

// count moves one counter on, through node w, on the condition that it is as
// last read, and remembers what was acknowledged.
func (s *sim) count(ctx context.Context, w int) {
	for ctx.Err() == nil && pause(ctx, 200*time.Millisecond) {
		c := s.node(w).Catalog()
		row, err := c.Get(ctx, "counter")
		if err != nil && !errors.Is(err, blobstore.ErrNotFound) {
			continue
		}
		revision, err := c.Commit(ctx, blobstore.Txn{
			If:  []blobstore.Cond{{Key: "counter", Revision: row.Revision}},
			Put: []blobstore.Row{{Key: "counter", Value: binary.BigEndian.AppendUint64(nil, row.Revision)}},
		})
		if err != nil {
			continue
		}
		s.mu.Lock()
		if other, twice := s.chain[row.Revision]; twice {
			s.t.Errorf("revision %d was followed by %d and by %d: two leaders", row.Revision, other, revision)
		}
		s.chain[row.Revision] = revision
		s.mu.Unlock()
	}
}

// check expects everything that was acknowledged, everywhere, and every group on
// the nodes that are to have it.
func (s *sim) check() {
	s.t.Helper()
	waitReady(s.t, s.nodes...)
	able := len(s.nodes)
	rows, _, err := s.nodes[0].nodeRows(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range rows {
		if r.State == placement.Draining {
			able--
		}
	}
	thoughtOf(s.t, able, s.nodes[0])
	waitSettled(s.t, "settled", s.nodes...)
	if len(s.acked) == 0 || len(s.live) == 0 || len(s.chain) == 0 {
		s.t.Fatalf("%d items, %d recordings and %d counts acknowledged: this proves nothing",
			len(s.acked), len(s.live), len(s.chain))
	}
	for i, n := range s.nodes {
		for key, body := range s.acked {
			eventually(s.t, fmt.Sprintf("node %d", i), func() error { return checkItem(s.t.Context(), n, key, body) })
		}
		for id, want := range s.live {
			eventually(s.t, fmt.Sprintf("recording on node %d", i), func() error {
				if n.shard(shardOf(id, n.charter.Shards)) != nil {
					return hasPrefix(n, id, want)
				}
				return playsPrefix(s.t.Context(), n, id, want)
			})
		}
	}
	sameCatalogs(s.t, s.nodes...)
	row, err := s.nodes[0].rows.Get(s.t.Context(), "counter")
	if err != nil {
		s.t.Fatal(err)
	}
	for before, after := range s.chain {
		if after > row.Revision {
			s.t.Errorf("count %d after %d was acknowledged and is lost: the counter is at %d",
				after, before, row.Revision)
		}
	}
}

// playsPrefix says whether a live blob plays on a node that does not hold it.
func playsPrefix(ctx context.Context, n *testNode, id blobstore.ID, want []byte) error {
	r, err := n.Shelf().Open(ctx, id)
	if err != nil {
		return err
	}
	got := make([]byte, len(want))
	_, err = io.ReadFull(r, got)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("blob %s plays other bytes than acknowledged: %w", id, blobstore.ErrCorrupt)
	}
	return err
}

// slowDisk is the disk of a node's logs, whose syncs take a while.
type slowDisk struct {
	wait atomic.Int64
	off  atomic.Bool // nothing comes to it any more
}

func (d *slowDisk) of(_ string, below types.VFS) types.VFS {
	return &disktest.Disk{VFS: below, BeforeWrite: d.power, BeforeSync: d.beforeSync}
}

// power fails when there is none. What was written before is there after a power cut, synced or
// not: losing that is tried elsewhere.
func (d *slowDisk) power() error {
	if d.off.Load() {
		return errDisk
	}
	return nil
}

// beforeSync takes the disk's time.
func (d *slowDisk) beforeSync() error {
	if wait := d.wait.Load(); wait > 0 {
		pause(context.Background(), time.Duration(wait))
	}
	return d.power()
}
