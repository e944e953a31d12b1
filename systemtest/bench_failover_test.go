package systemtest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	// failoverKills is how many leaders die in one measurement: enough for a
	// 95th percentile.
	failoverKills = 20
	// failoverItemBytes is a short prompt.
	failoverItemBytes = 8 << 10
)

// BenchmarkFailover kills the leader of the catalog, with the blob groups it
// leads, without warning, and measures how long the next writes take: from the
// kill until each of the other nodes has acknowledged an upload that began after
// it, and the longest time between two acknowledged uploads of writers that
// never stop. All at default timeouts, with real processes. One iteration is
// failoverKills kills.
func BenchmarkFailover(b *testing.B) {
	for range b.N {
		c := Start(b, 3, nil)
		var next, gaps []time.Duration
		for k := range failoverKills {
			victim := c.Leader("catalog")
			w := startGapWriters(b, c, victim, k)
			pause(b.Context(), 500*time.Millisecond)
			begun := time.Now()
			victim.Kill9()
			next = append(next, c.nextAcks(b, begun, k))
			gaps = append(gaps, w.stop())
			victim.Restart()
			c.WaitReady()
		}
		reportPercentiles(b, "next-ack", next)
		reportPercentiles(b, "gap", gaps)
	}
}

func reportPercentiles(b *testing.B, name string, times []time.Duration) {
	b.Helper()
	slices.Sort(times)
	at := func(p int) float64 {
		return float64(times[(len(times)*p+99)/100-1]) / float64(time.Millisecond) // nearest rank
	}
	b.ReportMetric(at(50), name+"-p50-ms")
	b.ReportMetric(at(95), name+"-p95-ms")
	b.ReportMetric(at(100), name+"-max-ms")
}

// nextAcks is the time from begun until every live node has acknowledged an
// upload that began after it.
func (c *Cluster) nextAcks(b *testing.B, begun time.Time, turn int) time.Duration {
	b.Helper()
	var wg sync.WaitGroup
	for i, n := range c.Live() {
		wg.Go(func() {
			body := noise(failoverItemBytes, uint64(turn))
			for try := 0; ; try++ {
				path := fmt.Sprintf("/media/failover/next-%d-%d-%d.wav", turn, i, try)
				ctx, cancel := context.WithTimeout(b.Context(), requestWait)
				resp, _, err := n.do(ctx, http.MethodPut, path, body)
				cancel()
				if err == nil && resp.StatusCode == http.StatusCreated {
					return
				}
				if time.Since(begun) > failoverWait {
					b.Errorf("node %d acknowledges nothing: %v", n.index+1, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begun)
}

// gapWriters upload through the nodes that are not to die, as fast as they can.
type gapWriters struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	last    time.Time     // guarded by mu
	longest time.Duration // guarded by mu
}

func startGapWriters(b *testing.B, c *Cluster, victim *Node, turn int) *gapWriters {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	w := &gapWriters{cancel: cancel, last: time.Now()}
	for _, n := range c.nodes {
		if n.index == victim.index {
			continue
		}
		w.wg.Go(func() {
			body := noise(failoverItemBytes, uint64(turn))
			for i := 0; ctx.Err() == nil; i++ {
				path := fmt.Sprintf("/media/failover/gap-%d-%d-%d.wav", turn, n.index, i)
				resp, _, err := n.do(ctx, http.MethodPut, path, body)
				if err == nil && resp.StatusCode == http.StatusCreated {
					w.acked(time.Now())
				}
			}
		})
	}
	return w
}

func (w *gapWriters) acked(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longest = max(w.longest, now.Sub(w.last))
	w.last = now
}

// stop ends the writers and returns the longest time between two acks.
func (w *gapWriters) stop() time.Duration {
	w.cancel()
	w.wg.Wait()
	w.acked(time.Now())
	return w.longest
}
