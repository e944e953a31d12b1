package shoutd

import (
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"carillon/audio"
	"carillon/library"
)

// TestArrival: a thousand sources within two seconds are accepted, and what they
// bring is kept. How fast each is answered is measured by BenchmarkShout.
func TestArrival(t *testing.T) {
	const sources, within = 1000, 2 * time.Second
	d := openDoor(t, Config{})
	tick := time.NewTicker(within / sources)
	defer tick.Stop()
	var wg sync.WaitGroup
	for i := range sources {
		<-tick.C
		wg.Go(func() {
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
			_, _ = c.Write(make([]byte, 288))
		})
	}
	wg.Wait()
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
	const listeners, bytesMax = 500, raceFactor * 16 << 10
	for _, target := range []string{"/acme/long.mp3", "/acme/call.mp3"} {
		d := openDoor(t, Config{})
		d.lib.put("long.mp3", audio.FormatMP3, noise(8<<20))
		src, s := d.live(t)
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

// processCPU is what this process used.
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
// iteration, in real time, from a process of their own; CPU is the server's.
// A bare loop of reads from as many sockets is the floor of a server that is
// woken for every packet.
func BenchmarkSources(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				wg.Go(func() {
					defer func() { _ = c.Close() }()
					_, _ = io.WriteString(c, answerSource)
					buf := make([]byte, inputBytes)
					for err = nil; err == nil; {
						_, err = c.Read(buf)
					}
				})
			}
		})
		underLoad(b, senderMode, ln.Addr().String())
		_ = ln.Close()
		wg.Wait()
	})
	b.Run("shoutd", func(b *testing.B) {
		d := openDoor(b, Config{})
		d.lib.toss = true
		underLoad(b, senderMode, d.Addr().String())
	})
}

// underLoad runs the load for b.N seconds and reports this process's CPU per
// stream and second.
func underLoad(b *testing.B, mode, addr string) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), loadVariable+"="+mode+" "+addr)
	cmd.Stderr = os.Stderr
	stop, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		b.Fatal("load:", err)
	}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	before := processCPU(b)
	b.ResetTimer()
	for range b.N {
		<-second.C
	}
	b.StopTimer()
	used := processCPU(b) - before
	b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(b.N*loadStreams), "server-cpu-µs/stream-s")
	_ = stop.Close()
	if err := cmd.Wait(); err != nil {
		b.Error("load:", err)
	}
}

// BenchmarkListeners has a thousand listeners in a process of their own follow
// one live recording; CPU is the server's.
func BenchmarkListeners(b *testing.B) {
	d := openDoor(b, Config{})
	src, s := d.live(b)
	_ = src.SetDeadline(time.Time{})
	src.send(strings.Repeat("x", 8000))
	until(b, "lead", func() bool { return s.count() == 8000 })
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(loadTick)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = src.Write(make([]byte, loadBytes))
			case <-done:
				return
			}
		}
	})
	underLoad(b, listenerMode, d.Addr().String())
	close(done)
	wg.Wait()
}

// What the test binary does instead of testing.
const (
	loadVariable = "SHOUTD_TEST_LOAD"
	senderMode   = "send"
	listenerMode = "listen"
)

// runLoad is the other process of a benchmark: loadStreams clients until the
// end of its standard input. A byte on standard output says that all are
// connected. Its exit closes them.
func runLoad(mode, addr string) error {
	conns := make([]net.Conn, loadStreams)
	for i := range conns {
		c, err := net.DialTimeout("tcp", addr, testWait)
		if err != nil {
			return err
		}
		request := "GET /acme/call.mp3 HTTP/1.0\r\n\r\n"
		if mode == senderMode {
			request = "SOURCE /" + strconv.Itoa(i) + ".mp3 HTTP/1.0\r\n" + authorization + "\r\n"
		}
		if _, err := io.WriteString(c, request); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, make([]byte, len(answerSource))); err != nil {
			return err
		}
		conns[i] = c
	}
	if _, err := os.Stdout.WriteString("."); err != nil {
		return err
	}
	if mode == senderMode {
		go sendAll(conns)
	} else {
		for _, c := range conns {
			go func() {
				_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 4096))
			}()
		}
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// sendAll writes to all connections in real time, spread over each tick.
func sendAll(conns []net.Conn) {
	const parts = 20
	tick := time.NewTicker(loadTick / parts)
	defer tick.Stop()
	for i := 0; ; i++ {
		<-tick.C
		for j := i % parts; j < len(conns); j += parts {
			if _, err := conns[j].Write(make([]byte, loadBytes)); err != nil {
				return
			}
		}
	}
}
