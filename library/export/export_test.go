package export

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"carillon/blobstore"
	"carillon/library/delivery"
	"carillon/library/fault"
	"carillon/library/libtest"
	"carillon/library/rows"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noMeter counts nothing.
type noMeter struct{}

func (noMeter) Open(map[State]int, time.Duration) {}
func (noMeter) Tried(State)                       {}

// once lets a sound be sent and says nothing more of it.
type once struct{}

func (once) Sent(context.Context, *rows.Change, *Job) error { return nil }

// openQueue is a queue that runs on a store until the test ends.
func openQueue(t *testing.T, local *blobstore.Local, target delivery.Sender) *Queue {
	t.Helper()
	q := New(Deps{
		NodeID: "node-1", Rows: rows.Store{Catalog: local}, Shelf: local, Sender: target, Sounds: once{},
		Meter: noMeter{}, Log: slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { q.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return q
}

// storeSound keeps some bytes to be sent.
func storeSound(t *testing.T, local *blobstore.Local, text string) *Sound {
	t.Helper()
	id, p := blobstore.NewID(), []byte(text)
	err := local.Put(t.Context(), id, blobstore.Spec{Created: time.Now()}, p, blobstore.TotalsOf(p))
	if err != nil {
		t.Fatal(err)
	}
	return &Sound{Account: "acme", Blob: id, ContentType: "audio/mpeg", Size: int64(len(p))}
}

// TestFormerLife: what a former life of this node was sending is sent again,
// without waiting for the lease.
func TestFormerLife(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	e := NewJob(storeSound(t, local, "sound"), &Target{URL: "http://y/", Method: http.MethodPut}, time.Now())
	e.State, e.Node, e.Attempts, e.due = Running, "node-1", 1, time.Now().Add(leaseFor)
	libtest.Commit(t, local, e.Put)
	target := &libtest.Target{}
	q := openQueue(t, local, target)
	libtest.WaitFor(t, "it is done", func() bool {
		got := libtest.Must[Order](t)(q.Get(t.Context(), e.ID))
		return got.State == Done && got.Attempts == 2
	})
	if s := target.Sent(); len(s) != 1 || string(s[0].Body) != "sound" {
		t.Errorf("sent %+v", s)
	}
}

// TestRoom: what is not done counts, whatever keeps it; and many that were given
// up keep none behind them from being sent.
func TestRoom(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	sound, to := storeSound(t, local, "sound"), &Target{URL: "http://y/", Method: http.MethodPut}
	const failed = dueMax + 10
	for range failed {
		e := NewJob(sound, to, time.Now())
		e.State = Failed
		libtest.Commit(t, local, e.Put)
	}
	last := NewJob(sound, to, time.Now())
	libtest.Commit(t, local, last.Put)
	q := New(Deps{Rows: rows.Store{Catalog: local}, OpenMax: failed + 1})
	libtest.WantErr(t, "full", q.Room(t.Context()), fault.ErrLimit)
	q = openQueue(t, local, &libtest.Target{})
	libtest.WaitFor(t, "the last is done", func() bool {
		return libtest.Must[Order](t)(q.Get(t.Context(), last.ID)).State == Done
	})
	q = New(Deps{Rows: rows.Store{Catalog: local}, OpenMax: failed + 1})
	libtest.WantErr(t, "one is done", q.Room(t.Context()), nil)
}

// TestTargetsChecked: what is too long or not ours to send is refused.
func TestTargetsChecked(t *testing.T) {
	t.Parallel()
	q := New(Deps{Sender: &libtest.Target{}})
	long := strings.Repeat("x", targetURLBytesMax)
	for _, c := range []struct {
		target Target
		want   error
	}{
		{Target{URL: "http://x/" + long[:targetURLBytesMax-9]}, nil},
		{Target{URL: "http://x/" + long}, fault.ErrBadRequest},
		{Target{URL: "http://x", Headers: map[string]string{"X": long[:targetHeaderBytesMax-1]}}, nil},
		{Target{URL: "http://x", Headers: map[string]string{"X": long}}, fault.ErrBadRequest},
		{Target{URL: "http://x", Headers: map[string]string{"Host": "y"}}, fault.ErrBadRequest},
		{Target{URL: "http://x", Method: "DELETE"}, fault.ErrBadRequest},
		{Target{URL: "http://forbidden"}, fault.ErrTarget},
	} {
		libtest.WantErr(t, c.target.URL[:min(len(c.target.URL), 20)], q.Check(&c.target), c.want)
	}
	libtest.WantErr(t, "without a sender", New(Deps{}).Check(&Target{URL: "http://x"}), fault.ErrTarget)
}

// FuzzDecode: no value makes decoding panic, and what is decoded can be encoded.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{rows.Version})
	f.Add(encodeOpen(Queued, time.UnixMilli(1)))
	f.Fuzz(func(t *testing.T, value []byte) {
		if e, err := decode("a", blobstore.Row{Value: value, Revision: 1}); err == nil {
			if _, err := encode(e); err != nil && !errors.Is(err, blobstore.ErrTooLarge) {
				t.Fatal(err)
			}
		}
		if state, due, err := decodeOpen(value); err == nil {
			if again, at, err := decodeOpen(encodeOpen(state, due)); err != nil || again != state || !at.Equal(due) {
				t.Fatal(again, at, err)
			}
		}
	})
}

// Goal: a lease runs out when it is not renewed, by one's own clock.
func TestLease(t *testing.T) {
	t.Parallel()
	x, now := newExporter(), time.Now()
	for i, c := range []struct {
		value string
		after time.Duration
		stale bool
	}{
		{"a", 0, false},
		{"a", leaseFor, false},
		{"b", leaseFor + 1, false}, // renewed
		{"b", 2*leaseFor + 1, false},
		{"b", 2*leaseFor + 2, true},
	} {
		if got := x.stale("id", c.value, now.Add(c.after)); got != c.stale {
			t.Errorf("%d: stale is %v", i, got)
		}
	}
}

// TestWaits: the pauses grow, and after a long weekend it is given up.
func TestWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		e := &Job{since: now}
		last := time.Duration(0)
		for e.Attempts = 1; e.State != Failed; e.Attempts++ {
			e.failed(delivered{err: errors.New("refused")}, now)
			pause := e.due.Sub(now)
			if e.State == Queued &&
				(pause < last/2 || pause < pauseMin*3/4 || pause > pauseMax*5/4) {
				t.Fatalf("pause %d is %v after %v", e.Attempts, pause, last)
			}
			now, last = e.due, pause
		}
		if total := now.Sub(e.since); total < giveUp || e.Attempts < 100 || e.Attempts > 1000 {
			t.Errorf("given up after %v, %d attempts", total, e.Attempts)
		}
		e.failed(delivered{receipt: delivery.Receipt{Status: 429, RetryAfter: time.Hour}}, e.since)
		if pause := e.due.Sub(e.since); pause < time.Hour {
			t.Errorf("asked to wait an hour, waits %v", pause)
		}
	})
}

