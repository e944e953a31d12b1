package cluster

import (
	"fmt"
	"sync/atomic"
	"testing"

	"carillon/blobstore"
)

// BenchmarkWrite measures commits and whole blobs on three nodes of this
// process, through the node named first and with writers at all three, with few
// and with many shards: the rate must not depend on how many there are.
func BenchmarkWrite(b *testing.B) {
	for _, shards := range []int{1, ShardsDefault, 32} {
		b.Run(fmt.Sprintf("shards-%d", shards), func(b *testing.B) { benchWrite(b, shards) })
	}
}

func benchWrite(b *testing.B, shards int) {
	b.Helper()
	nodes := startCluster(b, 3, func(c *Config) {
		c.Shards, c.ElectionWait = shards, ElectionWaitDefault
	})
	body := noise(1, 64<<10)
	totals := blobstore.TotalsOf(body)
	var turn atomic.Int64
	commit := func(n *testNode) error {
		row := blobstore.Row{Key: fmt.Sprintf("bench/%d", turn.Add(1)), Value: body[:400]}
		_, err := n.Catalog().Commit(b.Context(), blobstore.Txn{Put: []blobstore.Row{row}})
		return err
	}
	put := func(n *testNode) error {
		id := blobstore.NewIDFor(n.Writer())
		return n.Writer().Put(b.Context(), id, blobstore.Spec{}, body, totals)
	}
	both := func(n *testNode) error {
		if err := put(n); err != nil {
			return err
		}
		return commit(n)
	}
	for _, op := range []struct {
		name string
		do   func(*testNode) error
	}{{"commit", commit}, {"put64KiB", put}, {"both", both}} {
		for _, writers := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/%d", op.name, writers), func(b *testing.B) {
				b.SetParallelism(max(1, writers/2)) // times GOMAXPROCS
				if writers == 1 {
					for b.Loop() {
						if err := op.do(nodes[0]); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				var next atomic.Int64
				b.RunParallel(func(pb *testing.PB) {
					n := nodes[next.Add(1)%3]
					for pb.Next() {
						if err := op.do(n); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
