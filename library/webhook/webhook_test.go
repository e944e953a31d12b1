package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"carillon/blobstore"
	"carillon/library/delivery"
	"carillon/library/fault"
	"carillon/library/feed"
	"carillon/library/libtest"
	"carillon/library/rows"
	"carillon/library/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is the far end of a webhook.
type receiver struct {
	libtest.Target
	t      *testing.T
	secret string
}

// emit commits n events of a kind, each in a commit of its own.
func emit(t *testing.T, l *life, n int, kind feed.Kind, e feed.Event) {
	t.Helper()
	for range n {
		libtest.Commit(t, l.deps.Rows, func(c *rows.Change) { feed.Add(c, kind, e) })
	}
}

// events are those of the deliveries, checked.
func (r *receiver) events() []feed.Event {
	r.t.Helper()
	var all []feed.Event
	for _, s := range r.Sent() {
		var body Body
		if err := json.Unmarshal(s.Body, &body); err != nil {
			r.t.Fatal(err)
		}
		at, err := strconv.ParseInt(s.Request.Header["Carillon-Timestamp"], 10, 64)
		if err != nil || s.Request.Header["Carillon-Signature"] != "v1="+Sign(r.secret, at, s.Body) {
			r.t.Fatalf("signature %q of %q does not hold", s.Request.Header["Carillon-Signature"], s.Body)
		}
		if s.Request.Method != http.MethodPost || s.Request.Size != int64(len(s.Body)) ||
			s.Request.Header["Carillon-Event-Id"] != body.Events[0].Position.String() {
			r.t.Fatalf("delivery %+v", s.Request)
		}
		all = append(all, body.Events...)
	}
	return all
}

func idsOf(events []feed.Event) string {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	return strings.Join(ids, " ")
}

// noMeter counts nothing.
type noMeter struct{}

func (noMeter) Delivered(string, bool, time.Duration) {}
func (noMeter) States(map[State]int)                  {}

// life is a node while it runs.
type life struct {
	*Set

	end func() // may be called again
}

func begin(
	t *testing.T, local *blobstore.Local, node string, r delivery.Sender, gone func(string) bool,
) *life {
	t.Helper()
	store := rows.Store{Catalog: local}
	l := &life{Set: New(Deps{
		NodeID: node, Rows: store, Feed: feed.New(feed.Config{}, store), Sender: r, Gone: gone, Meter: noMeter{},
		Log: slog.New(slog.DiscardHandler),
	})}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	l.end = func() {
		stop()
		running.Wait()
	}
	t.Cleanup(l.end)
	return l
}

// TestDelivered: what is wanted is delivered signed and in order, and a node
// that runs again goes on where the last one was.
func TestDelivered(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	r := &receiver{t: t}
	l := begin(t, local, "node-1", r, nil)
	emit(t, l, 3, feed.MediaCreated, feed.Event{Account: "acme", ID: "before"})
	hook, created, err := l.Put(t.Context(), "crm", Request{
		URL: "https://user:pa55@crm.example/in?key=s3cret", Kinds: []string{"media"}, Account: "acme",
	})
	if err != nil || !created || hook.NewSecret == "" || strings.Contains(fmt.Sprintf("%+v", hook), "s3cret") {
		t.Fatalf("%+v, %v, %v", hook, created, err)
	}
	r.secret = hook.NewSecret
	var want []string
	for i := range 60 {
		emit(t, l, 1, feed.MediaCreated, feed.Event{Account: "acme", ID: strconv.Itoa(i)})
		emit(t, l, 1, feed.MediaCreated, feed.Event{Account: "other", ID: "no"})
		emit(t, l, 1, feed.ExportDone, feed.Event{Account: "acme", ID: "no"})
		want = append(want, strconv.Itoa(i))
	}
	libtest.WaitFor(t, "all are delivered", func() bool { return len(r.events()) == 60 })
	libtest.Equal(t, "delivered", idsOf(r.events()), strings.Join(want, " "))
	if s := r.Sent(); s[0].Request.URL != "https://user:pa55@crm.example/in?key=s3cret" {
		t.Errorf("sent to %s", s[0].Request.URL)
	}
	libtest.WaitFor(t, "the position is written", func() bool {
		w := libtest.Must[Status](t)(l.Get(t.Context(), "crm"))
		return w.Lag == 0 && w.State == OK && w.Node == "node-1" && w.LastOK != nil
	})
	l.end()
	l = begin(t, local, "node-1", r, nil)
	emit(t, l, 1, feed.MediaDeleted, feed.Event{Account: "acme", ID: "60"})
	libtest.WaitFor(t, "it goes on", func() bool { return len(r.events()) > 60 })
	libtest.Equal(t, "delivered", idsOf(r.events()), strings.Join(append(want, "60"), " "))

	again, created, err := l.Put(t.Context(), "crm", Request{URL: "http://x", Secret: secret.Shown})
	if err != nil || created || again.NewSecret != "" || len(again.Kinds) != 0 ||
		again.Position != hookAt(t, l).Position {
		t.Errorf("%+v, %v, %v", again, created, err)
	}
	libtest.WantErr(t, "delete", l.Delete(t.Context(), "crm"), nil)
	libtest.WantErr(t, "delete again", l.Delete(t.Context(), "crm"), fault.ErrNotFound)
	emit(t, l, 1, feed.MediaDeleted, feed.Event{Account: "acme", ID: "61"})
	libtest.Equal(t, "rows left",
		len(libtest.Keys(t, local, Prefix))+len(libtest.Keys(t, local, StatePrefix)), 0)
}

