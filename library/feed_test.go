package library

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"carillon/blobstore"
)

// emit commits n events of a kind, each in a commit of its own.
func emit(t *testing.T, l *Library, n int, kind EventKind, e Event) {
	t.Helper()
	for range n {
		c := l.newChange()
		c.event(kind, e)
		txn, err := c.Done()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.rows.Commit(t.Context(), txn); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEventsInPages: pages follow one another without a gap or a repetition,
// with filters, and also when events come in between.
func TestEventsInPages(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	for i := range 30 {
		emit(t, l, 1, EventMediaCreated, Event{Account: "acme", ID: strconv.Itoa(i)})
		emit(t, l, 1, EventMediaDeleted, Event{Account: "other", ID: strconv.Itoa(i)})
	}
	q := EventQuery{Account: "acme", Kinds: []string{"media"}}
	var got, want []string
	for more := true; more; {
		page, err := l.Events(t.Context(), q, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			got = append(got, e.ID)
		}
		q.After, more = page.Next, page.More
		if len(got) == 14 {
			emit(t, l, 1, EventMediaCreated, Event{Account: "acme", ID: "30"})
		}
	}
	for i := range 31 {
		want = append(want, strconv.Itoa(i))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	q.Kinds = []string{"media.replaced", "export"}
	q.After = EventPosition{}
	if page, err := l.Events(t.Context(), q, 0); err != nil || len(page.Events) != 0 || page.More ||
		page.Next != l.EventsNow() {
		t.Errorf("page %+v, %v", page, err)
	}
	for _, bad := range []EventQuery{
		{Kinds: []string{"medi"}}, {Kinds: []string{""}}, {Kinds: make([]string, 99)},
	} {
		_, err := l.Events(t.Context(), bad, 0)
		wantErr(t, fmt.Sprint(bad.Kinds), err, ErrBadRequest)
	}
	_, err := l.Events(t.Context(), EventQuery{Account: "a/b"}, 0)
	wantErr(t, "account", err, ErrBadName)
	_, err = l.Events(t.Context(), EventQuery{After: EventPosition{1 << 40, 0}}, 0)
	wantErr(t, "a position of another cluster", err, ErrTrimmed)
}

// TestEventsFollowed: who watches before it reads sees every event once, from
// many writers.
func TestEventsFollowed(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	const writers, each = 4, 50
	for w := range writers {
		go emitAll(l, each, strconv.Itoa(w))
	}
	seen := map[string]int{}
	var after EventPosition
	ctx := bounded(t)
	for total := 0; total < writers*each; {
		changed, cancel := l.WatchEvents()
		page, err := l.Events(ctx, EventQuery{After: after}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if !e.Position.After(after) {
				t.Fatalf("%v after %v", e.Position, after)
			}
			after = e.Position
			seen[e.ID]++
			total++
		}
		after = page.Next
		if !page.More && total < writers*each {
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatalf("%d events seen", total)
			}
		}
		cancel()
	}
	for w, n := range seen {
		if n != each {
			t.Errorf("%d events of writer %s", n, w)
		}
	}
}

func emitAll(l *Library, n int, id string) {
	for range n {
		c := l.newChange()
		c.event(EventMediaCreated, Event{Account: "acme", ID: id})
		_, _ = l.rows.Commit(context.Background(), c.Txn) // the reader misses what fails
	}
}

// TestTrimEvents: what is too old or too much goes, oldest first, and who asks
// for it is told where to go on.
func TestTrimEvents(t *testing.T) {
	t.Parallel()
	local := openLocal(t, t.TempDir())
	cfg := testConfig()
	cfg.EventsMax, cfg.EventsKept = 300, time.Hour
	l := openLibrary(t, cfg, testDeps(local))
	now := time.Now()
	emit(t, l, 3, EventMediaCreated, Event{Account: "acme", Time: now.Add(-2 * time.Hour)})
	emit(t, l, 600, EventMediaCreated, Event{Account: "acme", Time: now})
	if err := l.trimEvents(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	events := eventRows(t, local)
	equal(t, "events kept", len(events), 300)
	_, err := l.Events(t.Context(), EventQuery{}, 0)
	wantErr(t, "everything", err, ErrTrimmed)
	trimmed, _, err := l.trimmed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	page, err := l.Events(t.Context(), EventQuery{After: trimmed}, 0)
	if err != nil || len(page.Events) != 300 {
		t.Errorf("%d events after %v: %v", len(page.Events), trimmed, err)
	}
	if page, err = l.Events(t.Context(), EventQuery{Oldest: true}, 0); err != nil || len(page.Events) != 300 {
		t.Errorf("%d events from the oldest: %v", len(page.Events), err)
	}
	if err := l.trimEvents(t.Context(), now.Add(time.Hour+time.Second)); err != nil {
		t.Fatal(err)
	}
	equal(t, "events kept an hour later", len(eventRows(t, local)), 0)
	s, err := l.FeedStatus(t.Context())
	if err != nil || s.Events != 0 || s.Trimmed != events[299].Position {
		t.Errorf("%+v, %v", s, err)
	}
	if tally, err := local.Tally(t.Context(), eventPrefix); err != nil || tally != (blobstore.Tally{}) {
		t.Errorf("%+v, %v", tally, err)
	}
}
