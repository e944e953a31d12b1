package library

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
	"carillon/library/delivery"
	"carillon/library/export"
	"carillon/library/feed"
	"carillon/library/field"
	"carillon/library/libtest"
	"carillon/library/secret"
)

func newExporting(t *testing.T, f *libtest.Target) (*Library, *blobstore.Local) {
	t.Helper()
	local := libtest.OpenStore(t, t.TempDir())
	deps := testDeps(local)
	deps.Sender = f
	return openLibrary(t, testConfig(), deps), local
}

func exportIn(t *testing.T, l *Library, id string, state export.State) export.Order {
	t.Helper()
	var e export.Order
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
	f := &libtest.Target{}
	l, local := newExporting(t, f)
	sound := mp3Sound(50)
	r := ticket(t, l, RecordingRequest{})
	record(t, l, r, sound, EndedClean)
	target := export.Target{
		URL: "https://user:pa55@db.example/db/doc/vm.mp3?sig=s3cret", DeleteAfter: true,
		Headers: map[string]string{"Authorization": "Bearer t0ken", "X-Rev": "1"},
	}
	e := libtest.Must[export.Order](t)(l.ExportRecording(t.Context(), r.ID, target, nil))
	for _, text := range []string{fmt.Sprintf("%+v", e), fmt.Sprintf("%+v", recordingNow(t, l, r.ID))} {
		for _, secret := range []string{"pa55", "s3cret", "t0ken"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows %s", text, secret)
			}
		}
	}
	libtest.Equal(t, "target", e.Target, "https://db.example/db/doc/vm.mp3")
	done := exportIn(t, l, e.ID, export.Done)
	libtest.Equal(t, "attempts", done.Attempts, 1)
	got := f.Sent()
	if len(got) != 1 || got[0].Err != nil || !bytes.Equal(got[0].Body, sound) {
		t.Fatalf("sent %d times", len(got))
	}
	d := got[0].Request
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
	f := &libtest.Target{Answer: func(ctx context.Context, n int, _ delivery.Request) (delivery.Receipt, error) {
		if n == 1 {
			select {
			case <-go1:
			case <-ctx.Done():
			}
			return delivery.Receipt{Status: 503, Text: "later"}, nil
		}
		return delivery.Receipt{Status: 204}, nil
	}}
	l, local := newExporting(t, f)
	r := ticket(t, l, RecordingRequest{
		StoreURL: "http://s3.example/b/k", StoreHeaders: map[string]string{"X-A": "b"},
	})
	sound := mp3Sound(30)
	record(t, l, r, sound, EndedClean)
	sealed := recordingNow(t, l, r.ID)
	libtest.Equal(t, "store_url", sealed.StoreURL, "http://s3.example/b/k")
	exportIn(t, l, sealed.ExportID, export.Running)
	again := libtest.Must[export.Order](t)(l.ExportRecording(t.Context(), r.ID,
		export.Target{URL: "http://s3.example/b/k"},
		nil))
	libtest.Equal(t, "export", again.ID, sealed.ExportID)
	libtest.WantErr(t, "discard", l.DiscardRecording(t.Context(), r.ID), nil)
	close(go1)
	e := exportIn(t, l, sealed.ExportID, export.Queued)
	if e.Error != "PUT http://s3.example/b/k: status 503 later" || e.NextTry == nil {
		t.Errorf("export is %+v", e)
	}
	libtest.WaitFor(t, "1 references are left", func() bool { return len(refs(t, local)) == 1 })
	libtest.Must[export.Order](t)(l.RetryExport(t.Context(), e.ID))
	exportIn(t, l, e.ID, export.Done)
	if got := f.Sent(); len(got) != 2 || !bytes.Equal(got[1].Body, sound) {
		t.Errorf("sent %d times", len(got))
	}
	libtest.WaitFor(t, "0 references are left", func() bool { return len(refs(t, local)) == 0 })
}

