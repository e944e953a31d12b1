package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carillon/internal/memtest"
)

const (
	// catchUpMiB is what a new node fetches; CARILLON_BENCH_MIB sets another.
	catchUpMiB = 2048
	// catchUpItem is a long recording's part: most of a store are such.
	catchUpItem = 16 << 20
)

// BenchmarkCatchUp lets a new node fetch 2 GiB while clients write, and compares
// with a copy of as many bytes from a file over loopback TCP into a file that is
// fsynced, in the same run: "ratio" is the rate from the first blob that it asks
// for until it is ready by the copy's. join-s is what came before: gossip, and
// the pause and the steps of a node that joins, which no size changes. The
// memory is warm for both, or the first touch of it is what both take longest for. cpu-s is
// the processor time of both nodes, copy-cpu-s that of the copy.
func BenchmarkCatchUp(b *testing.B) {
	total := int64(envInt(b, "CARILLON_BENCH_MIB", catchUpMiB)) << 20
	for range b.N {
		b.StopTimer()
		memtest.Warm(b)
		bare, copied := copyRate(b, total)
		nodes := startCluster(b, 1, func(c *Config) {
			c.Shards, c.ElectionWait = ShardsDefault, ElectionWaitDefault
		})
		body := noise(1, catchUpItem)
		for at := int64(0); at < total; at += catchUpItem {
			if _, err := upload(b.Context(), nodes[0], fmt.Sprintf("k%d", at), body); err != nil {
				b.Fatal(err)
			}
		}
		for _, g := range nodes[0].groups() {
			g.trailing.mu.Lock()
			g.trailing.sizes, g.trailing.next = nil, 0 // the log keeps the least
			g.trailing.mu.Unlock()
			g.snapshot(true)
		}
		memtest.Warm(b)
		ctx, stop := context.WithCancel(b.Context())
		written := make(chan int)
		go func() { written <- writeOn(ctx, nodes[0]) }()
		b.StartTimer()
		begun, cpu := time.Now(), processCPU(b)
		dir := filepath.Join(b.TempDir(), "new")
		if err := os.Mkdir(dir, 0o700); err != nil {
			b.Fatal(err)
		}
		cfg := nodes[0].cfg
		cfg.Seeds, cfg.Expect = []string{nodes[0].GossipAddr()}, 2 // or it would found another cluster
		n := openNode(b, dir, cfg, Deps{})
		b.Cleanup(func() { n.close(b) })
		for n.fetching.status(time.Now()) == nil {
			pause(b.Context(), time.Millisecond)
		}
		joined := time.Since(begun)
		for n.Ready() != nil {
			pause(b.Context(), 10*time.Millisecond)
		}
		took := time.Since(begun) - joined
		cpu = processCPU(b) - cpu
		b.StopTimer()
		stop()
		items := <-written
		if got := n.blobs.Stats().Bytes; got < total {
			b.Fatalf("ready with %d of %d bytes", got, total)
		}
		rate := float64(total) / took.Seconds() / (1 << 20)
		b.ReportMetric(rate, "MiB/s")
		b.ReportMetric(bare, "copy-MiB/s")
		b.ReportMetric(rate/bare, "ratio")
		b.ReportMetric(joined.Seconds(), "join-s")
		b.ReportMetric(cpu.Seconds(), "cpu-s")
		b.ReportMetric(copied.Seconds(), "copy-cpu-s")
		b.ReportMetric(float64(items)/(joined+took).Seconds(), "writes/s")
	}
}

// processCPU is the processor time that this process has used.
func processCPU(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// writeOn stores small items until ctx ends and says how many.
func writeOn(ctx context.Context, n *testNode) int {
	body := noise(2, 64<<10)
	for i := 0; ; i++ {
		if _, err := upload(ctx, n, fmt.Sprintf("w%d", i), body); err != nil && ctx.Err() != nil {
			return i
		}
		if !pause(ctx, 20*time.Millisecond) {
			return i
		}
	}
}

// copyRate copies bytes from a file over TCP into another and syncs it: MiB a
// second, and the processor time.
func copyRate(b *testing.B, total int64) (rate float64, cpu time.Duration) {
	b.Helper()
	dir := b.TempDir()
	from, err := os.Create(filepath.Join(dir, "from"))
	if err != nil {
		b.Fatal(err)
	}
	body := noise(3, catchUpItem)
	for at := int64(0); at < total; at += catchUpItem {
		if _, err := from.Write(body); err != nil {
			b.Fatal(err)
		}
	}
	if err = errors.Join(from.Sync(), from.Close()); err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { sent <- sendFile(ln, from.Name()) }()
	begun, used := time.Now(), processCPU(b)
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	to, err := os.Create(filepath.Join(dir, "to"))
	if err != nil {
		b.Fatal(err)
	}
	n, err := io.Copy(to, conn)
	if err = errors.Join(err, to.Sync(), to.Close(), <-sent, ln.Close()); err != nil || n != total {
		b.Fatalf("copied %d bytes: %v", n, err)
	}
	rate, cpu = float64(total)/time.Since(begun).Seconds()/(1<<20), processCPU(b)-used
	if err := errors.Join(os.Remove(from.Name()), os.Remove(to.Name())); err != nil {
		b.Fatal(err)
	}
	return rate, cpu
}

func sendFile(ln net.Listener, path string) error {
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	_, err = io.Copy(conn, f)
	return errors.Join(err, f.Close(), conn.Close())
}
