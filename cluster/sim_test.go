package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carillon/blobstore"
	"carillon/cluster/gossip"
	"carillon/internal/simnet"
)

// simSchedules is how many fault schedules a plain `go test` runs; `make sim`
// sets CARILLON_SIM to more.
const simSchedules = 4

// TestSimulation runs whole clusters in virtual time on a simulated network
// through a plan of faults (simplan_test.go), while clients write. Afterwards
// every acknowledged item must be readable on every node, all catalogs equal, a
// live blob must hold every byte that was acknowledged, and no two leaders may
// have acknowledged changes of the same revision.
//
// The seed gives the plan, which is printed when a run fails. It does not replay
// the order of goroutines: run a seed many times with CARILLON_SIM_SEED.
func TestSimulation(t *testing.T) {
	count, first := envInt(t, "CARILLON_SIM", simSchedules), envInt(t, "CARILLON_SIM_SEED", 1)
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { simulate(t, dir, uint64(seed)) })
		})
	}
}

// TestCommitsAreToldAtOnce measures in virtual time how long followers take to
// apply a commit that nothing follows: a hint, not raft's CommitTimeout.
func TestCommitsAreToldAtOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, dir)
		defer s.closeAll()
		for i := range 20 {
			pause(t.Context(), time.Second)
			begun := time.Now()
			txn := blobstore.Txn{Put: []blobstore.Row{{Key: fmt.Sprintf("k%d", i)}}}
			index, err := s.nodes[i%simNodes].Catalog().Commit(t.Context(), txn)
			if err != nil {
				t.Fatal(err)
			}
			for k, n := range s.nodes {
				if err := n.rows.WaitApplied(t.Context(), index); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took > commitWait/5 {
					t.Errorf("node %d applied commit %d after %v", k, i, took)
				}
			}
		}
	})
}

// TestReadFromHungReplica reads a blob that this node does not hold while the
// leader of its shard is cut off and silent: another replica must answer within
// the patience of a caller, measured in virtual time.
func TestReadFromHungReplica(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, dir)
		defer s.closeAll()
		body := noise(3, 300_000)
		id := mustUpload(t, s.nodes[0], "item", body)
		shard := shardOf(id, s.nodes[0].charter.Shards)
		lead := 0
		for i, n := range s.nodes {
			eventually(t, "item applied", func() error { return hasPrefix(n, id, body) })
			if n.shard(shard).leads() {
				lead = i
			}
		}
		reader := s.nodes[(lead+1)%simNodes]
		if err := reader.applyHere(blobstore.Op{Kind: blobstore.OpRemove, ID: id}); err != nil {
			t.Fatal(err)
		}
		s.net.Isolate(hostName(lead))
		begun := time.Now()
		r, err := reader.Shelf().Open(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, body) {
			t.Errorf("read %d bytes: %v", len(got), err)
		}
		if took := time.Since(begun); took > 2*statWait {
			t.Errorf("took %v", took)
		}
		s.net.HealAll()
	})
}

// TestFourthNodeIsFoundAgain restarts the three founders at other addresses, and
// once more, while a fourth node is cut off: it knows none of their addresses,
// and is nobody's seed.
func TestFourthNodeIsFoundAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, dir)
		defer s.closeAll()
		s.run(fault{kind: "join"})
		waitReady(t, s.nodes...)
		s.net.Isolate(hostName(simNodes))
		for range 2 {
			s.moveAll()
			waitReady(t, s.nodes[:simNodes]...)
			s.wait(time.Minute)
		}
		s.net.HealAll()
		eventually(t, "the fourth node is found", func() error {
			if m, _ := s.node(0).gossip.Member(s.node(simNodes).id); !m.Alive {
				return errors.New("not seen")
			}
			return nil
		})
		waitReady(t, s.nodes...)
	})
}

func envInt(tb testing.TB, name string, def int) int {
	tb.Helper()
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		tb.Fatalf("%s=%q is no number", name, v)
	}
	return n
}

// sim is one cluster in a bubble.
type sim struct {
	t     *testing.T
	net   *simnet.Net
	rand  *rand.Rand
	dir   string
	nodes []*testNode

	change func(i int, cfg *Config, deps *Deps) // of each node that is opened; may be nil
	disks  [simNodesMax]slowDisk

	mu    sync.Mutex
	acked map[string][]byte // guarded by mu
	live  map[blobstore.ID][]byte
	chain map[uint64]uint64 // guarded by mu: revision of the counter → the acknowledged next one
}

