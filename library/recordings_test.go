package library

import (
	"bytes"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon/blobstore"
	"carillon/library/libtest"
	"carillon/library/rows"
)

// record claims with a ticket, writes sound in small pieces and closes.
func record(t *testing.T, l *Library, r Recording, sound []byte, how Ending) *Session {
	t.Helper()
	s, err := l.Claim(t.Context(), ticketRequest(l, r))
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, sound)
	if err := s.Close(libtest.Bounded(t), how); err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, s *Session, sound []byte) {
	t.Helper()
	for piece := range slices.Chunk(sound, 333) {
		if n, err := s.Write(piece); err != nil || n != len(piece) {
			t.Fatalf("wrote %d of %d: %v", n, len(piece), err)
		}
	}
}

func ticket(t *testing.T, l *Library, r RecordingRequest) Recording {
	t.Helper()
	if r.Account == "" {
		r.Account = "acme"
	}
	rec, err := l.CreateRecording(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func recordingNow(t *testing.T, l *Library, id string) Recording {
	t.Helper()
	r, err := l.Recording(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRecordingLife goes the whole way: waiting, live, sealed, stored, gone.
func TestRecordingLife(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	sound := mp3Sound(200)
	r := ticket(t, l, RecordingRequest{Name: "greeting", Metadata: map[string]string{"call": "7"}})
	checkTicket(t, l, r)
	s := libtest.Must[*Session](t)(l.Claim(t.Context(), ticketRequest(l, r)))
	write(t, s, sound[:100*mp3FrameBytes])
	checkLive(t, l, r)
	write(t, s, sound[100*mp3FrameBytes:])
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
	_, err := s.Write([]byte("late"))
	libtest.WantErr(t, "write after close", err, ErrState)

	sealed := recordingNow(t, l, r.ID)
	libtest.Equal(t, "state", sealed.State, StateSealed)
	libtest.Equal(t, "size", sealed.Size, int64(len(sound)))
	libtest.Equal(t, "frames", sealed.Audio.Frames, 200)
	if sealed.Ended == nil {
		t.Error("time of its end is not set")
	}
	checkStored(t, l, local, sealed, sound)
	if left := libtest.Keys(t, local, activePrefix); len(left) != 0 {
		t.Errorf("active rows are left: %q", left)
	}
}

func checkTicket(t *testing.T, l *Library, r Recording) {
	t.Helper()
	libtest.Equal(t, "state", r.State, StateWaiting)
	libtest.Equal(t, "name", r.Name, "greeting.mp3")
	if len(r.Token) < 22 || r.Expires == nil { // 128 bits
		t.Errorf("ticket is %+v", r)
	}
	text := l.RecordURL(r)
	u := libtest.Must[*url.URL](t)(url.Parse(text))
	password, _ := u.User.Password()
	libtest.Equal(t, "scheme", u.Scheme, "shout")
	libtest.Equal(t, "user", u.User.Username(), r.ID)
	libtest.Equal(t, "password", password, r.Token)
	libtest.Equal(t, "host", u.Host, "127.0.0.1:8000")
	libtest.Equal(t, "path", u.Path, "/greeting.mp3")
	if strings.ContainsAny(text, "%? ") || strings.Count(text, "@") != 1 {
		t.Errorf("libshout would change %s", text)
	}
	now := recordingNow(t, l, r.ID)
	libtest.Equal(t, "token that is told later", now.Token, "")
	libtest.Equal(t, "metadata", now.Metadata["call"], "7")
	_, _, err := l.OpenRecording(t.Context(), r.ID, FromStart)
	libtest.WantErr(t, "open before the source", err, ErrState)
}

func checkLive(t *testing.T, l *Library, r Recording) {
	t.Helper()
	ctx := t.Context()
	live := recordingNow(t, l, r.ID)
	libtest.Equal(t, "state", live.State, StateLive)
	libtest.Equal(t, "size", live.Size, 100*mp3FrameBytes)
	libtest.Equal(t, "duration", live.DurationMS, 100*mp3FrameMS)
	libtest.Equal(t, "node", live.Node, "node-1")
	if live.Started == nil {
		t.Error("time of its start is not set")
	}
	m := libtest.Must[Mount](t)(l.Mount(ctx, "acme", "greeting.mp3"))
	if m.Recording == nil || m.Recording.ID != r.ID {
		t.Errorf("mount is %+v", m)
	}
	answer := libtest.Must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "greeting.mp3", Account: "acme"}))
	libtest.Equal(t, "recording of the lookup", answer.RecordingID, r.ID)
	libtest.Equal(t, "freeswitch", answer.FreeSWITCH, "shout://127.0.0.1:8000/acme/greeting.mp3")
	libtest.Equal(t, "stream_url", answer.StreamURL, "http://127.0.0.1:8080/media/acme/greeting.mp3")
	_, err := l.StoreRecording(ctx, r.ID, StoreRequest{Account: "acme", ID: "early"})
	libtest.WantErr(t, "store while live", err, ErrState)
}

func checkStored(t *testing.T, l *Library, local *blobstore.Local, r Recording, sound []byte) {
	t.Helper()
	ctx := t.Context()
	d := libtest.Must[Document](t)(l.StoreRecording(ctx, r.ID, StoreRequest{Account: "acme", ID: "vm/1.mp3"}))
	libtest.Equal(t, "sha256", d.SHA256, r.SHA256)
	libtest.Equal(t, "source", d.Source, sourceRecording)
	libtest.Equal(t, "metadata", d.Metadata["call"], "7")
	again := libtest.Must[Document](t)(l.StoreRecording(ctx, r.ID,
		StoreRequest{Account: "acme", ID: "vm/1.mp3"}))
	libtest.Equal(t, "revision when stored again", again.Revision, d.Revision)
	_, err := l.StoreRecording(ctx, r.ID, StoreRequest{Account: "acme", ID: "vm/2.mp3"})
	libtest.WantErr(t, "store elsewhere too", err, ErrState)
	libtest.WantErr(t, "discard what is stored", l.DiscardRecording(ctx, r.ID), ErrState)
	if !bytes.Equal(readItem(t, l, d), sound) {
		t.Error("bytes came back changed")
	}
	if got := refs(t, local); !slices.Equal(got, []string{refKeyOf(&d)}) {
		t.Errorf("references are %q, want the item's alone", got)
	}
	m := libtest.Must[Mount](t)(l.Mount(ctx, "acme", "greeting.mp3"))
	if m.Doc == nil || m.Doc.ID != "vm/1.mp3" {
		t.Errorf("media name of a stored recording is %+v", m)
	}
	libtest.WantErr(t, "delete", l.Delete(ctx, "acme", "vm/1.mp3", ""), nil)
	_, err = l.Mount(ctx, "acme", "greeting.mp3")
	libtest.WantErr(t, "mount after the item went", err, ErrNotFound)
	_, _, err = l.OpenRecording(ctx, r.ID, FromStart)
	libtest.WantErr(t, "open after the item went", err, ErrNotFound)
}

// TestTicketRefusals: each wrong way to use a ticket, and that it still works
// in the right way after all of them, once.
func TestTicketRefusals(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	ctx := t.Context()
	r := ticket(t, l, RecordingRequest{Name: "a/b.mp3"})
	other := ticket(t, l, RecordingRequest{Name: "c.mp3"})
	good := ticketRequest(l, r)
	for _, c := range []struct {
		name string
		edit func(*SourceRequest)
		want error
	}{
		{"wrong password", func(q *SourceRequest) { q.Password = "x" }, ErrUnauthorized},
		{"no password", func(q *SourceRequest) { q.Password = "" }, ErrUnauthorized},
		{"another's password", func(q *SourceRequest) { q.Password = other.Token }, ErrUnauthorized},
		{"unknown user", func(q *SourceRequest) { q.User = rows.NewID(time.Now()) }, ErrUnauthorized},
		{"no user", func(q *SourceRequest) { q.User = "" }, ErrUnauthorized},
		{"nothing", func(q *SourceRequest) { q.User, q.Password = "", "" }, ErrUnauthorized},
		{"10 kB user", func(q *SourceRequest) { q.User = strings.Repeat("u", 10<<10) }, ErrUnauthorized},
		{"other mount", func(q *SourceRequest) { q.Mount = "c.mp3" }, ErrNotFound},
		{"mount with a slash", func(q *SourceRequest) { q.Mount = "/a/b.mp3" }, ErrNotFound},
	} {
		q := good
		c.edit(&q)
		_, err := l.Claim(ctx, q)
		libtest.WantErr(t, c.name, err, c.want)
	}
	record(t, l, r, mp3Sound(20), EndedClean)
	_, err := l.Claim(ctx, good)
	libtest.WantErr(t, "second use", err, ErrTicketUsed)

	if err := l.DiscardRecording(ctx, other.ID); err != nil {
		t.Fatal(err)
	}
	_, err = l.Claim(ctx, ticketRequest(l, other))
	libtest.WantErr(t, "discarded ticket", err, ErrUnauthorized)
}

// TestBadRequests: what is no request for a ticket.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	for _, c := range []struct {
		r    RecordingRequest
		want error
	}{
		{RecordingRequest{}, ErrBadName},
		{RecordingRequest{Account: ".."}, ErrBadName},
		{RecordingRequest{Account: "a", Name: "../x"}, ErrBadName},
		{RecordingRequest{Account: "a", Name: "x y"}, ErrBadName},
		{RecordingRequest{Account: "a", StoreAs: "/x"}, ErrBadName},
		{RecordingRequest{Account: "a", TTLSeconds: -1}, ErrBadRequest},
		{RecordingRequest{Account: "a", TTLSeconds: 1 << 40}, ErrBadRequest},
		{RecordingRequest{Account: "a", Metadata: map[string]string{"": "x"}}, ErrBadRequest},
	} {
		_, err := l.CreateRecording(t.Context(), c.r)
		libtest.WantErr(t, "request", err, c.want)
	}
}

