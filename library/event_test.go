package library

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"carillon/blobstore"
	"carillon/library/naming"
	"carillon/library/rows"
)

// eventRows are all events in the catalog, in order.
func eventRows(tb testing.TB, catalog blobstore.Catalog) []Event {
	tb.Helper()
	var found []Event
	for row, err := range catalog.Scan(tb.Context(), eventPrefix, "") {
		if err != nil {
			tb.Fatal(err)
		}
		e, err := decodeEvent(row)
		if err != nil {
			tb.Fatal(err)
		}
		found = append(found, e)
	}
	return found
}

func kindsOf(events []Event) []string {
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
	changed := must[Document](t)(l.Update(t.Context(), "acme", "a.mp3", Patch{Name: &name}))
	if err := l.Delete(t.Context(), "acme", "a.mp3", ""); err != nil {
		t.Fatal(err)
	}
	events := eventRows(t, local)
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
		if i < 3 && e.Position != (EventPosition{d.Revision, 0}) {
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
		rec := must[Recording](t)(l.CreateRecording(t.Context(), r))
		s := must[*Session](t)(l.Claim(t.Context(), ticketRequest(l, rec)))
		if len(sound) > 0 {
			must[int](t)(s.Write(sound))
		}
		if err := s.Close(bounded(t), how); err != nil {
			t.Fatal(err)
		}
		return rec
	}
	first := record(mp3Sound(20), EndedClean, RecordingRequest{})
	must[Document](t)(l.StoreRecording(t.Context(), first.ID, StoreRequest{Account: "acme", ID: "vm/1.mp3"}))
	second := record(nil, EndedCut, RecordingRequest{})
	for range 2 {
		if err := l.DiscardRecording(t.Context(), second.ID); err != nil {
			t.Fatal(err)
		}
	}
	record(mp3Sound(9), EndedClean, RecordingRequest{StoreAs: "vm/2.mp3"})
	events := eventRows(t, local)
	want := []string{
		"recording.started", "recording.sealed", "media.created", "recording.stored",
		"recording.started", "recording.truncated", "recording.failed", "recording.discarded",
		"recording.started", "recording.sealed", "media.created", "recording.stored",
	}
	if diff := cmp.Diff(want, kindsOf(events)); diff != "" {
		t.Fatal(diff)
	}
	if e := events[3]; e.RecordingID != first.ID || e.ID != "vm/1.mp3" || e.Node != "node-1" || e.Size == 0 {
		t.Errorf("stored: %+v", e)
	}
	if e := events[6]; e.RecordingID != second.ID || e.Detail == "" {
		t.Errorf("failed: %+v", e)
	}
	if !slices.IsSortedFunc(events, func(a, b Event) int {
		if b.Position.After(a.Position) {
			return -1
		}
		return 1
	}) {
		t.Error("events are not in order")
	}
}

// TestEventBounds: the largest event there can be fits, and its detail is cut
// at a character.
func TestEventBounds(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	c := l.newChange()
	c.event(EventExportFailed, Event{
		Account: strings.Repeat("a", naming.AccountBytesMax), ID: strings.Repeat("\x01", naming.IDBytesMax),
		RecordingID: strings.Repeat("z", rows.IDBytes), Revision: 1 << 63, Size: 1 << 40, DurationMS: 1 << 50,
		SHA256: strings.Repeat("f", 64), Node: strings.Repeat("f", 16), Detail: strings.Repeat("<ü\xff", 1000),
	})
	txn, err := c.Done()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := local.Commit(context.Background(), txn); err != nil {
		t.Fatal(err)
	}
	e := eventRows(t, local)[0]
	if len(e.Detail) < eventDetailBytesMax-3 || len(e.Detail) > eventDetailBytesMax {
		t.Errorf("detail of %d bytes", len(e.Detail))
	}
}

// TestEventPosition: positions come back from their text, in their order.
func TestEventPosition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := EventPosition{rapid.Uint64Min(1).Draw(t, "revision"), rapid.IntRange(0, 255).Draw(t, "number")}
		if back, err := ParseEventPosition(p.String()); err != nil || back != p {
			t.Fatalf("%v came back as %v, %v", p, back, err)
		}
	})
	p, err := ParseEventPosition("7")
	if err != nil || !p.After(EventPosition{7, 255}) || p.After(EventPosition{8, 0}) {
		t.Errorf("7 is %v, %v", p, err)
	}
	for _, bad := range []string{
		"", ".", "1.", ".1", "-1", "1.-1", "1.257", "x", "1.1.1", "99999999999999999999",
	} {
		if p, err = ParseEventPosition(bad); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%q is %v, %v", bad, p, err)
		}
	}
}
