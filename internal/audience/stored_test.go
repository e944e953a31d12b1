package audience_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"carillon/internal/audience"
	"carillon/internal/outlet"
	"carillon/internal/ring"
	"carillon/internal/tcptest"
)

// still is a sound that is there, and says when it is closed.
type still struct {
	*bytes.Reader
	open *atomic.Int32
}

func newStill(p []byte) still {
	s := still{bytes.NewReader(p), new(atomic.Int32)}
	s.open.Store(1)
	return s
}

func (s still) Close() error {
	s.open.Add(-1)
	return nil
}

// hear connects a client to a listener of a stored sound.
func hear(t *testing.T, a *audience.Audience, s audience.Stored) (*net.TCPConn, chan left) {
	t.Helper()
	client, conn := tcptest.Pair(t)
	ended := make(chan left, 1)
	s.Conn = conn
	if s.Stall == 0 {
		s.Stall = testWait
	}
	if s.Left == nil {
		s.Left = func(n int64, why error) { ended <- left{n, why} }
	}
	if err := a.Play(s); err != nil {
		t.Fatal(err)
	}
	return client, ended
}

// Goal: everybody hears a stored sound whole: who reads it at once, who reads
// nothing for so long that he loses his goroutine, and who asked for a part.
func TestStored(t *testing.T) {
	registry := prometheus.NewRegistry()
	a := openWith(t, audience.Config{}, registry)
	sound := noise(8 << 20) // more than the kernel takes
	waiting := func() float64 { return gauge(t, registry, "carillon_audience_waiting") }
	quick, patient, part := newStill(sound), newStill(sound), newStill(sound)
	quickly, ended := hear(t, a, audience.Stored{From: quick})
	got, err := io.ReadAll(quickly)
	if err != nil || !bytes.Equal(got, sound) {
		t.Fatalf("at once: %d bytes, %v", len(got), err)
	}
	_ = quickly.Close()
	if l := <-ended; l.why != nil || l.bytes != int64(len(sound)) || quick.open.Load() != 0 {
		t.Errorf("at once: %+v, %d open", l, quick.open.Load())
	}

	slowly, ended := hear(t, a, audience.Stored{From: patient})
	for range 2 {
		until(t, "the listener waits", func() bool { return waiting() == 1 })
		if _, err := io.CopyN(io.Discard, slowly, 3<<20); err != nil {
			t.Fatal(err)
		}
	}
	got, err = io.ReadAll(slowly)
	if err != nil || !bytes.Equal(got, sound[6<<20:]) {
		t.Fatalf("slowly: %d bytes, %v", len(got), err)
	}
	_ = slowly.Close()
	if l := <-ended; l.why != nil || l.bytes != int64(len(sound)) || patient.open.Load() != 0 {
		t.Errorf("slowly: %+v, %d open", l, patient.open.Load())
	}

	const from, to = 1000, 2_000_000
	partly, ended := hear(t, a, audience.Stored{
		From: part, Offset: from, Until: func(int64) int64 { return to },
	})
	got, err = io.ReadAll(partly)
	if err != nil || !bytes.Equal(got, sound[from:to]) {
		t.Fatalf("a part: %d bytes, %v", len(got), err)
	}
	_ = partly.Close()
	if l := <-ended; l.why != nil {
		t.Error(l.why)
	}
}

// Goal: who has no room when he comes waits at once, and is found when he reads.
func TestStoredFull(t *testing.T) {
	registry := prometheus.NewRegistry()
	a := openWith(t, audience.Config{}, registry)
	sound := noise(16 << 20) // more than the kernel takes
	client, conn := tcptest.Pair(t)
	out, err := outlet.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	out.Narrow()
	n, err := out.Write(sound)
	if !errors.Is(err, outlet.ErrNoRoom) {
		t.Fatal(err)
	}
	ended, from := make(chan left, 1), newStill(sound)
	if err := a.Play(audience.Stored{
		Conn: conn, From: from, Offset: int64(n), Full: true, Stall: testWait,
		Left: func(n int64, why error) { ended <- left{n, why} },
	}); err != nil {
		t.Fatal(err)
	}
	if n := gauge(t, registry, "carillon_audience_waiting"); n != 1 {
		t.Errorf("%v wait", n)
	}
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, sound) {
		t.Errorf("%d bytes of %d, %v", len(got), len(sound), err)
	}
	_ = client.Close()
	if l := <-ended; l.why != nil || l.bytes != int64(len(sound)-n) || from.open.Load() != 0 {
		t.Errorf("ended %+v, %d open", l, from.open.Load())
	}
}