// TestOneTicketManySources: of many sources with one ticket exactly one wins.
func TestOneTicketManySources(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	// Two nodes over one catalog, so that not only the node's own table decides.
	nodes := []*Library{openLibrary(t, testConfig(), testDeps(local))}
	deps := testDeps(local)
	deps.NodeID = "node-2"
	nodes = append(nodes, openLibrary(t, testConfig(), deps))
	for range 10 {
		r := ticket(t, nodes[0], RecordingRequest{})
		var wg sync.WaitGroup
		sessions := make(chan *Session, 8)
		for i := range cap(sessions) {
			wg.Go(func() {
				s, err := nodes[i%2].Claim(t.Context(), ticketRequest(nodes[0], r))
				if err == nil {
					sessions <- s
				} else if !errors.Is(err, ErrTicketUsed) {
					t.Errorf("loser: %v", err)
				}
			})
		}
		wg.Wait()
		if len(sessions) != 1 {
			t.Fatalf("%d sources won", len(sessions))
		}
		if err := (<-sessions).Close(libtest.Bounded(t), EndedClean); err != nil {
			t.Error(err)
		}
	}
}

// TestConfiguredSource: the classic foo:bar records into an item named as its
// mount, and has the mount for itself while it is live.
func TestConfiguredSource(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	ctx := t.Context()
	q := SourceRequest{Mount: "fs_abc.mp3", User: "foo", Password: "bar"}
	q.ICY = map[string]string{"ice-name": "Title"}
	for _, bad := range []SourceRequest{
		{Mount: q.Mount, User: "foo", Password: "baz"},
		{Mount: q.Mount, User: "fo", Password: "bar"},
		{Mount: q.Mount, User: "bar", Password: "foo"},
	} {
		_, err := l.Claim(ctx, bad)
		libtest.WantErr(t, "credentials", err, ErrUnauthorized)
	}
	for _, mount := range []string{"", "../x", "a\x00", strings.Repeat("m", 10<<10), "\xff"} {
		_, err := l.Claim(ctx, SourceRequest{Mount: mount, User: "foo", Password: "bar"})
		libtest.WantErr(t, "mount", err, ErrBadName)
	}
	for round := range 2 {
		s, err := l.Claim(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.Claim(ctx, q)
		libtest.WantErr(t, "same mount", err, ErrMountInUse)
		sound := mp3Sound(50 + round)
		write(t, s, sound)
		if err := s.Close(libtest.Bounded(t), EndedClean); err != nil {
			t.Fatal(err)
		}
		r := recordingNow(t, l, s.Recording().ID)
		d := libtest.Must[Document](t)(l.Get(ctx, "acme", "fs_abc.mp3", Fresh))
		libtest.Equal(t, "state", r.State, StateStored)
		libtest.Equal(t, "item", r.Item, d.ID)
		libtest.Equal(t, "name", d.Name, "Title")
		libtest.Equal(t, "size", d.Size, int64(len(sound)))
		if got := refs(t, local); !slices.Equal(got, []string{refKeyOf(&d)}) {
			t.Errorf("references are %q", got)
		}
	}
	if left := append(libtest.Keys(t, local, livePrefix),
		libtest.Keys(t, local, activePrefix)...); len(left) != 0 {
		t.Errorf("rows are left: %q", left)
	}
	if recs, _, err := l.ListRecordings(ctx, "acme", "", 0); err != nil || len(recs) != 2 {
		t.Errorf("%d recordings of the account, %v", len(recs), err)
	}
}

// TestEndings: how a source leaves, and what it brought, decide on the state;
// what arrived is never lost, and an item is made of audio only.
func TestEndings(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	sound := mp3Sound(30)
	for _, c := range []struct {
		name  string
		sound []byte
		how   Ending
		want  State
		item  bool
	}{
		{"clean", sound, EndedClean, StateStored, true},
		{"cut", sound[:len(sound)-50], EndedCut, StateStored, true},
		{"nothing", nil, EndedClean, StateSealed, false},
		{"nothing, cut", nil, EndedCut, StateTruncated, false},
		{"garbage", bytes.Repeat([]byte("garbage"), 1000), EndedClean, StateSealed, false},
	} {
		r := ticket(t, l, RecordingRequest{StoreAs: "item/" + c.name})
		record(t, l, r, c.sound, c.how)
		got := recordingNow(t, l, r.ID)
		if got.State != c.want || got.Size != int64(len(c.sound)) {
			t.Errorf("%s: %+v", c.name, got)
		}
		d, err := l.Get(t.Context(), "acme", "item/"+c.name, Fresh)
		if c.item && (err != nil || d.Truncated != (c.how == EndedCut)) {
			t.Errorf("%s: item %+v, %v", c.name, d, err)
		}
		if !c.item {
			libtest.WantErr(t, c.name, err, ErrNotFound)
			_, err := l.StoreRecording(t.Context(), r.ID, StoreRequest{Account: "acme", ID: "y"})
			libtest.WantErr(t, c.name, err, ErrUnsupportedMedia)
		}
		reader, _, err := l.OpenRecording(t.Context(), r.ID, FromStart)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := readAll(t, reader); !bytes.Equal(got, c.sound) {
			t.Errorf("%s: %d bytes came back", c.name, len(got))
		}
	}
}

// TestRecordingLimits: a source beyond the limit is told so, and what fits is
// kept; sources beyond the number are refused.
func TestRecordingLimits(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.RecordingBytesMax, cfg.SourcesMax = 1000, 1
	l := openLibrary(t, cfg, testDeps(libtest.OpenStore(t, t.TempDir())))
	first, second := ticket(t, l, RecordingRequest{}), ticket(t, l, RecordingRequest{})
	s, err := l.Claim(t.Context(), ticketRequest(l, first))
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Claim(t.Context(), ticketRequest(l, second))
	libtest.WantErr(t, "second source", err, ErrLimit)
	n, err := s.Write(mp3Sound(10))
	libtest.WantErr(t, "write", err, ErrTooLarge)
	if n != 1000 {
		t.Errorf("%d bytes were taken", n)
	}
	if err := s.Close(libtest.Bounded(t), EndedCut); err != nil {
		t.Fatal(err)
	}
	if got := recordingNow(t, l, first.ID); got.Size != 1000 || got.State != StateTruncated {
		t.Errorf("recording is %+v", got)
	}
	record(t, l, second, mp3Sound(1), EndedClean) // the place is free again
}

// TestDiscardLive: the session hears of it, and nothing is left of the sound.
func TestDiscardLive(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	r := ticket(t, l, RecordingRequest{Name: "x.mp3", StoreAs: "x"})
	s, err := l.Claim(t.Context(), ticketRequest(l, r))
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, mp3Sound(20))
	for range 2 { // again it is success
		if err := l.DiscardRecording(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-s.Done():
	case <-libtest.Bounded(t).Done():
		t.Fatal("the session was not told")
	}
	_, err = s.Write([]byte("x"))
	libtest.WantErr(t, "write", err, ErrState)
	if err := s.Close(libtest.Bounded(t), EndedCut); err != nil {
		t.Fatal(err)
	}
	if got := recordingNow(t, l, r.ID); got.State != StateDiscarded {
		t.Errorf("recording is %+v", got)
	}
	_, err = l.Mount(t.Context(), "acme", "x.mp3")
	libtest.WantErr(t, "mount", err, ErrNotFound)
	_, err = l.Get(t.Context(), "acme", "x", Fresh)
	libtest.WantErr(t, "item", err, ErrNotFound)
	_, _, err = l.OpenRecording(t.Context(), r.ID, FromStart)
	libtest.WantErr(t, "open", err, ErrNotFound)
	if left := refs(t, local); len(left) != 0 {
		t.Errorf("references are left: %q", left)
	}
	l.pass(t.Context(), time.Now().Add(discardedKept))
	_, err = l.Recording(t.Context(), r.ID)
	libtest.WantErr(t, "read after it was forgotten", err, ErrNotFound)
}

// TestExpiry: a ticket whose time has passed cannot be used, is not shown, and
// is deleted.
func TestExpiry(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.TicketTTL = time.Millisecond
	local := libtest.OpenStore(t, t.TempDir())
	l := openLibrary(t, cfg, testDeps(local))
	r := ticket(t, l, RecordingRequest{})
	libtest.WaitFor(t, "ticket expires", func() bool { return time.Now().After(*r.Expires) })
	_, err := l.Claim(t.Context(), ticketRequest(l, r))
	libtest.WantErr(t, "claim", err, ErrUnauthorized)
	_, err = l.Recording(t.Context(), r.ID)
	libtest.WantErr(t, "read", err, ErrNotFound)
	if recs, _, err := l.ListRecordings(t.Context(), "", "", 0); err != nil || len(recs) != 0 {
		t.Errorf("listed %v, %v", recs, err)
	}
	l.pass(t.Context(), time.Now())
	if left := libtest.Keys(t, local, recordingPrefix); len(left) != 1 {
		t.Errorf("rows are %q", left)
	}
	l.pass(t.Context(), time.Now().Add(expiredKept))
	for _, prefix := range []string{recordingPrefix, ownerPrefix, activePrefix, namePrefix} {
		if left := libtest.Keys(t, local, prefix); len(left) != 0 {
			t.Errorf("rows are left: %q", left)
		}
	}
}

// Goal: a source that records to a name under which there is a recording puts
// it away, and does not destroy it: an encoder with a fixed login comes back
// after a break. What is no recording, and what was asked for, is replaced.
func TestRecordedOver(t *testing.T) {
	t.Parallel()
	cfg, local := testConfig(), libtest.OpenStore(t, t.TempDir())
	cfg.UndeleteWindow = time.Hour
	l := openLibrary(t, cfg, testDeps(local))
	q := SourceRequest{Mount: "show.mp3", User: "foo", Password: "bar"}
	put(t, l, "acme", q.Mount, mp3Sound(5), PutOptions{})
	sounds := [][]byte{mp3Sound(10), mp3Sound(20), mp3Sound(30)}
	for i, how := range []Ending{EndedCut, EndedCut, EndedClean} {
		s := libtest.Must[*Session](t)(l.Claim(t.Context(), q))
		write(t, s, sounds[i])
		libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), how), nil)
	}
	page := libtest.Must[Page](t)(l.List(t.Context(), "acme", ListQuery{Deleted: true, Limit: 10}))
	if len(page.Items) != 2 {
		t.Fatalf("%d recordings were put away: %+v", len(page.Items), page.Items)
	}
	for i, want := range []int64{20 * mp3FrameBytes, 10 * mp3FrameBytes} { // the latest first
		d := page.Items[i]
		if d.Size != want || !d.Truncated || d.Deletion.Reason != DeletedByRecording {
			t.Errorf("put away: %+v", d)
		}
	}
	back := libtest.Must[Document](t)(l.Undelete(t.Context(), UndeleteRequest{
		Account: "acme", ID: q.Mount, Deletion: page.Items[1].Deletion.ID, As: "first.mp3",
	}))
	libtest.Equal(t, "size of what came back", back.Size, 10*mp3FrameBytes)
	libtest.Equal(t, "references", len(refs(t, local)), 3)

	r := ticket(t, l, RecordingRequest{})
	record(t, l, r, sounds[0], EndedClean)
	libtest.Must[Document](t)(l.StoreRecording(t.Context(), r.ID, StoreRequest{Account: "acme", ID: q.Mount}))
	libtest.Equal(t, "references after a store by hand", len(refs(t, local)), 3)
}
