package readcache

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func testCache(limit int64) *Cache {
	return New(limit, prometheus.NewCounter(prometheus.CounterOpts{Name: "hits"}))
}

// TestReadCacheBounds keeps no more than it may, and the newest.
func TestReadCacheBounds(t *testing.T) {
	c := testCache(1000)
	fetched := 0
	load := func(i int64) {
		t.Helper()
		got, err := c.Load(t.Context(), Key{Index: i}, func() ([]byte, error) {
			fetched++
			return bytes.Repeat([]byte{byte(i)}, 300), nil
		})
		if err != nil || len(got) != 300 || got[0] != byte(i) {
			t.Fatalf("chunk %d: %d bytes, %v", i, len(got), err)
		}
	}
	for _, i := range []int64{1, 2, 3, 1, 4, 1, 5} { // 1 is used again and again
		load(i)
	}
	if fetched != 5 || c.Size() != 900 {
		t.Errorf("fetched %d, keeps %d bytes", fetched, c.Size())
	}
	load(1)
	if fetched != 5 {
		t.Error("the most used chunk is gone")
	}
	load(2)
	if fetched != 6 {
		t.Error("the least used chunk is still here")
	}
	large := func() ([]byte, error) { return make([]byte, 1001), nil }
	if _, err := c.Load(t.Context(), Key{Index: 9}, large); err != nil || c.Size() > 1000 {
		t.Errorf("larger than the cache: %v, keeps %d", err, c.Size())
	}
}

// TestReadCacheFetchesOnce lets many readers want a chunk at the same time.
func TestReadCacheFetchesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testCache(1 << 20)
		failed := errors.New("not here")
		var fetches atomic.Int32
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				_, err := c.Load(t.Context(), Key{}, func() ([]byte, error) {
					time.Sleep(time.Second)
					if fetches.Add(1) == 1 {
						return nil, failed // the first one fails, for itself only
					}
					return []byte("x"), nil
				})
				if err != nil && !errors.Is(err, failed) {
					t.Errorf("reader %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if n := fetches.Load(); n != 2 {
			t.Errorf("fetched %d times", n)
		}
	})
}
