package audience_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"carillon/internal/audience"
	"carillon/internal/ring"
	"carillon/internal/tcptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testPeriod = 15 * time.Millisecond
	testWait   = 20 * time.Second
	byteRate   = 8000
)

func open(t *testing.T, cfg audience.Config) *audience.Audience {
	t.Helper()
	return openWith(t, cfg, nil)
}

func openWith(t *testing.T, cfg audience.Config, registry prometheus.Registerer) *audience.Audience {
	t.Helper()
	cfg.Period = testPeriod
	a, err := audience.Open(cfg, registry)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// left is how a listener ended.
type left struct {
	bytes int64
	why   error
}

// join connects a client to a listener's place.
func join(t *testing.T, a *audience.Audience, l audience.Listener) (*net.TCPConn, chan left) {
	t.Helper()
	client, conn := tcptest.Pair(t)
	ended := make(chan left, 1)
	l.Conn = conn
	l.ByteRate = byteRate
	if l.BehindMax == 0 {
		l.BehindMax = time.Hour // no machine is too slow
	}
	l.Left = func(n int64, why error) { ended <- left{n, why} }
	if err := a.Add(l); err != nil {
		t.Fatal(err)
	}
	return client, ended
}

func noise(n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(p) // never fails
	return p
}

// feed appends in pieces, then ends.
func feed(r *ring.Ring, p []byte, pieces int, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := len(p)/pieces + 1; len(p) > 0; {
		k := min(n, len(p))
		r.Append(p[:k])
		p = p[k:]
		<-tick.C
	}
	r.End()
}

// Goal: many listeners who join anywhere hear every byte from there on, once.
func TestListeners(t *testing.T) {
	a := open(t, audience.Config{})
	sound := noise(300_000)
	r := ring.New(1<<20, 0)
	r.Append(sound[:50_000])
	type joined struct {
		client *net.TCPConn
		ended  chan left
		from   int
	}
	var all []joined
	for i := range 60 {
		from := i * 800
		c, ended := join(t, a, audience.Listener{Sound: r, Offset: int64(from)})
		all = append(all, joined{c, ended, from})
	}
	go feed(r, sound[50_000:], 40, 2*time.Millisecond)
	for _, j := range all {
		got, err := io.ReadAll(j.client)
		if err != nil || !bytes.Equal(got, sound[j.from:]) {
			t.Fatalf("from %d: %d bytes, %v", j.from, len(got), err)
		}
		_ = j.client.Close()
		if l := <-j.ended; l.why != nil || l.bytes != int64(len(got)) {
			t.Errorf("ended %+v", l)
		}
	}
}

// unICY takes the metadata blocks out of a stream.
func unICY(t *testing.T, p []byte) (sound []byte, titles []string) {
	t.Helper()
	for len(p) > audience.ICYInterval {
		sound = append(sound, p[:audience.ICYInterval]...)
		p = p[audience.ICYInterval:]
		n := 16 * int(p[0])
		if len(p) < 1+n {
			t.Fatalf("block of %d cut after %d", n, len(p)-1)
		}
		if n > 0 {
			titles = append(titles, strings.TrimRight(string(p[1:1+n]), "\x00"))
		}
		p = p[1+n:]
	}
	return append(sound, p...), titles
}

// Goal: metadata come where they were announced, to the last block, once for
// each title, also to a listener who takes little at a time.
func TestMetadata(t *testing.T) {
	a := open(t, audience.Config{})
	sound := noise(500_000)
	r := ring.New(1<<20, 0)
	r.SetTitle("it's one")
	r.Append(sound[:100_000])
	c, _ := join(t, a, audience.Listener{Sound: r, Metadata: true})
	if err := c.SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	go func() {
		<-time.After(4 * testPeriod)
		r.SetTitle("two\r\n")
		feed(r, sound[100_000:], 20, 5*time.Millisecond)
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	heard, titles := unICY(t, got)
	if !bytes.Equal(heard, sound) {
		t.Errorf("%d bytes of sound, want %d", len(heard), len(sound))
	}
	want := "[StreamTitle='it’s one'; StreamTitle='two';]"
	if fmt.Sprint(titles) != want {
		t.Errorf("titles %q, want %s", titles, want)
	}
}

// Goal: chunks are well formed and end in order.
func TestChunked(t *testing.T) {
	a := open(t, audience.Config{})
	for _, metadata := range []bool{false, true} {
		sound := noise(200_000)
		r := ring.New(1<<20, 0)
		r.SetTitle("x")
		r.Append(sound[:1])
		c, ended := join(t, a, audience.Listener{Sound: r, Chunked: true, Metadata: metadata})
		go feed(r, sound[1:], 30, 3*time.Millisecond)
		head := strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(head, c)), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if metadata {
			got, _ = unICY(t, got)
		}
		if err := errors.Join(err, resp.Body.Close(), c.Close()); err != nil || !bytes.Equal(got, sound) {
			t.Fatalf("%d bytes of %d: %v", len(got), len(sound), err)
		}
		if l := <-ended; l.why != nil {
			t.Error(l.why)
		}
	}
}

// Goal: who takes nothing is dropped when he is so far behind, and disturbs
// nobody.
func TestBehind(t *testing.T) {
	a := open(t, audience.Config{})
	r := ring.New(8<<20, 0)
	_, slow := join(t, a, audience.Listener{Sound: r, BehindMax: 30 * time.Second})
	quick, _ := join(t, a, audience.Listener{Sound: r})
	got := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, quick)
		got <- n
	}()
	piece := noise(20_000)
	sent := int64(0)
	tick := time.NewTicker(testPeriod / 2)
	defer tick.Stop()
	for gone := false; !gone; {
		select {
		case l := <-slow:
			if !errors.Is(l.why, audience.ErrBehind) {
				t.Fatal(l.why)
			}
			gone = true
		case <-tick.C:
			r.Append(piece)
			sent += int64(len(piece))
		}
	}
	r.End()
	if n := <-got; n != sent {
		t.Errorf("the other heard %d of %d bytes", n, sent)
	}
}

