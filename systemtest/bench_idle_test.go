package systemtest

import (
	"os"
	"strconv"
	"testing"
	"time"
)

const (
	// idleSettle: elections, balancing and the first passes of everything.
	idleSettle = 20 * time.Second
	// idleSeconds is how long the nodes are watched; CARILLON_IDLE_SECONDS
	// changes it.
	idleSeconds = 30
)

// BenchmarkIdle watches three idle nodes of eight shards: CPU in percent of one
// core and resident memory, of the node that takes most of each.
func BenchmarkIdle(b *testing.B) {
	c := Start(b, 3, nil)
	seconds := idleSeconds
	if n, err := strconv.Atoi(os.Getenv("CARILLON_IDLE_SECONDS")); err == nil && n > 0 {
		seconds = n
	}
	pause(b.Context(), idleSettle)
	for range b.N {
		stop := c.profile(b, "idle")
		before := make([]usage, len(c.nodes))
		for i, n := range c.nodes {
			before[i] = usageOf(b, n.PID())
		}
		begun := time.Now()
		pause(b.Context(), time.Duration(seconds)*time.Second)
		var worst usage
		for i, n := range c.nodes {
			used := usageOf(b, n.PID()).minus(before[i])
			worst.cpu, worst.rss, worst.written = max(worst.cpu, used.cpu), max(worst.rss, used.rss),
				max(worst.written, used.written)
		}
		took := time.Since(begun)
		stop()
		b.ReportMetric(100*worst.cpu.Seconds()/took.Seconds(), "cpu-%")
		b.ReportMetric(float64(worst.rss)/(1<<20), "MiB-rss")
		b.ReportMetric(float64(worst.written)/took.Seconds(), "B-written/s")
	}
}
