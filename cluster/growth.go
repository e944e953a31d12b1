package cluster

import (
	"path/filepath"
	"sync"
	"time"

	"carillon/cluster/statefile"
)

const (
	// growthFile keeps what was measured over a restart.
	growthFile = "growth.json"
	// growthWait is the time between two measurements, and growthMax how many
	// are kept: a week.
	growthWait = 30 * time.Minute
	growthMax  = 7 * 48
	// growthSpanMin is the least time that a rate is worked out of: one upload
	// is no trend.
	growthSpanMin = time.Hour
)

// growthSample is how much sound there was at a time.
type growthSample struct {
	MS    int64 `json:"ms"`
	Bytes int64 `json:"bytes"`
}

// growth measures how fast this node's sound grows.
type growth struct {
	mu      sync.Mutex
	samples []growthSample // oldest first; guarded by mu
}

// note adds a measurement, unless the last is too fresh.
func (g *growth) note(now time.Time, bytes int64) (noted bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.samples); n > 0 {
		since := now.UnixMilli() - g.samples[n-1].MS
		if since >= 0 && since < growthWait.Milliseconds()*9/10 {
			return false
		}
		if since < 0 { // the clock was set back
			g.samples = g.samples[:0]
		}
	}
	g.samples = append(g.samples, growthSample{now.UnixMilli(), bytes})
	if len(g.samples) > growthMax {
		g.samples = g.samples[len(g.samples)-growthMax:]
	}
	return true
}

// rate is the slope of the line through all measurements, in bytes a day, and
// the time they span. Least squares: a large upload, or a deletion, in the
// middle does not decide alone.
func (g *growth) rate() (bytesPerDay float64, span time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.samples)
	if n < 2 {
		return 0, 0
	}
	first := g.samples[0]
	var sx, sy, sxx, sxy float64
	for _, s := range g.samples {
		x, y := float64(s.MS-first.MS), float64(s.Bytes-first.Bytes)
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	span = time.Duration(g.samples[n-1].MS-first.MS) * time.Millisecond
	d := float64(n)*sxx - sx*sx
	if d <= 0 {
		return 0, span
	}
	return (float64(n)*sxy - sx*sy) / d * float64((24 * time.Hour).Milliseconds()), span
}

// status is nil while nothing is known.
func (g *growth) status(disk DiskStatus) *GrowthStatus {
	rate, span := g.rate()
	if span < growthSpanMin {
		return nil
	}
	s := &GrowthStatus{BytesPerDay: rate, DaysLeft: -1, HoursSeen: span.Hours()}
	if rate >= 1 {
		s.DaysLeft = float64(max(disk.Free-disk.Stop, 0)) / rate
	}
	return s
}

// growthLoop measures and writes down what it has measured.
func (n *Node) growthLoop() {
	path := filepath.Join(n.cfg.Dir, growthFile)
	var kept []growthSample
	if statefile.Read(path, &kept) == nil { // a file that cannot be read is as good as none
		n.growth.mu.Lock()
		n.growth.samples = append(n.growth.samples, kept[max(len(kept)-growthMax, 0):]...)
		n.growth.mu.Unlock()
	}
	tick := time.NewTicker(growthWait)
	defer tick.Stop()
	for {
		if n.growth.note(time.Now(), n.blobs.Stats().Bytes) {
			n.growth.mu.Lock()
			kept = append(kept[:0], n.growth.samples...)
			n.growth.mu.Unlock()
			if err := statefile.Write(path, kept); err != nil {
				n.log.Warn("growth not written down", "error", err)
			}
		}
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
	}
}
