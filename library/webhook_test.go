package library

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"carillon/blobstore"
	"carillon/library/feed"
	"carillon/library/libtest"
	"carillon/library/rows"
)

// receiver is the far end of a webhook.
type receiver struct {
	fakeSender
	t      *testing.T
	secret string
}

// events are those of the deliveries that were answered with 2xx, checked.
// emit commits n events of a kind, each in a commit of its own.
func emit(t *testing.T, l *Library, n int, kind feed.Kind, e feed.Event) {
	t.Helper()
	for range n {
		libtest.Commit(t, l.rows, func(c *rows.Change) { feed.Add(c, kind, e) })
	}
}

func (r *receiver) events() []feed.Event {
	r.t.Helper()
	var all []feed.Event
	for _, s := range r.sent() {
		var body WebhookBody
		if err := json.Unmarshal(s.body, &body); err != nil {
			r.t.Fatal(err)
		}
		at, err := strconv.ParseInt(s.d.Header["Carillon-Timestamp"], 10, 64)
		if err != nil || s.d.Header["Carillon-Signature"] != "v1="+SignWebhook(r.secret, at, s.body) {
			r.t.Fatalf("signature %q of %q does not hold", s.d.Header["Carillon-Signature"], s.body)
		}
		if s.d.Method != http.MethodPost || s.d.Size != int64(len(s.body)) ||
			s.d.Header["Carillon-Event-Id"] != body.Events[0].Position.String() {
			r.t.Fatalf("delivery %+v", s.d)
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

func openHooked(
	t *testing.T, local *blobstore.Local, node string, r Sender, gone func(string) bool,
) *Library {
	t.Helper()
	deps := testDeps(local)
	deps.NodeID, deps.Sender, deps.Gone = node, r, gone
	return openLibrary(t, testConfig(), deps)
}

// TestWebhook: what is wanted is delivered signed and in order, and a library
// that is opened again goes on where the last one was.
func TestWebhook(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	r := &receiver{t: t}
	l := openHooked(t, local, "node-1", r, nil)
	emit(t, l, 3, feed.MediaCreated, feed.Event{Account: "acme", ID: "before"})
	hook, created, err := l.PutWebhook(t.Context(), "crm", WebhookRequest{
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
	if s := r.sent(); s[0].d.URL != "https://user:pa55@crm.example/in?key=s3cret" {
		t.Errorf("sent to %s", s[0].d.URL)
	}
	libtest.WaitFor(t, "the position is written", func() bool {
		w := libtest.Must[Webhook](t)(l.Webhook(t.Context(), "crm"))
		return w.Lag == 0 && w.State == WebhookOK && w.Node == "node-1" && w.LastOK != nil
	})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openHooked(t, local, "node-1", r, nil)
	emit(t, l, 1, feed.MediaDeleted, feed.Event{Account: "acme", ID: "60"})
	libtest.WaitFor(t, "it goes on", func() bool { return len(r.events()) > 60 })
	libtest.Equal(t, "delivered", idsOf(r.events()), strings.Join(append(want, "60"), " "))

	again, created, err := l.PutWebhook(t.Context(), "crm", WebhookRequest{URL: "http://x", Secret: secretShown})
	if err != nil || created || again.NewSecret != "" || len(again.Kinds) != 0 ||
		again.Position != hookAt(t, l).Position {
		t.Errorf("%+v, %v, %v", again, created, err)
	}
	libtest.WantErr(t, "delete", l.DeleteWebhook(t.Context(), "crm"), nil)
	libtest.WantErr(t, "delete again", l.DeleteWebhook(t.Context(), "crm"), ErrNotFound)
	emit(t, l, 1, feed.MediaDeleted, feed.Event{Account: "acme", ID: "61"})
	libtest.Equal(t, "rows left",
		len(libtest.Keys(t, local, webhookPrefix))+len(libtest.Keys(t, local, webhookStates)), 0)
}

func hookAt(t *testing.T, l *Library) Webhook {
	t.Helper()
	return libtest.Must[Webhook](t)(l.Webhook(t.Context(), "crm"))
}

// TestWebhookRefused: what is wrong is said at once, and their number is bounded.
func TestWebhookRefused(t *testing.T) {
	t.Parallel()
	l := openHooked(t, libtest.OpenStore(t, t.TempDir()), "node-1", &receiver{t: t}, nil)
	for _, c := range []struct {
		id   string
		r    WebhookRequest
		want error
	}{
		{"a/b", WebhookRequest{URL: "http://x"}, ErrBadName},
		{"", WebhookRequest{URL: "http://x"}, ErrBadName},
		{"a", WebhookRequest{URL: "http://forbidden"}, ErrTarget},
		{"a", WebhookRequest{URL: "http://x", Kinds: []string{"nothing"}}, ErrBadRequest},
		{"a", WebhookRequest{URL: "http://x", Account: "a/b"}, ErrBadName},
		{"a", WebhookRequest{URL: "http://x", Secret: "short"}, ErrBadRequest},
		{"a", WebhookRequest{URL: "http://x", After: "yesterday"}, ErrBadRequest},
	} {
		_, _, err := l.PutWebhook(t.Context(), c.id, c.r)
		libtest.WantErr(t, fmt.Sprintf("%q %+v", c.id, c.r), err, c.want)
	}
	for i := range WebhooksMax {
		must2(t)(l.PutWebhook(t.Context(), strconv.Itoa(i), WebhookRequest{URL: "http://x", Disabled: true}))
	}
	_, _, err := l.PutWebhook(t.Context(), "more", WebhookRequest{URL: "http://x"})
	libtest.WantErr(t, "one more", err, ErrLimit)
	libtest.Equal(t, "listed", len(libtest.Must[[]Webhook](t)(l.Webhooks(t.Context()))), WebhooksMax)
}

// TestWebhookFails: a delivery is repeated until it arrives, the failure shows,
// and no event is lost or out of order.
func TestWebhookFails(t *testing.T) {
	t.Parallel()
	var fail atomic.Bool
	fail.Store(true)
	r := &receiver{t: t, secret: strings.Repeat("s", 20)}
	r.answer = func(context.Context, int, Delivery) (Receipt, error) {
		if fail.Load() {
			return Receipt{Status: 503, Text: "down"}, nil
		}
		return Receipt{Status: 200}, nil
	}
	l := openHooked(t, libtest.OpenStore(t, t.TempDir()), "node-1", r, nil)
	must2(t)(l.PutWebhook(t.Context(), "crm", WebhookRequest{URL: "http://x", Secret: Secret(r.secret)}))
	emit(t, l, 1, feed.MediaCreated, feed.Event{Account: "acme", ID: "1"})
	libtest.WaitFor(t, "the failure shows", func() bool {
		w := hookAt(t, l)
		return w.State == WebhookFailing && w.Error == "status 503 down" && w.Lag == 1 && w.Failing != nil
	})
	emit(t, l, 1, feed.MediaCreated, feed.Event{Account: "acme", ID: "2"})
	fail.Store(false)
	libtest.WaitFor(t, "it recovers", func() bool {
		w := hookAt(t, l)
		return w.State == WebhookOK && w.Lag == 0 && w.Attempts == 0 && w.Error == ""
	})
	if ids := idsOf(r.events()); !strings.HasSuffix(ids, "1 2") || strings.Contains(ids, "2 1") {
		t.Errorf("delivered %s", ids)
	}
}

func must2(t *testing.T) func(Webhook, bool, error) {
	t.Helper()
	return func(_ Webhook, _ bool, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestWebhookGivesUp: after a long weekend it is disabled, its position is
// kept, and a PUT begins again.
func TestWebhookGivesUp(t *testing.T) {
	t.Parallel()
	r := &receiver{t: t}
	l := openHooked(t, libtest.OpenStore(t, t.TempDir()), "other", r, nil)
	must2(t)(l.PutWebhook(t.Context(), "crm", WebhookRequest{URL: "http://x", Disabled: true}))
	h, err := l.hook(t.Context(), "crm")
	if err != nil {
		t.Fatal(err)
	}
	d := &deliverer{l: l, h: h}
	now, last := time.Now(), time.Duration(0)
	begun, at := now, d.h.state.position()
	for !d.h.state.Off {
		pause, err := d.failed(t.Context(), now, Receipt{Status: 500}, nil)
		if err != nil || pause > 5*webhookPauseMax/4 || !d.h.state.Off && pause < last/2 {
			t.Fatalf("pause %v after %v, %v", pause, last, err)
		}
		now, last = now.Add(pause+time.Millisecond), pause
	}
	if took := now.Sub(begun); took < webhookGiveUp || took > webhookGiveUp+2*webhookPauseMax {
		t.Errorf("given up after %v", took)
	}
	w := hookAt(t, l)
	if w.State != WebhookDisabled || w.Position != at {
		t.Errorf("%+v, was at %v", w, at)
	}
	pause, _ := d.failed(t.Context(), begun, Receipt{RetryAfter: time.Hour}, errors.New("x"))
	if pause < time.Hour {
		t.Errorf("asked for an hour, waits %v", pause)
	}
	must2(t)(l.PutWebhook(t.Context(), "crm", WebhookRequest{URL: "http://x"}))
	if w := hookAt(t, l); w.State != WebhookOK || w.Position != at {
		t.Errorf("%+v, was at %v", w, at)
	}
}

// TestWebhookOneNode: of two nodes one delivers; when it is gone, the other
// goes on without a gap.
func TestWebhookOneNode(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	var gone atomic.Pointer[string]
	isGone := func(node string) bool { g := gone.Load(); return g != nil && *g == node }
	a, b := &receiver{t: t, secret: strings.Repeat("s", 20)}, &receiver{t: t, secret: strings.Repeat("s", 20)}
	libs := map[string]*Library{
		"a": openHooked(t, local, "a", a, isGone), "b": openHooked(t, local, "b", b, isGone),
	}
	must2(t)(libs["a"].PutWebhook(t.Context(), "crm", WebhookRequest{URL: "http://x", Secret: Secret(a.secret)}))
	emit(t, libs["b"], 5, feed.MediaCreated, feed.Event{Account: "acme", ID: "1"})
	libtest.WaitFor(t, "one delivers", func() bool { return len(a.events())+len(b.events()) == 5 })
	first, second := a, b
	node := "a"
	if len(b.events()) > 0 {
		first, second, node = b, a, "b"
	}
	libtest.Equal(t, "delivered by the other", len(second.events()), 0)
	if err := libs[node].Close(); err != nil { // it keeps the lease, as one that dies does
		t.Fatal(err)
	}
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

// TestWebhookMisses: events that were trimmed before they could be delivered
// are counted, and it goes on with those that are kept.
func TestWebhookMisses(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	r := &receiver{t: t, secret: strings.Repeat("s", 20)}
	l := openHooked(t, local, "node-1", r, nil)
	must2(t)(l.PutWebhook(t.Context(), "crm", WebhookRequest{
		URL: "http://x", Secret: Secret(r.secret), Disabled: true,
	}))
	old := time.Now().Add(-2 * feed.KeptDefault)
	emit(t, l, 3, feed.MediaCreated, feed.Event{Account: "acme", ID: "old", Time: old})
	emit(t, l, 1, feed.MediaCreated, feed.Event{Account: "acme", ID: "new"})
	if err := l.feed.Trim(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	must2(t)(l.PutWebhook(t.Context(), "crm", WebhookRequest{URL: "http://x"}))
	libtest.WaitFor(t, "it goes on", func() bool { return len(r.events()) > 0 })
	libtest.Equal(t, "delivered", idsOf(r.events()), "new")
	libtest.WaitFor(t, "it says so", func() bool { return hookAt(t, l).Missed == 1 })
}

// TestWebhookWithoutState: a webhook that came from a backup, which holds no
// positions of another log, begins with what is kept.
func TestWebhookWithoutState(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	r := &receiver{t: t, secret: strings.Repeat("s", 20)}
	l := openHooked(t, local, "node-1", r, nil)
	value := libtest.Must[[]byte](t)(rows.Encode(webhookRow{URL: "http://x", Secret: r.secret, CreatedMS: 1}))
	emit(t, l, 1, feed.MediaCreated, feed.Event{Account: "acme", ID: "kept"})
	libtest.Must[uint64](t)(local.Commit(t.Context(), blobstore.Txn{
		Put: []blobstore.Row{{Key: webhookKey("crm"), Value: value}},
	}))
	libtest.WaitFor(t, "it delivers", func() bool { return len(r.events()) == 1 })
	libtest.Equal(t, "delivered", idsOf(r.events()), "kept")
	libtest.WaitFor(t, "its position is written", func() bool { return hookAt(t, l).Lag == 0 })
	must2(t)(l.PutWebhook(t.Context(), "crm", WebhookRequest{URL: "http://y"}))
}

// TestWebhookTried: a delivery can be tried by hand, which moves nothing, and
// the receiver's answer is told.
func TestWebhookTried(t *testing.T) {
	t.Parallel()
	r := &receiver{t: t, secret: strings.Repeat("s", 20)}
	r.answer = func(context.Context, int, Delivery) (Receipt, error) {
		return Receipt{Status: 401, Text: "who are you"}, nil
	}
	l := openHooked(t, libtest.OpenStore(t, t.TempDir()), "node-1", r, nil)
	must2(t)(l.PutWebhook(t.Context(), "crm", WebhookRequest{
		URL: "http://x", Secret: Secret(r.secret), Disabled: true,
	}))
	before := hookAt(t, l)
	got := libtest.Must[WebhookTest](t)(l.TestWebhook(t.Context(), "crm"))
	if got.Status != 401 || got.OK || got.Text != "who are you" || got.TookMS < 0 {
		t.Errorf("%+v", got)
	}
	s := r.sent()
	if len(s) != 1 || s[0].d.Header["Carillon-Test"] != "true" ||
		!strings.Contains(string(s[0].body), `"events":[]`) {
		t.Errorf("sent %+v", s)
	}
	if after := hookAt(t, l); after.Revision != before.Revision || after.Position != before.Position {
		t.Errorf("%+v, was %+v", after, before)
	}
	_, err := l.TestWebhook(t.Context(), "other")
	libtest.WantErr(t, "unknown", err, ErrNotFound)
}
