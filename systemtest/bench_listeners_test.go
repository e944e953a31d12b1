package systemtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon/internal/memtest"
)

// BenchmarkListeners is the load of the project's promise for playing: many
// real-time listeners at 64 kbit/s on one live mount, on a continuous stream
// and on stored items, beside Icecast and nginx doing the same work.
// SYSTEMTEST_LISTENERS ("1000,4000") and SYSTEMTEST_LISTEN_SECONDS change it.
func BenchmarkListeners(b *testing.B) {
	for _, n := range listenerCounts(b) {
		load := listenLoad{listeners: n, arrival: 2 * time.Second, window: listenSeconds(b)}
		b.Run(fmt.Sprintf("live/%d/carillon", n), func(b *testing.B) { benchLive(b, load, false) })
		b.Run(fmt.Sprintf("live-icy/%d/carillon", n), func(b *testing.B) { benchLive(b, load, true) })
		b.Run(fmt.Sprintf("live/%d/icecast", n), func(b *testing.B) { benchIcecast(b, load) })
		b.Run(fmt.Sprintf("extant/%d/carillon", n), func(b *testing.B) { benchExtant(b, load) })
		b.Run(fmt.Sprintf("stored/%d/carillon-http", n), func(b *testing.B) { benchStored(b, load, true) })
		b.Run(fmt.Sprintf("stored/%d/carillon-shout", n), func(b *testing.B) { benchStored(b, load, false) })
		b.Run(fmt.Sprintf("stored/%d/nginx", n), func(b *testing.B) { benchNginx(b, load) })
	}
}

// newcomers come one by one when all others have been there for long.
const (
	newcomers     = 300
	newcomerEvery = 10 * time.Millisecond
)

// storedSlack: who paces himself is never ahead, and on a busy machine late; by
// so much means that the server did not keep up.
const storedSlack = 2 * time.Second

// idleWindow is how long nobody listens: a node of 10 ms of processor time a second
// shows to a tenth of that.
const idleWindow = 10 * time.Second

// listenLoad says how many listeners come in which time and how long they are
// measured.
type listenLoad struct {
	listeners       int
	arrival, window time.Duration
	stored          bool // they pace themselves
	icy             bool
}

func listenerCounts(b *testing.B) []int {
	b.Helper()
	var counts []int
	text := os.Getenv("SYSTEMTEST_LISTENERS")
	if text == "" {
		text = "1000,4000"
	}
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil {
			b.Fatal(err)
		}
		counts = append(counts, n)
	}
	return counts
}

