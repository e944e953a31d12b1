package systemtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carillon/internal/memtest"
)

// pipeRun is how long the bare pipe is measured.
const pipeRun = 4 * time.Second

// noise is size bytes of WAV: a valid header and samples that no compression
// shortens, different for every seed.
func noise(size int, seed uint64) []byte {
	p := make([]byte, size)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	_, _ = rand.NewChaCha8(key).Read(p) // never fails
	copy(p, wavHeader(size-wavHeaderBytes, 8000, 1))
	return p
}

const wavHeaderBytes = 44

// wavHeader is the canonical header of 16 bit PCM.
func wavHeader(dataBytes, rate, channels int) []byte {
	h := make([]byte, 0, wavHeaderBytes)
	put32 := func(v int) { h = binary.LittleEndian.AppendUint32(h, uint32(v)) }
	put16 := func(v int) { h = binary.LittleEndian.AppendUint16(h, uint16(v)) }
	h = append(h, "RIFF"...)
	put32(36 + dataBytes)
	h = append(h, "WAVEfmt "...)
	put32(16)
	put16(1)
	put16(channels)
	put32(rate)
	put32(rate * channels * 2)
	put16(channels * 2)
	put16(16)
	h = append(h, "data"...)
	put32(dataBytes)
	return h
}

// BenchmarkPut stores items over HTTP: the write path from a client's socket
// to a majority's disks. The bare pipe runs first, at its best and with as many in
// flight as there are writers.
func BenchmarkPut(b *testing.B) {
	const writers = 8
	pipes := map[int]float64{} // rate by proposals in flight
	for _, inFlight := range []int{pipeInFlightMax, writers} {
		b.Run(fmt.Sprintf("pipe-64KiB-%d", inFlight), func(b *testing.B) {
			pipes[inFlight] = benchPipe(b, 64<<10, inFlight)
		})
	}
	c := Start(b, 3, nil)
	for _, load := range []struct {
		name          string
		size, writers int
	}{
		{"64KiB-8", 64 << 10, writers},
		{"64KiB-1", 64 << 10, 1},
		{"1MiB-8", 1 << 20, writers},
		{"64KiB-32", 64 << 10, pipeInFlightMax}, // last: it fills the stores
	} {
		b.Run(load.name, func(b *testing.B) {
			rate := benchPut(b, c, load.name, load.size, load.writers)
			if load.size != 64<<10 || load.writers == 1 {
				return
			}
			for inFlight, pipe := range pipes {
				b.ReportMetric(rate/pipe, fmt.Sprintf("x-pipe-%d", inFlight))
			}
		})
	}
}

// benchPipe measures the bare pipe. It is one operation for the benchmark.
func benchPipe(b *testing.B, size, inFlight int) float64 {
	b.Helper()
	memtest.Warm(b)
	p := startPipe(b)
	defer p.close()
	var rate float64
	for b.Loop() {
		result, used := p.run(size, inFlight, pipeRun)
		ops := float64(result.Ops)
		rate = ops / result.Seconds
		b.ReportMetric(rate, "ops/s")
		b.ReportMetric(float64(used.cpu.Microseconds())/ops, "cpu-us/op")
		b.ReportMetric(millis(result.P50), "p50-ms")
		b.ReportMetric(millis(result.PL), "p99-ms")
		b.ReportMetric(float64(used.written)/pipeNodes/ops/float64(size), "written/byte")
		b.ReportMetric(rate*float64(size)/1e6, "MB/s")
	}
	b.ReportMetric(0, "ns/op")
	return rate
}

// writer is one client of the write benchmarks.
type writer struct {
	*rawClient
	host string
	body []byte
}

func benchPut(b *testing.B, c *Cluster, name string, size, writers int) float64 {
	b.Helper()
	memtest.Warm(b)
	clients := make([]*writer, writers)
	for i := range clients {
		host := strings.TrimPrefix(c.Node(i).HTTP, "http://")
		raw, err := dialRaw(host)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = raw.Close() })
		clients[i] = &writer{raw, host, noise(size, uint64(i))}
	}
	op := func(w, turn int) (time.Duration, error) {
		return clients[w].put(fmt.Sprintf("/media/bench/%s/%d.wav", name, turn), turn)
	}
	var before usage
	var entries uint64
	stop := func() {}
	took, elapsed := measure(b, writers, op, func() {
		entries = c.Entries()
		before = c.Usage()
		stop = c.profile(b, "put-"+name)
	})
	used := c.Usage().minus(before)
	stop()
	rate := report(b, took, elapsed, used)
	b.ReportMetric(rate*float64(size)/1e6, "MB/s")
	b.ReportMetric(float64(used.written)/3/float64(len(took)*size), "written/byte")
	b.ReportMetric(float64(c.Entries()-entries)/float64(len(took)), "entries/op")
	c.checkStored(b, clients, name)
	return rate
}

// put stores one new item.
func (w *writer) put(path string, turn int) (time.Duration, error) {
	binary.LittleEndian.PutUint64(w.body[wavHeaderBytes:], uint64(turn))
	head := fmt.Appendf(nil, "PUT %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: audio/x-wav\r\nContent-Length: %d\r\n\r\n", path, w.host, testToken, len(w.body))
	start := time.Now()
	a, err := w.send(head, w.body)
	if err == nil {
		err = a.want(http.StatusCreated)
	}
	if err == nil {
		err = w.skip(a.length)
	}
	return time.Since(start), err
}

