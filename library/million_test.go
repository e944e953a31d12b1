package library

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"carillon/blobstore"
	"carillon/library/libtest"
	"carillon/library/rows"
)

// envDocuments is how many documents TestManyDocuments makes; `make million`
// sets it.
const envDocuments = "CARILLON_DOCUMENTS"

const (
	manyDefault = 3000
	manyLookups = 20_000
	// manyPerCommit documents of three rows each fill a transaction.
	manyPerCommit = blobstore.TxnOpsMax / 3
)

// TestManyDocuments fills a catalog, for a million documents in a thousand
// accounts with `make million`, and says what it costs: memory, disk, lookups
// at random, a page of a listing, counting an account. What it checks is that
// all are found.
func TestManyDocuments(t *testing.T) {
	documents := manyDefault
	if text := os.Getenv(envDocuments); text != "" {
		documents = libtest.Must[int](t)(strconv.Atoi(text))
	}
	dir := t.TempDir()
	l := openLibrary(t, testConfig(), testDeps(libtest.OpenStore(t, dir)))
	sound := put(t, l, SystemAccount, "en-us/hello", mp3Sound(10),
		PutOptions{Prompt: "hello", Language: "en-us"})
	idle := heap()
	began := time.Now()
	account := func(i int) string { return fmt.Sprintf("%032x", i%1000) }
	for n := 0; n < documents; {
		var txn blobstore.Txn
		for range min(manyPerCommit, documents-n) {
			d := sound
			d.Account, d.ID, d.Prompt = account(n), fmt.Sprintf("vm/%d/message.mp3", n), ""
			d.Metadata = map[string]string{"caller": "+4312345678", "mailbox": strconv.Itoa(n % 5000)}
			value := libtest.Must[[]byte](t)(encodeDocument(&d))
			key := mediaKey(d.Account, d.ID)
			txn.Put = append(txn.Put, blobstore.Row{Key: key, Value: value, Weight: uint64(d.Size)},
				blobstore.Row{Key: blobstore.RefKey(d.Blob, key), Value: rows.EncodeText("")})
			n++
		}
		libtest.Must[uint64](t)(l.rows.Commit(t.Context(), txn))
	}
	t.Logf("%d documents were written in %v", documents, time.Since(began).Round(time.Second))
	t.Logf("heap %d MB, before them %d MB; resident %s; on disk %d MB",
		heap()>>20, idle>>20, resident(), size(t, dir)>>20)

	for _, c := range []struct {
		what string
		name func() string
	}{
		{"item", func() string {
			i := rand.IntN(documents)
			return fmt.Sprintf("/%s/vm/%d/message.mp3", account(i), i)
		}},
		{"prompt", func() string { return "prompt://" + account(rand.IntN(documents)) + "/hello/en-us" }},
	} {
		took := make([]time.Duration, manyLookups)
		for i := range took {
			name, start := c.name(), time.Now()
			if _, err := l.Lookup(t.Context(), LookupRequest{Name: name}); err != nil {
				t.Fatal(err)
			}
			took[i] = time.Since(start)
		}
		slices.Sort(took)
		t.Logf("lookup of an %s: p50 %v, p99 %v, slowest %v", c.what, took[len(took)/2], took[len(took)*99/100],
			took[len(took)-1])
	}
	t.Logf("heap %d MB after the lookups; resident %s", heap()>>20, resident())

	start := time.Now()
	page := libtest.Must[Page](t)(l.List(t.Context(), account(7), ListQuery{Limit: 100}))
	t.Logf("a page of %d: %v", len(page.Items), time.Since(start))
	start = time.Now()
	u := libtest.Must[AccountUsage](t)(l.Usage(t.Context(), account(7)))
	t.Logf("counting %d items of an account: %v", u.Items, time.Since(start))
	accounts, _, err := l.Accounts(t.Context(), "", PageLimitMax)
	if err != nil || len(accounts) < min(documents, PageLimitMax) {
		t.Errorf("%d accounts, %v", len(accounts), err)
	}
	start = time.Now()
	uses := libtest.Must[Uses](t)(l.Uses(t.Context(), SystemAccount, "en-us/hello"))
	t.Logf("%d use of an item: %v", len(uses.Items), time.Since(start))
	start = time.Now()
	libtest.Must[Document](t)(l.Rename(t.Context(), CopyRequest{
		From: ItemName{SystemAccount, "en-us/hello"}, To: ItemName{SystemAccount, "en-us/bye"},
	}))
	t.Logf("a rename, which looks for second names: %v", time.Since(start))
	start = time.Now()
	x := libtest.Must[Expiry](t)(l.Expiring(t.Context(), account(7), ExpiryQuery{
		RetentionSeconds: map[Class]int64{ClassUpload: 1}, At: time.Now().Add(time.Hour),
	}))
	t.Logf("a preview of %d items: %v", x.Items, time.Since(start))
	if want := (documents + 992) / 1000; x.Items != int64(want) || u.Items != int64(want) {
		t.Errorf("account holds %d items, %d would expire, want %d", u.Items, x.Items, want)
	}
}

// heap is what is in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// resident is the process's memory, as Linux tells it.
func resident() string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if rest, found := strings.CutPrefix(line, "VmRSS:"); found {
			return strings.TrimSpace(rest)
		}
	}
	return "unknown"
}

func size(t *testing.T, dir string) int64 {
	t.Helper()
	var n int64
	entries := libtest.Must[[]os.DirEntry](t)(os.ReadDir(dir))
	for _, e := range entries {
		if e.IsDir() {
			n += size(t, dir+"/"+e.Name())
		} else if info, err := e.Info(); err == nil {
			n += info.Size()
		}
	}
	return n
}
