package cluster

import (
	"math"
	"testing"
	"time"
)

// TestFetchingStatus: progress adds up over groups, and nothing is left when
// all have ended, whatever they did.
func TestFetchingStatus(t *testing.T) {
	var f fetching
	if f.status(time.Now()) != nil {
		t.Error("something is fetched")
	}
	a, endA := f.begin(2, 100)
	_, endB := f.begin(1, 50)
	a.blob(60)
	f.moved(60)
	s := f.status(f.begun.Add(6 * time.Second))
	if s.Bytes != 60 || s.BytesLeft != 90 || s.BlobsLeft != 2 || math.Abs(s.SecondsLeft-9) > 0.01 {
		t.Errorf("%+v", s)
	}
	endB() // it failed
	a.blob(1000)
	endA()
	if f.status(time.Now()) != nil || f.bytes != 0 || f.blobs != 0 {
		t.Errorf("left: %+v", f.status(time.Now()))
	}
}

// TestGrowth: a steady growth is found, an hour is needed, and memory is
// bounded.
func TestGrowth(t *testing.T) {
	var g growth
	start := time.Unix(1_700_000_000, 0)
	if !g.note(start, 0) || g.note(start.Add(time.Minute), 1) {
		t.Error("measured too often, or not at all")
	}
	if g.status(DiskStatus{}) != nil {
		t.Error("a rate of one measurement")
	}
	const daily = 48 << 20
	for i := 1; i <= 2*growthMax; i++ {
		bytes := int64(i) << 20
		if i == growthMax { // a large upload
			bytes += 1 << 20
		}
		g.note(start.Add(time.Duration(i)*growthWait), bytes)
	}
	s := g.status(DiskStatus{Free: 11 * daily, Stop: daily})
	if len(g.samples) != growthMax || s == nil || math.Abs(s.BytesPerDay/daily-1) > 0.02 ||
		math.Abs(s.DaysLeft-10) > 0.3 {
		t.Errorf("%d samples: %+v", len(g.samples), s)
	}
	g.note(start, 7) // the clock was set back
	if len(g.samples) != 1 {
		t.Errorf("%d samples", len(g.samples))
	}
	for i := range 5 {
		g.note(start.Add(time.Duration(i+1)*growthWait), 7)
	}
	if s := g.status(DiskStatus{Free: 10}); s.BytesPerDay != 0 || s.DaysLeft >= 0 {
		t.Errorf("nothing grows: %+v", s)
	}
}
