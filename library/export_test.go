package library

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
	"carillon/library/libtest"
	"carillon/library/rows"
)

// fakeSender is a target that answers as told.
type fakeSender struct {
	mu     sync.Mutex
	answer func(ctx context.Context, n int, d Delivery) (Receipt, error) // n counts from 1
	got    []sent
}

type sent struct {
	d    Delivery
	body []byte
	err  error
}

func (f *fakeSender) CheckTarget(url string) error {
	if strings.Contains(url, "forbidden") {
		return ErrTarget
	}
	return nil
}

func (f *fakeSender) CheckHeader(header map[string]string) error {
	if _, bad := header["Host"]; bad {
		return ErrBadRequest
	}
	return nil
}

func (f *fakeSender) Send(ctx context.Context, d Delivery) (Receipt, error) {
	body, err := io.ReadAll(d.Body)
	f.mu.Lock()
	f.got = append(f.got, sent{d, body, err})
	n, answer := len(f.got), f.answer
	f.mu.Unlock()
	if err != nil || answer == nil {
		return Receipt{Status: 201}, err
	}
	return answer(ctx, n, d)
}

func (f *fakeSender) sent() []sent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]sent(nil), f.got...)
}

func newExporting(t *testing.T, f *fakeSender) (*Library, *blobstore.Local) {
	t.Helper()
	local := libtest.OpenStore(t, t.TempDir())
	deps := testDeps(local)
	deps.Sender = f
	return openLibrary(t, testConfig(), deps), local
}

func exportIn(t *testing.T, l *Library, id string, state ExportState) Export {
	t.Helper()
	var e Export
	libtest.WaitFor(t, "export is "+string(state), func() bool {
		var err error
		if e, err = l.Export(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return e.State == state
	})
	return e
}

// TestExport sends a sealed recording and frees it afterwards; what may be
// secret is shown by nothing.
func TestExport(t *testing.T) {
	t.Parallel()
	f := &fakeSender{}
	l, local := newExporting(t, f)
	sound := mp3Sound(50)
	r := ticket(t, l, RecordingRequest{})
	record(t, l, r, sound, EndedClean)
	target := ExportTarget{
		URL: "https://user:pa55@db.example/db/doc/vm.mp3?sig=s3cret", DeleteAfter: true,
		Headers: map[string]string{"Authorization": "Bearer t0ken", "X-Rev": "1"},
	}
	e := libtest.Must[Export](t)(l.ExportRecording(t.Context(), r.ID, target, nil))
	for _, text := range []string{fmt.Sprintf("%+v", e), fmt.Sprintf("%+v", recordingNow(t, l, r.ID))} {
		for _, secret := range []string{"pa55", "s3cret", "t0ken"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows %s", text, secret)
			}
		}
	}
	libtest.Equal(t, "target", e.Target, "https://db.example/db/doc/vm.mp3")
	done := exportIn(t, l, e.ID, ExportDone)
	libtest.Equal(t, "attempts", done.Attempts, 1)
	got := f.sent()
	if len(got) != 1 || got[0].err != nil || !bytes.Equal(got[0].body, sound) {
		t.Fatalf("sent %d times", len(got))
	}
	d := got[0].d
	if d.URL != target.URL || d.Method != http.MethodPut || d.Size != int64(len(sound)) ||
		d.Header["Content-Type"] != "audio/mpeg" || d.Header["Authorization"] != "Bearer t0ken" {
		t.Errorf("sent %+v", d)
	}
	libtest.WaitFor(t, "it is discarded",
		func() bool { return recordingNow(t, l, r.ID).State == StateDiscarded })
	libtest.Equal(t, "ended by", recordingNow(t, l, r.ID).EndedBy, EndedByExport)
	// A commit becomes visible row by row.
	libtest.WaitFor(t, "no reference is left", func() bool { return len(refs(t, local)) == 0 })
	_, err := l.RetryExport(t.Context(), e.ID)
	libtest.WantErr(t, "retry of one that is done", err, ErrState)
}

