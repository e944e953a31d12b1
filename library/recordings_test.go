package library

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon/audio"
	"carillon/blobstore"
)

// record claims with a ticket, writes sound in small pieces and closes.
func record(t *testing.T, l *Library, r Recording, sound []byte, how Ending) *Session {
	t.Helper()
	s, err := l.Claim(t.Context(), ticketRequest(l, r))
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, sound)
	if err := s.Close(bounded(t), how); err != nil {
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

// TestRecordingLife goes the whole way: waiting, live, sealed, stored.
func TestRecordingLife(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	ctx := t.Context()
	r := ticket(t, l, RecordingRequest{Name: "greeting", Metadata: map[string]string{"call": "7"}})
	if r.State != StateWaiting || r.Name != "greeting.mp3" || len(r.Token) < 22 || r.Expires == nil {
		t.Errorf("ticket is %+v", r)
	}
	u, err := url.Parse(l.RecordURL(r))
	if err != nil {
		t.Fatal(err)
	}
	if password, _ := u.User.Password(); u.Scheme != "shout" || u.User.Username() != r.ID || password != r.Token ||
		u.Host != "127.0.0.1:8000" || u.Path != "/greeting.mp3" || strings.ContainsAny(l.RecordURL(r), "%? ") {
		t.Errorf("record url is %s", l.RecordURL(r))
	}
	if now := recordingNow(t, l, r.ID); now.Token != "" || now.Metadata["call"] != "7" {
		t.Errorf("recording is %+v", now)
	}

	s, err := l.Claim(ctx, ticketRequest(l, r))
	if err != nil {
		t.Fatal(err)
	}
	sound := mp3Sound(200)
	write(t, s, sound[:100*mp3FrameBytes])
	live := recordingNow(t, l, r.ID)
	if live.State != StateLive || live.Size != 100*mp3FrameBytes || live.DurationMS != 100*mp3FrameMS ||
		live.Node != "node-1" || live.Started == nil {
		t.Errorf("live recording is %+v", live)
	}
	if m, err := l.Mount(ctx, "acme", "greeting.mp3"); err != nil || m.Recording == nil || m.Recording.ID != r.ID {
		t.Errorf("mount is %+v, %v", m, err)
	}
	answer, err := l.Lookup(ctx, LookupRequest{Name: "greeting.mp3", Account: "acme"})
	if err != nil || answer.RecordingID != r.ID || answer.FreeSWITCH != "shout://127.0.0.1:8000/acme/greeting.mp3" ||
		answer.StreamURL != "http://127.0.0.1:8080/media/acme/greeting.mp3" {
		t.Errorf("lookup of a live recording: %+v, %v", answer, err)
	}
	_, err = l.StoreRecording(ctx, r.ID, "acme", "early")
	wantErr(t, "store while live", err, ErrState)

	write(t, s, sound[100*mp3FrameBytes:])
	if err := s.Close(bounded(t), EndedClean); err != nil {
		t.Fatal(err)
	}
	_, err = s.Write([]byte("late"))
	wantErr(t, "write after close", err, ErrState)
	sealed := recordingNow(t, l, r.ID)
	if sealed.State != StateSealed || sealed.Size != int64(len(sound)) || sealed.DurationMS != 200*mp3FrameMS ||
		sealed.Ended == nil || sealed.Audio.Frames != 200 {
		t.Errorf("sealed recording is %+v", sealed)
	}

	d, err := l.StoreRecording(ctx, r.ID, "acme", "vm/1.mp3")
	if err != nil || d.SHA256 != sealed.SHA256 || d.Source != sourceRecording || d.Metadata["call"] != "7" {
		t.Fatalf("item is %+v, %v", d, err)
	}
	if again, err := l.StoreRecording(ctx, r.ID, "acme", "vm/1.mp3"); err != nil || again.Revision != d.Revision {
		t.Errorf("stored again: %+v, %v", again, err)
	}
	_, err = l.StoreRecording(ctx, r.ID, "acme", "vm/2.mp3")
	wantErr(t, "store elsewhere too", err, ErrState)
	wantErr(t, "discard what is stored", l.DiscardRecording(ctx, r.ID), ErrState)
	if !bytes.Equal(readItem(t, l, d), sound) {
		t.Error("bytes came back changed")
	}
	if got := refs(t, local); !slices.Equal(got, []string{refKeyOf(&d)}) {
		t.Errorf("references are %q, want the item's alone", got)
	}
	if m, err := l.Mount(ctx, "acme", "greeting.mp3"); err != nil || m.Doc == nil || m.Doc.ID != "vm/1.mp3" {
		t.Errorf("media name of a stored recording: %+v, %v", m, err)
	}
	if err := l.Delete(ctx, "acme", "vm/1.mp3", ""); err != nil {
		t.Fatal(err)
	}
	_, err = l.Mount(ctx, "acme", "greeting.mp3")
	wantErr(t, "mount after the item went", err, ErrNotFound)
	_, _, err = l.OpenRecording(ctx, r.ID, FromStart)
	wantErr(t, "open after the item went", err, ErrNotFound)
	if left := keys(t, local, activePrefix); len(left) != 0 {
		t.Errorf("active rows are left: %q", left)
	}
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
		{"unknown user", func(q *SourceRequest) { q.User = newRecordingID(time.Now()) }, ErrUnauthorized},
		{"no user", func(q *SourceRequest) { q.User = "" }, ErrUnauthorized},
		{"nothing", func(q *SourceRequest) { q.User, q.Password = "", "" }, ErrUnauthorized},
		{"10 kB user", func(q *SourceRequest) { q.User = strings.Repeat("u", 10<<10) }, ErrUnauthorized},
		{"other mount", func(q *SourceRequest) { q.Mount = "c.mp3" }, ErrNotFound},
		{"mount with a slash", func(q *SourceRequest) { q.Mount = "/a/b.mp3" }, ErrNotFound},
	} {
		q := good
		c.edit(&q)
		_, err := l.Claim(ctx, q)
		wantErr(t, c.name, err, c.want)
	}
	record(t, l, r, mp3Sound(20), EndedClean)
	_, err := l.Claim(ctx, good)
	wantErr(t, "second use", err, ErrTicketUsed)

	if err := l.DiscardRecording(ctx, other.ID); err != nil {
		t.Fatal(err)
	}
	_, err = l.Claim(ctx, ticketRequest(l, other))
	wantErr(t, "discarded ticket", err, ErrUnauthorized)
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
		wantErr(t, "request", err, c.want)
	}
}

