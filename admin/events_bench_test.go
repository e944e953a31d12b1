package admin

import (
	"testing"

	"carillon/admin/client"
	"carillon/library/feed"
)

// BenchmarkEvents reads a feed of 500 events: what a client that was away gets.
func BenchmarkEvents(b *testing.B) {
	n := newStored(b)
	for range 500 {
		n.store(b, "/media/acc/a.wav")
	}
	c := eventClient(b, n)
	for b.Loop() {
		events := 0
		if _, err := c.Events(b.Context(), client.EventOptions{}, func(feed.Event) error {
			events++
			return nil
		}); err != nil || events != 500 {
			b.Fatal(events, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/500, "µs/event")
}