// TestExportOutlivesItsRecording: the sound is kept until the target has it,
// whatever is done to recording and item; the same order twice is one.
func TestExportOutlivesItsRecording(t *testing.T) {
	t.Parallel()
	go1 := make(chan struct{})
	f := &fakeSender{answer: func(ctx context.Context, n int, _ Delivery) (Receipt, error) {
		if n == 1 {
			select {
			case <-go1:
			case <-ctx.Done():
			}
			return Receipt{Status: 503, Text: "later"}, nil
		}
		return Receipt{Status: 204}, nil
	}}
	l, local := newExporting(t, f)
	r := ticket(t, l, RecordingRequest{
		StoreURL: "http://s3.example/b/k", StoreHeaders: map[string]string{"X-A": "b"},
	})
	sound := mp3Sound(30)
	record(t, l, r, sound, EndedClean)
	sealed := recordingNow(t, l, r.ID)
	libtest.Equal(t, "store_url", sealed.StoreURL, "http://s3.example/b/k")
	exportIn(t, l, sealed.ExportID, ExportRunning)
	again := libtest.Must[Export](t)(l.ExportRecording(t.Context(), r.ID,
		ExportTarget{URL: "http://s3.example/b/k"},
		nil))
	libtest.Equal(t, "export", again.ID, sealed.ExportID)
	libtest.WantErr(t, "discard", l.DiscardRecording(t.Context(), r.ID), nil)
	close(go1)
	e := exportIn(t, l, sealed.ExportID, ExportQueued)
	if e.Error != "PUT http://s3.example/b/k: status 503 later" || e.NextTry == nil {
		t.Errorf("export is %+v", e)
	}
	libtest.WaitFor(t, "1 references are left", func() bool { return len(refs(t, local)) == 1 })
	libtest.Must[Export](t)(l.RetryExport(t.Context(), e.ID))
	exportIn(t, l, e.ID, ExportDone)
	if got := f.sent(); len(got) != 2 || !bytes.Equal(got[1].body, sound) {
		t.Errorf("sent %d times", len(got))
	}
	libtest.WaitFor(t, "0 references are left", func() bool { return len(refs(t, local)) == 0 })
}

// TestExportRefused: what can be said at once is, and a target that turns out
// to be forbidden is not tried again; it stays until it is removed.
func TestExportRefused(t *testing.T) {
	t.Parallel()
	f := &fakeSender{answer: func(context.Context, int, Delivery) (Receipt, error) {
		return Receipt{}, fmt.Errorf("PUT http://x: %w", ErrTarget)
	}}
	l, local := newExporting(t, f)
	r := ticket(t, l, RecordingRequest{})
	_, err := l.ExportRecording(t.Context(), r.ID, ExportTarget{URL: "http://x"}, nil)
	libtest.WantErr(t, "before its end", err, ErrState)
	record(t, l, r, mp3Sound(9), EndedClean)
	for _, bad := range []ExportTarget{
		{URL: "http://x", Method: "DELETE"},
		{URL: "http://" + strings.Repeat("x", targetURLBytesMax)},
		{URL: "http://x", Headers: map[string]string{"X": strings.Repeat("x", targetHeaderBytesMax)}},
		{URL: "http://x", Headers: map[string]string{"Host": "y"}},
	} {
		_, err := l.ExportRecording(t.Context(), r.ID, bad, nil)
		libtest.WantErr(t, "target", err, ErrBadRequest)
	}
	_, err = l.ExportRecording(t.Context(), r.ID, ExportTarget{URL: "http://forbidden"}, nil)
	libtest.WantErr(t, "forbidden target", err, ErrTarget)
	store := &StoreRequest{Account: "acme", ID: "kept"}
	_, err = l.ExportRecording(t.Context(), r.ID, ExportTarget{URL: "http://x", DeleteAfter: true}, store)
	libtest.WantErr(t, "store and delete", err, ErrBadRequest)
	_, err = l.CreateRecording(t.Context(), RecordingRequest{Account: "a", StoreURL: "http://forbidden"})
	libtest.WantErr(t, "ticket", err, ErrTarget)

	target := ExportTarget{URL: "http://x", Method: "POST"}
	e := libtest.Must[Export](t)(l.ExportRecording(t.Context(), r.ID, target, store))
	failed := exportIn(t, l, e.ID, ExportFailed)
	if failed.Attempts != 1 || failed.Error == "" || failed.Ended == nil {
		t.Errorf("export is %+v", failed)
	}
	libtest.Must[Document](t)(l.Get(t.Context(), "acme", "kept", Fresh))
	libtest.WaitFor(t, "2 references are left", func() bool { return len(refs(t, local)) == 2 })
	libtest.WaitFor(t, "it is listed as failed", func() bool {
		found, next, err := l.Exports(t.Context(), ExportQuery{State: ExportFailed, Account: "acme"})
		return err == nil && len(found) == 1 && next == "" && found[0].ID == e.ID
	})
	libtest.WantErr(t, "remove", l.RemoveExport(t.Context(), e.ID), nil)
	libtest.WantErr(t, "remove again", l.RemoveExport(t.Context(), e.ID), ErrNotFound)
	libtest.WaitFor(t, "1 references are left", func() bool { return len(refs(t, local)) == 1 })
}

