package streamserver

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"carillon/audio"
	"carillon/internal/web"
)

// clientEnv makes the test binary a load generator: a process of its own, so
// that the CPU time of this one is the server's alone. Its value is
// "address readers requests path range connections".
const clientEnv = "CARILLON_BENCH_CLIENT"

// BenchmarkGet plays a stored item over real loopback TCP with keep-alive
// clients in another process: server CPU per request, rate, and time to first
// byte. The library is a fake: this is what the door itself costs.
func BenchmarkGet(b *testing.B) {
	const item = 64 << 10
	for _, bm := range []struct {
		name    string
		size    int
		ranged  string
		readers int
	}{
		{"64KiB", item, "-", 8},
		{"1MiB", 1 << 20, "-", 8},
		{"1MiB/new", 1 << 20, "-", 8},
		{"20MiB/new", 20 << 20, "-", 2},
		{"range16KiBof1MiB", 1 << 20, "bytes=524288-540671", 8},
	} {
		b.Run(bm.name, func(b *testing.B) {
			n := newNode(b, newFake(), web.Config{})
			n.fake.store("x.wav", audio.FormatWAV, sound(bm.size))
			measure(b, n.addr, "/media/acc/x.wav", bm.ranged, bm.readers, strings.HasSuffix(bm.name, "/new"))
		})
	}
}

// measure runs the load generator for b.N requests, over readers connections or
// fresh ones, and reports.
func measure(b *testing.B, addr, path, ranged string, readers int, fresh bool) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestLoadGenerator$")
	cmd.Env = append(os.Environ(),
		fmt.Sprintf("%s=%s %d %d %s %s %v", clientEnv, addr, readers, b.N, path, ranged, fresh))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("load generator: %v\n%s", err, out)
	}
	used := cpuTime(b) - before
	b.StopTimer()
	var p50, p99, took int64
	if _, err := fmt.Sscan(string(out), &p50, &p99, &took); err != nil {
		b.Fatalf("load generator said %q: %v", out, err)
	}
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N)/1e3, "server-µs/op")
	b.ReportMetric(float64(b.N)/(float64(took)/1e9), "req/s")
	b.ReportMetric(float64(p50)/1e6, "first-byte-p50-ms")
	b.ReportMetric(float64(p99)/1e6, "first-byte-p99-ms")
}

// cpuTime is the user and system time of this process.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// TestLoadGenerator is the other process; as a test it has nothing to do.
func TestLoadGenerator(t *testing.T) {
	spec := os.Getenv(clientEnv)
	if spec == "" {
		return
	}
	if err := generateLoad(os.Stdout, spec); err != nil {
		t.Fatal(err)
	}
}

// generateLoad prints the 50th and 99th percentile of the time to first byte
// and the whole time, in nanoseconds.
func generateLoad(out io.Writer, spec string) error {
	f := strings.Fields(spec)
	if len(f) != 6 {
		return fmt.Errorf("bad %s: %q", clientEnv, spec)
	}
	readers, _ := strconv.Atoi(f[1])
	total, _ := strconv.Atoi(f[2])
	request := "GET " + f[3] + " HTTP/1.1\r\nHost: bench\r\n"
	if f[4] != "-" {
		request += "Range: " + f[4] + "\r\n"
	}
	request += "\r\n"
	var wg sync.WaitGroup
	firsts, errs := make([][]int64, readers), make([]error, readers)
	start := time.Now()
	for i := range readers {
		count := total / readers
		if i < total%readers {
			count++
		}
		wg.Go(func() { firsts[i], errs[i] = read(f[0], []byte(request), count, f[5] == "true") })
	}
	wg.Wait()
	took := time.Since(start)
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	all := slices.Concat(firsts...)
	slices.Sort(all)
	_, err := fmt.Fprintln(out, all[len(all)/2], all[len(all)*99/100], took.Nanoseconds())
	return err
}

// read sends requests one after the other and returns when the first byte of
// each answer came. It parses no more than it needs: a client that costs more
// than the server would measure itself.
func read(addr string, request []byte, count int, fresh bool) ([]int64, error) {
	if fresh {
		first := make([]int64, 0, count)
		for range count {
			one, err := read(addr, request, 1, false)
			if err != nil {
				return nil, err
			}
			first = append(first, one...)
		}
		return first, nil
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	r := bufio.NewReaderSize(c, 64<<10)
	first := make([]int64, 0, count)
	for range count {
		start := time.Now()
		if _, err := c.Write(request); err != nil {
			return nil, err
		}
		if _, err := r.Peek(1); err != nil {
			return nil, err
		}
		first = append(first, time.Since(start).Nanoseconds())
		length := -1
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return nil, err
			}
			if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				length, _ = strconv.Atoi(string(bytes.TrimSpace(v)))
			}
			if len(line) <= 2 {
				break
			}
		}
		if length <= 0 {
			return nil, fmt.Errorf("no body to %s", request)
		}
		if _, err := io.CopyN(io.Discard, r, int64(length)); err != nil {
			return nil, err
		}
	}
	return first, nil
}