// checkStored reads the first items back, from another node each.
func (c *Cluster) checkStored(b *testing.B, clients []*writer, name string) {
	b.Helper()
	for turn := range warmUpOps {
		path := fmt.Sprintf("/media/bench/%s/%d.wav", name, turn)
		resp, got, err := c.Node(turn+1).do(b.Context(), http.MethodGet, path, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			b.Fatalf("item %d: %v %v", turn, resp, err)
		}
		if stamp := binary.LittleEndian.Uint64(got[wavHeaderBytes:]); stamp != uint64(turn) {
			b.Fatalf("item %d holds the bytes of item %d", turn, stamp)
		}
		found := false
		for _, w := range clients {
			found = found || len(got) == len(w.body) &&
				bytes.Equal(got[wavHeaderBytes+8:], w.body[wavHeaderBytes+8:])
		}
		if !found {
			b.Fatalf("item %d has %d bytes that nobody sent", turn, len(got))
		}
	}
}

// Sizes of the read benchmarks: random keys of a set that fits the page cache.
const (
	getItems      = 256
	getBytes      = 64 << 10
	rangeItems    = 32
	rangeOfBytes  = 1 << 20
	rangeBytes    = 16 << 10
	getReaders    = 8
	seedsOfRanges = 1 << 20
)

// BenchmarkGet plays stored items: 64 KiB whole, and 16 KiB of 1 MiB, from one
// node and over all three; next to nginx with the same files.
func BenchmarkGet(b *testing.B) {
	root := b.TempDir()
	c := Start(b, 3, nil)
	items, large := make([][]byte, getItems), make([][]byte, rangeItems)
	for i := range items {
		items[i] = noise(getBytes, uint64(i))
	}
	for i := range large {
		large[i] = noise(rangeOfBytes, uint64(seedsOfRanges+i))
	}
	for _, set := range []struct {
		name  string
		items [][]byte
	}{{"64k", items}, {"1m", large}} {
		for i, body := range set.items {
			id := fmt.Sprintf("%s-%d.wav", set.name, i)
			c.Node(i).put("bench", id, body)
			file := filepath.Join(root, "media", "bench", id)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(file, body, 0o600); err != nil {
				b.Fatal(err)
			}
		}
	}
	host := func(i int) string { return strings.TrimPrefix(c.Node(i).HTTP, "http://") }
	ng := startNginx(b, root)
	nginxUsage := func() usage { return ng.usage(b) }
	for _, target := range []struct {
		name    string
		addrs   []string
		usage   func() usage
		profile func(tb testing.TB, name string) func()
	}{
		{"carillon-1node", []string{host(0)}, c.Usage, c.profile},
		{"carillon-3nodes", []string{host(0), host(1), host(2)}, c.Usage, c.profile},
		{"nginx", []string{ng.addr}, nginxUsage, func(testing.TB, string) func() { return func() {} }},
	} {
		b.Run("64KiB/"+target.name, func(b *testing.B) {
			stop := target.profile(b, "get-"+target.name)
			benchGet(b, target.addrs, target.usage, "64k", items, getBytes)
			stop()
		})
		b.Run("range16KiB/"+target.name, func(b *testing.B) {
			stop := target.profile(b, "range-"+target.name)
			benchGet(b, target.addrs, target.usage, "1m", large, rangeBytes)
			stop()
		})
	}
}

func benchGet(b *testing.B, addrs []string, use func() usage, set string, items [][]byte, length int) {
	b.Helper()
	clients := make([]*rawClient, getReaders)
	buffers := make([][]byte, getReaders)
	for i := range clients {
		raw, err := dialRaw(addrs[i%len(addrs)])
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = raw.Close() })
		clients[i], buffers[i] = raw, make([]byte, length)
	}
	op := func(w, turn int) (time.Duration, error) {
		key := rand.IntN(len(items))
		want, extra, status := items[key], "", http.StatusOK
		if length < len(want) {
			from := rand.IntN(len(want) - length)
			want = want[from : from+length]
			extra, status = fmt.Sprintf("Range: bytes=%d-%d\r\n", from, from+length-1), http.StatusPartialContent
		}
		head := fmt.Appendf(nil, "GET /media/bench/%s-%d.wav HTTP/1.1\r\nHost: x\r\n%s\r\n", set, key, extra)
		start := time.Now()
		a, err := clients[w].send(head, nil)
		if err != nil {
			return 0, err
		}
		if err := a.want(status); err != nil || a.length != length {
			return 0, fmt.Errorf("%d bytes: %w", a.length, err)
		}
		if err := clients[w].body(buffers[w]); err != nil {
			return 0, err
		}
		return a.first.Sub(start), sampledEqual(buffers[w], want, turn)
	}
	var before usage
	took, elapsed := measure(b, getReaders, op, func() { before = use() })
	rate := report(b, took, elapsed, use().minus(before)) // p50 and p99 are of the first byte
	b.ReportMetric(rate*float64(length)/1e6, "MB/s")
}