const (
	simNodes    = 3 // that found
	simNodesMax = 5
	simSteps    = 8
	gossipAt    = 7946
	peerAt      = 7947
)

// newSim opens a cluster and waits until it is ready.
func newSim(t *testing.T, dir string) *sim {
	t.Helper()
	return newSimWith(t, dir, 1, nil)
}

func newSimWith(t *testing.T, dir string, seed uint64, change func(int, *Config, *Deps)) *sim {
	t.Helper()
	s := &sim{
		t: t, net: simnet.New(seed), rand: rand.New(rand.NewPCG(seed, 1)), dir: dir,
		nodes: make([]*testNode, simNodes), acked: map[string][]byte{}, live: map[blobstore.ID][]byte{},
		chain: map[uint64]uint64{}, change: change,
	}
	for i := range s.nodes {
		s.open(i)
	}
	waitReady(t, s.nodes...)
	return s
}

// closeAll empties the bubble, also when a check failed.
func (s *sim) closeAll() {
	for _, n := range s.nodes {
		if n != nil {
			n.close(s.t)
		}
	}
	// memberlist does not wait for its last probe.
	pause(context.Background(), gossip.SettleTime)
}

func hostName(i int) string { return "h" + strconv.Itoa(i) }

// open starts node i on its host, on the data it had.
func (s *sim) open(i int) {
	s.t.Helper()
	var seeds []string
	for k := range simNodes {
		seeds = append(seeds, fmt.Sprintf("%s:%d", s.net.Host(hostName(k)).IP(), gossipAt))
	}
	host := s.net.Host(hostName(i))
	packets, err := host.Gossip(gossipAt)
	if err != nil {
		s.t.Fatal(err)
	}
	dir := filepath.Join(s.dir, hostName(i))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	cfg := Config{
		GossipBind: fmt.Sprintf("%s:%d", host.IP(), gossipAt), PeerBind: fmt.Sprintf("%s:%d", host.IP(), peerAt),
		Advertise: host.IP(), Expect: simNodes, Shards: 2, Replicas: simNodes, Seeds: seeds,
		segmentBytes: testSegmentBytes / 4,
	}
	deps := Deps{Network: host, Gossip: packets, fs: s.disks[i].of}
	if s.change != nil {
		s.change(i, &cfg, &deps)
	}
	n := openNode(s.t, dir, cfg, deps)
	s.mu.Lock()
	s.nodes[i] = n
	s.mu.Unlock()
}

func (s *sim) node(i int) *testNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[i]
}

// upload stores items through node w until ctx ends, and keeps what was
// acknowledged.
func (s *sim) upload(ctx context.Context, w int) {
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("w%d-%d", w, i)
		body := noise(uint64(w*1000+i), 1+(i*7919)%400_000)
		if _, err := upload(ctx, s.node(w), key, body); err == nil {
			s.mu.Lock()
			s.acked[key] = body
			s.mu.Unlock()
		}
		if !pause(ctx, 300*time.Millisecond) {
			return
		}
	}
}

// record grows a live blob through node w, repeating each piece until it is
// acknowledged, as a LiveRecorder does.
func (s *sim) record(ctx context.Context, w int) {
	id := blobstore.NewID()
	spec := blobstore.Spec{Live: true, Created: time.Now()}
	for s.node(w).Writer().Begin(ctx, id, spec) != nil {
		if !pause(ctx, 100*time.Millisecond) {
			return
		}
	}
	var written []byte
	for i := 0; ctx.Err() == nil; i++ {
		piece := noise(uint64(w*100_000+i), 500)
		for s.node(w).Writer().Append(ctx, id, int64(len(written)), piece) != nil {
			if !pause(ctx, 100*time.Millisecond) {
				return
			}
		}
		written = append(written, piece...)
		s.mu.Lock()
		s.live[id] = written
		s.mu.Unlock()
		if !pause(ctx, 250*time.Millisecond) {
			return
		}
	}
}

// hasPrefix says whether the node's own copy of a live blob begins with want.
func hasPrefix(n *testNode, id blobstore.ID, want []byte) error {
	v, err := n.blobs.View(context.Background(), id)
	if err != nil {
		return err
	}
	got := make([]byte, len(want))
	for k := 0; k < len(got) && err == nil; {
		var step int
		step, err = v.Read(context.Background(), int64(k), got[k:])
		k += step
	}
	if cerr := v.Close(); err == nil {
		err = cerr
	}
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("blob %s has other bytes than acknowledged: %w", id, blobstore.ErrCorrupt)
	}
	return err
}