func hookAt(t *testing.T, l *life) Status {
	t.Helper()
	return libtest.Must[Status](t)(l.Get(t.Context(), "crm"))
}

// TestRefused: what is wrong is said at once, and their number is bounded.
func TestRefused(t *testing.T) {
	t.Parallel()
	l := begin(t, libtest.OpenStore(t, t.TempDir()), "node-1", &receiver{t: t}, nil)
	for _, c := range []struct {
		id   string
		r    Request
		want error
	}{
		{"a/b", Request{URL: "http://x"}, fault.ErrBadName},
		{"", Request{URL: "http://x"}, fault.ErrBadName},
		{"a", Request{URL: "http://forbidden"}, fault.ErrTarget},
		{"a", Request{URL: "http://x", Kinds: []string{"nothing"}}, fault.ErrBadRequest},
		{"a", Request{URL: "http://x", Account: "a/b"}, fault.ErrBadName},
		{"a", Request{URL: "http://x", Secret: "short"}, fault.ErrBadRequest},
		{"a", Request{URL: "http://x", After: "yesterday"}, fault.ErrBadRequest},
	} {
		_, _, err := l.Put(t.Context(), c.id, c.r)
		libtest.WantErr(t, fmt.Sprintf("%q %+v", c.id, c.r), err, c.want)
	}
	for i := range Max {
		must2(t)(l.Put(t.Context(), strconv.Itoa(i), Request{URL: "http://x", Disabled: true}))
	}
	_, _, err := l.Put(t.Context(), "more", Request{URL: "http://x"})
	libtest.WantErr(t, "one more", err, fault.ErrLimit)
	libtest.Equal(t, "listed", len(libtest.Must[[]Status](t)(l.List(t.Context()))), Max)
}

// TestFails: a delivery is repeated until it arrives, the failure shows,
// and no event is lost or out of order.
func TestFails(t *testing.T) {
	t.Parallel()
	var fail atomic.Bool
	fail.Store(true)
	r := &receiver{t: t, secret: strings.Repeat("s", 20)}
	r.Answer = func(context.Context, int, delivery.Request) (delivery.Receipt, error) {
		if fail.Load() {
			return delivery.Receipt{Status: 503, Text: "down"}, nil
		}
		return delivery.Receipt{Status: 200}, nil
	}
	l := begin(t, libtest.OpenStore(t, t.TempDir()), "node-1", r, nil)
	must2(t)(l.Put(t.Context(), "crm", Request{URL: "http://x", Secret: secret.Text(r.secret)}))
	emit(t, l, 1, feed.MediaCreated, feed.Event{Account: "acme", ID: "1"})
	libtest.WaitFor(t, "the failure shows", func() bool {
		w := hookAt(t, l)
		return w.State == Failing && w.Error == "status 503 down" && w.Lag == 1 && w.Failing != nil
	})
	emit(t, l, 1, feed.MediaCreated, feed.Event{Account: "acme", ID: "2"})
	fail.Store(false)
	libtest.WaitFor(t, "it recovers", func() bool {
		w := hookAt(t, l)
		return w.State == OK && w.Lag == 0 && w.Attempts == 0 && w.Error == ""
	})
	if ids := idsOf(r.events()); !strings.HasSuffix(ids, "1 2") || strings.Contains(ids, "2 1") {
		t.Errorf("delivered %s", ids)
	}
}