func listenSeconds(b *testing.B) time.Duration {
	b.Helper()
	text := os.Getenv("SYSTEMTEST_LISTEN_SECONDS")
	if text == "" {
		return 30 * time.Second
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(n) * time.Second
}

// listenResult is what came of it.
type listenResult struct {
	mu      sync.Mutex // guards the fields below, while listeners run
	first   timings
	refused []error
	dropped []error
	dry     int
	bytes   int64
}

// runListeners measures the server while nobody listens, lets them come, measures it
// while they are all there, lets newcomers come to them, and reports. What a listener
// costs is reported with his share of the idle server in it, and without, as his own.
func runListeners(b *testing.B, load listenLoad, url func(i int) string, used func() usage) {
	b.Helper()
	memtest.Warm(b)
	result := &listenResult{}
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	atFirst := used()
	pause(ctx, idleWindow)
	before := used()
	idle := before.minus(atFirst).cpu.Seconds() / idleWindow.Seconds() * 1000
	b.ReportMetric(idle, "idle-ms/s")
	var wg sync.WaitGroup
	began := time.Now()
	for i := range load.listeners {
		pause(ctx, time.Until(began.Add(load.arrival*time.Duration(i)/time.Duration(load.listeners))))
		wg.Go(func() { result.listen(ctx, url(i), load) })
	}
	pause(ctx, joinSettle)
	start, startedAt := used(), time.Now()
	pause(ctx, load.window)
	took := time.Since(startedAt).Seconds()
	end := used()
	result.mu.Lock()
	here := load.listeners - len(result.refused) - len(result.dropped)
	result.mu.Unlock()
	late := &listenResult{}
	for i := range newcomers {
		wg.Go(func() { late.listen(ctx, url(i), load) })
		pause(ctx, newcomerEvery)
	}
	pause(ctx, joinSettle)
	stop()
	wg.Wait()
	if len(late.first) < newcomers {
		b.Errorf("%d of %d newcomers heard something", len(late.first), newcomers)
	}
	cpu := end.minus(start).cpu.Seconds() / took / float64(max(here, 1)) * 1000
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(cpu, "cpu-ms/listener-s")
	b.ReportMetric(cpu-idle/float64(max(here, 1)), "own-ms/listener-s")
	b.ReportMetric(millis(start.minus(before).cpu)/float64(max(here, 1)), "cpu-ms/arrival")
	b.ReportMetric(float64(end.rss-before.rss)/1024/float64(max(here, 1)), "rss-KiB/listener")
	b.ReportMetric(float64(end.anon-before.anon)/1024/float64(max(here, 1)), "anon-KiB/listener")
	b.ReportMetric(millis(result.first.quantile(0.5)), "first-p50-ms")
	b.ReportMetric(millis(result.first.quantile(0.99)), "first-p99-ms")
	b.ReportMetric(millis(late.first.quantile(0.99)), "newcomer-p99-ms")
	b.ReportMetric(float64(len(result.refused)), "refused")
	b.ReportMetric(float64(len(result.dropped)), "dropped")
	b.ReportMetric(float64(result.dry), "ran-dry")
	for i, err := range append(result.refused, result.dropped...) {
		if i == shownFailures {
			break
		}
		b.Log(err)
	}
}

// listen hears until ctx ends. A player that began with the first byte must
// never run dry.
func (r *listenResult) listen(ctx context.Context, url string, load listenLoad) {
	conn, began, err := r.join(ctx, url, load)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.refused = append(r.refused, err)
		return
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	buf := make([]byte, listenerBufferBytes)
	var first time.Time
	got, dry := int64(0), false
	for {
		n, err := conn.Read(buf)
		now := time.Now()
		if n > 0 && first.IsZero() {
			first = now
			r.mu.Lock()
			r.first = append(r.first, now.Sub(began))
			r.mu.Unlock()
		}
		heard := now.Sub(first)
		if load.stored {
			heard -= storedSlack
		}
		dry = dry || n > 0 && float64(got) < heard.Seconds()*float64(music().bytesPerSecond())
		got += int64(n)
		if err != nil {
			if ctx.Err() != nil {
				err = nil
			}
			r.left(got, dry, err)
			return
		}
		if load.stored {
			due := first.Add(time.Duration(float64(got) / float64(music().bytesPerSecond()) * float64(time.Second)))
			if time.Until(due) > paceEvery {
				pause(ctx, paceEvery)
			}
		}
	}
}

// left counts a listener that has ended; an error means that it was not his
// time.
func (r *listenResult) left(got int64, dry bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes += got
	if dry {
		r.dry++
	}
	if err != nil {
		r.dropped = append(r.dropped, fmt.Errorf("after %d bytes: %w", got, err))
	}
}

func (r *listenResult) join(ctx context.Context, url string, load listenLoad) (net.Conn, time.Time, error) {
	began := time.Now()
	rest := strings.TrimPrefix(url, "http://")
	addr, path, _ := strings.Cut(rest, "/")
	conn, err := dialListener(ctx, addr, load.stored)
	if err != nil {
		return nil, began, err
	}
	icy := ""
	if load.icy {
		icy = "Icy-MetaData: 1\r\n"
	}
	_, err = fmt.Fprintf(conn, "GET /%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: FreeSWITCH(mod_shout)/1.0\r\n"+
		"Accept: */*\r\n%s\r\n", path, addr, icy)
	if err != nil {
		return nil, began, errors.Join(err, conn.Close())
	}
	head, err := readHead(conn)
	if err == nil && !strings.Contains(string(head[:min(len(head), 13)]), " 200") {
		err = fmt.Errorf("%w: %.60q", errRawStatus, head)
	}
	if err != nil {
		return nil, began, errors.Join(err, conn.Close())
	}
	return conn, began, nil
}

// oneSource sends 64 kbit/s to a mount until the benchmark ends.
func oneSource(b *testing.B, target shoutTarget) {
	b.Helper()
	src := &loadSource{loop: loop{music().frames(loopFrames, 5), 0}}
	if err := src.connect(b.Context(), target, 0); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(sourceEvery)
		defer tick.Stop()
		for sent, began := int64(0), time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for due := int64(time.Since(began).Seconds() * float64(music().bytesPerSecond())); sent < due; {
				n, err := src.conn.Write(src.at(sent, int(due-sent)))
				if sent += int64(n); err != nil {
					return
				}
			}
		}
	})
	b.Cleanup(func() {
		stop()
		wg.Wait()
		_ = src.conn.Close()
	})
	pause(b.Context(), leadFirst) // listeners of a younger recording are held
}