// Goal: frames are whole for a listener who takes his time, and where he goes on
// with what the others hear.
func TestStoredGoesOn(t *testing.T) {
	registry := prometheus.NewRegistry()
	a := openWith(t, audience.Config{}, registry)
	for _, chunked := range []bool{false, true} {
		for _, metadata := range []bool{false, true} {
			sound := noise(6 << 20)
			shared := ring.New(1<<20, 0)
			shared.SetTitle("x")
			shared.Append(sound[:5<<20])
			ended := make(chan left, 1)
			leave := func(n int64, why error) { ended <- left{n, why} }
			past := newStill(sound[:5<<20])
			client, _ := hear(t, a, audience.Stored{
				From: past, Title: "x", Metadata: metadata, Chunked: chunked, Left: leave,
				Until: func(at int64) int64 {
					if from, _, _ := shared.Span(); at >= from {
						return at
					}
					return 5 << 20
				},
				Then: &audience.Listener{
					Sound: shared, ByteRate: byteRate, BehindMax: time.Hour, Metadata: metadata, Chunked: chunked,
					Left: leave,
				},
			})
			until(t, "the listener waits", func() bool {
				return gauge(t, registry, "carillon_audience_waiting") == 1
			})
			got := body(t, &follower{Reader: client, ring: shared, rest: sound[5<<20:], at: 5 << 20}, chunked)
			if metadata {
				got, _ = unICY(t, got)
			}
			if !bytes.Equal(got, sound) {
				t.Errorf("chunked %v, metadata %v: %d bytes of %d", chunked, metadata, len(got), len(sound))
			}
			_ = client.Close()
			if l := <-ended; l.why != nil || l.bytes < int64(len(sound)) || past.open.Load() != 0 {
				t.Errorf("ended %+v, %d open", l, past.open.Load())
			}
		}
	}
}

// follower is a client of a live sound whose ring is fed as fast as he reads: the
// listener is never overtaken, however slow the machine is.
type follower struct {
	io.Reader
	ring *ring.Ring
	rest []byte // what the ring does not have yet
	at   int    // where the ring ends
	read int    // bytes of the stream, framing included
}

func (f *follower) Read(p []byte) (int, error) {
	const (
		lead  = 512 << 10 // half of the ring
		piece = 26 << 10
	)
	n, err := f.Reader.Read(p)
	f.read += n
	for len(f.rest) > 0 && f.at < f.read+lead {
		k := min(piece, len(f.rest))
		f.ring.Append(f.rest[:k])
		f.rest, f.at = f.rest[k:], f.at+k
		if len(f.rest) == 0 {
			f.ring.End()
		}
	}
	return n, err
}

func body(t *testing.T, client io.Reader, chunked bool) []byte {
	t.Helper()
	if chunked {
		head := strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(head, client)), nil)
		if err != nil {
			t.Fatal(err)
		}
		client = resp.Body
		defer func() { _ = resp.Body.Close() }()
	}
	got, err := io.ReadAll(client)
	if err != nil {
		t.Errorf("after %d bytes: %v", len(got), err)
	}
	return got
}

// Goal: who takes nothing for too long is dropped, who hangs up is noticed, and
// Close ends those who wait and those who are written to.
func TestStoredEnds(t *testing.T) {
	a := open(t, audience.Config{})
	sound := noise(8 << 20)
	never := newStill(sound)
	_, ended := hear(t, a, audience.Stored{From: never, Stall: time.Second})
	if l := <-ended; !errors.Is(l.why, audience.ErrBehind) || never.open.Load() != 0 {
		t.Errorf("who takes nothing: %+v", l)
	}

	gone, ended := hear(t, a, audience.Stored{From: newStill(sound)})
	_ = gone.Close()
	if l := <-ended; l.why == nil {
		t.Error("who left has ended in order")
	}

	waits, last := newStill(sound), newStill(sound)
	_, first := hear(t, a, audience.Stored{From: waits})
	_, second := hear(t, a, audience.Stored{From: last})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, ended := range []chan left{first, second} {
		if l := <-ended; !errors.Is(l.why, audience.ErrClosed) {
			t.Error(l.why)
		}
	}
	if waits.open.Load() != 0 || last.open.Load() != 0 {
		t.Error("not closed")
	}
	_, late := tcptest.Pair(t)
	if err := a.Play(audience.Stored{Conn: late, From: newStill(nil)}); !errors.Is(err, audience.ErrClosed) {
		t.Error(err)
	}
}

func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s among %d", name, testutil.CollectAndCount(registry))
	return 0
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(testPeriod)
	defer tick.Stop()
	for giveUp := time.After(testWait); !cond(); {
		select {
		case <-tick.C:
		case <-giveUp:
			t.Fatal("waited in vain until ", what)
		}
	}
}
