package library

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
	"carillon/library/libtest"
	"carillon/library/rows"
)

// faulty is a store that has bad moments: each hook that is set stands before
// the operation and may refuse it.
type faulty struct {
	*blobstore.Local

	mu     sync.Mutex // guards the hooks
	commit func(context.Context, blobstore.Txn) (uint64, error)
	write  func(context.Context) error
	fresh  func(context.Context) error
	stale  map[string]blobstore.Row // what Get says until Fresh; no value: no row
}

func (f *faulty) set(change func(f *faulty)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *faulty) Commit(ctx context.Context, txn blobstore.Txn) (uint64, error) {
	f.mu.Lock()
	hook := f.commit
	f.mu.Unlock()
	if hook != nil {
		return hook(ctx, txn)
	}
	return f.Local.Commit(ctx, txn)
}

func (f *faulty) Get(ctx context.Context, key string) (blobstore.Row, error) {
	f.mu.Lock()
	row, stale := f.stale[key]
	f.mu.Unlock()
	switch {
	case !stale:
		return f.Local.Get(ctx, key)
	case row.Value == nil:
		return row, blobstore.ErrNotFound
	}
	return row, nil
}

func (f *faulty) Applied() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stale != nil {
		return 1
	}
	return f.Local.Applied()
}

func (f *faulty) Fresh(ctx context.Context) error {
	f.mu.Lock()
	f.stale = nil
	hook := f.fresh
	f.mu.Unlock()
	if hook != nil {
		return hook(ctx)
	}
	return f.Local.Fresh(ctx)
}

func (f *faulty) refuse(ctx context.Context) error {
	f.mu.Lock()
	hook := f.write
	f.mu.Unlock()
	if hook != nil {
		return hook(ctx)
	}
	return nil
}

func (f *faulty) Begin(ctx context.Context, id blobstore.ID, spec blobstore.Spec) error {
	if err := f.refuse(ctx); err != nil {
		return err
	}
	return f.Local.Begin(ctx, id, spec)
}

func (f *faulty) Append(ctx context.Context, id blobstore.ID, off int64, p []byte) error {
	if err := f.refuse(ctx); err != nil {
		return err
	}
	return f.Local.Append(ctx, id, off, p)
}

func (f *faulty) AppendLive(ctx context.Context, appends []blobstore.LiveAppend, done func(int, error)) {
	if err := f.refuse(ctx); err != nil {
		for i := range appends {
			done(i, err)
		}
		return
	}
	f.Local.AppendLive(ctx, appends, done)
}

func (f *faulty) Seal(ctx context.Context, id blobstore.ID, totals blobstore.Totals) error {
	if err := f.refuse(ctx); err != nil {
		return err
	}
	return f.Local.Seal(ctx, id, totals)
}

func (f *faulty) Put(
	ctx context.Context, id blobstore.ID, spec blobstore.Spec, p []byte, totals blobstore.Totals,
) error {
	if err := f.refuse(ctx); err != nil {
		return err
	}
	return f.Local.Put(ctx, id, spec, p, totals)
}

func noMajority(context.Context) error { return blobstore.ErrUnavailable }

func noCommit(context.Context, blobstore.Txn) (uint64, error) { return 0, blobstore.ErrUnavailable }

func newFaulty(t *testing.T) (*Library, *faulty) {
	t.Helper()
	f := &faulty{Local: libtest.OpenStore(t, t.TempDir())}
	deps := testDeps(f.Local)
	deps.Writer, deps.Catalog = f, f
	cfg := testConfig()
	cfg.Key = []byte("configured, so that nothing is committed at the start")
	return openLibrary(t, cfg, deps), f
}

// TestClaimIsBounded: a claim that gets no majority ends after claimWait, not
// when the client has had enough, and leaves nothing behind. Virtual time.
func TestClaimIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := newFaulty(t)
		r := ticket(t, l, RecordingRequest{})
		f.set(func(f *faulty) {
			f.commit = func(ctx context.Context, _ blobstore.Txn) (uint64, error) {
				<-ctx.Done()
				return 0, ctx.Err()
			}
		})
		start := time.Now()
		_, err := l.Claim(t.Context(), ticketRequest(l, r))
		libtest.WantErr(t, "claim", err, ErrUnavailable)
		if took := time.Since(start); took != claimWait {
			t.Errorf("claim took %v, want %v", took, claimWait)
		}
		f.set(func(f *faulty) { f.commit = nil })
		record(t, l, r, mp3Sound(3), EndedClean) // the ticket is still good
	})
}

