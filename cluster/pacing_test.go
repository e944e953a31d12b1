package cluster

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPacing fetches at a rate, whoever asks and however much at a time.
func TestPacing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pacing{rate: 1 << 20}
		begun := time.Now()
		for range 10 {
			if err := p.wait(t.Context(), 256<<10); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begun); took < 2*time.Second || took > 2500*time.Millisecond {
			t.Errorf("2.5 MiB at 1 MiB/s took %v", took)
		}
	})
}
