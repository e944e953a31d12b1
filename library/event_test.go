package library

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"carillon/blobstore"
	"carillon/library/feed"
	"carillon/library/libtest"
	"carillon/library/rows"
)

// events are all events in the catalog, in order.
func events(tb testing.TB, catalog blobstore.Catalog) []feed.Event {
	tb.Helper()
	f := feed.New(feed.Config{}, rows.Store{Catalog: catalog})
	var found []feed.Event
	for q, more := (feed.Query{Oldest: true}), true; more; {
		page, err := f.Read(tb.Context(), q, 0)
		if err != nil {
			tb.Fatal(err)
		}
		found = append(found, page.Events...)
		q, more = feed.Query{After: page.Next}, page.More
	}
	return found
}

func kindsOf(events []feed.Event) []string {
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, string(e.Kind))
	}
	return kinds
}

// TestEventsOfMedia: every change of an item leaves one event with the
// position of its own commit.
func TestEventsOfMedia(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	d := put(t, l, "acme", "a.mp3", mp3Sound(5), PutOptions{})
	replaced := put(t, l, "acme", "a.mp3", mp3Sound(6), PutOptions{})
	name := "new name"
	changed := libtest.Must[Document](t)(l.Update(t.Context(), "acme", "a.mp3", Patch{Name: &name}))
	if err := l.Delete(t.Context(), "acme", "a.mp3", ""); err != nil {
		t.Fatal(err)
	}
	events := events(t, local)
	want := []string{"media.created", "media.replaced", "media.changed", "media.deleted"}
	if diff := cmp.Diff(want, kindsOf(events)); diff != "" {
		t.Fatal(diff)
	}
	for i, d := range []Document{d, replaced, changed, changed} {
		e := events[i]
		if e.Revision != d.Revision || e.Account != "acme" || e.ID != "a.mp3" || e.SHA256 != d.SHA256 ||
			e.Size != d.Size || e.DurationMS != d.DurationMS || e.Time.IsZero() {
			t.Errorf("event %+v of document %+v", e, d)
		}
		if i < 3 && e.Position != (feed.Position{Revision: d.Revision}) {
			t.Errorf("position %v, revision %d", e.Position, d.Revision)
		}
	}
}

// TestEventsOfRecordings: every step of a recording's life is told of once.
func TestEventsOfRecordings(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	record := func(sound []byte, how Ending, r RecordingRequest) Recording {
		t.Helper()
		r.Account = "acme"
		rec := libtest.Must[Recording](t)(l.CreateRecording(t.Context(), r))
		s := libtest.Must[*Session](t)(l.Claim(t.Context(), ticketRequest(l, rec)))
		if len(sound) > 0 {
			libtest.Must[int](t)(s.Write(sound))
		}
		if err := s.Close(libtest.Bounded(t), how); err != nil {
			t.Fatal(err)
		}
		return rec
	}
	first := record(mp3Sound(20), EndedClean, RecordingRequest{})
	libtest.Must[Document](t)(l.StoreRecording(t.Context(), first.ID,
		StoreRequest{Account: "acme", ID: "vm/1.mp3"}))
	second := record(nil, EndedCut, RecordingRequest{})
	for range 2 {
		if err := l.DiscardRecording(t.Context(), second.ID); err != nil {
			t.Fatal(err)
		}
	}
	record(mp3Sound(9), EndedClean, RecordingRequest{StoreAs: "vm/2.mp3"})
	record([]byte("\xff\xf1 what an AAC encoder sends"), EndedClean, RecordingRequest{})
	events := events(t, local)
	want := []string{
		"recording.started", "recording.sealed", "media.created", "recording.stored",
		"recording.started", "recording.truncated", "recording.failed", "recording.discarded",
		"recording.started", "recording.sealed", "media.created", "recording.stored",
		"recording.started", "recording.sealed", "recording.failed",
	}
	if diff := cmp.Diff(want, kindsOf(events)); diff != "" {
		t.Fatal(diff)
	}
	if e := events[len(events)-1]; !strings.Contains(e.Detail, "AAC") {
		t.Errorf("failed: %+v", e)
	}
	if e := events[3]; e.RecordingID != first.ID || e.ID != "vm/1.mp3" || e.Node != "node-1" || e.Size == 0 {
		t.Errorf("stored: %+v", e)
	}
	if e := events[6]; e.RecordingID != second.ID || e.Detail == "" {
		t.Errorf("failed: %+v", e)
	}
	if !slices.IsSortedFunc(events, func(a, b feed.Event) int {
		if b.Position.After(a.Position) {
			return -1
		}
		return 1
	}) {
		t.Error("events are not in order")
	}
}