// TestClaimOfUnknownOutcome: a claim that was committed though its answer was
// lost is ended by the next pass.
func TestClaimOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	l, f := newFaulty(t)
	r := ticket(t, l, RecordingRequest{})
	f.set(func(f *faulty) {
		f.commit = func(ctx context.Context, txn blobstore.Txn) (uint64, error) {
			_, err := f.Local.Commit(ctx, txn)
			return 0, errors.Join(err, blobstore.ErrUnavailable)
		}
	})
	_, err := l.Claim(t.Context(), ticketRequest(l, r))
	libtest.WantErr(t, "claim", err, blobstore.ErrUnavailable)
	f.set(func(f *faulty) { f.commit = nil })
	if got := recordingNow(t, l, r.ID); got.State != StateLive {
		t.Fatalf("recording is %s", got.State)
	}
	l.pass(t.Context(), time.Now())
	if got := recordingNow(t, l, r.ID); got.State != StateTruncated || got.Size != 0 {
		t.Errorf("recording is %+v", got)
	}
}

// TestOutageWhileLive: with no majority a source is taken on until memory is at
// its bound, and everything that was taken is there when the majority is back,
// though the source and its Close have long gone.
func TestOutageWhileLive(t *testing.T) {
	t.Parallel()
	l, f := newFaulty(t)
	r := ticket(t, l, RecordingRequest{StoreAs: "x.mp3"})
	s, err := l.Claim(t.Context(), ticketRequest(l, r))
	if err != nil {
		t.Fatal(err)
	}
	f.set(func(f *faulty) { f.write, f.commit, f.fresh = noMajority, noCommit, noMajority })
	piece := mp3Sound(100)
	var taken bytes.Buffer
	for err == nil && taken.Len() < 2*blobstore.LiveBufferBytesMax {
		var n int
		n, err = s.Write(piece)
		taken.Write(piece[:n])
	}
	libtest.WantErr(t, "write", err, ErrUnavailable)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	libtest.WantErr(t, "close", s.Close(short, EndedCut), context.DeadlineExceeded)

	f.set(func(f *faulty) { f.write, f.commit, f.fresh = nil, nil, nil })
	if err := s.Close(libtest.Bounded(t), EndedClean); err != nil { // waits for the first
		t.Fatal(err)
	}
	d, err := l.Get(t.Context(), "acme", "x.mp3", Fresh)
	if err != nil || !d.Truncated || !bytes.Equal(readItem(t, l, d), taken.Bytes()) {
		t.Errorf("%d bytes were taken; item %+v, %v", taken.Len(), d, err)
	}
}

// TestPutOfUnknownOutcome: a commit whose answer was lost may have happened, so
// the sound behind it must not be removed.
func TestPutOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	l, f := newFaulty(t)
	f.set(func(f *faulty) {
		f.commit = func(ctx context.Context, txn blobstore.Txn) (uint64, error) {
			_, err := f.Local.Commit(ctx, txn)
			return 0, errors.Join(err, blobstore.ErrUnavailable)
		}
	})
	sound := mp3Sound(4000)
	_, _, err := l.Put(t.Context(), "acme", "x", bytes.NewReader(sound), PutOptions{Length: -1})
	libtest.WantErr(t, "put", err, blobstore.ErrUnavailable)
	d, err := l.Get(t.Context(), "acme", "x", Local)
	if err != nil || !bytes.Equal(readItem(t, l, d), sound) {
		t.Errorf("item %+v, %v", d, err)
	}
}

// TestOutage: without a majority writes say so, what is here is played, and
// what is not here is not called missing.
func TestOutage(t *testing.T) {
	t.Parallel()
	l, f := newFaulty(t)
	ctx := t.Context()
	sound := mp3Sound(10)
	put(t, l, "acme", "x", sound, PutOptions{})
	f.set(func(f *faulty) { f.write, f.commit, f.fresh = noMajority, noCommit, noMajority })

	if d, err := l.Get(ctx, "acme", "x", Fresh); err != nil || !bytes.Equal(readItem(t, l, d), sound) {
		t.Errorf("get: %v", err)
	}
	_, err := l.Get(ctx, "acme", "y", Fresh)
	libtest.WantErr(t, "get of what is not here", err, ErrUnavailable)
	_, err = l.Get(ctx, "acme", "x", Linearizable)
	libtest.WantErr(t, "linearizable get", err, ErrUnavailable)
	_, err = l.Get(ctx, "acme", "y", Local)
	libtest.WantErr(t, "local get", err, ErrNotFound)
	if _, err := l.Lookup(ctx, LookupRequest{Name: "x", Account: "acme"}); err != nil {
		t.Errorf("lookup: %v", err)
	}
	_, _, err = l.Put(ctx, "acme", "x", bytes.NewReader(sound), PutOptions{Length: -1})
	if got := FaultOf(err); got.Status != 503 {
		t.Errorf("put: %v is %v", err, got)
	}
	_, err = l.CreateRecording(ctx, RecordingRequest{Account: "acme"})
	if got := FaultOf(err); got.Status != 503 {
		t.Errorf("create recording: %v is %v", err, got)
	}
}