// Goal: a listener who hangs up is noticed, while nothing is written, too.
func TestLeaves(t *testing.T) {
	a := open(t, audience.Config{})
	r := ring.New(1000, 0)
	c, ended := join(t, a, audience.Listener{Sound: r})
	_ = c.Close()
	if l := <-ended; !errors.Is(l.why, audience.ErrLeft) {
		t.Error(l.why)
	}
	chatty, ended := join(t, a, audience.Listener{Sound: r})
	go func() { _, _ = io.Copy(chatty, neverEnding{}) }()
	if l := <-ended; !errors.Is(l.why, audience.ErrLeft) {
		t.Error(l.why)
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

// Goal: Close ends all listeners and waits.
func TestClose(t *testing.T) {
	a := open(t, audience.Config{})
	r := ring.New(1000, 0)
	c, ended := join(t, a, audience.Listener{Sound: r})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if l := <-ended; !errors.Is(l.why, audience.ErrClosed) {
		t.Error(l.why)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Error(err)
	}
	_, late := join(t, a, audience.Listener{Sound: r})
	if l := <-late; !errors.Is(l.why, audience.ErrClosed) {
		t.Error(l.why)
	}
}

// Goal: the limits hold for node and mount, and places come back.
func TestAdmit(t *testing.T) {
	a := open(t, audience.Config{ListenersMax: 3, MountListenersMax: 2})
	one, err := a.Admit("a")
	if err != nil {
		t.Fatal(err)
	}
	two, err := a.Admit("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Admit("a"); !errors.Is(err, audience.ErrFull) {
		t.Error("a third of one mount")
	}
	three, err := a.Admit("b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Admit("c"); !errors.Is(err, audience.ErrFull) {
		t.Error("a fourth of the node")
	}
	one()
	one()
	if _, err := a.Admit("a"); err != nil {
		t.Error(err)
	}
	two()
	three()
}

func FuzzICYBlock(f *testing.F) {
	f.Add("x")
	f.Add("it's; ' a \x00 title\xff")
	f.Add(strings.Repeat("ä", 5000))
	f.Fuzz(func(t *testing.T, title string) {
		b := audience.ICYBlock(title)
		if len(b) != 1+16*int(b[0]) || len(b) < 17 {
			t.Fatalf("%d bytes say %d", len(b), b[0])
		}
		text := strings.TrimRight(string(b[1:]), "\x00")
		if !strings.HasPrefix(text, "StreamTitle='") || strings.Index(text[13:], "'") != len(text)-13-2 {
			t.Fatalf("%q", text)
		}
	})
}

// BenchmarkTurn is what a listener costs a period: one write of its sound.
func BenchmarkTurn(b *testing.B) {
	const listeners = 500
	a, err := audience.Open(audience.Config{Period: 50 * time.Millisecond}, nil)
	if err != nil {
		b.Fatal(err)
	}
	r := ring.New(1<<20, 0)
	var lc net.ListenConfig
	ln, err := lc.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range listeners {
		var d net.Dialer
		client, err := d.DialContext(b.Context(), "tcp", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		conn, err := ln.Accept()
		if err != nil {
			b.Fatal(err)
		}
		tcp, _ := conn.(*net.TCPConn)
		_ = a.Add(audience.Listener{Conn: tcp, Sound: r, ByteRate: byteRate, BehindMax: time.Hour})
		_ = client
	}
	runtime.ReadMemStats(&after)
	piece := make([]byte, 6)
	for b.Loop() {
		r.Append(piece)
		<-time.After(50 * time.Millisecond)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/listeners, "heap-B/listener")
	_ = a.Close()
	_ = ln.Close()
}
