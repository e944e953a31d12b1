package forms

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"carillon/blobstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openCache(tb testing.TB, cfg Config) *Cache {
	tb.Helper()
	c, err := Open(cfg, Deps{
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
		Free: func() (int64, error) { return 1 << 40, nil },
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// maker makes sound, step by step when it is told so.
type maker struct {
	data  []byte
	made  atomic.Int64 // how often from the start
	steps chan int     // nil: at once; else bytes that may be given
	fail  error
}

func (m *maker) recipe(key byte) Recipe {
	return Recipe{
		Key: Key{key}, Size: int64(len(m.data)), Fill: 0x55,
		Make: func(ctx context.Context, off int64) (io.ReadCloser, error) {
			m.made.Add(1)
			return io.NopCloser(&making{m: m, ctx: ctx, data: m.data[off:]}), nil
		},
	}
}

type making struct {
	m    *maker
	ctx  context.Context
	data []byte
	may  int
}

func (r *making) Read(p []byte) (int, error) {
	if r.m.fail != nil {
		return 0, r.m.fail
	}
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	if r.m.steps != nil && r.may == 0 {
		select {
		case r.may = <-r.m.steps:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
	if r.m.steps != nil {
		p = p[:min(len(p), r.may)]
		r.may -= min(len(p), len(r.data))
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.IntN(256))
	}
	return b
}

func (c *Cache) get(tb testing.TB, r Recipe) []byte {
	tb.Helper()
	rd, err := c.Open(tb.Context(), r)
	if err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	_, err = rd.WriteTo(&out)
	if err := errors.Join(err, rd.Close()); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// Goal: a form is made once for all who ask, byte for byte, whatever they
// want of it. Method: readers of the whole and of ranges at the same time.
func TestMadeOnce(t *testing.T) {
	c := openCache(t, Config{Dir: t.TempDir()})
	m := &maker{data: randomBytes(300_001)}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			rd, err := c.Open(t.Context(), m.recipe(1))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = rd.Close() }()
			var out bytes.Buffer
			off := int64(i * 9_999)
			if _, err := rd.WriteRange(&out, off, 100_000); err != nil ||
				!bytes.Equal(out.Bytes(), m.data[off:off+100_000]) {
				t.Errorf("range at %d: %v", off, err)
			}
		})
	}
	wg.Wait()
	if got := c.get(t, m.recipe(1)); !bytes.Equal(got, m.data) || m.made.Load() != 1 {
		t.Errorf("got %d bytes, made %d times", len(got), m.made.Load())
	}
}

// Goal: the first bytes are there before the last are made.
func TestFirstBytesAtOnce(t *testing.T) {
	c := openCache(t, Config{Dir: t.TempDir()})
	m := &maker{data: randomBytes(50_000), steps: make(chan int)}
	rd, err := c.Open(t.Context(), m.recipe(1))
	if err != nil {
		t.Fatal(err)
	}
	m.steps <- 100
	p := make([]byte, 1000)
	if n, err := rd.Read(p); n != 100 || err != nil || !bytes.Equal(p[:n], m.data[:n]) {
		t.Fatalf("read %d, %v", n, err)
	}
	m.steps <- len(m.data)
	rest, err := io.ReadAll(rd)
	if err := errors.Join(err, rd.Close()); err != nil || !bytes.Equal(rest, m.data[100:]) {
		t.Fatalf("rest of %d: %v", len(rest), err)
	}
}

// Goal: what was promised as length is what comes.
func TestLengthIsKept(t *testing.T) {
	c := openCache(t, Config{Dir: t.TempDir()})
	m := &maker{data: randomBytes(20_000)}
	long, short := m.recipe(1), m.recipe(2)
	long.Size, short.Size = 40_000, 17
	want := append(bytes.Clone(m.data), bytes.Repeat([]byte{0x55}, 20_000)...)
	if got := c.get(t, long); !bytes.Equal(got, want) {
		t.Errorf("short conversion is not filled up: %d bytes", len(got))
	}
	if got := c.get(t, short); !bytes.Equal(got, m.data[:17]) {
		t.Errorf("long conversion is not cut: %d bytes", len(got))
	}
}

