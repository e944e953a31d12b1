package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"carillon/blobstore"
)

// testWait bounds one test: a cluster that elects a leader meanwhile takes
// seconds, anything longer hangs.
const testWait = time.Minute

// Open returns a store to test; it registers its own cleanup. It may return
// the same store every time: the suite uses ids and keys of its own.
type Open func(t *testing.T) (blobstore.Writer, blobstore.Shelf, blobstore.Catalog)

// Run runs the suite.
func Run(t *testing.T, open Open) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"BeginAgain", testBeginAgain},
		{"AppendChunksInAnyOrder", testAppendAnyOrder},
		{"AppendRefusesWhatDoesNotFit", testAppendMisfits},
		{"AppendAgainComparesBytes", testAppendAgain},
		{"AppendDoesNotKeepItsArgument", testAppendKeepsNothing},
		{"LiveAppendsAtTheEnd", testLiveAppend},
		{"LiveAcrossChunks", testLiveAcrossChunks},
		{"SealChecksTotals", testSealChecks},
		{"SealEndsAppends", testSealEnds},
		{"PutIsOneStep", testPut},
		{"RemoveFrees", testRemove},
		{"ContextEnds", testContext},
		{"OpenAndStat", testOpenStat},
		{"ReaderSeeksAndRanges", testReaderSeeks},
		{"FollowToTheSeal", testFollow},
		{"FollowEndsWithRemoval", testFollowRemoved},
		{"FollowEndsWithContextAndClose", testFollowEnds},
		{"RecorderSizes", testRecorderSizes},
		{"RecorderLimitAndAbort", testRecorderLimit},
		{"LiveRecorder", testLiveRecorder},
		{"Reseal", testReseal},
		{"ConcurrentUploads", testConcurrentUploads},
		{"CatalogCommitAndGet", testCommitGet},
		{"CatalogConditions", testConditions},
		{"CatalogNamedCommits", testNamedCommits},
		{"CatalogLimits", testCatalogLimits},
		{"CatalogScan", testScan},
		{"CatalogScanIsOneView", testScanView},
		{"CatalogWatch", testWatch},
		{"CatalogAppend", testAppendRows},
		{"CatalogBringsSound", testSound},
		{"CatalogAppendsConcurrently", testConcurrentAppends},
		{"CatalogTally", testTally},
		{"CatalogCountsConcurrently", testConcurrentCommits},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, s, cat := open(t)
			ctx, cancel := context.WithTimeout(context.Background(), testWait)
			t.Cleanup(cancel)
			c.test(&suite{
				Writer: w, Shelf: s, Catalog: cat,
				t: t, ctx: func() context.Context { return ctx },
			})
		})
	}
}

// suite is what a test works with.
type suite struct {
	blobstore.Writer
	blobstore.Shelf
	blobstore.Catalog

	t   *testing.T
	ctx func() context.Context
}

// sample is a content that no other size or seed begins with.
func sample(seed byte, n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(p) // never fails
	return p
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func (s *suite) begin(t *testing.T, live bool) blobstore.ID {
	t.Helper()
	id := blobstore.NewID()
	spec := blobstore.Spec{Live: live, Created: time.UnixMilli(1_700_000_000_123).UTC()}
	must(t, "begin", s.Begin(s.ctx(), id, spec))
	return id
}

// appendAll appends p in steps of step bytes.
func (s *suite) appendAll(t *testing.T, id blobstore.ID, p []byte, step int) {
	t.Helper()
	for off := 0; off < len(p); off += step {
		must(t, "append", s.Append(s.ctx(), id, int64(off), p[off:min(off+step, len(p))]))
	}
}

// check reads the blob and compares it with want.
func (s *suite) check(t *testing.T, id blobstore.ID, want []byte) {
	t.Helper()
	r, err := s.Open(s.ctx(), id)
	must(t, "open", err)
	got, err := io.ReadAll(r)
	must(t, "read", err)
	must(t, "close", r.Close())
	if !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, want %d; equal up to %d", len(got), len(want), common(got, want))
	}
}

func common(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func (s *suite) stat(t *testing.T, id blobstore.ID) blobstore.Info {
	t.Helper()
	info, err := s.Stat(s.ctx(), id)
	must(t, "stat", err)
	return info
}
