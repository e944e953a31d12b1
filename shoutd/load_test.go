package shoutd

import (
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"carillon/audio"
	"carillon/library"
)

// TestArrival: a thousand sources within two seconds are accepted, and each is
// answered at once.
func TestArrival(t *testing.T) {
	const sources, within, p99Max = 1000, 2 * time.Second, 50 * time.Millisecond
	d := openDoor(t, Config{})
	waits := make([]time.Duration, sources)
	tick := time.NewTicker(within / sources)
	defer tick.Stop()
	var wg sync.WaitGroup
	for i := range sources {
		<-tick.C
		wg.Go(func() {
			began := time.Now()
			c, err := net.DialTimeout("tcp", d.Addr().String(), testWait)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			_, _ = io.WriteString(c, "SOURCE /"+strconv.Itoa(i)+".mp3 HTTP/1.0\r\n"+authorization+"\r\n")
			answer := make([]byte, len(answerSource))
			if _, err := io.ReadFull(c, answer); err != nil || string(answer) != answerSource {
				t.Errorf("%q, %v", answer, err)
			}
			waits[i] = time.Since(began)
			_, _ = c.Write(make([]byte, 288))
		})
	}
	wg.Wait()
	slices.Sort(waits)
	t.Logf("source accepted: p50 %s, p99 %s, max %s", waits[sources/2], waits[sources*99/100], waits[sources-1])
	if waits[sources*99/100] > p99Max {
		t.Errorf("p99 %s", waits[sources*99/100])
	}
	for range sources {
		s := d.session(t)
		<-s.sealed
		if s.ending != library.EndedClean || s.count() != 288 {
			t.Errorf("ending %v, %d bytes", s.ending, s.count())
		}
	}
}

// TestWaitingListenersAreSmall: listeners that never read cost little while
// they are waited for, stacks included.
func TestWaitingListenersAreSmall(t *testing.T) {
	const listeners, bytesMax = 500, 16 << 10
	for _, target := range []string{"/acme/long.mp3", "/acme/call.mp3"} {
		d := openDoor(t, Config{})
		d.lib.put("long.mp3", audio.FormatMP3, noise(8<<20))
		src, s := d.live(t, "acme/call.mp3")
		src.send(string(noise(8 << 20)))
		until(t, "sound", func() bool { return s.count() == 8<<20 })
		before := inUse()
		for range listeners {
			c := d.dial(t)
			_ = c.SetReadBuffer(4 << 10)
			c.send("GET " + target + " HTTP/1.1\r\n\r\n")
		}
		until(t, "listeners", func() bool { return d.listenersLive() == listeners })
		// The clients of this test, bufio.Reader and all, are counted too.
		const clientBytes = 4096 + 512
		each := (int(inUse())-int(before))/listeners - clientBytes
		t.Logf("%s: %d bytes a waiting listener", target, each)
		if each > bytesMax {
			t.Errorf("%s: %d bytes a waiting listener", target, each)
		}
	}
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// processCPU is what this process used, client side included.
func processCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The load of the benchmarks: FreeSWITCH's 16 kbit/s in writes of 100 ms.
const (
	loadStreams = 1000
	loadBytes   = 200
	loadTick    = 100 * time.Millisecond
)

// BenchmarkSources has a thousand sources send one second of sound per
// iteration, in real time. The same bytes between bare sockets, in the same
// process, are the floor. CPU counts both ends.
func BenchmarkSources(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		var wg sync.WaitGroup
		defer wg.Wait()
		conns := make([]net.Conn, loadStreams)
		for i := range conns {
			if conns[i], err = net.Dial("tcp", ln.Addr().String()); err != nil {
				b.Fatal(err)
			}
			peer, err := ln.Accept()
			if err != nil {
				b.Fatal(err)
			}
			wg.Go(func() {
				_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{peer}, make([]byte, 4096))
			})
		}
		sendLoad(b, conns)
	})
	b.Run("shoutd", func(b *testing.B) {
		d := openDoor(b, Config{})
		conns := make([]net.Conn, loadStreams)
		for i := range conns {
			c, s := d.live(b, strconv.Itoa(i))
			_ = c.SetDeadline(time.Time{})
			conns[i] = c
			s.mu.Lock()
			s.toss = true
			s.mu.Unlock()
		}
		sendLoad(b, conns)
	})
}

// sendLoad writes to all connections in real time, spread over each tick, and
// reports CPU per source and second.
func sendLoad(b *testing.B, conns []net.Conn) {
	b.Helper()
	const slices = 20
	sound := make([]byte, loadBytes)
	tick := time.NewTicker(loadTick / slices)
	defer tick.Stop()
	before := processCPU(b)
	b.ResetTimer()
	for range b.N {
		for i := range int(time.Second/loadTick) * slices {
			<-tick.C
			for j := i % slices; j < len(conns); j += slices {
				if _, err := conns[j].Write(sound); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.StopTimer()
	used := processCPU(b) - before
	b.ReportMetric(float64(used.Microseconds())/float64(b.N*len(conns)), "cpu-µs/stream-s")
	for _, c := range conns {
		_ = c.Close()
	}
}

// BenchmarkListeners has a thousand listeners follow one live recording, one
// second of it per iteration. CPU counts both ends.
func BenchmarkListeners(b *testing.B) {
	d := openDoor(b, Config{})
	src, s := d.live(b, "acme/call.mp3")
	_ = src.SetDeadline(time.Time{})
	src.send(strings.Repeat("x", 8000))
	until(b, "lead", func() bool { return s.count() == 8000 })
	var wg sync.WaitGroup
	for range loadStreams {
		c := d.dial(b)
		resp := c.get("/acme/call.mp3")
		if resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status)
		}
		_ = c.SetDeadline(time.Time{})
		wg.Go(func() {
			_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c.TCPConn}, make([]byte, 4096))
		})
	}
	tick := time.NewTicker(loadTick)
	defer tick.Stop()
	before := processCPU(b)
	b.ResetTimer()
	for range b.N {
		for range int(time.Second / loadTick) {
			<-tick.C
			src.send(strings.Repeat("x", loadBytes))
		}
	}
	b.StopTimer()
	used := processCPU(b) - before
	b.ReportMetric(float64(used.Microseconds())/float64(b.N*loadStreams), "cpu-µs/stream-s")
	_ = src.Close()
	wg.Wait()
}
