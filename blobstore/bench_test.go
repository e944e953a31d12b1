package blobstore

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reportCPU reports the processor time of the whole process for each
// operation, background work included: wall time depends on the neighbours.
// The result is to be called at the end.
func reportCPU(b *testing.B) func() {
	b.Helper()
	now := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	b.ReportAllocs()
	start := now()
	return func() { b.ReportMetric(float64((now()-start).Nanoseconds())/float64(b.N)/1e3, "cpu-µs/op") }
}

func openBenchStore(b *testing.B) *Store {
	b.Helper()
	s, err := OpenStore(StoreConfig{Dir: b.TempDir()}, quiet())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// numberedID is a different ID for every n.
func numberedID(n int) ID {
	var id ID
	copy(id[:], fmt.Sprintf("%016d", n))
	return id
}

func mustApply(tb testing.TB, s *Store, ops ...Op) {
	tb.Helper()
	for i, err := range s.Apply(ops) {
		if err != nil {
			tb.Fatalf("operation %d of kind %d: %v", i, ops[i].Kind, err)
		}
	}
}

func BenchmarkApplyPut64KiB(b *testing.B) {
	s := openBenchStore(b)
	p := randomBytes(1, 64<<10)
	totals := TotalsOf(p)
	b.SetBytes(int64(len(p)))
	defer reportCPU(b)()
	n := 0
	for b.Loop() {
		n++
		mustApply(b, s, Op{Kind: OpPut, ID: numberedID(n), Data: p, Totals: totals, Index: uint64(n)})
	}
}

func benchBlob(b *testing.B, s *Store, size int) ID {
	b.Helper()
	id, p := NewID(), randomBytes(2, size)
	mustApply(b, s, Op{Kind: OpBegin, ID: id})
	for off := 0; off < size; off += ChunkBytesMax {
		mustApply(b, s, Op{Kind: OpAppend, ID: id, Offset: int64(off), Data: p[off:min(off+ChunkBytesMax, size)]})
	}
	mustApply(b, s, Op{Kind: OpSeal, ID: id, Totals: TotalsOf(p)})
	return id
}

func BenchmarkRead64KiB(b *testing.B) {
	s := openBenchStore(b)
	id := benchBlob(b, s, 64<<10)
	ctx := context.Background()
	b.SetBytes(64 << 10)
	defer reportCPU(b)()
	for b.Loop() {
		r, err := s.Open(ctx, id)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := r.WriteTo(io.Discard); err != nil || n != 64<<10 {
			b.Fatal(n, err)
		}
		_ = r.Close()
	}
}

func BenchmarkRange16KiBOf1MiB(b *testing.B) {
	s := openBenchStore(b)
	id := benchBlob(b, s, 1<<20)
	ctx := context.Background()
	b.SetBytes(16 << 10)
	defer reportCPU(b)()
	off := int64(0)
	for b.Loop() {
		off = (off + 123_457) % (1<<20 - 16<<10)
		r, err := s.Open(ctx, id)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := r.WriteRange(io.Discard, off, 16<<10); err != nil || n != 16<<10 {
			b.Fatal(n, err)
		}
		_ = r.Close()
	}
}

func BenchmarkApply1000LiveAppends(b *testing.B) {
	s := openBenchStore(b)
	const blobs, bytes = 1000, 500
	ops := make([]Op, blobs)
	p := randomBytes(3, bytes)
	for i := range ops {
		id := numberedID(i)
		mustApply(b, s, Op{Kind: OpBegin, ID: id, Spec: Spec{Live: true}})
		ops[i] = Op{Kind: OpAppend, ID: id, Data: p, At: time.Unix(1, 0)}
	}
	defer reportCPU(b)()
	for b.Loop() {
		mustApply(b, s, ops...)
		for i := range ops {
			ops[i].Offset += bytes
		}
	}
}

func openBenchCatalog(b *testing.B) *CatalogStore {
	b.Helper()
	c, err := OpenCatalog(CatalogConfig{Dir: b.TempDir()}, quiet())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return c
}

func documentEntry(n int) TxnEntry {
	e := TxnEntry{Index: uint64(n), Txn: Txn{Put: []Row{
		{Key: fmt.Sprintf("media/account/prompt-%06d.wav", n%100_000), Value: make([]byte, 600)},
		{Key: RefKey(numberedID(n), "media/account/x"), Value: []byte{1}},
	}}}
	copy(e.ID[:], fmt.Sprintf("%016d", n))
	return e
}

func BenchmarkCatalogApply(b *testing.B) {
	for _, batch := range []int{1, 16} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			c := openBenchCatalog(b)
			n := 0
			defer reportCPU(b)()
			for b.Loop() {
				entries := make([]TxnEntry, batch)
				for i := range entries {
					n++
					entries[i] = documentEntry(n)
				}
				if _, err := c.Apply(entries); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCatalogGet(b *testing.B) {
	c := openBenchCatalog(b)
	const rows = 20_000
	for n := 1; n <= rows; n += 100 {
		entries := make([]TxnEntry, 100)
		for i := range entries {
			entries[i] = documentEntry(n + i)
		}
		if _, err := c.Apply(entries); err != nil {
			b.Fatal(err)
		}
	}
	ctx := context.Background()
	defer reportCPU(b)()
	i := 0
	for b.Loop() {
		i++
		if _, err := c.Get(ctx, fmt.Sprintf("media/account/prompt-%06d.wav", i%rows+1)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCatalogSet is what the set digest costs: reading it, which no size
// changes, and counting all rows anew, which a node does once a day.
func BenchmarkCatalogSet(b *testing.B) {
	c := openBenchCatalog(b)
	const rows = 100_000 // and as many references
	for n := 1; n <= rows; n += 500 {
		entries := make([]TxnEntry, 500)
		for i := range entries {
			entries[i] = documentEntry(n + i)
		}
		if _, err := c.Apply(entries); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if set, _ := c.Set(); set.Rows != 2*rows {
				b.Fatalf("%d rows", set.Rows)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		defer reportCPU(b)()
		for b.Loop() {
			if _, err := c.VerifySet(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(2*rows), "ns/row")
	})
}