// TestExportRefused: what can be said at once is, and a target that turns out
// to be forbidden is not tried again; it stays until it is removed.
func TestExportRefused(t *testing.T) {
	t.Parallel()
	f := &libtest.Target{Answer: func(context.Context, int, delivery.Request) (delivery.Receipt, error) {
		return delivery.Receipt{}, fmt.Errorf("PUT http://x: %w", ErrTarget)
	}}
	l, local := newExporting(t, f)
	r := ticket(t, l, RecordingRequest{})
	_, err := l.ExportRecording(t.Context(), r.ID, export.Target{URL: "http://x"}, nil)
	libtest.WantErr(t, "before its end", err, ErrState)
	record(t, l, r, mp3Sound(9), EndedClean)
	for _, bad := range []export.Target{
		{URL: "http://x", Method: "DELETE"},
		{URL: "http://" + strings.Repeat("x", 1<<16)},
		{URL: "http://x", Headers: map[string]string{"X": strings.Repeat("x", 1<<16)}},
		{URL: "http://x", Headers: map[string]string{"Host": "y"}},
	} {
		_, err := l.ExportRecording(t.Context(), r.ID, bad, nil)
		libtest.WantErr(t, "target", err, ErrBadRequest)
	}
	_, err = l.ExportRecording(t.Context(), r.ID, export.Target{URL: "http://forbidden"}, nil)
	libtest.WantErr(t, "forbidden target", err, ErrTarget)
	store := &StoreRequest{Account: "acme", ID: "kept"}
	_, err = l.ExportRecording(t.Context(), r.ID, export.Target{URL: "http://x", DeleteAfter: true}, store)
	libtest.WantErr(t, "store and delete", err, ErrBadRequest)
	_, err = l.CreateRecording(t.Context(), RecordingRequest{Account: "a", StoreURL: "http://forbidden"})
	libtest.WantErr(t, "ticket", err, ErrTarget)

	target := export.Target{URL: "http://x", Method: "POST"}
	e := libtest.Must[export.Order](t)(l.ExportRecording(t.Context(), r.ID, target, store))
	failed := exportIn(t, l, e.ID, export.Failed)
	if failed.Attempts != 1 || failed.Error == "" || failed.Ended == nil {
		t.Errorf("export is %+v", failed)
	}
	libtest.Must[Document](t)(l.Get(t.Context(), "acme", "kept", Fresh))
	libtest.WaitFor(t, "2 references are left", func() bool { return len(refs(t, local)) == 2 })
	libtest.WaitFor(t, "it is listed as failed", func() bool {
		found, next, err := l.Exports(t.Context(), export.Query{State: export.Failed, Account: "acme"})
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
	open := func(id string, f *libtest.Target) *Library {
		deps := testDeps(local)
		deps.NodeID, deps.Sender, deps.Metrics = id, f, prometheus.NewRegistry()
		return openLibrary(t, testConfig(), deps)
	}
	f := &libtest.Target{}
	one, two := open("node-1", f), open("node-2", f)
	r := ticket(t, one, RecordingRequest{})
	record(t, one, r, mp3Sound(9), EndedClean)
	for i := range 20 {
		target := export.Target{URL: fmt.Sprintf("http://x%d/", i)}
		e := libtest.Must[export.Order](t)(one.ExportRecording(t.Context(), r.ID, target, nil))
		two.exports.Poke()
		exportIn(t, two, e.ID, export.Done)
	}
	libtest.Equal(t, "sent", len(f.Sent()), 20)
}

// hang answers nothing until the node stops.
func hang(ctx context.Context, _ int, _ delivery.Request) (delivery.Receipt, error) {
	<-ctx.Done()
	return delivery.Receipt{}, ctx.Err()
}

// TestExportIsGivenBack: a node that closes lets another send, at once.
func TestExportIsGivenBack(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	deps := testDeps(local)
	hangs := &libtest.Target{Answer: hang}
	deps.Sender = hangs
	l := openLibrary(t, testConfig(), deps)
	r := ticket(t, l, RecordingRequest{})
	record(t, l, r, mp3Sound(9), EndedClean)
	e := libtest.Must[export.Order](t)(l.ExportRecording(t.Context(), r.ID, export.Target{URL: "http://x"}, nil))
	libtest.WaitFor(t, "it is being sent", func() bool { return len(hangs.Sent()) == 1 })
	libtest.WantErr(t, "close", l.Close(), nil)

	deps.Sender = &libtest.Target{}
	l = openLibrary(t, testConfig(), deps)
	libtest.Equal(t, "attempts", exportIn(t, l, e.ID, export.Done).Attempts, 1)
}

// Goal: a recording that is taken over is sent once, whole.
func TestExportOfATakenOverRecording(t *testing.T) {
	t.Parallel()
	f := &libtest.Target{}
	deps := testDeps(libtest.OpenStore(t, t.TempDir()))
	deps.Sender = f
	l := openLibrary(t, takeoverConfig(), deps)
	r := ticket(t, l, RecordingRequest{StoreURL: "http://x", DeleteAfter: true})
	record(t, l, r, mp3Sound(20), EndedCut)
	record(t, l, r, mp3Sound(30), EndedClean)
	exportIn(t, l, recordingNow(t, l, r.ID).ExportID, export.Done)
	if got := f.Sent(); len(got) != 1 || len(got[0].Body) != 50*mp3FrameBytes {
		t.Errorf("sent %d times", len(got))
	}
	found, _, err := l.Exports(t.Context(), export.Query{})
	if err != nil || len(found) != 1 {
		t.Errorf("found %+v, %v", found, err)
	}
}

// Goal: an account may want all that is stored in it sent somewhere.
func TestAccountExport(t *testing.T) {
	t.Parallel()
	f := &libtest.Target{}
	l, _ := newExporting(t, f)
	libtest.Must[AccountSettings](t)(l.UpdateAccount(t.Context(), "acme", "", func(s *AccountSettings) error {
		s.Export = ExportSettings{URL: "http://db/x/", OnStore: true, Headers: map[string]secret.Text{"X-Key": "k"}}
		return nil
	}))
	r := ticket(t, l, RecordingRequest{StoreAs: "vm/a b"})
	record(t, l, r, mp3Sound(20), EndedClean)
	exportIn(t, l, recordingNow(t, l, r.ID).ExportID, export.Done)
	got := f.Sent()
	if len(got) != 1 || got[0].Request.URL != "http://db/x/vm/a%20b.mp3" ||
		got[0].Request.Header["X-Key"] != "k" {
		t.Errorf("sent %+v", got)
	}
}

// TestExportItem: any item can be sent; what was ordered is sent, whatever
// became of the item meanwhile.
func TestExportItem(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	f := &libtest.Target{Answer: func(ctx context.Context, _ int, _ delivery.Request) (delivery.Receipt, error) {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return delivery.Receipt{Status: 201}, nil
	}}
	l, local := newExporting(t, f)
	ctx, first, second := t.Context(), wavSound(100), wavSound(200)
	before := put(t, l, "acme", "a/b", first, PutOptions{})
	libtest.Must[Document](t)(l.Alias(ctx, AliasRequest{
		Alias: ItemName{"other", "second"}, Of: ItemName{"acme", "a/b"},
	}))
	order := ItemExport{
		ItemName: ItemName{"other", "second"}, IfMatch: before.ETag(),
		Target: export.Target{
			URL: "http://x/1", Method: http.MethodPost, Headers: map[string]string{"X-A": "b"}, DeleteAfter: true,
		},
	}
	e := libtest.Must[export.Order](t)(l.ExportItem(ctx, order))
	libtest.Equal(t, "item", e.Account+"/"+e.Item+e.RecordingID, "acme/a/b")
	libtest.Equal(t, "sha256", e.SHA256, before.SHA256)
	put(t, l, "acme", "a/b", second, PutOptions{})
	close(release)
	exportIn(t, l, e.ID, export.Done)
	got := f.Sent()
	if len(got) != 1 || !bytes.Equal(got[0].Body, first) || got[0].Request.Method != http.MethodPost ||
		got[0].Request.Header["X-A"] != "b" || got[0].Request.Header["Content-Type"] != "audio/x-wav" {
		t.Errorf("sent %+v", got)
	}
	kept := libtest.Must[Document](t)(l.Get(ctx, "acme", "a/b", Fresh)) // it is another sound now
	libtest.Equal(t, "size", kept.Size, int64(len(second)))
	libtest.WaitFor(t, "the sound that was replaced is freed", func() bool { return len(refs(t, local)) == 1 })

	order = ItemExport{
		ItemName: ItemName{"acme", "a/b"}, Target: export.Target{URL: "http://x/2", DeleteAfter: true},
	}
	exportIn(t, l, libtest.Must[export.Order](t)(l.ExportItem(ctx, order)).ID, export.Done)
	// The rows of a commit become visible one after the other.
	libtest.WaitFor(t, "the item is gone", func() bool {
		_, err := l.Get(ctx, "acme", "a/b", Fresh)
		return errors.Is(err, ErrNotFound)
	})
	q := feed.Query{Kinds: []string{string(feed.ExportDone), string(feed.MediaDeleted)}}
	page := libtest.Must[feed.Page](t)(l.Events(ctx, q, 10))
	details := []string{}
	for _, e := range page.Events {
		details = append(details, e.Detail)
	}
	libtest.Equal(t, "events", strings.Join(details, "; "),
		"a/b: POST http://x/1; a/b: PUT http://x/2; "+DeletedByExport)
}

// TestExportItemToItsAccount: without a URL an item goes where the recordings of
// its account go; what cannot be sent is said at once.
func TestExportItemToItsAccount(t *testing.T) {
	t.Parallel()
	f := &libtest.Target{}
	l, _ := newExporting(t, f)
	put(t, l, "acme", "vm/a b", mp3Sound(9), PutOptions{})
	order := func(id string, target export.Target) (export.Order, error) {
		return l.ExportItem(t.Context(), ItemExport{ItemName: ItemName{"acme", id}, Target: target})
	}
	_, err := order("vm/a b", export.Target{})
	libtest.WantErr(t, "without a URL", err, ErrBadRequest)
	if fields, ok := errors.AsType[field.Errors](err); !ok || fields["url"].Code != field.Required {
		t.Errorf("without a URL: %v", err)
	}
	libtest.Must[AccountSettings](t)(l.UpdateAccount(t.Context(), "acme", "", func(s *AccountSettings) error {
		s.Export = ExportSettings{
			URL: "http://db/x?k=v", Headers: map[string]secret.Text{"X-Key": "k", "X-Other": "o"},
		}
		return nil
	}))
	mine := export.Target{Headers: map[string]string{"x-key": "mine"}}
	e := libtest.Must[export.Order](t)(order("vm/a b", mine))
	exportIn(t, l, e.ID, export.Done)
	got := f.Sent()
	if len(got) != 1 || got[0].Request.URL != "http://db/x/vm/a%20b.mp3?k=v" ||
		got[0].Request.Header["x-key"] != "mine" || got[0].Request.Header["X-Other"] != "o" ||
		got[0].Request.Header["X-Key"] != "" {
		t.Errorf("sent %+v", got)
	}
	_, err = order("none", export.Target{})
	libtest.WantErr(t, "no item", err, ErrNotFound)
	_, err = order("../x", export.Target{})
	libtest.WantErr(t, "no id", err, ErrBadName)
	_, err = order("vm/a b", export.Target{URL: "http://forbidden"})
	libtest.WantErr(t, "forbidden target", err, ErrTarget)
	_, err = order("vm/a b", export.Target{Method: "DELETE"})
	libtest.WantErr(t, "another method", err, ErrBadRequest)
	_, err = l.ExportItem(t.Context(), ItemExport{
		ItemName: ItemName{"acme", "vm/a b"}, Target: export.Target{URL: "http://x"}, IfMatch: `"other"`,
	})
	libtest.WantErr(t, "other sound", err, ErrPrecondition)
}
