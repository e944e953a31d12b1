package systemtest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// timings are the durations of some operations.
type timings []time.Duration

// quantile returns the value below which that part of the timings lies.
func (t timings) quantile(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	slices.Sort(t)
	return t[min(len(t)-1, int(q*float64(len(t))))]
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// warmUpOps are done by each worker before the clock starts: connections are
// made, leaders found, buffers grown.
const warmUpOps = 30

// operation is one request of a worker; it returns what it took, which need
// not be all of the time that it ran.
type operation func(worker, turn int) (time.Duration, error)

// measure runs op from that many workers for the time of the benchmark, and
// returns the durations that it returned. The warm-up comes first; before is
// called between the two, when nothing runs.
func measure(b *testing.B, workers int, op operation, before func()) (timings, time.Duration) {
	b.Helper()
	run := func(turns <-chan int) timings {
		var wg sync.WaitGroup
		results := make([]timings, workers)
		failures := make(chan error, workers)
		for w := range workers {
			wg.Go(func() {
				for turn := range turns {
					took, err := op(w, turn)
					if err != nil {
						failures <- fmt.Errorf("worker %d, turn %d: %w", w, turn, err)
						for range turns { // let the others end
						}
						return
					}
					results[w] = append(results[w], took)
				}
			})
		}
		wg.Wait()
		close(failures)
		for err := range failures {
			b.Error(err)
		}
		return slices.Concat(results...)
	}
	warm := make(chan int)
	go func() {
		defer close(warm)
		for turn := range warmUpOps * workers {
			warm <- turn
		}
	}()
	run(warm)
	if b.Failed() {
		b.FailNow()
	}
	before()
	turns, done := make(chan int), make(chan timings, 1)
	go func() { done <- run(turns) }()
	turn, began := warmUpOps*workers, time.Now()
	for b.Loop() {
		turns <- turn
		turn++
	}
	close(turns)
	all := <-done
	elapsed := time.Since(began)
	if b.Failed() {
		b.FailNow()
	}
	return all, elapsed
}

// report adds the metrics that all benchmarks have. The time an operation took
// from start to end is of less interest than the rate, and left out.
func report(b *testing.B, took timings, elapsed time.Duration, used usage) float64 {
	b.Helper()
	n := float64(len(took))
	rate := n / elapsed.Seconds()
	b.ReportMetric(0, "ns/op") // 0 hides it
	b.ReportMetric(rate, "ops/s")
	b.ReportMetric(float64(used.cpu.Microseconds())/n, "cpu-us/op")
	b.ReportMetric(millis(took.quantile(0.5)), "p50-ms")
	b.ReportMetric(millis(took.quantile(0.99)), "p99-ms")
	return rate
}
