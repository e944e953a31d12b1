package feed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"carillon/blobstore"
	"carillon/library/fault"
	"carillon/library/libtest"
	"carillon/library/naming"
	"carillon/library/rows"
)

func newFeed(tb testing.TB, cfg Config) (*Feed, *blobstore.Local) {
	tb.Helper()
	local := libtest.OpenStore(tb, tb.TempDir())
	return New(cfg, rows.Store{Catalog: local}), local
}

// add commits n events of a kind, each in a commit of its own.
func add(tb testing.TB, catalog blobstore.Catalog, n int, kind Kind, e Event) {
	tb.Helper()
	for range n {
		libtest.Commit(tb, catalog, func(c *rows.Change) { Add(c, kind, e) })
	}
}

func addAll(ctx context.Context, catalog blobstore.Catalog, n int, id string) {
	for range n {
		var c rows.Change
		Add(&c, MediaCreated, Event{Account: "acme", ID: id})
		_, _ = catalog.Commit(ctx, c.Txn) // the reader misses what fails
	}
}

// all are the events that are kept.
func all(tb testing.TB, f *Feed) []Event {
	tb.Helper()
	var found []Event
	for q, more := (Query{Oldest: true}), true; more; {
		page, err := f.Read(tb.Context(), q, 0)
		if err != nil {
			tb.Fatal(err)
		}
		found = append(found, page.Events...)
		q, more = Query{After: page.Next}, page.More
	}
	return found
}

func sample() Event {
	return Event{
		Position: Position{4711, 3}, Kind: ExportFailed, Time: time.UnixMilli(1_700_000_002_000).UTC(),
		Account: "acme", ID: "vm/1.mp3", RecordingID: "01hf7yat3bzzzzzzzzzzzzzzzz", Revision: 4700,
		SHA256: blobstore.Digest{7}.String(), Size: 864, DurationMS: 432, Node: "node-1", Detail: "no route",
	}
}

// TestEventRow: values are what they were in the first release, and come back
// whole.
func TestEventRow(t *testing.T) {
	t.Parallel()
	e := sample()
	value, err := encode(&e)
	if err != nil {
		t.Fatal(err)
	}
	libtest.Golden(t, "event-1.row", value)
	back, err := decode(blobstore.Row{Key: blobstore.AppendedKey(Prefix, 4711, 3), Value: value})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, back); diff != "" {
		t.Errorf("event came back changed:\n%s", diff)
	}
}

// FuzzDecode: no value makes decoding panic, and what is decoded can be encoded.
func FuzzDecode(f *testing.F) {
	e := sample()
	value, err := encode(&e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add([]byte("\x02{}"))
	f.Fuzz(func(t *testing.T, value []byte) {
		e, err := decode(blobstore.Row{Key: blobstore.AppendedKey(Prefix, 1, 0), Value: value, Revision: 1})
		if err != nil {
			return
		}
		if _, err := encode(&e); err != nil && !errors.Is(err, blobstore.ErrTooLarge) {
			t.Fatal(err)
		}
	})
}

// TestEventBounds: the largest event there can be fits, and its detail is cut
// at a character.
func TestEventBounds(t *testing.T) {
	t.Parallel()
	f, local := newFeed(t, Config{})
	add(t, local, 1, ExportFailed, Event{
		Account: strings.Repeat("a", naming.AccountBytesMax), ID: strings.Repeat("\x01", naming.IDBytesMax),
		RecordingID: strings.Repeat("z", rows.IDBytes), Revision: 1 << 63, Size: 1 << 40, DurationMS: 1 << 50,
		SHA256: strings.Repeat("f", 64), Node: strings.Repeat("f", 16), Detail: strings.Repeat("<ü\xff", 1000),
	})
	e := all(t, f)[0]
	if len(e.Detail) < DetailBytesMax-3 || len(e.Detail) > DetailBytesMax {
		t.Errorf("detail of %d bytes", len(e.Detail))
	}
}

// TestEventPosition: positions come back from their text, in their order.
func TestEventPosition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := Position{rapid.Uint64Min(1).Draw(t, "revision"), rapid.IntRange(0, 255).Draw(t, "number")}
		if back, err := ParsePosition(p.String()); err != nil || back != p {
			t.Fatalf("%v came back as %v, %v", p, back, err)
		}
	})
	p, err := ParsePosition("7")
	if err != nil || !p.After(Position{7, 255}) || p.After(Position{8, 0}) {
		t.Errorf("7 is %v, %v", p, err)
	}
	for _, bad := range []string{
		"", ".", "1.", ".1", "-1", "1.-1", "1.257", "x", "1.1.1", "99999999999999999999",
	} {
		if p, err = ParsePosition(bad); !errors.Is(err, fault.ErrBadRequest) {
			t.Errorf("%q is %v, %v", bad, p, err)
		}
	}
}