// Goal: what the disk keeps is found by the next life, and what it damaged is
// made again, whatever part of the file it is. Method: flip each of many bytes,
// cut, empty.
func TestDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	m := &maker{data: randomBytes(40_000)}
	write := func() string {
		c := openCache(t, Config{Dir: dir})
		_ = c.get(t, m.recipe(1))
		waitMade(t, c)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		return c.path(Key{1})
	}
	name := write()
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before := m.made.Load()
	c := openCache(t, Config{Dir: dir})
	if !bytes.Equal(c.get(t, m.recipe(1)), m.data) || m.made.Load() != before {
		t.Fatal("the next life did not find the form")
	}
	damage := map[string][]byte{"empty": nil, "cut": whole[:len(whole)-1], "half": whole[:len(whole)/2]}
	for at := 0; at < len(whole); at += 997 {
		b := bytes.Clone(whole)
		b[at] ^= 1
		damage[string(rune('a'+at%26))+"flip"] = b
	}
	last := bytes.Clone(whole)
	last[len(last)-1] ^= 0x80
	damage["tail"] = last
	for what, b := range damage {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c := openCache(t, Config{Dir: dir})
		if got := c.get(t, m.recipe(1)); !bytes.Equal(got, m.data) {
			t.Errorf("%s: wrong bytes", what)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// waitMade waits for the makers.
func waitMade(tb testing.TB, c *Cache) {
	tb.Helper()
	giveUp := time.After(20 * time.Second)
	for len(c.makers) > 0 || !c.settled() {
		select {
		case <-giveUp:
			tb.Fatal("makers go on")
		case <-time.After(time.Millisecond):
		}
	}
}

func (c *Cache) settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.files {
		if !f.finished() {
			return false
		}
	}
	return true
}

// Goal: what nobody reads is given back while the disk is full.
func TestGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		c, err := Open(Config{Dir: t.TempDir()}, Deps{
			Log:  slog.New(slog.DiscardHandler),
			Free: func() (int64, error) { return 1 << 40, nil },
			Room: func() error {
				if full.Load() {
					return blobstore.ErrNoSpace
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		m := &maker{data: randomBytes(1000)}
		_ = c.get(t, m.recipe(1))
		time.Sleep(2 * lookEvery)
		if c.Bytes() == 0 {
			t.Error("given back with room on the disk")
		}
		full.Store(true)
		time.Sleep(2 * lookEvery)
		if c.Bytes() != 0 {
			t.Errorf("%d bytes are kept on a full disk", c.Bytes())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Goal: files of no use are removed at the start, and the others counted.
func TestLoad(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"x", Key{9}.String() + ".part", Key{8}.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := openCache(t, Config{Dir: dir})
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 || c.Bytes() != 0 {
		t.Errorf("left %v, %v, %d bytes", left, err, c.Bytes())
	}
}

// Goal: the bound holds, and who was used last stays.
func TestBound(t *testing.T) {
	c := openCache(t, Config{Dir: t.TempDir(), BytesMax: 100_000})
	m := &maker{data: randomBytes(30_000)}
	for _, key := range []byte{1, 2, 3, 1, 4} {
		_ = c.get(t, m.recipe(key))
		waitMade(t, c)
		if c.Bytes() > 100_000 {
			t.Fatalf("%d bytes", c.Bytes())
		}
	}
	if c.files[Key{2}] != nil || c.files[Key{1}] == nil || m.made.Load() != 4 {
		t.Errorf("kept %d, made %d", len(c.files), m.made.Load())
	}
	big := &maker{data: randomBytes(60_000)} // would push out all others
	if got := c.get(t, big.recipe(9)); !bytes.Equal(got, big.data) || c.files[Key{9}] != nil {
		t.Error("a form of more than half the cache is kept, or wrong")
	}
	if freed := c.Trim(1); freed != 30_000 {
		t.Errorf("trimmed %d", freed)
	}
}

// Goal: a full disk costs the cache, not the listener. Method: no free space;
// then a file that cannot be written on.
func TestFullDisk(t *testing.T) {
	c := openCache(t, Config{Dir: t.TempDir()})
	m := &maker{data: randomBytes(200_000), steps: make(chan int)}
	rd, err := c.Open(t.Context(), m.recipe(1))
	if err != nil {
		t.Fatal(err)
	}
	m.steps <- 20_000
	p := make([]byte, 20_000)
	if _, err := io.ReadFull(rd, p); err != nil {
		t.Fatal(err)
	}
	_ = c.files[Key{1}].fd.Close() // its writes fail from now on
	go func() { m.steps <- 1000; m.steps <- len(m.data) }()
	rest, err := io.ReadAll(rd)
	if err := errors.Join(err, rd.Close()); err != nil || !bytes.Equal(slices.Concat(p, rest), m.data) {
		t.Fatalf("%d bytes of %d: %v", len(p)+len(rest), len(m.data), err)
	}
	waitMade(t, c)
	if c.Bytes() != 0 {
		t.Errorf("%d bytes are kept", c.Bytes())
	}
	c.free = func() (int64, error) { return freeBytesMin, nil }
	m.steps = nil
	if got := c.get(t, m.recipe(2)); !bytes.Equal(got, m.data) || len(c.files) != 0 {
		t.Error("a form is kept on a full disk, or wrong")
	}
}

// Goal: a reader in the middle of a long form does not wait for its beginning.
func TestFarAhead(t *testing.T) {
	c := openCache(t, Config{Dir: t.TempDir()})
	m := &maker{data: randomBytes(aheadBytesMax + 100_000), steps: make(chan int)}
	r := m.recipe(1)
	rd, err := c.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rd.Close() }()
	if _, err := rd.Seek(aheadBytesMax+1, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	go func() { // for both makers, in small pieces: the first never comes so far
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-t.Context().Done():
				return
			case <-tick.C:
			}
			select {
			case m.steps <- 10:
			case <-t.Context().Done():
				return
			}
		}
	}()
	p := make([]byte, 1)
	if _, err := io.ReadFull(rd, p); err != nil || p[0] != m.data[aheadBytesMax+1] {
		t.Fatal(err)
	}
}

// Goal: a failed conversion is an error for all who wait, and forgotten.
func TestFailure(t *testing.T) {
	c := openCache(t, Config{Dir: t.TempDir()})
	m := &maker{data: randomBytes(1000), fail: io.ErrNoProgress}
	rd, err := c.Open(t.Context(), m.recipe(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rd.Read(make([]byte, 10)); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("error %v", err)
	}
	if err := rd.Close(); err != nil {
		t.Error(err)
	}
	waitMade(t, c)
	m.fail = nil
	if got := c.get(t, m.recipe(1)); !bytes.Equal(got, m.data) {
		t.Error("not made again")
	}
}

// Goal: a long conversion that nobody waits for ends, a short one is finished.
func TestAbandoned(t *testing.T) {
	c := openCache(t, Config{Dir: t.TempDir()})
	m := &maker{data: randomBytes(1000), steps: make(chan int)}
	long := m.recipe(1)
	long.Size = orphanBytesMax + 1
	for _, r := range []Recipe{long, m.recipe(2)} {
		rd, err := c.Open(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if err := rd.Close(); err != nil {
			t.Fatal(err)
		}
	}
	m.steps <- 1000 // for the short one; the long one was told to end
	waitMade(t, c)
	giveUp := time.After(20 * time.Second)
	for testutil.ToFloat64(c.metrics.counters[metricMade].WithLabelValues("abandoned")) == 0 {
		select {
		case <-giveUp:
			t.Fatal("the long conversion goes on")
		case <-time.After(time.Millisecond):
		}
	}
	if c.files[Key{1}] != nil || c.files[Key{2}] == nil {
		t.Errorf("%d files", len(c.files))
	}
	if n := testutil.ToFloat64(c.metrics.counters[metricMade].WithLabelValues("abandoned")); n != 1 {
		t.Errorf("%v abandoned", n)
	}
}

// Goal: Close ends makers and readers.
func TestClose(t *testing.T) {
	c := openCache(t, Config{Dir: t.TempDir()})
	m := &maker{data: randomBytes(1000), steps: make(chan int)}
	rd, err := c.Open(t.Context(), m.recipe(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := rd.Read(make([]byte, 1)); err == nil {
		t.Error("a reader goes on")
	}
	if err := errors.Join(rd.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if _, err := c.Open(t.Context(), m.recipe(1)); !errors.Is(err, blobstore.ErrClosed) {
		t.Errorf("open: %v", err)
	}
}

func BenchmarkHit(b *testing.B) {
	c := openCache(b, Config{Dir: b.TempDir()})
	m := &maker{data: randomBytes(160_000)} // ten seconds of 8 kHz PCM
	_ = c.get(b, m.recipe(1))
	waitMade(b, c)
	b.SetBytes(int64(len(m.data)))
	for b.Loop() {
		rd, err := c.Open(b.Context(), m.recipe(1))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := rd.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
		_ = rd.Close()
	}
}