// TestExportOnce: of two nodes one sends, and the other does when the first is
// gone with the export in its hands.
func TestExportOnce(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	open := func(id string, f *fakeSender) *Library {
		deps := testDeps(local)
		deps.NodeID, deps.Sender, deps.Metrics = id, f, prometheus.NewRegistry()
		return openLibrary(t, testConfig(), deps)
	}
	f := &fakeSender{}
	one, two := open("node-1", f), open("node-2", f)
	r := ticket(t, one, RecordingRequest{})
	record(t, one, r, mp3Sound(9), EndedClean)
	for i := range 20 {
		target := ExportTarget{URL: fmt.Sprintf("http://x%d/", i)}
		e := libtest.Must[Export](t)(one.ExportRecording(t.Context(), r.ID, target, nil))
		two.pokeExports()
		exportIn(t, two, e.ID, ExportDone)
	}
	libtest.Equal(t, "sent", len(f.sent()), 20)

	// As a former life of this node left it.
	row := libtest.Must[*stored](t)(one.recording(t.Context(), r.ID))
	e := newExport(row, &ExportTarget{URL: "http://y/", Method: http.MethodPut}, time.Now())
	e.State, e.Node, e.Attempts, e.due = ExportRunning, "node-1", 1, time.Now().Add(exportLease)
	c := one.newChange()
	c.putExport(e)
	txn := libtest.Must[blobstore.Txn](t)(c.Done())
	libtest.Must[uint64](t)(local.Commit(t.Context(), txn))
	one.pokeExports()
	done := exportIn(t, one, e.ID, ExportDone)
	libtest.Equal(t, "attempts", done.Attempts, 2)
}

// Goal: a lease runs out when it is not renewed, by one's own clock.
func TestExportLease(t *testing.T) {
	t.Parallel()
	x, now := newExporter(), time.Now()
	for i, c := range []struct {
		value string
		after time.Duration
		stale bool
	}{
		{"a", 0, false},
		{"a", exportLease, false},
		{"b", exportLease + 1, false}, // renewed
		{"b", 2*exportLease + 1, false},
		{"b", 2*exportLease + 2, true},
	} {
		if got := x.stale("id", c.value, now.Add(c.after)); got != c.stale {
			t.Errorf("%d: stale is %v", i, got)
		}
	}
}

// TestExportWaits: the pauses grow, and after a long weekend it is given up.
func TestExportWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		e := &export{since: now}
		last := time.Duration(0)
		for e.Attempts = 1; e.State != ExportFailed; e.Attempts++ {
			e.failed(delivered{err: errors.New("refused")}, now)
			pause := e.due.Sub(now)
			if e.State == ExportQueued &&
				(pause < last/2 || pause < exportPauseMin*3/4 || pause > exportPauseMax*5/4) {
				t.Fatalf("pause %d is %v after %v", e.Attempts, pause, last)
			}
			now, last = e.due, pause
		}
		if total := now.Sub(e.since); total < exportGiveUp || e.Attempts < 100 || e.Attempts > 1000 {
			t.Errorf("given up after %v, %d attempts", total, e.Attempts)
		}
		e.failed(delivered{receipt: Receipt{Status: 429, RetryAfter: time.Hour}}, e.since)
		if pause := e.due.Sub(e.since); pause < time.Hour {
			t.Errorf("asked to wait an hour, waits %v", pause)
		}
	})
}

