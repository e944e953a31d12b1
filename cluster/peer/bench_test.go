package peer

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const kindSwallow = 4

// BenchmarkCall is a round trip of a request that is answered with 16 bytes,
// alone and with 16 callers at once.
func BenchmarkCall(b *testing.B) {
	for name, s := range map[string][]byte{"plain": nil, "tls": secret()} {
		for _, size := range []int{100, 64 << 10, 256 << 10} {
			for _, callers := range []int{1, 16} {
				b.Run(fmt.Sprintf("%s/%dB/%d", name, size, callers), func(b *testing.B) {
					benchCall(b, s, size, callers)
				})
			}
		}
	}
}

func benchCall(b *testing.B, s []byte, size, callers int) {
	b.Helper()
	w := newWorld(b, s)
	from, to := w.open("a"), w.open("b")
	answer := make([]byte, 16)
	to.Handle(kindSwallow, func(context.Context, string, []byte) ([]byte, error) { return answer, nil })
	head, body := make([]byte, 32), make([]byte, size-32)
	ctx := b.Context()
	if _, err := from.Call(ctx, "b", kindSwallow, head, body); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	begin := cpuTime(b)
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error, callers)
	for range callers {
		go func() {
			for left.Add(-1) >= 0 {
				if _, err := from.Call(ctx, "b", kindSwallow, head, body); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range callers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime(b)-begin).Nanoseconds())/float64(b.N)/1000, "cpu-µs/op")
}

// cpuTime is what counts on a machine with few cores; both ends are in it.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