// Goal: an export comes back from its row as it was, in every later release.
func TestRow(t *testing.T) {
	t.Parallel()
	at := func(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
	ended := at(1_700_000_003_000)
	e := &Job{
		Order: Order{
			ID: "01hf7yat3bzzzzzzzzzzzzzzzz", Account: "acme", RecordingID: "01hf7yat3bzzzzzzzzzzzzzzzz",
			Target: "http://x/y", Method: "PUT", Headers: []string{"A"}, DeleteAfter: true, State: Failed,
			Revision: 7, ContentType: "audio/mpeg", Size: 1, SHA256: "ab", Attempts: 3, Error: "status 500",
			Node: "node-1", Created: at(1_700_000_000_000), Ended: &ended,
		},
		Blob: blobstore.ID{1}, url: "http://u:p@x/y?z", headers: map[string]string{"A": "b"},
		due: at(1_700_000_001_000), since: at(1_700_000_002_000),
	}
	value := libtest.Must[[]byte](t)(encode(e))
	libtest.Golden(t, "export-1.row", value)
	libtest.Golden(t, "export-open-1.row", encodeOpen(Queued, e.due))
	back := libtest.Must[*Job](t)(decode(e.ID, blobstore.Row{Value: value, Revision: 7}))
	if diff := cmp.Diff(e, back, cmp.AllowUnexported(Job{})); diff != "" {
		t.Errorf("export came back changed:\n%s", diff)
	}
	e.RecordingID, e.Item = "", "moh/a b.wav"
	value = libtest.Must[[]byte](t)(encode(e))
	libtest.Golden(t, "export-1-item.row", value)
	back = libtest.Must[*Job](t)(decode(e.ID, blobstore.Row{Value: value, Revision: 7}))
	libtest.Equal(t, "item", back.Item, e.Item)
	libtest.Equal(t, "time of an id", rows.MadeAt(rows.NewID(e.since)).UnixMilli(), e.since.UnixMilli())
}