// TestExportIsGivenBack: a node that closes lets another send, at once.
func TestExportIsGivenBack(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	deps := testDeps(local)
	hangs := &fakeSender{answer: func(ctx context.Context, _ int, _ Delivery) (Receipt, error) {
		<-ctx.Done()
		return Receipt{}, ctx.Err()
	}}
	deps.Sender = hangs
	l := openLibrary(t, testConfig(), deps)
	r := ticket(t, l, RecordingRequest{})
	record(t, l, r, mp3Sound(9), EndedClean)
	e := libtest.Must[Export](t)(l.ExportRecording(t.Context(), r.ID, ExportTarget{URL: "http://x"}, nil))
	libtest.WaitFor(t, "it is being sent", func() bool { return len(hangs.sent()) == 1 })
	libtest.WantErr(t, "close", l.Close(), nil)

	deps.Sender = &fakeSender{}
	l = openLibrary(t, testConfig(), deps)
	libtest.Equal(t, "attempts", exportIn(t, l, e.ID, ExportDone).Attempts, 1)
}

// Goal: a recording that is taken over is sent once, whole.
func TestExportOfATakenOverRecording(t *testing.T) {
	t.Parallel()
	f := &fakeSender{}
	deps := testDeps(libtest.OpenStore(t, t.TempDir()))
	deps.Sender = f
	l := openLibrary(t, takeoverConfig(), deps)
	r := ticket(t, l, RecordingRequest{StoreURL: "http://x", DeleteAfter: true})
	record(t, l, r, mp3Sound(20), EndedCut)
	record(t, l, r, mp3Sound(30), EndedClean)
	exportIn(t, l, recordingNow(t, l, r.ID).ExportID, ExportDone)
	if got := f.sent(); len(got) != 1 || len(got[0].body) != 50*mp3FrameBytes {
		t.Errorf("sent %d times", len(got))
	}
	found, _, err := l.Exports(t.Context(), ExportQuery{})
	if err != nil || len(found) != 1 {
		t.Errorf("found %+v, %v", found, err)
	}
}

// Goal: an account may want all that is stored in it sent somewhere.
func TestAccountExport(t *testing.T) {
	t.Parallel()
	f := &fakeSender{}
	l, _ := newExporting(t, f)
	libtest.Must[AccountSettings](t)(l.UpdateAccount(t.Context(), "acme", "", func(s *AccountSettings) error {
		s.Export = ExportSettings{URL: "http://db/x/", OnStore: true, Headers: map[string]Secret{"X-Key": "k"}}
		return nil
	}))
	r := ticket(t, l, RecordingRequest{StoreAs: "vm/a b"})
	record(t, l, r, mp3Sound(20), EndedClean)
	exportIn(t, l, recordingNow(t, l, r.ID).ExportID, ExportDone)
	got := f.sent()
	if len(got) != 1 || got[0].d.URL != "http://db/x/vm/a%20b.mp3" || got[0].d.Header["X-Key"] != "k" {
		t.Errorf("sent %+v", got)
	}
}

// Goal: an export comes back from its row as it was, in every later release.
func TestExportRow(t *testing.T) {
	t.Parallel()
	at := func(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
	ended := at(1_700_000_003_000)
	e := &export{
		Export: Export{
			ID: "01hf7yat3bzzzzzzzzzzzzzzzz", Account: "acme", RecordingID: "01hf7yat3bzzzzzzzzzzzzzzzz",
			Target: "http://x/y", Method: "PUT", Headers: []string{"A"}, DeleteAfter: true, State: ExportFailed,
			Revision: 7, ContentType: "audio/mpeg", Size: 1, SHA256: "ab", Attempts: 3, Error: "status 500",
			Node: "node-1", Created: at(1_700_000_000_000), Ended: &ended,
		},
		blob: blobstore.ID{1}, url: "http://u:p@x/y?z", headers: map[string]string{"A": "b"},
		due: at(1_700_000_001_000), since: at(1_700_000_002_000),
	}
	value := libtest.Must[[]byte](t)(encodeExport(e))
	libtest.Golden(t, "export-1.row", value)
	libtest.Golden(t, "export-open-1.row", encodeOpen(ExportQueued, e.due))
	back := libtest.Must[*export](t)(decodeExport(e.ID, blobstore.Row{Value: value, Revision: 7}))
	if diff := cmp.Diff(e, back, cmp.AllowUnexported(export{})); diff != "" {
		t.Errorf("export came back changed:\n%s", diff)
	}
	libtest.Equal(t, "time of an id", rows.MadeAt(rows.NewID(e.since)).UnixMilli(), e.since.UnixMilli())
}