func must2(t *testing.T) func(Status, bool, error) {
	t.Helper()
	return func(_ Status, _ bool, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestGivesUp: after a long weekend it is disabled, its position is
// kept, and a PUT begins again.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	r := &receiver{t: t}
	l := begin(t, libtest.OpenStore(t, t.TempDir()), "other", r, nil)
	must2(t)(l.Put(t.Context(), "crm", Request{URL: "http://x", Disabled: true}))
	h, err := l.hook(t.Context(), "crm")
	if err != nil {
		t.Fatal(err)
	}
	d := &deliverer{set: l.Set, h: h}
	now, last := time.Now(), time.Duration(0)
	begun, at := now, d.h.state.position()
	for !d.h.state.Off {
		pause, err := d.failed(t.Context(), now, delivery.Receipt{Status: 500}, nil)
		if err != nil || pause > 5*pauseMax/4 || !d.h.state.Off && pause < last/2 {
			t.Fatalf("pause %v after %v, %v", pause, last, err)
		}
		now, last = now.Add(pause+time.Millisecond), pause
	}
	if took := now.Sub(begun); took < giveUp || took > giveUp+2*pauseMax {
		t.Errorf("given up after %v", took)
	}
	w := hookAt(t, l)
	if w.State != Disabled || w.Position != at {
		t.Errorf("%+v, was at %v", w, at)
	}
	pause, _ := d.failed(t.Context(), begun, delivery.Receipt{RetryAfter: time.Hour}, errors.New("x"))
	if pause < time.Hour {
		t.Errorf("asked for an hour, waits %v", pause)
	}
	must2(t)(l.Put(t.Context(), "crm", Request{URL: "http://x"}))
	if w := hookAt(t, l); w.State != OK || w.Position != at {
		t.Errorf("%+v, was at %v", w, at)
	}
}

// TestOneNode: of two nodes one delivers; when it is gone, the other
// goes on without a gap.
func TestOneNode(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	var gone atomic.Pointer[string]
	isGone := func(node string) bool { g := gone.Load(); return g != nil && *g == node }
	a, b := &receiver{t: t, secret: strings.Repeat("s", 20)}, &receiver{t: t, secret: strings.Repeat("s", 20)}
	libs := map[string]*life{
		"a": begin(t, local, "a", a, isGone), "b": begin(t, local, "b", b, isGone),
	}
	must2(t)(libs["a"].Put(t.Context(), "crm", Request{URL: "http://x", Secret: secret.Text(a.secret)}))
	emit(t, libs["b"], 5, feed.MediaCreated, feed.Event{Account: "acme", ID: "1"})
	libtest.WaitFor(t, "one delivers", func() bool { return len(a.events())+len(b.events()) == 5 })
	first, second := a, b
	node := "a"
	if len(b.events()) > 0 {
		first, second, node = b, a, "b"
	}
	libtest.Equal(t, "delivered by the other", len(second.events()), 0)
	libs[node].end() // it keeps the lease, as one that dies does
	for name, l := range libs {
		if name != node {
			emit(t, l, 5, feed.MediaCreated, feed.Event{Account: "acme", ID: "2"})
		}
	}
	gone.Store(&node)
	libtest.WaitFor(t, "the other goes on", func() bool { return len(second.events()) >= 5 })
	libtest.Equal(t, "delivered first", idsOf(first.events()), "1 1 1 1 1")
	libtest.Equal(t, "delivered then", idsOf(second.events()), "2 2 2 2 2")
}

// TestMisses: events that were trimmed before they could be delivered
// are counted, and it goes on with those that are kept.
func TestMisses(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	r := &receiver{t: t, secret: strings.Repeat("s", 20)}
	l := begin(t, local, "node-1", r, nil)
	must2(t)(l.Put(t.Context(), "crm", Request{
		URL: "http://x", Secret: secret.Text(r.secret), Disabled: true,
	}))
	old := time.Now().Add(-2 * feed.KeptDefault)
	emit(t, l, 3, feed.MediaCreated, feed.Event{Account: "acme", ID: "old", Time: old})
	emit(t, l, 1, feed.MediaCreated, feed.Event{Account: "acme", ID: "new"})
	if err := l.deps.Feed.Trim(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	must2(t)(l.Put(t.Context(), "crm", Request{URL: "http://x"}))
	libtest.WaitFor(t, "it goes on", func() bool { return len(r.events()) > 0 })
	libtest.Equal(t, "delivered", idsOf(r.events()), "new")
	libtest.WaitFor(t, "it says so", func() bool { return hookAt(t, l).Missed == 1 })
}

// TestWithoutState: a webhook that came from a backup, which holds no
// positions of another log, begins with what is kept.
func TestWithoutState(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	r := &receiver{t: t, secret: strings.Repeat("s", 20)}
	l := begin(t, local, "node-1", r, nil)
	value := libtest.Must[[]byte](t)(rows.Encode(hookRow{URL: "http://x", Secret: r.secret, CreatedMS: 1}))
	emit(t, l, 1, feed.MediaCreated, feed.Event{Account: "acme", ID: "kept"})
	libtest.Must[uint64](t)(local.Commit(t.Context(), blobstore.Txn{
		Put: []blobstore.Row{{Key: Prefix + "crm", Value: value}},
	}))
	libtest.WaitFor(t, "it delivers", func() bool { return len(r.events()) == 1 })
	libtest.Equal(t, "delivered", idsOf(r.events()), "kept")
	libtest.WaitFor(t, "its position is written", func() bool { return hookAt(t, l).Lag == 0 })
	must2(t)(l.Put(t.Context(), "crm", Request{URL: "http://y"}))
}

// TestTried: a delivery can be tried by hand, which moves nothing, and
// the receiver's answer is told.
func TestTried(t *testing.T) {
	t.Parallel()
	r := &receiver{t: t, secret: strings.Repeat("s", 20)}
	r.Answer = func(context.Context, int, delivery.Request) (delivery.Receipt, error) {
		return delivery.Receipt{Status: 401, Text: "who are you"}, nil
	}
	l := begin(t, libtest.OpenStore(t, t.TempDir()), "node-1", r, nil)
	must2(t)(l.Put(t.Context(), "crm", Request{
		URL: "http://x", Secret: secret.Text(r.secret), Disabled: true,
	}))
	before := hookAt(t, l)
	got := libtest.Must[Trial](t)(l.Try(t.Context(), "crm"))
	if got.Status != 401 || got.OK || got.Text != "who are you" || got.TookMS < 0 {
		t.Errorf("%+v", got)
	}
	s := r.Sent()
	if len(s) != 1 || s[0].Request.Header["Carillon-Test"] != "true" ||
		!strings.Contains(string(s[0].Body), `"events":[]`) {
		t.Errorf("sent %+v", s)
	}
	if after := hookAt(t, l); after.Revision != before.Revision || after.Position != before.Position {
		t.Errorf("%+v, was %+v", after, before)
	}
	_, err := l.Try(t.Context(), "other")
	libtest.WantErr(t, "unknown", err, fault.ErrNotFound)
}

// FuzzDecode: no value makes decoding panic.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{rows.Version})
	f.Fuzz(func(_ *testing.T, value []byte) {
		row := blobstore.Row{Value: value, Revision: 1}
		if h, err := decode("w", row); err == nil {
			_ = h.view()
		}
		if h := (&hook{}); h.decodeState(row) == nil {
			_ = h.view()
		}
	})
}

// TestRowFormats: values are what they were in the first release.
func TestRowFormats(t *testing.T) {
	t.Parallel()
	h := hook{
		id: "crm", revision: 1, stateRevision: 2,
		row: hookRow{
			URL: "http://x", Secret: "s", Kinds: []string{"media"}, Account: "a", Disabled: true, CreatedMS: 3,
		},
		state: stateRow{
			Revision: 4, Number: 5, Node: "n", Missed: 6, Attempts: 7, Error: "e", FailingMS: 8, LastOKMS: 9,
			Off: true,
		},
	}
	for name, row := range map[string]any{"webhook-1.row": h.row, "webhookstate-1.row": h.state} {
		value, err := rows.Encode(row)
		if err != nil {
			t.Fatal(err)
		}
		libtest.Golden(t, name, value)
	}
}