// TestConflictsEnd: rows that change for ever end an operation with a conflict.
func TestConflictsEnd(t *testing.T) {
	t.Parallel()
	l, f := newFaulty(t)
	tries := 0
	f.set(func(f *faulty) {
		f.commit = func(context.Context, blobstore.Txn) (uint64, error) {
			tries++
			return 0, blobstore.ErrConflict
		}
	})
	_, _, err := l.Put(t.Context(), "acme", "x", bytes.NewReader(mp3Sound(3)), PutOptions{Length: -1})
	libtest.WantErr(t, "put", err, blobstore.ErrConflict)
	if tries != rows.WriteTriesMax {
		t.Errorf("%d tries, want %d", tries, rows.WriteTriesMax)
	}
}

// TestSealedByOthers: a node that was called gone too early learns that its
// recording was ended, and what the others sealed stays.
func TestSealedByOthers(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	r := ticket(t, l, RecordingRequest{})
	s, err := l.Claim(t.Context(), ticketRequest(l, r))
	if err != nil {
		t.Fatal(err)
	}
	sound := mp3Sound(50)
	write(t, s, sound)
	libtest.WaitFor(t, "bytes are durable", func() bool { return s.live.Durable() == int64(len(sound)) })
	deps := testDeps(local)
	deps.NodeID, deps.Gone = "node-2", func(string) bool { return true }
	openLibrary(t, testConfig(), deps)
	select {
	case <-s.Done():
	case <-libtest.Bounded(t).Done():
		t.Fatal("the session was not told")
	}
	_, err = s.Write(sound)
	libtest.WantErr(t, "write", err, ErrState)
	if err := s.Close(libtest.Bounded(t), EndedClean); err != nil {
		t.Error(err)
	}
	reader, rec, err := l.OpenRecording(t.Context(), r.ID, FromStart)
	if err != nil || rec.State != StateTruncated {
		t.Fatalf("recording %+v, %v", rec, err)
	}
	if got := readAll(t, reader); !bytes.Equal(got, sound) {
		t.Errorf("%d bytes came back", len(got))
	}
}

// TestAbandonedMount: a configured source that comes back finds its mount free
// although its last recording could not be sealed yet, and both are kept.
func TestAbandonedMount(t *testing.T) {
	t.Parallel()
	l, f := newFaulty(t)
	q := SourceRequest{Mount: "m.mp3", User: "foo", Password: "bar"}
	first, err := l.Claim(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	write(t, first, mp3Sound(10))
	f.set(func(f *faulty) { f.write = noMajority })
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	libtest.WantErr(t, "close", first.Close(short, EndedCut), context.DeadlineExceeded)
	second, err := l.Claim(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	f.set(func(f *faulty) { f.write = nil })
	if err := first.Close(libtest.Bounded(t), EndedCut); err != nil {
		t.Error(err)
	}
	_, err = l.Claim(t.Context(), q)
	libtest.WantErr(t, "third source", err, ErrMountInUse)
	write(t, second, mp3Sound(20))
	if err := second.Close(libtest.Bounded(t), EndedClean); err != nil {
		t.Error(err)
	}
	for _, s := range []*Session{first, second} {
		if got := recordingNow(t, l, s.Recording().ID); got.State != StateStored {
			t.Errorf("recording is %+v", got)
		}
	}
	if left := libtest.Keys(t, f, livePrefix); len(left) != 0 {
		t.Errorf("mounts are left: %q", left)
	}
}

// TestMetrics: what is in the table is what is exported, and it counts.
func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	deps := testDeps(libtest.OpenStore(t, t.TempDir()))
	deps.Metrics = registry
	l := openLibrary(t, testConfig(), deps)
	put(t, l, "acme", "x", mp3Sound(10), PutOptions{})
	_, _ = l.Lookup(t.Context(), LookupRequest{Name: "x", Account: "acme"})
	_, _ = l.Lookup(t.Context(), LookupRequest{Name: "y", Account: "acme"})
	record(t, l, ticket(t, l, RecordingRequest{}), mp3Sound(3), EndedClean)
	_, _ = l.Claim(t.Context(), SourceRequest{Mount: "m"})

	want := map[string]float64{
		metricPuts + "/ok": 1, metricPutBytes: 1440, metricLookups + "/item": 1, metricLookups + "/not_found": 1,
		metricClaims + "/ok": 1, metricClaims + "/unauthorized": 1, metricLive: 0,
		metricEnded + "/sealed": 1, metricRecordingBytes: 3 * mp3FrameBytes,
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	exported := 0
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "carillon_forms_") {
			continue // tested where they are defined
		}
		exported++
		for _, m := range family.GetMetric() {
			name := family.GetName()
			if labels := m.GetLabel(); len(labels) == 1 {
				name += "/" + labels[0].GetValue()
			}
			if got := m.GetCounter().GetValue() + m.GetGauge().GetValue(); got != want[name] {
				t.Errorf("%s is %v, want %v", name, got, want[name])
			}
			delete(want, name)
		}
	}
	// Those of webhooks have a value when there is a webhook.
	const ofWebhooks = 3
	if exported != len(MetricDefinitions())-ofWebhooks {
		t.Errorf("%d metrics are exported, %d defined", exported, len(MetricDefinitions()))
	}
	if len(want) > 0 {
		t.Errorf("not exported: %v", want)
	}
}