// TestEventsInPages: pages follow one another without a gap or a repetition,
// with filters, and also when events come in between.
func TestEventsInPages(t *testing.T) {
	t.Parallel()
	f, local := newFeed(t, Config{})
	for i := range 30 {
		add(t, local, 1, MediaCreated, Event{Account: "acme", ID: strconv.Itoa(i)})
		add(t, local, 1, MediaDeleted, Event{Account: "other", ID: strconv.Itoa(i)})
	}
	q := Query{Account: "acme", Kinds: []string{"media"}}
	var got, want []string
	for more := true; more; {
		page, err := f.Read(t.Context(), q, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			got = append(got, e.ID)
		}
		q.After, more = page.Next, page.More
		if len(got) == 14 {
			add(t, local, 1, MediaCreated, Event{Account: "acme", ID: "30"})
		}
	}
	for i := range 31 {
		want = append(want, strconv.Itoa(i))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	q.Kinds = []string{"media.replaced", "export"}
	q.After = Position{}
	if page, err := f.Read(t.Context(), q, 0); err != nil || len(page.Events) != 0 || page.More ||
		page.Next != f.Now() {
		t.Errorf("page %+v, %v", page, err)
	}
	for _, bad := range []Query{
		{Kinds: []string{"medi"}}, {Kinds: []string{""}}, {Kinds: make([]string, 99)},
	} {
		_, err := f.Read(t.Context(), bad, 0)
		libtest.WantErr(t, fmt.Sprint(bad.Kinds), err, fault.ErrBadRequest)
	}
	_, err := f.Read(t.Context(), Query{Account: "a/b"}, 0)
	libtest.WantErr(t, "account", err, fault.ErrBadName)
	_, err = f.Read(t.Context(), Query{After: Position{1 << 40, 0}}, 0)
	libtest.WantErr(t, "a position of another cluster", err, fault.ErrTrimmed)
}

// TestEventsFollowed: who watches before it reads sees every event once, from
// many writers.
func TestEventsFollowed(t *testing.T) {
	t.Parallel()
	f, local := newFeed(t, Config{})
	const writers, each = 4, 50
	for w := range writers {
		go addAll(t.Context(), local, each, strconv.Itoa(w))
	}
	seen := map[string]int{}
	var after Position
	ctx := libtest.Bounded(t)
	for total := 0; total < writers*each; {
		changed, cancel := f.Watch()
		page, err := f.Read(ctx, Query{After: after}, 0)
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

// TestTrimEvents: what is too old or too much goes, oldest first, and who asks
// for it is told where to go on.
func TestTrimEvents(t *testing.T) {
	t.Parallel()
	f, local := newFeed(t, Config{Max: 300, Kept: time.Hour})
	now := time.Now()
	add(t, local, 3, MediaCreated, Event{Account: "acme", Time: now.Add(-2 * time.Hour)})
	add(t, local, 600, MediaCreated, Event{Account: "acme", Time: now})
	if err := f.Trim(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	events := all(t, f)
	libtest.Equal(t, "events kept", len(events), 300)
	_, err := f.Read(t.Context(), Query{}, 0)
	libtest.WantErr(t, "everything", err, fault.ErrTrimmed)
	trimmed, err := f.Trimmed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	page, err := f.Read(t.Context(), Query{After: trimmed}, 0)
	if err != nil || len(page.Events) != 300 {
		t.Errorf("%d events after %v: %v", len(page.Events), trimmed, err)
	}
	if page, err = f.Read(t.Context(), Query{Oldest: true}, 0); err != nil || len(page.Events) != 300 {
		t.Errorf("%d events from the oldest: %v", len(page.Events), err)
	}
	if err := f.Trim(t.Context(), now.Add(time.Hour+time.Second)); err != nil {
		t.Fatal(err)
	}
	libtest.Equal(t, "events kept an hour later", len(all(t, f)), 0)
	s, err := f.Status(t.Context())
	if err != nil || s.Events != 0 || s.Trimmed != events[299].Position {
		t.Errorf("%+v, %v", s, err)
	}
	if tally, err := local.Tally(t.Context(), Prefix); err != nil || tally != (blobstore.Tally{}) {
		t.Errorf("%+v, %v", tally, err)
	}
}