func benchLive(b *testing.B, load listenLoad, icy bool) {
	b.Helper()
	load.icy = icy
	c := Start(b, 1, nil)
	rec := c.Node(0).ticket("load", "live.mp3")
	user, password, mount := rec.login(b)
	oneSource(b, shoutTarget{source: func(int) (string, string, string, string) {
		return c.Node(0).Shout, user, password, mount
	}})
	stop := c.profile(b, "live")
	defer stop()
	for b.Loop() {
		runListeners(b, load, func(int) string {
			return "http://" + c.Node(0).Shout + "/load/live.mp3?from=now"
		}, c.Usage)
	}
}

func benchExtant(b *testing.B, load listenLoad) {
	b.Helper()
	c := Start(b, 1, nil)
	c.Node(0).put("load", "song.mp3", music().frames(10_000, 3))
	stop := c.profile(b, "extant")
	defer stop()
	for b.Loop() {
		runListeners(b, load, func(int) string {
			return "http://" + c.Node(0).Shout + "/load/song.mp3?stream=extant&rate=16000"
		}, c.Usage)
	}
}

func benchIcecast(b *testing.B, load listenLoad) {
	b.Helper()
	server := startIcecast(b, 1)
	oneSource(b, server.target(b))
	for b.Loop() {
		runListeners(b, load, func(int) string { return "http://" + server.addr + "/load-0.mp3" },
			func() usage { return usageOf(b, server.cmd.Process.Pid) })
	}
}

// storedBody is long enough for every listener of a run.
func storedBody(load listenLoad) []byte {
	seconds := (load.window + load.arrival + 30*time.Second).Seconds()
	return music().frames(int(seconds*float64(music().bytesPerSecond()))/music().frameBytes, 4)
}

func benchStored(b *testing.B, load listenLoad, overHTTP bool) {
	b.Helper()
	load.stored = true
	c := Start(b, 1, nil)
	for i := range storedItems {
		c.Node(0).put("load", fmt.Sprintf("item-%d.mp3", i), storedBody(load))
	}
	pause(b.Context(), joinSettle) // or what the uploads leave behind is counted as theirs
	stop := c.profile(b, "stored")
	defer stop()
	for b.Loop() {
		runListeners(b, load, func(i int) string {
			path := fmt.Sprintf("/load/item-%d.mp3", i%storedItems)
			if overHTTP {
				return c.Node(0).HTTP + "/media" + path
			}
			return "http://" + c.Node(0).Shout + path
		}, c.Usage)
	}
}

func benchNginx(b *testing.B, load listenLoad) {
	b.Helper()
	load.stored = true
	root := b.TempDir()
	for i := range storedItems {
		name := filepath.Join(root, fmt.Sprintf("item-%d.mp3", i))
		if err := os.WriteFile(name, storedBody(load), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	n := startNginx(b, root)
	for b.Loop() {
		runListeners(b, load, func(i int) string {
			return fmt.Sprintf("http://%s/item-%d.mp3", n.addr, i%storedItems)
		}, func() usage { return n.usage(b) })
	}
}

// TestTimeToFirstByte: with real-time listeners running, who asks for a prompt
// is answered at once. The promise of 20 ms is the benchmark's, on an idle
// machine; here a call would notice.
func TestTimeToFirstByte(t *testing.T) {
	t.Parallel()
	const listeners, asks, callNotices = 50, 50, time.Second
	c := Start(t, 1, nil)
	s := makeSamples(t)
	c.Node(0).put("acme", "phone.wav", readFile(t, s.phone))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for range listeners {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet,
				"http://"+c.Node(0).Shout+"/acme/phone.mp3?stream=extant", nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		})
	}
	eventually(t, settleWait, "listeners", func() error {
		n, err := c.Node(0).metric(t.Context(), "carillon_audience_listeners")
		if err == nil && n != listeners {
			err = fmt.Errorf("%w: %v listeners", errRawBody, n)
		}
		return err
	})
	var slowest time.Duration
	for range asks {
		began := time.Now()
		if _, err := hear(ctx, c.Node(0).HTTP+"/media/acme/phone.r8", 1000); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
	}
	if slowest > callNotices {
		t.Errorf("a first byte took %v", slowest)
	}
}