// TestOneTicketManySources: of many sources with one ticket exactly one wins.
func TestOneTicketManySources(t *testing.T) {
	t.Parallel()
	local := openLocal(t, t.TempDir())
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
		if err := (<-sessions).Close(bounded(t), EndedClean); err != nil {
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
	q := SourceRequest{Mount: "fs_abc.mp3", User: "foo", Password: "bar", ICY: map[string]string{"ice-name": "Title"}}
	for _, bad := range []SourceRequest{
		{Mount: q.Mount, User: "foo", Password: "baz"},
		{Mount: q.Mount, User: "fo", Password: "bar"},
		{Mount: q.Mount, User: "bar", Password: "foo"},
	} {
		_, err := l.Claim(ctx, bad)
		wantErr(t, "credentials", err, ErrUnauthorized)
	}
	for _, mount := range []string{"", "../x", "a\x00", strings.Repeat("m", 10<<10), "\xff"} {
		_, err := l.Claim(ctx, SourceRequest{Mount: mount, User: "foo", Password: "bar"})
		wantErr(t, "mount", err, ErrBadName)
	}
	for round := range 2 {
		s, err := l.Claim(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.Claim(ctx, q)
		wantErr(t, "same mount", err, ErrMountInUse)
		sound := mp3Sound(50 + round)
		write(t, s, sound)
		if err := s.Close(bounded(t), EndedClean); err != nil {
			t.Fatal(err)
		}
		r := recordingNow(t, l, s.Recording().ID)
		d, err := l.Get(ctx, "acme", "fs_abc.mp3", Fresh)
		if err != nil || r.State != StateStored || r.Item != d.ID || d.Name != "Title" || d.Size != int64(len(sound)) {
			t.Errorf("recording %+v, item %+v, %v", r, d, err)
		}
		if got := refs(t, local); !slices.Equal(got, []string{refKeyOf(&d)}) {
			t.Errorf("references are %q", got)
		}
	}
	if left := append(keys(t, local, livePrefix), keys(t, local, activePrefix)...); len(left) != 0 {
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
			wantErr(t, c.name, err, ErrNotFound)
			_, err := l.StoreRecording(t.Context(), r.ID, "acme", "y")
			wantErr(t, c.name, err, ErrUnsupportedMedia)
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
	l := openLibrary(t, cfg, testDeps(openLocal(t, t.TempDir())))
	first, second := ticket(t, l, RecordingRequest{}), ticket(t, l, RecordingRequest{})
	s, err := l.Claim(t.Context(), ticketRequest(l, first))
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Claim(t.Context(), ticketRequest(l, second))
	wantErr(t, "second source", err, ErrLimit)
	n, err := s.Write(mp3Sound(10))
	wantErr(t, "write", err, ErrTooLarge)
	if n != 1000 {
		t.Errorf("%d bytes were taken", n)
	}
	if err := s.Close(bounded(t), EndedCut); err != nil {
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
	case <-bounded(t).Done():
		t.Fatal("the session was not told")
	}
	_, err = s.Write([]byte("x"))
	wantErr(t, "write", err, ErrState)
	if err := s.Close(bounded(t), EndedCut); err != nil {
		t.Fatal(err)
	}
	if got := recordingNow(t, l, r.ID); got.State != StateDiscarded {
		t.Errorf("recording is %+v", got)
	}
	_, err = l.Mount(t.Context(), "acme", "x.mp3")
	wantErr(t, "mount", err, ErrNotFound)
	_, err = l.Get(t.Context(), "acme", "x", Fresh)
	wantErr(t, "item", err, ErrNotFound)
	_, _, err = l.OpenRecording(t.Context(), r.ID, FromStart)
	wantErr(t, "open", err, ErrNotFound)
	if left := refs(t, local); len(left) != 0 {
		t.Errorf("references are left: %q", left)
	}
	l.pass(t.Context(), time.Now().Add(discardedKept))
	_, err = l.Recording(t.Context(), r.ID)
	wantErr(t, "read after it was forgotten", err, ErrNotFound)
}

// TestRecovery: a node that dies while it records finds what was durable when
// it starts again, marks it truncated and stores what was to be stored.
func TestRecovery(t *testing.T) {
	t.Parallel()
	local := openLocal(t, t.TempDir())
	sound := mp3Sound(100)
	plain, auto, empty := crash(t, local, sound)

	l := openLibrary(t, testConfig(), testDeps(local))
	waitFor(t, "recordings are recovered", func() bool {
		return recordingNow(t, l, plain.ID).State == StateTruncated &&
			recordingNow(t, l, auto.ID).State == StateStored && recordingNow(t, l, empty.ID).State == StateTruncated
	})
	r, rec, err := l.OpenRecording(t.Context(), plain.ID, FromStart)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, r); !bytes.Equal(got, sound) || rec.Size != int64(len(sound)) || rec.Audio.Frames != 100 {
		t.Errorf("%d bytes came back, recording %+v", len(got), rec)
	}
	d, err := l.Get(t.Context(), "acme", "stored.mp3", Fresh)
	if err != nil || !d.Truncated || !bytes.Equal(readItem(t, l, d), sound) {
		t.Errorf("item is %+v, %v", d, err)
	}
	if got := recordingNow(t, l, empty.ID); got.Size != 0 {
		t.Errorf("empty recording is %+v", got)
	}
	// A Get may see a row of a commit a moment before a Scan sees all of it.
	waitFor(t, "active rows are gone", func() bool { return len(keys(t, local, activePrefix)) == 0 })
}

// crash makes three live recordings whose bytes are durable and whose library
// ends without settling them.
func crash(t *testing.T, local *blobstore.Local, sound []byte) (plain, auto, empty Recording) {
	t.Helper()
	l, err := Open(t.Context(), testConfig(), testDeps(local))
	if err != nil {
		t.Fatal(err)
	}
	plain = ticket(t, l, RecordingRequest{})
	auto = ticket(t, l, RecordingRequest{StoreAs: "stored.mp3"})
	empty = ticket(t, l, RecordingRequest{StoreAs: "never.mp3"})
	for _, r := range []Recording{plain, auto, empty} {
		s, err := l.Claim(t.Context(), ticketRequest(l, r))
		if err != nil {
			t.Fatal(err)
		}
		if r.ID == empty.ID {
			continue
		}
		write(t, s, sound)
		waitFor(t, "bytes are durable", func() bool {
			info, err := local.Stat(t.Context(), s.blob)
			return err == nil && info.Size == int64(len(sound))
		})
	}
	l.stop() // as if the process were killed: no session is ended, nothing is sealed
	l.running.Wait()
	if err := l.flusher.Close(); err != nil {
		t.Error(err)
	}
	return plain, auto, empty
}

// TestGone: what a node that is away for long was recording is sealed by
// another, and the mount of a configured source is free again.
func TestGone(t *testing.T) {
	t.Parallel()
	local := openLocal(t, t.TempDir())
	sound := mp3Sound(100)
	plain, _, _ := crash(t, local, sound)
	deps := testDeps(local)
	deps.NodeID = "node-2"
	present := openLibrary(t, testConfig(), deps)
	present.pass(t.Context(), time.Now())
	if got := recordingNow(t, present, plain.ID); got.State != StateLive {
		t.Errorf("recording of a node that may be alive is %s", got.State)
	}
	deps.NodeID, deps.Metrics = "node-3", nil
	deps.Gone = func(node string) bool { return node == "node-1" }
	l := openLibrary(t, testConfig(), deps)
	waitFor(t, "recording is recovered", func() bool {
		return recordingNow(t, l, plain.ID).State == StateTruncated
	})
}

// TestExpiry: a ticket whose time has passed cannot be used, is not shown, and
// is deleted.
func TestExpiry(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.TicketTTL = time.Millisecond
	local := openLocal(t, t.TempDir())
	l := openLibrary(t, cfg, testDeps(local))
	r := ticket(t, l, RecordingRequest{})
	waitFor(t, "ticket expires", func() bool { return time.Now().After(*r.Expires) })
	_, err := l.Claim(t.Context(), ticketRequest(l, r))
	wantErr(t, "claim", err, ErrUnauthorized)
	_, err = l.Recording(t.Context(), r.ID)
	wantErr(t, "read", err, ErrNotFound)
	if recs, _, err := l.ListRecordings(t.Context(), "", "", 0); err != nil || len(recs) != 0 {
		t.Errorf("listed %v, %v", recs, err)
	}
	l.pass(t.Context(), time.Now())
	if left := keys(t, local, recordingPrefix); len(left) != 1 {
		t.Errorf("rows are %q", left)
	}
	l.pass(t.Context(), time.Now().Add(expiredKept))
	for _, prefix := range []string{recordingPrefix, ownerPrefix, activePrefix, namePrefix} {
		if left := keys(t, local, prefix); len(left) != 0 {
			t.Errorf("rows are left: %q", left)
		}
	}
}

// TestCloseSeals: what is live when the library closes is sealed as cut short.
func TestCloseSeals(t *testing.T) {
	t.Parallel()
	local := openLocal(t, t.TempDir())
	l, err := Open(t.Context(), testConfig(), testDeps(local))
	if err != nil {
		t.Fatal(err)
	}
	r := ticket(t, l, RecordingRequest{})
	s, err := l.Claim(t.Context(), ticketRequest(l, r))
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, mp3Sound(10))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = l.Claim(t.Context(), SourceRequest{Mount: "x", User: "foo", Password: "bar"})
	wantErr(t, "claim after close", err, ErrUnavailable)
	again := openLibrary(t, testConfig(), testDeps(local))
	if got := recordingNow(t, again, r.ID); got.State != StateTruncated || got.Size != 10*mp3FrameBytes {
		t.Errorf("recording is %+v", got)
	}
}

// TestFollow: a listener of a live recording hears all of it to its end.
func TestFollow(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	r := ticket(t, l, RecordingRequest{})
	s, err := l.Claim(t.Context(), ticketRequest(l, r))
	if err != nil {
		t.Fatal(err)
	}
	sound := mp3Sound(100)
	reader, _, err := l.OpenRecording(bounded(t), r.ID, FromStart) // before the first byte
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan []byte)
	go func() {
		b, err := io.ReadAll(reader)
		if err != nil {
			t.Error(err)
		}
		heard <- b
	}()
	write(t, s, sound)
	if err := s.Close(bounded(t), EndedClean); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; !bytes.Equal(got, sound) {
		t.Errorf("heard %d bytes of %d", len(got), len(sound))
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
}

// TestFollowFromNow: a listener who joins late begins the lead before the live
// edge, at a frame.
func TestFollowFromNow(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	r := ticket(t, l, RecordingRequest{})
	s, err := l.Claim(t.Context(), ticketRequest(l, r))
	if err != nil {
		t.Fatal(err)
	}
	sound := mp3Sound(200)
	write(t, s, sound)
	waitFor(t, "bytes are durable", func() bool {
		info, err := local.Stat(t.Context(), s.blob)
		return err == nil && info.Size == int64(len(sound))
	})
	reader, _, err := l.OpenRecording(bounded(t), r.ID, FromNow)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(bounded(t), EndedClean); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, reader)
	lead := int(leadTime/(mp3FrameMS*time.Millisecond)) * mp3FrameBytes
	if !bytes.HasSuffix(sound, got) || len(got)%mp3FrameBytes != 0 ||
		len(got) < lead || len(got) > lead+2*audio.FrameBytesMax {
		t.Errorf("heard the last %d bytes, the lead is %d", len(got), lead)
	}
	_, _, err = l.OpenRecording(t.Context(), r.ID, From("middle"))
	wantErr(t, "other beginnings", err, ErrBadRequest)
}
